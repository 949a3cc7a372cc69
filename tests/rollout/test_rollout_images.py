"""Where an installed kirsch has what its base images are built from."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kirsch.cluster.image.base import own_folder

ROOT = Path(__file__).parents[2]


def test_in_a_checkout_they_are_in_images():
    assert own_folder("kirsch/web") == ROOT / "images/web"
    assert own_folder("kirsch/nothing") is None
    assert own_folder("web") is None


@pytest.mark.slow
def test_a_wheel_has_them(tmp_path):
    tree = tmp_path / "tree"
    tree.mkdir()
    for name in ("images", "src"):
        shutil.copytree(
            ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__", "*.so", "*.egg-info")
        )
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", *options, "--wheel-dir", str(tmp_path), str(tree)],
        env=os.environ | {"KIRSCH_PURE": "1"},
        check=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    installed = tmp_path / "installed"
    shutil.unpack_archive(wheel, installed, "zip")
    asked = "from kirsch.cluster.image.base import own_folder; print(own_folder('kirsch/postgres'))"
    done = subprocess.run(
        [sys.executable, "-c", asked],
        env=os.environ | {"PYTHONPATH": str(installed)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == str(installed / "kirsch/images/postgres")
    assert (installed / "kirsch/images/postgres/serve").read_bytes() == (
        ROOT / "images/postgres/serve"
    ).read_bytes()
