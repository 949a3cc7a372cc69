"""What `kirsch hbase server` does when its HBase ends by itself; a Python program stands for HBase."""

import subprocess
import sys

import pytest

from kirsch.hbase.server_settings import READY

SERVE = """
import sys
from pathlib import Path
from kirsch.bus import Command
from kirsch.hbase.server import serve
from kirsch.hbase.server_settings import Settings
sys.exit(serve(Settings(Path(sys.argv[1])), Command((sys.executable, "-c", sys.argv[2]))))
"""
UP = f"print('INFO HMaster: {READY}', flush=True)"


@pytest.mark.parametrize(
    ("program", "status", "said"),
    [
        # The shell's stop_master.
        (UP, 0, "HBase has stopped"),
        ("pass", 1, "HBase has stopped"),
        (f"{UP}; raise SystemExit(3)", 1, "HBase ended: "),
        ("print('ERROR HMaster: no disk', flush=True); raise SystemExit(1)", 1, "ERROR HMaster: no disk"),
    ],
)
def test_it_does_not_stay_without_its_hbase(tmp_path, program, status, said):
    done = subprocess.run(
        [sys.executable, "-c", SERVE, str(tmp_path), program], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr.count("Traceback")) == (status, 0), done.stderr
    assert said in done.stderr
    assert ("HBase is up" in done.stdout) == (UP in program)
