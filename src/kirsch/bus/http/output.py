"""Bytes that wait until a client takes them: in memory up to a size, then in a file."""

import contextlib
import os
import socket
import ssl
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import BinaryIO

_PIECE = 1 << 18


class FilePart:
    """A part of a file that is sent as it is, then closed. The `end` of a spool's grows as it is written."""

    def __init__(self, descriptor: int, offset: int, end: int, spool: "Spool | None" = None) -> None:
        self.descriptor = descriptor
        self.offset = offset
        self.end = end
        self._spool = spool

    def write(self, data: bytes) -> None:
        """Add bytes to a spool's file. Raises OSError."""
        view = memoryview(data)
        while view:
            written = os.pwrite(self.descriptor, view, self.end)
            self.end += written
            if self._spool:
                self._spool.add(written)
            view = view[written:]

    def close(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1
            if self._spool:
                self._spool.add(-self.end)


class Full(Exception):
    """An answer that its client takes too slowly, where there is no room for more of such."""


class Spool:
    """Files of all answers that wait for their clients: together up to `size` bytes.

    Beyond that up to `waiters` answers wait until there is room again.
    """

    def __init__(
        self, size: int, waiters: int, make: Callable[[], BinaryIO] = tempfile.TemporaryFile
    ) -> None:
        self.size = size
        self.make = make
        self.used = 0
        self.waiters = threading.Semaphore(waiters)
        self._mutex = threading.Lock()

    @property
    def full(self) -> bool:
        """True where no more is to be added."""
        return self.used > self.size

    def add(self, count: int) -> None:
        """Take account of bytes that were written, or below zero of those of a file that was closed."""
        with self._mutex:
            self.used += count


class Output:
    """A queue of bytes and of parts of files. Sending raises OSError as the socket does."""

    def __init__(self, memory: int, spool: Spool) -> None:
        self._memory = memory
        self._spool = spool
        self._parts: deque[bytes | memoryview | FilePart] = deque()
        # The file at the end of the queue that takes what is more than `memory`.
        self._overflow: FilePart | None = None
        self.size = 0
        """Bytes that wait."""
        self.sent = 0
        """Bytes that were sent of the present answer."""

    def crowded(self, share: int) -> bool:
        """True where more than `share` bytes wait here, and there is no room for more than that."""
        return self.size > share and self._spool.full

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Take one of the places of those that wait until there is room. Raises Full where there is none."""
        if not self._spool.waiters.acquire(blocking=False):
            raise Full
        try:
            yield
        finally:
            self._spool.waiters.release()

    def __bool__(self) -> bool:
        return bool(self._parts)

    def put(self, data: bytes) -> None:
        """Add bytes. Raises OSError where the file cannot be written."""
        if not data:
            return
        self.size += len(data)
        overflow = self._overflow
        if overflow is None and self.size <= self._memory:
            self._parts.append(data)
            return
        if overflow is None:
            with self._spool.make() as file:
                overflow = self._overflow = FilePart(os.dup(file.fileno()), 0, 0, self._spool)
            self._parts.append(overflow)
        overflow.write(data)

    def put_file(self, part: FilePart) -> None:
        """Add part of a file, which is this queue's from now on."""
        self.size += part.end - part.offset
        self._overflow = None
        self._parts.append(part)

    def send(self, sock: socket.socket) -> bool:
        """Send what a socket takes that does not block: True once nothing is left."""
        parts = self._parts
        try:
            while parts:
                part = parts[0]
                if isinstance(part, FilePart):
                    count = _send_file(sock, part)
                    part.offset += count
                    if part.offset >= part.end:
                        self._drop(part)
                else:
                    count = sock.send(part)
                    if count == len(part):
                        parts.popleft()
                    else:
                        parts[0] = memoryview(part)[count:]
                self.size -= count
                self.sent += count
        except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
            return False
        return True

    def close(self) -> None:
        """Drop all that waits."""
        for part in self._parts:
            if isinstance(part, FilePart):
                part.close()
        self._parts.clear()
        self._overflow = None
        self.size = 0

    def _drop(self, part: FilePart) -> None:
        self._parts.popleft()
        part.close()
        if part is self._overflow:
            self._overflow = None


def _send_file(sock: socket.socket, part: FilePart) -> int:
    """Send a piece of a file. Raises OSError, also where the file has become shorter."""
    size = min(part.end - part.offset, _PIECE)
    if isinstance(sock, ssl.SSLSocket):
        data = os.pread(part.descriptor, size, part.offset)
        count = sock.send(data) if data else 0
    else:
        count = os.sendfile(sock.fileno(), part.descriptor, part.offset, size)
    if not count:
        raise OSError("a file became shorter while it was sent")
    return count
