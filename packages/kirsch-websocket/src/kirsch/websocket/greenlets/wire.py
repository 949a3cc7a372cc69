"""Wire between a gevent socket and a WebSocket: a greenlet reads, and writes what can be written at once."""

import logging
import socket
import threading
import time
from collections import deque
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import gevent
from gevent import ssl
from gevent.event import AsyncResult, Event

from kirsch.websocket.core.application import WebSocket
from kirsch.websocket.core.errors import Closed
from kirsch.websocket.core.frame import ABNORMAL
from kirsch.websocket.core.inbox import READ
from kirsch.websocket.core.message import Close
from kirsch.websocket.core.protocol import OPEN
from kirsch.websocket.listening import outgoing

log = logging.getLogger("kirsch.websocket")

# Bytes written at a time, so that the progress of a slow peer is seen.
PIECE = 128 << 10
# Reads of a socket that always has something before other greenlets get a turn.
ROUNDS = 16


class _Shared(threading.local):
    """Buffer that a thread's greenlets share: it is parsed before another greenlet gets a turn."""

    def __init__(self) -> None:
        self.buffer = memoryview(bytearray(READ))


_shared = _Shared()


class Ticker:
    """Timer for all connections of a hub: one greenlet."""

    _of: ClassVar["WeakKeyDictionary[Any, Ticker]"] = WeakKeyDictionary()

    def __init__(self) -> None:
        self._ticking: set[Wire] = set()
        # Seconds between two ticks: those of the connection that needs the most.
        self._interval = 1.0
        self._greenlet: gevent.Greenlet | None = None
        # Wires that gather what is sent until the hub's next turn.
        self._gathering: list[Wire] = []

    @classmethod
    def here(cls) -> "Ticker":
        hub = gevent.get_hub()
        ticker = cls._of.get(hub)
        if ticker is None:
            ticker = cls._of[hub] = cls()
        return ticker

    def add(self, wire: "Wire") -> None:
        self._ticking.add(wire)
        interval = wire.websocket.limits.tick
        if self._greenlet is not None and interval < self._interval:
            self._greenlet.kill(block=False)
            self._greenlet = None
        if self._greenlet is None:
            self._interval = min(interval, self._interval)
            self._greenlet = gevent.spawn(self._tick)

    def discard(self, wire: "Wire") -> None:
        self._ticking.discard(wire)
        if not self._ticking and self._greenlet is not None:
            self._greenlet.kill(block=False)
            self._greenlet, self._interval = None, 1.0

    def gather(self, wire: "Wire") -> None:
        """Have the hub write what is sent to a wire at its next turn: one call for any number of wires."""
        if not self._gathering:
            gevent.get_hub().loop.run_callback(self._flush)
        self._gathering.append(wire)

    def _flush(self) -> None:
        gathering, self._gathering = self._gathering, []
        for wire in gathering:
            try:
                wire.flush_gathered()
            except Exception:
                log.exception("%s: what was sent was not written", wire.websocket.peer)

    def _tick(self) -> None:
        loop = gevent.get_hub().loop
        while True:
            gevent.sleep(self._interval)
            now = loop.now()
            for wire in list(self._ticking):
                try:
                    wire.tick(now)
                except Exception:
                    # One connection's failure must not stop the timeouts of all others.
                    log.exception("the clock goes on")


class Wire:
    """Wire of one open connection, whose greenlet calls `run()`.

    One greenlet at a time writes, the one that set `_writing`: the reading greenlet or the hub as long as
    nothing blocks, else another that lives until all is written.
    """

    clock = staticmethod(time.perf_counter)

    def __init__(self, sock: Any, websocket: WebSocket, wires: "set[Wire]") -> None:
        self.websocket = websocket
        websocket.thread = threading.get_ident()
        self._sock = sock
        self._wires = wires
        self._backlog: deque[memoryview] = deque()
        self._size = 0
        self._loop = gevent.get_hub().loop
        self.greenlet: Any = None
        # True while the application is called, and while `_switched` is scheduled.
        self._feeding = False
        self._watched = False
        # True while the reading greenlet waits for the peer, and not for the inbox or a callback.
        self._listening = False
        self._writing = False
        self._gathered = False
        # The hub cannot wait, as a TLS socket may have to.
        self._waits = isinstance(sock, ssl.SSLSocket)
        # True while an inbox that is full has reading stopped.
        self.held = False
        # True once the connection is aborted or gone, and once our side of it was shut down.
        self._over = False
        self._ending = False
        self._readable = Event()
        self._low = Event()
        self.gone = Event()
        limits = websocket.limits
        self._low_mark = limits.queue // 4
        # A server does not read a peer that does not read its answers; a client reads on, lest both wait.
        self._high_mark = None if websocket.client else limits.queue // 2
        wires.add(self)
        self._ticker = Ticker.here()
        self._ticker.add(self)
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def start(self, rest: bytes = b"") -> None:
        """Begin in this greenlet, and read in another."""
        self._feeding = True
        self.websocket.start(self)
        self._feeding = False
        self.greenlet = gevent.spawn(self._run, rest)

    def run(self, rest: bytes = b"") -> None:
        """Serve the connection in this greenlet, from the bytes after the handshake to the end."""
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
            # Runs also if the greenlet is killed, perhaps within the application.
            self._feeding = False
            self._end()

    def _read(self) -> None:
        websocket, sock = self.websocket, self._sock
        shared = _shared.buffer
        rounds = 0
        while not self._over:
            if self.held or (self._high_mark is not None and websocket.buffered > self._high_mark):
                self._readable.clear()
                self._readable.wait()
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
                # The application may keep the buffer, so no view of it may stay here.
                del buffer
                websocket.filled(count)
            self._feeding = False
            if websocket.pending or websocket.state != OPEN:
                self.flush()

    def _call(self) -> None:
        """Mark that the application is called; what it sends is written even if it blocks."""
        self._feeding = True
        if not self._watched:
            self._watched = True
            self._loop.run_callback(self._switched)

    def _switched(self) -> None:
        """Write what was sent, since the reading greenlet waits: for the peer, or within the application."""
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
            if self._waits or self.websocket.under_way:
                self._writing = True
                gevent.spawn(self._write)
            elif not self._gathered:
                self._gathered = True
                self._ticker.gather(self)

    def flush_gathered(self) -> None:
        """Write what was sent since the hub's last turn. Called by the hub."""
        self._gathered = False
        if self.websocket.under_way:
            # Its source may have to be waited for.
            self.wake()
        else:
            self.flush()
            self._notify()

    def abort(self) -> None:
        if not self._over:
            self._over = True
            # Wakes the reading greenlet wherever it waits.
            self._sock.close()
            self._readable.set()
            self._low.set()

    @property
    def buffered(self) -> int:
        return self._size

    @property
    def outgoing(self) -> int:
        return outgoing(self._sock)

    def drain(self, timeout: float | None = None) -> None:
        """Block until at most a quarter of `limits.queue` waits. Raises Closed, TimeoutError."""
        websocket = self.websocket
        self.flush()
        with gevent.Timeout(timeout, TimeoutError("the peer does not read what waits to be sent")):
            while websocket.buffered > self._low_mark and not self._over:
                self._low.clear()
                self._low.wait()
        if self._over:
            close = websocket.close_received or websocket.close_sent or Close(ABNORMAL, "")
            raise Closed(close.code, close.reason)

    def round_trip(self, timeout: float | None = None) -> float:
        """Ping the peer, and return the seconds until its pong. Raises Closed, TimeoutError."""
        pong = AsyncResult()
        self.websocket.ping_for(pong.set)
        gevent.wait([pong, self.gone], timeout, count=1)
        if pong.ready():
            return float(pong.get())
        raise self.websocket.no_pong(timeout)

    def wait_closed(self, timeout: float | None = None) -> bool:
        """Block until the connection is gone and return True, or False after `timeout` seconds."""
        return bool(self.gone.wait(timeout))

    def close_and_wait(self, code: int) -> None:
        """Close, and wait until the connection is gone, which `close_timeout` limits: see `tick`."""
        websocket = self.websocket
        websocket.close(code)
        websocket.wait_closed()

    def tick(self, now: float) -> None:
        if not (self._listening or self._backlog):
            # The connection is not read, so its silence does not mean that the peer is gone.
            self.websocket.heard = True
        self.websocket.tick(now)

    def hold(self, hold: bool) -> None:
        """Stop reading, since messages are not taken; or resume."""
        self.held = hold
        if not hold:
            self._readable.set()

    # Writing.

    def flush(self) -> None:
        """Write what is queued as far as the system takes it at once; leave the rest to a greenlet."""
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
            # The caller may be the application, which is told by `closed`.
            log.debug("%s: %s", websocket.peer, error)
            self.abort()
        self._writing = False
        if self._over:
            return
        if websocket.finished:
            self._finish()

    def _push(self, view: memoryview) -> None:
        """Send without waiting; keep the rest."""
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
        """Send, waiting for the peer, until nothing is left."""
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
                    self._notify()
                if not websocket.pending:
                    break
                for piece in websocket.take():
                    self._push(memoryview(piece))
                self._notify()
        except OSError as error:
            log.debug("%s: %s", websocket.peer, error)
            self.abort()
        finally:
            self._writing = False
        if websocket.finished and not self._over:
            self._finish()

    def _notify(self) -> None:
        buffered = self.websocket.buffered
        if buffered <= self._low_mark:
            self._low.set()
        if self._high_mark is not None and buffered <= self._high_mark:
            self._readable.set()

    def _finish(self) -> None:
        """End the connection after its last byte; after an error drop what the peer still sends."""
        if self.websocket.error is None:
            self.abort()
        elif not self._ending:
            self._ending = True
            try:
                self._sock.shutdown(socket.SHUT_WR)
            except OSError:
                self.abort()
