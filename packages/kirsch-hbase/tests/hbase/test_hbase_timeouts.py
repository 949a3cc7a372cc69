"""The timeout of a connection bounds every operation, whatever has happened to the server."""

import time

import pytest
from tests.deadline import eventually
from tests.hbase.standalone import Standalone

from kirsch.hbase import HBaseError, Unavailable, connect

pytestmark = [pytest.mark.services, pytest.mark.timeout(400)]
TIMEOUT = 4.0


@pytest.fixture
def own(tmp_path, client):
    """A server that the test kills."""
    server = Standalone(tmp_path).start()
    yield server
    server.kill()


def answered(operation):
    try:
        return operation()
    except Unavailable:
        return None


def test_every_operation_ends_in_time_after_the_server_was_killed(own):
    with connect(own.quorum, patience=60) as preparing:
        preparing.admin.create("t", "cf", splits=[b"m"])
        table = preparing.table("t")
        table.put_many((b"%05d" % number, {"cf:a": bytes(1000)}) for number in range(3000))
    connection = connect(own.quorum, timeout=TIMEOUT, patience=60)
    table, admin = connection.table("t"), connection.admin
    # A busy machine may be slower than the timeout at first.
    eventually(lambda: answered(lambda: table[b"00000"]), 120)
    scan = table.scan()
    next(scan)
    mutator = table.mutator()
    mutator.put(b"new", {"cf:a": b"1"})
    own.kill()
    operations = {
        "get": lambda: table.get(b"00000"),
        "get again": lambda: table.get(b"00001"),
        "get of a region that is not known": lambda: table.get(b"z"),
        "get_many": lambda: table.get_many([b"00000", b"z"]),
        "exists": lambda: table.exists(b"z"),
        "put": lambda: table.put(b"z", {"cf:a": b"1"}),
        "increment": lambda: table.increment(b"z", "cf:n"),
        "check_and_mutate": lambda: table.check_and_mutate(b"z", "cf:a", put={"cf:a": b"1"}),
        "flush of a mutator": mutator.flush,
        "the rest of a scan": lambda: list(scan),
        "a new scan": lambda: list(table.scan()),
        "locate": lambda: admin.regions.of("t", b"z"),
        "regions": lambda: admin.regions.list("t"),
        "tables": admin.tables,
        "create": lambda: admin.create("u", "cf"),
        "status": admin.cluster.status,
    }
    took = {}
    for name, operation in operations.items():
        begun = time.monotonic()
        with pytest.raises(HBaseError) as raised:
            operation()
        took[name] = time.monotonic() - begun
        assert isinstance(raised.value, Unavailable), f"{name}: {raised.value!r}"
    begun = time.monotonic()
    connection.close()
    took["close"] = time.monotonic() - begun
    print({name: round(seconds, 2) for name, seconds in took.items()})
    # It is within a second where the machine has nothing else to do.
    assert {name: seconds for name, seconds in took.items() if seconds > TIMEOUT + 2} == {}


def test_a_wrong_znode_is_told(hbase, client):
    with pytest.raises(Unavailable, match="has no znode /elsewhere: check the quorum's /node"):
        connect(f"{hbase.quorum}/elsewhere", timeout=2, patience=1)
