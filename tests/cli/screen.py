"""A terminal: a program on a pseudo-terminal, and what a person would see of it."""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Sequence
from unicodedata import east_asian_width

COLUMNS, ROWS = 60, 20
# What line editors write: a control sequence (ECMA-48), or one character.
TOKEN = re.compile(r"\x1b\[\??([0-9;]*)([A-Za-z])|([\s\S])")


class Screen:
    """A program whose terminal this is; as a context manager it ends what does not end by itself."""

    def __init__(self, command: Sequence[str], environment: dict[str, str]) -> None:
        self.terminal, other = pty.openpty()
        fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        self.process = subprocess.Popen(
            command,
            stdin=other,
            stdout=other,
            stderr=other,
            # COLUMNS and LINES as shells export them of another window; this terminal does not say where its
            # cursor is (CPR).
            env={**environment, "TERM": "xterm", "COLUMNS": "33", "LINES": "7", "PROMPT_TOOLKIT_NO_CPR": "1"},
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(other)
        self.lines = [""]
        self.row = self.column = 0
        self._rest = b""

    def __enter__(self) -> "Screen":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.terminal)

    def type(self, text: str) -> None:
        os.write(self.terminal, text.encode())

    def shows(self, *lines: str, seconds: float = 20) -> None:
        """The last lines on the screen are these; waits for that."""
        self.wait(lambda: self.seen[-len(lines) :] == list(lines), seconds)
        assert self.seen[-len(lines) :] == list(lines)

    def has_cursor(self, above: int, column: int) -> None:
        """The cursor is so many lines above the last, in this column; waits for that."""

        def place() -> tuple[int, int]:
            return len(self.lines) - 1 - self.row, self.column

        self.wait(lambda: place() == (above, column))
        assert place() == (above, column)

    def wait(self, condition: Callable[[], object], seconds: float = 20) -> None:
        """Read until a condition holds, or nothing more can come."""
        deadline = time.monotonic() + seconds
        while not condition() and time.monotonic() < deadline:
            if select.select([self.terminal], [], [], 0.1)[0]:
                try:
                    self._read(os.read(self.terminal, 65536))
                except OSError:  # the program has ended
                    return

    @property
    def seen(self) -> list[str]:
        """What is on it; an empty line at the end is where the cursor is."""
        return [line.rstrip() for line in self.lines]

    def status(self) -> int:
        """The program's, once it has ended."""
        self.wait(lambda: False)
        return self.process.wait(20)

    def _read(self, data: bytes) -> None:
        text = (self._rest + data).decode(errors="surrogateescape")
        self._rest = b""
        for token in TOKEN.finditer(text):
            count, command, character = token.groups()
            if character == "\x1b":
                # The rest of the sequence has not come yet.
                self._rest = text[token.start() :].encode(errors="surrogateescape")
                return
            if character:
                self._put(character)
            elif command == "A":
                self.row = max(0, self.row - int(count or 1))
            elif command == "F":
                self.row, self.column = max(0, self.row - int(count or 1)), 0
            elif command == "C":
                self.column += int(count or 1)
            elif command == "D":
                self.column = max(0, self.column - int(count or 1))
            elif command == "K":
                self.lines[self.row] = self.lines[self.row][: self.column]
            elif command == "J":
                self.lines[self.row :] = [self.lines[self.row][: self.column]]
            elif command == "P":
                line = self.lines[self.row]
                self.lines[self.row] = line[: self.column] + line[self.column + int(count or 1) :]
            else:
                assert command in "hlm", token[0]

    def _put(self, character: str) -> None:
        if character == "\r":
            self.column = 0
        elif character == "\n":
            self._down()
        elif character == "\b":
            self.column = max(0, self.column - 1)
        elif character != "\a":
            if self.column >= COLUMNS:
                self.column = 0
                self._down()
            line = self.lines[self.row].ljust(self.column)
            self.lines[self.row] = line[: self.column] + character + line[self.column + 1 :]
            self.column += 1
            assert east_asian_width(character) not in "WF", "each character is one wide here"

    def _down(self) -> None:
        self.row += 1
        if self.row == len(self.lines):
            self.lines.append("")
