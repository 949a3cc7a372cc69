"""Errors in unit files, with their place."""

MAX_MESSAGE = 500
MAX_QUOTED = 60


class UnitError(ValueError):
    """A unit file, unit name or value that cannot be used: `message` is one line that says why.

    `file` is "" and `line` and `column` (1-based, in characters) are None where they are not known.
    str() is "webdb.container:7:12: message", the unknown parts left out.
    """

    def __init__(
        self, message: str, file: str = "", line: int | None = None, column: int | None = None
    ) -> None:
        super().__init__(message, file, line, column)
        self.message = _one_line(message)
        self.file = file
        self.line = line
        self.column = column

    def __str__(self) -> str:
        place = [str(part) for part in (self.file, self.line, self.column) if part not in ("", None)]
        return ": ".join([":".join(place), self.message]) if place else self.message


def quoted(text: str) -> str:
    """Return a text in quotes, shortened so that the rest of the message stays visible."""
    return repr(text if len(text) <= MAX_QUOTED else f"{text[: MAX_QUOTED - 3]}...")


def _one_line(message: str) -> str:
    """Shorten a message and escape control characters: it may quote any input."""
    shown = message if len(message) <= MAX_MESSAGE else f"{message[: MAX_MESSAGE - 3]}..."
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in shown)
