"""Values as systemd writes them: time spans, sizes, booleans."""

import math
import re
from decimal import Decimal

from kirsch.unit.error import UnitError, quoted

_SECONDS = {
    **dict.fromkeys(("usec", "us", "µs", "μs"), Decimal("0.000001")),  # micro sign and Greek mu
    **dict.fromkeys(("msec", "ms"), Decimal("0.001")),
    **dict.fromkeys(("seconds", "second", "sec", "s", ""), Decimal(1)),
    **dict.fromkeys(("minutes", "minute", "min", "m"), Decimal(60)),
    **dict.fromkeys(("hours", "hour", "hr", "h"), Decimal(3600)),
    **dict.fromkeys(("days", "day", "d"), Decimal(86400)),
    **dict.fromkeys(("weeks", "week", "w"), Decimal(7 * 86400)),
    **dict.fromkeys(("months", "month", "M"), Decimal("30.4375") * 86400),
    **dict.fromkeys(("years", "year", "y"), Decimal("365.25") * 86400),
}
_SIZES = {letter: 1024**power for power, letter in enumerate(("", "K", "M", "G", "T", "P", "E"))}
_SIZES["B"] = 1
_TRUE = frozenset(("1", "yes", "y", "true", "t", "on"))
_FALSE = frozenset(("0", "no", "n", "false", "f", "off"))

# As many digits as 64 bits can hold: longer numbers are mistakes, and slow.
_NUMBER = r"(\d{1,20}(?:\.\d{0,20})?)(?![\d.])"
_SPAN = r"(\+?\d{1,20}(?:\.\d{0,20})?|\.\d{1,20})(?![\d.+])"
_TIMESPAN = re.compile(rf"{_SPAN}[ \t]*([A-Za-zµμ]*)[ \t]*", re.ASCII)
_SIZE = re.compile(rf"{_NUMBER}[ \t]*([KMGTPEB]?)", re.ASCII)
_CPU = re.compile(r"(\d{1,9}(?:\.\d{0,9})?)(%?)", re.ASCII)


def parse_timespan(text: str) -> float:
    """Seconds of a time span as in systemd.time(7): "5", "+5", ".5", "1min 30s"; "infinity" is math.inf."""
    span = text.strip(" \t")
    if span == "infinity":
        return math.inf
    total = Decimal(0)
    position = 0
    while position < len(span):
        part = _TIMESPAN.match(span, position)
        if part is None or part[2] not in _SECONDS:
            raise _not(text, "a time span", "such as 90, 1min 30s or infinity")
        total += Decimal(part[1]) * _SECONDS[part[2]]
        position = part.end()
    if not span:
        raise _not(text, "a time span", "such as 90, 1min 30s or infinity")
    return float(total)


def parse_size(text: str) -> int:
    """Bytes of a size: "512", "512M", "1.5G"; the suffixes K, M, G, T, P, E are powers of 1024."""
    part = _SIZE.fullmatch(text.strip(" \t"))
    if part is None:
        raise _not(text, "a size", "write bytes, or 512K, 512M, 2G, 1T")
    return int(Decimal(part[1]) * _SIZES[part[2]])


def parse_cpu(text: str) -> float:
    """Cores: "2", "0.5", or "50%" of one."""
    number = _CPU.fullmatch(text.strip(" \t"))
    if number is None or not Decimal(number[1]):
        raise _not(text, "a number of cores", "write 2, 0.5 or 50%")
    return float(number[1]) / (100 if number[2] else 1)


def parse_boolean(text: str) -> bool:
    """1, yes, true, on, or 0, no, false, off, in any case, and their first letters."""
    word = text.strip(" \t").lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise _not(text, "a boolean", "write yes or no")


def _not(text: str, what: str, hint: str) -> UnitError:
    return UnitError(f"{quoted(text)} is not {what}: {hint}" if text else f"{what} is missing: {hint}")
