"""Output of a program, line by line, with the time of each line; and moments on that clock."""

import re
import threading
import time
from dataclasses import dataclass
from typing import IO


@dataclass(frozen=True, slots=True)
class Moment:
    """An event, between two instants of the monotonic clock (seconds)."""

    what: str
    begun: float
    ended: float

    @classmethod
    def now(cls, what: str) -> "Moment":
        """Return an event that happens now."""
        instant = time.monotonic()
        return cls(what, instant, instant)

    def __str__(self) -> str:
        return self.what


@dataclass(frozen=True, slots=True)
class Line:
    """One line and the instant of the monotonic clock at which it came."""

    text: str
    time: float


class Output:
    """Reads a stream in a thread, until its end."""

    def __init__(self, stream: IO[str]) -> None:
        self.lines: list[Line] = []
        self.ended = False
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._read, args=(stream,), name="output", daemon=True)
        self._thread.start()

    def __str__(self) -> str:
        return "\n".join(line.text for line in self.lines)

    def join(self, timeout: float) -> None:
        """Wait for the end of the stream."""
        self._thread.join(timeout)

    def wait_for(self, pattern: str, timeout: float, after: Moment | None = None) -> Moment | None:
        """The first line in which a regular expression is found, and when it came.

        None once the stream has ended, or time is up. Lines before `after` do not count.
        """
        since = after.begun if after else 0.0
        deadline = time.monotonic() + timeout
        checked = 0
        with self._news:
            while True:
                for line in self.lines[checked:]:
                    if line.time >= since and re.search(pattern, line.text):
                        return Moment(line.text, line.time, line.time)
                checked = len(self.lines)
                if self.ended or not self._news.wait(max(0.0, deadline - time.monotonic())):
                    return None

    def _read(self, stream: IO[str]) -> None:
        for text in stream:
            with self._news:
                self.lines.append(Line(text.rstrip("\n"), time.monotonic()))
                self._news.notify_all()
        with self._news:
            self.ended = True
            self._news.notify_all()
        stream.close()
