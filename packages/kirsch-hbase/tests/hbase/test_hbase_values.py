"""What needs neither Java nor a server: cells and mutations as bytes, codecs, names, filters, errors,
settings."""

import json
import os
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kirsch.hbase import (
    BOOLEAN,
    BYTES,
    DOUBLE,
    FLOAT,
    INT,
    JSON,
    LONG,
    SHORT,
    UTF8,
    Cell,
    Codec,
    CodecError,
    FilterError,
    Invalid,
    NoJars,
    NoJava,
    Table,
    Unavailable,
    compiled,
    connect,
    errors,
    jars,
    jdk,
)
from kirsch.hbase.cell import TYPES, decode, decode_result, decode_rows, encode
from kirsch.hbase.codec import codec, composite
from kirsch.hbase.encoder import erasures
from kirsch.hbase.filters import check, quoted
from kirsch.hbase.mutation import (
    Erasure,
    Settings,
    Value,
    block,
    delete,
    get,
    get_message,
    put,
    row_of,
    settings,
    varint,
)
from kirsch.hbase.names import family_name, namespace_name, table_name
from kirsch.hbase.quorum import Quorum, ask
from kirsch.hbase.row import Codecs, Row, column
from kirsch.hbase.scan import BLOCK, Query, Range, behind, following
from kirsch.hbase.schema import coprocessor
from kirsch.hbase.server import Settings as ServerSettings
from kirsch.install import pip_install

names = st.binary(min_size=1, max_size=20)
cells = st.builds(
    Cell,
    row=names,
    family=names,
    qualifier=st.binary(max_size=20),
    timestamp=st.integers(0, 2**63 - 1),
    value=st.binary(max_size=50),
    type=st.sampled_from(list(TYPES)),
)


def test_what_is_tested_here_is_compiled():
    assert compiled.implementation == "cython"
    code = "from kirsch.hbase import compiled; print(compiled.implementation)"
    environment = {**os.environ, "KIRSCH_PURE": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout == "python\n"


@given(st.lists(cells, max_size=20))
def test_a_block_of_cells_comes_back(given):
    assert decode(encode(given)) == given
    rows = decode_rows(encode(given))
    assert [cell for _, members in rows for cell in members] == given
    assert [key for key, _ in rows] == [key for key, _ in groupby(given, lambda cell: cell.row)]
    found = compiled.decode_rows(encode(given))
    assert found == rows
    assert {type(cell) for _, members in found for cell in members} <= {Cell}


def outcome(function: Callable[[bytes], object], block: bytes) -> object:
    """What it gives, or the error's words."""
    try:
        return function(block)
    except ValueError as error:
        return str(error)


@given(st.lists(cells, min_size=1, max_size=4), st.data())
def test_a_block_that_is_wrong_is_told_by_both(given, data):
    """Compiled it must not look beyond the block, and Python says the same of it."""
    block = bytearray(encode(given))
    for _ in range(data.draw(st.integers(1, 3))):
        block[data.draw(st.integers(0, len(block) - 1))] = data.draw(
            st.sampled_from([0, 1, 2, 9, 0x7F, 0xFF])
        )
    wrong = bytes(block[: data.draw(st.integers(0, len(block)))])
    assert outcome(compiled.decode_rows, wrong) == outcome(decode_rows, wrong)


values = st.builds(
    Value,
    names,
    st.binary(max_size=20),
    st.binary(max_size=300),
    st.none() | st.integers(-(2**63), 2**63 - 1),
)
durabilities = st.sampled_from([settings(), settings(7, 1.5, "skip", {"who": b"me"})])


@given(names, st.lists(values, max_size=5), durabilities)
def test_a_put_is_encoded_alike_by_both(row, given, chosen):
    assert compiled.put(row, given, chosen) == put(row, given, chosen)
    unstamped = [value[:3] for value in given]
    assert compiled.put(row, unstamped, chosen) == put(row, unstamped, chosen)


@pytest.mark.parametrize(
    ("row", "value"), [(None, (b"cf", b"a", b"")), (b"r", (None, b"a", b"")), (b"r", (b"cf", "a", b""))]
)
def test_what_is_no_bytes_is_not_encoded(row, value):
    with pytest.raises(TypeError):
        compiled.put(row, [value])


def message(given: list[Cell]) -> bytes:
    """The protobuf message Result of cells, as Java makes it."""
    parts = []
    for row, family, qualifier, timestamp, value, kind in given:
        texts = ((1, row), (2, family), (3, qualifier), (6, value), (7, b"tags"))
        numbers = b"\x20" + varint(timestamp) + b"\x28" + varint(kind)
        fields = b"".join(bytes((n << 3 | 2,)) + varint(len(text)) + text for n, text in texts) + numbers
        parts.append(b"\x0a" + varint(len(fields)) + fields)
    # Neither stale nor partial.
    return b"".join(parts) + b"\x20\x00\x28\x00"


@given(st.lists(cells, max_size=5), st.binary(min_size=120, max_size=300))
def test_a_row_that_came_as_a_message(given, long):
    given = [*given, Cell(b"r", b"f", b"q", 1, long)]
    assert decode_result(message(given)) == given


@given(st.lists(cells, min_size=1, max_size=3), st.data())
def test_a_message_that_ends_early_is_told_or_has_fewer_cells(given, data):
    whole = message(given)
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    try:
        found = decode_result(cut)
    except ValueError:
        return
    assert found == given[: len(found)]


@given(st.lists(cells, min_size=1, max_size=5), st.data())
def test_a_block_that_ends_early_is_told(given, data):
    whole = encode(given)
    boundaries = {len(encode(given[:count])) for count in range(len(given) + 1)}
    cut = data.draw(st.integers(0, len(whole) - 1).filter(lambda size: size not in boundaries))
    with pytest.raises(ValueError, match="ends within a cell"):
        decode(whole[:cut])


def fields(message: bytes) -> list[tuple[int, object]]:
    """Protobuf's fields: their numbers, and a number or bytes."""
    found, at = [], 0

    def number() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(message):
        tag = number()
        value = number()
        if tag & 7 == 2:
            found.append((tag >> 3, message[at : at + value]))
            at += value
        else:
            assert tag & 7 == 0
            found.append((tag >> 3, value))
    assert at == len(message)
    return found


@given(st.integers(0, 2**64 - 1))
def test_varint(number):
    assert fields(b"\x08" + varint(number)) == [(1, number)]


values = st.builds(
    Value, names, st.binary(max_size=300), st.binary(max_size=300), st.none() | st.integers(0, 2**63 - 1)
)


@given(names, st.lists(values, min_size=1))
def test_a_put_is_protobuf(row, values):
    ((_, region), (_, action)) = fields(block([put(row, values)]))
    assert fields(region) == [(1, 1), (2, b"")]
    ((_, mutation),) = fields(action)
    found = fields(mutation)
    assert found[:2] == [(1, row), (2, 2)]
    assert len(found) == 2 + len(values)
    for (number, message), value in zip(found[2:], values, strict=True):
        (family, qualified) = fields(message)
        stamp = [] if value.timestamp is None else [(3, value.timestamp)]
        assert (number, family) == (3, (1, value.family))
        assert fields(qualified[1]) == [(1, value.qualifier), (2, value.value), *stamp]


def test_settings_of_a_mutation():
    message = delete(b"r", [Erasure(b"cf")], Settings(5, 1000, "async", (("a", b"b"),)))
    ((_, action),) = fields(message)
    ((_, mutation),) = fields(action)
    found = fields(mutation)
    assert found[:2] == [(1, b"r"), (2, 3)]
    assert (4, 5) in found
    assert (6, 2) in found
    attributes = [dict(fields(value)) for number, value in found if number == 5]
    assert attributes == [{1: b"a", 2: b"b"}, {1: b"_ttl", 2: struct.pack(">q", 1000)}]


def test_numbers_that_java_would_refuse_are_told_before():
    """Protobuf would cut them to 64 bits: another time, without a word."""
    for timestamp in (-1, 1 << 63, 1 << 70):
        with pytest.raises(Invalid, match="timestamp="):
            settings(timestamp, None, "default")
        with pytest.raises(Invalid, match="timestamp="):
            erasures(["cf:a"], timestamp, True)
    for ttl in (0, -1, float("nan"), float("inf"), 1e30):
        with pytest.raises(Invalid, match="ttl="):
            settings(None, ttl, "default")
    assert settings(5, 0.0001, "sync").ttl == 1
    for query in ({"versions": 0}, {"versions": 1 << 40}, {"timestamp": -1}, {"timestamp": 1 << 63}):
        with pytest.raises(Invalid, match=next(iter(query))):
            Query(**query).check()
    for time_range in ((5, 4), (-1, 4), (0, 1 << 63)):
        with pytest.raises(Invalid, match="time_range="):
            Query(time_range=time_range).check()
    Query(versions=None, timestamp=0, time_range=(0, (1 << 63) - 1)).check()
    for name in ("start", "stop", "after", "prefix"):
        with pytest.raises(Invalid, match=f"{name}= has more"):
            Range(**{name: bytes(32768)}).check()
    with pytest.raises(Invalid, match="not both"):
        Range(start=b"a", after=b"b").check()
    with pytest.raises(Invalid, match="a page of 0 rows"):
        Table(None, "t", Codecs()).page(0)


def test_a_coprocessor_keeps_all_that_was_said_of_it():
    """Else altering a table would take its jar away."""
    assert coprocessor("a.B", "", 1073741823, {}) == "a.B"
    assert coprocessor("a.B", "", 5, {}) == "|a.B|5|"
    assert coprocessor("a.B", "hdfs:///c.jar", 1001, {"x": "1", "y": "2"}) == "hdfs:///c.jar|a.B|1001|x=1,y=2"


def test_a_get_names_each_family_once():
    ((_, action),) = fields(get(b"r", [(b"a", b"x"), (b"b", None), (b"a", b"y")], 3))
    ((number, message),) = fields(action)
    assert number == 3
    assert fields(message) == [
        (1, b"r"),
        (2, b"\x0a\x01a\x12\x01x\x12\x01y"),
        (2, b"\x0a\x01b"),
        (6, 3),
    ]


def test_a_get_by_itself():
    assert fields(get_message(b"r")) == [(1, b"r")]
    # As Java has it: what is named last counts.
    both = get_message(b"r", [(b"a", b"x"), (b"a", None), (b"b", None), (b"b", b"y")], 2, (5, 300))
    assert fields(both) == [
        (1, b"r"),
        (2, b"\x0a\x01a"),
        (2, b"\x0a\x01b\x12\x01y"),
        (5, b"\x08\x05\x10\xac\x02"),
        (6, 2),
    ]


def test_what_of_a_get_is_said_without_java():
    assert fields(Query(timestamp=5).message(b"r")) == [(1, b"r"), (5, b"\x08\x05\x10\x06")]
    assert fields(Query("cf:a", versions=None).message(b"r")) == [
        (1, b"r"), (2, b"\x0a\x02cf\x12\x01a"), (6, (1 << 31) - 1),
    ]  # fmt: skip
    assert Query(filter="PageFilter(1)").message(b"r") is None
    with pytest.raises(Invalid, match="versions=0"):
        Query(versions=0).message(b"r")


@given(st.binary(min_size=1, max_size=300), st.binary(max_size=300))
def test_the_row_of_an_action(row, value):
    for action in (put(row, [Value(b"cf", b"q", value)]), delete(row), get(row)):
        assert row_of(action) == row


numbers = {LONG: 64, INT: 32, SHORT: 16}


@pytest.mark.parametrize("kind", list(numbers), ids=lambda kind: kind.name)
@given(data=st.data())
def test_whole_numbers(kind, data):
    bits = numbers[kind]
    number = data.draw(st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1))
    assert kind.decode(kind.encode(number)) == number
    assert len(kind.encode(number)) == bits // 8
    for wrong in (2 ** (bits - 1), -(2 ** (bits - 1)) - 1, 0.5, "1", None, True):
        with pytest.raises(CodecError):
            kind.encode(wrong)
    with pytest.raises(CodecError, match="bytes long and must be"):
        kind.decode(b"123")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(st.text(), st.floats(), st.booleans(), json_values, st.binary())
def test_codecs_come_back(text, number, truth, value, data):
    assert UTF8.decode(UTF8.encode(text)) == text
    assert struct.pack("d", DOUBLE.decode(DOUBLE.encode(number))) == struct.pack("d", number)
    assert BOOLEAN.decode(BOOLEAN.encode(truth)) is truth
    assert JSON.decode(JSON.encode(value)) == json.loads(json.dumps(value)) == value
    assert BYTES.decode(BYTES.encode(data)) == data


words = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=3)
keys = st.tuples(words, st.integers(0, (1 << 63) - 1), st.binary(max_size=3))


@given(st.lists(keys, max_size=6), keys)
def test_composite_keys_sort_as_tuples_and_have_prefixes(some, one):
    key = composite(UTF8, LONG, BYTES)
    assert [key.decode(data) for data in sorted(key.encode(values) for values in some)] == sorted(some)
    for size in range(4):
        begin = key.prefix(one[:size])
        assert key.encode(one).startswith(begin)
        for other in some:
            assert key.encode(other).startswith(begin) == (
                other[:size] == one[:size]
                if size < 3
                else other[2].startswith(one[2]) and other[:2] == one[:2]
            )


def test_what_a_composite_key_refuses():
    key = composite(UTF8, LONG)
    for wrong, words in (
        (("a",), "it has 1 parts, and the key has 2"),
        (("a", 1, 2), "it has 3 parts"),
        ("ab", "it is no tuple"),
        (("a\0b", 1), "part 1 contains a zero byte"),
        ((1, "a"), "cannot be encoded as utf-8"),
    ):
        with pytest.raises(CodecError, match=words):
            key.encode(wrong)
    with pytest.raises(CodecError, match="it has 3 parts"):
        key.prefix(("a", 1, 2))
    for wrong in (b"a", b"a\0", b"a\0" + bytes(9)):
        with pytest.raises(CodecError):
            key.decode(wrong)
    with pytest.raises(CodecError, match="2 parts or more"):
        composite(UTF8)


def test_codecs_tell_what_they_cannot_do():
    wrongs = (
        (UTF8, b"x"),
        (UTF8, "\ud800"),
        (BYTES, "x"),
        (JSON, {1, 2}),
        (JSON, float("nan")),
        (FLOAT, 1e300),
    )
    for kind, wrong in wrongs:
        with pytest.raises(CodecError):
            kind.encode(wrong)
    for kind, wrong in ((UTF8, b"\xff"), (JSON, b"{"), (BOOLEAN, b""), (DOUBLE, b"")):
        with pytest.raises(CodecError):
            kind.decode(wrong)
    own = Codec("hex", bytes.fromhex, bytes.hex)
    assert own.decode(own.encode("00ff")) == "00ff"
    with pytest.raises(CodecError, match="cannot be encoded as hex"):
        own.encode("zz")
    with pytest.raises(CodecError, match="gave str, not bytes"):
        Codec("bad", str, str).encode(b"")
    assert codec("long") is LONG
    with pytest.raises(CodecError, match="there is no codec 'nope': there are bytes, utf8"):
        codec("nope")


def test_codecs_by_column_and_family():
    given = Codecs(value={"cf:n": LONG, "cf": JSON, "": UTF8})
    assert given.of(b"cf", b"n") is LONG
    assert given.of(b"cf", b"m") is JSON
    assert given.of(b"x", b"n") is UTF8


def test_columns():
    assert column("cf:q:r") == (b"cf", b"q:r")
    assert column(b"cf:\xff") == (b"cf", b"\xff")
    assert column("cf") == column("cf:") == (b"cf", b"")
    assert column(("cf", b"a:b")) == (b"cf", b"a:b")
    for wrong in (":q", "", 5, ("a", "b", "c"), ("", "q")):
        with pytest.raises(Invalid):
            column(wrong)


def test_a_row_is_a_mapping_of_its_newest_values():
    row = Row(b"r", [Cell(b"r", b"cf", b"a", 2, b"new"), Cell(b"r", b"cf", b"a", 1, b"old")])
    assert dict(row) == {b"cf:a": b"new"}
    assert row["cf:a"] == row[b"cf:a"] == row["cf", "a"] == b"new"
    assert "cf:b" not in row
    assert 5 not in row
    assert [cell.value for cell in row.versions("cf:a")] == [b"new", b"old"]
    assert repr(row) == "Row(b'r', {'cf:a': b'new'})"
    with pytest.raises(KeyError):
        row["cf:b"]


@pytest.mark.parametrize("good", ["t", "ns:t", "_a-b.c", "9", "default:t", "ü", "простір:表", "٣"])
def test_names_that_are_legal(good):
    assert table_name(good) == good.removeprefix("default:")


@pytest.mark.parametrize("bad", ["", "-t", ".t", "a b", "a/b", "a:b:c", ":t", "ns:", "😀", "t²", b"t", None])
def test_names_that_are_not(bad):
    with pytest.raises(Invalid, match="is no table's name"):
        table_name(bad)


def test_names_of_families_and_namespaces():
    assert family_name("cf") == family_name(b"cf") == b"cf"
    assert family_name("сім'я") == "сім'я".encode()
    for bad in ("", "a:b", ".a", "a/b", "a\\b", "x" * 128, "a\n"):
        with pytest.raises(Invalid, match="is no family's name"):
            family_name(bad)
    assert namespace_name("a_1") == "a_1"
    for bad in ("", "a-b", "a:b"):
        with pytest.raises(Invalid, match="is no namespace's name"):
            namespace_name(bad)


@pytest.mark.parametrize(
    "text",
    [
        "PrefixFilter('a')",
        "PrefixFilter ( 'it''s' )",
        "(RowFilter(=, 'binary:x') AND (PageFilter(5) OR SKIP ValueFilter(!=,'regexstring:.*')))",
        "WHILE KeyOnlyFilter()",
        "ColumnCountGetFilter(-1) OR DependentColumnFilter('cf', 'q', true)",
    ],
)
def test_filters_that_are_right(text):
    assert all(text[position:].startswith(name) for name, position in check(text))


@pytest.mark.parametrize(
    ("text", "position", "what"),
    [
        ("", 0, "a filter is expected"),
        ("PrefixFilter('a'", 16, ", is expected"),
        ("PrefixFilter('a", 13, "this quote is not closed"),
        ("PrefixFilter 'a'", 13, r"\( is expected"),
        ("PageFilter(5) PageFilter(5)", 14, "AND, OR or the end"),
        ("PageFilter(5) AND", 17, "a filter is expected"),
        ("(PageFilter(5)", 14, r"\) is expected"),
        ("PageFilter(5))", 13, "AND, OR or the end"),
        ("ValueFilter(~, 'a')", 12, "an argument is expected"),
    ],
)
def test_filters_that_are_wrong_show_where(text, position, what):
    with pytest.raises(FilterError, match=what) as raised:
        check(text)
    assert raised.value.position == position
    assert f"character {position + 1}" in str(raised.value)


@given(st.text(st.characters(max_codepoint=255)))
def test_a_quoted_value_is_one_argument(text):
    assert check(f"PrefixFilter({quoted(text)})") == [("PrefixFilter", 0)]


@given(st.text(alphabet="PageFilter()'5,AND OR<>=! ", max_size=40))
def test_any_text_is_a_filter_or_a_mistake_in_it(text):
    try:
        found = check(text)
    except FilterError as error:
        found = [("", error.position)]
    assert all(0 <= position <= len(text) for _, position in found)


@given(st.binary(min_size=1, max_size=5), st.binary(max_size=5))
def test_what_sorts_behind_a_prefix(prefix, rest):
    last = behind(prefix)
    assert not last or prefix + rest < last
    assert not last or not last.startswith(prefix)
    assert bool(last) == (prefix.strip(b"\xff") != b"")


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(0, 1 << 30), st.none() | st.integers(1, 10**6))
def test_blocks_stay_as_large_as_memory_allows(wanted, count, size, left):
    rows = following(wanted, count, size, left)
    assert 1 <= rows <= 5000
    assert left is None or rows <= left
    assert rows == 1 or rows * (size / count) <= BLOCK


def test_a_scan_that_was_left_is_gone_at_once():
    """Its end tells the server, and must not wait for Python's collector of cycles."""
    code = (
        "import gc, weakref\n"
        "from kirsch.hbase.row import PLAIN\n"
        "from kirsch.hbase.scan import Scanner\n"
        "gc.disable()\n"
        "scanner = Scanner(None, None, PLAIN, limit=0)\n"
        "blocks, rows = weakref.ref(scanner._blocks), iter(scanner)\n"
        "del scanner\n"
        "assert blocks() is not None\n"
        "del rows\n"
        "assert blocks() is None\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_quorums():
    with pytest.raises(Invalid, match="5 is no quorum: it is a str, a mapping of settings, or a Path"):
        connect(5)
    assert Quorum.parse("a") == Quorum((("a", 2181),))
    assert Quorum.parse(" a:1, b ,[::1]:3/hbase/x") == Quorum((("a", 1), ("b", 2181), ("::1", 3)), "/hbase/x")
    assert str(Quorum.parse("a:1,[::1]:2")) == "a:1,[::1]:2"
    for bad in ("", ",", "a:b", "a:0", "a:65536", ":1"):
        with pytest.raises(Invalid):
            Quorum.parse(bad)


def test_a_name_that_no_resolver_answers_is_told_in_time(monkeypatch):
    answer, answered = threading.Event(), threading.Event()

    def resolve(*_, **__):
        answer.wait(30)
        answered.set()
        return []

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    try:
        with pytest.raises(Unavailable, match=r"slow\.invalid:2181 did not answer within 0\.2 s"):
            ask(Quorum.parse("slow.invalid"), 0.2)
        # The resolver may take its time.
        assert not answered.is_set()
    finally:
        answer.set()


def chain(*causes: tuple[str, str]) -> tuple[type[Exception], str]:
    return errors.from_chain(causes)


def test_errors_are_told_by_the_exceptions_within():
    hbase = "org.apache.hadoop.hbase."
    assert chain((f"{hbase}TableNotFoundException", "t1")) == (errors.NotFound, "there is no table t1")
    remote = f"{hbase}TableNotFoundException: Table 't1' was not found\n\tat org.X.y(X.java:1)\n"
    wrapper = f"{hbase}client.RetriesExhaustedException"
    wrapped = ((wrapper, "Failed after attempts=3"), (f"{hbase}ipc.RemoteWithExtrasException", remote))
    assert chain(*wrapped) == (errors.NotFound, "there is no table t1")
    assert chain((f"{hbase}TableNotDisabledException", "Not DISABLED; tableName=t1, state=ENABLED")) == (
        errors.Disabled,
        "table t1 is enabled: disable it first",
    )
    assert chain(("a.RestoreSnapshotException", "Unable to find the table name for snapshot=s")) == (
        errors.NotFound,
        "there is no snapshot s",
    )
    null = 'Cannot invoke "org.x.ServerName.getAddress()" because "currentHostServer" is null'
    for name, message in (("java.io.IOException", null), ("a.NullPointerException", null)):
        kind, words = chain((name, message))
        assert (kind, "repeat it" in words) == (errors.Unavailable, True)
    assert chain(("java.io.IOException", "")) == (errors.HBaseError, "")
    for name, message in (
        ("java.io.IOException", "Failed to get result within timeout, timeout=4000ms"),
        ("java.io.InterruptedIOException", "Operation timeout exceeded before any action"),
    ):
        assert chain((name, message)) == (errors.Unavailable, f"HBase did not answer in time: {message}")
    assert chain((wrapper, "Failed after attempts=3"))[0] is errors.Unavailable
    # However it is wrapped: of all that Java says of it, this is what one has to know.
    late = ("java.net.SocketTimeoutException", "callTimeout=20000, callDuration=22109")
    kind, words = chain(
        late, ("java.lang.RuntimeException", "Found no valid authentication method from options")
    )
    assert (kind, "run kinit" in words) == (errors.Denied, True)
    kind, words = chain(("a.WeirdException", "java.lang.IllegalStateException: what\n\tat a.b(c)"))
    assert (kind, words) == (errors.HBaseError, "IllegalStateException: what")


@given(st.lists(st.tuples(st.text("aB.${}", max_size=20), st.text(max_size=80)), min_size=1, max_size=4))
def test_any_chain_makes_one_line(causes):
    kind, words = errors.from_chain(causes)
    assert issubclass(kind, errors.HBaseError)
    assert len(words.splitlines()) <= 1


def test_errors_of_several_blocks_name_all_rows():
    one, two = errors.NotFound("there is no family a"), errors.Throttled("a quota is used up")
    one.failures, two.failures = ((b"1", one),), ((b"2", two), (b"3", two))
    assert errors.joined([one]) is one
    both = errors.joined([one, two])
    assert isinstance(both, errors.BatchError)
    assert str(both) == "3 rows could not be written; the first: there is no family a"
    assert [key for key, _ in both.failures] == [b"1", b"2", b"3"]
    away = errors.Unavailable("HBase did not answer in time")
    assert errors.joined([away, errors.Unavailable("it")]) is away


def test_the_class_path_is_what_was_given_or_is_set(tmp_path):
    (tmp_path / "lib").mkdir()
    jar = tmp_path / "lib" / "hbase-client-2.6.4.jar"
    jar.touch()
    assert jars.find(tmp_path / "lib", {}) == [jar]
    assert jars.find(f"{tmp_path}/lib/*", {}) == [jar]
    assert jars.find([str(jar)], {}) == [jar]
    assert jars.find(None, {"HBASE_HOME": str(tmp_path)}) == [jar]
    assert jars.find(None, {"CLASSPATH": f"{jar}:"}) == [jar]
    only = tmp_path / "client" / "lib" / "shaded-clients"
    only.mkdir(parents=True)
    for name in ("client-2.6.4", "client-byo-hadoop-2.6.4", "mapreduce-2.6.4"):
        (only / f"hbase-shaded-{name}.jar").touch()
    assert jars.find(None, {"HBASE_HOME": str(tmp_path / "client")}) == [
        only / "hbase-shaded-client-2.6.4.jar"
    ]
    for place, variables, words in (
        (tmp_path / "none.jar", {}, "there is no"),
        (None, {"HBASE_HOME": str(tmp_path / "lib")}, "there are no jars in"),
        (None, {"CLASSPATH": str(tmp_path / "other.jar"), "HOME": "/"}, "run `kirsch hbase jars`"),
        ([], {}, "no jars were given"),
    ):
        with pytest.raises(NoJars, match=words):
            jars.find(place, variables, cache=tmp_path / "cache")


def test_the_version_that_is_taken_from_the_cache(tmp_path):
    def fetched(version):
        folder = jars.client(version).folder(tmp_path)
        folder.mkdir()
        (folder / "hbase-shaded-client.jar").touch()
        return [folder / "hbase-shaded-client.jar"]

    old, new = fetched("2.5.9"), fetched("2.5.10-hadoop3")
    assert jars.find(None, {}, tmp_path) == new
    own = fetched(jars.VERSION)
    assert jars.find(None, {}, tmp_path) == own
    assert jars.find(None, {"KIRSCH_HBASE_VERSION": "2.5.9"}, tmp_path) == old
    with pytest.raises(
        NoJars, match=r"client 2\.4\.1 is not here.*: run `kirsch hbase jars --version 2\.4\.1`"
    ):
        jars.find(None, {"KIRSCH_HBASE_VERSION": "2.4.1"}, tmp_path)


def test_maven_is_told_what_to_fetch():
    root = ElementTree.fromstring(jars.pom(jars.client("1.2.3")))
    found = [element.text for element in root.iter() if element.tag.endswith(("artifactId", "version"))]
    assert found == ["client-1.2.3", "1", "hbase-shaded-client", "1.2.3", "slf4j-nop", "1.7.36"]


def test_java_is_looked_for(tmp_path):
    def home(name: str, version: str) -> Path:
        (tmp_path / name / "lib" / "server").mkdir(parents=True)
        (tmp_path / name / "lib" / "server" / "libjvm.so").touch()
        (tmp_path / name / "release").write_text(f'JAVA_VERSION="{version}"\n')
        return tmp_path / name

    new, old = home("new", "17.0.15"), home("old", "1.8.0_292")
    assert jdk.find(new, {}) == new
    assert jdk.find(None, {"JAVA_HOME": str(new)}) == new
    assert jdk.version(old) == 8
    with pytest.raises(NoJava, match="is Java 8, and HBase needs 11 or newer: apt-get install"):
        jdk.find(None, {"JAVA_HOME": str(old)})
    with pytest.raises(NoJava, match="JAVA_HOME is /nowhere, and there is no Java in it: apt-get install"):
        jdk.find(None, {"JAVA_HOME": "/nowhere"})
    with pytest.raises(NoJava, match="there is no Java: apt-get install"):
        jdk.find(None, {})


def test_a_servers_settings_are_xml(tmp_path):
    extra = {"a<b": "x&y", "hbase.quota.enabled": "false", "hadoop.security.authentication": "kerberos"}
    settings = ServerSettings(tmp_path, port=5, access=True, labels=True, extra=extra)
    root = ElementTree.fromstring(settings.files()["hbase-site.xml"])
    values = {one.findtext("name"): one.findtext("value") for one in root}
    assert values["a<b"] == "x&y"
    assert values["hbase.quota.enabled"] == "false"
    assert values["hbase.zookeeper.property.clientPort"] == "5"
    assert values["hbase.coprocessor.master.classes"].count(",") == 1
    # Hadoop reads a file of its own, too.
    (only,) = ElementTree.fromstring(settings.files()["core-site.xml"])
    assert (only.findtext("name"), only.findtext("value")) == ("hadoop.security.authentication", "kerberos")
    assert "log4j.rootLogger=ERROR" in settings.files()["log4j.properties"]
    command = settings.command(Path("java"), [Path("a.jar")])
    assert command[-3:] == [f"{tmp_path}/conf:a.jar", "org.apache.hadoop.hbase.master.HMaster", "start"]
    # Of two that are given, Java takes the last.
    told = ServerSettings(tmp_path, java=["-XX:TieredStopAtLevel=4"]).command(Path("java"), [])
    assert [word for word in told if "Tiered" in word] == [
        "-XX:TieredStopAtLevel=1",
        "-XX:TieredStopAtLevel=4",
    ]
    assert told.index("-XX:TieredStopAtLevel=4") < told.index("-cp")


def test_without_jpype_the_import_says_what_to_install():
    code = (
        "import importlib.util as util\n"
        "real = util.find_spec\n"
        "util.find_spec = lambda name, *more: None if name == 'jpype' else real(name, *more)\n"
        "import kirsch.hbase\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert (
        done.stderr.splitlines()[-1]
        == f"ImportError: kirsch.hbase needs JPype: {pip_install('kirsch-hbase')}"
    )


def test_the_import_starts_nothing_and_is_light():
    code = (
        "import sys, kirsch.hbase\n"
        "assert 'jpype' not in sys.modules\n"
        "kirsch.hbase.UTF8, kirsch.hbase.Cell, kirsch.hbase.HBaseError\n"
        "assert 'jpype' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
