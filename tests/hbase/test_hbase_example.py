"""`kirsch up examples/hbase`, as its README has it: it starts, answers, and stops with nothing left."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.cli.application import alive, descendants
from tests.deadline import eventually
from tests.port import free_port

from kirsch.cluster.client import Client
from kirsch.hbase import connect, jars

pytestmark = [pytest.mark.services, pytest.mark.timeout(600)]
EXAMPLE = Path(__file__).parents[2] / "examples/hbase"
KIRSCH = (sys.executable, "-m", "kirsch.cli.main")


@pytest.fixture
def example(tmp_path):
    """The example at a port that is free."""
    folder, port = tmp_path / "hbase", free_port()
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns(".kirsch"))
    unit = folder / "units/hbase.service"
    text = unit.read_text()
    assert text.count("--port 2181") == 1
    unit.write_text(text.replace("--port 2181", f"--port {port}"))
    return folder, port


def test_the_server_says_when_it_is_up(hbase):
    """It should within 15 s; how long it took is for who reads it, and decides nothing."""
    (said,) = [line for line in hbase.lines if line.startswith("HBase is up")]
    took = re.fullmatch(r"HBase is up in ([\d.]+) s: kirsch hbase shell --quorum localhost:\d+", said)
    assert took is not None, said
    print(f"kirsch hbase server: up after {took.group(1)} s")


@pytest.mark.slow
def test_it_starts_answers_and_stops(example, connection):
    """`connection` has started this process's JVM, and fetched the jars."""
    folder, port = example
    jars.fetch(jars.server(), print)
    begun = time.monotonic()
    process = subprocess.Popen(
        [*KIRSCH, "up", "--timeout=240", str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    said = []
    try:
        for line in process.stdout:
            said.append(line)
            if line.startswith("Ctrl-C"):
                break
        # So said once it is ready, and that is when the master serves.
        assert re.search(r"hbase\.service +ready", "".join(said)), "".join(said)
        print(f"kirsch up: ready after {time.monotonic() - begun:.1f} s")
        daemon = Client(folder / ".kirsch/kirsch.sock").get("/kirsch/v1/daemon")["pid"]
        pids = descendants(daemon)
        assert len(pids) > 3  # kirschd, a shim, kirsch hbase server, Java
        with connect(f"127.0.0.1:{port}") as hbase:
            hbase.admin.create("notes", "text")
            hbase.table("notes")[b"first"] = {"text:body": b"Hello"}
            assert hbase.table("notes")[b"first"]["text:body"] == b"Hello"
        process.send_signal(signal.SIGINT)
        said.append(process.communicate(timeout=120)[0])
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    assert process.returncode == 0, "".join(said)
    assert re.search(r"hbase\.service +stopped", said[-1]), said[-1]
    eventually(lambda: not alive(pids), what="the end of all its processes")
    # What was written is kept, as the README says.
    assert list((folder / ".kirsch").rglob("WALs")) or list((folder / ".kirsch").rglob("hbase.id"))
    assert not os.path.exists(folder / "hbase-data")
