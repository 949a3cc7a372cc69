"""Starts that go wrong, and Ctrl-C; in a process of its own what starts a JVM, for that is once in one."""

import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.port import free_port

from kirsch.hbase import Invalid, Unavailable, connect
from kirsch.hbase.server import xml

pytestmark = [pytest.mark.services, pytest.mark.timeout(240)]

TELL = """
from kirsch.hbase import HBaseError, connect
try:
    {code}
except HBaseError as error:
    print(type(error).__name__ + ": " + str(error))
"""


def told(code: str, **environment: str) -> str:
    """What a process says of the error that code raises."""
    variables = {**os.environ, **environment}
    done = subprocess.run(
        [sys.executable, "-c", TELL.format(code=code)],
        capture_output=True,
        text=True,
        env=variables,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "\tat " not in done.stderr
    return done.stdout.strip()


def test_no_java(hbase):
    said = told(f"connect({hbase.quorum!r})", JAVA_HOME="/nowhere")
    assert said.startswith("NoJava: JAVA_HOME is /nowhere, and there is no Java in it: apt-get install")


def test_no_jars(hbase, tmp_path):
    said = told(f"connect({hbase.quorum!r})", KIRSCH_HBASE_JARS=str(tmp_path), CLASSPATH="", HBASE_HOME="")
    assert said == (
        "NoJars: HBase's client is not here: run `kirsch hbase jars`, or set HBASE_HOME or CLASSPATH"
    )


@pytest.mark.soak
def test_jars_of_another_version(hbase, tmp_path):
    pom = tmp_path / "pom.xml"
    pom.write_text(
        '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
        "<groupId>kirsch</groupId><artifactId>old</artifactId><version>1</version><packaging>pom</packaging>"
        "<dependencies><dependency><groupId>org.apache.hbase</groupId><artifactId>hbase-common</artifactId>"
        "<version>1.7.2</version><exclusions><exclusion><groupId>*</groupId><artifactId>*</artifactId>"
        "</exclusion></exclusions></dependency></dependencies></project>"
    )
    maven = [
        "mvn",
        "-q",
        "-B",
        "-f",
        str(pom),
        "dependency:copy-dependencies",
        f"-DoutputDirectory={tmp_path}/jars",
    ]
    subprocess.run(maven, check=True, timeout=200)
    said = told(f"connect({hbase.quorum!r}, jars={str(tmp_path / 'jars')!r})")
    assert said.startswith(
        "NoJars: these jars are of HBase 1.7.2, and kirsch needs HBase's client 2.4 or newer"
    )


def test_jars_that_are_not_hbase(hbase, tmp_path):
    (tmp_path / "empty.jar").write_bytes(b"PK\x05\x06" + bytes(18))
    said = told(f"connect({hbase.quorum!r}, jars={str(tmp_path)!r})")
    assert said.startswith("NoJars: HBase's client is not among the jars")


def test_pytest_s_end_leaves_java_its_signals(client):
    """pytest enables faulthandler before Java starts, and disables it before Java ends."""
    code = """
import faulthandler
import jpype
from kirsch.hbase import jvm
faulthandler.enable()
jvm.start()
faulthandler.disable()
text = jvm.cls("java.lang.String")("x")
for _ in range(10_000):
    try:
        text.compareTo(jpype.JObject(None, jvm.cls("java.lang.String")))
    except jvm.cls("java.lang.NullPointerException"):
        pass
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")


def test_an_option_that_java_does_not_know(hbase):
    said = told(f"connect({hbase.quorum!r}, options=['-XX:+NoSuchOption'])")
    assert said.startswith("NoJava: Java did not start")


def test_a_jvm_that_somebody_else_has_started(hbase, connection):
    foreign = "import jpype; jpype.startJVM(convertStrings=True)"
    said = told(f"{foreign}; connect({hbase.quorum!r})")
    assert said.startswith(
        "OtherJVM: a JVM runs in this process already, and it was started without HBase's jars"
    )
    with_jars = "from kirsch.hbase import jars; import jpype; "
    with_jars += "jpype.startJVM(classpath=[str(jar) for jar in jars.find()], convertStrings=True); "
    said = told(f"{with_jars}print(connect({hbase.quorum!r}, patience=60).admin.tables('nope'))")
    assert said == "[]"


def test_a_second_connect_with_other_options(hbase, connection):
    code = f"connect({hbase.quorum!r}, patience=60).close(); connect({hbase.quorum!r}, patience=60).close(); "
    code += f"connect({hbase.quorum!r}, options=['-Xmx1g'])"
    said = told(code)
    assert said.startswith(
        "OtherJVM: the JVM of this process was started by an earlier connect with other jars"
    )


def test_a_quorum_that_does_not_answer():
    """It is told before Java is started: nobody waits for both."""
    with pytest.raises(
        Unavailable, match=r"refused the connection: is HBase running, and is this its quorum\?"
    ):
        connect(f"127.0.0.1:{free_port()}")
    with pytest.raises(Unavailable, match=r"^no ZooKeeper answers: 127\.0\.0\.1:") as raised:
        connect(f"127.0.0.1:{free_port()},no-such-host.invalid")
    # Where there is no resolver either, it is asked until the time is over.
    assert re.search("no-such-host.invalid:2181 (is no host that is known|did not answer)", str(raised.value))


def test_something_else_answers():
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        pytest.raises(Unavailable, match=r"did not answer within 0\.5 s"),
    ):
        connect(f"127.0.0.1:{silent.getsockname()[1]}", patience=0.5)


def test_a_wrong_znode_is_told(hbase, connection):
    with pytest.raises(Unavailable, match="has no znode /elsewhere: check the quorum's /node"):
        connect(f"{hbase.quorum}/elsewhere", timeout=2, patience=1)


def test_bad_quorums():
    with pytest.raises(Invalid, match=r"^'a:b' is no quorum: 'a:b' is not host or host:port$"):
        connect("a:b")


@pytest.mark.parametrize("path", [Path("/none.xml"), "/none.xml"])
def test_a_file_of_settings_that_is_not_there(connection, path):
    with pytest.raises(Invalid, match=r"^there is no /none\.xml"):
        connect(path)


def test_an_hbase_site_xml(hbase, connection, tmp_path):
    site = tmp_path / "hbase-site.xml"
    settings = {"hbase.zookeeper.quorum": "127.0.0.1", "hbase.zookeeper.property.clientPort": str(hbase.port)}
    site.write_text(xml(settings))
    for given in (site, str(site)):
        with connect(given, patience=60) as found:
            assert not found.admin.exists("nope")
    site.write_text("<configuration>")
    with pytest.raises(Invalid, match=r"hbase-site\.xml is no hbase-site\.xml: "):
        connect(site)


def test_whose_thread_writes_to_the_server(hbase, connection, tmp_path):
    """The caller's own, unless settings name a client, or want TLS, which only Netty's has."""
    where = {"hbase.zookeeper.quorum": "127.0.0.1", "hbase.zookeeper.property.clientPort": hbase.port}
    netty = "org.apache.hadoop.hbase.ipc.NettyRpcClient"
    name = "hbase.rpc.client.impl"
    with connect(where, patience=60) as found:
        assert found.configuration.get(name) == "org.apache.hadoop.hbase.ipc.BlockingRpcClient"
        assert found.admin.tables() is not None
    with connect({**where, name: netty}, patience=60) as found:
        assert found.configuration.get(name) == netty
        assert found.admin.tables() is not None
    site = tmp_path / "hbase-site.xml"
    site.write_text(xml({**{key: str(value) for key, value in where.items()}, name: netty}))
    with connect(site, patience=60) as found:
        assert found.configuration.get(name) == netty
    with connect({**where, "hbase.client.netty.tls.enabled": True}, patience=60) as found:
        assert found.configuration.get(name) is None


COUNT = """
import sys
from kirsch.hbase import connect
table = connect({quorum!r}, patience=60).table({table!r})
print("ready", flush=True)
try:
    for number, row in enumerate(table.scan()):
        if number == 1000:
            print("scanning", flush=True)
    print("done", flush=True)
except KeyboardInterrupt:
    print("interrupted", number, flush=True)
print(table.get(row.key) is not None)
"""

PEAK = """
import resource
from kirsch.hbase import connect
table = connect({quorum!r}, patience=60, options=["-Xmx128m"]).table({table!r})
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
count, first = 0, 0
for row in table.scan():
    count += 1
    if count == 300_000:
        first = peak()
print(count, peak() - first)
"""


@pytest.fixture(scope="module")
def million(connection):
    """A table of a million rows."""
    connection.admin.create("million", "cf", splits=[b"%07d" % n for n in (250_000, 500_000, 750_000)])
    connection.table("million").put_many((b"%07d" % n, {"cf:a": b"v"}) for n in range(1_000_000))
    return "million"


@pytest.mark.soak
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_control_c_ends_a_scan_at_once(hbase, million):
    code = COUNT.format(quorum=hbase.quorum, table=million)
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    assert process.stdout.readline() == "scanning\n"
    begun = time.monotonic()
    process.send_signal(2)
    line = process.stdout.readline()
    seconds = time.monotonic() - begun
    assert line.startswith("interrupted"), line + process.stderr.read()
    assert int(line.split()[1]) < 999_999
    # The connection is as good as before.
    assert process.stdout.readline() == "True\n"
    assert process.wait(60) == 0, process.stderr.read()
    print(f"Ctrl-C was answered after {seconds * 1000:.0f} ms")


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_memory_does_not_grow_with_the_table(hbase, million):
    code = PEAK.format(quorum=hbase.quorum, table=million)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=400, check=True
    )
    count, grown = map(int, done.stdout.split())
    assert count == 1_000_000
    assert grown < 64, f"{grown} MB more after all rows than after 300,000"


def test_control_c_ends_a_call_that_waits(hbase, connection):
    """For a server that has stopped to answer: the call would go on for a minute."""
    code = (
        "import os, signal, threading, time\n"
        "from kirsch.hbase import connect, java\n"
        f"c = connect({hbase.quorum!r}, patience=60)\n"
        "threading.Timer(1, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
        "begun = time.monotonic()\n"
        "try:\n"
        "    c.call(java('java.lang.Thread').sleep, 60000)\n"
        "except KeyboardInterrupt:\n"
        "    print(f'{time.monotonic() - begun:.2f}')\n"
        "print(c.admin.exists('nope'))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    seconds, exists = done.stdout.split()
    assert 1 <= float(seconds) < 30
    assert exists == "False"
    assert done.stderr == ""


def test_java_waits_for_no_thread_that_is_gone(hbase):
    """Java's main thread is the one that starts it: here, as in the shell, one that ends early."""
    code = (
        "import threading\n"
        "from kirsch.hbase import jvm\n"
        "starter = threading.Thread(target=jvm.start)\n"
        "starter.start()\n"
        "starter.join()\n"
        "threads = jvm.cls('java.lang.Thread').getAllStackTraces().keySet()\n"
        "print([str(thread.getName()) for thread in threads if not thread.isDaemon()])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


FORK = """
import gc, os
from kirsch.hbase import HBaseError, connect
from kirsch.hbase.jvm import hbase
connection = connect({quorum!r}, patience=60)
table = connection.table("hbase:meta")
assert table.count()
# Java's code may wait for a thread that the child does not have, so nothing of it is to run there.
made, again = lambda: hbase("filter.FilterList"), lambda: connect({quorum!r})
child = os.fork()
if not child and any(each.__module__ == "_jpype" for each in gc.callbacks):
    print("Python's garbage collector calls Java's, which would be waited for", flush=True)
for attempt in (table.count, lambda: table.get(b"r"), lambda: connection.admin, again, made):
    try:
        attempt()
        print("answered", flush=True)
    except HBaseError as error:
        print(type(error).__name__, error, flush=True)
    if child:
        status = os.waitpid(child, 0)[1]
        print("child", status, table.count() > 0, flush=True)
        break
"""


def test_a_forked_process_is_refused(hbase, connection):
    done = subprocess.run(
        [sys.executable, "-c", FORK.format(quorum=hbase.quorum)], capture_output=True, text=True, timeout=200
    )
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    refused = [
        line for line in lines if line.startswith("OtherJVM this process was forked from one that runs Java")
    ]
    assert len(refused) == 5
    assert set(lines) - set(refused) == {"answered", "child 0 True"}
