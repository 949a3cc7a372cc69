"""Filters and conditions with any bytes: the rows they find are those of Java's own filter objects."""

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kirsch.hbase import DOUBLE, FLOAT, INT, JSON, LONG, SHORT, UTF8, Invalid, java
from kirsch.hbase.filters import quoted

pytestmark = pytest.mark.services
PACKAGE = "org.apache.hadoop.hbase"
OPERATORS = {
    "=": "EQUAL",
    "!=": "NOT_EQUAL",
    "<": "LESS",
    "<=": "LESS_OR_EQUAL",
    ">": "GREATER",
    ">=": "GREATER_OR_EQUAL",
}


@pytest.fixture(scope="module")
def filled(connection):
    """A table whose keys, qualifiers and values are bytes of all kinds."""
    name = "filters"
    if not connection.admin.exists(name):
        connection.admin.create(name, "cf")
    chance = random.Random(27)
    table = connection.table(name)
    edges = [
        b"'",
        b"''",
        b"\x9f",
        b"\xff",
        b"\xc3\xa9",
        b"\xc3",
        b"a'b",
        b"\x00",
        b"(",
        b",",
        b"\\",
        b"\x9f'\xff",
    ]
    pieces = [*edges, *(chance.randbytes(chance.randrange(1, 4)) for _ in range(60))]
    table.put_many((piece + bytes((n,)), {("cf", piece): piece}) for n, piece in enumerate(pieces))
    return table, pieces


def found(table, filter_):
    return sorted(
        (cell.row, cell.qualifier, cell.value) for row in table.scan(filter=filter_) for cell in row.cells
    )


def of_java(name, *arguments):
    return java(f"{PACKAGE}.filter.{name}")(*arguments)


# Each example asks the server ten times.
@settings(
    max_examples=settings().max_examples // 3, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_filters_find_what_java_filters_find(filled, data):
    table, pieces = filled
    value = data.draw(st.one_of(st.sampled_from(pieces), st.binary(min_size=1, max_size=3)))
    operator = data.draw(st.sampled_from(list(OPERATORS)))
    compare = java(f"{PACKAGE}.CompareOperator").valueOf(OPERATORS[operator])
    kind, comparator = data.draw(
        st.sampled_from([("binary", "BinaryComparator"), ("binaryprefix", "BinaryPrefixComparator")])
    )
    argument = quoted(kind.encode() + b":" + value)
    for name in ("ValueFilter", "QualifierFilter", "RowFilter"):
        text = f"{name} ({operator}, {argument})"
        assert found(table, text) == found(table, of_java(name, compare, of_java(comparator, value))), text
    assert found(table, f"PrefixFilter ({quoted(value)})") == found(table, of_java("PrefixFilter", value))
    assert found(table, f"ColumnPrefixFilter ({quoted(value)})") == found(
        table, of_java("ColumnPrefixFilter", value)
    )
    # The text may be bytes too, as a shell's string with \\x9f in it is.
    given = b"PrefixFilter (" + quoted(value).encode("utf-8", "surrogateescape") + b")"
    assert found(table, given) == found(table, of_java("PrefixFilter", value))


@settings(
    max_examples=settings().max_examples // 3, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.integers(-(2**63), 2**63 - 1), st.integers(-(2**63), 2**63 - 1), st.sampled_from(list(OPERATORS)))
def test_numbers_are_compared_as_numbers(table, stored, value, operator):
    longs = table.connection.table(table.name, value=LONG)
    longs[b"row"] = {"cf:n": stored}
    holds = {
        "=": stored == value, "!=": stored != value, "<": stored < value, "<=": stored <= value,
        ">": stored > value, ">=": stored >= value,
    }  # fmt: skip
    assert longs.check_and_mutate(b"row", "cf:n", operator, value, put={"cf:m": 1}) is holds[operator]


def test_a_column_that_is_not_there_compares_with_nothing(table):
    longs = table.connection.table(table.name, value=LONG)
    assert longs.check_and_mutate(b"none", "cf:n", "<", 5, put={"cf:m": 1}) is False
    assert longs.get(b"none") is None


@pytest.mark.parametrize(
    ("codec", "value"),
    [(INT, 1), (SHORT, 1), (DOUBLE, 1.0), (FLOAT, 1.0), (JSON, 1)],
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_values_whose_bytes_do_not_sort_are_not_compared(table, codec, value):
    typed = table.connection.table(table.name, value=codec)
    typed[b"row"] = {"cf:n": value}
    assert typed.check_and_mutate(b"row", "cf:n", "=", value, put={"cf:n": value})
    assert not typed.check_and_mutate(b"row", "cf:n", "!=", value, put={"cf:n": value})
    with pytest.raises(Invalid, match="< cannot compare values of codec"):
        typed.check_and_mutate(b"row", "cf:n", "<", value, put={"cf:n": value})


def test_texts_are_compared_as_texts(table):
    texts = table.connection.table(table.name, value=UTF8)
    texts[b"row"] = {"cf:n": "b"}
    assert texts.check_and_mutate(b"row", "cf:n", "<", "c", put={"cf:n": "b"})
    assert not texts.check_and_mutate(b"row", "cf:n", ">", "c", put={"cf:n": "b"})
