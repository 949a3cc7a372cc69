"""The spaced form as Python's: example by example, and whatever hypothesis thinks of."""

import ast

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kirsch.hbase.shell import ruby_syntax

COMMANDS = {"scan", "put", "create", "list", "count", "get", "disable", "drop", "get_table"}


def known(name: str, method: str) -> bool:
    return name in COMMANDS if not method else name == "t" and method in COMMANDS


def translated(source: str) -> str:
    return ruby_syntax.translate(source, known)


@pytest.mark.parametrize(
    ("typed", "python"),
    [
        ("list", "list()"),
        ("scan 't1'", "scan('t1')"),
        ("scan 't1', {LIMIT => 10}", "scan('t1', {'LIMIT': 10})"),
        ("scan 't1', LIMIT => 10, RAW => true", "scan('t1', LIMIT= 10, RAW= True)"),
        ("scan 't1', limit: 10", "scan('t1', limit= 10)"),
        ("scan 't1', {COLUMNS => ['a:b', 'c']}", "scan('t1', {'COLUMNS': ['a:b', 'c']})"),
        ("put 't', 'r', 'f:q', nil", "put('t', 'r', 'f:q', None)"),
        ('put "t", "\\x00a", \'f:\\x00\', "b"', "put('t', b'\\x00a', 'f:\\\\x00', 'b')"),
        ("put t, f'r{i}', key(i)[0], value", "put(t, f'r{i}', key(i)[0], value)"),
        ("get :t1, :r", "get('t1', 'r')"),
        ("create 't', 'f', 'coprocessor$1' => 'x|y'", "create('t', 'f', **{'coprocessor$1': 'x|y'})"),
        ("create 't', {NAME => 'f'}, {'a b' => 1}", "create('t', {'NAME': 'f'}, {'a b': 1})"),
        ("create('t', {NAME => 'f'})", "create('t', {'NAME': 'f'})"),
        ("create(\n't',\nNAME => 'f')", "create(\n't',\nNAME= 'f')"),
        ("scan 't', FILTER => org.x.PageFilter.new(1)", "scan('t', FILTER= org.x.PageFilter(1))"),
        ("scan 't', FILTER => org.x.KeyOnlyFilter.new", "scan('t', FILTER= org.x.KeyOnlyFilter())"),
        ("x = get 't', 'r' # the row", "x = get('t', 'r') # the row"),
        ("x = list", "x = list()"),
        ("disable 't'; drop 't'", "disable('t'); drop('t')"),
        ("scan 't',\n  LIMIT => 1\nlist", "scan('t',\n  LIMIT= 1)\nlist()"),
        ("for i in range(3):\n    put 't', i", "for i in range(3):\n    put('t', i)"),
        ("if x: put 't', 1", "if x: put('t', 1)"),
        ("t.put 'r', 'f:q', 'v'; t.scan", "t.put('r', 'f:q', 'v'); t.scan()"),
        ("get 't', d[:n], x[1:2], {1: 2}", "get('t', d[:n], x[1:2], {1: 2})"),
        # Python stays as it is.
        ("scan('t1', limit=10)", "scan('t1', limit=10)"),
        ("count = 5", "count = 5"),
        ("count in x", "count in x"),
        ("count == 5", "count == 5"),
        ("get.command", "get.command"),
        ("u.scan 't'", "u.scan 't'"),
        ("'''\nscan 't'\n'''", "'''\nscan 't'\n'''"),
        ("f(\nscan\n)", "f(\nscan\n)"),
        ("x = 1; y = {'scan': 2}", "x = 1; y = {'scan': 2}"),
        ("# scan 't'\nlambda: 1", "# scan 't'\nlambda: 1"),
    ],
)
def test_a_line_as_python(typed: str, python: str):
    assert translated(typed) == python


@pytest.mark.parametrize(
    ("typed", "message", "column"),
    [
        ("scan 't", "the string is not closed", 6),
        ("scan 't'}", "} closes nothing", 9),
        ("scan ['t')", ") closes nothing", 10),
        ("scan ['a' => 1]", "a pair with => belongs in { }", 10),
        ("scan 't', => 1", "=> needs a name or a string before it", 11),
        ("scan 't' LIMIT => 1", "a comma is missing before this pair", 15),
        ('put "#{h["', "the #{ is not closed: quotes in it are '…'", 5),
        ('put "\\u{110000}"', "\\u110000 is no character", 5),
    ],
)
def test_a_mistake_is_shown_where_it_is(typed: str, message: str, column: int):
    with pytest.raises(ruby_syntax.SyntaxMistake) as caught:
        translated(typed)
    assert not isinstance(caught.value, ruby_syntax.Incomplete)
    assert (str(caught.value), caught.value.line, caught.value.column) == (message, 1, column)


@pytest.mark.parametrize(
    "typed", ["scan 't1', {", "scan 't1',", "create 't', {NAME =>", "put '''a", "scan('t', {A => 1"]
)
def test_a_beginning_waits_for_more(typed: str):
    if typed.startswith("scan('"):
        assert translated(typed) == typed  # Python's own call: Python says that it is not complete
        return
    with pytest.raises(ruby_syntax.Incomplete):
        translated(typed)


# Values, and how a person writes them in Ruby; the test's own writer knows nothing of the translation.

TEXT = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\n\r"), max_size=8)
KEYS = st.from_regex(r"[A-Z][A-Z_]{0,6}", fullmatch=True).filter(lambda k: k not in ("NIL",))
SCALARS = st.one_of(
    st.integers(0, 10**9),
    TEXT,
    st.binary(max_size=6),
    st.booleans(),
    st.none(),
    st.floats(0, 1e6, allow_nan=False),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.one_of(KEYS, TEXT), inner, max_size=3)
    ),
    max_leaves=6,
)


def ruby(value: object, arrow: str = " => ") -> str:
    if value is None:
        return "nil"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, bytes):
        return '"' + "".join(f"\\x{byte:02X}" for byte in value) + '"' if value else "b''"
    if isinstance(value, str):
        return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
    if isinstance(value, list):
        return "[" + ", ".join(ruby(one) for one in value) + "]"
    if isinstance(value, dict):
        pairs = [
            f"{k if k.isidentifier() and k.isupper() and k.isascii() else ruby(k)}{arrow}{ruby(v)}"
            for k, v in value.items()
        ]
        return "{" + ", ".join(pairs) + "}"
    return repr(value)


@given(
    st.lists(VALUES, min_size=1, max_size=4),
    st.dictionaries(KEYS, VALUES, max_size=3),
    st.sampled_from([" => ", "=>", "\n=> "]),
)
@example(["'", "\\"], {}, " => ")
@example([b"\xff", {"a b": {"A": None}}], {"LIMIT": 1}, "=>")
def test_any_call_as_ruby_writes_it(arguments: list, options: dict, arrow: str):
    first, *rest = arguments
    if not isinstance(first, str | list | dict):
        first = "t"
    typed = "scan " + ", ".join([ruby(first), *(ruby(one, arrow) for one in rest)])
    typed += "".join(f", {key}{arrow}{ruby(value)}" for key, value in options.items())
    seen = []
    eval(translated(typed), {"scan": lambda *a, **o: seen.append((list(a), o))})
    assert seen == [([first, *rest], options)]


@given(st.text("scan'\"{}[]()=>:,;#\\\n tx10 .", max_size=40))
def test_whatever_is_typed_is_translated_or_refused(typed: str):
    try:
        python = translated(typed)
    except ruby_syntax.SyntaxMistake as refused:
        error = refused
    else:
        # Lines keep their numbers.
        assert python.count("\n") == typed.count("\n")
        return
    assert 1 <= error.line <= typed.count("\n") + 1
    assert error.column >= 1


@given(
    st.sampled_from(
        ["x = 1", "for a in b:\n    f(a)", "f'{a}'", "'''scan\n'''", "{'scan': [1, 2]}", "@d\ndef f(): pass"]
    )
)
def test_python_stays_as_it_is(source: str):
    assert translated(source) == source
    ast.parse(source)


@pytest.mark.parametrize(
    ("typed", "python"),
    [
        ("scan('t') { |row, cells| puts(row) }", "for row, cells in each(2, scan('t')): puts(row)"),
        ("scan 't', {LIMIT => 1} { |r| x(r) }", "for r in each(1, scan('t', {'LIMIT': 1})): x(r)"),
        ("list.each { |t| disable t; drop t }", "for t in each(1, list()): disable(t); drop(t)"),
        ("list.each do |t|\n  drop t\nend", "for t in each(1, list()):\n  drop(t)\n"),
        ("x = '{ |a| }'  # { |b| }", "x = '{ |a| }'  # { |b| }"),
        ("for i in 1..3 do list i end", "for i in each(1, upto(1, 3)): list(i)"),
        ("for a, b in list do drop b end; list", "for a, b in each(2, list()): drop(b)\nlist()"),
        ("x = 1; list.each { |t| drop t }", "x = 1\nfor t in each(1, list()): drop(t)"),
        ("(1...n).each { |i| list i }", "for i in each(1, upto(1, n, True)): list(i)"),
        ("3.times do |i| list i end", "for i in each(1, upto(0, 3, True)): list(i)"),
        ("1.upto(3) { |i| list i }", "for i in each(1, upto(1, 3)): list(i)"),
        (
            "for i in 'a'..'c' do for j in 1..2 do put 't', \"#{i}#{j}\" end end",
            "for i in each(1, upto('a', 'c')):\n    for j in each(1, upto(1, 2)): put('t', joined((i), (j)))",
        ),
        (
            "for i in 1..2 do\nfor j in 1..2 do\nlist j\nend\nlist i\nend\nlist",
            "for i in each(1, upto(1, 2)):\n    for j in each(1, upto(1, 2)):\n        list(j)\n"
            "\n    list(i)\n\nlist()",
        ),
        (
            "list.each do |t|\n  scan(t).each do |r|\n    drop r\n  end\nend",
            "for t in each(1, list()):\n  for r in each(1, scan(t)):\n    drop(r)\n\n",
        ),
        ('put "a#{1 + 1}b", x', "put(joined('a', (1 + 1), 'b'), x)"),
        ('put "\\x00#{nil}#{}"', "put(joined(b'\\x00', (None), (None)))"),
        ("[t for t in do_it]", "[t for t in do_it]"),
        ("t = get_table 'a'; t.put 'r', 'f', 1", "t = get_table('a'); t.put('r', 'f', 1)"),
        ("t = get_table 'a'; t = 5; t.put", "t = get_table('a'); t = 5; t.put"),
    ],
)
def test_blocks_and_tables_in_variables(typed, python):
    assert ruby_syntax.translate(typed, lambda name, method: name in COMMANDS and not method) == python


def test_an_open_block_is_incomplete():
    with pytest.raises(ruby_syntax.Incomplete):
        translated("list.each do |t|\n  drop t")


@pytest.mark.parametrize(
    ("source", "begins"),
    [
        ("a\nb\n\nc", [0, 1, 3]),
        ("for x in y:\n    a\n\n    b\nelse:\n    c\nd", [0, 6]),
        ("x = [1,\n2]\ny", [0, 2]),
        ("put 't',\n'r'\nlist", [0, 2]),
        ('x = """\na\n"""\ny', [0, 3]),
        ("@d\ndef f():\n    pass\nf()", [0, 3]),
        ("list.each do |t|\nputs t\nend\nx", [0, 3]),
        ("for i in 1..2 do\nfor j in a do\ny\nend\nend\nx", [0, 5]),
        ("for i in 1..2 do x end\nx", [0, 1]),
        ("# comment\nlist", [0, 1]),
        ("x = 'it''s'\ny = 1 # [\nz", [0, 1, 2]),
    ],
)
def test_a_script_is_split_into_its_statements(source, begins):
    found = list(ruby_syntax.statements(source))
    assert [begin for begin, _ in found] == begins
    assert "".join(text for _, text in found) == source
