"""Checks of arguments, with an error of one line that tells what is expected. No I/O."""

import math
from sys import maxsize
from typing import Any, Final

# Characters of a wrong string that are shown.
_SHOWN: Final = 60


def whole(name: str, value: object, least: int, most: int | None = None, *, none: bool = False) -> None:
    """Raise ValueError unless it is an int from `least` to `most`, or None where `none` allows it."""
    if value is None and none:
        return
    if type(value) is int and least <= value and (most is None or value <= most):
        return
    allowed = f"of {least} or more" if most in (None, maxsize) else f"from {least} to {most}"
    raise ValueError(f"{name} is {'None or ' if none else ''}a whole number {allowed}, not {shown(value)}")


def seconds(name: str, value: object, *, zero: bool = False, none: bool = False) -> None:
    """Raise ValueError unless it is a finite number of seconds above 0; `zero` and `none` allow these."""
    if value is None and none:
        return
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if number and (0 < value < math.inf or (zero and value == 0)):  # type: ignore[operator]
        return
    allowed = "of 0 or more" if zero else "above 0"
    raise ValueError(
        f"{name} is {'None or ' if none else ''}a number of seconds {allowed}, not {shown(value)}"
    )


def kind(name: str, value: object, wanted: Any, what: str) -> None:
    """Raise TypeError, saying that `name` is `what`, unless it is an instance of `wanted`."""
    if not isinstance(value, wanted):
        raise TypeError(f"{name} is {what}, not {shown(value)}")


def listening(
    host: object, port: object, ssl: object = None, unix: object = None, backlog: object = 1
) -> None:
    """Check the arguments of `serve`. Raises TypeError, ValueError."""
    kind("host", host, str | None, "a name or an address, or None for all")
    whole("port", port, 0, 65535)
    context(ssl)
    kind("unix", unix, str | None, "the path of a socket, or None")
    whole("backlog", backlog, 1)


def context(ssl: object) -> None:
    """Check a TLS context, of the standard library or of gevent. Raises TypeError."""
    if ssl is not None and not hasattr(ssl, "wrap_socket"):
        raise TypeError(f"ssl is an ssl.SSLContext or None, not {shown(ssl)}")


def shown(value: object) -> str:
    """Return a wrong value in a line of ASCII: strings and numbers themselves, of others the type."""
    if value is None or isinstance(value, bool | int | float):
        return repr(value)
    if isinstance(value, str):
        return ascii(value) if len(value) <= _SHOWN else f"{value[:_SHOWN]!a}..."
    if isinstance(value, type):
        return f"the class {value.__name__}"
    return f"a {type(value).__name__}"
