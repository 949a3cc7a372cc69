r"""Escaping of arbitrary strings into unit names, as systemd-escape(1): / is -, - is \x2d."""

import re

from kirsch.unit.error import UnitError

_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:_.")
_ESCAPED = re.compile(rb"\\x([0-9a-fA-F]{2})|\\|-")


def escape(text: str) -> str:
    """Any text without NUL as characters that may stand in a unit name. A leading dot is escaped too."""
    data = text.encode("utf-8", "surrogateescape")
    return "".join(_escaped(byte, first=index == 0) for index, byte in enumerate(data))


def unescape(text: str) -> str:
    """The text that `escape` was given. Raises UnitError on a backslash that begins no escape."""
    data = _ESCAPED.sub(_unescaped, text.encode("utf-8", "surrogateescape"))
    return data.decode("utf-8", "surrogateescape")


def _escaped(byte: int, first: bool) -> str:
    if byte == ord("/"):
        return "-"
    if byte not in _PLAIN or (first and byte == ord(".")):
        return f"\\x{byte:02x}"
    return chr(byte)


def _unescaped(match: re.Match[bytes]) -> bytes:
    if match.group() == b"-":
        return b"/"
    if not match.group(1) or match.group(1) == b"00":
        raise UnitError(
            f"invalid escape in {match.string.decode('utf-8', 'replace')!r}: write a byte as \\xNN"
        )
    return bytes.fromhex(match.group(1).decode())
