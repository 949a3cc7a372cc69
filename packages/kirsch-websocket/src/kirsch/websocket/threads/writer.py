"""Writer of one socket, for any number of sending threads."""

import logging
import socket as sockets
import ssl
import struct
import threading
from threading import get_ident
from typing import Final

from kirsch.websocket.core.application import WebSocket
from kirsch.websocket.listening import outgoing

log = logging.getLogger("kirsch.websocket")

# Pieces written by one call; IOV_MAX is 1024.
PIECES: Final = 512
# Calls that write for one connection before others get a turn.
WRITES: Final = 64
# A call with this flag does not block; but gevent's sockets, which a patched program has, wait all the same.
NOW: Final = 0 if sockets.socket.__module__.startswith("gevent") else getattr(sockets, "MSG_DONTWAIT", 0)
# Exceptions that mean: nothing to read, or no room to write, at the moment.
Blocked = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Writer:
    """Writes a WebSocket's messages, in one thread at a time; another thread's are left to it.

    Attributes:
        blocked: True if the socket has no room, or more is to be written: an event is waited for.
        paused: True if nothing is read until something was written.
        buffered: bytes taken from the WebSocket that wait here.
        eof: True once the socket cannot be used any more.
        aborted: True once the connection is to end without waiting for the peer.
        gone: True once the socket is closed.
        lingering: True once our side was shut down; the peer is read to its end.
        owner: ident of the thread that alone reads and calls the application; 0 for none.
        waiting: number of threads that wait for a change.
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
        # True if a thread wanted to write while another did.
        self._asked = False
        self._unsent: list[bytes | memoryview] = []
        self._writing = threading.Lock()

    @property
    def outgoing(self) -> int:
        """Bytes that the system has and the peer's has not."""
        return outgoing(self.socket)

    def queue(self, data: bytes) -> None:
        """Write this first: the response of a handshake."""
        self._unsent.append(data)
        self.buffered += len(data)

    def flush(self) -> None:
        """Write what is queued as far as there is room."""
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
                # The last byte is written, or a message failed: the owner ends the connection.
                self.blocked = True
                self.arm()
                return
            # Messages that were sent while no other thread could write.
            if self.eof or not (self._asked or websocket.pending or self.aborted):
                if self.paused:
                    self.arm()
                return

    def abort(self) -> None:
        """End the connection without waiting for the peer; its owner tells the application."""
        self.aborted = True
        self.flush()

    def linger(self) -> None:
        """Shut down our side, and read the peer to its end, so that it does not lose what was written."""
        self.lingering = True
        with self._writing:
            try:
                sockets.socket.shutdown(self.socket, sockets.SHUT_WR)
            except OSError:
                self.eof = True

    def broken(self, error: Exception) -> None:
        """Note that the socket failed, most often since the peer is gone."""
        log.debug("%s: %s", self.websocket.peer, error)
        self.eof = True

    # For subclasses.

    def arm(self) -> None:
        """Have the pool wait for the next event."""

    def changed(self) -> None:
        """Have waiting threads check their conditions again."""

    def send(self, pieces: list[bytes | memoryview]) -> int:
        """Write some of the pieces; return the number of bytes."""
        if len(pieces) == 1:
            return self.socket.send(pieces[0], NOW)
        return self.socket.sendmsg(pieces[:PIECES], (), NOW)

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
                    # The first time in any case, since only `take` has the next message call `wake`.
                    if turn and not websocket.pending:
                        return
                    self._unsent = websocket.take()
                    if not self._unsent:
                        return
                    self.buffered = sum(map(len, self._unsent))
                self._written(self.send(self._unsent))
                if was_blocked:
                    websocket.heard = True
            # Other connections have messages too.
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
        """Drop the bytes that the system holds, and have the owner see the end."""
        self.eof = True
        try:
            self.socket.setsockopt(sockets.SOL_SOCKET, sockets.SO_LINGER, struct.pack("ii", 1, 0))
            # Not the SSLSocket's shutdown, since another thread may be reading.
            sockets.socket.shutdown(self.socket, sockets.SHUT_RDWR)
        except OSError:
            pass
        # Any event will do, and the socket has room to write now.
        self.blocked = True
