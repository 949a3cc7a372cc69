"""Quoting and escapes, values with units, globs."""

import math
import shutil
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kirsch.unit import UnitError, matches, parse_boolean, parse_cpu, parse_size, parse_timespan, split_words
from kirsch.unit.syntax import split_values


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("  ", []),
        ("a  b\tc\n", ["a", "b", "c"]),
        ('"a b" c', ["a b", "c"]),
        ("'a \"b' \"c'd\"", ['a "b', "c'd"]),
        ('a"b c"d', ["ab cd"]),
        ("\"\" '' x", ["", "", "x"]),
        (r"a\ b", ["a\\ b"]),
        (r"a\sb \t\n", ["a b", "\t\n"]),
        (r"'\x41\101\u00e9\U0001f600'", ["AAé😀"]),
        (r"\xc3\xa9 \xff", ["é", "\udcff"]),
        (r"\" \' \\", ['"', "'", "\\"]),
        (
            r"\q \x0 \x00 \000 \400 \ud800 \U00110000",
            [r"\q", r"\x0", r"\x00", r"\000", r"\400", r"\ud800", r"\U00110000"],
        ),
        ("/bin/sh -c 'echo \"$A\"; exit 1'", ["/bin/sh", "-c", 'echo "$A"; exit 1']),
    ],
)
def test_words(text, expected):
    assert split_words(text) == expected


@pytest.mark.parametrize("text", ['"', "'a", "\"a'", 'a" b', "'a\\'"])
def test_unbalanced_quotes(text):
    with pytest.raises(UnitError, match=r"unbalanced quotes: . is opened and never closed"):
        split_words(text)


@pytest.mark.parametrize("text", ["\\", "a\\", '"\\'])
def test_a_backslash_at_the_end(text):
    with pytest.raises(UnitError, match="a backslash at the end"):
        split_words(text)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]))))
def test_quoted_words_come_back(words):
    quoted = " ".join('"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"' for word in words)
    assert split_words(quoted) == words


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_is_words_or_a_unit_error(text):
    try:
        words = split_words(text)
    except UnitError:
        return
    assert all(isinstance(word, str) for word in words)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a=1", ["a=1"]),
        ("a b", ["a b"]),
        ('"a=1"', ["a=1"]),
        ('"a=1" "b=2 3"', ["a=1", "b=2 3"]),
        ('"a" b "c"', ["a", "b", "c"]),
        ('a "b"', ['a "b"']),
        (r'"a\x2db"', [r"a\x2db"]),
    ],
)
def test_values_of_fleet(text, expected):
    assert split_values(text) == expected


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5", 5),
        (" 90 ", 90),
        ("1min 30s", 90),
        ("1m30s", 90),
        ("2 h", 7200),
        ("48hr", 172800),
        ("1y 12month", 63115200),
        ("55s500ms", 55.5),
        ("300ms20s 5day", 432020.3),
        ("1.5h", 5400),
        ("5M", 13149000),
        ("1w", 604800),
        ("100us", 0.0001),
        ("100µs", 0.0001),
        ("0", 0),
        ("+5", 5),
        (".5", 0.5),
        ("1min +5", 65),
        ("5s.5", 5.5),
        ("infinity", math.inf),
    ],
)
def test_timespans(text, seconds):
    assert parse_timespan(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "s",
        "-1",
        "1x",
        "1e3",
        "5 parsecs",
        "1,5s",
        "nan",
        "9" * 5000,
        "1.2.3",
        "٣",
        "+.5",
        "++5",
        "+ 5",
        ".",
        ".5.5",
        "5.5.5",
    ],
)
def test_no_timespans(text):
    with pytest.raises(UnitError, match="time span"):
        parse_timespan(text)


units = st.sampled_from(
    ["us", "ms", "s", "", "m", "min", "h", "hr", "d", "days", "w", "M", "month", "y", "years"]
)
spans = st.lists(st.builds("{}{}".format, st.integers(0, 90), units), min_size=1, max_size=4).map(" ".join)


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd-analyze here")
@settings(max_examples=5)
@given(st.lists(spans, min_size=50, max_size=50))
def test_as_systemd_analyze_does(texts):
    ran = subprocess.run(["systemd-analyze", "timespan", *texts], capture_output=True, text=True, check=True)
    said = [line.split()[1] for line in ran.stdout.splitlines() if line.lstrip().startswith("μs:")]
    assert [round(parse_timespan(text) * 1e6) for text in texts] == [int(each) for each in said]


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("512", 512),
        ("1K", 1024),
        ("512M", 512 << 20),
        ("1.5G", 3 << 29),
        ("2 T", 2 << 40),
        ("10B", 10),
        ("0", 0),
    ],
)
def test_sizes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "M", "512MB", "512m", "-1", "1e9", "0x10", "infinity", "9" * 30])
def test_no_sizes(text):
    with pytest.raises(UnitError, match="size"):
        parse_size(text)


@pytest.mark.parametrize("text", ["1", "yes", "Y", "true", "T", "ON"])
def test_true(text):
    assert parse_boolean(text) is True


@pytest.mark.parametrize("text", ["0", "no", "N", "false", "F", "off"])
def test_false(text):
    assert parse_boolean(text) is False


@pytest.mark.parametrize("text", ["", "maybe", "2", "ja"])
def test_no_boolean(text):
    with pytest.raises(UnitError, match="boolean"):
        parse_boolean(text)


@pytest.mark.parametrize(
    ("text", "cores"), [("2", 2), ("0.5", 0.5), ("50%", 0.5), ("150%", 1.5), ("12.5%", 0.125)]
)
def test_cpu(text, cores):
    assert parse_cpu(text) == cores


@pytest.mark.parametrize("text", ["", "0", "0%", "-1", "two", "1e3", "nan", "inf", "1 %", ".5"])
def test_no_cpu(text):
    with pytest.raises(UnitError, match="number of cores"):
        parse_cpu(text)


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("a.service", "a.service", True),
        ("a.service", "aXservice", False),
        ("*.service", "a@1.service", True),
        ("a@*.service", "a.service", False),
        ("a?.service", "ab.service", True),
        ("a[0-9].service", "a7.service", True),
        ("a[^0-9].service", "a7.service", False),
        ("a[^0-9].service", "ab.service", True),
        ("[[|&~^].service", "|.service", True),
        (r"a\x2db.service", r"a\x2db.service", True),
        ("a", "ab", False),
        ("", "", True),
        ("a*b*c", "aXbYbZc", True),
        ("a*b*c", "aXcYb", False),
        ("*a*", "xay", True),
        ("a*a", "a", False),
        ("**", "", True),
        ("*?", "", False),
        ("*a" * 60 + "*b", "a" * 256, False),
    ],
)
def test_globs(pattern, name, expected):
    assert matches(pattern, name) is expected


@pytest.mark.parametrize("pattern", ["[", "a[b", "[]", "[z-a]"])
def test_bad_globs(pattern):
    with pytest.raises(UnitError, match="invalid pattern"):
        matches(pattern, "a")


@given(st.text(), st.text())
def test_any_glob_matches_or_not_or_is_refused(pattern, name):
    try:
        assert matches(pattern, name) in (True, False)
    except UnitError:
        assert "[" in pattern


@given(st.text(st.sampled_from("abc@.-\\")))
def test_a_name_matches_itself_and_star(name):
    assert matches(name, name)
    assert matches("*", name)
