"""A server that stops to answer, or is killed while it is used, and started again."""

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.deadline import eventually
from tests.hbase.standalone import Standalone

from kirsch.hbase import Closed, HBaseError, Unavailable, connect

pytestmark = [pytest.mark.services, pytest.mark.soak, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory, connection):
    """A server that tests kill. `connection` has started the JVM."""
    server = Standalone(tmp_path_factory.mktemp("guarded"), "--access", "--labels").start()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def admin(guarded):
    with connect(guarded.quorum, user="admin", timeout=90, patience=60) as connection:
        yield connection


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


class Lateness:
    """How late this process's threads are woken meanwhile, at worst; HBase has no part in it."""

    def __enter__(self) -> "Lateness":
        self.worst = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._measure)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _measure(self) -> None:
        begun = time.monotonic()
        while not self._over.wait(0.02):
            self.worst = max(self.worst, time.monotonic() - begun - 0.02)
            begun = time.monotonic()


def all_end_in_time(operations, timeout, rounds) -> None:
    """Run operations side by side, in rounds: each raises Unavailable within the timeout and a second.

    When a call is interrupted is decided in test_hbase_timeouts without a clock; what a busy machine adds is
    measured here, and allowed.
    """

    def run(operation):
        begun = time.monotonic()
        try:
            told = operation()
        except HBaseError as error:
            told = error
        return told, time.monotonic() - begun

    for number in range(rounds):
        with ThreadPoolExecutor(len(operations)) as threads, Lateness() as lateness:
            found = dict(zip(operations, threads.map(run, operations.values()), strict=True))
        print(
            f"round {number}, late by {lateness.worst:.3f} s:",
            {n: round(s, 2) for n, (_, s) in found.items()},
        )
        assert {n: told for n, (told, _) in found.items() if not isinstance(told, Unavailable)} == {}
        bound = timeout + 1 + 5 * lateness.worst
        assert {n: seconds for n, (_, seconds) in found.items() if seconds > bound} == {}


def operations_of(connection, new: str) -> dict:
    table, admin = connection.table("away"), connection.admin
    return {
        "get": lambda: table.get(b"00000"),
        "get of a region that is not known": lambda: table.get(b"z"),
        "get_many": lambda: table.get_many([b"00000", b"z"]),
        "exists": lambda: table.exists(b"z"),
        "put": lambda: table.put(b"z", {"cf:a": b"1"}),
        "increment": lambda: table.increment(b"z", "cf:n"),
        "check_and_mutate": lambda: table.check_and_mutate(b"z", "cf:a", put={"cf:a": b"1"}),
        "a new scan": lambda: list(table.scan()),
        "locate": lambda: admin.regions.of("away", b"z"),
        "regions": lambda: admin.regions.list("away"),
        "tables": admin.tables,
        "create": lambda: admin.create(new, "cf"),
        "status": admin.cluster.status,
    }


def test_every_operation_ends_in_time_while_the_server_is_away(guarded, admin):
    """It has stopped to answer; then it is killed: a second operation ends as the first. When it is back the
    same connection goes on."""
    timeout = 3.0
    admin.admin.create("away", "cf", splits=[b"m"])
    admin.table("away").put_many((b"%05d" % number, {"cf:a": bytes(1000)}) for number in range(3000))
    with connect(guarded.quorum, user="admin", timeout=timeout, patience=60) as hurried:
        table = hurried.table("away")
        # A busy machine may be slower than the timeout at first.
        eventually(lambda: back(table, b"00000"), 120, "the first row")
        java = guarded.java()
        os.kill(java, signal.SIGSTOP)
        try:
            all_end_in_time(operations_of(hurried, "new1"), timeout, rounds=1)
        finally:
            os.kill(java, signal.SIGCONT)
        eventually(lambda: back(table, b"00000"), 120, "the first row again")
        leaving = connect(guarded.quorum, user="admin", timeout=timeout, patience=60)
        scan = table.scan()
        next(scan)
        full, waiting = table.mutator(buffer=1000), table.mutator()
        waiting.put(b"new", {"cf:a": b"1"})
        guarded.kill()
        try:
            # It is on its way when it is flushed.
            full.put(b"new", {"cf:a": bytes(1 << 19)})
            once = {
                "flush of a mutator": waiting.flush,
                "close of a mutator that sends": full.close,
                "the rest of a scan": lambda: list(scan),
            }
            all_end_in_time({**operations_of(hurried, "new2"), **once}, timeout, rounds=1)
            all_end_in_time(operations_of(hurried, "new2"), timeout, rounds=1)
            with Lateness() as lateness:
                begun = time.monotonic()
                leaving.close()
                seconds = time.monotonic() - begun
            assert seconds <= timeout + 1 + 5 * lateness.worst
            with pytest.raises(Unavailable) as raised:
                table.get(b"row")
            assert "\n" not in str(raised.value)
            with pytest.raises(
                Unavailable, match=r"no ZooKeeper answers: 127\.0\.0\.1:\d+ refused the connection"
            ):
                connect(guarded.quorum)
        finally:
            # Others use it, too.
            guarded.start()
        eventually(lambda: back(table, b"00000"), 90, "the table")


def back(table, key: bytes) -> bool:
    try:
        return key in table
    except HBaseError:
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
