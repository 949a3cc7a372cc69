"""Pool: threads that serve any number of connections.

All threads wait for the events of all connections. The one that an event wakes reads, calls the application
and writes; no connection is handed from thread to thread.
"""

import logging
import os
import socket as sockets
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Protocol, Self

from kirsch.websocket.core import arguments
from kirsch.websocket.core.application import WebSocket
from kirsch.websocket.core.frame import CLOSE, FIN, GOING_AWAY, header
from kirsch.websocket.core.inbox import READ
from kirsch.websocket.core.message import Close, check_close
from kirsch.websocket.threads.link import Link, SecureLink
from kirsch.websocket.threads.poller import IN, ONCE, OUT, poller
from kirsch.websocket.threads.writer import NOW

log = logging.getLogger("kirsch.websocket")

# Seconds after which the messages that a callback sent are written, though it has not returned.
PATIENCE: Final = 0.005


class Entry(Protocol):
    """Owner of a descriptor that a pool waits on: a connection, a handshake, a listener."""

    def handle(self, events: int, buffer: memoryview) -> None:
        """Handle events, and have the pool wait again."""

    def tick(self, now: float) -> None:
        """Check the time limits, every `Limits.tick` seconds or more often; `now` is monotonic."""

    def close(self, code: int, reason: str) -> None:
        """Begin to end, since the pool is closing."""

    def abort(self) -> None:
        """End without waiting for the peer."""


class Worker(threading.Thread):
    """Thread of a pool."""

    def __init__(self, pool: "Pool", number: int) -> None:
        super().__init__(name=f"{pool.name}-{number}", daemon=True)
        self.pool = pool
        # The entry that it handles, and a count by which the housekeeper sees how long that takes.
        self.entry: Entry | None = None
        self.handled = 0

    def run(self) -> None:
        pool = self.pool
        poll, entries = pool.poller.poll, pool.entries
        buffer = memoryview(bytearray(READ))
        while not pool.stopped:
            for fd, events in poll(None, 1):
                entry = entries.get(fd)
                if entry is None:
                    continue
                self.handled += 1
                self.entry = entry
                if pool.dozing:
                    pool.alert()
                try:
                    entry.handle(events, buffer)
                except BaseException:
                    # The thread goes on even after a callback raised SystemExit or the like.
                    log.exception("%s goes on", self.name)
                self.entry = None
                del entry
                if pool.closing:
                    pool.changed()


class Pool:
    """Serves connections whose handshake is done, on sockets of any origin.

        with Pool(threads=10) as pool:
            pool.adopt(websocket, socket)

    Args:
        threads: their number; they start with the first connection. A callback that blocks occupies one.
        name: the prefix of the threads' names.
    """

    def __init__(self, threads: int = 10, name: str = "websocket") -> None:
        arguments.whole("threads", threads, 1)
        self.name = name
        self.threads = threads
        self.poller = poller()
        self.entries: dict[int, Entry] = {}
        self.stopped = self.closing = False
        # For those that come while it closes.
        self.close_frame = Close(GOING_AWAY, "")
        # Links whose iterating thread was given several messages at once.
        self.talking: set[Link] = set()
        # Links that have to check their messages that are sent on.
        self._relaxing: set[Link] = set()
        # Seconds between two checks of the time limits: those of the connection that needs the most.
        self._tick = 1.0
        # Threads of functions that iterate.
        self.handlers: set[threading.Thread] = set()
        # True while the housekeeper waits for the next tick, or to be alerted.
        self.dozing = False
        self._alarm = threading.Event()
        self._lock = threading.Lock()
        self._changed = threading.Condition()
        self._workers: list[Worker] = []
        self._housekeeper: threading.Thread | None = None
        # Closing the writing end is an event for every thread.
        self._stop_reader, self._stop_writer = os.pipe()
        self.poller.register(self._stop_reader, IN)

    @property
    def connections(self) -> list[WebSocket]:
        """List of the open connections; each can be sent to."""
        links = [entry for entry in list(self.entries.values()) if isinstance(entry, Link)]
        return [link.websocket for link in links if link.initial is None]

    def adopt(
        self,
        websocket: WebSocket,
        socket: sockets.socket,
        initial_bytes: bytes = b"",
        response: bytes = b"",
    ) -> None:
        """Take over a connected socket whose handshake is done, and serve `websocket` on it until its end.

        All callbacks run in the pool's threads. The socket belongs to the pool from here on.

        Args:
            websocket: a new one, as `Site.open` makes it.
            socket: of any kind, such as an SSLSocket whose handshake is done.
            initial_bytes: bytes that were read after the handshake's head.
            response: the handshake's response, if it was not sent yet.

        Raises:
            RuntimeError: the pool is closed; the socket is still the caller's.
        """
        link = self.link(websocket, socket)
        link.initial = initial_bytes
        if response:
            link.queue(response)
        # A new socket has room to write, which is the first event.
        self.add(link.fd, link, IN | OUT)

    def link(self, websocket: WebSocket, socket: sockets.socket) -> Link:
        """Return a link for a socket, without waiting for its events yet."""
        secure = isinstance(socket, ssl.SSLSocket)
        self.tick_every(websocket.limits.tick)
        # Where each call can ask not to block, the socket may block: an iterating thread then just reads.
        socket.setblocking(bool(NOW) and not secure)
        if socket.family != sockets.AF_UNIX:
            socket.setsockopt(sockets.IPPROTO_TCP, sockets.TCP_NODELAY, 1)
        websocket.guard = threading.RLock()
        return (SecureLink if secure else Link)(self, websocket, socket)

    def close(self, code: int = GOING_AWAY, reason: str = "", timeout: float | None = None) -> None:
        """Close every connection, and end all threads.

        Args:
            code, reason: for the peers.
            timeout: seconds to wait for the peers, and then for callbacks that still run; None for each
                connection's `limits.close_timeout`, 10 s by default.

        Raises ValueError for what a close frame cannot carry; nothing is closed then.
        """
        check_close(code, reason)
        with self._lock:
            if self.closing:
                return
            self.closing, self.close_frame = True, Close(code, reason)
        for entry in list(self.entries.values()):
            entry.close(code, reason)
        if timeout is None:
            timeout = max((websocket.limits.close_timeout for websocket in self.connections), default=1.0)
        with self._changed:
            self._changed.wait_for(self._empty, timeout)
        for entry in list(self.entries.values()):
            entry.abort()
        with self._changed:
            self._changed.wait_for(self._empty, min(timeout, 1.0))
        self._stop(timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Called by entries.

    def add(self, fd: int, entry: Entry, events: int = IN) -> None:
        """Wait for a descriptor's next event. Raises RuntimeError if the pool is closed."""
        with self._lock:
            if self.closing:
                raise RuntimeError("the pool is closed")
            first = not self.entries
            self.entries[fd] = entry
            self.poller.register(fd, events | ONCE)
            if not self._workers:
                self._begin()
        if first:
            self.alert()

    def forget(self, fd: int) -> None:
        """Stop waiting for a descriptor, which is about to be closed."""
        if self.entries.pop(fd, None) is not None:
            self.poller.unregister(fd)

    def link_ended(self, link: Link) -> None:
        """Wake up those who wait for a connection's end; its application was told."""
        if link.waiting or self.closing:
            self.changed()

    def handshake_ended(self) -> None:
        """Wake up `close`, if a handshake that failed was the last it waited for."""
        if self.closing:
            self.changed()

    def changed(self) -> None:
        """Have waiting threads check their conditions again."""
        with self._changed:
            self._changed.notify_all()

    def wait(self, link: Link, condition: Callable[[], bool], timeout: float | None) -> bool:
        """Block until `condition()`, checked when something of `link` changed."""
        with self._changed:
            link.waiting += 1
            try:
                return self._changed.wait_for(condition, timeout)
            finally:
                link.waiting -= 1

    def tick_every(self, interval: float) -> None:
        """Check the time limits at least every `interval` seconds from now on."""
        if interval < self._tick:
            self._tick = interval
            self.alert()

    def relax(self, link: Link) -> None:
        """Have the housekeeper call `link.relaxed()` soon."""
        self._relaxing.add(link)
        self.alert()

    def alert(self) -> None:
        """Wake up the housekeeper: an application is called, and may take long."""
        self.dozing = False
        self._alarm.set()

    def _begin(self) -> None:
        self._workers = [Worker(self, number) for number in range(self.threads)]
        self._housekeeper = threading.Thread(target=self._keep, name=f"{self.name}-housekeeper", daemon=True)
        for thread in (*self._workers, self._housekeeper):
            thread.start()

    def _keep(self) -> None:
        """Check the time limits; every few milliseconds write what slow callbacks have sent."""
        seen: dict[Worker, int] = {}
        heard: dict[Link, int] = {}
        ticked = time.monotonic()
        while not self.stopped:
            self._relax_links()
            busy = {worker: worker.handled for worker in self._workers if worker.entry is not None}
            talking = {link: link.batch for link in list(self.talking)}
            if busy or talking:
                for worker, turns in busy.items():
                    entry = worker.entry
                    if seen.get(worker) == turns == worker.handled and isinstance(entry, Link):
                        entry.flush()
                for link, batch in talking.items():
                    if heard.get(link) == batch:
                        link.flush_batch(batch)
                self._alarm.wait(PATIENCE)
            else:
                self.dozing = True
                if (
                    any(worker.entry is not None for worker in self._workers)
                    or self.talking
                    or self._relaxing
                ):
                    self.dozing = False
                    continue
                self._alarm.wait(ticked + self._tick - time.monotonic() if self.entries else None)
                self.dozing = False
            self._alarm.clear()
            seen, heard = busy, talking
            now = time.monotonic()
            if now >= ticked + self._tick:
                ticked = now
                for entry in list(self.entries.values()):
                    try:
                        entry.tick(now)
                    except Exception:
                        # One connection's failure must not stop the timeouts of all others.
                        log.exception("the clock goes on")

    def _relax_links(self) -> None:
        while self._relaxing:
            link = self._relaxing.pop()
            try:
                link.relaxed()
            except Exception:
                log.exception("%s: a message that is sent on was not checked", link.websocket.peer)

    def _empty(self) -> bool:
        # The caller may be a callback that closes its own pool.
        here = threading.current_thread()
        mine = here.entry if isinstance(here, Worker) else None
        return all(entry is mine for entry in list(self.entries.values())) and all(
            worker.entry is None or worker is here for worker in self._workers
        )

    def _stop(self, timeout: float) -> None:
        self.stopped = True
        os.close(self._stop_writer)
        self._alarm.set()
        late = time.monotonic() + timeout
        for thread in (*self._workers, self._housekeeper, *list(self.handlers)):
            if thread is not None and thread is not threading.current_thread():
                thread.join(max(0.1, late - time.monotonic()))
                if thread.is_alive():
                    log.warning("%s: the application does not return", thread.name)
        self.poller.unregister(self._stop_reader)
        os.close(self._stop_reader)
        if not any(worker.is_alive() for worker in self._workers):
            self.poller.close()


def turn_away(socket: sockets.socket, close: Close) -> None:
    """Close a connection that no pool serves; its handshake was answered, so the peer is owed a reason."""
    with socket, suppress(OSError):
        socket.sendall(header(FIN | CLOSE, len(close.payload), False) + close.payload)
