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

from kirsch.cluster.api.client import Client
from kirsch.cluster.runtime.host import Host
from kirsch.cluster.runtime.invocation import compose_environment
from kirsch.cluster.runtime.service import read_service
from kirsch.hbase import connect, jars
from kirsch.unit import UnitFile, UnitName

pytestmark = [pytest.mark.services, pytest.mark.timeout(600)]
EXAMPLE = Path(__file__).parents[4] / "examples/hbase"
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


def test_the_unit_looks_for_jars_and_java_where_who_starts_it_would(tmp_path, monkeypatch):
    """A unit sees little of an environment."""
    given = {
        "KIRSCH_HBASE_JARS": str(tmp_path / "jars"),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "HOME": str(tmp_path / "home"),
        "JAVA_HOME": str(tmp_path / "java"),
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    name = UnitName.parse("hbase.service")
    service, warnings = read_service(name, UnitFile.parse((EXAMPLE / "units" / name.text).read_bytes()))
    sees = compose_environment(service, Host.create(tmp_path, tmp_path, []), {}, {})
    assert (warnings, {name: sees.get(name) for name in given}) == ([], given)


@pytest.mark.slow
def test_it_starts_answers_and_stops(example, connection):
    """`connection` has started this process's JVM, and fetched the jars."""
    folder, port = example
    jars.fetch(jars.server(), print)
    # A cache of its own, as KIRSCH_HBASE_JARS names one.
    cache = folder.parent / "jars"
    cache.mkdir()
    jars.server().folder(cache).symlink_to(jars.server().folder(jars.cache_folder()))
    begun = time.monotonic()
    process = subprocess.Popen(
        [*KIRSCH, "up", "--timeout=240", str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "KIRSCH_HBASE_JARS": str(cache)},
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
        assert any(str(cache) in Path(f"/proc/{pid}/cmdline").read_text() for pid in alive(pids))
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
