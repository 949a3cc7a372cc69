"""dml, each command against the server."""

import pytest

from kirsch.hbase import CodecError, Disabled, FilterError, HBaseError, Invalid, NotFound
from kirsch.hbase.shell.command import CommandError, UsageError


@pytest.fixture
def filled(shell, name):
    """A table of three rows."""
    shell(f"create '{name}', {{NAME => 'f', VERSIONS => 5}}, 'g'")
    for key in ("a1", "a2", "b1"):
        shell(f"put '{name}', '{key}', 'f:q', 'v-{key}', 10")
    shell(f"put '{name}', 'a1', 'g:n', \"\\x00\\x00\\x00\\x07\"")
    return name


def keys(rows):
    return [row.key for row in rows]


def test_scans(shell, filled):
    assert keys(shell(f"scan '{filled}'")) == [b"a1", b"a2", b"b1"]
    assert keys(shell(f"scan '{filled}', {{LIMIT => 2}}")) == [b"a1", b"a2"]
    assert keys(shell(f"scan '{filled}', LIMIT => 1, STARTROW => 'a2'")) == [b"a2"]
    assert keys(shell(f"scan '{filled}', STOPROW => 'a2'")) == [b"a1"]
    assert keys(shell(f"scan '{filled}', STOPROW => 'a2', INCLUSIVE_STOP => true")) == [b"a1", b"a2"]
    assert keys(shell(f"scan '{filled}', ROWPREFIXFILTER => 'a'")) == [b"a1", b"a2"]
    assert keys(shell(f"scan '{filled}', reversed: true, prefix: 'a'")) == [b"a2", b"a1"]
    assert keys(shell(f"scan '{filled}', FILTER => \"ValueFilter(=, 'binary:v-a2')\"")) == [b"a2"]
    assert keys(shell(f"scan '{filled}', COLUMNS => ['g']")) == [b"a1"]
    assert keys(shell(f"scan('{filled}', columns='g:n', limit=-1)")) == [b"a1"]
    assert keys(shell(f"scan '{filled}', TIMERANGE => [0, 11], CACHE => 1, CACHE_BLOCKS => false")) == [
        b"a1",
        b"a2",
        b"b1",
    ]
    assert keys(shell(f"scan '{filled}', TIMESTAMP => 11")) == []
    assert keys(shell(f"scan '{filled}', LIMIT => 2147483648")) == [b"a1", b"a2", b"b1"]
    assert keys(
        shell(f"scan '{filled}', CONSISTENCY => 'TIMELINE', ISOLATION_LEVEL => 'READ_UNCOMMITTED'")
    ) == [b"a1", b"a2", b"b1"]


def test_scans_of_what_was_deleted(shell, filled):
    shell(f"put '{filled}', 'a1', 'f:q', 'newer', 20")
    shell(f"delete '{filled}', 'a1', 'f:q', 20")
    assert shell(f"get '{filled}', 'a1', 'f:q'")[0][b"f:q"] == b"v-a1"
    (row,) = shell(f"scan '{filled}', {{RAW => true, VERSIONS => 10, STOPROW => 'a2', COLUMNS => 'f'}}")
    assert [(cell.timestamp, cell.deletes) for cell in row.cells] == [(20, True), (20, False), (10, False)]
    assert "type=Delete" in shell.says(f"scan '{filled}', {{RAW => true, VERSIONS => 10}}")[1]


def test_values_are_shown_by_formatters(shell, filled):
    status, out, _ = shell.says(f"scan '{filled}', COLUMNS => ['g:n:toInt']")
    assert (status, out.split()[-1]) == (0, "7")
    assert shell.says(f"scan '{filled}', COLUMNS => ['g:n'], FORMATTER => 'toInt'")[1].split()[-1] == "7"
    assert shell.says(f"get '{filled}', 'a1', 'g:n'")[1].split()[-1] == r"\x00\x00\x00\x07"
    assert shell.says(f"get '{filled}', 'a1', 'f:q', MAXLENGTH => 3")[1].split()[-1] == "v-a"
    java = "g:n:c(org.apache.hadoop.hbase.util.Bytes).toInt"
    assert shell.says(f"get '{filled}', 'a1', '{java}'")[1].split()[-1] == "7"
    with pytest.raises(CommandError, match="there is no formatter toRoman"):
        shell(f"scan '{filled}', FORMATTER => 'toRoman'")
    assert shell.says(f"scan '{filled}', FORMATTER => 'toLong'")[0] == 1
    with pytest.raises(CodecError, match="long"):
        shell(
            f"scan '{filled}', FORMATTER => 'toLong'\n[line for r in [0] for line in x.lines(next(x))]",
            x=shell.interpreter.namespace["scan"](filled, formatter="toLong"),
        )


def test_rows(shell, filled):
    (row,) = shell(f"get '{filled}', 'a1'")
    assert dict(row) == {b"f:q": b"v-a1", b"g:n": b"\x00\x00\x00\x07"}
    assert dict(shell(f"get '{filled}', 'a1', 'f'")[0]) == {b"f:q": b"v-a1"}
    assert dict(shell(f"get '{filled}', 'a1', {{COLUMN => ['g:n', 'f:q'], TIMERANGE => [10, 11]}}")[0]) == {
        b"f:q": b"v-a1"
    }
    assert shell(f"get '{filled}', 'zz'") == []
    shell(f"put '{filled}', 'a1', 'f:q', 'second', 11")
    cells = shell(f"get '{filled}', 'a1', {{COLUMN => 'f:q', VERSIONS => 4}}")[0].cells
    assert [(cell.timestamp, cell.value) for cell in cells] == [(11, b"second"), (10, b"v-a1")]
    assert shell.says(f"get '{filled}', 'a1', 'f:q'")[1].splitlines()[0].split() == [
        "COLUMN",
        "TIMESTAMP",
        "VALUE",
    ]


def test_values_as_they_are_typed(shell, filled):
    for typed, value in (
        ("5", b"5"),
        ("2.5", b"2.5"),
        ("true", b"true"),
        ("'é'", "é".encode()),
        (r'"\xFF\x00"', b"\xff\x00"),
        ("b'raw'", b"raw"),
        ("''", b""),
    ):
        shell(f"put '{filled}', 'k', 'f:q', {typed}")
        assert shell(f"get '{filled}', 'k'")[0][b"f:q"] == value
    shell(f"put '{filled}', 'k', 'f', 'no qualifier'")
    assert shell(f"get '{filled}', 'k', 'f:'")[0][b"f:"] == b"no qualifier"
    shell(f"put '{filled}', 'k2', 'f:q', 'v', {{TTL => 60000, ATTRIBUTES => {{'a' => 'b'}}}}")
    assert len(shell(f"get '{filled}', 'k2', {{ATTRIBUTES => {{'a' => 'b'}}}}")) == 1


def test_deletes(shell, filled):
    shell(f"deleteall '{filled}', 'a1', 'g:n'")
    assert list(shell(f"get '{filled}', 'a1'")[0]) == [b"f:q"]
    shell(f"delete '{filled}', 'a1', 'f:q'")
    assert shell(f"get '{filled}', 'a1'") == []
    shell(f"deleteall '{filled}', 'a2'")
    assert keys(shell(f"scan '{filled}'")) == [b"b1"]
    shell(f"put '{filled}', 'p1', 'f:q', 1; put '{filled}', 'p2', 'f:q', 1; put '{filled}', 'p3', 'f:q', 1")
    shell(f"deleteall '{filled}', {{ROWPREFIXFILTER => 'p', CACHE => 2}}")
    assert keys(shell(f"scan '{filled}'")) == [b"b1"]
    shell(f"deleteall '{filled}', 'b1', 'f'")
    assert shell(f"count '{filled}'") == 0
    with pytest.raises(UsageError, match="ROWPREFIXFILTER"):
        shell(f"deleteall '{filled}'")


def test_counters(shell, filled):
    assert shell(f"get_counter '{filled}', 'c', 'f:n'") is None
    assert shell(f"incr '{filled}', 'c', 'f:n'") == 1
    assert shell(f"incr '{filled}', 'c', 'f:n', 41") == 42
    assert shell(f"incr '{filled}', 'c', 'f:n', -2") == 40
    assert shell(f"get_counter '{filled}', 'c', 'f:n'") == 40
    with pytest.raises(Invalid, match="no counter has 4 bytes: it has 8"):
        shell(f"incr '{filled}', 'a1', 'f:q'")
    with pytest.raises(CommandError, match="f:q is no counter: its value is 4 bytes long, not 8"):
        shell(f"get_counter '{filled}', 'a1', 'f:q'")
    with pytest.raises(HBaseError):
        shell(f"incr '{filled}', 'a1', 'f:q'")


def test_appends(shell, filled):
    assert shell(f"append '{filled}', 'a1', 'f:q', '+more'") == b"v-a1+more"
    assert shell(f"get '{filled}', 'a1', 'f:q'")[0][b"f:q"] == b"v-a1+more"


def test_counts(shell, filled):
    assert shell(f"count '{filled}'") == 3
    assert shell(f"count '{filled}', INTERVAL => 10, CACHE => 1000") == 3
    assert shell(f"count '{filled}', 10") == shell(f"count '{filled}', 10, CACHE => 1000") == 3
    assert shell(f"count '{filled}', STARTROW => 'a2'") == 2
    assert shell(f"count '{filled}', {{FILTER => \"PrefixFilter('b')\", COLUMNS => ['f']}}") == 1


def test_splits_and_truncations(shell, name):
    shell(f"create '{name}', 'f', SPLITS => ['m']")
    assert shell(f"get_splits '{name}'") == ["m"]
    shell(f"put '{name}', 'r', 'f:q', 'v'; truncate_preserve '{name}'")
    assert (shell(f"count '{name}'"), shell(f"get_splits '{name}'")) == (0, ["m"])
    shell(f"put '{name}', 'r', 'f:q', 'v'; truncate '{name}'")
    assert (shell(f"count '{name}'"), shell(f"get_splits '{name}'")) == (0, [])


@pytest.mark.parametrize(
    ("typed", "kind", "message"),
    [
        ("scan 'absent'", CommandError, "there is no table absent"),
        ("count 'absent'", CommandError, "there is no table absent"),
        ("get 'absent', 'r'", NotFound, "there is no table absent"),
        ("put 'absent', 'r', 'f:q', 1", NotFound, "there is no table absent"),
        ("put 'NAME', 'r', 'nix:q', 1", NotFound, "there is no family nix in table NAME"),
        ("get 'NAME', 'r', 'nix:q'", NotFound, "there is no family nix in table NAME"),
        ("put 'NAME', 'r', ':q', 1", CommandError, "names no family"),
        ("put 'NAME', 'r', 'f:q', [1]", CommandError, "list"),
        ("put 'NAME', 'r', 'f:q'", UsageError, "put: missing value"),
        ("put 'NAME', 'r', 'f:q', 1, 'soon'", CommandError, "a timestamp is a whole number, not 'soon'"),
        ("put 'NAME', '', 'f:q', 1", HBaseError, "."),
        ("scan 'NAME', LIMIT => 'x'", CommandError, "LIMIT is a whole number, not 'x'"),
        ("scan 'NAME', LIMIT => 9223372036854775808", CommandError, "LIMIT is 9223372036854775807 at most"),
        ("scan 'NAME', CACHE => 2147483648", CommandError, "CACHE is 2147483647 at most, not 2147483648"),
        ("scan 'NAME', VERSIONS => 2147483648", CommandError, "VERSIONS is 2147483647 at most"),
        ("incr 'NAME', 'r', 'f:q', 9223372036854775808", CommandError, "a counter has 8 bytes"),
        ("scan 'NAME', LIMITS => 1", UsageError, "a scan has no option LIMITS; do you mean LIMIT"),
        ("scan 'NAME', FROB => 1", UsageError, "a scan has no option FROB: help"),
        ("scan 'NAME', VERSIONS => 0", CommandError, "VERSIONS is 1 or more"),
        ("scan 'NAME', TIMERANGE => [5]", UsageError, r"TIMERANGE is written \[FROM, TO\]"),
        ("scan 'NAME', TIMERANGE => [5, 1]", HBaseError, "."),
        ("scan 'NAME', STOPROW => 'a', ENDROW => 'b'", UsageError, "the same"),
        ("scan 'NAME', FILTER => \"PrefixFilter('a'\"", FilterError, "mistake in the filter at character 17"),
        ("scan 'NAME', FILTER => \"NoFilter('a')\"", FilterError, "there is no filter NoFilter"),
        ("scan 'NAME', CONSISTENCY => 'MAYBE'", CommandError, "MAYBE is none of STRONG, TIMELINE"),
        ("get 'NAME', 'r', {COLOURS => 1}", UsageError, "get has no option COLOURS"),
        ("incr 'NAME', 'r', 'f:q', 'x'", CommandError, "a whole number is needed, not 'x'"),
        ("get_splits 'absent'", NotFound, "there is no table absent"),
        ("scan f", NameError, "f"),
        ("scan create", CommandError, "a table's name is text"),
    ],
)
def test_what_dml_refuses(shell, empty, typed, kind, message):
    with pytest.raises(kind, match=message.replace("NAME", empty)) as caught:
        shell(typed.replace("NAME", empty))
    assert len(str(caught.value).splitlines()) == 1


def test_a_table_that_is_disabled(shell, filled):
    shell(f"disable '{filled}'")
    for typed in (f"get '{filled}', 'a1'", f"put '{filled}', 'a1', 'f:q', 1", f"scan '{filled}'"):
        with pytest.raises(Disabled, match=f"table {filled} is disabled: enable it first"):
            shell(typed)


def test_what_hbases_shell_accepts(shell, filled):
    status, out, error = shell.says(f"scan '{filled}', {{ALL_METRICS => true, BATCH => 1}}")
    assert (status, error) == (0, "")
    assert "RPC_CALLS" in out
    assert "ROWS_SCANNED" in out
    status, out, _ = shell.says(f"scan '{filled}', {{METRICS => ['RPC_CALLS'], LIMIT => 1}}")
    assert status == 0
    assert "RPC_CALLS" in out
    assert "ROWS_SCANNED" not in out
    shell(f"put '{filled}', 'nil', 'f:q', nil")
    assert shell(f"get '{filled}', 'nil'")[0][b"f:q"] == b""
    operator = "org.apache.hadoop.hbase.filter.ValueFilter.new(CompareOperator::EQUAL, binary)"
    of = "org.apache.hadoop.hbase.filter.BinaryComparator"
    shell.says(f"binary = {of}(b'v-a2')")
    status, out, error = shell.says(f"scan '{filled}', FILTER => {operator}")
    assert (status, error) == (0, "")
    assert "a2" in out
    assert "a1" not in out
    status, out, _ = shell.says(f"count '{filled}', INTERVAL => 2")
    assert [line for line in out.splitlines() if line.startswith("Current count")] == [
        "Current count: 2, row: a2",
        "Current count: 4, row: nil",
    ]
    with pytest.raises(CommandError, match="there is no formatter toNonsense"):
        shell(f"scan '{filled}', COLUMNS => ['f:q:toNonsense']")


def test_bytes_in_filters(shell, filled):
    shell(f"put '{filled}', 'bytes', 'f:q', \"\\x9f\\xff\"")
    for typed in ("=, 'binary:\\x9f\\xff'", ">=, 'binaryprefix:\\x9f'"):
        assert keys(shell(f"scan '{filled}', FILTER => \"ValueFilter ({typed})\"")) == [b"bytes"]


def test_meta_is_decoded(shell, filled):
    status, out, _ = shell.says(f"scan 'hbase:meta', {{STARTROW => '{filled}', LIMIT => 2}}")
    assert status == 0
    assert "STARTKEY => ''" in out, out
    assert f"NAME => '{filled}," in out
