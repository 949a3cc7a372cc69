"""Running code without a server: mistakes, errors, what is shown, JSON; help."""

import json
import sys
from io import StringIO

import pytest

from kirsch.hbase.shell import answers
from kirsch.hbase.shell.answers import Facts, Grid, Names, Stream, Text
from kirsch.hbase.shell.command import GROUPS, UsageError, commands
from kirsch.hbase.shell.help import help_of, python_form
from kirsch.hbase.shell.interpreter import Interpreter
from kirsch.hbase.shell.output import Output
from kirsch.hbase.shell.session import Session, shown


@pytest.fixture
def run(capsys):
    """Runs code: exit status, output, errors."""

    def never():
        raise AssertionError("it connects")

    def running(source, as_json=False, name="<command>"):
        out = StringIO()
        status = Interpreter(Session(never), Output(out, as_json=as_json)).run(source, name)
        said = capsys.readouterr()
        return status, said.out + out.getvalue(), said.err

    return running


@pytest.mark.parametrize(
    ("source", "out"),
    [
        ("1 + 1", "2\n"),
        ("x = 5; x\nx * 2", "5\n10\n"),
        ("None", ""),
        ("'two\\nlines'", "two\nlines\n"),
        ("b'\\x00a\\xff'", "\\x00a\\xFF\n"),
        (r"b'a\\b'", "a\\x5Cb\n"),
        (r"b'\xff\\'", "\\xFF\\x5C\n"),
        ("True", "true\n"),
        ("[1, 'a']", "[1, 'a']\n"),
        ("6 * 7; _ + 1", "42\n43\n"),
        ("for i in range(2):\n    i", ""),
        ('for i in 1..3 do puts "row#{i}" end', "row1\nrow2\nrow3\n"),
        (
            "for a in 'a'..'b' do for b in 1...3 do puts \"#{a}#{b}\" end end",
            "a1\na2\nb1\nb2\n",
        ),
        ("('8'..'11').each { |i| puts i }; for i in '08'..'09' do puts i end", "8\n9\n10\n11\n08\n09\n"),
        ("for i in 'row-09'..'row-10' do puts i end; for i in 'b'..'a' do puts i end", "row-09\nrow-10\n"),
        ("for i in 'zy'..'zz' do puts i end", "zy\nzz\n"),
        ("for i in 'az'...'bb' do puts i end; for i in 'Zz'..'Zz' do puts i end", "az\nba\nZz\n"),
        ("puts \"#{nil}, #{true}, #{1 + 1}, #{'a'}\"", ", true, 2, a\n"),
        ('puts "\\xffa#{7}"', "\\xffa7\n"),
    ],
)
def test_python(run, source, out):
    assert run(source) == (0, out, "")


@pytest.mark.parametrize(
    ("source", "status", "error"),
    [
        ("scn 't'", 2, "there is no command scn; do you mean scan?"),
        ("frobnicate 't'", 2, "there is no command frobnicate"),
        ("scan 't' 5", 2, "invalid syntax"),
        ("scan 't", 2, "the string is not closed"),
        ("1 +", 2, "invalid syntax"),
        ("x = 1\ny = = 2", 2, "line 2: invalid syntax"),
        ("list 't', 5, 6", 2, "list: too many arguments. It is called as: list"),
        ("put 't', 'r'", 2, "put: missing"),
        ("status LIMIT => 1", 2, "status has no option LIMIT"),
        ("scann", 1, "NameError: name 'scann' is not defined; do you mean scan?"),
        ("scan t1", 1, "NameError: name 't1' is not defined; text stands in quotes: 't1'"),
        ("help dml", 1, "NameError: name 'dml' is not defined; text stands in quotes: 'dml'"),
        ("print(t1)", 1, "NameError: name 't1' is not defined"),
        ("1/0", 1, "ZeroDivisionError: division by zero"),
        ("def f():\n    return {}['k']\n\nf()", 1, "KeyError: 'k' (line 2: return {}['k'])"),
        # Of libraries' lines nobody knows.
        (
            "import json\n\njson.loads('x')",
            1,
            "JSONDecodeError: Expecting value: line 1 column 1 (char 0) (line 3: ",
        ),
        ("raise ValueError('one\\ntwo')", 1, "ValueError: one"),
        ("raise ValueError", 1, "ValueError"),
        ("import nowhere", 1, "ModuleNotFoundError: No module named 'nowhere'"),
        ("help 'nix'", 2, "there is no command or group nix"),
        ("\x00", 2, "source code string cannot contain null bytes"),
        ("(" * 5000, 2, ""),
    ],
)
def test_errors_are_a_line(run, source, status, error):
    got, out, said = run(source)
    assert (got, out) == (status, "")
    assert said.startswith(f"kirsch: {error}") or error in said
    assert len(said.splitlines()) == 1
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("source", "complete"),
    [
        ("1 + 1", True),
        ("scan 't1'", True),
        ("scan 't1',", False),
        ("create 't1', {NAME => 'f',", False),
        ("scan('t1',", False),
        ("for i in x:", False),
        ("for i in x:\n    put 't', i", False),
        ("for i in x:\n    put 't', i\n", True),
        ("for i in x:\n    put 't', i\n    ", True),
        ("x = '''", False),
        ("x = = 1", True),
        ("scan 't", True),
        ("a = 1; list; b = 2", True),
        ("disable 't1'\ndrop 't1'", True),
    ],
)
def test_when_more_lines_are_awaited(source, complete):
    assert Interpreter(Session(lambda: None), Output(StringIO())).complete(source) is complete


def test_what_comes_after_an_error_is_not_run(run):
    status, out, _ = run("1\n2/0\n3")
    assert (status, out) == (1, "1\n")


DROPPED = """
import signal, time
class Finalized:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)

while True:
    Finalized()
    time.sleep(600)
"""


@pytest.mark.timeout(60)
def test_control_c_in_a_finalizer_is_heard(run):
    """Python drops it there; and prints a traceback."""
    status, out, said = run(DROPPED)
    assert (status, out, said) == (130, "", "kirsch: interrupted\n")


def test_what_java_says_of_control_c_is_no_error(run):
    """Such as what a mutator is told, which sends what it has when a `with` is left."""
    code = "from kirsch.hbase import HBaseError\n\ntry:\n    raise {}\nfinally:\n    raise HBaseError('cut')"
    assert run(code.format("KeyboardInterrupt")) == (130, "", "kirsch: interrupted\n")
    assert run(code.format("ValueError")) == (1, "", "kirsch: cut\n")


def test_what_a_finalizer_raises_is_told_as_ever(run, monkeypatch):
    told = []
    monkeypatch.setattr(sys, "unraisablehook", told.append)
    hook = sys.unraisablehook
    code = "class Finalized:\n    def __del__(self):\n        1/0\n\nx = Finalized(); del x"
    assert run(code)[0] == 0
    assert sys.unraisablehook is hook
    assert [dropped.exc_type for dropped in told] == [ZeroDivisionError]


@pytest.mark.parametrize(
    "source", ["from org.apache.hadoop.hbase.client import Scan", "import java.util.Map"]
)
def test_who_imports_javas_classes_waits_for_java(run, source):
    status, out, said = run(source)
    assert (status, out) == (1, "")
    assert said.startswith("kirsch: AssertionError: it connects")


def test_a_package_of_pythons_has_nothing_to_do_with_java(run, tmp_path, monkeypatch):
    (tmp_path / "net").mkdir()
    (tmp_path / "net/mine.py").write_text("ROWS = 3\n")
    (tmp_path / "net/__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    assert run("from net.mine import ROWS; ROWS") == (0, "3\n", "")


def test_exit_leaves_with_a_status(run):
    with pytest.raises(SystemExit) as left:
        run("1; exit 3; 2")
    assert left.value.code == 3


def test_debug_shows_traces(run):
    status, out, said = run("debug; 1/0")
    assert (status, out) == (1, "stack traces are shown\n")
    assert said.startswith("kirsch: Traceback (most recent call last):")


def test_json(run):
    assert run("{'a': b'x'}\n[1]\n'é'\nb'\\xff'", as_json=True)[1].splitlines() == [
        '{"a": "x"}', "[1]", '"é"', '{"hex": "ff"}',
    ]  # fmt: skip


def stream(rows):
    return Stream(("ROW", "VALUE"), iter(rows), lambda row: [row])


@pytest.mark.parametrize(
    ("value", "lines"),
    [
        (Names("TABLE", ["a", "bcdefg"]), ["TABLE", "a", "bcdefg"]),
        (Names("TABLE", []), ["TABLE"]),
        (Grid(("A", "BC"), [(1, None), ("xyz", b"\x00")]), ["A    BC", "1    -", "xyz  \\x00"]),
        (Grid(("NAME", "CREATED"), [("s", 0)]), ["NAME  CREATED", "s     1970-01-01T00:00:00.000Z"]),
        (Facts({"A": 1, "LONG": ["x", "y"]}), ["A     1", "LONG  x, y"]),
        (Facts({"A": {"k": True}}, "told so"), ["told so"]),
        (Text("a\nb"), ["a", "b"]),
        (stream([(b"r", b"v\n")] * 2), ["ROW  VALUE", "r    v\\x0A", "r    v\\x0A"]),
        (None, []),
    ],
)
def test_what_answers_look_like(value, lines):
    assert list(answers.lines(value)) == lines


def test_what_is_said_behind_an_answer():
    assert answers.footer(Names("TABLE", ["a"]), 0) == "1 table"
    assert answers.footer(Grid(("A",), [(1,), (2,)], "family"), 0) == "2 families"
    assert answers.footer(stream([]), 1234) == "1,234 rows"
    assert answers.footer(Facts({}), 0) == ""


def test_colours_are_around_what_is_shown():
    plain = list(answers.lines(Grid(("A", "B"), [(1, 2)])))
    painted = list(answers.lines(Grid(("A", "B"), [(1, 2)]), colour=True))
    assert painted != plain
    assert [
        line.replace("\x1b[1m", "").replace("\x1b[36m", "").replace("\x1b[0m", "") for line in painted
    ] == plain


def test_bytes_that_nobody_can_read():
    assert shown(b"a\\b\x7f\x80") == "a\\x5Cb\\x7F\\x80"
    assert shown("é\x1b[31m".encode()) == "é\\x1B[31m"


def test_help_tells_every_command():
    whole = help_of()
    for group, (what, _) in GROUPS.items():
        assert group in whole
        told = help_of(group)
        assert what in told
        for name, command in commands().items():
            if command.group == group:
                assert name in whole
                assert f"{name}" in told
                assert command.summary in told


@pytest.mark.parametrize("name", commands())
def test_each_command_is_told_how_it_is_called(name):
    command = commands()[name]
    assert command.summary.endswith(".")
    assert command.examples, "it has no example"
    for example in command.examples:
        # Both forms can be read.
        compile(python_form(command, example), name, "exec")
        if not example.startswith(("t.", "grant 't1'")):
            assert example.split()[0] == name
    assert command.examples[0] in help_of(name)


@pytest.mark.parametrize("columns", [80, 120])
def test_help_is_as_wide_as_the_terminal(columns):
    groups = help_of("", False, columns).partition("general")[2].partition("Besides")[0].splitlines()
    assert columns - 20 < max(map(len, groups)) <= columns


def test_help_on_what_there_is_not():
    with pytest.raises(UsageError, match="do you mean scan"):
        help_of("scam")


def test_python_has_its_own_help(run, monkeypatch):
    assert run("help(len)")[0] == 0
    assert "sys" in sys.modules
    assert json.loads(run("help 'scan'", as_json=True)[1]).startswith("scan (dml): ")


def test_puts_prints_a_list_line_by_line(capsys):
    interpreter = Interpreter(Session(lambda: None), Output(StringIO()))
    assert interpreter.run("puts(['a', ['b', 1]], b'c'); puts()") == 0
    assert capsys.readouterr().out == "a\nb\n1\nc\n\n"
