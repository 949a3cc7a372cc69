"""An application and all it needs in one file that a phone's Python runs: an archive (zipapp, PEP 441).

What goes into it is what the application imports here, while multiprocessing and everything compiled beside
Python's own is kept from it, as on a phone.
"""

import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

SUFFIX = ".pyz"
# What is imported here may be another on an older Python.
MINIMUM = sys.version_info[:2]
# Whoever writes for a phone may want these, too.
ALWAYS = ("bus", "device", "websocket")
TIMEOUT = 120.0
# The first moment that a zip archive can name: two archives of the same files are the same bytes.
MOMENT = (1980, 1, 1, 0, 0, 0)
_LEFT_OUT = frozenset({"__pycache__", "tests", "test"})
_COMPILED = frozenset({".so", ".pyd", ".dylib", ".dll"})
# Of pip's own notes about an installation, what says nothing here.
_NOTES = frozenset({"RECORD", "INSTALLER", "REQUESTED", "direct_url.json"})

PHONE = """\
import importlib.abc, importlib.machinery, os, sys

for name in ("multiprocessing", "_multiprocessing", "_posixshmem"):
    sys.modules[name] = None

class Pure(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        found = importlib.machinery.PathFinder.find_spec(name, path, target)
        loader = found and found.loader
        compiled = isinstance(loader, importlib.machinery.ExtensionFileLoader)
        if compiled and os.path.basename(os.path.dirname(found.origin)) != "lib-dynload":
            raise ImportError(f"{name} is compiled: a phone has no such")
        return None

sys.meta_path.insert(0, Pure())
"""
"""A program that makes this Python as poor as a phone's: no multiprocessing, and of what is compiled only
what is Python's own."""

_IMPORTED = """
import importlib, json
# What .pth files have brought belongs to this computer.
before = set(sys.modules)
sys.path.insert(0, sys.argv[1])
importlib.import_module(sys.argv[2] + ".__main__")
# A package whose import failed, and was done without, has left parts.
there = {n: m for n, m in sys.modules.items() if n not in before and n.partition(".")[0] in sys.modules}
modules = {n: getattr(m, "__file__", None) for n, m in there.items()}
print(json.dumps({name: file for name, file in modules.items() if file}))
"""

_MAIN = """\
import sys

if sys.version_info < {minimum}:
    sys.exit("{name} needs Python {words} or later, and this is " + sys.version.split()[0])

import runpy

if len(sys.argv) == 1:
    sys.argv += {arguments}
runpy.run_module("{name}", run_name="__main__", alter_sys=True)
"""


class BundleError(Exception):
    """There can be no archive; one line says why."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """An archive that was made: where, of which distributions (with their versions), its size in bytes."""

    path: Path
    name: str
    contents: Mapping[str, str]
    size: int


def bundle(directory: Path, output: Path | None = None, arguments: Sequence[str] = ()) -> Bundle:
    """Make an archive of the application in `directory`: of its package that has a `__main__`.

    `output` is NAME.pyz here if it is not given; `arguments` are the application's where it is started
    without any, by a tap. Raises BundleError.
    """
    package = find_package(directory)
    path = output or Path(package.name + SUFFIX)
    _check_output(path)
    imported = _imported(directory, package.name)
    distributions = list(_distributions(imported))
    with tempfile.TemporaryDirectory(prefix="kirsch-bundle-") as folder:
        made = Path(folder, path.name)
        files = dict(_files(package, imported, distributions))
        files["__main__.py"] = _MAIN.format(
            name=package.name,
            minimum=MINIMUM,
            words=".".join(map(str, MINIMUM)),
            arguments=list(arguments),
        ).encode()
        write(made, files)
        # What is in it has to be enough: nothing else of this computer's is there.
        _run("-I", "-S", "-c", PHONE + _IMPORTED, str(made), package.name)
        data = made.read_bytes()
    _write_whole(path, data)
    contents = {found.metadata["Name"]: found.version for found in distributions}
    return Bundle(path, package.name, {"kirsch": importlib.metadata.version("kirsch"), **contents}, len(data))


def find_package(directory: Path) -> Path:
    """The package below a folder that can be run: `python -m NAME` there. Raises BundleError."""
    found = sorted(path.parent for path in directory.glob("*/__main__.py"))
    if not found:
        raise BundleError(f"{directory} has no package that can be run: no NAME/__main__.py")
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise BundleError(f"{directory} has more than one package that can be run: {names}")
    return found[0]


def write(path: Path, files: Mapping[str, bytes]) -> None:
    """An archive of files, which any Python runs and the same for the same files."""
    with path.open("wb") as out:
        out.write(b"#!/usr/bin/env python3\n")
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
            folders = {f"{each}/" for name in files for each in PurePosixPath(name).parents}
            # Python before 3.13 finds a namespace package (PEP 420) only where the archive names its folder.
            for folder in sorted(folders - {"./"}):
                archive.writestr(zipfile.ZipInfo(folder, MOMENT), b"")
            for name in sorted(files):
                archive.writestr(zipfile.ZipInfo(name, MOMENT), files[name], zipfile.ZIP_DEFLATED)


def _check_output(path: Path) -> None:
    if path.is_dir():
        raise BundleError(f"{path} is a folder: name a file")
    if path.exists() and not zipfile.is_zipfile(path):
        raise BundleError(f"{path} is there, and no archive: it is not overwritten")


def _write_whole(path: Path, data: bytes) -> None:
    """Write a file whole, or not at all. Raises BundleError."""
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as out:
            out.write(data)
        os.chmod(out.name, 0o755)  # noqa: S103  a program, for whoever may read it
        os.replace(out.name, path)
    except OSError as error:
        raise BundleError(f"{path} cannot be written: {error.strerror}") from None


def _imported(directory: Path, name: str) -> dict[str, Path]:
    """The files of all modules that the application's import brings. Raises BundleError."""
    out = _run("-P", "-c", PHONE + _IMPORTED, str(directory), name)
    modules: dict[str, str] = json.loads(out.splitlines()[-1])
    return {module: Path(file).resolve() for module, file in modules.items()}


def _run(*arguments: str) -> str:
    """Run another Python process and return its output. Raises BundleError."""
    try:
        done = subprocess.run(
            [sys.executable, *arguments], capture_output=True, text=True, timeout=TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired:
        raise BundleError(f"the application's import took more than {TIMEOUT:g} s") from None
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise BundleError(f"the application cannot be imported as on a phone: {said[-1]}")
    return done.stdout


def _distributions(imported: Mapping[str, Path]) -> Iterator[importlib.metadata.Distribution]:
    """Return the distributions of imported modules, sorted by name."""
    files = set(imported.values())
    found = {}
    for each in importlib.metadata.distributions():
        if any(Path(str(each.locate_file(file))).resolve() in files for file in each.files or ()):
            found[each.metadata["Name"]] = each
    return (found[name] for name in sorted(found) if not name.startswith("kirsch"))


def _files(
    package: Path, imported: Mapping[str, Path], distributions: Sequence[importlib.metadata.Distribution]
) -> Iterator[tuple[str, bytes]]:
    yield from _below(package, package.name)
    for part in sorted({*ALWAYS, *(name.split(".")[1] for name in imported if name.startswith("kirsch."))}):
        ours = importlib.util.find_spec(f"kirsch.{part}")
        assert ours is not None
        assert ours.origin is not None
        if ours.submodule_search_locations is None:
            yield f"kirsch/{part}.py", Path(ours.origin).read_bytes()
        else:
            yield from _below(
                Path(ours.origin).parent, f"kirsch/{part}", only=(".py", ".typed", ".js", ".css")
            )
    for each in distributions:
        for file in each.files or ():
            name = PurePosixPath(file)
            if _belongs(name):
                if name.suffix in _COMPILED:
                    raise BundleError(
                        f"{each.metadata['Name']} has compiled parts ({name}): a phone has no such"
                    )
                yield str(name), Path(str(each.locate_file(file))).read_bytes()


def _below(folder: Path, name: str, only: Sequence[str] = ()) -> Iterator[tuple[str, bytes]]:
    for path in sorted(folder.rglob("*")):
        inside = PurePosixPath(path.relative_to(folder))
        if path.is_file() and _belongs(inside) and (not only or path.suffix in only):
            yield f"{name}/{inside}", path.read_bytes()


def _belongs(name: PurePosixPath) -> bool:
    """Return True for a file of the archive: no tests, and no scripts, which are installed elsewhere."""
    return ".." not in name.parts and not _LEFT_OUT & set(name.parts) and name.name not in _NOTES
