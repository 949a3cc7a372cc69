"""Every byte comes back, of any text and of every unit file on this machine."""

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kirsch.unit import UNIT_TYPES, UnitError, UnitFile

SUFFIXES = {f".{kind}" for kind in UNIT_TYPES} | {".network", ".link", ".netdev"}


def read(data: bytes | str) -> UnitFile | UnitError:
    try:
        return UnitFile.parse(data, "x")
    except UnitError as error:
        return error


space = st.text(" \t", max_size=3)
word = st.text(
    st.characters(exclude_characters="\0\r\n\\=[]#;\"' \t", exclude_categories=["Cs", "Cc"]), min_size=1
)
chunk = st.text(st.characters(exclude_characters="\0\r\n", exclude_categories=["Cs"]))
end = st.sampled_from(["\n", "\r\n", "\r"])
comment = st.builds("{}{}{}{}".format, space, st.sampled_from("#;"), chunk, end)
blank = st.builds("{}{}".format, space, end)
header = st.builds("{}[{}]{}{}".format, space, word, space, end)
more = st.builds("\\{}{}{}{}".format, end, st.lists(comment, max_size=2).map("".join), space, word)
assignment = st.builds(
    "{}{}{}={}{}{}{}".format, space, word, space, space, chunk, st.lists(more, max_size=3).map("".join), end
)
body = st.lists(st.one_of(comment, blank, header, assignment))
well_formed = st.builds(
    "{}{}[S]\n{}{}".format,
    st.sampled_from(["", "\ufeff"]),
    st.lists(comment, max_size=2).map("".join),
    body.map("".join),
    st.sampled_from(["", "A=b", "A=b\\", "# c", " ", "A="]),
)


@given(well_formed)
def test_a_well_formed_text_comes_back(text):
    file = read(text)
    if isinstance(file, UnitError):
        # A backslash at the end of a chunk swallows the next line, which may then lack its '='.
        assert "\\" in text
    else:
        assert file.text == text
        assert bytes(file) == text.encode()


@given(st.binary())
@example(b"[S]\nA=\xff\xfe\xc3\n")
@example(b"\xef\xbb\xbf[S]\nA=1")
def test_any_bytes_come_back_or_are_refused(data):
    file = read(data)
    if isinstance(file, UnitError):
        assert file.file == "x"
        assert 1 <= file.line <= data.count(b"\n") + data.count(b"\r") + 1
        assert file.column >= 1
        assert "\n" not in str(file)
    else:
        assert bytes(file) == data
        assert UnitFile.parse(file.text) == file


@given(st.binary().map(lambda data: data.translate(None, b"\0\r\n")))
def test_any_bytes_in_a_value_come_back(data):
    file = UnitFile.parse(b"[S]\nA=" + data)
    [entry] = file.entries("S")
    if not data.endswith(b"\\"):
        assert entry.value.encode("utf-8", "surrogateescape") == data.strip(b" \t")


@given(well_formed)
def test_options_make_a_file_with_the_same_options(text):
    file = read(text)
    # Only at the end of the file can a backslash have no line after it.
    if isinstance(file, UnitError) or any(option.value.endswith("\\") for option in file.options):
        return
    order = list(dict.fromkeys(option.section for option in file.options))
    grouped = sorted(file.options, key=lambda option: order.index(option.section))
    again = UnitFile.from_options(file.options)
    assert list(again.options) == grouped
    assert again.fleet_hash == file.fleet_hash
    for section in file.sections:
        for entry, same in zip(file.entries(section), again.entries(section), strict=False):
            assert entry.value == same.value


def unit_files() -> list[Path]:
    """Units, what systemd-networkd reads, and drop-ins, which all share one syntax."""
    found = set()
    for folder in ("/usr/lib/systemd", "/lib/systemd", "/etc/systemd"):
        for path in Path(folder).rglob("*"):
            is_drop_in = path.suffix == ".conf" and path.parent.suffix == ".d"
            if (path.suffix in SUFFIXES or is_drop_in) and path.is_file():
                found.add(path.resolve())
    return sorted(found)


def test_every_unit_file_of_this_machine():
    files = unit_files()
    if not files:
        pytest.skip("no unit files here")
    for path in files:
        data = path.read_bytes()
        file = UnitFile.parse(data, str(path))
        assert bytes(file) == data
        assert UnitFile.from_options(file.options).fleet_hash == file.fleet_hash


def test_what_is_not_utf8_may_stand_in_a_comment_only():
    latin = "# Müller\n[Service]\nExecStart=sleep 1\n".encode("latin-1")
    file = read(latin)
    file.check_encoding()
    assert file.text.encode() != latin  # text that any JSON and any registry takes
    assert UnitFile.parse(file.text) == file
    assert bytes(UnitFile.parse(file.text)) == latin
    for bad in (b"[Service]\nExecStart=M\xfcller\n", b"[Service]\nM\xfc=1\n", b"[S]\n[M\xfc]\n"):
        with pytest.raises(UnitError, match="not UTF-8"):
            read(bad).check_encoding()
