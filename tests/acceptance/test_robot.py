"""The acceptance suites as Robot Framework runs them: each suite whole, in a process of its own."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ACCEPTANCE = Path(__file__).parents[2] / "acceptance"
PATIENCE = 300
# The first image of all: packages from a mirror.
IMAGES_PATIENCE = 600
IMAGES_NEED = ("podman", "runc", "docker-registry")
# Those that build images, and run machines.
LONG = {"image": IMAGES_PATIENCE, "cluster": 2 * IMAGES_PATIENCE, "database": 2 * IMAGES_PATIENCE}
MACHINES = [pytest.mark.machines, pytest.mark.root, pytest.mark.faults, pytest.mark.soak]
MARKS = {
    "release": [pytest.mark.soak],
    "chat": [pytest.mark.soak],
    "newcomer": [pytest.mark.soak],
    "location": [pytest.mark.soak],
    "cluster": MACHINES,
    "database": MACHINES,
    "image": [pytest.mark.soak],
}

pytestmark = [pytest.mark.services, pytest.mark.slow]


@pytest.mark.timeout(3 * IMAGES_PATIENCE)
@pytest.mark.parametrize(
    "suite",
    [
        pytest.param(name, marks=MARKS.get(name, ()))
        for name in sorted(p.stem for p in ACCEPTANCE.glob("*.robot"))
    ],
)
def test_suite(suite):
    patience = LONG.get(suite, PATIENCE)
    missing = [program for program in IMAGES_NEED if not shutil.which(program)]
    if suite in LONG and (missing or os.geteuid()):
        pytest.skip(f"images need root, and {' '.join(IMAGES_NEED)}")
    command = [sys.executable, "-m", "robot", "--outputdir", str(ACCEPTANCE / "output" / suite)]
    robot = subprocess.Popen(
        [*command, "--consolecolors", "off", str(ACCEPTANCE / f"{suite}.robot")],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        console, _ = robot.communicate(timeout=patience)
    except subprocess.TimeoutExpired:
        # Robot then runs its teardowns, which stop what it has started.
        robot.send_signal(signal.SIGINT)
        console, _ = robot.communicate(timeout=PATIENCE)
    assert robot.returncode == 0, console
