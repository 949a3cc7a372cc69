"""examples/processes, run whole as a person runs it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

MAIN = Path(__file__).parents[2] / "examples" / "processes" / "main.py"


def test_lines_are_named_what_dies_comes_back_and_ctrl_c_stops_all(mark):
    process = subprocess.Popen(
        [sys.executable, str(MAIN)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=mark.environment,
        process_group=0,
    )
    lines: list[str] = []
    try:
        for line in process.stdout:
            lines.append(line.rstrip())
            if lines.count(" fragile | I feel fine") == 2:
                break
        os.killpg(process.pid, signal.SIGINT)  # as the terminal does
        rest, _ = process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()
    lines += rest.splitlines()
    assert process.returncode == 0
    assert any(line.startswith("   clock | ") for line in lines)
    assert any(line.startswith("    load | ") for line in lines)
    assert " fragile | oh no" in lines
    assert "     bus | fragile exited with code 1" in lines
    assert "     bus | Bus EXITED" in lines
    assert not any("Traceback" in line for line in lines)
