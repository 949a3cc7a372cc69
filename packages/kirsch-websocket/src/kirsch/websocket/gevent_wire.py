"""Between gevent's sockets and a WebSocket: a greenlet reads, and writes what the system takes at once."""

import logging
import socket
import threading
from collections import deque
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import gevent
from gevent.event import Event

from kirsch.websocket.application import WebSocket
from kirsch.websocket.errors import Closed
from kirsch.websocket.frame import ABNORMAL
from kirsch.websocket.message import Close
from kirsch.websocket.protocol import OPEN

log = logging.getLogger("kirsch.websocket")

READ = 256 << 10
# What is written at a time: so much is known of a slow peer's progress.
PIECE = 128 << 10
# How often a socket that always has something is read before others have their turn.
ROUNDS = 16


class _Shared(threading.local):
    """A thread's greenlets read into one buffer: it is parsed before another has its turn."""

    def __init__(self) -> None:
        self.buffer = memoryview(bytearray(READ))


_shared = _Shared()


class Ticker:
    """One greenlet for the time limits of all connections of a hub."""

    _of: ClassVar["WeakKeyDictionary[Any, Ticker]"] = WeakKeyDictionary()

    def __init__(self) -> None:
        self._ticking: set[Wire] = set()
        self._greenlet: gevent.Greenlet | None = None

    @classmethod
    def here(cls) -> "Ticker":
        hub = gevent.get_hub()
        ticker = cls._of.get(hub)
        if ticker is None:
            ticker = cls._of[hub] = cls()
        return ticker

    def add(self, wire: "Wire") -> None:
        self._ticking.add(wire)
        if self._greenlet is None:
            self._greenlet = gevent.spawn(self._tick)

    def discard(self, wire: "Wire") -> None:
        self._ticking.discard(wire)
        if not self._ticking and self._greenlet is not None:
            self._greenlet.kill(block=False)
            self._greenlet = None

    def _tick(self) -> None:
        loop = gevent.get_hub().loop
        while True:
            gevent.sleep(1)
            now = loop.now()
            for wire in list(self._ticking):
                try:
                    wire.tick(now)
                except Exception:
                    # It is the clock of all others too.
                    log.exception("the clock goes on")


class Wire:
    """One open connection: `run()` is its greenlet.

    Whatever has `_writing` set is the one that takes and writes: the reading greenlet as far as nothing
    blocks, else a greenlet that is there as long as it takes.
    """

    def __init__(self, sock: Any, websocket: WebSocket, wires: "set[Wire]") -> None:
        self.websocket = websocket
        websocket.thread = threading.get_ident()
        self._sock = sock
        self._wires = wires
        self._backlog: deque[memoryview] = deque()
        self._size = 0
        self._loop = gevent.get_hub().loop
        self.greenlet: Any = None
        self._feeding = False
        self._watched = False
        # The reading greenlet waits for the peer, not for whoever takes messages or for a callback.
        self._listening = False
        self._writing = False
        self._held = False
        self._over = False
        self._ending = False
        self._go = Event()
        self._low = Event()
        self.gone = Event()
        limits = websocket.limits
        self._quarter = limits.queue // 4
        # A peer that does not read its answers is not read either; a client reads on, lest both wait.
        self._most = None if websocket.client else limits.queue // 2
        wires.add(self)
        self._ticker = Ticker.here()
        self._ticker.add(self)
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def start(self, rest: bytes = b"") -> None:
        """Begin, here, and let a greenlet do the rest."""
        self._feeding = True
        self.websocket.start(self)
        self._feeding = False
        self.greenlet = gevent.spawn(self._run, rest)

    def run(self, rest: bytes = b"") -> None:
        """From the end of the handshake, `rest` came after it, to the end, in this greenlet."""
        self.greenlet = gevent.getcurrent()
        self._run(rest, True)

    def _run(self, rest: bytes, begin: bool = False) -> None:
        websocket = self.websocket
        try:
            self._call()
            if begin:
                websocket.start(self)
            if rest:
                websocket.feed(rest)
            self._feeding = False
            self.flush()
            self._read()
        except OSError as error:
            log.debug("%s: %s", websocket.peer, error)
        finally:
            # Also where the greenlet is killed, in the application's own code perhaps.
            self._feeding = False
            self._end()

    def _read(self) -> None:
        websocket, sock = self.websocket, self._sock
        shared = _shared.buffer
        rounds = 0
        while not self._over:
            if self._held or (self._most is not None and websocket.buffered > self._most):
                self._go.clear()
                self._go.wait()
                continue
            rounds += 1
            if not rounds % ROUNDS:
                gevent.sleep(0)
            buffer = websocket.get_buffer()
            self._listening = True
            count = sock.recv_into(shared if buffer is None else buffer)
            self._listening = False
            if not count:
                return
            self._call()
            if buffer is None:
                websocket.feed(shared[:count])
            else:
                # The application may keep what was read there.
                del buffer
                websocket.filled(count)
            self._feeding = False
            if websocket.pending or websocket.state != OPEN:
                self.flush()

    def _call(self) -> None:
        """The application is called: see to it that what it sends goes out, even if it blocks then."""
        self._feeding = True
        if not self._watched:
            self._watched = True
            self._loop.run_callback(self._switched)

    def _switched(self) -> None:
        """Other greenlets have their turn: the reading one waits, for the peer or within the application."""
        self._watched = False
        if self._feeding:
            self._feeding = self.websocket.corked = False
            if self.websocket.pending:
                self.wake()

    def _end(self) -> None:
        self._over = True
        self._backlog.clear()
        self._size = 0
        self._sock.close()
        self._ticker.discard(self)
        self._low.set()
        try:
            self.websocket.ended()
        finally:
            self._wires.discard(self)
            self.gone.set()

    # WebSocket's wire.

    def wake(self) -> None:
        if self._feeding:
            if self.websocket.corked:
                self.flush()
        elif not self._writing and not self._over:
            self._writing = True
            gevent.spawn(self._write)

    def abort(self) -> None:
        if not self._over:
            self._over = True
            # The reading greenlet is told so, wherever it waits.
            self._sock.close()
            self._go.set()
            # It may wait within the application.
            self._low.set()

    @property
    def buffered(self) -> int:
        return self._size

    def drain(self, timeout: float | None = None) -> None:
        """Block until a quarter of `limits.queue` waits at most. Raises Closed, TimeoutError."""
        websocket = self.websocket
        self.flush()
        with gevent.Timeout(timeout, TimeoutError("the peer does not read what waits to be sent")):
            while websocket.buffered > self._quarter and not self._over:
                self._low.clear()
                self._low.wait()
        if self._over:
            close = websocket.close_received or websocket.close_sent or Close(ABNORMAL, "")
            raise Closed(close.code, close.reason)

    def wait_closed(self, timeout: float | None = None) -> bool:
        """Block until the connection is gone; whether it is."""
        return bool(self.gone.wait(timeout))

    def farewell(self, code: int) -> None:
        """Close, and wait for the end: for `close_timeout` at most."""
        self.websocket.close(code)
        if not self.gone.wait(self.websocket.limits.close_timeout):
            self.abort()
            self.gone.wait()

    def tick(self, now: float) -> None:
        if not (self._listening or self._backlog):
            # It is not read: that nothing is heard does not mean that nobody is there.
            self.websocket.heard = True
        self.websocket.tick(now)

    def hold(self, wanted: bool) -> None:
        """Stop reading, or read on."""
        self._held = wanted
        if not wanted:
            self._go.set()

    # Writing.

    def flush(self) -> None:
        """Write what is queued, as far as the system takes it; the rest is a greenlet's."""
        websocket = self.websocket
        if self._writing or self._over:
            return
        self._writing = True
        try:
            while websocket.pending:
                for piece in websocket.take():
                    self._push(memoryview(piece))
                if self._backlog:
                    gevent.spawn(self._write)
                    return
        except OSError as error:
            # It may be the application that sends just now: it is told by `closed`.
            log.debug("%s: %s", websocket.peer, error)
            self.abort()
        self._writing = False
        if self._over:
            return
        if websocket.finished:
            self._finish()

    def _push(self, view: memoryview) -> None:
        """Send without waiting; keep what is left."""
        if not self._backlog:
            try:
                while view:
                    sent = self._sock.send(view[:PIECE], 0, 0.0)
                    if not sent:
                        break
                    view = view[sent:]
            except BlockingIOError:
                pass
        if view:
            self._backlog.append(view)
            self._size += len(view)

    def _write(self) -> None:
        """Send, and wait, until nothing is left."""
        websocket, backlog = self.websocket, self._backlog
        try:
            while not self._over:
                while backlog:
                    view = backlog[0]
                    sent = self._sock.send(view[:PIECE])
                    if self._over:
                        return
                    self._size -= sent
                    websocket.heard = True
                    if sent < len(view):
                        backlog[0] = view[sent:]
                    else:
                        backlog.popleft()
                    self._eased()
                if not websocket.pending:
                    break
                for piece in websocket.take():
                    self._push(memoryview(piece))
                self._eased()
        except OSError as error:
            log.debug("%s: %s", websocket.peer, error)
            self.abort()
        finally:
            self._writing = False
        if websocket.finished and not self._over:
            self._finish()

    def _eased(self) -> None:
        buffered = self.websocket.buffered
        if buffered <= self._quarter:
            self._low.set()
        if self._most is not None and buffered <= self._most:
            self._go.set()

    def _finish(self) -> None:
        """All is said. After an error the peer may still be sending: what it sends is dropped."""
        if self.websocket.error is None:
            self.abort()
        elif not self._ending:
            self._ending = True
            try:
                self._sock.shutdown(socket.SHUT_WR)
            except OSError:
                self.abort()
