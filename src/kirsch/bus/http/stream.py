"""Body of a request that its application reads while it comes."""

import io
from collections import deque
from collections.abc import Callable
from typing import Any, BinaryIO

from kirsch.bus.http.request import Refused


class Stream(io.RawIOBase):
    """The bytes that came with the head, then what `more` brings: it waits, and returns True at the end.

    A body that breaks off, is malformed, or comes too slowly raises Refused, and leaves it in `failed`.
    """

    def __init__(self, begun: BinaryIO | None, more: Callable[[], bool]) -> None:
        self._pieces: deque[memoryview] = deque()
        self._more = more
        self.complete = False
        self.failed: Refused | None = None
        if begun is not None:
            with begun:
                begun.seek(0)
                self.write(begun.read())

    def readable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        """Add what has come."""
        if data:
            self._pieces.append(memoryview(data))
        return len(data)

    def readinto(self, buffer: Any) -> int:
        while not self._pieces and not self.complete:
            if self.failed is not None:
                raise self.failed
            try:
                self.complete = self._more()
            except Refused as refused:
                self.failed = refused
                raise
            except OSError:
                self.failed = Refused(400, "The request ends too early.")
                raise
        if not self._pieces:
            return 0
        piece = self._pieces.popleft()
        count = min(len(buffer), len(piece))
        memoryview(buffer).cast("B")[:count] = piece[:count]
        if count < len(piece):
            self._pieces.appendleft(piece[count:])
        return count
