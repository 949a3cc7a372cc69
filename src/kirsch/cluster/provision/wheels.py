"""kirsch as wheels for a machine's Python, which is not ours: its own, and those of the libraries it needs.

Both are kept in the cache folder, by what they were made from.
"""

import base64
import email
import hashlib
import os
import shutil
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING

from kirsch.cluster.provision.archive import File
from kirsch.cluster.provision.command import Command, Runner
from kirsch.cluster.provision.install import DIGESTS, WHEELS
from kirsch.cluster.provision.record import ProvisionError, cache_folder
from kirsch.install import pip_install

if TYPE_CHECKING:
    from packaging.requirements import Requirement

# Seconds for which a wheel of kirsch is kept after it was made: others may be about to use it.
OLD = 7 * 86400.0
BUILT_FROM = ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE")
# What a machine gets of kirsch; an image may name others in its requirements.txt.
MACHINE = ("kirsch[machines]",)


@dataclass(frozen=True, slots=True)
class Target:
    """Target of wheels: a CPython (3.13), an architecture as uname has it, and a glibc (2.41)."""

    python: str
    architecture: str
    glibc: tuple[int, int]

    @property
    def environment(self) -> dict[str, str]:
        """Variables of environment markers (PEP 508) that differ from this computer's."""
        return {
            "python_version": self.python,
            "python_full_version": f"{self.python}.0",
            "platform_machine": self.architecture,
        }

    @property
    def platforms(self) -> list[str]:
        """Platform tags that the machine can use, the best first (PEP 600)."""
        newest = self.glibc[1]
        return [f"manylinux_2_{minor}_{self.architecture}" for minor in range(newest, 16, -1)] + [
            f"manylinux2014_{self.architecture}",
            f"linux_{self.architecture}",
        ]


@dataclass(frozen=True, slots=True)
class Needs:
    """Distributions that some of kirsch's need: kirsch's own, by name, and requirements on all others."""

    own: tuple[str, ...]
    others: tuple[str, ...]


def needs(
    roots: Iterable[str],
    requires: Callable[[str], Iterable[str]],
    environment: Mapping[str, str] | None = None,
) -> Needs:
    """Follow requirements (PEP 508) through kirsch's own distributions. Pure.

    `requires` gives the Requires-Dist of one of them. Markers are evaluated in `environment`, by
    default this Python's.
    """
    # Imported here, for `kirsch up --on` makes no wheels.
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    own: set[str] = set()
    others: set[str] = set()
    done: set[tuple[str, str]] = set()
    todo = [Requirement(root) for root in roots]
    while todo:
        requirement = todo.pop()
        name = canonicalize_name(requirement.name)
        if name.partition("-")[0] != "kirsch":
            requirement.marker = None
            others.add(str(requirement))
            continue
        own.add(name)
        for extra in {"", *requirement.extras} - {extra for known, extra in done if known == name}:
            done.add((name, extra))
            lines = (Requirement(line) for line in requires(name))
            todo += [line for line in lines if _applies(line, extra, environment)]
    return Needs(tuple(sorted(own)), tuple(sorted(others)))


def _applies(requirement: "Requirement", extra: str, environment: Mapping[str, str] | None) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({**(environment or {}), "extra": extra})


def download(requirements: Iterable[str], target: Target, folder: Path) -> Command:
    """Return pip's command that downloads wheels for another Python, and pip itself to install them with.

    Requirements are as on pip's command line: options (-r FILE) may be among them.
    """
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

    def own(self, roots: Iterable[str] = MACHINE) -> list[Path]:
        """Return kirsch's own wheels, one for each distribution that the roots need, of what runs now."""
        return [self._own(name) for name in needs(roots, _installed_requires).own]

    def _own(self, name: str) -> Path:
        made = distribution(name)
        tree = source_tree(name)
        files = tree_files(tree) if tree else _installed_files(made)
        folder = self.cache / name / _digest(files)
        _forget_old(folder.parent)
        with made_once(folder) as new:
            if new and tree:
                self._build(tree, new)
            elif new:
                repack(made, files, new)
        return next(folder.glob("*.whl"))

    def libraries(self, own: Iterable[Path], target: Target) -> list[Path]:
        """Return the wheels that kirsch needs on such a machine, and pip's."""
        requires = dict(map(_read_requires, own))
        needed = needs(MACHINE, lambda name: requires[name], target.environment).others
        key = hashlib.sha256(repr((needed, target, DIGESTS)).encode()).hexdigest()[:16]
        folder = self.cache / "wheels" / key
        with made_once(folder) as new:
            if new:
                self.runner.run(download(needed, target, new))
                (new / DIGESTS).write_text(digests(sorted(new.glob("*.whl"))))
        return sorted(folder.glob("*.whl"))

    def kept_in(self, folder: Path, target: Target) -> list[File]:
        """Return what such a machine needs of a folder of wheels, kirsch's own and pip among it."""
        with tempfile.TemporaryDirectory() as temporary:
            found = Path(temporary)
            wanted = ("--no-index", "--find-links", str(folder), *MACHINE)
            self.runner.run(download(wanted, target, found))
            return shipped(sorted(found.glob("*.whl")))

    def _build(self, tree: Path, folder: Path) -> None:
        # A copy: setuptools keeps a build folder in the tree, with modules in it that are no more.
        with tempfile.TemporaryDirectory() as temporary:
            copy = Path(temporary) / "kirsch"
            copy.mkdir()
            for path, _ in tree_files(tree):
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


def digests(wheels: Iterable[Path]) -> str:
    """Return SHA-256 digests of wheels as sha256sum(1) reads them: those that were noted when a wheel was
    downloaded, else of what it is now."""
    lines = []
    for wheel in wheels:
        noted = wheel.parent / DIGESTS
        known = [line for line in _lines(noted) if line.endswith(f"  {wheel.name}")]
        lines += known or [f"{hashlib.sha256(wheel.read_bytes()).hexdigest()}  {wheel.name}"]
    return "".join(f"{line}\n" for line in lines)


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def shipped(wheels: Collection[Path]) -> list[File]:
    """Return wheels as files of a machine, with their digests, which it checks before it installs any.

    Raises ProvisionError where one is not what was downloaded.
    """
    files, noted = [], digests(wheels)
    for wheel, line in zip(wheels, noted.splitlines(), strict=True):
        content = wheel.read_bytes()
        if line.split()[0] != hashlib.sha256(content).hexdigest():
            raise ProvisionError(
                f"{wheel} is not what was downloaded: remove {wheel.parent}, and do it again"
            )
        files.append(File(f"{WHEELS}/{wheel.name}", content))
    return [*files, File(f"{WHEELS}/{DIGESTS}", noted.encode())]


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


def tree_files(tree: Path) -> list[tuple[str, bytes]]:
    """Return the files that a wheel is built from, by path; nothing compiled."""
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


def _installed_requires(name: str) -> list[str]:
    try:
        return distribution(name).requires or []
    except PackageNotFoundError:
        raise ProvisionError(f"{name} is not installed here: {pip_install(name)}") from None


def _read_requires(wheel: Path) -> tuple[str, list[str]]:
    """Read the name of a wheel's distribution, and its Requires-Dist."""
    from packaging.utils import canonicalize_name

    with zipfile.ZipFile(wheel) as archive:
        path = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        metadata = email.message_from_bytes(archive.read(path))
    return canonicalize_name(metadata["Name"]), metadata.get_all("Requires-Dist") or []


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
