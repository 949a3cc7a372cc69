"""What `kirsch hbase server` does when its HBase ends by itself; a Python program stands for HBase."""

import subprocess
import sys
from pathlib import Path

import pytest
from tests.port import free_port

from kirsch.hbase import jars
from kirsch.hbase.server import GROUPS_READY, READY, Settings, prepare

SERVE = """
import sys
from pathlib import Path
from kirsch.bus import Command
from kirsch.hbase.server import serve
from kirsch.hbase.server import Settings
settings = Settings(Path(sys.argv[1]), groups=len(sys.argv) > 3)
sys.exit(serve(settings, Command((sys.executable, "-c", sys.argv[2]))))
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


@pytest.mark.parametrize(("line", "up"), [("", False), (f"INFO RSGroupStartupWorker: {GROUPS_READY}", True)])
def test_a_server_with_groups_is_up_once_it_knows_them(tmp_path, line, up):
    """Until then it makes no table."""
    program = f"{UP}; print({line!r}, flush=True)"
    done = subprocess.run(
        [sys.executable, "-c", SERVE, str(tmp_path), program, "groups"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, "HBase is up" in done.stdout) == (0 if up else 1, up), done.stderr


def test_a_folder_that_is_named_from_here(tmp_path, monkeypatch):
    """As the one is that it has by default. Who starts HBase in it may be elsewhere by then."""
    monkeypatch.chdir(tmp_path)
    for one in (jars.server(), jars.groups()):
        folder = one.folder(tmp_path / "jars")
        folder.mkdir(parents=True)
        (folder / "hbase.jar").touch()
    monkeypatch.setenv("KIRSCH_HBASE_JARS", str(tmp_path / "jars"))
    command = prepare(Settings(Path("hbase-data"), port=free_port()))
    assert command.directory == str(tmp_path / "hbase-data")
    assert (tmp_path / "hbase-data/conf/hbase-site.xml").is_file()
    assert not [word for word in command.argv if "hbase-data" in word and str(tmp_path) not in word]
