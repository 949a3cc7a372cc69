"""A server that is killed while it is used, and started again; one that controls access."""

import os
import signal
import threading
from pathlib import Path

import pytest
from tests.deadline import eventually
from tests.hbase.standalone import Standalone

from kirsch.hbase import Closed, Denied, HBaseError, NotFound, Unavailable, connect
from kirsch.hbase.permission import Permission

pytestmark = [pytest.mark.services, pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory, connection):
    """A server with access control and labels, that tests kill. `connection` has started the JVM."""
    server = Standalone(tmp_path_factory.mktemp("guarded"), "--access", "--labels").start()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def admin(guarded):
    with connect(guarded.quorum, user="admin", timeout=90, patience=60) as connection:
        yield connection


def allowed(operation) -> bool:
    try:
        operation()
    except Denied:
        return False
    return True


def test_two_users_may_do_what_they_were_granted(guarded, admin):
    admin.admin.create("acl", "cf", "secret")
    table = admin.table("acl")
    table[b"row"] = {"cf:a": b"1", "secret:b": b"2"}
    permissions = admin.admin.permissions
    with (
        connect(guarded.quorum, user="bob", patience=60) as bob,
        connect(guarded.quorum, user="eve", patience=60) as eve,
    ):
        for user in (bob, eve):
            with pytest.raises(Denied, match="not permitted"):
                user.table("acl").get(b"row")
            with pytest.raises(Denied, match="not permitted"):
                user.admin.create("mine", "cf")
        permissions.grant(Permission("bob", "RW", table="acl"))
        permissions.grant(Permission("eve", "R", table="acl", family="cf"))
        # Region servers hear of it by ZooKeeper, a moment later.
        eventually(lambda: allowed(lambda: bob.table("acl").put(b"row", {"secret:b": b"3"})))
        eventually(lambda: allowed(lambda: eve.table("acl").get(b"row")))
        assert dict(bob.table("acl")[b"row"]) == {b"cf:a": b"1", b"secret:b": b"3"}
        assert dict(eve.table("acl")[b"row"]) == {b"cf:a": b"1"}
        with pytest.raises(Denied):
            eve.table("acl").put(b"row", {"cf:a": b"x"})
        with pytest.raises(Denied):
            eve.table("acl").get(b"row", columns=["secret"])
        with pytest.raises(Denied):
            bob.admin.disable("acl")
        found = permissions.list(table="acl")
        assert Permission("bob", "RW", table="acl") in found
        assert Permission("eve", "R", table="acl", family="cf") in found
        permissions.revoke(Permission("bob", "RW", table="acl"))
        eventually(lambda: not allowed(lambda: bob.table("acl").get(b"row")))
    assert "AUTHORIZATION" in admin.admin.cluster.capabilities()


def test_control_c_in_a_mutator_waits_for_nothing(guarded, admin):
    """Not for a server that does not answer, either."""

    def interrupted(mutator):
        with mutator:
            for number in range(5000):
                mutator.put(b"%d" % number, {"cf:a": b"within"})
            raise KeyboardInterrupt

    admin.admin.create("waiting", "cf")
    table = admin.table("waiting")
    java = guarded.java()
    table[b"row"] = {"cf:a": b"before"}
    mutator = table.mutator()
    goes_on = threading.Timer(20, os.kill, (java, signal.SIGCONT))
    os.kill(java, signal.SIGSTOP)
    goes_on.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            interrupted(mutator)
        assert Path(f"/proc/{java}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    finally:
        goes_on.cancel()
        os.kill(java, signal.SIGCONT)
    with pytest.raises(Closed):
        mutator.put(b"row", {"cf:a": b"behind"})
    # The connection is as good as it was.
    table[b"other"] = {"cf:a": b"after"}
    assert {b"row", b"other"} <= set(table)


def test_a_scan_goes_on_when_the_server_comes_back(guarded, admin):
    admin.admin.create("scanned", "cf")
    table = admin.table("scanned")
    table.put_many((b"%06d" % number, {"cf:a": b"x" * 500}) for number in range(20_000))
    keys = []
    restarted = None
    for row in table.scan():
        keys.append(row.key)
        if len(keys) == 500:
            guarded.kill()
            restarted = threading.Thread(target=guarded.start)
            restarted.start()
    restarted.join()
    assert keys == [b"%06d" % number for number in range(20_000)]


def test_a_batch_loses_and_doubles_nothing(guarded, admin):
    admin.admin.create("batched", {"name": "cf", "versions": 10})
    table = admin.table("batched")
    restarted = None
    with table.mutator() as mutator:
        for number in range(20_000):
            # A time of our own makes a put that is sent twice the same cell.
            mutator.put(b"%06d" % number, {"cf:a": b"%d" % number}, timestamp=1)
            if number == 10_000:
                guarded.kill()
                restarted = threading.Thread(target=guarded.start)
                restarted.start()
    restarted.join()
    cells = [(cell.row, cell.value) for row in table.scan(versions=None) for cell in row.cells]
    assert cells == [(b"%06d" % number, b"%d" % number) for number in range(20_000)]


def test_a_server_that_stays_away_is_told(guarded, admin):
    admin.admin.create("away", "cf")
    with connect(guarded.quorum, user="admin", timeout=3, patience=60) as hurried:
        table = hurried.table("away")
        table[b"row"] = {"cf:a": b"1"}
        guarded.kill()
        with pytest.raises(HBaseError) as raised:
            table.get(b"row")
        assert isinstance(raised.value, Unavailable), raised.value
        assert "\n" not in str(raised.value)
        with pytest.raises(
            Unavailable, match=r"no ZooKeeper answers: 127\.0\.0\.1:\d+ refused the connection"
        ):
            connect(guarded.quorum)
        guarded.start()
        # The same connection goes on.
        eventually(lambda: back(table), 90, "the table")


def back(table) -> bool:
    try:
        return table[b"row"]["cf:a"] == b"1"
    except (HBaseError, NotFound):
        return False


def test_it_stops_cleanly_and_keeps_its_data(guarded, admin):
    admin.admin.create("kept", "cf")
    admin.table("kept")[b"row"] = {"cf:a": b"1"}
    assert guarded.stop() == 0
    guarded.start()
    eventually(lambda: kept(admin), 90, "the row")


def kept(admin) -> bool:
    try:
        return admin.table("kept")[b"row"]["cf:a"] == b"1"
    except HBaseError:
        return False
