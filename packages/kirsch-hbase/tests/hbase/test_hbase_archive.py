"""Java's archive of the client's classes: used where it fits, and nobody hears of it where it does not."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kirsch.hbase import archive, jars, jdk

pytestmark = [pytest.mark.services, pytest.mark.slow, pytest.mark.timeout(300)]
KIRSCH = (sys.executable, "-m", "kirsch.cli.main")
# Where classes come from, as Java tells it.
FROM = """
import sys
from kirsch.hbase import connect
with connect(sys.argv[1], patience=60, options=["-Xlog:class+load:file=" + sys.argv[2]]) as hbase:
    print(hbase.admin.tables("nope"))
"""


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A cache that has the client's jars, and not what is made of them."""
    folder = tmp_path_factory.mktemp("cache")
    shutil.copytree(jars.client().folder(jars.cache_folder()), jars.client().folder(folder))
    return folder


@pytest.fixture
def started(hbase, cache, tmp_path):
    """Starts a client from the cache; how many classes came from an archive of ours."""

    def start():
        log = tmp_path / "classes"
        done = subprocess.run(
            [sys.executable, "-c", FROM, hbase.quorum, str(log)],
            capture_output=True,
            text=True,
            env={**os.environ, "KIRSCH_HBASE_JARS": str(cache), "CLASSPATH": "", "HBASE_HOME": ""},
            timeout=120,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")
        lines = log.read_text().splitlines()
        ours = [line for line in lines if "org.apache.hadoop.hbase" in line and "shared objects file" in line]
        return len(ours)

    return start


@pytest.mark.soak
def test_it_is_used_where_it_fits(connection, cache, started):
    """`connection` has fetched the jars."""
    assert started() == 0
    done = subprocess.run(
        [*KIRSCH, "hbase", "jars"],
        capture_output=True,
        text=True,
        env={**os.environ, "KIRSCH_HBASE_JARS": str(cache)},
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    if (jdk.version(jdk.find()) or 0) < archive.OLDEST:
        assert "cannot make one" in done.stderr
        return
    assert "an archive of HBase's classes for a faster start: " in done.stderr
    (made,) = (cache / "archives").iterdir()
    assert started() > 500
    whole = made.read_bytes()
    # Cut off, empty, changed, something else.
    changed = bytearray(whole)
    changed[len(whole) // 2 : len(whole) // 2 + 100] = bytes(100)
    for broken in (whole[: len(whole) // 2], b"", bytes(changed), bytes(len(whole))):
        made.write_bytes(broken)
        assert started() == 0
    made.write_bytes(whole)
    jar = max(jars.client().folder(cache).glob("*.jar"), key=lambda path: path.stat().st_size)
    before = jar.stat()
    os.utime(jar, (before.st_atime, before.st_mtime + 60))
    assert started() == 0
    # Of other jars, though it has the name of theirs.
    own = archive.stem(jdk.find(), jars.cached(jars.client(), cache))
    made.rename(made.with_name(f"{own}{len(whole)}.jsa"))
    assert started() == 0


def test_where_none_can_be_made_it_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("KIRSCH_HBASE_JARS", str(tmp_path))
    (tmp_path / "archives").touch()
    said = []
    assert archive.make([], said.append) is None
    monkeypatch.setenv("JAVA_HOME", "/nowhere")
    assert archive.make([], said.append) is None
    assert said[0].startswith("no archive of HBase's classes was made: ")
    assert said[1].startswith("JAVA_HOME is /nowhere, and there is no Java in it: ")


def test_jars_are_on_disk_once(tmp_path):
    """The cache has links to the files of Maven's repository, where both are on one file system."""
    logger = jars.JarSet("logger", (jars.Artifact("org.slf4j", "slf4j-nop", "1.7.36"),))
    found = jars.fetch(logger, print, tmp_path)
    maven = Path.home() / ".m2"
    same = maven.exists() and maven.stat().st_dev == tmp_path.stat().st_dev
    assert len(found) > 1
    assert all(path.stat().st_nlink > 1 for path in found) is same
    assert all(path.stat().st_size for path in found)
