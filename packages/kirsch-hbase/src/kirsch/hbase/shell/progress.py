"""A line on the terminal that says what is being done, once it takes longer than people like."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

PATIENCE = 1.0
INTERVAL = 0.2


class Progress:
    """Shows `count: 120,000 rows, 3 s` while something goes on; without a terminal (None) nothing."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self._lock = threading.Lock()
        self._depth = 0
        self._detail = ""
        self._shown = False

    def say(self, detail: str) -> None:
        """What is to be shown besides; may be called often."""
        self._detail = detail

    @contextmanager
    def of(self, what: str) -> Iterator[None]:
        """Show it while the block runs, from a second on."""
        if self._stream is None or self._depth:
            yield
            return
        self._detail = ""
        over = threading.Event()
        thread = threading.Thread(target=self._show, args=(what, over, time.monotonic()), daemon=True)
        self._depth += 1
        try:
            # Ctrl-C may come here, too: the line must not stay for that.
            thread.start()
            yield
        finally:
            self._depth -= 1
            over.set()
            if thread.is_alive():
                thread.join()
            self.clear()

    def clear(self) -> None:
        """Take the line away."""
        with self._lock:
            if self._shown and self._stream is not None:
                self._stream.write("\r\x1b[K")
                self._stream.flush()
                self._shown = False

    def _show(self, what: str, over: threading.Event, began: float) -> None:
        delay = PATIENCE
        while not over.wait(delay):
            delay = INTERVAL
            with self._lock:
                if over.is_set() or self._stream is None:
                    return
                detail = f" {self._detail}," if self._detail else ""
                self._stream.write(f"\r\x1b[K{what}:{detail} {time.monotonic() - began:.0f} s")
                self._stream.flush()
                self._shown = True
