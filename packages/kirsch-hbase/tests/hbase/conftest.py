"""One HBase for all tests of a run, and a connection to it: the JVM starts once a process.

Tests that need the server are `slow`: `make test` starts no Java.
"""

import fcntl
import os
import sys
import uuid

import jpype
import pytest
from tests.deadline import eventually
from tests.hbase.standalone import Shared

from kirsch.hbase import Connection, Table, archive, connect, jars, jvm
from kirsch.hbase.shell import JAVA_OPTIONS


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    for item in items:
        if {"hbase", "client", "own"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def hbase(tmp_path_factory) -> Shared:
    """The server of the run: it has all features on, and two region servers. It is ours, so we may do all."""
    root = tmp_path_factory.getbasetemp()
    folder = (root.parent if "PYTEST_XDIST_WORKER" in os.environ else root) / "shared-hbase"
    folder.mkdir(exist_ok=True)
    return Shared(folder)


@pytest.fixture
def alone(hbase: Shared):
    """Keeps other processes of the run from changing the whole cluster, such as its switches."""
    with hbase.lock("alone"):
        yield


@pytest.fixture(scope="session")
def client() -> None:
    """Make what `kirsch hbase jars` makes: the client's jars, and the archive that has it start sooner."""

    def say(line: str) -> None:
        print(line, file=sys.stderr)

    found = jars.fetch(jars.client(), say)
    with (jars.cache_folder() / "archive.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        archive.make(found, say)


@pytest.fixture(scope="session")
def java(client: None) -> None:
    """Start this process's JVM with its first compiler only: the second takes half of what tests take."""
    if not jpype.isJVMStarted():
        jvm.start(options=JAVA_OPTIONS)


@pytest.fixture(scope="session")
def connection(hbase: Shared, java: None):
    with connect(hbase.quorum, patience=60) as connection:
        yield connection


@pytest.fixture
def name() -> str:
    """A table's that no other test has."""
    return f"t{uuid.uuid4().hex[:12]}"


@pytest.fixture
def table(connection: Connection, name: str) -> Table:
    """An empty table with the families `cf`, of one version, and `many`, of all."""
    connection.admin.create(name, "cf", {"name": "many", "versions": 1000})
    return connection.table(name)


@pytest.fixture
def eventually_gone():
    """Waits until a row is there no more."""

    def wait(table: Table, key: bytes) -> None:
        eventually(lambda: key not in table, what=f"the end of {key!r}")

    return wait
