"""Link: the wire of one connection in a pool of threads."""

import logging
import select
import socket as sockets
import ssl
import threading
import time
from collections.abc import Callable
from threading import get_ident
from typing import Final, Protocol

from kirsch.websocket.core.application import WebSocket
from kirsch.websocket.core.errors import Closed
from kirsch.websocket.core.frame import ABNORMAL
from kirsch.websocket.core.message import Close
from kirsch.websocket.core.protocol import CLOSED, OPEN
from kirsch.websocket.threads.poller import FAILED, IN, ONCE, OUT, Poller
from kirsch.websocket.threads.writer import NOW, Blocked, Writer

log = logging.getLogger("kirsch.websocket")

# After a read of less than this most likely nothing is left.
MUCH: Final = 64 << 10
# Reads of one connection before others get a turn.
READS: Final = 16


class Host(Protocol):
    """Pool as its links see it."""

    poller: Poller
    # Links of iterating threads that are at a batch of messages.
    talking: "set[Link]"
    # Threads of functions that iterate.
    handlers: set[threading.Thread]
    # True while the housekeeper sleeps until the next second.
    dozing: bool

    def alert(self) -> None: ...

    def changed(self) -> None: ...

    def forget(self, fd: int) -> None: ...

    def link_ended(self, link: "Link") -> None: ...

    def relax(self, link: "Link") -> None: ...

    def wait(self, link: "Link", condition: Callable[[], bool], timeout: float | None) -> bool: ...


class Link(Writer):
    """Wire of one WebSocket in a pool.

    One thread at a time owns it: the owner alone reads, calls the application, and ends the connection. An
    event makes a thread of the pool the owner; a thread that iterates becomes the owner while it waits for
    messages.

    Attributes:
        initial: the bytes that came with the handshake; None once the connection has begun.
        iterated: True if the application takes its messages itself (a Connection).
        feeding: True while the application is called.
        batch: number of batches of messages that the iterating thread was given.
        visits: number of times that the iterating thread came for more.
        away: True if the iterating thread has not come for a second, and the pool reads.
    """

    __slots__ = (
        "_arming",
        "_goodbye",
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

    clock = staticmethod(time.perf_counter)

    def __init__(self, pool: Host, websocket: WebSocket, socket: sockets.socket) -> None:
        super().__init__(websocket, socket)
        # A client may send before a thread of the pool has begun with it.
        websocket.wire = self
        self.pool = pool
        self.fd = socket.fileno()
        self.initial: bytes | None = b""
        self.iterated = hasattr(websocket, "full")
        # True while the descriptor is registered for an event.
        self.armed = False
        self.feeding = False
        self.batch = self.visits = self._visited = 0
        self.away = False
        # For a peer whose handshake was answered while the pool closes.
        self._goodbye: Close | None = None
        self._low = websocket.limits.queue // 4
        self._arming = threading.Lock()

    # Called by the WebSocket.

    def wake(self) -> None:
        """Write the first message of a callback at once; the rest is written together when it returns."""
        if self.blocked:
            return
        self.flush()
        if self.feeding and self.owner == get_ident():
            self.websocket.corked = True

    def drain(self, timeout: float | None = None) -> None:
        """Block until at most a quarter of `limits.queue` waits. Raises Closed, TimeoutError."""
        websocket, low = self.websocket, self._low
        self.flush()
        if websocket.buffered > low and not self.wait(
            lambda: websocket.buffered <= low or self.eof or self.gone, timeout
        ):
            raise TimeoutError("the peer does not read what waits to be sent")
        if self.eof or self.gone:
            close = websocket.close_received or websocket.close_sent or Close(ABNORMAL, "")
            raise Closed(close.code, close.reason)

    def round_trip(self, timeout: float | None = None) -> float:
        """Ping the peer, and return the seconds until its pong. Raises Closed, TimeoutError."""
        pongs: list[float] = []

        def ponged(seconds: float) -> None:
            pongs.append(seconds)
            self.changed()

        self.websocket.ping_for(ponged)
        if self.iterated:
            # The thread that iterates would read, and waits here.
            self.leave_to_pool()
        self.wait(lambda: bool(pongs) or self.websocket.state == CLOSED, timeout)
        if pongs:
            return pongs[0]
        raise self.websocket.no_pong(timeout)

    def wait_closed(self, timeout: float | None = None) -> bool:
        """Block until the connection is gone and return True, or False after `timeout` seconds."""
        return self.wait(lambda: self.websocket.state == CLOSED, timeout)

    def close_and_wait(self, code: int) -> None:
        """Close, and wait until the connection is gone, which `close_timeout` limits."""
        websocket = self.websocket
        websocket.close(code)
        left = -1
        while not websocket.wait_closed(websocket.limits.close_timeout + 2):
            if (now := websocket.buffered + self.outgoing) == left:
                self.abort()
                websocket.wait_closed(1)
                break
            # The peer still reads.
            left = now

    # Ownership.

    def own(self) -> bool:
        """Make the calling thread the owner; return False if there is one, or the connection is gone."""
        with self._arming:
            if self.owner or self.gone:
                return False
            self.owner = get_ident()
            return True

    def release(self, arm: bool = True) -> None:
        """Give up the ownership; the next event finds another owner."""
        with self._arming:
            self.owner = 0
            if arm or self.blocked:
                self._arm()
        if self.waiting:
            self.changed()

    def arm(self) -> None:
        """Have the pool wait for the next event."""
        with self._arming:
            self._arm()

    def wait(self, condition: Callable[[], bool], timeout: float | None) -> bool:
        """Block until `condition()`, checked at every change; return False after `timeout` seconds."""
        return self.pool.wait(self, condition, timeout)

    def changed(self) -> None:
        self.pool.changed()

    def leave_to_pool(self) -> None:
        """Have the pool read, since the iterating thread does not."""
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
        """Return True if the pool is to read.

        It does not where a thread iterates, where the inbox is full, and where a client does not read.
        """
        websocket = self.websocket
        if self.iterated:
            if not self.away:
                return False
            # Set first: a thread that takes chunks just now checks it afterwards.
            websocket.stopped = True  # type: ignore[attr-defined]
            if websocket.full:  # type: ignore[attr-defined]
                if websocket.state == OPEN:
                    return False
                # It is closing, and has to be read to its end.
                websocket.refuse()  # type: ignore[attr-defined]
            websocket.stopped = False  # type: ignore[attr-defined]
        # Set first: a thread that writes just now checks it afterwards.
        self.paused = True
        if websocket.client or self.lingering or websocket.queued + self.buffered <= self._low * 2:
            self.paused = False
        return not self.paused

    # Called by the pool.

    def handle(self, events: int, buffer: memoryview) -> None:
        self.armed = False
        mine = self.own()
        if self.blocked and not self.eof:
            self.flush()
        if not mine:
            # Its owner has the pool wait for events when it is done.
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
        """Start the WebSocket after the handshake. Called by the owner."""
        initial, self.initial = self.initial, None
        websocket = self.websocket
        self.feeding = True
        websocket.start(self)
        if self._goodbye is not None:
            websocket.close(self._goodbye.code, self._goodbye.reason)
        if initial:
            # The response of the handshake does not wait for a callback that blocks.
            if self.buffered:
                self.flush()
            websocket.feed(initial)
        self.feeding = False
        if websocket.pending or self.buffered:
            self.flush()

    def settle(self, arm: bool = True) -> None:
        """End the connection, or give up the ownership, after reading. Called by the owner."""
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
        websocket = self.websocket
        if self.initial is not None:
            return
        if self.iterated:
            unread = not (self.owner or self.away)
            if not self.owner and self.visits == self._visited and not (self.away and self.armed):
                self.leave_to_pool()
            self._visited = self.visits
            idle = unread or (websocket.full and not websocket.echoing)  # type: ignore[attr-defined]
        else:
            idle = self.owner != 0
        if idle:
            # The connection is not read, so its silence does not mean that the peer is gone.
            websocket.heard = True
        try:
            websocket.tick(now)
        except Closed:
            # Another thread began to close just now.
            pass

    def close(self, code: int, reason: str) -> None:
        # Set first: a thread that begins just now checks it afterwards.
        self._goodbye = Close(code, reason)
        if self.initial is None:
            self.websocket.close(code, reason)

    def relaxed(self) -> None:
        """Check again whether to read: chunks that are sent on were taken, or no more will come."""
        self.websocket.relaxed()  # type: ignore[attr-defined]
        self.arm()
        self.changed()

    def flush_batch(self, batch: int) -> None:
        """Write what was sent, if the iterating thread still is at this batch of messages."""
        self.pool.talking.discard(self)
        if self.batch == batch:
            self.websocket.corked = False
            self.flush()

    # Reading.

    def read(self, buffer: memoryview) -> None:
        """Read what there is, and feed the application. Called by the owner."""
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
        # Bytes that are decrypted already cause no event.
        self.blocked = self.blocked or not self.plain

    def fetch(self, buffer: memoryview, end: float | None) -> None:
        """Wait for bytes, read them, feed the application. Called by the owner. Raises TimeoutError."""
        target = self.websocket.get_buffer()
        into = buffer if target is None else target
        try:
            if end is None and self.plain and NOW:
                # The socket blocks for calls without the flag NOW.
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
        """Read what is there. Raises OSError, and one of Blocked if nothing is."""
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
        """Feed bytes that were read, to `target` or else to `buffer`; return True if there may be more."""
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
        """Close the socket, and tell the application. Called by the owner."""
        with self._arming, self._writing:
            if self.gone:
                return
            self.gone = self.eof = True
            self.pool.forget(self.fd)
            self.close_tls()
            self.socket.close()
        self._unsent = []
        self.buffered = 0
        self.pool.talking.discard(self)
        self.websocket.ended()
        self.pool.link_ended(self)

    def close_tls(self) -> None:
        """Send TLS's own end, where there is TLS."""


class SecureLink(Link):
    """Link with TLS: one thread at a time calls OpenSSL for a connection."""

    __slots__ = ("_tls",)

    plain = False
    socket: ssl.SSLSocket

    def __init__(self, pool: Host, websocket: WebSocket, socket: sockets.socket) -> None:
        super().__init__(pool, websocket, socket)
        self._tls = threading.Lock()

    def receive(self, into: memoryview) -> int:
        with self._tls:
            return self.socket.recv_into(into)

    def send(self, pieces: list[bytes | memoryview]) -> int:
        with self._tls:
            return self.socket.send(pieces[0])

    def close_tls(self) -> None:
        if not self.aborted:
            try:
                self.socket.unwrap()
            except (OSError, ValueError):
                pass


def _readable(fd: int, timeout: float | None) -> bool:
    """Wait until there is something to read; return False after `timeout` seconds."""
    if not hasattr(select, "poll"):
        return bool(select.select([fd], [], [], timeout)[0])
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(None if timeout is None else timeout * 1000))
