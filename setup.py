"""Compiles hot modules of kirsch.websocket and kirsch.hbase where a compiler is there, and brings images/
along, from which an installed kirsch builds its base images; all else stands in pyproject.toml.

KIRSCH_PURE=1 leaves what is compiled out, and so does a machine without a compiler: the Python versions run
then.
"""

import os
import shutil
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_py import build_py

MODULES = {"websocket": ("frame", "parser", "sending", "protocol", "pump"), "hbase": ("block",)}


def extensions() -> list[Extension]:
    """What is compiled: nothing with KIRSCH_PURE=1, or where Cython is not to be had."""
    if os.environ.get("KIRSCH_PURE", "0") not in ("", "0"):
        return []
    try:
        from Cython.Build import cythonize
    except ImportError:
        print("kirsch: no Cython here, the Python versions will run", file=sys.stderr)
        return []
    made: list[Extension] = cythonize(
        [
            Extension(
                f"kirsch.{package}.compiled.{name}",
                [f"src/kirsch/{package}/compiled/{name}.pyx"],
                include_dirs=["src/kirsch/websocket/compiled"],
                depends=["src/kirsch/websocket/compiled/lay.h"] if package == "websocket" else [],
                extra_compile_args=["-O3"],
            )
            for package, names in MODULES.items()
            for name in names
        ],
        include_path=["src"],
        build_dir="build/cython",
    )
    for extension in made:
        # Where there is no compiler the build goes on without it.
        extension.optional = True
    return made


class WithImages(build_py):
    """Puts what base images are built from beside the modules, where it is there."""

    def run(self) -> None:
        super().run()
        for folder in sorted(Path("images").glob("*/")):
            if not self.editable_mode and (folder / "Containerfile").is_file():
                shutil.copytree(folder, Path(self.build_lib, "kirsch", folder), dirs_exist_ok=True)


setup(ext_modules=extensions(), cmdclass={"build_py": WithImages})
