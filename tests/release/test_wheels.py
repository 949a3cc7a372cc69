"""`make wheels`: the compiled distributions for Linux at large, built of a commit without such machines."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TAGS = [
    f"{libc}_{processor}"
    for libc in ("manylinux_2_17", "musllinux_1_2")
    for processor in ("x86_64", "aarch64")
]
# Nothing of this repository, and no Python of the environment that runs the tests.
OURS = ("PYTHON", "PYTEST", "KIRSCH", "VIRTUAL_ENV")
EMPTY = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
USE = "from kirsch.websocket.core import speedups; print(speedups.implementation)"

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1800)]


def run(*command: str | Path, folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, env=EMPTY, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_wheels_for_linux_at_large(tmp_path: Path) -> None:
    run("git", "clone", "--quiet", "--depth=1", f"file://{ROOT}", "tree", folder=tmp_path)
    run(sys.executable, "scripts/wheels", folder=tmp_path / "tree")
    dist = tmp_path / "tree" / "dist"
    python = "cp{0}{1}-cp{0}{1}".format(*sys.version_info)
    names = [f"{name}-*-{python}-{tag}.whl" for name in ("kirsch_hbase", "kirsch_websocket") for tag in TAGS]
    found = {name: [path.name for path in dist.glob(name)] for name in names}
    assert all(len(each) == 1 for each in found.values()), found
    run(sys.executable, "-m", "venv", "venv", folder=tmp_path)
    bin = tmp_path / "venv" / "bin"
    (made,) = dist.glob(f"kirsch_websocket-*-{python}-manylinux_2_17_x86_64.whl")
    run(bin / "pip", "install", "--quiet", "--disable-pip-version-check", made, "auditwheel", folder=tmp_path)
    assert run(bin / "python", "-c", USE, folder=tmp_path) == "cython\n"
    for each in dist.glob("*-manylinux_*_x86_64.whl"):
        shown = " ".join(run(bin / "auditwheel", "show", each, folder=tmp_path).split())
        oldest = re.search(r'consistent with the following platform tag: "manylinux_2_(\d+)_x86_64"', shown)
        assert oldest, shown
        assert int(oldest[1]) <= 17
