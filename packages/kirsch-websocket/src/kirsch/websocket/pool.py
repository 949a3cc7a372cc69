"""Threads that serve any number of connections: they all wait for all, and whoever is told does the work.

No connection has a thread of its own, and none is handed from thread to thread: the thread that an event
wakes reads, calls the application and writes.
"""

import logging
import os
import socket as sockets
import ssl
import threading
import time
from collections.abc import Callable
from typing import Final, Protocol, Self

from kirsch.websocket import arguments
from kirsch.websocket.application import WebSocket
from kirsch.websocket.frame import GOING_AWAY
from kirsch.websocket.link import READ, Link
from kirsch.websocket.message import check_close
from kirsch.websocket.poller import IN, ONCE, OUT, poller
from kirsch.websocket.secure_link import SecureLink
from kirsch.websocket.writer import NOW

log = logging.getLogger("kirsch.websocket")

# A callback that takes longer does not hold up what it has sent.
PATIENCE: Final = 0.005
TICK: Final = 1.0


class Entry(Protocol):
    """What a pool waits on: a connection, a handshake on its way, a listener."""

    def turn(self, events: int, buffer: memoryview) -> None:
        """Something happened. Does all there is to do, and has the pool wait again."""

    def tick(self, now: float) -> None:
        """About a second has passed; `now` is monotonic."""

    def leave(self, code: int, reason: str) -> None:
        """The pool is closing: begin to end."""

    def abort(self) -> None:
        """End at once."""


class Worker(threading.Thread):
    """One of a pool's threads."""

    def __init__(self, pool: "Pool", number: int) -> None:
        super().__init__(name=f"{pool.name}-{number}", daemon=True)
        self.pool = pool
        # What it is at, and since how many turns: whether that takes long.
        self.entry: Entry | None = None
        self.turns = 0

    def run(self) -> None:
        pool = self.pool
        poll, entries = pool.poller.poll, pool.entries
        buffer = memoryview(bytearray(READ))
        while not pool.stopped:
            for fd, events in poll(None, 1):
                entry = entries.get(fd)
                if entry is None:
                    continue
                self.turns += 1
                self.entry = entry
                if pool.dozing:
                    pool.alert()
                try:
                    entry.turn(events, buffer)
                except BaseException:
                    # A callback that raised what is no Exception: the thread is needed.
                    log.exception("%s goes on", self.name)
                self.entry = None
                del entry
                if pool.closing:
                    pool.changed()


class Pool:
    """Serves connections whose handshake is done, on sockets of whatever origin.

        with Pool(threads=10) as pool:
            pool.adopt(websocket, socket)

    Args:
        threads: how many; they start with the first connection. A callback that blocks keeps one.
        name: what the threads' names begin with.
    """

    def __init__(self, threads: int = 10, name: str = "websocket") -> None:
        arguments.whole("threads", threads, 1)
        self.name = name
        self.threads = threads
        self.poller = poller()
        self.entries: dict[int, Entry] = {}
        self.stopped = self.closing = False
        # Connections that iterate, and have been given several messages at once.
        self.talking: set[Link] = set()
        # Connections that look again at what is sent on of their messages.
        self.eased: set[Link] = set()
        # Threads of functions that iterate.
        self.handlers: set[threading.Thread] = set()
        # Whether the housekeeper waits for the next second, or to be alerted.
        self.dozing = False
        self._alarm = threading.Event()
        self._lock = threading.Lock()
        self._changed = threading.Condition()
        self._workers: list[Worker] = []
        self._housekeeper: threading.Thread | None = None
        # Closed, it has an event for every thread.
        self._ear, self._bell = os.pipe()
        self.poller.register(self._ear, IN)

    @property
    def connections(self) -> list[WebSocket]:
        """Those that are served just now: each can be sent to."""
        links = [entry for entry in list(self.entries.values()) if isinstance(entry, Link)]
        return [link.websocket for link in links if link.initial is None]

    def adopt(
        self,
        websocket: WebSocket,
        socket: sockets.socket,
        initial_bytes: bytes = b"",
        response: bytes = b"",
    ) -> None:
        """Take over a connected socket, whose handshake is done, and serve `websocket` on it until its end.

        `opened` and all else is called in the pool's threads. The socket is the pool's from here on.

        Args:
            websocket: a fresh one: `Site.open` makes it.
            socket: of any kind; also an SSLSocket that has done its handshake.
            initial_bytes: what was read after the handshake's head.
            response: what is to be written first, if the handshake's response was not sent yet.

        Raises:
            RuntimeError: the pool is closed; the socket is still the caller's.
        """
        link = self.link(websocket, socket)
        link.initial = initial_bytes
        if response:
            link.queue(response)
        # There is room in a new socket: that is the first event.
        self.add(link.fd, link, IN | OUT)

    def link(self, websocket: WebSocket, socket: sockets.socket) -> Link:
        """The wire for a socket; it is not waited for yet."""
        secure = isinstance(socket, ssl.SSLSocket)
        # Where each call can say that it does not block, the socket may: who iterates just reads then.
        socket.setblocking(bool(NOW) and not secure)
        if socket.family != sockets.AF_UNIX:
            socket.setsockopt(sockets.IPPROTO_TCP, sockets.TCP_NODELAY, 1)
        websocket.guard = threading.RLock()
        return (SecureLink if secure else Link)(self, websocket, socket)

    def close(self, code: int = GOING_AWAY, reason: str = "", timeout: float | None = None) -> None:
        """Close every connection, and end all threads.

        Args:
            code, reason: what the peers are told.
            timeout: how long to wait for the peers, and then for callbacks that still run; None is each
                connection's `limits.close_timeout`, 10 s by default.

        Raises ValueError for what cannot be said; nothing is closed then.
        """
        check_close(code, reason)
        with self._lock:
            if self.closing:
                return
            self.closing = True
        for entry in list(self.entries.values()):
            entry.leave(code, reason)
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

    # For what is in it.

    def add(self, fd: int, entry: Entry, events: int = IN) -> None:
        """Wait for a file descriptor's next event. Raises RuntimeError if the pool is closed."""
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
        """Wait for it no more: it is about to be closed."""
        if self.entries.pop(fd, None) is not None:
            self.poller.unregister(fd)

    def left(self, link: Link) -> None:
        """A connection has ended, and its application knows."""
        if link.waiting or self.closing:
            self.changed()

    def dropped(self) -> None:
        """What was no connection yet has ended."""
        if self.closing:
            self.changed()

    def changed(self) -> None:
        """Have those who wait look again."""
        with self._changed:
            self._changed.notify_all()

    def wait(self, link: Link, condition: Callable[[], bool], timeout: float | None) -> bool:
        """Block until `condition()`, looked at when something of `link` has changed."""
        with self._changed:
            link.waiting += 1
            try:
                return self._changed.wait_for(condition, timeout)
            finally:
                link.waiting -= 1

    def ease(self, link: Link) -> None:
        """Have a connection look again at what is sent on of its messages, in another thread, soon."""
        self.eased.add(link)
        self.alert()

    def alert(self) -> None:
        """Someone calls an application: see whether that takes long."""
        self.dozing = False
        self._alarm.set()

    # How.

    def _begin(self) -> None:
        self._workers = [Worker(self, number) for number in range(self.threads)]
        self._housekeeper = threading.Thread(target=self._keep, name=f"{self.name}-housekeeper", daemon=True)
        for thread in (*self._workers, self._housekeeper):
            thread.start()

    def _keep(self) -> None:
        """Tick every second; see to it every few milliseconds that what slow callbacks have sent goes out."""
        seen: dict[Worker, int] = {}
        heard: dict[Link, int] = {}
        following = time.monotonic() + TICK
        while not self.stopped:
            self._ease()
            busy = {worker: worker.turns for worker in self._workers if worker.entry is not None}
            talking = {link: link.batch for link in list(self.talking)}
            if busy or talking:
                for worker, turns in busy.items():
                    entry = worker.entry
                    if seen.get(worker) == turns == worker.turns and isinstance(entry, Link):
                        entry.flush()
                for link, batch in talking.items():
                    if heard.get(link) == batch:
                        link.hurry(batch)
                self._alarm.wait(PATIENCE)
            else:
                self.dozing = True
                if any(worker.entry is not None for worker in self._workers) or self.talking or self.eased:
                    self.dozing = False
                    continue
                self._alarm.wait(following - time.monotonic() if self.entries else None)
                self.dozing = False
            self._alarm.clear()
            seen, heard = busy, talking
            now = time.monotonic()
            if now >= following:
                following = now + TICK
                for entry in list(self.entries.values()):
                    try:
                        entry.tick(now)
                    except Exception:
                        # It is the clock of all others too.
                        log.exception("the clock goes on")

    def _ease(self) -> None:
        while self.eased:
            link = self.eased.pop()
            try:
                link.eased()
            except Exception:
                log.exception("%s: nobody is told", link.websocket.peer)

    def _empty(self) -> bool:
        # A callback may close the pool it is served by.
        here = threading.current_thread()
        mine = here.entry if isinstance(here, Worker) else None
        return all(entry is mine for entry in list(self.entries.values())) and all(
            worker.entry is None or worker is here for worker in self._workers
        )

    def _stop(self, timeout: float) -> None:
        self.stopped = True
        os.close(self._bell)
        self._alarm.set()
        late = time.monotonic() + timeout
        for thread in (*self._workers, self._housekeeper, *list(self.handlers)):
            if thread is not None and thread is not threading.current_thread():
                thread.join(max(0.1, late - time.monotonic()))
                if thread.is_alive():
                    log.warning("%s: the application does not return", thread.name)
        self.poller.unregister(self._ear)
        os.close(self._ear)
        if not any(worker.is_alive() for worker in self._workers):
            self.poller.close()
