import pytest
from hypothesis import given
from hypothesis import strategies as st

from kirsch.bus.process.child import Lines


def lines_of(*chunks: bytes, limit: int = 65536) -> list[str]:
    lines = Lines(limit)
    return [line for chunk in chunks for line in lines.feed(chunk)] + lines.close()


def test_lines_come_without_their_newlines():
    assert lines_of(b"one\ntwo\n") == ["one", "two"]


def test_an_empty_line_is_a_line():
    assert lines_of(b"\n\n") == ["", ""]


def test_the_last_line_needs_no_newline():
    assert lines_of(b"one\ntw", b"o") == ["one", "two"]


def test_a_character_cut_by_the_pipe_is_whole_again():
    assert lines_of("grüße".encode()[:3], "grüße".encode()[3:] + b"\n") == ["grüße"]


def test_what_is_not_utf8_is_replaced():
    assert lines_of(b"caf\xe9\n") == ["caf\ufffd"]


def test_a_long_line_comes_in_pieces_that_end_between_characters():
    assert lines_of("aaaaü\n".encode(), limit=5) == ["aaaa", "ü"]


def test_a_limit_that_holds_no_character_is_refused():
    with pytest.raises(ValueError, match="4 bytes"):
        Lines(3)


@given(st.lists(st.binary(max_size=40)), st.integers(4, 20))
def test_the_lines_do_not_depend_on_how_the_stream_is_chopped_up(chunks, limit):
    whole = b"".join(chunks)
    assert lines_of(*chunks, limit=limit) == lines_of(whole, limit=limit)


@given(st.text(), st.integers(4, 20))
def test_no_text_is_lost(text, limit):
    lines = lines_of(text.encode("utf-8", "replace"), limit=limit)
    assert "".join(lines) == text.encode("utf-8", "replace").decode().replace("\n", "")
    assert all(len(line.encode()) <= limit for line in lines)
