"""Values as people type them: what each makes of a text, or ArgumentTypeError with what is expected."""

import argparse
import math
import re

_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def seconds(text: str) -> float:
    """A time to wait, finite and above zero."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return number


def count(text: str) -> int:
    """A whole number above zero."""
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def lines(text: str) -> int:
    """How many lines, 0 too."""
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of lines")
    return int(text)


def size(text: str) -> int:
    """A number of bytes: 100, 64K, 16M, 1G."""
    found = re.fullmatch(r"([0-9]{1,15})([kmg]?)(?:i?b)?", text.lower())
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size: write bytes, or 64K, 16M, 1G")
    return int(found[1]) * _UNITS[found[2]]


def place(text: str) -> tuple[str, int]:
    """[HOST:]PORT: 8080, 0.0.0.0:8080, [::1]:0; without a host it is 127.0.0.1."""
    host, colon, port = text.rpartition(":")
    bracketed = re.fullmatch(r"\[([^\[\]]*)\]", host)
    host = bracketed[1] if bracketed else host if colon else "127.0.0.1"
    if not host or (":" in host and not bracketed) or not re.fullmatch(r"[0-9]{1,5}", port):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not [HOST:]PORT: write 8080, 0.0.0.0:8080 or [::1]:8080"
        )
    if int(port) > 65535:
        raise argparse.ArgumentTypeError(f"port {port} is above 65535")
    return host, int(port)


def field(text: str) -> tuple[str, str]:
    """A header field: NAME: VALUE."""
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise argparse.ArgumentTypeError(f"{text!r} is not a header field: write 'NAME: VALUE'")
    return name.strip(), value.strip()


def pair(text: str) -> tuple[str, str | None]:
    """A machine's metadata: KEY=VALUE; None for a key that is to be taken away, KEY=."""
    key, equals, value = text.partition("=")
    if not equals or not re.fullmatch(r"[A-Za-z0-9_.-]+", key):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not KEY=VALUE, with a key of letters, digits, _ . and -; KEY= takes it away"
        )
    return key, value or None
