"""One connection and one table for many threads at once."""

import threading
from concurrent.futures import ThreadPoolExecutor

import jpype
import pytest

from kirsch.hbase import java

pytestmark = pytest.mark.services


def test_eight_threads_at_once(table):
    def work(number: int) -> int:
        for index in range(25):
            key = b"%d-%03d" % (number, index)
            table[key] = {"cf:a": key}
            assert table[key]["cf:a"] == key
            table.increment(b"counter", "cf:n")
        return sum(1 for row in table.scan(prefix=b"%d-" % number) if row["cf:a"] == row.key)

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(work, range(8))) == [25] * 8
    assert table.counter(b"counter", "cf:n") == 200
    assert table.count() == 201


def test_scans_side_by_side_and_left_half_way(table):
    table.put_many((b"%05d" % number, {"cf:a": b"x" * 100}) for number in range(5000))
    scans = [iter(table.scan()) for _ in range(4)]
    for number in range(3000):
        assert [next(scan).key for scan in scans] == [b"%05d" % number] * 4
    for scan in scans:
        scan.close()
    with table.scan(b"01000") as scanner:
        assert next(scanner).key == b"01000"
    assert list(scanner) == []


def test_a_call_that_waits_for_the_lock_of_a_thread_that_was_given_up(connection):
    """No interrupt ends that wait; HBase's client makes it behind a lookup that nobody waits for any more."""
    guarded, ended, held = java("java.lang.StringBuffer")("abc"), [], threading.Event()

    def hold():
        with jpype.synchronized(guarded):
            held.set()
            try:
                java("java.lang.Thread").sleep(600_000)
            except java("java.lang.InterruptedException"):
                ended.append("interrupted")

    holder = threading.Thread(target=hold, daemon=True)
    holder.start()
    held.wait()
    assert connection.call(guarded.length, timeout=0.2) == 3
    holder.join()
    assert ended == ["interrupted"]
    # The thread's next call is not interrupted.
    connection.call(java("java.lang.Thread").sleep, 1)
