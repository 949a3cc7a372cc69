"""What waits to be written to one socket, whichever threads send it."""

import logging
import socket as sockets
import ssl
import struct
import threading
from threading import get_ident
from typing import Final

from kirsch.websocket.application import WebSocket

log = logging.getLogger("kirsch.websocket")

# How many pieces one call writes: IOV_MAX is 1024.
PIECES: Final = 512
# How many calls write for one connection before others get their turn.
WRITES: Final = 64
# A call with this flag does not block; but gevent's sockets, which a patched program has, wait all the same.
NOW: Final = 0 if sockets.socket.__module__.startswith("gevent") else getattr(sockets, "MSG_DONTWAIT", 0)
# What a socket says that has nothing, or no room, just now.
Blocked = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Writer:
    """Writes what a WebSocket has, in any thread, one at a time: who finds another at it leaves it there.

    Attributes:
        blocked: there is no room, or more is to be done at once: the socket is waited for.
        paused: nothing is read before something has been written.
        buffered: bytes taken from the WebSocket that wait here.
        eof: the socket is of no use any more.
        aborted: it is to be of none.
        gone: it is closed.
        owner: the thread that alone reads and calls the application; 0 is none.
        waiting: how many threads wait for something to change.
    """

    __slots__ = (
        "_asked",
        "_unsent",
        "_writing",
        "aborted",
        "blocked",
        "buffered",
        "eof",
        "gone",
        "lingering",
        "owner",
        "paused",
        "socket",
        "waiting",
        "websocket",
    )

    plain = True

    def __init__(self, websocket: WebSocket, socket: sockets.socket) -> None:
        self.websocket = websocket
        self.socket = socket
        self.buffered = 0
        self.owner = 0
        self.waiting = 0
        self.blocked = self.paused = False
        self.eof = self.aborted = self.gone = self.lingering = False
        # Someone has found another writing.
        self._asked = False
        self._unsent: list[bytes | memoryview] = []
        self._writing = threading.Lock()

    def queue(self, data: bytes) -> None:
        """Write this before all else: the response of a handshake."""
        self._unsent.append(data)
        self.buffered += len(data)

    def flush(self) -> None:
        """Write what there is as far as there is room."""
        websocket = self.websocket
        self._asked = True
        while self._writing.acquire(blocking=False):
            try:
                self._asked = False
                self._write()
            finally:
                self._writing.release()
            if self.waiting:
                self.changed()
            if self.blocked:
                self.arm()
                return
            if websocket.finished and not self.lingering and self.owner != get_ident():
                # All is said, or a message could not be read to its end: the owner ends the connection.
                self.blocked = True
                self.arm()
                return
            # What came while nobody else could write.
            if self.eof or not (self._asked or websocket.pending or self.aborted):
                if self.paused:
                    self.arm()
                return

    def abort(self) -> None:
        """End the connection at once; its owner tells the application."""
        self.aborted = True
        self.flush()

    def linger(self) -> None:
        """Say that nothing follows: the peer is read to its end, lest it loses what was written."""
        self.lingering = True
        with self._writing:
            try:
                sockets.socket.shutdown(self.socket, sockets.SHUT_WR)
            except OSError:
                self.eof = True

    def broken(self, error: Exception) -> None:
        """The socket failed: most often the peer is gone."""
        log.debug("%s: %s", self.websocket.peer, error)
        self.eof = True

    # For those who extend it.

    def arm(self) -> None:
        """Wait for events."""

    def changed(self) -> None:
        """Have those who wait look again."""

    def send(self, pieces: list[bytes | memoryview]) -> int:
        """Write some; how many bytes."""
        if len(pieces) == 1:
            return self.socket.send(pieces[0], NOW)
        return self.socket.sendmsg(pieces[:PIECES], (), NOW)

    # How.

    def _write(self) -> None:
        websocket = self.websocket
        if self.eof:
            return
        if self.aborted:
            self._cut()
            return
        was_blocked, self.blocked = self.blocked, False
        try:
            for turn in range(WRITES):
                if not self._unsent:
                    # Also of nothing the first time: whoever has told us tells again only then.
                    if turn and not websocket.pending:
                        return
                    self._unsent = websocket.take()
                    if not self._unsent:
                        return
                    self.buffered = sum(map(len, self._unsent))
                self._written(self.send(self._unsent))
                if was_blocked:
                    websocket.heard = True
            # An endless message is not the only one to be sent.
            self.blocked = True
        except Blocked:
            self.blocked = True
        except (OSError, ValueError) as error:
            self.broken(error)
            self._cut()

    def _written(self, count: int) -> None:
        unsent = self._unsent
        if count == self.buffered:
            unsent.clear()
            self.buffered = 0
            return
        self.buffered -= count
        done = 0
        for piece in unsent:
            if count < len(piece):
                break
            count -= len(piece)
            done += 1
        del unsent[:done]
        if count:
            unsent[0] = memoryview(unsent[0])[count:]

    def _cut(self) -> None:
        """Drop what the system holds, and let the owner find the end."""
        self.eof = True
        try:
            self.socket.setsockopt(sockets.SOL_SOCKET, sockets.SO_LINGER, struct.pack("ii", 1, 0))
            # Not TLS's own shutdown: another thread may be reading.
            sockets.socket.shutdown(self.socket, sockets.SHUT_RDWR)
        except OSError:
            pass
        # Any event will do, and there is room now.
        self.blocked = True
