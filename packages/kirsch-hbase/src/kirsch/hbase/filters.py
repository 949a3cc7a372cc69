"""HBase's filter language, checked here so that a mistake is shown with its position. The checks are pure.

    (PrefixFilter ('user') AND ValueFilter (>=, 'binary:10')) OR SKIP PageFilter (5)

Only the form is checked; HBase's ParseFilter knows the names and their arguments.
"""

from typing import Any

from kirsch.hbase.errors import FilterError, HBaseError

COMPARISONS = ("<=", "<", ">=", ">", "!=", "=")


def quoted(value: bytes | str) -> str:
    """Quote a value as an argument of a filter, with quotes in it doubled.

    Bytes that are not UTF-8 become surrogate escapes, which `java_filter` turns into the same bytes again.
    """
    text = value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value
    return "'" + text.replace("'", "''") + "'"


def check(text: str) -> list[tuple[str, int]]:
    """Return the names of the filters in a text, and their positions. Raises FilterError."""
    return _Reader(text).read()


class _Reader:
    """expression: term {(AND | OR) term}; term: {SKIP | WHILE} (filter | "(" expression ")")."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.names: list[tuple[str, int]] = []

    def read(self) -> list[tuple[str, int]]:
        self.expression()
        if not self.ended():
            self.fail("AND, OR or the end is expected")
        return self.names

    def expression(self) -> None:
        self.term()
        while self.word() in ("AND", "OR"):
            self.at += len(self.word())
            self.term()

    def term(self) -> None:
        while self.word() in ("SKIP", "WHILE"):
            self.at += len(self.word())
        if self.ended():
            self.fail("a filter is expected")
        if self.text[self.at] == "(":
            self.at += 1
            self.expression()
            self.expect(")")
            return
        name = self.word()
        if not name or name in ("AND", "OR") or name[0].isdigit():
            self.fail("a filter is expected")
        self.names.append((name, self.at))
        self.at += len(name)
        self.expect("(")
        self.arguments()

    def arguments(self) -> None:
        if self.next() == ")":
            self.at += 1
            return
        while True:
            self.argument()
            if self.next() == ")":
                self.at += 1
                return
            self.expect(",")

    def argument(self) -> None:
        following = self.next()
        if following == "'":
            self.string()
        elif comparison := next((c for c in COMPARISONS if self.text.startswith(c, self.at)), ""):
            self.at += len(comparison)
        elif word := self.number():
            self.at += len(word)
        else:
            self.fail("an argument is expected: 'text' in quotes, a number, true, false or a comparison")

    def string(self) -> None:
        start = self.at
        self.at += 1
        while True:
            end = self.text.find("'", self.at)
            if end < 0:
                self.at = start
                self.fail("this quote is not closed")
            self.at = end + 1
            if not self.text.startswith("'", self.at):
                return
            self.at += 1

    def number(self) -> str:
        end = self.at + (1 if self.text.startswith("-", self.at) else 0)
        while end < len(self.text) and self.text[end].isalnum():
            end += 1
        word = self.text[self.at : end]
        return word if word.lstrip("-").isdigit() or word in ("true", "false") else ""

    def next(self) -> str:
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1
        return self.text[self.at : self.at + 1]

    def ended(self) -> bool:
        return not self.next()

    def word(self) -> str:
        self.next()
        end = self.at
        while end < len(self.text) and (self.text[end].isalnum() or self.text[end] == "_"):
            end += 1
        return self.text[self.at : end]

    def expect(self, sign: str) -> None:
        if self.next() != sign:
            self.fail(f"{sign} is expected")
        self.at += 1

    def fail(self, what: str) -> None:
        raise FilterError(located(self.text, self.at, what), self.text, self.at)


def located(text: str, position: int, what: str) -> str:
    """Return a message that shows the position of a mistake in a filter's text."""
    before, after = text[max(0, position - 30) : position], text[position : position + 30]
    message = f"mistake in the filter at character {position + 1}: {what}: {before}⟨here⟩{after}"
    return message.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def java_filter(given: Any) -> Any:
    """Return a Java Filter of a text in the filter language; other values unchanged. Raises FilterError."""
    if not isinstance(given, str | bytes):
        return given
    from kirsch.hbase.calls import call
    from kirsch.hbase.convert import to_java
    from kirsch.hbase.jvm import hbase

    text = given.decode("utf-8", "surrogateescape") if isinstance(given, bytes) else given
    names = check(text)
    parser = hbase("filter.ParseFilter")()
    known = {str(name) for name in parser.getSupportedFilters()}
    for name, position in names:
        if name not in known:
            raise FilterError(located(text, position, f"there is no filter {name}"), text, position)
    try:
        # As byte[]: JPype would pass Python's bytes to the overload for String, which decodes them.
        return call(parser.parseFilterString, to_java(text.encode("utf-8", "surrogateescape")))
    except FilterError:
        raise
    except HBaseError as error:
        name, position = names[0]
        raise FilterError(located(text, position, f"{name}: {error}"), text, position, error.java) from error
