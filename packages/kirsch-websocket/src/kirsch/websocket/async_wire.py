"""Between asyncio and a WebSocket: when to write, timeouts, backpressure; the rest is the kind of wire's."""

import asyncio
import logging
import threading
from collections.abc import Coroutine
from typing import Any, ClassVar, Protocol
from weakref import WeakKeyDictionary

from kirsch.websocket.application import WebSocket
from kirsch.websocket.errors import Closed
from kirsch.websocket.frame import ABNORMAL
from kirsch.websocket.message import Close, check_close
from kirsch.websocket.protocol import OPEN

log = logging.getLogger("kirsch.websocket")

READ = 256 << 10


class _Shared(threading.local):
    """A thread's loop reads every connection into one buffer: nothing of it is kept by anyone."""

    def __init__(self) -> None:
        self.buffer = memoryview(bytearray(READ))


shared = _Shared()


class Ticking(Protocol):
    """What is told once a second how late it is."""

    def tick(self, now: float) -> None: ...


class Ticker:
    """One timer for all connections of a loop.

    Attributes:
        spoken: Pumps that have written something since the loop had its turn.
    """

    _of: ClassVar["WeakKeyDictionary[asyncio.AbstractEventLoop, Ticker]"] = WeakKeyDictionary()

    def __init__(self) -> None:
        # Nothing here keeps the loop: it would never be dropped.
        self._ticking: set[Ticking] = set()
        self._timed = False
        self.spoken: list[Any] = []

    @classmethod
    def of(cls, loop: asyncio.AbstractEventLoop) -> "Ticker":
        ticker = cls._of.get(loop)
        if ticker is None:
            ticker = cls._of[loop] = cls()
        return ticker

    def add(self, ticking: Ticking) -> None:
        self._ticking.add(ticking)
        if not self._timed:
            self._timed = True
            asyncio.get_running_loop().call_later(1, self._tick)

    def discard(self, ticking: Ticking) -> None:
        self._ticking.discard(ticking)

    def turn(self) -> None:
        """Let those in `spoken` know when the loop has its turn: one call for any number."""
        asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        spoken, self.spoken = self.spoken, []
        for pump in spoken:
            pump.turned()

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        self._timed = bool(self._ticking)
        if self._timed:
            loop.call_later(1, self._tick)
        now = loop.time()
        for ticking in list(self._ticking):
            try:
                ticking.tick(now)
            except Exception:
                # It is the clock of all others too.
                log.exception("the clock goes on")


class Connections:
    """The connections of one server, from the first byte on, and the tasks that work for them."""

    def __init__(self) -> None:
        self._all: set[Any] = set()
        self._gone: asyncio.Future[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self, connection: Any) -> None:
        self._all.add(connection)

    def discard(self, connection: Any) -> None:
        self._all.discard(connection)
        if not self._all and self._gone is not None and not self._gone.done():
            self._gone.set_result(None)

    def run(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """In a task of its own."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def close(self, code: int, reason: str, timeout: float) -> None:
        """Close all, end those that are still there after `timeout` seconds, and wait.

        Tasks end as they see that; those that do not are cancelled after as long. Raises ValueError for what
        cannot be said.
        """
        check_close(code, reason)
        for connection in list(self._all):
            connection.close(code, reason)
        for _ in range(2):
            if self._all:
                if self._gone is None or self._gone.done():
                    self._gone = asyncio.get_running_loop().create_future()
                await asyncio.wait([self._gone], timeout=timeout)
            for connection in list(self._all):
                connection.abort()
        for _ in range(2):
            # It may be one of them that closes the server.
            if left := self._tasks - {asyncio.current_task()}:
                await asyncio.wait(left, timeout=timeout)
                for task in left:
                    task.cancel()


class Wire:
    """One open connection, whoever reads and writes: a WebSocket's wire.

    What extends it calls `received` and `lost`, and gives `write`, `_end`,
    `_pause`, `_resume`, `abort` and `buffered`.
    """

    def __init__(self, websocket: WebSocket, connections: Connections | None = None) -> None:
        self.websocket = websocket
        websocket.thread = threading.get_ident()
        self._connections = connections
        self.loop = asyncio.get_running_loop()
        self._buffer = shared.buffer
        # Whether there is nothing for `flush` to see to but what is to be written.
        self.plain = True
        # No more can be written for now.
        self._full = False
        self._ended = False
        self._lost = False
        self._reading = True
        self.held = False
        self._waiting: list[asyncio.Future[None]] = []
        self._gone: asyncio.Future[None] | None = None

    def begin(self, rest: bytes = b"") -> None:
        """The handshake is done, and `rest` came after it."""
        if self._connections is not None:
            self._connections.add(self)
        Ticker.of(self.loop).add(self)
        self.websocket.start(self)
        if rest:
            self.websocket.corked = True
            self.websocket.feed(rest)
        self.flush()

    def run(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Work for this connection in a task; a server waits for it when it closes."""
        if self._connections is None:
            return self.loop.create_task(work)
        return self._connections.run(work)

    def received(self, count: int, direct: bool) -> None:
        """So many bytes are in the buffer: the WebSocket's own if `direct`, else the shared one."""
        websocket = self.websocket
        # It is written in the end: no need to be woken, unless there is much.
        websocket.corked = True
        if direct:
            websocket.filled(count)
        else:
            websocket.feed(self._buffer[:count])
        if websocket.pending or websocket.state != OPEN:
            self.flush()

    def writable(self) -> None:
        """What was written is on its way."""
        self._full = False
        self.websocket.heard = True
        self.flush()

    def lost(self) -> None:
        """The connection is gone."""
        Ticker.of(self.loop).discard(self)
        if self._connections is not None:
            self._connections.discard(self)
        self._full = self._ended = self._lost = True
        self.plain = False
        self.websocket.ended()
        self._release()
        if self._gone is not None:
            self._gone.set_result(None)

    # WebSocket's wire.

    def wake(self) -> None:
        if self.websocket.corked:
            # Much is sent while the application is called.
            self.flush()
        else:
            self.gather()

    def gather(self) -> None:
        """What is sent before the loop has its turn goes together."""
        self.loop.call_soon(self.flush)

    def abort(self) -> None:
        raise NotImplementedError

    @property
    def buffered(self) -> int:
        raise NotImplementedError

    async def drain(self, timeout: float | None = None) -> None:
        """Wait until a quarter of `limits.queue` waits at most. Raises Closed, TimeoutError."""
        low = self.websocket.limits.queue // 4
        self.flush()
        async with asyncio.timeout(timeout):
            while self.websocket.buffered > low and not self._lost:
                waiter = self.loop.create_future()
                self._waiting.append(waiter)
                self.plain = False
                await waiter
        if self._lost:
            close = self.websocket.close_received or self.websocket.close_sent or Close(ABNORMAL, "")
            raise Closed(close.code, close.reason)

    async def wait_closed(self, timeout: float | None = None) -> bool:
        """Wait until the connection is gone; whether it is."""
        if not self._lost:
            if self._gone is None:
                self._gone = self.loop.create_future()
            await asyncio.wait([self._gone], timeout=timeout)
        return self._lost

    def hold(self, hold: bool) -> None:
        """Stop reading, as whoever takes the messages is behind, or read on."""
        self.held = hold
        self._read()

    def flush(self) -> None:
        """Write what is queued, as far as the peer reads it; end the connection when all is said."""
        websocket = self.websocket
        while websocket.pending and not self._full:
            self.write(websocket.take())
        if websocket.state != OPEN and not websocket.pending and not self._ended and websocket.finished:
            self._ended = True
            self._end(websocket.error is not None)
        if self._full or not self._reading:
            self._read()
        if self._waiting and websocket.buffered <= websocket.limits.queue // 4:
            self._release()
        self.plain = self._reading and not (self._full or self._waiting)

    # For the server.

    def tick(self, now: float) -> None:
        if self.held and not self._full:
            # It is not read: that nothing is heard does not mean that nobody is there.
            self.websocket.heard = True
        self.websocket.tick(now)

    def close(self, code: int, reason: str) -> None:
        self.websocket.close(code, reason)

    # How.

    def write(self, pieces: list[bytes | memoryview]) -> None:
        """Write all; set `_full` if the system takes no more now."""
        raise NotImplementedError

    def _end(self, linger: bool) -> None:
        """End the connection when all is written; if `linger` only our side of it, where that can be."""
        raise NotImplementedError

    def _pause(self) -> None:
        raise NotImplementedError

    def _resume(self) -> None:
        raise NotImplementedError

    def _read(self) -> None:
        """Read on or stop. Who does not read answers is not read; a client reads, lest both wait.

        When it is closing the peer's answer or end is waited for, whatever else.
        """
        websocket = self.websocket
        behind = not websocket.client and websocket.buffered > websocket.limits.queue // 2
        wanted = websocket.state != OPEN or not (self.held or behind)
        if wanted != self._reading and not self._lost:
            self._reading = wanted
            self.plain = False
            if wanted:
                self._resume()
            else:
                self._pause()

    def _release(self) -> None:
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)
