"""Compile the hot modules of kirsch.hbase where a compiler is there; all else stands in pyproject.toml.

A source distribution has the C that Cython made, and needs no Cython. KIRSCH_PURE=1 leaves the modules out,
and so does a machine without a compiler: the Python versions run then.
"""

import os
import shutil
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.sdist import sdist

MODULES = ("block",)
FOLDER = "src/kirsch/hbase/compiled"


def is_shipped() -> bool:
    """Tell whether the C of each module lies beside its source, and is not older than any of the sources."""
    folder = Path(FOLDER)
    newest = max(path.stat().st_mtime for pattern in ("*.pyx", "*.pxd") for path in folder.glob(pattern))
    made = [folder / f"{module}.c" for module in MODULES]
    return all(path.is_file() and path.stat().st_mtime >= newest for path in made)


def described(ending: str) -> list[Extension]:
    """Return the extension modules, of sources with this ending."""
    return [
        Extension(
            f"kirsch.hbase.compiled.{module}",
            [f"{FOLDER}/{module}{ending}"],
            # Debugging symbols take a third of the time, and nobody debugs Cython's C.
            extra_compile_args=["-O3", "-g0"],
            optional=True,
        )
        for module in MODULES
    ]


def extensions() -> list[Extension]:
    """Return the extension modules; none with KIRSCH_PURE=1, or where there is neither their C nor Cython."""
    if os.environ.get("KIRSCH_PURE", "0") not in ("", "0"):
        return []
    if is_shipped():
        return described(".c")
    try:
        from Cython.Build import cythonize
    except ImportError:
        print("kirsch-hbase: there is no Cython here, so the Python versions will run", file=sys.stderr)
        return []
    made: list[Extension] = cythonize(described(".pyx"), include_path=["src"], build_dir="build/cython")
    for extension in made:
        # Without a compiler the build goes on without the extension.
        extension.optional = True
    return made


class WithC(sdist):
    """Put the C of all modules into the source distribution."""

    def make_release_tree(self, base_dir: str, files: list[str]) -> None:
        super().make_release_tree(base_dir, files)
        for extension in self.distribution.ext_modules or ():
            for source in map(Path, extension.sources):
                target = Path(base_dir, FOLDER, source.name)
                if not target.exists():
                    shutil.copy2(source, target)


setup(
    ext_modules=extensions(),
    cmdclass={"sdist": WithC},
    options={"build_ext": {"parallel": os.cpu_count()}},
    setup_requires=[] if is_shipped() else ["cython>=3.1,<4"],
)
