"""Unit files: what is read, where it stands, and what is refused."""

import hashlib
import time

import pytest

from kirsch.unit import Entry, Option, UnitError, UnitFile
from kirsch.unit.syntax import MAX_LINE


def values(text: str, name: str = "A", section: str = "S") -> list[str]:
    return [entry.value for entry in UnitFile.parse(text).values(section, name)]


def test_sections_and_entries_in_order():
    file = UnitFile.parse("[B]\nX=1\n[A]\nY=2\n[B]\nX=3\n[Empty]\n", "x.service")
    assert file.sections == ("B", "A", "Empty")
    assert [entry.value for entry in file.entries("B")] == ["1", "3"]
    assert file.has("Empty")
    assert file.entries("Empty") == ()
    assert not file.has("Missing")
    assert file.entries("Missing") == ()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[S]\nA=b", ["b"]),
        ("[S]\n  A \t=  b c\t \n", ["b c"]),
        ("[S]\r\nA=b\r\n", ["b"]),
        ("[S]\rA=b\r", ["b"]),
        ("\ufeff[S]\nA=b\n", ["b"]),
        ("[S]\nA=b=c\n", ["b=c"]),
        ("[S]\nA=# no comment\n", ["# no comment"]),
        ("[S]\n  # A=1\n;A=2\nA=3\n", ["3"]),
        ("[S]\nA=b\\\nc\n", ["b c"]),
        ("[S]\nA=b \\\n  c \\\n  d\n", ["b    c    d"]),
        ("[S]\nA=b\\\n# comment \\\n  ; comment\nc\n", ["b c"]),
        ("[S]\nA=b\\\n\nC=d\n", ["b"]),
        ("[S]\nA=b\\", ["b"]),
        ("[S]\nA=b\\\\\nC=d\n", ["b\\\\"]),
        ("[S]\nA=b\\\\\\\nc\n", ["b\\\\ c"]),
        ("[S]\nA=b\\ \nC=d\n", ["b\\"]),
        ("[S]\n# comment \\\nA=b\n", ["b"]),
        ("[S]\n\\\nA=b\n", ["b"]),
        ("[S]\nA\\\n=b\n", ["b"]),
        ("[S]\nA=1\nA=2\n", ["1", "2"]),
        ("[S]\nA=1\nA=\nA=2\n[T]\n[S]\nA=3\n", ["2", "3"]),
        ("[S]\nA=1\nA= \n", []),
        ("[S]\nA=1\nA=\\\n\nB=\n", []),
    ],
)
def test_values_as_systemd_reads_them(text, expected):
    assert values(text) == expected


def test_get_is_the_last_that_stands():
    file = UnitFile.parse("[S]\nA=1\nA=2\nB=1\nB=\n")
    assert file.get("S", "A").value == "2"
    assert file.get("S", "B") is None
    assert file.get("S", "C") is None
    assert file.get("T", "A") is None


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ("[S]\nA=b", 2, 3),
        ("[S]\n\n  A =  b", 3, 8),
        ("[S]\nA=", 2, 3),
        ("[S]\nA= \t", 2, 3),
        ("[S]\nA=b \\\n c", 2, 3),
        ("[S]\nA=\\\n# comment\n  b", 4, 3),
        ("[S]\nLong\\\n Name = b", 3, 9),
        ("\ufeff[S]\r\nA=b", 2, 3),
    ],
)
def test_an_entry_knows_where_its_value_begins(text, line, column):
    [entry] = UnitFile.parse(text).entries("S")
    assert (entry.line, entry.column) == (line, column)


def test_an_entry_in_full():
    [entry] = UnitFile.parse("[S]\n  A = b \\\n   c\n").entries("S")
    assert entry == Entry("S", "A", "b     c", 2, 7, 3, "b \\\n   c")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("A=b\n", "x.service:1:1: A= stands before any [Section]"),
        ("\n# c\n  A=b\n", "x.service:3:3: A= stands before any [Section]"),
        ("[S]\nfoo bar\n", "x.service:2:1: missing '=' in 'foo bar'"),
        ("[S]\n  foo \\\n  bar\n", "x.service:2:3: missing '=' in 'foo    bar'"),
        ("[S]\n =b\n", "x.service:2:2: missing name before '='"),
        ("[S]\n\u00a0\n", "x.service:2:1: missing '=' in '\\xa0'"),
        ("[S\nA=b\n", "x.service:1:1: unfinished section header '[S': a section is written [Name]"),
        ("\n  [S] x\n", "x.service:2:3: unfinished section header '[S] x': a section is written [Name]"),
        ("[", "x.service:1:1: unfinished section header '[': a section is written [Name]"),
        ("[]\n", "x.service:1:1: empty section header: a section is written [Name]"),
        ('[a"b]\n', "x.service:1:1: invalid character '\"' in section header '[a\"b]'"),
        ("[a][b]\n", "x.service:1:1: invalid character ']' in section header '[a][b]'"),
        ("[S]\nA=b\0c\n", "x.service:2:4: a NUL character: this is no unit file"),
    ],
)
def test_malformed_text_is_refused(text, message):
    with pytest.raises(UnitError) as refused:
        UnitFile.parse(text, "x.service")
    assert str(refused.value) == message


def test_messages_stay_short_whatever_the_line():
    with pytest.raises(UnitError) as refused:
        UnitFile.parse("[S]\n" + "x" * 100_000)
    assert len(str(refused.value)) < 100


def test_messages_can_be_printed():
    error = UnitError("\udcff \x1b[2J \n é " + "x" * 600)
    assert str(error).startswith("\\udcff \\x1b[2J \\n é xxx")
    assert str(error).endswith("xxx...")
    assert str(error).encode()


def test_a_program_is_no_unit_file():
    with open("/proc/self/exe", "rb") as program, pytest.raises(UnitError):
        UnitFile.parse(program.read(), "python")


@pytest.mark.parametrize("prefix", ["A=", "# ", "A=é"])
def test_the_longest_line(prefix):
    fill = "x" * (MAX_LINE - len(prefix.encode()))
    assert UnitFile.parse(f"[S]\n{prefix}{fill}\n")
    with pytest.raises(UnitError, match="2:1: line too long: the limit is 1048576 bytes"):
        UnitFile.parse(f"[S]\n{prefix}{fill}x\n")


def test_the_longest_line_of_many():
    half = "x" * (MAX_LINE // 2 - 2)
    assert UnitFile.parse(f"[S]\nA={half}\\\n{half}\n")
    with pytest.raises(UnitError, match="2:1: line too long"):
        UnitFile.parse(f"[S]\nA={half}\\\n{half}xxxx\n")


@pytest.mark.parametrize(
    "data",
    [
        b"[S]\n" + b"A=b\n" * (MAX_LINE // 4),
        b"\n" * MAX_LINE,
        b"[S]\nA=\\\n" + b"b\\\n" * (MAX_LINE // 3 - 4),
        b"[S]\nA=\\\n" + b"#\n" * (MAX_LINE // 2),
        b"[S]\nA=" + b"\\" * (MAX_LINE - 3),
        b"[S]\nA=" + b" " * (MAX_LINE - 2),
        b"[S]\nA=b\\\n \\\n" * (MAX_LINE // 12),
    ],
    ids=["assignments", "blank", "continued", "comments", "backslashes", "spaces", "many continued"],
)
def test_a_megabyte_takes_no_time(data):
    began = time.process_time()
    file = UnitFile.parse(data)
    file.values("S", "A")
    assert time.process_time() - began < 2, "linear it takes a few tenths of a second"
    assert bytes(file) == data


@pytest.mark.parametrize("file", ["a.container", "units/a.kube"])
def test_for_quadlet_a_backslash_before_spaces_continues(file):
    text = "[Container]\nExec=one \\ \t\n  two=2\nImage=x\n"
    parsed = UnitFile.parse(text, file)
    assert parsed.get("Container", "Exec").value.split() == ["one", "two=2"]
    assert parsed.get("Container", "Image").line == 4
    assert parsed.text == text


@pytest.mark.parametrize("file", ["a.service", ""])
def test_for_systemd_it_does_not(file):
    parsed = UnitFile.parse("[Service]\nA=one \\ \n  two=2\n", file)
    assert parsed.get("Service", "A").value == "one \\"
    assert parsed.get("Service", "two").value == "2"


def test_equal_when_the_bytes_are():
    one, two = UnitFile.parse("[S]\nA=b\n", "one"), UnitFile.parse(b"[S]\nA=b\n", "two")
    assert one == two
    assert len({one, two, UnitFile.parse("[S]\nA=c\n")}) == 2


def test_errors_at_an_entry():
    file = UnitFile.parse("[S]\nA=b\n", "x.service")
    assert str(file.error("wrong", file.get("S", "A"))) == "x.service:2:3: wrong"
    assert str(file.error("wrong")) == "x.service: wrong"
    assert str(UnitError("wrong")) == "wrong"
    with pytest.raises(UnitError, match=r"^x\.service:2:3: A: wrong$"), file.at(file.get("S", "A")):
        raise UnitError("wrong")
    with pytest.raises(UnitError, match=r"^y:9: wrong$"), file.at(file.get("S", "A")):
        raise UnitError("wrong", "y", 9)


def test_hash_is_of_the_bytes():
    data = b"[S]\nA = \xff\n"
    assert UnitFile.parse(data).hash == hashlib.sha256(data).hexdigest()


def test_text_that_cannot_be_bytes():
    with pytest.raises(UnitError, match="x: not text: a lone surrogate at character 7"):
        UnitFile.parse("[S]\nA=\ud800", "x")


class TestFleet:
    """Options as fleet's API has them, and the hash it takes of them."""

    def test_hash_known_from_fleets_own_tests(self):
        file = UnitFile.parse("[Service]\nExecStart=/bin/sleep 100\n")
        assert file.fleet_hash == "1c6fb6f3684bafb0c173d8b8b957ceff031180c1"

    def test_hash_of_the_text_written_by_hand(self):
        file = UnitFile.parse(
            "# a comment\n[Unit]\nDescription = a  \n[Service]\n\nExecStart=/bin/a \\\n  b\n\n"
            "[Nothing]\n[Unit]\n;After=y\nAfter=x"
        )
        by_hand = b"[Unit]\nDescription=a\nAfter=x\n\n[Service]\nExecStart=/bin/a \\\n  b\n"
        assert file.fleet_hash == hashlib.sha1(by_hand).hexdigest()

    def test_hash_of_nothing(self):
        assert UnitFile.parse("").fleet_hash == hashlib.sha1(b"").hexdigest()

    def test_options(self):
        file = UnitFile.parse("[S]\nA=1\n[T]\nB=\n[S]\nA = 2 \\\n  3\nC=4\\\n\nD=5\\\n")
        assert file.options == (
            Option("S", "A", "1"),
            Option("T", "B", ""),
            Option("S", "A", "2 \\\n  3"),
            Option("S", "C", "4\\\n"),
            Option("S", "D", "5\\\n"),
        )

    def test_from_options(self):
        options = [("S", "A", "1"), ("T", "B", ""), ("S", "A", "2 \\\n  3")]
        file = UnitFile.from_options(options, "x.service")
        assert file.text == "[S]\nA=1\nA=2 \\\n  3\n\n[T]\nB=\n"
        assert file.file == "x.service"
        assert sorted(file.options) == sorted(options)

    def test_from_no_options(self):
        assert UnitFile.from_options([]).text == ""

    @pytest.mark.parametrize(
        "option",
        [
            ("S", "A", "1\nExecStartPost=/bin/evil"),
            ("S", "A", "1\n[Service]"),
            ("S", "A", "1\n"),
            ("S", "A", "1\\"),
            ("S", "A\nB", "1"),
            ("S", "A=B", "1"),
            ("S", "#A", "1"),
            ("S", "", "1"),
            ("S]\n[T", "A", "1"),
            ("", "A", "1"),
            ("S", "A", "\0"),
        ],
    )
    def test_options_that_would_be_read_as_others(self, option):
        try:
            file = UnitFile.from_options([option, ("S", "Z", "9")])
        except UnitError:
            return
        assert [(each.section, each.name) for each in file.options] == [option[:2], ("S", "Z")]
        assert file.options[0].value == option[2].strip(" \t\r\n")
