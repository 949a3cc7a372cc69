"""The syntax of unit files (systemd.syntax(7)): text to entries, each with its place; values to words."""

import re
from bisect import bisect_right
from collections.abc import Iterator
from typing import NamedTuple

from kirsch.unit.error import UnitError, quoted

WHITESPACE = " \t\n\r"

_PIECE = re.compile(
    r"""
    (?P<space>[ \t\n\r]+)
  | (?P<quote>["'])
  | \\(?P<escape>x[0-9a-fA-F]{2} | u[0-9a-fA-F]{4} | U[0-9a-fA-F]{8} | [0-7]{3} | .)
  | (?P<plain>[^\\"' \t\n\r]+)
    """,
    re.VERBOSE | re.DOTALL,
)
_LETTERS = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "s": " "}
_LETTERS |= {"\\": "\\", '"': '"', "'": "'"}
MAX_LINE = 1024 * 1024  # bytes, continuations joined; systemd's own limit

# systemd takes a lone carriage return, and the two in either order, for one end of a line.
LINE_END = re.compile(r"\r\n|\n\r|\n|\r")
_BAD_IN_SECTION = re.compile(r"""[\x00-\x1f\x7f"'\\\[\]]""")
_COMMENT = frozenset("#;")
_BYTE_ORDER_MARK = "\ufeff"


class Entry(NamedTuple):
    """One assignment. `value` has its continuations joined with spaces; `source` is the value as written.

    `line` and `column` (1-based, in characters) are where the value begins; `name_column` where the name.
    """

    section: str
    name: str
    value: str
    line: int
    column: int
    name_column: int = 1
    source: str = ""


class _Statement(NamedTuple):
    """A logical line: physical lines joined at their backslashes."""

    text: str
    source: list[str]
    starts: list[tuple[int, int]]  # (offset in text, line number) of each physical line

    def place(self, offset: int) -> tuple[int, int]:
        """The line and column of a character of `text`."""
        if len(self.starts) == 1:
            return self.starts[0][1], offset + 1
        start, line = self.starts[bisect_right(self.starts, offset, key=lambda each: each[0]) - 1]
        return line, offset - start + 1


def parse_entries(
    text: str, file: str = "", *, quadlet: bool = False
) -> tuple[tuple[str, ...], tuple[Entry, ...]]:
    """Return the sections in order of first appearance, and all assignments in order. Raises UnitError.

    A backslash continues its line; in a file for Quadlet also where spaces follow it.
    """
    sections: dict[str, None] = {}
    entries: list[Entry] = []
    section = None
    if "\0" in text:
        before = LINE_END.split(text[: text.index("\0")])
        raise UnitError("a NUL character: this is no unit file", file, len(before), len(before[-1]) + 1)
    for statement in _statements(text, file, quadlet):
        content = statement.text.strip(WHITESPACE)
        if not content:
            continue
        if content[0] == "[":
            section = _section(content, statement, file)
            sections[section] = None
        else:
            entries.append(_entry(section, statement, file))
    return tuple(sections), tuple(entries)


def _statements(text: str, file: str, quadlet: bool) -> Iterator[_Statement]:
    source: list[str] = []
    parts: list[str] = []
    starts: list[tuple[int, int]] = []
    offset = 0
    for number, line in enumerate(LINE_END.split(text.removeprefix(_BYTE_ORDER_MARK)), 1):
        if not parts and not line.strip(WHITESPACE):
            continue
        if _is_comment(line):
            _check_length(line, file, number)
            if parts:
                source.append(line)
            continue
        shown = line.rstrip(WHITESPACE) if quadlet else line
        if _is_continued(shown):
            source.append(line)
            parts.append(f"{shown[:-1]} ")
            starts.append((offset, number))
            offset += len(shown)
        elif parts:
            yield _statement([*source, line], [*parts, line], [*starts, (offset, number)], file)
            source, parts, starts, offset = [], [], [], 0
        else:
            _check_length(line, file, number)
            yield _Statement(line, [line], [(0, number)])
    if parts:
        yield _statement(source, parts, starts, file)


def _statement(source: list[str], parts: list[str], starts: list[tuple[int, int]], file: str) -> _Statement:
    text = "".join(parts)
    _check_length(text, file, starts[0][1])
    return _Statement(text, source, starts)


def _is_comment(line: str) -> bool:
    return line.lstrip(WHITESPACE)[:1] in _COMMENT


def _is_continued(line: str) -> bool:
    r"""True if the last backslash is not itself escaped: `a\` is, `a\\` is not."""
    return line.endswith("\\") and (len(line) - len(line.rstrip("\\"))) % 2 == 1


def _check_length(text: str, file: str, line: int) -> None:
    # Four bytes is the longest a character can be: most lines need no counting.
    if len(text) * 4 > MAX_LINE and len(text.encode("utf-8", "surrogateescape")) > MAX_LINE:
        raise UnitError(f"line too long: the limit is {MAX_LINE} bytes", file, line, 1)


def _section(content: str, statement: _Statement, file: str) -> str:
    name = content[1:-1]
    shown = quoted(content)
    if content[-1] != "]":
        message = f"unfinished section header {shown}: a section is written [Name]"
    elif not name:
        message = "empty section header: a section is written [Name]"
    elif bad := _BAD_IN_SECTION.search(name):
        message = f"invalid character {bad.group()!r} in section header {shown}"
    else:
        return name
    raise UnitError(message, file, *statement.place(statement.text.index("[")))


def _entry(section: str | None, statement: _Statement, file: str) -> Entry:
    text = statement.text
    left, equals, right = text.partition("=")
    name = left.strip(WHITESPACE)
    name_line, name_column = statement.place(len(left) - len(left.lstrip(WHITESPACE)))
    if not equals:
        what = f"missing '=' in {quoted(name)}" if is_utf8(name) else "is not UTF-8"
        raise UnitError(what, file, name_line, name_column)
    if not name:
        raise UnitError("missing name before '='", file, name_line, name_column)
    if section is None:
        raise UnitError(f"{name}= stands before any [Section]", file, name_line, name_column)
    value = right.strip(WHITESPACE)
    indent = len(right) - len(right.lstrip(WHITESPACE)) if value else 0
    line, column = statement.place(len(left) + 1 + indent)
    source = value if len(statement.starts) == 1 else _source(statement.source)
    return Entry(section, name, value, line, column, name_column, source)


def _source(lines: list[str]) -> str:
    """The value as fleet keeps it: backslashes and line ends stay, and an empty last line."""
    # A comment may stand inside a continued name, and hold an "=" of its own.
    first = next(index for index, line in enumerate(lines) if "=" in line and not _is_comment(line))
    _, _, written = "\n".join(lines[first:]).partition("=")
    blank_end = not lines[-1].strip(WHITESPACE)
    return written.strip(WHITESPACE) + ("\n" if blank_end else "")


def is_utf8(text: str) -> bool:
    """Return False if a text that was decoded with surrogateescape holds bytes that are not UTF-8."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def split_words(text: str) -> list[str]:
    r"""The words of `text`, quotes taken off and escapes resolved, as systemd does it.

    Quotes may stand anywhere in a word; escapes hold inside both kinds. An unknown escape is left as it is
    written, as systemd does (with a warning). Raises UnitError on a quote that is not closed and on a
    backslash at the very end.
    """
    words: list[str] = []
    word: list[str] | None = None
    quote = ""
    position = 0
    while piece := _PIECE.match(text, position):
        position = piece.end()
        if piece["space"] and not quote:
            if word is not None:
                words.append(_joined(word))
            word = None
            continue
        word = [] if word is None else word
        if piece["quote"] and quote in ("", piece["quote"]):
            quote = "" if quote else piece["quote"]
        elif piece["escape"]:
            word.append(_escape(piece["escape"]))
        else:
            word.append(piece.group())
    if position < len(text):
        raise UnitError("a backslash at the end escapes nothing: double it")
    if quote:
        raise UnitError(f"unbalanced quotes: {quote} is opened and never closed")
    if word is not None:
        words.append(_joined(word))
    return words


def split_values(text: str) -> list[str]:
    """fleet's list of values: `"a=1" "b=2"` is two, a text not wrapped in double quotes is one.

    No escapes: a backslash is part of many a unit's name. Raises UnitError on unbalanced quotes.
    """
    if not (text.startswith('"') and text.endswith('"')):
        return [text]
    if text.count('"') % 2:
        raise UnitError('unbalanced quotes: " is opened and never closed')
    return [value.replace('"', "") for value in re.findall(r'(?:"[^"]*"|[^"\s])+', text)]


def _escape(escape: str) -> str:
    """One escape resolved. Bytes from 128 up are kept as surrogates until the word is whole."""
    if escape in _LETTERS:
        return _LETTERS[escape]
    if len(escape) == 1:
        return f"\\{escape}"
    code = int(escape[1:], 16) if escape[0] in "xuU" else int(escape, 8)
    is_byte = escape[0] not in "uU"
    if code == 0 or code > (0xFF if is_byte else 0x10FFFF) or 0xD800 <= code <= 0xDFFF:
        return f"\\{escape}"
    return chr(0xDC00 + code) if is_byte and code >= 0x80 else chr(code)


def _joined(pieces: list[str]) -> str:
    return "".join(pieces).encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")
