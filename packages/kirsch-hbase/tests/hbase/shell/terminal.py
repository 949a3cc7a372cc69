"""A shell in a real terminal, and what it shows there."""

import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pexpect
import pyte

from kirsch.hbase import jars

RUN = "import sys; from kirsch.cli.main import main; sys.exit(main())"
PROMPT = "hbase> "
WIDTH, HEIGHT = 100, 30
# A machine that is busy takes its time.
PATIENCE = 120


class Terminal:
    """What a person sees and types."""

    def __init__(self, words: list[str], home: Path, rows: int = HEIGHT) -> None:
        environment = {
            **os.environ,
            "HOME": str(home),
            "TERM": "xterm",
            "XDG_STATE_HOME": str(home / "state"),
            # As shells export them of another window.
            "COLUMNS": "40",
            "LINES": "7",
        }
        environment.pop("NO_COLOR", None)
        # The jars are where they were, though home is elsewhere.
        environment["KIRSCH_HBASE_JARS"] = str(jars.cache_folder())
        self.screen = pyte.HistoryScreen(WIDTH, rows, history=5000)
        self._stream = pyte.ByteStream(self.screen)
        self.raw = b""
        self.child = pexpect.spawn(
            sys.executable, ["-c", RUN, *words], dimensions=(rows, WIDTH), env=environment, timeout=PATIENCE
        )

    def type(self, text: str) -> None:
        """Type, without Enter."""
        self.child.send(text)

    def line(self, text: str) -> None:
        """Type a line, and Enter."""
        self.child.send(text + "\r")

    def control(self, letter: str) -> None:
        """Ctrl and a letter."""
        self.child.sendcontrol(letter)

    def _read(self) -> None:
        try:
            data = self.child.read_nonblocking(65536, timeout=0.05)
        except (pexpect.TIMEOUT, pexpect.EOF):
            return
        self.raw += data
        # prompt_toolkit asks where the cursor is.
        if b"\x1b[6n" in data:
            self._stream.feed(data)
            self.child.send(f"\x1b[{self.screen.cursor.y + 1};{self.screen.cursor.x + 1}R")
            return
        self._stream.feed(data)

    def shown(self) -> str:
        """The screen's lines."""
        return "\n".join(line.rstrip() for line in self.screen.display).rstrip()

    def until(self, pattern: str, what: str = "") -> str:
        """Wait until the screen shows it; the screen."""
        deadline = time.monotonic() + PATIENCE
        while not re.search(pattern, self.shown(), re.M):
            assert time.monotonic() < deadline, f"{what or pattern} did not come:\n{self.shown()}"
            assert self.child.isalive() or not re.search(pattern, self.shown(), re.M), self.shown()
            self._read()
        return self.shown()

    def prompted(self) -> str:
        """Wait until the last line of the screen is an empty prompt."""
        return self.until(rf"(?:^|\n){PROMPT.strip()}\s*\Z", "a prompt")

    def ended(self) -> int:
        """Its exit status, once it has ended."""
        deadline = time.monotonic() + PATIENCE
        while self.child.isalive():
            assert time.monotonic() < deadline, f"it has not ended:\n{self.shown()}"
            self._read()
        self.child.close()
        return self.child.exitstatus if self.child.exitstatus is not None else -self.child.signalstatus


@contextmanager
def terminal(quorum: str, home: Path, *options: str, rows: int = HEIGHT) -> Iterator[Terminal]:
    """A shell on a server, in a home of its own."""
    opened = Terminal(["hbase", "shell", f"--quorum={quorum}", "--patience=60", *options], home, rows)
    try:
        yield opened
    finally:
        if opened.child.isalive():
            opened.child.kill(signal.SIGKILL)
        opened.child.wait()
        opened.child.close()
