"""Output for people: tables, colours of units' names, and the progress of steps and units."""

import os
import threading
import time
from collections import Counter
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
    """Return the lines of a table: the columns in `fields`, each as wide as its widest cell."""
    lines = [[field.upper() for field in fields]] if legend else []
    lines += [[columns[field](row, full) or "-" for field in fields] for row in rows]
    widths = [max((len(line[i]) for line in lines), default=0) for i in range(len(fields))]
    cells = (
        "".join(cell.ljust(width + GAP) for cell, width in zip(line, widths, strict=True)) for line in lines
    )
    return "".join(line.rstrip() + "\n" for line in cells)


def machine(machine_id: str, address: str, full: bool) -> str:
    """Return a machine as tables show it: 113f16a7.../172.17.8.103."""
    if not machine_id:
        return "-"
    shown = machine_id if full else f"{machine_id[:8]}..."
    return f"{shown}/{address}" if address else shown


def digest(text: str, full: bool) -> str:
    """Return a hash as tables show it: its first seven digits."""
    return text if full else text[:7]


@dataclass(slots=True)
class Palette:
    """Colours of names, and their width: for those known from the start, then for others as they appear."""

    on: bool
    width: int = 0
    seen: list[str] = field(default_factory=list)

    @classmethod
    def for_stream(cls, stream: TextIO, names: Sequence[str] = ()) -> "Palette":
        """Return a palette with colours if the stream is a terminal and NO_COLOR is not set."""
        on = stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        return cls(on, max(map(len, names), default=0), list(names))

    def paint(self, name: str, text: str) -> str:
        """Return a text in the colour of a name."""
        if not self.on:
            return text
        if name not in self.seen:
            self.seen.append(name)
        return f"\x1b[{COLOURS[self.seen.index(name) % len(COLOURS)]}m{text}\x1b[0m"

    def column(self, name: str) -> str:
        """Return the column before a line that `name` wrote, as wide as the widest name so far."""
        self.width = max(self.width, len(name))
        return f"{self.paint(name, name.ljust(self.width))} |"


@dataclass(slots=True)
class Lines:
    """Lines on a terminal above a status line, which stays the last; elsewhere nothing but lines.

    For any thread; as a context manager it takes the status line away at the end.
    """

    out: TextIO
    status: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def on_terminal(self) -> bool:
        """True if there is a status line."""
        return self.out.isatty() and os.environ.get("TERM") != "dumb"

    def __enter__(self) -> "Lines":
        if self.on_terminal:
            print(f"\r{ERASE}{self._last()}", end="", file=self.out, flush=True)
        return self

    def __exit__(self, *_: object) -> None:
        if self.on_terminal:
            print(f"\r{ERASE}", end="", file=self.out, flush=True)

    def print(self, text: str) -> None:
        """Print a line, or several."""
        with self.lock:
            if self.on_terminal:
                print(f"\r{ERASE}{text}\n{self._last()}", end="", file=self.out, flush=True)
            else:
                print(text, file=self.out, flush=True)

    def _last(self) -> str:
        """Return the status line, cut so that it never wraps."""
        return self.status[: max(terminal.size(self.out).columns - 1, 0)]


class Flood:
    """Limit of the lines that one unit gets on a screen in a second; the others are counted. Pure."""

    def __init__(self, most: int = 200) -> None:
        self._most = most
        self._second = 0
        self._counts: Counter[str] = Counter()

    def kept_back(self, second: int) -> list[tuple[str, int]]:
        """Begin a second; units with how many lines were kept back in the one before."""
        if second == self._second:
            return []
        told = [(unit, count - self._most) for unit, count in self._counts.items() if count > self._most]
        self._second = second
        self._counts.clear()
        return told

    @property
    def full(self) -> bool:
        """True if lines of this second were kept back."""
        return any(count > self._most for count in self._counts.values())

    def admits(self, unit: str) -> bool:
        """Count a line, and return True if it may be shown."""
        self._counts[unit] += 1
        return self._counts[unit] <= self._most


@dataclass(slots=True)
class Steps:
    """Progress of steps: a line each with its seconds; a terminal also shows the one under way."""

    out: TextIO
    begun_at: float = field(default_factory=time.monotonic)
    _under_way: bool = False

    def __enter__(self) -> "Steps":
        return self

    def __exit__(self, *_: object) -> None:
        """End the line of a step that failed."""
        if self._under_way:
            print(file=self.out, flush=True)
        self._under_way = False

    def begun(self, name: str) -> None:
        """Show on a terminal that a step has begun."""
        if self.out.isatty():
            print(f"    …    {name}", end="", file=self.out, flush=True)
            self._under_way = True

    def done(self, name: str, seconds: float) -> None:
        """Show that a step is done, with its seconds."""
        start = "\r" if self.out.isatty() else ""
        print(f"{start}{seconds:6.1f} s  {name}", file=self.out, flush=True)
        self._under_way = False

    def undoing(self, name: str) -> None:
        """Show that a step failed and that the steps before it are being undone."""
        start = "\r" if self.out.isatty() else ""
        print(f"{start}  failed  {name}; undoing what was done", file=self.out, flush=True)
        self._under_way = False

    @property
    def seconds(self) -> float:
        """Seconds since the first step."""
        return time.monotonic() - self.begun_at


@dataclass(slots=True)
class Progress:
    """Progress of units: each step is shown once, with the seconds since the beginning."""

    out: TextIO
    names: Sequence[str]
    begun: float = field(default_factory=time.monotonic)
    shown: dict[str, str] = field(default_factory=dict)
    _times: dict[str, float] = field(default_factory=dict)
    _drawn: int = 0

    @property
    def seconds(self) -> float:
        """Seconds since the first step."""
        return time.monotonic() - self.begun

    def step(self, name: str, text: str) -> None:
        """Show a unit's step, unless it is shown already or the text is empty."""
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
        """Draw all units' lines over those that were drawn before."""
        palette = Palette.for_stream(self.out, self.names)
        lines = [self._line(name, columns, palette) + ERASE for name in self.names if name in self.shown]
        up = UP.format(self._drawn) if self._drawn else ""
        self._drawn = len(lines)
        print(up + "\n".join(lines), file=self.out, flush=True)

    def _line(self, name: str, columns: int | None, palette: Palette) -> str:
        """Return one line, cut at the terminal's width: a line that wraps could not be drawn over."""
        width = max(map(len, self.names))
        time = f"{self._times[name]:6.1f} s  "
        rest = f"{name:<{width}}  {self.shown[name]}"
        if columns is not None and len(time) + len(rest) >= columns:
            rest = rest[: max(columns - len(time) - 2, 0)] + "…"
        shown = palette.paint(name, rest[:width]) + rest[width:]
        return f"{FAINT}{time}{PLAIN}{shown}" if palette.on else time + shown
