"""Output of answers: to a terminal in pages and colours, to a pipe, or as JSON."""

import json
import os
import re
import sys
from typing import Any, TextIO

from kirsch import terminal
from kirsch.hbase.shell import answers
from kirsch.hbase.shell.answers import Grid, Names, Stream

MORE = "-- more: Space a page, Enter a line, a all, q quit --"
# Where standard input ends, or Ctrl-C is pressed, nobody wants more.
QUIT = ("q", "Q", "\x03", "\x04", "\x1b", "")
_COLOUR = re.compile(r"\x1b\[[\d;]*m")


class Output:
    """Output of answers; `interactive` adds notes and pages."""

    def __init__(self, stream: TextIO, *, as_json: bool = False, interactive: bool = False) -> None:
        self._stream = stream
        self.as_json = as_json
        self.interactive = interactive
        self.colour = stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"

    @property
    def columns(self) -> int:
        """Return the width of a line."""
        return terminal.size(self._stream).columns if self._stream.isatty() else 100

    def show(self, value: Any) -> str:
        """Show an answer. Return the note to show behind it."""
        try:
            if self.as_json:
                for record in answers.records(value):
                    self._stream.write(json.dumps(record, ensure_ascii=False, default=str) + "\n")
                return ""
            return self._lines(value)
        finally:
            if isinstance(value, Stream):
                value.close()
            self._stream.flush()

    def _lines(self, value: Any) -> str:
        rows = _Counted(value) if isinstance(value, Stream) else None
        pager = _Pager(self._stream) if self.interactive and self._stream.isatty() else None
        # Not what a heading is above, for that comes once.
        shown = -1 if isinstance(value, Names | Grid | Stream) else 0
        for line in answers.lines(rows or value, self.colour):
            if pager is not None and not pager.wants(line):
                # More rows than these have come, to tell how wide their columns are.
                return f"{answers.number(max(shown, 0), 'line')} shown"
            self._stream.write(line + "\n")
            shown += 1
        if isinstance(value, Stream) and value.after is not None:
            for line in answers.lines(value.after(), self.colour):
                self._stream.write(line + "\n")
        return answers.footer(value, rows.count if rows else 0)

    def say(self, text: str) -> None:
        """Print a line that a command tells before its value."""
        if not self.as_json:
            self._stream.write(text + "\n")
            self._stream.flush()

    def note(self, text: str) -> None:
        """Show a note to a person."""
        if self.interactive and not self.as_json and text:
            self._stream.write(answers.paint(text, answers.DIM, self.colour) + "\n")
            self._stream.flush()


class _Counted(Stream):
    """A stream that counts its rows."""

    def __init__(self, stream: Stream) -> None:
        super().__init__(stream.columns, self._counting(stream), stream.lines, stream.noun, stream.close)
        self.count = 0

    def _counting(self, stream: Stream) -> Any:
        for row in stream:
            self.count += 1
            yield row


class _Pager:
    """Pager that stops after each page of a terminal."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._left = self._height()
        self._all = not sys.stdin.isatty()

    def _height(self) -> int:
        return max(2, terminal.size(self._stream).lines - 1)

    def wants(self, line: str) -> bool:
        """Return whether to show a line; asks when the page is full."""
        if self._all:
            return True
        width = len(_COLOUR.sub("", line))
        self._left -= 1 + max(0, width - 1) // max(20, terminal.size(self._stream).columns)
        if self._left >= 0:
            return True
        self._stream.write(answers.paint(MORE, "7", True))
        self._stream.flush()
        key = _key()
        self._stream.write("\r\x1b[K")
        if key in QUIT:
            return False
        if key in ("a", "A"):
            self._all = True
        self._left = 0 if key in ("\r", "\n") else self._height() - 1
        return True


def _key() -> str:
    """Read the next key."""
    import termios
    import tty

    where = sys.stdin.fileno()
    before = termios.tcgetattr(where)
    try:
        tty.setcbreak(where)
        return os.read(where, 1).decode("latin-1")
    finally:
        termios.tcsetattr(where, termios.TCSADRAIN, before)


def asked(question: str) -> bool:
    """Ask a person to confirm; without a terminal the answer is yes."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return True
    return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")
