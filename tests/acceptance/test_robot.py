"""The acceptance suites as Robot Framework runs them: each suite whole, in a process of its own."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

ACCEPTANCE = Path(__file__).parents[2] / "acceptance"
PATIENCE = 150

pytestmark = [pytest.mark.services, pytest.mark.slow, pytest.mark.xdist_group("acceptance")]


@pytest.mark.parametrize("suite", sorted(path.stem for path in ACCEPTANCE.glob("*.robot")))
def test_suite(suite):
    command = [sys.executable, "-m", "robot", "--outputdir", str(ACCEPTANCE / "output" / suite)]
    robot = subprocess.Popen(
        [*command, "--consolecolors", "off", str(ACCEPTANCE / f"{suite}.robot")],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        console, _ = robot.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        # Robot then runs its teardowns, which stop what it has started.
        robot.send_signal(signal.SIGINT)
        console, _ = robot.communicate(timeout=PATIENCE)
    assert robot.returncode == 0, console
