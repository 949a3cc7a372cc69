"""Results of commands, and their text: lines for people, values for JSON."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import chain, islice
from typing import Any

from kirsch.hbase.shell.session import shown


class Text(str):
    """Text that is shown unchanged."""

    __slots__ = ()


class Names(list[str]):
    """Names that are shown below a heading."""

    def __init__(self, heading: str, names: Iterable[str]) -> None:
        super().__init__(names)
        self.heading = heading


class Grid(list[dict[str, Any]]):
    """Rows of a table, each a dict of its columns.

    >>> grid = Grid(("NAME", "SIZE"), [("t1", 3)])
    >>> grid[0]["SIZE"]
    3
    """

    def __init__(
        self,
        columns: Sequence[str],
        rows: Iterable[Sequence[Any]],
        noun: str = "row",
        head: "Facts | None" = None,
    ) -> None:
        super().__init__(dict(zip(columns, row, strict=True)) for row in rows)
        self.columns = tuple(columns)
        self.noun = noun
        # Facts that are shown above the table.
        self.head = head


class Facts(dict[str, Any]):
    """Facts about one thing; `sentence` is shown in place of a line for each, if there is one."""

    def __init__(self, facts: Mapping[str, Any] | Iterable[tuple[str, Any]], sentence: str = "") -> None:
        super().__init__(facts)
        self.sentence = sentence


class Stream:
    """Rows of a table that are read while they are iterated, once. `close` gives up the rest."""

    def __init__(
        self, columns: Sequence[str], rows: Iterator[Any], lines: Any, noun: str = "row", close: Any = None
    ) -> None:
        self.columns = tuple(columns)
        self.noun = noun
        self._rows = rows
        self._lines = lines
        self._close = close
        # What is shown behind the rows, such as metrics of the scan.
        self.after: Callable[[], Any] | None = None

    def __iter__(self) -> Iterator[Any]:
        return self._rows

    def __next__(self) -> Any:
        return next(self._rows)

    def lines(self, row: Any) -> list[tuple[Any, ...]]:
        """Return the lines of a row in the table."""
        made: list[tuple[Any, ...]] = self._lines(row)
        return made

    def close(self) -> None:
        """Close the source of the rows."""
        if self._close is not None:
            self._close()


GAP = "  "
# Columns of milliseconds since 1970 that are shown as times. A cell's timestamp is not: one types it again.
TIMES = ("CREATED", "START", "SUBMITTED", "LAST_UPDATE", "LAST_MAJOR")
# So many lines of a stream decide how wide its columns are.
SAMPLE = 100
BOLD, DIM, RED, CYAN = "1", "2", "31", "36"


def paint(text: str, colour: str, on: bool) -> str:
    """Colour a text for a terminal."""
    return f"\x1b[{colour}m{text}\x1b[0m" if on and text else text


def lines(value: Any, colour: bool = False) -> Iterator[str]:
    """Yield the lines of an answer; None has none."""
    if value is None:
        return
    if isinstance(value, Text):
        yield from str(value).splitlines()
    elif isinstance(value, Names):
        yield from _table((value.heading,), [(name,) for name in value], colour)
    elif isinstance(value, Grid):
        if value.head is not None:
            yield from [*_facts(value.head, colour), ""]
        yield from _table(value.columns, [list(row.values()) for row in value], colour)
    elif isinstance(value, Facts):
        yield from _facts(value, colour)
    elif isinstance(value, Stream):
        yield from _table(value.columns, chain.from_iterable(map(value.lines, value)), colour)
    elif isinstance(value, bool | int | float):
        yield cell(value)
    elif isinstance(value, bytes):
        yield shown(value)
    elif isinstance(value, str):
        yield from value.splitlines() or [""]
    else:
        yield from repr(value).splitlines()


def footer(value: Any, count: int) -> str:
    """Return how much an answer is, for the line behind it."""
    if isinstance(value, Names):
        return number(len(value), value.heading.lower())
    if isinstance(value, Grid | Stream):
        return number(len(value) if isinstance(value, Grid) else count, value.noun)
    return ""


def number(count: int, noun: str) -> str:
    """Format a count: `1 row`, `2,000 rows`."""
    plural = noun if count == 1 else noun[:-1] + "ies" if noun.endswith("y") else noun + "s"
    return f"{count:,} {plural}"


def _facts(facts: Facts, colour: bool) -> Iterator[str]:
    if facts.sentence:
        yield from facts.sentence.splitlines()
        return
    width = max(map(len, facts), default=0)
    for name, value in facts.items():
        yield f"{paint(name.ljust(width), BOLD, colour)}{GAP}{cell(value)}".rstrip()


def _table(columns: Sequence[str], rows: Iterable[Sequence[Any]], colour: bool) -> Iterator[str]:
    """Yield the lines of a table. Its first rows decide how wide columns are."""
    cells = ([cell(v, name) for name, v in zip(columns, row, strict=True)] for row in rows)
    sample = list(islice(cells, SAMPLE))
    widths = [max([len(name), *(len(row[i]) for row in sample)]) for i, name in enumerate(columns)]
    yield paint(_line(columns, widths), BOLD, colour)
    for row in chain(sample, cells):
        text = _line(row, widths)
        if colour and row:
            first = row[0].ljust(widths[0]) if len(row) > 1 else row[0]
            text = paint(first, CYAN, True) + text[len(first) :]
        yield text


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    return GAP.join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()


def cell(value: Any, column: str = "") -> str:
    """Format a value in a table."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) and column in TIMES:
        return (
            datetime.fromtimestamp(value / 1000, UTC)
            .isoformat(timespec="milliseconds")
            .replace("+00:00", "Z")
        )
    if isinstance(value, bytes):
        return shown(value)
    if isinstance(value, str):
        # A name may be one that is shown already: its \ stays.
        return "".join(c if c.isprintable() else shown(c.encode("utf-8", "surrogateescape")) for c in value)
    if isinstance(value, dict):
        return ", ".join(f"{cell(k)} => {cell(v)}" for k, v in value.items())
    if isinstance(value, list | tuple | set):
        return ", ".join(cell(one) for one in value) if value else "-"
    return str(value)


def records(value: Any) -> Iterator[Any]:
    """Yield an answer's values for JSON: each element of a list, each row."""
    if value is None:
        return
    if isinstance(value, Names):
        yield from value
    elif isinstance(value, Grid):
        yield from (plain(row) for row in value)
    elif isinstance(value, Stream):
        for row in value:
            yield _row(value, row)
    else:
        yield plain(value)


def _row(stream: Stream, row: Any) -> dict[str, Any]:
    cells = []
    for line in stream.lines(row):
        column, timestamp, value = line[-3:]
        cells.append({"column": plain(column), "timestamp": timestamp, "value": plain(value)})
    return {"row": plain(row.key), "cells": cells}


def plain(value: Any) -> Any:
    """Convert a value for JSON: bytes are text where they are UTF-8, else {"hex": …}; names are in lower
    case."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return {"hex": value.hex()}
    if isinstance(value, Facts):
        return {_key(key): plain(one) for key, one in value.items()}
    if isinstance(value, dict):
        return {_key(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(one) for one in value]
    return str(value)


def _key(key: Any) -> str:
    text = str(plain(key))
    return text.lower() if text.isupper() else text
