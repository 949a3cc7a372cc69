"""One HBase for all tests of a run, and a connection to it: the JVM starts once a process.

Tests that need the server are `slow`: `make test` starts no Java.
"""

import os
import sys
import uuid

import pytest
from tests.deadline import eventually
from tests.hbase.standalone import Shared

from kirsch.hbase import Connection, Table, connect, jars


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
    """Fetch the client's jars."""
    jars.fetch(jars.client(), lambda line: print(line, file=sys.stderr))


@pytest.fixture(scope="session")
def connection(hbase: Shared, client: None):
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
