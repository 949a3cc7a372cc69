"""A row: what is measured, of whom, and how."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .servers import Server, Servers, client


@dataclass(frozen=True)
class Figure:
    """A column of a table. `less`: the less the better."""

    table: str
    column: str
    unit: str
    less: bool = False

    @property
    def what(self) -> str:
        return f"{self.table}, {self.column}"


@dataclass(frozen=True)
class Run:
    """How long, with which servers; whether a second is one of the server's own CPU time."""

    seconds: float
    cpu: bool
    servers: Servers

    def messages(self, mode: str, server: Server, **options: object) -> tuple[float, dict[str, float]]:
        """Messages a second, and all that the client said."""
        found = client(mode, server, seconds=self.seconds, limit=30, **options)
        return self.rate(found), found

    def rate(self, found: dict[str, float]) -> float:
        if found["busy"] > 0.9:
            print(
                f"the client was busy for {found['busy']:.0%} of the time: it may be the limit",
                file=sys.stderr,
            )
        return found["count"] / found["used"] if self.cpu else found["rate"]


@dataclass(frozen=True)
class Row:
    """`measure(subject, run)` gives a value for each figure, or raises Skipped."""

    key: str
    figures: tuple[Figure, ...]
    subjects: tuple[str, ...]
    measure: Callable[[str, Run], tuple[float, ...]]


def chosen(words: str, names: list[str]) -> list[str]:
    """The names that one of the words is, or else begins, up to a hyphen; spaces or commas between words."""
    wanted = words.replace(",", " ").split()
    if not wanted:
        return names
    return [name for name in names if any(_means(word, name, names) for word in wanted)]


def _means(word: str, name: str, names: list[str]) -> bool:
    return word == name if word in names else name.startswith(f"{word}-")


def size(count: int) -> str:
    for unit, name in ((1 << 20, "MiB"), (1 << 10, "KiB")):
        if count >= unit:
            return f"{count // unit} {name}"
    return f"{count} B"


def short(count: int) -> str:
    return size(count).replace(" KiB", "k").replace(" MiB", "m").replace(" B", "")


def names(*groups: Iterator[str] | tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for group in groups for name in group)
