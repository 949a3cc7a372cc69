"""Wheels of this package, built of its source distribution alone."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

PACKAGE = Path(__file__).parents[2]


def wheel(folder: Path, environment: Mapping[str, str] | None = None) -> Path:
    """Build the source distribution in a folder, and the wheel of it as pip does on a user's machine.

    `environment` has what the wheel is built with besides.
    """
    source = folder / "source"
    ignored = shutil.ignore_patterns("*.so", "__pycache__", "*.egg-info")
    shutil.copytree(PACKAGE / "src", source / "src", ignore=ignored)
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(PACKAGE / name, source)
    sdist = "from setuptools import build_meta; build_meta.build_sdist('..')"
    subprocess.run([sys.executable, "-c", sdist], cwd=source, check=True, capture_output=True)
    (archive,) = folder.glob("kirsch_websocket-*.tar.gz")
    options = ("--no-build-isolation", "--no-deps", "-w", "wheels", archive)
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", *options],
        cwd=folder,
        env={**os.environ, **(environment or {})},
        check=True,
        capture_output=True,
    )
    (made,) = (folder / "wheels").glob("kirsch_websocket-*.whl")
    return made
