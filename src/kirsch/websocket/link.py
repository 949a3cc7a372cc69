"""One connection of a pool: its socket, what waits to be written to it, and whose turn it is."""

import logging
import socket as sockets
import ssl
import struct
import threading
from collections.abc import Callable
from threading import get_ident
from typing import TYPE_CHECKING, Final

from kirsch.websocket.application import WebSocket
from kirsch.websocket.errors import Closed
from kirsch.websocket.frame import ABNORMAL, GOING_AWAY
from kirsch.websocket.message import Close
from kirsch.websocket.poller import FAILED, IN, ONCE, OUT
from kirsch.websocket.protocol import CLOSED

if TYPE_CHECKING:
    from kirsch.websocket.pool import Pool

log = logging.getLogger("kirsch.websocket")

# How often one connection is read or written before others get their turn.
ROUNDS: Final = 16
# How many pieces one call writes: IOV_MAX is 1024.
PIECES: Final = 512
NOW: Final = getattr(sockets, "MSG_DONTWAIT", 0)
# What a socket says that has nothing, or no room, just now.
Blocked = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Link:
    """The wire of one WebSocket.

    One thread at a time owns it: it alone reads, calls the application, and ends the connection. Whoever
    sends writes, in any thread, one at a time: who finds that another is writing leaves it to that one.
    """

    __slots__ = (
        "_arming",
        "_room",
        "_unsent",
        "_writing",
        "aborted",
        "armed",
        "batch",
        "blocked",
        "buffered",
        "eof",
        "fd",
        "feeding",
        "gone",
        "initial",
        "lingering",
        "owner",
        "pool",
        "socket",
        "waiting",
        "websocket",
    )

    def __init__(self, pool: "Pool", websocket: WebSocket, socket: sockets.socket) -> None:
        self.pool = pool
        self.websocket = websocket
        self.socket = socket
        self.fd = socket.fileno()
        # What came with the handshake, until the connection has begun.
        self.initial: bytes | None = b""
        self.buffered = 0
        # The thread that owns it; 0 is none.
        self.owner = 0
        # The application is being called.
        self.feeding = False
        # Whether an event is waited for at all.
        self.armed = False
        # There is no room to write, or more is to be done at once: OUT is waited for.
        self.blocked = False
        # The socket is of no use any more; `gone`: it is closed.
        self.eof = self.aborted = self.gone = False
        self.lingering = False
        # Counts the batches of messages that were given to who iterates.
        self.batch = 0
        # How many threads wait for something to change.
        self.waiting = 0
        self._room = websocket.limits.queue
        self._unsent: list[bytes | memoryview] = []
        self._arming = threading.Lock()
        self._writing = threading.Lock()

    # The wire.

    def wake(self) -> None:
        """Write: at once, but for what one callback sends after its first message: that goes together."""
        if self.blocked:
            return
        websocket = self.websocket
        self.flush()
        if self.feeding and self.owner == get_ident():
            websocket.corked = True

    def abort(self) -> None:
        """End the connection at once; its owner tells the application."""
        self.aborted = True
        self.flush()

    def drain(self, timeout: float | None = None) -> None:
        """Block until a quarter of `limits.queue` waits at most. Raises Closed, TimeoutError."""
        low = self._room // 4
        websocket = self.websocket
        self.flush()
        if websocket.buffered > low and not self.wait(
            lambda: websocket.buffered <= low or websocket.state == CLOSED or self.gone, timeout
        ):
            raise TimeoutError("the peer does not read what waits to be sent")
        if websocket.state == CLOSED or self.gone:
            close = websocket.close_received or websocket.close_sent or Close(ABNORMAL, "")
            raise Closed(close.code, close.reason)

    # Whose turn it is.

    def own(self) -> bool:
        """Make the calling thread the owner, if there is none."""
        with self._arming:
            if self.owner or self.gone:
                return False
            self.owner = get_ident()
            return True

    def release(self, arm: bool = True) -> None:
        """Let the next event find another owner."""
        with self._arming:
            self.owner = 0
            if arm or self.blocked:
                self._arm()
        if self.waiting:
            self.pool.changed()

    def arm(self) -> None:
        """Wait for events."""
        with self._arming:
            self._arm()

    def wait(self, condition: Callable[[], bool], timeout: float | None) -> bool:
        """Block until `condition()`, looked at whenever something has changed; whether it came in time."""
        return self.pool.wait(self, condition, timeout)

    def _arm(self) -> None:
        if self.gone:
            return
        mask = ONCE
        if self.blocked:
            mask |= OUT
        if not self.owner:
            if self._hungry():
                mask |= IN
        elif self.eof or not self.blocked:
            return
        self.armed = True
        self.pool.poller.modify(self.fd, mask)

    def _hungry(self) -> bool:
        """Whether to read: a server does not hear a peer that does not listen."""
        websocket = self.websocket
        return not self.blocked or websocket.client or self.lingering or websocket.buffered <= self._room // 2

    def turn(self, events: int, buffer: memoryview) -> None:
        """Something happened: do all there is to do."""
        self.armed = False
        mine = self.own()
        if self.blocked and not self.eof:
            self.flush()
        if not mine:
            # Its owner waits for events when it is done.
            return
        try:
            if self.initial is not None:
                self.begin(buffer)
            elif events & (IN | FAILED) and not self.eof:
                self.read(buffer)
            self.settle()
        except BaseException:
            log.exception("%s: dropped", self.websocket.peer)
            self.end()

    def begin(self, buffer: memoryview) -> None:
        """The handshake is over: tell the application."""
        initial, self.initial = self.initial, None
        websocket = self.websocket
        self.feeding = True
        websocket.start(self)
        if initial:
            websocket.feed(initial)
        self.feeding = False
        if websocket.pending or self.buffered:
            self.flush()
        self.read(buffer)

    def settle(self) -> None:
        """Nothing more is to be read just now: end the connection, or let it wait."""
        websocket = self.websocket
        if self.eof or self.aborted:
            self.end()
            return
        if websocket.finished and not self.lingering:
            self.flush()
            if not websocket.pending and not self.buffered:
                if websocket.error is None:
                    self.end()
                    return
                self.linger()
        self.release()

    def tick(self, now: float) -> None:
        """A second has passed."""
        if self.initial is not None:
            return
        websocket = self.websocket
        if self.busy:
            # Nobody reads: that nothing is heard does not mean that nobody is there.
            websocket.heard = True
        try:
            websocket.tick(now)
        except Closed:
            # It began to close just now.
            pass

    @property
    def busy(self) -> bool:
        """Whether the application keeps it from being read."""
        return self.owner != 0

    def leave(self) -> None:
        """The pool is closing."""
        if self.initial is not None:
            self.abort()
        else:
            self.websocket.close(GOING_AWAY)

    def hurry(self, batch: int) -> None:
        """The application still is at this batch of messages: what it sends goes out at once now."""

    # Reading.

    def read(self, buffer: memoryview) -> None:
        """Feed the application what there is; for the owner."""
        websocket = self.websocket
        for _ in range(ROUNDS):
            target = websocket.get_buffer()
            into = buffer if target is None else target
            size = len(into)
            try:
                count = self.receive(into)
            except Blocked:
                return
            except (OSError, ValueError) as error:
                self.broken(error)
                return
            if not self.take(count, target, buffer):
                return
            if count < size and target is None and self.plain:
                return
        if not self.plain:
            # What TLS has decrypted already no event tells of.
            self.blocked = True

    def take(self, count: int, target: memoryview | None, buffer: memoryview) -> bool:
        """So many bytes were read, to `target` or else to `buffer`; whether to go on."""
        websocket = self.websocket
        if not count:
            self.eof = True
        if self.eof or self.lingering:
            return not self.eof
        self.feeding = True
        if target is None:
            websocket.feed(buffer[:count])
        else:
            # The application may keep what was read there.
            del target
            websocket.filled(count)
        self.feeding = False
        if websocket.pending and not self.blocked:
            self.flush()
        return not self.blocked or self._hungry()

    # Writing.

    def flush(self) -> None:
        """Write what there is as far as there is room."""
        websocket = self.websocket
        while self._writing.acquire(blocking=False):
            try:
                self._write()
            finally:
                self._writing.release()
            if self.waiting:
                self.pool.changed()
            if self.blocked:
                self.arm()
                return
            if websocket.error is not None and not self.lingering and self.owner != get_ident():
                # A message that could not be read to its end: the owner ends the connection.
                self.blocked = True
                self.arm()
                return
            # What came while nobody else could write.
            if self.eof or self.gone or not (websocket.pending or (self.aborted and not self.eof)):
                return

    def queue(self, data: bytes) -> None:
        """Write this before all else: the response of a handshake."""
        self._unsent.append(data)
        self.buffered += len(data)

    def _write(self) -> None:
        websocket = self.websocket
        if self.gone or self.eof:
            return
        if self.aborted:
            self._cut()
            return
        was_blocked, self.blocked = self.blocked, False
        try:
            for _ in range(ROUNDS * 4):
                if not self._unsent:
                    if not websocket.pending:
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

    # The end.

    def linger(self) -> None:
        """Say that nothing follows, and read to the peer's end, lest it loses what was written."""
        self.lingering = True
        with self._writing:
            try:
                sockets.socket.shutdown(self.socket, sockets.SHUT_WR)
            except OSError:
                self.eof = True
        if self.eof:
            self.end()

    def broken(self, error: Exception) -> None:
        """The socket failed: most often the peer is gone."""
        log.debug("%s: %s", self.websocket.peer, error)
        self.eof = True

    def _cut(self) -> None:
        """Drop what the system holds, and let the owner find the end."""
        self.eof = True
        try:
            self.socket.setsockopt(sockets.SOL_SOCKET, sockets.SO_LINGER, struct.pack("ii", 1, 0))
            # Not TLS's own shutdown: another thread may be reading.
            sockets.socket.shutdown(self.socket, sockets.SHUT_RDWR)
        except OSError:
            pass
        # Any event will do, and room is there now.
        self.blocked = True

    def end(self) -> None:
        """Close the socket, tell the application; for the owner."""
        with self._arming, self._writing:
            if self.gone:
                return
            self.gone = True
            self.pool.forget(self.fd)
            self.shut()
            self.socket.close()
        self._unsent = []
        self.buffered = 0
        self.websocket.ended()
        self.pool.left(self)

    # What a plain socket does and TLS does otherwise.

    plain = True

    def receive(self, into: memoryview) -> int:
        return self.socket.recv_into(into, 0, NOW)

    def send(self, pieces: list[bytes | memoryview]) -> int:
        if len(pieces) == 1:
            return self.socket.send(pieces[0], NOW)
        return self.socket.sendmsg(pieces[:PIECES], (), NOW)

    def shut(self) -> None:
        """Say goodbye, as far as the transport has a word for it."""
