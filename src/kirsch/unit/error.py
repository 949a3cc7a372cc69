"""What goes wrong with a unit's text, and where."""


class UnitError(ValueError):
    """A unit file, unit name or value that cannot be used: `message` is one line that says why.

    `file` is "" and `line` and `column` (1-based, in characters) are None where they are not known.
    str() is "webdb.container:7:12: message", the unknown parts left out.
    """

    def __init__(
        self, message: str, file: str = "", line: int | None = None, column: int | None = None
    ) -> None:
        super().__init__(message, file, line, column)
        self.message = message
        self.file = file
        self.line = line
        self.column = column

    def __str__(self) -> str:
        place = [str(part) for part in (self.file, self.line, self.column) if part not in ("", None)]
        return ": ".join([":".join(place), self.message]) if place else self.message
