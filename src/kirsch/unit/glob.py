"""Globs over unit names, as Go's path.Match that fleet uses: * ? [a-z] [^a-z]."""

import re
from functools import lru_cache

from kirsch.unit.error import UnitError

_PART = re.compile(r"\*+|\?|\[\^?(?:[^\]\\-](?:-[^\]\\-])?)+\]|[^*?\[]", re.DOTALL)


def matches(pattern: str, name: str) -> bool:
    r"""True if the whole `name` matches. A backslash is itself: unit names hold escapes such as \x2d.

    Raises UnitError on a pattern with an unfinished or reversed [range].
    """
    return _compiled(pattern).fullmatch(name) is not None


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    """The pattern as an expression that takes no longer for many stars: what a star ends at is final."""
    pieces = [""]
    position = 0
    while part := _PART.match(pattern, position):
        position = part.end()
        if part.group()[0] == "*":
            pieces.append("")
        else:
            pieces[-1] += _translated(part.group())
    first, *middle, last = pieces if len(pieces) > 1 else (pieces[0], "")
    star = ".*" if len(pieces) > 1 else ""
    try:
        if position < len(pattern):
            raise re.error("unfinished range")
        return re.compile(first + "".join(f"(?>.*?{each})" for each in middle) + star + last, re.DOTALL)
    except re.error:
        raise UnitError(f"invalid pattern {pattern!r}: a range is written [abc], [a-z] or [^a-z]") from None


def _translated(part: str) -> str:
    if part == "?":
        return "."
    if part[0] == "[" and len(part) > 1:
        caret = "^" if part[1] == "^" else ""
        listed = part[1 + len(caret) : -1]
        escaped = re.sub(r"[\[&~|^]", r"\\\g<0>", listed)
        return f"[{caret}{escaped}]"
    return re.escape(part)
