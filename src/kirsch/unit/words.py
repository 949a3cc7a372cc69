"""Words of a value: systemd's quoting and C escapes (systemd.syntax(7)), and fleet's list of values."""

import re

from kirsch.unit.error import UnitError

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
