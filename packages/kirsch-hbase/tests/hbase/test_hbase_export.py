"""Scans as Arrow's tables and pandas' frames."""

from datetime import datetime

import pytest

from kirsch.hbase import DOUBLE, LONG, UTF8, composite

pytest.importorskip("pyarrow", reason="kirsch-hbase[frames] is not installed")
pytestmark = pytest.mark.services


@pytest.fixture
def typed(connection, table):
    table = connection.table(table.name, key=UTF8, value={"cf:n": LONG, "cf:x": DOUBLE, "": UTF8})
    table["a"] = {"cf:n": 1, "cf:x": 0.5, "many:t": "Grüße"}
    table["b"] = {"cf:n": -2}
    return table


def test_pandas(typed):
    frame = typed.scan().pandas()
    assert list(frame.index) == ["a", "b"]
    assert list(frame.columns) == ["cf:n", "cf:x", "many:t"]
    assert list(frame["cf:n"]) == [1, -2]
    assert frame["many:t"]["a"] == "Grüße"
    assert typed.scan(prefix="none").pandas().empty


def test_pandas_back(connection, typed, name):
    """What a scan gave is put into another table, whole numbers with missing ones too."""
    typed["c"] = {"many:t": "no numbers"}
    frame = typed.scan().pandas()
    assert frame["cf:n"].dtype == "float64"
    name = f"{name}back"
    connection.admin.create(name, "cf", "many")
    other = connection.table(name, key=UTF8, value={"cf:n": LONG, "cf:x": DOUBLE, "": UTF8})
    assert other.put_many(frame) == 3
    assert other.scan().pandas().equals(frame)
    assert {row.key: dict(row) for row in other.scan()} == {row.key: dict(row) for row in typed.scan()}
    frame["many:new"] = None
    frame.loc["d"] = [None] * 4
    assert other.put_many(frame) == 3


def test_arrow_in_columns(typed):
    found = typed.scan().arrow(wide=True)
    assert {name: str(found.schema.field(name).type) for name in found.column_names} == {
        "row": "string",
        "cf:n": "int64",
        "cf:x": "double",
        "many:t": "string",
    }
    assert found.to_pylist() == [
        {"row": "a", "cf:n": 1, "cf:x": 0.5, "many:t": "Grüße"},
        {"row": "b", "cf:n": -2, "cf:x": None, "many:t": None},
    ]


def test_arrow_by_cells(table):
    table.put(b"a", {"cf:n": b"\xff", "many:t": b""}, timestamp=5)
    assert table.scan().arrow().to_pylist() == [
        {
            "row": b"a",
            "family": family,
            "qualifier": qualifier,
            "timestamp": datetime(1970, 1, 1, 0, 0, 0, 5000),
            "value": value,
        }
        for family, qualifier, value in ((b"cf", b"n", b"\xff"), (b"many", b"t", b""))
    ]
    assert table.scan(prefix=b"none").arrow().num_rows == 0


def test_arrow_in_batches(table):
    table.put_many((b"%05d" % n, {"cf:a": b"x" * 100}) for n in range(20_000))
    sizes = [batch.num_rows for batch in table.scan().arrow_batches()]
    assert sum(sizes) == 20_000
    assert len(sizes) > 3


def test_pandas_with_keys_of_several_parts(connection, table):
    parts = connection.table(table.name, key=composite(UTF8, LONG), value=LONG)
    parts["a", 1] = {"cf:n": 1}
    parts["a", 2] = {"cf:n": 2}
    frame = parts.scan(prefix=("a",)).pandas()
    assert list(frame.index) == [("a", 1), ("a", 2)]
    frame["cf:n"] *= 10
    assert parts.put_many(frame) == 2
    assert [row["cf:n"] for row in parts.scan()] == [10, 20]
