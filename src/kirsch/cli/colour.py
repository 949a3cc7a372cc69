"""Colours of units' names, where the reader is a terminal and did not ask for none (NO_COLOR)."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TextIO

# cyan, yellow, green, magenta, blue, bright red: readable on dark and on light
COLOURS = (36, 33, 32, 35, 34, 91)


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
