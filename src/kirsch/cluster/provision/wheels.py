"""kirsch as wheels for a machine's Python, which is not ours: its own, and those of the libraries it needs.

Both are kept in the cache folder, by what they were made from.
"""

import base64
import email
import hashlib
import os
import re
import shutil
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import Distribution, distribution
from pathlib import Path

from kirsch.cluster.provision.command import Command, Runner
from kirsch.cluster.provision.record import ProvisionError, cache_folder

EXTRA = "machines"
# Seconds for which a wheel of kirsch is kept after it was made: others may be about to use it.
OLD = 7 * 86400.0
BUILT_FROM = ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE")
# The distributions that a machine gets; an image may name others in its requirements.txt.
MACHINE = ("kirsch", "kirsch-websocket")


@dataclass(frozen=True, slots=True)
class Target:
    """Whose wheels: a CPython (3.13), a machine's architecture as uname has it, and its glibc (2.41)."""

    python: str
    architecture: str
    glibc: tuple[int, int]

    @property
    def platforms(self) -> list[str]:
        """The platform tags it can use, the best first (PEP 600)."""
        newest = self.glibc[1]
        return [f"manylinux_2_{minor}_{self.architecture}" for minor in range(newest, 16, -1)] + [
            f"manylinux2014_{self.architecture}",
            f"linux_{self.architecture}",
        ]


def requirements(metadata: Iterable[str], extra: str) -> list[str]:
    """Which requirements an extra stands for, from the Requires-Dist of a package that names itself in it."""
    lines = list(metadata)
    seen: set[str] = set()
    todo = [extra]
    found: set[str] = {_bare(line) for line in lines if "extra ==" not in line}
    while todo:
        seen.add(name := todo.pop())
        for line in lines:
            if not re.search(rf"""extra == ['"]{re.escape(name)}['"]""", line):
                continue
            own = re.match(r"kirsch(?:-\w+)?\[([^\]]+)\]", line)
            if own:
                todo += [each.strip() for each in own[1].split(",") if each.strip() not in seen]
            else:
                found.add(_bare(line))
    return sorted(line for line in found if not re.match(r"kirsch\b", line))


def download(requirements: Iterable[str], target: Target, folder: Path) -> Command:
    """pip's command that downloads wheels for another Python, and pip itself to install them with.

    Requirements are as on pip's command line: options (-r FILE) may be among them."""
    platforms = [word for platform in target.platforms for word in ("--platform", platform)]
    return Command(
        (
            sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check",
            "--only-binary", ":all:", "--python-version", target.python, "--implementation", "cp",
            *platforms, "--dest", str(folder), "pip", *requirements,
        ),
        timeout=300,
    )  # fmt: skip


class Wheels:
    """Makes wheels, or finds them in the cache. Every method raises ProvisionError."""

    def __init__(self, runner: Runner, cache: Path | None = None) -> None:
        self.runner = runner
        self.cache = cache or cache_folder()

    def own(self, names: Iterable[str] = MACHINE) -> list[Path]:
        """Return kirsch's own wheels, one for each distribution named, of what runs now."""
        return [self._own(name) for name in names]

    def _own(self, name: str) -> Path:
        made = distribution(name)
        tree = source_tree(name)
        files = _tree_files(tree) if tree else _installed_files(made)
        folder = self.cache / name / _digest(files)
        _forget_old(folder.parent)
        with made_once(folder) as new:
            if new and tree:
                self._build(tree, new)
            elif new:
                repack(made, files, new)
        return next(folder.glob("*.whl"))

    def libraries(self, own: Iterable[Path], target: Target) -> list[Path]:
        """The wheels that kirsch needs on such a machine, and pip's."""
        needed = requirements([line for wheel in own for line in _requires(wheel)], EXTRA)
        key = hashlib.sha256(repr((needed, target)).encode()).hexdigest()[:16]
        folder = self.cache / "wheels" / key
        with made_once(folder) as new:
            if new:
                self.runner.run(download(needed, target, new))
        return sorted(folder.glob("*.whl"))

    def _build(self, tree: Path, folder: Path) -> None:
        # A copy: setuptools keeps a build folder in the tree, with modules in it that are no more.
        with tempfile.TemporaryDirectory() as temporary:
            copy = Path(temporary) / "kirsch"
            copy.mkdir()
            for path, _ in _tree_files(tree):
                to = copy / path
                to.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(tree / path, to)
            self.runner.run(
                Command(
                    (
                        sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check",
                        "--no-deps", *(["--no-build-isolation"] if _has_setuptools() else []),
                        "--wheel-dir", str(folder), str(copy),
                    ),
                    timeout=300,
                    environment={"KIRSCH_PURE": "1"},
                )
            )  # fmt: skip


def source_tree(name: str = "kirsch") -> Path | None:
    """The tree that a distribution of kirsch runs from, if a wheel can be built from it."""
    root = Path(__file__).resolve().parents[4]
    if name != "kirsch":
        root /= f"packages/{name}"
    return root if (root / "pyproject.toml").is_file() and (root / "src/kirsch").is_dir() else None


def repack(made: Distribution, files: Iterable[tuple[str, bytes]], folder: Path) -> Path:
    """A wheel of an installed package (PEP 427), without what is compiled for this Python."""
    name = f"{made.metadata['Name'].replace('-', '_')}-{made.version}"
    path = folder / f"{name}-py3-none-any.whl"
    records = []
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        tags = b"Wheel-Version: 1.0\nGenerator: kirsch\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        for member, content in [*files, (f"{name}.dist-info/WHEEL", tags)]:
            wheel.writestr(member, content)
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            records.append(f"{member},sha256={digest},{len(content)}\n")
        records.append(f"{name}.dist-info/RECORD,,\n")
        wheel.writestr(f"{name}.dist-info/RECORD", "".join(records))
    return path


def _tree_files(tree: Path) -> list[tuple[str, bytes]]:
    """What a wheel is built from, by path; nothing compiled."""
    sources = sorted(
        path
        for path in (tree / "src/kirsch").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix not in (".so", ".c", ".pyc")
    )
    named = [tree / name for name in BUILT_FROM if (tree / name).is_file()]
    return [(str(path.relative_to(tree)), path.read_bytes()) for path in [*named, *sources]]


def _installed_files(made: Distribution) -> list[tuple[str, bytes]]:
    kept = []
    for path in made.files or ():
        text = str(path)
        generated = path.suffix in (".pyc", ".so") or path.name in (
            "RECORD",
            "WHEEL",
            "INSTALLER",
            "REQUESTED",
        )
        if not text.startswith("..") and not generated and path.name != "direct_url.json":
            kept.append((text, Path(str(path.locate())).read_bytes()))
    if not kept:
        raise ProvisionError("kirsch's own files are not to be found: install it with pip")
    return kept


def _requires(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        name = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        return email.message_from_bytes(archive.read(name)).get_all("Requires-Dist") or []


@contextmanager
def made_once(folder: Path) -> Iterator[Path | None]:
    """Gives a folder to fill where `folder` is not there yet; it is there once the body is through."""
    if folder.is_dir():
        yield None
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".new-"))
    try:
        yield new
        try:
            os.rename(new, folder)
        except OSError:
            if not folder.is_dir():  # another kirsch was quicker: the same lies there
                raise
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _forget_old(folder: Path) -> None:
    """Remove wheels of earlier states of kirsch."""
    for made in folder.glob("*/"):
        if made.stat().st_mtime < time.time() - OLD:
            shutil.rmtree(made, ignore_errors=True)


def _digest(files: Iterable[tuple[str, bytes]]) -> str:
    digest = hashlib.sha256()
    for path, content in files:
        digest.update(f"{path}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()[:16]


def _has_setuptools() -> bool:
    try:
        return int(distribution("setuptools").version.partition(".")[0]) >= 77
    except ImportError:
        return False


def _bare(line: str) -> str:
    """A requirement without its marker for extras; other markers stay."""
    name, _, marker = line.partition(";")
    rest = re.sub(r"""(?:\s*and\s*)?extra == ['"][^'"]*['"](?:\s*and\s*)?""", "", marker).strip()
    rest = re.sub(r"^\(\s*(.*?)\s*\)$", r"\1", rest)
    return f"{name.strip()}; {rest}" if rest else name.strip()
