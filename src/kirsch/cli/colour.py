"""Colours of units' names, where the reader is a terminal and did not ask for none (NO_COLOR)."""

import os
from dataclasses import dataclass, field
from typing import TextIO

# cyan, yellow, green, magenta, blue, bright red: readable on dark and on light
COLOURS = (36, 33, 32, 35, 34, 91)


@dataclass(slots=True)
class Palette:
    """Gives each name a colour and a width, in the order they are first seen."""

    on: bool
    width: int = 0
    seen: dict[str, int] = field(default_factory=dict)

    @classmethod
    def for_stream(cls, stream: TextIO) -> "Palette":
        """Colours if the stream is a terminal."""
        return cls(stream.isatty() and not os.environ.get("NO_COLOR"))

    def paint(self, name: str, text: str) -> str:
        """A name's text, as wide as the widest so far."""
        colour = self.seen.setdefault(name, COLOURS[len(self.seen) % len(COLOURS)])
        self.width = max(self.width, len(text))
        padded = text.ljust(self.width)
        return f"\x1b[{colour}m{padded}\x1b[0m |" if self.on else f"{padded} |"
