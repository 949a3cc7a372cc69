"""Parsers of values as people type them, which raise ValueError; and options that many verbs have."""

import math
import re
import sys
from datetime import datetime, timedelta
from datetime import time as clock

import click

from kirsch.cli.errors import Failure
from kirsch.cli.verb import Options, flag, option
from kirsch.unit import parse_timespan

JSON = flag("--json", help="print JSON")
FULL = flag("-l", "--full", help="do not shorten ids and hashes")
NO_LEGEND = flag("--no-legend", help="leave the heading out")
NO_BLOCK = flag("--no-block", help="do not wait until it is done")
YES = flag("-y", "--yes", help="do not ask, as a script is not asked")


# Seconds for --block-attempts=0, which has no limit in fleetctl.
FOREVER = 7 * 86400
# fleetctl's way to say how long it waits: it looks about once a second.
ATTEMPTS = option("--block-attempts", metavar="N", type=lambda text: lines(text), hidden=True)


def patience(options: Options) -> float:
    """Return how many seconds a verb waits: --timeout, or fleetctl's --block-attempts."""
    attempts = options.block_attempts
    return float(options.timeout if attempts is None else attempts or FOREVER)


def confirm(question: str, expected: str) -> None:
    """Ask on a terminal before something is destroyed. Raises Failure unless `expected` is typed.

    A script is not asked: it has nobody to answer.
    """
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return
    print(f"{question} Type {expected} to go on: ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip() != expected:
        raise Failure("nothing was destroyed")


_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def timeout(default: float, help: str = "wait so long at most") -> click.Option:
    """Declare --timeout with its default in seconds."""
    return option("--timeout", metavar="SECONDS", type=seconds, default=default, help=f"{help} ({default:g})")


def seconds(text: str) -> float:
    """Parse a time to wait: finite and above zero."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise ValueError(f"{text!r} is not a number of seconds above 0")
    return number


def count(text: str) -> int:
    """Parse a whole number above zero."""
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) == 0:
        raise ValueError(f"{text!r} is not a whole number above 0")
    return int(text)


def lines(text: str) -> int:
    """Parse a number of lines, which may be 0."""
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise ValueError(f"{text!r} is not a number of lines")
    return int(text)


def size(text: str) -> int:
    """Parse a number of bytes: 100, 64K, 16M, 1G."""
    found = re.fullmatch(r"([0-9]{1,15})([kmg]?)(?:i?b)?", text.lower())
    if found is None:
        raise ValueError(f"{text!r} is not a size: write bytes, or 64K, 16M, 1G")
    return int(found[1]) * _UNITS[found[2]]


def place(text: str) -> tuple[str, int]:
    """Parse [HOST:]PORT: 8080, 0.0.0.0:8080, [::1]:0; without a host it is 127.0.0.1."""
    host, colon, port = text.rpartition(":")
    bracketed = re.fullmatch(r"\[([^\[\]]*)\]", host)
    host = bracketed[1] if bracketed else host if colon else "127.0.0.1"
    if not host or (":" in host and not bracketed) or not re.fullmatch(r"[0-9]{1,5}", port):
        raise ValueError(f"{text!r} is not [HOST:]PORT: write 8080, 0.0.0.0:8080 or [::1]:8080")
    if int(port) > 65535:
        raise ValueError(f"port {port} is above 65535")
    return host, int(port)


def field(text: str) -> tuple[str, str]:
    """Parse a header field: NAME: VALUE."""
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise ValueError(f"{text!r} is not a header field: write 'NAME: VALUE'")
    return name.strip(), value.strip()


def pair(text: str) -> tuple[str, str | None]:
    """Parse a machine's metadata: KEY=VALUE; the value is None in KEY=, which removes the key."""
    key, equals, value = text.partition("=")
    if not equals or not re.fullmatch(r"[A-Za-z0-9_.-]+", key):
        raise ValueError(
            f"{text!r} is not KEY=VALUE, with a key of letters, digits, _ . and -; KEY= takes it away"
        )
    return key, value or None


def variable(text: str) -> tuple[str, str]:
    """Parse NAME=VALUE, with a name that a program's variable can have."""
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise ValueError(f"{text!r} is not NAME=VALUE")
    return name, value


def moment(text: str) -> float:
    """Parse a point in time as journalctl does, to seconds since 1970: a date, a time, or a span ago."""
    now = datetime.now()
    days = {"today": 0, "yesterday": 1}
    if text in days:
        return datetime.combine(now.date() - timedelta(days=days[text]), clock.min).timestamp()
    if text == "now":
        return now.timestamp()
    try:
        if re.fullmatch(r"[0-9]{1,2}:[0-9]{2}(:[0-9]{2})?", text):
            padded = text if text[2] == ":" else f"0{text}"
            return datetime.combine(now.date(), clock.fromisoformat(padded)).timestamp()
        if "-" in text.lstrip("-"):
            return datetime.fromisoformat(text).timestamp()
        return now.timestamp() - parse_timespan(text.removeprefix("-").removesuffix(" ago"))
    except (ValueError, OverflowError):
        raise ValueError(
            f"{text!r} is not a time: write 10:30, '2026-12-01 10:30', today, or 1h for an hour ago"
        ) from None


def regular(text: str) -> re.Pattern[str]:
    """Parse a regular expression; without capitals it ignores case, as journalctl's."""
    try:
        return re.compile(text, 0 if any(each.isupper() for each in text) else re.IGNORECASE)
    except re.error as error:
        raise ValueError(f"{text!r} is no regular expression: {error}") from None
