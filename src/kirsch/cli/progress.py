"""How far units are: a line a step, or on a terminal a line a unit that changes in place."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TextIO

from kirsch import terminal
from kirsch.cli.colour import Palette

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
