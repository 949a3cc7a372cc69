"""What commands answer with: Python's own lists and dicts that know how they are shown."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any


class Text(str):
    """Text that is shown as it is."""

    __slots__ = ()


class Names(list[str]):
    """Names, shown below a heading, with their number behind them."""

    def __init__(self, heading: str, names: Iterable[str]) -> None:
        super().__init__(names)
        self.heading = heading


class Grid(list[dict[str, Any]]):
    """Rows of a table, each a dict of its columns.

    >>> grid = Grid(("NAME", "SIZE"), [("t1", 3)])
    >>> grid[0]["SIZE"]
    3
    """

    def __init__(self, columns: Sequence[str], rows: Iterable[Sequence[Any]], noun: str = "row") -> None:
        super().__init__(dict(zip(columns, row, strict=True)) for row in rows)
        self.columns = tuple(columns)
        self.noun = noun


class Facts(dict[str, Any]):
    """What is known of one thing; `sentence` is how it is shown, where it is not a line for each."""

    def __init__(self, facts: Mapping[str, Any] | Iterable[tuple[str, Any]], sentence: str = "") -> None:
        super().__init__(facts)
        self.sentence = sentence


class Stream:
    """Rows of a table that come while they are asked for, once. `close` gives up what is left."""

    def __init__(
        self, columns: Sequence[str], rows: Iterator[Any], lines: Any, noun: str = "row", close: Any = None
    ) -> None:
        self.columns = tuple(columns)
        self.noun = noun
        self._rows = rows
        self._lines = lines
        self._close = close

    def __iter__(self) -> Iterator[Any]:
        return self._rows

    def __next__(self) -> Any:
        return next(self._rows)

    def lines(self, row: Any) -> list[tuple[Any, ...]]:
        """A row's lines in the table."""
        made: list[tuple[Any, ...]] = self._lines(row)
        return made

    def close(self) -> None:
        """Let go of what brings the rows."""
        if self._close is not None:
            self._close()
