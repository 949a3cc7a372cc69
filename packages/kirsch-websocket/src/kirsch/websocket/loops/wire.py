"""Wire between asyncio and a WebSocket: when to write, timeouts, backpressure. Subclasses read and write."""

import asyncio
import logging
import threading
import time
from collections.abc import Coroutine, Generator
from typing import Any, ClassVar, Protocol
from weakref import WeakKeyDictionary

from kirsch.websocket.core.application import WebSocket
from kirsch.websocket.core.errors import Closed
from kirsch.websocket.core.frame import ABNORMAL
from kirsch.websocket.core.inbox import READ
from kirsch.websocket.core.message import Close, check_close
from kirsch.websocket.core.protocol import OPEN

log = logging.getLogger("kirsch.websocket")


class _Shared(threading.local):
    """Buffer into which a thread's loop reads every connection, since nothing of it is kept."""

    def __init__(self) -> None:
        self.buffer = memoryview(bytearray(READ))


shared = _Shared()


class Ticking(Protocol):
    """Connection or handshake with time limits."""

    def tick(self, now: float) -> None:
        """Check the time limits; called every `Limits.tick` seconds, or more often."""


class Ticker:
    """Timer for all connections of a loop.

    Attributes:
        gathering: Pumps whose connections gather what is sent until the loop's next turn.
    """

    _of: ClassVar["WeakKeyDictionary[asyncio.AbstractEventLoop, Ticker]"] = WeakKeyDictionary()

    def __init__(self) -> None:
        # No reference to the loop here, since the loop would then never be freed.
        self._ticking: set[Ticking] = set()
        # Seconds between two ticks: those of the connection that needs the most; 0 while there is none.
        self._interval = 0.0
        # Number of the timer that counts: a shorter interval starts another one.
        self._timer = 0
        self.gathering: list[Any] = []

    @classmethod
    def of(cls, loop: asyncio.AbstractEventLoop) -> "Ticker":
        ticker = cls._of.get(loop)
        if ticker is None:
            ticker = cls._of[loop] = cls()
        return ticker

    def add(self, ticking: Ticking, interval: float) -> None:
        """Tick something at least every `interval` seconds."""
        self._ticking.add(ticking)
        if not self._interval or interval < self._interval:
            self._interval = interval
            self._timer += 1
            asyncio.get_running_loop().call_later(interval, self._tick, self._timer)

    def discard(self, ticking: Ticking) -> None:
        self._ticking.discard(ticking)

    def schedule(self) -> None:
        """Have the loop flush every pump in `gathering` at its next turn: one call for any number."""
        asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        gathering, self.gathering = self.gathering, []
        for pump in gathering:
            pump.flush_gathered()

    def _tick(self, timer: int) -> None:
        if timer != self._timer:
            return
        loop = asyncio.get_running_loop()
        if self._ticking:
            loop.call_later(self._interval, self._tick, timer)
        else:
            self._interval = 0.0
        now = loop.time()
        for ticking in list(self._ticking):
            try:
                ticking.tick(now)
            except Exception:
                # One connection's failure must not stop the timeouts of all others.
                log.exception("the clock goes on")


class Connections:
    """Connections of one server, from their first byte on, and the tasks that work for them."""

    def __init__(self) -> None:
        self._all: set[Any] = set()
        self._empty: asyncio.Future[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def open(self) -> list[WebSocket]:
        """List of the open connections; others are in their handshake."""
        return [each.websocket for each in self._all if isinstance(each, Wire)]

    def add(self, connection: Any) -> None:
        self._all.add(connection)

    def discard(self, connection: Any) -> None:
        self._all.discard(connection)
        if not self._all and self._empty is not None and not self._empty.done():
            self._empty.set_result(None)

    def run(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start a task that `close` waits for."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def close(self, code: int, reason: str, timeout: float) -> None:
        """Close all, abort those that are left after `timeout` seconds, and wait.

        Tasks see that their connections ended; those that go on are cancelled after another `timeout`. Raises
        ValueError for what a close frame cannot carry.
        """
        check_close(code, reason)
        for connection in list(self._all):
            connection.close(code, reason)
        for _ in range(2):
            if self._all:
                if self._empty is None or self._empty.done():
                    self._empty = asyncio.get_running_loop().create_future()
                await asyncio.wait([self._empty], timeout=timeout)
            for connection in list(self._all):
                connection.abort()
        for _ in range(2):
            # One of the tasks may be the caller.
            if left := self._tasks - {asyncio.current_task()}:
                await asyncio.wait(left, timeout=timeout)
                for task in left:
                    task.cancel()


class Wire:
    """Wire of one open connection.

    A subclass calls `received` and `lost`, and gives `write`, `_end`, `_pause`, `_resume`, `abort`,
    `buffered` and `outgoing`.
    """

    clock = staticmethod(time.perf_counter)

    def __init__(self, websocket: WebSocket, connections: Connections | None = None) -> None:
        self.websocket = websocket
        websocket.thread = threading.get_ident()
        websocket.room = self
        self._connections = connections
        self.loop = asyncio.get_running_loop()
        self._buffer = shared.buffer
        # True while `flush` would do nothing but write, so that the pump may write without it.
        self.clear = True
        # True while the system takes no more bytes.
        self._full = False
        # True once the end was begun, and once the connection is gone.
        self._ended = False
        self._lost = False
        self._reading = True
        # True while an inbox that is full has reading stopped.
        self.held = False
        self._draining: list[asyncio.Future[None]] = []
        self._gone: asyncio.Future[None] | None = None

    def begin(self, rest: bytes = b"") -> None:
        """Start after the handshake, with the bytes that came behind it."""
        if self._connections is not None:
            self._connections.add(self)
        Ticker.of(self.loop).add(self, self.websocket.limits.tick)
        self.websocket.start(self)
        if rest:
            self.websocket.corked = True
            self.websocket.feed(rest)
        self.flush()

    def run(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start a task for this connection; a server waits for it when it closes."""
        if self._connections is None:
            return self.loop.create_task(work)
        return self._connections.run(work)

    def received(self, count: int, direct: bool) -> None:
        """Process bytes that were read: into the WebSocket's own buffer if `direct`, else the shared one."""
        websocket = self.websocket
        # No wake-up is needed below the batch size, since all is written at the end.
        websocket.corked = True
        if direct:
            websocket.filled(count)
        else:
            websocket.feed(self._buffer[:count])
        if websocket.pending or websocket.state != OPEN:
            self.flush()

    def writable(self) -> None:
        """Write on, now that the system has taken everything it was given."""
        self._full = False
        self.websocket.heard = True
        self.flush()

    def lost(self) -> None:
        """Tell the application and all who wait that the connection is gone."""
        Ticker.of(self.loop).discard(self)
        if self._connections is not None:
            self._connections.discard(self)
        self._full = self._ended = self._lost = True
        self.clear = False
        self.websocket.ended()
        self._release()
        if self._gone is not None:
            self._gone.set_result(None)

    # Called by the WebSocket.

    def wake(self) -> None:
        if self.websocket.corked:
            # A batch is full, though the application has not returned yet.
            self.flush()
        else:
            # What is sent until the loop's next turn is written together.
            self.loop.call_soon(self.flush)

    def abort(self) -> None:
        raise NotImplementedError

    @property
    def buffered(self) -> int:
        raise NotImplementedError

    @property
    def outgoing(self) -> int:
        raise NotImplementedError

    async def drain(self, timeout: float | None = None) -> None:
        """Wait until at most a quarter of `limits.queue` waits. Raises Closed, TimeoutError."""
        low = self.websocket.limits.queue // 4
        self.flush()
        async with asyncio.timeout(timeout):
            while self.websocket.buffered > low and not self._lost:
                waiter = self.loop.create_future()
                self._draining.append(waiter)
                self.clear = False
                await waiter
        if self._lost:
            close = self.websocket.close_received or self.websocket.close_sent or Close(ABNORMAL, "")
            raise Closed(close.code, close.reason)

    def __await__(self) -> Generator[Any, None, None]:
        """Wait until a quarter of `limits.queue` waits, if it is more than half now. Raises Closed."""
        if self.websocket.buffered > self.websocket.limits.queue // 2:
            yield from self.drain().__await__()

    async def round_trip(self, timeout: float | None = None) -> float:
        """Ping the peer, and return the seconds until its pong. Raises Closed, TimeoutError."""
        pong: asyncio.Future[float] = self.loop.create_future()

        def ponged(seconds: float) -> None:
            if not pong.done():
                pong.set_result(seconds)

        self.websocket.ping_for(ponged)
        if self._gone is None:
            self._gone = self.loop.create_future()
        ends: list[asyncio.Future[Any]] = [pong, self._gone]
        await asyncio.wait(ends, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        if pong.done():
            return pong.result()
        pong.cancel()
        raise self.websocket.no_pong(timeout)

    async def wait_closed(self, timeout: float | None = None) -> bool:
        """Wait until the connection is gone and return True, or False after `timeout` seconds."""
        if not self._lost:
            if self._gone is None:
                self._gone = self.loop.create_future()
            await asyncio.wait([self._gone], timeout=timeout)
        return self._lost

    def hold(self, hold: bool) -> None:
        """Stop reading, since messages are not taken; or resume."""
        self.held = hold
        self._pause_or_resume()

    def flush(self) -> None:
        """Write what is queued as far as the peer reads it; end the connection after its last byte."""
        websocket = self.websocket
        while websocket.pending and not self._full:
            self.write(websocket.take())
        if websocket.state != OPEN and not websocket.pending and not self._ended and websocket.finished:
            self._ended = True
            self._end(websocket.error is not None)
        if self._full or not self._reading:
            self._pause_or_resume()
        if self._draining and websocket.buffered <= websocket.limits.queue // 4:
            self._release()
        self.clear = self._reading and not (self._full or self._draining)

    # Called by Ticker and Connections.

    def tick(self, now: float) -> None:
        if self.held and not self._full:
            # The connection is not read, so its silence does not mean that the peer is gone.
            self.websocket.heard = True
        self.websocket.tick(now)

    def close(self, code: int, reason: str) -> None:
        self.websocket.close(code, reason)

    # For subclasses.

    def write(self, pieces: list[bytes | memoryview]) -> None:
        """Write all; set `_full` if the system takes no more now."""
        raise NotImplementedError

    def _end(self, linger: bool) -> None:
        """End the connection after its last byte; if `linger` only our side of it, where possible."""
        raise NotImplementedError

    def _pause(self) -> None:
        raise NotImplementedError

    def _resume(self) -> None:
        raise NotImplementedError

    def _pause_or_resume(self) -> None:
        """Stop or resume reading, as the inbox and the queue ask for.

        A server does not read a peer that does not read its answers; a client reads on, lest both wait for
        each other. A connection that is closing is read until the peer's close frame or end.
        """
        websocket = self.websocket
        behind = not websocket.client and websocket.buffered > websocket.limits.queue // 2
        reading = websocket.state != OPEN or not (self.held or behind)
        if reading != self._reading and not self._lost:
            self._reading = reading
            self.clear = False
            if reading:
                self._resume()
            else:
                self._pause()

    def _release(self) -> None:
        draining, self._draining = self._draining, []
        for waiter in draining:
            if not waiter.done():
                waiter.set_result(None)
