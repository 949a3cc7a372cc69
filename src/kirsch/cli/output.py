"""Output for people: tables, colours of units' names, and the progress of steps and units."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TextIO

from kirsch import terminal

Row = Mapping[str, Any]
Column = Callable[[Row, bool], str]

GAP = 2

# cyan, yellow, green, magenta, blue, bright red: readable on dark and on light
COLOURS = (36, 33, 32, 35, 34, 91)
# ECMA-48: up N lines and to their beginning, erase the rest of the line, faint.
UP, ERASE, FAINT, PLAIN = "\x1b[{}F", "\x1b[K", "\x1b[2m", "\x1b[0m"
# Sub states that a person may have to wait for, in words.
PROGRESS = {
    "start-pre": "preparing",
    "start": "starting",
    "start-post": "starting",
    "running": "started, not ready yet",
    "reload": "reloading",
    "auto-restart": "to be started again",
    "stop": "stopping",
    "stop-sigterm": "stopping",
    "stop-sigkill": "killed, for it did not stop",
    "stop-post": "stopping",
    "final-sigterm": "stopping",
    "final-sigkill": "killed, for it did not stop",
}


def table(
    rows: Sequence[Row],
    columns: Mapping[str, Column],
    fields: Sequence[str],
    *,
    full: bool = False,
    legend: bool = True,
) -> str:
    """The lines of a table: the named columns, in that order, each as wide as its widest cell."""
    lines = [[field.upper() for field in fields]] if legend else []
    lines += [[columns[field](row, full) or "-" for field in fields] for row in rows]
    widths = [max((len(line[i]) for line in lines), default=0) for i in range(len(fields))]
    cells = (
        "".join(cell.ljust(width + GAP) for cell, width in zip(line, widths, strict=True)) for line in lines
    )
    return "".join(line.rstrip() + "\n" for line in cells)


def machine(machine_id: str, address: str, full: bool) -> str:
    """A machine in a cell: 113f16a7.../172.17.8.103."""
    if not machine_id:
        return "-"
    shown = machine_id if full else f"{machine_id[:8]}..."
    return f"{shown}/{address}" if address else shown


def digest(text: str, full: bool) -> str:
    """A hash in a cell: its first seven letters."""
    return text if full else text[:7]


@dataclass(slots=True)
class Palette:
    """Gives each name a colour and a width: those known from the start, and others as they are first seen."""

    on: bool
    width: int = 0
    seen: list[str] = field(default_factory=list)

    @classmethod
    def for_stream(cls, stream: TextIO, names: Sequence[str] = ()) -> "Palette":
        """Colours if the stream is a terminal."""
        on = stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        return cls(on, max(map(len, names), default=0), list(names))

    def paint(self, name: str, text: str) -> str:
        """A name's text in the name's colour."""
        if not self.on:
            return text
        if name not in self.seen:
            self.seen.append(name)
        return f"\x1b[{COLOURS[self.seen.index(name) % len(COLOURS)]}m{text}\x1b[0m"

    def column(self, name: str) -> str:
        """A name, as wide as the widest so far, before what it wrote."""
        self.width = max(self.width, len(name))
        return f"{self.paint(name, name.ljust(self.width))} |"


@dataclass(slots=True)
class Steps:
    """Shows steps, each a line with its seconds; on a terminal the one that is under way as well."""

    out: TextIO
    begun_at: float = field(default_factory=time.monotonic)
    _under_way: bool = False

    def __enter__(self) -> "Steps":
        return self

    def __exit__(self, *_: object) -> None:
        """What is said next, of a step that failed, begins a line."""
        if self._under_way:
            print(file=self.out, flush=True)
        self._under_way = False

    def begun(self, name: str) -> None:
        """A step has begun."""
        if self.out.isatty():
            print(f"    …    {name}", end="", file=self.out, flush=True)
            self._under_way = True

    def done(self, name: str, seconds: float) -> None:
        """It took so long."""
        start = "\r" if self.out.isatty() else ""
        print(f"{start}{seconds:6.1f} s  {name}", file=self.out, flush=True)
        self._under_way = False

    def undoing(self, name: str) -> None:
        """It failed: what was done is undone."""
        start = "\r" if self.out.isatty() else ""
        print(f"{start}  failed  {name}; undoing what was done", file=self.out, flush=True)
        self._under_way = False

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self.begun_at


@dataclass(slots=True)
class Progress:
    """Shows steps of `names` on a stream, each once, with the seconds since the beginning."""

    out: TextIO
    names: Sequence[str]
    begun: float = field(default_factory=time.monotonic)
    shown: dict[str, str] = field(default_factory=dict)
    _times: dict[str, float] = field(default_factory=dict)
    _drawn: int = 0

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self.begun

    def step(self, name: str, text: str) -> None:
        """A unit's step; nothing happens if it is at that already, or the text is empty."""
        if not text or self.shown.get(name) == text:
            return
        self.shown[name] = text
        self._times[name] = self.seconds
        size = terminal.size(self.out)
        if self.out.isatty() and os.environ.get("TERM") != "dumb" and len(self.names) < size.lines:
            self._draw(size.columns)
        else:
            columns = size.columns if self.out.isatty() else None
            print(self._line(name, columns, Palette(on=False)), file=self.out, flush=True)

    def _draw(self, columns: int) -> None:
        """All units' lines, over those that were drawn before."""
        palette = Palette.for_stream(self.out, self.names)
        lines = [self._line(name, columns, palette) + ERASE for name in self.names if name in self.shown]
        up = UP.format(self._drawn) if self._drawn else ""
        self._drawn = len(lines)
        print(up + "\n".join(lines), file=self.out, flush=True)

    def _line(self, name: str, columns: int | None, palette: Palette) -> str:
        """One line, cut where the terminal ends: a line that wraps could not be drawn over."""
        width = max(map(len, self.names))
        time = f"{self._times[name]:6.1f} s  "
        rest = f"{name:<{width}}  {self.shown[name]}"
        if columns is not None and len(time) + len(rest) >= columns:
            rest = rest[: max(columns - len(time) - 2, 0)] + "…"
        shown = palette.paint(name, rest[:width]) + rest[width:]
        return f"{FAINT}{time}{PLAIN}{shown}" if palette.on else time + shown
