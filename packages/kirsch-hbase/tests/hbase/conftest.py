"""One HBase for all tests of a session, and a connection to it: the JVM starts once a process."""

import sys
import uuid

import pytest
from tests.deadline import eventually
from tests.hbase.standalone import Standalone

from kirsch.hbase import Connection, Table, connect, jars


@pytest.fixture(scope="session")
def hbase(tmp_path_factory):
    """A server that has all features switched on."""
    server = Standalone(tmp_path_factory.mktemp("hbase")).start()
    yield server
    server.kill()


@pytest.fixture(scope="session")
def connection(hbase: Standalone):
    jars.fetch(jars.client(), lambda line: print(line, file=sys.stderr))
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
