"""Command lines, environment files and exit statuses: the parsers below a service."""

import shlex
import signal
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kirsch.bus.process.child import Exit
from kirsch.cluster.runtime.command_line import expand_variables, parse_command_lines
from kirsch.cluster.runtime.environment import parse_assignment, parse_environment_file, unset
from kirsch.cluster.runtime.status import Statuses, describe, explain, parse_signal

# What a unit file's line can hold: it is decoded text without line breaks.
LINES = st.text(st.characters(exclude_characters="\n\r\0", exclude_categories=["Cs"]))
WORDS = st.text(st.characters(min_codepoint=33, max_codepoint=0x2FF), min_size=1)


def commands(text: str) -> list[tuple[str, ...]]:
    return [c.argv({"ONE": "one", "TWO": "two two"}) for c in parse_command_lines("ExecStart", text, str)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # The examples of systemd.service(5), "Command lines".
        ("echo $ONE $TWO ${TWO}", [("echo", "one", "two", "two", "two two")]),
        ('echo one ; echo "two two"', [("echo", "one"), ("echo", "two two")]),
        ("echo / >/dev/null & \\; ls", [("echo", "/", ">/dev/null", "&", ";", "ls")]),
        ("sh -c 'dmesg | tac'", [("sh", "-c", "dmesg | tac")]),
        # Beyond them.
        ('echo ";" a;b', [("echo", ";", "a;b")]),
        ("echo $$ONE ${ONE}x$ONE a$ONE $NONE ${NONE}", [("echo", "$ONE", "onex$ONE", "a$ONE", "")]),
        ("@/bin/sh -sh -c x", [("-sh", "-c", "x")]),
        (":echo $ONE $$", [("echo", "$ONE", "$$")]),
        ("-@:/bin/a b $ONE", [("b", "$ONE")]),
        ("a ; ; b ;", [("a",), ("b",)]),
        ("echo a\\x20b \\t", [("echo", "a b", "\t")]),
        ("/bin/echo ''", [("/bin/echo", "")]),
    ],
)
def test_command_lines(text, expected):
    assert commands(text) == expected


def test_a_variable_with_quotes_in_it_is_split_as_systemd_does():
    environment = {"ONE": "'one'", "TWO": "'two two' too", "THREE": ""}
    assert expand_variables(("${ONE}", "${TWO}", "${THREE}"), environment) == ["'one'", "'two two' too", ""]
    assert expand_variables(("$ONE", "$TWO", "$THREE"), environment) == ["one", "two two", "too"]


@given(LINES)
def test_any_line_is_parsed_or_refused(text):
    try:
        parsed = parse_command_lines("ExecStart", text, str)
    except ValueError:
        return
    assert all(command.program for command in parsed)


@given(st.lists(WORDS, min_size=1))
def test_quoted_words_come_back(words):
    quoted = " ".join('"' + w.replace("\\", "\\\\").replace('"', '\\"') + '"' for w in words)
    [command] = parse_command_lines("ExecStart", f":/bin/echo {quoted}", str)
    assert command.argv({}) == ("/bin/echo", *words)


ENVIRONMENT_FILE = r"""
# comment = no \
CONTINUED=no
; OTHER=no
EMPTY=
PLAIN=a value, with "quotes" inside
  SPACED  =   trimmed   
SINGLE='a  b \ "c" '
DOUBLE="a \"b\" \$c \x"
MULTI="one
two"
JOINED=one \
two
ESCAPED=a\ b\\c\ 
MIXED="a"b 'c'
nonsense
1BAD=x
COMMENT=value # kept
"""  # noqa: W291


def test_an_environment_file():
    assert parse_environment_file(ENVIRONMENT_FILE) == {
        "EMPTY": "",
        "PLAIN": 'a value, with "quotes" inside',
        "SPACED": "trimmed",
        "SINGLE": 'a  b \\ "c" ',
        "DOUBLE": 'a "b" $c \\x',
        "MULTI": "one\ntwo",
        "JOINED": "one two",
        "ESCAPED": "a b\\c ",
        "MIXED": "ab 'c'",
        "COMMENT": "value # kept",
    }


@given(st.text())
def test_any_text_is_an_environment_file(text):
    for name, value in parse_environment_file(text).items():
        assert parse_assignment(f"{name}={value}") == (name, value)


@given(
    st.dictionaries(
        st.from_regex(r"[A-Z_][A-Z0-9_]{0,5}", fullmatch=True),
        st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
    )
)
def test_single_quoted_values_come_back(variables):
    variables = {name: value.replace("'", "") for name, value in variables.items()}
    text = "".join(f"{name}='{value}'\n" for name, value in variables.items())
    assert parse_environment_file(text) == variables


@given(st.lists(st.text(st.sampled_from('ab "\\$`'), max_size=6), max_size=3))
def test_double_quotes_are_the_shells(values):
    """`sh` reads the same line to the same value, where nothing is left for it to expand."""
    for value in values:
        escaped = "".join(f"\\{c}" if c in '"\\$`' else c for c in value)
        line = f'X="{escaped}"'
        assert parse_environment_file(line) == {"X": value}
        assert shlex.split(line) == [f"X={value}"] or "$" in value or "`" in value


def test_the_shell_agrees_on_quotes():
    line = r'X="a \"b\" \\ \$c \` \x"'
    shown = subprocess.check_output(["sh", "-c", f'{line}; printf %s "$X"'], text=True)
    assert parse_environment_file(line) == {"X": shown}


def test_unset():
    environment = {"A": "1", "B": "2", "C": "3"}
    assert unset(environment, ["A", "B=2", "C=4", "D"]) == {"C": "3"}


def test_statuses_and_signals():
    statuses = Statuses.parse(["3", "TEMPFAIL", "SIGUSR1", "TERM"])
    assert [Exit(code=3) in statuses, Exit(code=75) in statuses, Exit(code=4) in statuses] == [
        True,
        True,
        False,
    ]
    assert Exit(signal=signal.SIGTERM) in statuses
    assert Exit(code=15) not in statuses
    assert parse_signal("SIGHUP") == parse_signal("HUP") == parse_signal("1") == 1
    for bad in ("", "0", "999", "SIG", "SIG_DFL", "nonsense"):
        with pytest.raises(ValueError, match="no such signal"):
            parse_signal(bad)


def test_exits_in_words():
    assert describe(Exit(code=3)) == "code=exited, status=3/NOTIMPLEMENTED"
    assert describe(Exit(code=42)) == "code=exited, status=42"
    assert describe(Exit(signal=9)) == "code=killed, status=9/KILL"
    assert explain(Exit(code=3)) == "exited with status 3"
    assert explain(Exit(signal=11)) == "was killed by SIGSEGV"
