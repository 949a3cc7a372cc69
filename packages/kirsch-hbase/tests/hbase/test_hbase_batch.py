"""Writes and reads of many rows, and those that are conditional."""

import pytest

from kirsch.hbase import Closed, Invalid, NotFound, connect

pytestmark = pytest.mark.services


def test_batch(table):
    table[b"old"] = {"cf:a": b"1"}
    with table.batch() as batch:
        for number in range(3000):
            batch.put(b"%04d" % number, {"cf:a": b"%d" % number})
        batch.delete(b"old")
        assert len(batch) == 3001
        assert table.count() == 1
    assert table.count() == 3000


def test_a_batch_that_fails_before_its_end_sends_nothing(table):
    def fail():
        with table.batch() as batch:
            batch.put(b"row", {"cf:a": b"1"})
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert b"row" not in table


def test_rows_that_cannot_be_written_are_named_and_the_others_written(table):
    batch = table.batch()
    batch.put(b"good", {"cf:a": b"1"})
    batch.put(b"bad", {"nope:a": b"1"})
    with pytest.raises(NotFound, match="there is no family nope") as raised:
        batch.send()
    assert [key for key, _ in raised.value.failures] == [b"bad"]
    assert b"good" in table


def test_all_rows_are_named_where_the_whole_is_refused(connection, table):
    with connection.table(f"{table.name}x").batch() as batch:
        batch.put(b"a", {"cf:a": b"1"})
        batch.delete(b"b" * 200)
        with pytest.raises(NotFound, match="there is no table") as raised:
            batch.send()
        assert [key for key, _ in raised.value.failures] == [b"a", b"b" * 200]
        assert all(isinstance(reason, NotFound) for _, reason in raised.value.failures)


def test_all_rows_are_named_after_the_end_of_the_connection(hbase, table):
    with connect(hbase.quorum, patience=60) as other:
        batch = other.table(table.name).batch()
        batch.put(b"a", {"cf:a": b"1"})
    with pytest.raises(Closed) as raised:
        batch.send()
    assert [key for key, _ in raised.value.failures] == [b"a"]


def test_mutator(table):
    assert table.put_many((b"%05d" % n, {"cf:a": b"%d" % n, "many:b": b""}) for n in range(10_000)) == 10_000
    assert [row["cf:a"] for row in table.scan(b"00998", b"01002")] == [b"998", b"999", b"1000", b"1001"]
    with table.mutator() as mutator:
        for number in range(0, 10_000, 2):
            mutator.delete(b"%05d" % number)
        mutator.flush()
        assert table.count() == 5000
    with pytest.raises(Closed):
        mutator.put(b"row", {"cf:a": b""})


def test_mutator_tells_of_rows_that_were_not_written(table):
    mutator = table.mutator()
    mutator.put(b"bad", {"nope:a": b""})
    mutator.put(b"good", {"cf:a": b""})
    with pytest.raises(NotFound) as raised:
        mutator.close()
    assert [key for key, _ in raised.value.failures] == [b"bad"]


def test_mutator_writes_the_others_where_one_is_too_large(table):
    mutator = table.mutator()
    for number in range(10):
        mutator.put(b"%d" % number, {"cf:a": b""})
    mutator.put(b"large", {"cf:a": bytes(11 << 20)})
    with pytest.raises(Invalid, match="too large") as raised:
        mutator.close()
    assert [key for key, _ in raised.value.failures] == [b"large"]
    assert table.count() == 10


def test_mutator_loses_nothing_after_a_failure(table):
    failed = []
    # Java sends each block at once: the first one's failure is told while the second is full.
    with table.mutator(buffer=1) as mutator:
        mutator.put(b"bad", {"nope:a": b""})
        for number in range(5000):
            try:
                mutator.put(b"%04d" % number, {"cf:a": b""})
            except NotFound as error:
                failed += [key for key, _ in error.failures]
    assert failed == [b"bad"]
    assert table.count() == 5000


def test_get_many(table):
    table.put_many({b"a": {"cf:x": b"1", "cf:y": b"2"}, b"b": {"cf:x": b"3"}})
    rows = table.get_many([b"b", b"none", b"a", b"a"], columns=["cf:x"])
    assert [row and dict(row) for row in rows] == [{b"cf:x": b"3"}, None, {b"cf:x": b"1"}, {b"cf:x": b"1"}]
    assert len(table.get_many([b"%d" % n for n in range(1200)])) == 1200
    with pytest.raises(Invalid, match="not filter="):
        table.get_many([b"a"], filter="PageFilter(1)")
    with pytest.raises(Invalid, match="versions=4294967296"):
        table.get_many([b"a"], versions=1 << 32)


def test_pages(table):
    table.put_many((b"%02d" % n, {"cf:a": b""}) for n in range(10))
    page, seen = table.page(4), []
    while True:
        seen.append([row.key for row in page.rows])
        if page.after is None:
            break
        page = table.page(4, after=page.after)
    assert [len(keys) for keys in seen] == [4, 4, 2]
    assert [key for keys in seen for key in keys] == [b"%02d" % n for n in range(10)]


@pytest.mark.parametrize(
    ("operator", "value", "true"),
    [
        ("=", b"5", True), ("=", b"6", False), ("!=", b"6", True), ("<", b"6", True), ("<", b"5", False),
        ("<=", b"5", True), (">", b"4", True), (">", b"5", False), (">=", b"5", True), (">=", b"6", False),
    ],
)  # fmt: skip
def test_check_and_mutate_compares(table, operator, value, true):
    table[b"row"] = {"cf:n": b"5"}
    assert table.check_and_mutate(b"row", "cf:n", operator, value, put={"cf:a": b"x"}) is true
    assert (b"cf:a" in table[b"row"]) is true


def test_check_and_mutate(table):
    assert table.check_and_mutate(b"row", "cf:lock", put={"cf:lock": b"me"})
    assert not table.check_and_mutate(b"row", "cf:lock", put={"cf:lock": b"you"})
    mine = "ValueFilter(=, 'binary:me')"
    assert table.check_and_mutate(b"row", filter=mine, put={"cf:a": b""}, delete="cf:lock")
    assert dict(table[b"row"]) == {b"cf:a": b""}
    with pytest.raises(Invalid, match="nothing to do"):
        table.check_and_mutate(b"row", "cf:lock")
    with pytest.raises(Invalid, match="'~' does not compare"):
        table.check_and_mutate(b"row", "cf:a", "~", b"", put={"cf:a": b""})


def test_mutate_puts_and_deletes_at_once(table):
    table[b"row"] = {"cf:a": b"1"}
    table.mutate(b"row", put={"cf:b": b"2"}, delete=["cf:a"])
    assert dict(table[b"row"]) == {b"cf:b": b"2"}


def test_time_to_live(table, eventually_gone):
    table.put(b"row", {"cf:a": b"1"}, ttl=0.5)
    eventually_gone(table, b"row")
    with pytest.raises(Invalid, match="ttl=0"):
        table.put(b"row", {"cf:a": b"1"}, ttl=0)
