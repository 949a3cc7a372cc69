"""The socket's pump in Python, where the compiled one is what runs else."""

import os
import subprocess
import sys

import pytest

from kirsch.websocket.core import speedups

PURE = "at_once and plain or TestSlowReader and plain or TestStreams or TestInbox or TestWrites or by_reset"


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif(not speedups.compiled, reason="what runs is the Python version")
def test_without_what_is_compiled():
    """The socket's pump in Python does the same."""
    folder = os.path.dirname(__file__)
    ran = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            folder,
            *(os.path.join(folder, "..", f"test_contract_{name}.py") for name in ("messages", "end")),
            "-m",
            "not slow and not soak",
            "-k",
            f"asyncio and ({PURE})",
        ],
        env=os.environ | {"KIRSCH_PURE": "1"},
        cwd=os.getcwd(),
        capture_output=True,
        text=True,
        timeout=290,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-5000:]
    assert " passed" in ran.stdout
