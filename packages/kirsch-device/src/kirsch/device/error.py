"""Why there is no location: what a person can act on is told apart."""

from typing import ClassVar


class LocationError(Exception):
    """A source cannot be asked: it is not there, or does not answer. One line says why.

    `reason` is the same in a word, for programs.
    """

    reason: ClassVar[str] = "unavailable"


class PermissionDenied(LocationError):
    """Access to the location was not granted: somebody has to allow it in the settings."""

    reason = "permission-denied"


class NoFix(LocationError):
    """The source works, but has no location yet."""

    reason = "no-fix"


class BadAnswer(LocationError):
    """The source returned something that is no location."""

    reason = "bad-answer"


class SourceError(ValueError):
    """There is no source of that name, or not with those arguments. One line says what there is."""


def one_line(text: object, most: int = 200) -> str:
    """Return the first line of another program's output, without control characters."""
    first = str(text).strip().partition("\n")[0].strip()
    shown = "".join(letter if letter.isprintable() else "?" for letter in first)
    return shown if len(shown) <= most else f"{shown[: most - 1]}…"
