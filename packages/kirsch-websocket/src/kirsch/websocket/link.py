"""One connection of a pool: whose turn it is, what is read, and how it ends."""

import logging
import select
import socket as sockets
import threading
import time
from collections.abc import Callable
from threading import get_ident
from typing import TYPE_CHECKING, Final

from kirsch.websocket.application import WebSocket
from kirsch.websocket.errors import Closed
from kirsch.websocket.frame import ABNORMAL
from kirsch.websocket.message import Close
from kirsch.websocket.poller import FAILED, IN, ONCE, OUT
from kirsch.websocket.protocol import CLOSED, OPEN
from kirsch.websocket.writer import NOW, Blocked, Writer

if TYPE_CHECKING:
    from kirsch.websocket.pool import Pool

log = logging.getLogger("kirsch.websocket")

# What one read brings at most: each thread has a buffer.
READ: Final = 256 << 10
# After a read of less than this, most likely nothing is left.
MUCH: Final = 64 << 10
# How often one connection is read before others get their turn.
READS: Final = 16


class Link(Writer):
    """The wire of one WebSocket.

    One thread at a time owns it: it alone reads, calls the application, and ends the connection. An event
    makes a thread of the pool the owner; who iterates makes itself the owner while it waits for messages.

    Attributes:
        initial: what came with the handshake, until the connection has begun.
        iterated: the application takes its messages itself.
        feeding: the application is being called.
        batch: counts the batches of messages that were given to who iterates.
        visits: counts how often who iterates came for more; `away`: not for a second.
    """

    __slots__ = (
        "_arming",
        "_low",
        "_visited",
        "armed",
        "away",
        "batch",
        "fd",
        "feeding",
        "initial",
        "iterated",
        "pool",
        "visits",
    )

    def __init__(self, pool: "Pool", websocket: WebSocket, socket: sockets.socket) -> None:
        super().__init__(websocket, socket)
        # A client may send before a thread has begun with it.
        websocket.wire = self
        self.pool = pool
        self.fd = socket.fileno()
        self.initial: bytes | None = b""
        self.iterated = hasattr(websocket, "full")
        # Whether an event is waited for at all.
        self.armed = False
        self.feeding = False
        self.batch = self.visits = self._visited = 0
        self.away = False
        self._low = websocket.limits.queue // 4
        self._arming = threading.Lock()

    # The wire.

    def wake(self) -> None:
        """Write: at once, but for what one callback sends after its first message: that goes together."""
        if self.blocked:
            return
        self.flush()
        if self.feeding and self.owner == get_ident():
            self.websocket.corked = True

    def drain(self, timeout: float | None = None) -> None:
        """Block until a quarter of `limits.queue` waits at most. Raises Closed, TimeoutError."""
        websocket, low = self.websocket, self._low
        self.flush()
        if websocket.buffered > low and not self.wait(
            lambda: websocket.buffered <= low or self.eof or self.gone, timeout
        ):
            raise TimeoutError("the peer does not read what waits to be sent")
        if self.eof or self.gone:
            close = websocket.close_received or websocket.close_sent or Close(ABNORMAL, "")
            raise Closed(close.code, close.reason)

    def wait_closed(self, timeout: float | None = None) -> bool:
        """Block until the connection is gone; whether it is."""
        return self.wait(lambda: self.websocket.state == CLOSED, timeout)

    def farewell(self, code: int) -> None:
        """Close, and wait for the end: for `close_timeout`, and the second in which that is looked at."""
        websocket = self.websocket
        websocket.close(code)
        if not websocket.wait_closed(websocket.limits.close_timeout + 2):
            self.abort()
            websocket.wait_closed(1)

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
            self.changed()

    def arm(self) -> None:
        """Wait for events."""
        with self._arming:
            self._arm()

    def wait(self, condition: Callable[[], bool], timeout: float | None) -> bool:
        """Block until `condition()`, looked at whenever something has changed; whether it came in time."""
        return self.pool.wait(self, condition, timeout)

    def changed(self) -> None:
        self.pool.changed()

    def leave_to_pool(self) -> None:
        """Who iterates does not read just now: the pool does."""
        self.away = True
        self.arm()

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
        """Whether the pool reads: not for who reads or has enough, nor from a client that does not read."""
        websocket = self.websocket
        if self.iterated:
            if not self.away:
                return False
            # First this: whoever takes chunks just now looks when it has.
            websocket.stopped = True  # type: ignore[attr-defined]
            if websocket.full:  # type: ignore[attr-defined]
                if websocket.state == OPEN:
                    return False
                # It is closing, and read to the end.
                websocket.refuse()  # type: ignore[attr-defined]
            websocket.stopped = False  # type: ignore[attr-defined]
        # First this: whoever is writing just now looks when it has written.
        self.paused = True
        if websocket.client or self.lingering or websocket.queued + self.buffered <= self._low * 2:
            self.paused = False
        return not self.paused

    # For the pool.

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
                self.begin()
                self.read(buffer)
            elif events & (IN | FAILED) and not self.eof:
                self.read(buffer)
        except BaseException:
            log.exception("%s: dropped", self.websocket.peer)
            self.aborted = True
        self.settle(arm=not self.iterated)

    def begin(self) -> None:
        """The handshake is over: tell the application; for the owner."""
        initial, self.initial = self.initial, None
        websocket = self.websocket
        self.feeding = True
        websocket.start(self)
        if initial:
            websocket.feed(initial)
        self.feeding = False
        if websocket.pending or self.buffered:
            self.flush()

    def settle(self, arm: bool = True) -> None:
        """Nothing more is to be read just now: end the connection, or wait with it; for the owner."""
        websocket = self.websocket
        if websocket.finished and not (self.lingering or self.eof or self.aborted):
            arm = True
            self.flush()
            if not (websocket.pending or self.buffered or self.eof):
                if websocket.error is None:
                    self.end()
                    return
                self.linger()
        if self.eof or self.aborted:
            self.end()
        else:
            self.release(arm or self.lingering or self.away)

    def tick(self, now: float) -> None:
        """A second has passed."""
        websocket = self.websocket
        if self.initial is not None:
            return
        if self.iterated:
            if not self.owner and self.visits == self._visited and not (self.away and self.armed):
                self.leave_to_pool()
            self._visited = self.visits
            idle = websocket.full and not websocket.echoing  # type: ignore[attr-defined]
        else:
            idle = self.owner != 0
        if idle:
            # It is not read: that nothing is heard does not mean that nobody is there.
            websocket.heard = True
        try:
            websocket.tick(now)
        except Closed:
            # It began to close just now.
            pass

    def leave(self, code: int, reason: str) -> None:
        """The pool is closing."""
        if self.initial is not None:
            self.abort()
        else:
            self.websocket.close(code, reason)

    def eased(self) -> None:
        """Some of what is sent on of this connection's messages has been taken, or none comes any more."""
        self.websocket.eased()  # type: ignore[attr-defined]
        self.arm()
        self.changed()

    def hurry(self, batch: int) -> None:
        """The application still is at this batch of messages: what it sends goes out at once now."""
        self.pool.talking.discard(self)
        if self.batch == batch:
            self.websocket.corked = False
            self.flush()

    # Reading.

    def read(self, buffer: memoryview) -> None:
        """Feed the application what there is; for the owner."""
        websocket = self.websocket
        for _ in range(READS):
            target = websocket.get_buffer()
            into = buffer if target is None else target
            try:
                count = self.receive(into)
            except Blocked:
                return
            except (OSError, ValueError) as error:
                self.broken(error)
                return
            if not self._take(count, target, buffer) or not self._hungry():
                return
            if count < MUCH and self.plain:
                return
        # What TLS has decrypted already no event tells of.
        self.blocked = self.blocked or not self.plain

    def fetch(self, buffer: memoryview, end: float | None) -> None:
        """Wait for something, read it, feed the application; for the owner. Raises TimeoutError."""
        target = self.websocket.get_buffer()
        into = buffer if target is None else target
        try:
            if end is None and self.plain and NOW:
                # The socket blocks, for those who do not say NOW.
                count = self.socket.recv_into(into)
            else:
                count = self._receive(into, end)
        except TimeoutError:
            raise
        except (OSError, ValueError) as error:
            self.broken(error)
        else:
            self._take(count, target, buffer)

    def receive(self, into: memoryview) -> int:
        """Read what is there. Raises one of Blocked, OSError."""
        return self.socket.recv_into(into, 0, NOW)

    def _receive(self, into: memoryview, end: float | None) -> int:
        while True:
            try:
                return self.receive(into)
            except Blocked:
                pass
            left = None if end is None else end - time.monotonic()
            if (left is not None and left <= 0) or not _readable(self.fd, left):
                raise TimeoutError("no message came in time")

    def _take(self, count: int, target: memoryview | None, buffer: memoryview) -> bool:
        """So many bytes were read, to `target` or else to `buffer`; whether there may be more."""
        websocket = self.websocket
        if not count:
            self.eof = True
        if self.eof or self.lingering:
            return not self.eof
        self.feeding = True
        if target is None:
            websocket.feed(buffer[:count])
        else:
            websocket.filled(count)
        self.feeding = False
        if websocket.pending and not self.blocked:
            self.flush()
        return True

    def end(self) -> None:
        """Close the socket, tell the application; for the owner."""
        with self._arming, self._writing:
            if self.gone:
                return
            self.gone = self.eof = True
            self.pool.forget(self.fd)
            self.shut()
            self.socket.close()
        self._unsent = []
        self.buffered = 0
        self.pool.talking.discard(self)
        self.websocket.ended()
        self.pool.left(self)

    def shut(self) -> None:
        """Say goodbye, as far as the transport has a word for it."""


def _readable(fd: int, timeout: float | None) -> bool:
    """Wait until there is something to read; whether it came in time."""
    if not hasattr(select, "poll"):
        return bool(select.select([fd], [], [], timeout)[0])
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(None if timeout is None else timeout * 1000))
