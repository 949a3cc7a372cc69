"""A table as a mapping of rows."""

import pytest

from kirsch.hbase import JSON, LONG, UTF8, CodecError, Disabled, Invalid, NotFound, composite

pytestmark = pytest.mark.services


def test_a_row_is_put_got_and_deleted(table):
    table[b"row"] = {"cf:a": b"1", "cf:b": b""}
    assert dict(table[b"row"]) == {b"cf:a": b"1", b"cf:b": b""}
    assert b"row" in table
    assert list(table) == [b"row"]
    del table[b"row"]
    assert b"row" not in table
    assert table.get(b"row") is None
    with pytest.raises(KeyError):
        table[b"row"]


def test_put_leaves_other_columns(table):
    table.put(b"row", {"cf:a": b"1"})
    table.put(b"row", {"cf:b": b"2"})
    assert dict(table[b"row"]) == {b"cf:a": b"1", b"cf:b": b"2"}
    table.delete(b"row", ["cf:a"])
    assert dict(table[b"row"]) == {b"cf:b": b"2"}


def test_versions(table):
    for stamp in (10, 20, 30):
        table.put(b"row", {"many:a": b"%d" % stamp}, timestamp=stamp)
    row = table.get(b"row", versions=None)
    assert [(cell.timestamp, cell.value) for cell in row.versions("many:a")] == [
        (30, b"30"),
        (20, b"20"),
        (10, b"10"),
    ]
    assert row["many:a"] == b"30"
    assert table.get(b"row", time_range=(10, 21))["many:a"] == b"20"
    assert table.get(b"row", timestamp=10)["many:a"] == b"10"
    for query in (
        {"time_range": (10, 30), "versions": 5}, {"timestamp": 20}, {"columns": "many:a"}, {"columns": "cf"},
        {"columns": ["many", "cf:x"], "versions": 2}, {"time_range": (10, 10)},
    ):  # fmt: skip
        # With a filter that lets all through it is Java that is asked by its Get.
        assert table.get(b"row", **query) == table.get(b"row", **query, filter="PrefixFilter('row')")
    table.delete(b"row", ["many:a"], timestamp=20, all_versions=False)
    assert [cell.timestamp for cell in table.get(b"row", versions=None).cells] == [30, 10]
    table.delete(b"row", ["many:a"], timestamp=25)
    assert [cell.timestamp for cell in table.get(b"row", versions=None).cells] == [30]


def test_codecs(connection, table):
    typed = connection.table(table.name, key=UTF8, value={"cf:n": LONG, "cf": JSON, "": UTF8})
    typed["ключ"] = {"cf:n": -5, "cf:doc": {"a": [1, None]}, "many:text": "Grüße"}
    row = typed["ключ"]
    assert row.key == "ключ"
    assert dict(row) == {b"cf:n": -5, b"cf:doc": {"a": [1, None]}, b"many:text": "Grüße"}
    assert table["ключ".encode()]["cf:n"] == (-5).to_bytes(8, "big", signed=True)
    with pytest.raises(CodecError, match="it does not fit in 8 bytes"):
        typed["x"] = {"cf:n": 1 << 70}
    with pytest.raises(CodecError, match="must be bytes"):
        table[b"x"] = {"cf:a": "text"}


def test_scan(table):
    for number in range(20):
        table[b"row%02d" % number] = {"cf:a": b"%d" % number}
    keys = [b"row%02d" % number for number in range(20)]

    def scanned(*arguments, **scan):
        return [row.key for row in table.scan(*arguments, **scan)]

    assert scanned() == keys
    assert scanned(b"row05", b"row08") == keys[5:8]
    assert scanned(after=b"row05", limit=2) == keys[6:8]
    assert scanned(prefix=b"row1") == keys[10:]
    assert scanned(prefix=b"row1", reverse=True) == keys[:9:-1]
    assert scanned(b"row05", b"row02", reverse=True) == keys[5:2:-1]
    assert scanned(limit=0) == []
    assert scanned(filter="PrefixFilter('row0') AND ValueFilter(=, 'binary:7')") == [b"row07"]
    assert scanned(columns=["many"]) == []
    # More than Java has numbers for.
    assert scanned(limit=1 << 31) == scanned(limit=1 << 70) == keys
    assert table.count(limit=1 << 31) == 20
    assert [row.key for row in table.page(1 << 31).rows] == keys
    for bad in (-1, 2.5, "5"):
        with pytest.raises(Invalid, match=f"limit={bad!r}: it is a whole number, 0 or more"):
            scanned(limit=bad)


def test_keys_of_parts(connection, table):
    points = connection.table(table.name, key=composite(UTF8, UTF8, LONG), value=LONG)
    points.put_many(
        ((metric, host, at), {"cf:": at})
        for metric in ("cpu", "cpus")
        for host in ("a", "b")
        for at in range(3)
    )
    assert [row.key for row in points.scan(prefix=("cpu",))] == [
        ("cpu", host, at) for host in ("a", "b") for at in range(3)
    ]
    assert [row.key for row in points.scan(prefix=("cpu", "b"), reverse=True, limit=2)] == [
        ("cpu", "b", 2), ("cpu", "b", 1),
    ]  # fmt: skip
    assert points.count(start=("cpu", "a", 1), stop=("cpu", "b", 0)) == 2
    assert points["cpus", "a", 2]["cf:"] == 2
    assert points.count(prefix=("cp",)) == 0


def test_what_has_no_parameter_is_set_on_javas_own(table):
    table[b"row"] = {"cf:a": b"1"}
    kinds = []
    assert table.get(b"row", java=lambda get: kinds.append(str(get.getClass().getSimpleName()))) is not None
    assert [row.key for row in table.scan(java=lambda scan: scan.withStopRow(b"row", True))] == [b"row"]
    assert kinds == ["Get"]


def test_what_is_not_there(connection, table):
    with pytest.raises(NotFound, match=r"^there is no table nope$"):
        connection.table("nope").get(b"row")
    with pytest.raises(NotFound, match=f"^there is no family nope in table {table.name}$"):
        table.put(b"row", {"nope:a": b""})
    with pytest.raises(NotFound, match=f"^there is no family nope in table {table.name}$"):
        list(table.scan(columns=["nope:a"]))
    with pytest.raises(Invalid, match="a row's key has 1 to 32767 bytes"):
        table[b""] = {"cf:a": b""}


def test_what_is_asked_for_by_other_names(table):
    """As who comes from another client may have it."""
    for ask, words in (
        (lambda: table.scan(row_prefix=b"r"), "scan has no row_prefix=: do you mean prefix="),
        (lambda: table.get(b"r", ts=1), "get has no ts=: there are columns, versions, time_range,"),
        (lambda: table.exists(b"r", colums=["cf"]), "exists has no colums=: do you mean columns="),
        (lambda: table.page(3, sorted_columns=True), "scan has no sorted_columns=: do you mean columns="),
    ):
        with pytest.raises(Invalid) as caught:
            ask()
        assert str(caught.value).startswith(words)
    with pytest.raises(Invalid, match=r"a put's values are {'family:qualifier': value}, not \[\('cf:a'"):
        table[b"row"] = [("cf:a", b"1")]


def test_a_disabled_table_is_told_at_once(connection, table):
    table[b"row"] = {"cf:a": b"1"}
    connection.admin.disable(table.name)
    for write in (lambda: table.put(b"row", {"cf:a": b"2"}), lambda: table.delete(b"row")):
        with pytest.raises(Disabled, match=f"table {table.name} is disabled: enable it first") as caught:
            write()
        assert [key for key, _ in caught.value.failures] == [b"row"]


def test_counters(table):
    assert table.increment(b"row", "cf:n") == 1
    assert table.increment(b"row", {"cf:n": 4, "cf:m": -2}) == {b"cf:n": 5, b"cf:m": -2}
    assert table.counter(b"row", "cf:n") == 5
    assert table.counter(b"row", "cf:none") == 0


def test_append(table):
    table[b"row"] = {"cf:a": b"1"}
    assert table.append(b"row", {"cf:a": b"2"})["cf:a"] == b"12"
