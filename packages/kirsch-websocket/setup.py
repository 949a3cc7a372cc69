"""Compile the hot modules of kirsch.websocket where a compiler is there; all else stands in pyproject.toml.

KIRSCH_PURE=1 leaves them out, and so does a machine without a compiler: the Python versions run then.
"""

import os
import sys

from setuptools import Extension, setup

MODULES = ("frame", "parser", "sending", "protocol", "pump")


def extensions() -> list[Extension]:
    """Return the extension modules; none with KIRSCH_PURE=1 or without Cython."""
    if os.environ.get("KIRSCH_PURE", "0") not in ("", "0"):
        return []
    try:
        from Cython.Build import cythonize
    except ImportError:
        print("kirsch-websocket: there is no Cython here, so the Python versions will run", file=sys.stderr)
        return []
    made: list[Extension] = cythonize(
        [
            Extension(
                f"kirsch.websocket.compiled.{module}",
                [f"src/kirsch/websocket/compiled/{module}.pyx"],
                include_dirs=["src/kirsch/websocket/compiled"],
                depends=["src/kirsch/websocket/compiled/lay.h"],
                extra_compile_args=["-O3"],
            )
            for module in MODULES
        ],
        include_path=["src"],
        build_dir="build/cython",
    )
    for extension in made:
        # Without a compiler the build goes on without the extension.
        extension.optional = True
    return made


setup(ext_modules=extensions())
