"""What public functions and classes are given, checked at once: one line says what is expected. No I/O."""

import math
from sys import maxsize
from typing import Any, Final

# As much of a wrong text is shown.
_SHOWN: Final = 60


def whole(name: str, value: object, least: int, most: int | None = None, *, none: bool = False) -> None:
    """Raises ValueError for what is no int from `least` to `most`; None is allowed if `none`."""
    if value is None and none:
        return
    if type(value) is int and least <= value and (most is None or value <= most):
        return
    allowed = f"of {least} or more" if most in (None, maxsize) else f"from {least} to {most}"
    raise ValueError(f"{name} is {'None or ' if none else ''}a whole number {allowed}, not {shown(value)}")


def seconds(name: str, value: object, *, zero: bool = False, none: bool = False) -> None:
    """Raises ValueError for what is no finite number of seconds above zero; zero and None where they may."""
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
    """Raises TypeError for what is of none of the classes `wanted`: it says that `name` is `what`."""
    if not isinstance(value, wanted):
        raise TypeError(f"{name} is {what}, not {shown(value)}")


def listening(
    host: object, port: object, ssl: object = None, unix: object = None, backlog: object = 1
) -> None:
    """Where a server listens. Raises TypeError, ValueError."""
    kind("host", host, str | None, "a name or an address, or None for all")
    whole("port", port, 0, 65535)
    context(ssl)
    kind("unix", unix, str | None, "the path of a socket, or None")
    whole("backlog", backlog, 1)


def context(ssl: object) -> None:
    """What TLS is spoken with, the standard library's or gevent's. Raises TypeError."""
    if ssl is not None and not hasattr(ssl, "wrap_socket"):
        raise TypeError(f"ssl is an ssl.SSLContext or None, not {shown(ssl)}")


def shown(value: object) -> str:
    """A wrong value in a line of ASCII; of all but texts and numbers only what it is."""
    if value is None or isinstance(value, bool | int | float):
        return repr(value)
    if isinstance(value, str):
        return ascii(value) if len(value) <= _SHOWN else f"{value[:_SHOWN]!a}..."
    if isinstance(value, type):
        return f"the class {value.__name__}"
    return f"a {type(value).__name__}"
