"""Event loops for the broker connection: a thread's own, or the application's (asyncio, Tornado, gevent)."""

import asyncio
import collections
import logging
import threading
from collections.abc import Callable
from typing import Any, Protocol

from pika import ConnectionParameters

from kirsch.amqp.transport import Connection, Gone, Opened

Work = Callable[[], object]

log = logging.getLogger("kirsch.amqp")

# Listeners called before gevent's greenlets, which write what was sent, have their turn.
TURN = 4


class Timer(Protocol):
    """A callback that is due later."""

    def cancel(self) -> object: ...


class _Nothing:
    """Timer of a loop that has ended."""

    def cancel(self) -> None:
        pass


class Loop:
    """An asyncio event loop that runs the connection, and the listeners of what it receives.

    Attributes:
        thread: ident of the thread in which listeners are called; 0 before the start.
    """

    def __init__(self) -> None:
        self.thread = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        # Ident of the thread in which the connection runs.
        self._here = 0

    @property
    def running(self) -> bool:
        """True from `start` until the last callback."""
        return self._loop is not None

    def start(self) -> None:
        """Begin; returns at once."""
        raise NotImplementedError

    def stop(self, work: Work, timeout: float) -> None:
        """Call `work`, which closes the connection and then calls `ended`.

        Waits for `ended` for up to `timeout` seconds where waiting does not block the loop itself.
        """
        raise NotImplementedError

    def ended(self) -> None:
        """Take no more callbacks: this was the last."""
        raise NotImplementedError

    def call(self, work: Work) -> None:
        """Call `work` soon, where the connection runs. Thread-safe."""
        loop = self._loop
        if loop is None:
            return
        try:
            if threading.get_ident() == self._here:
                loop.call_soon(work)
            else:
                loop.call_soon_threadsafe(work)
        except RuntimeError:
            # The application closed the loop before the bus stopped.
            self.ended()

    def tell(self, work: Work) -> None:
        """Call `work` where listeners are called. To be called where the connection runs."""
        _safely(work)

    def later(self, seconds: float, work: Work) -> Timer:
        """Call `work` in some seconds. To be called where the connection runs."""
        return self._loop.call_later(seconds, work) if self._loop is not None else _Nothing()

    def connect(
        self, parameters: ConnectionParameters, opened: Opened, failed: Gone, closed: Gone
    ) -> Connection:
        """Begin to connect to a broker."""
        assert self._loop is not None, "the loop is not running"
        return Connection(self._loop, parameters, opened, failed, closed)


class ThreadLoop(Loop):
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        super().__init__()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._loop = asyncio.new_event_loop()
        started = threading.Event()
        self._thread = threading.Thread(
            target=self._run, args=(self._loop, started), name="amqp", daemon=True
        )
        self._thread.start()
        started.wait()

    def stop(self, work: Work, timeout: float) -> None:
        self.call(work)
        thread, self._thread = self._thread, None
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)

    def ended(self) -> None:
        loop, self._loop = self._loop, None
        if loop is not None:
            loop.call_soon_threadsafe(loop.stop)

    def _run(self, loop: asyncio.AbstractEventLoop, started: threading.Event) -> None:
        self._here = threading.get_ident()
        self._begun()
        started.set()
        try:
            loop.run_forever()
            # The transport closes its socket in a callback of its own.
            loop.run_until_complete(asyncio.sleep(0))
        finally:
            loop.close()

    def _begun(self) -> None:
        self.thread = self._here


class GeventLoop(ThreadLoop):
    """A ThreadLoop whose listeners are called by the gevent hub of the thread that started it.

    A hub's callbacks must not wait: listeners are called one after another.
    """

    def __init__(self) -> None:
        super().__init__()
        self._works: collections.deque[Work] = collections.deque()
        self._hub: Any = None

    def start(self) -> None:
        import gevent

        self._hub = gevent.get_hub()
        self.thread = threading.get_ident()
        super().start()

    def tell(self, work: Work) -> None:
        self._works.append(work)
        if len(self._works) == 1:
            self._hub.loop.run_callback_threadsafe(self._work)

    def _begun(self) -> None:
        """Leave `thread` alone: listeners are called by the hub."""

    def _work(self) -> None:
        # Work added meanwhile wakes the hub again only after the queue was empty.
        works = self._works
        for _ in range(TURN):
            if not works:
                # An earlier turn may have done what this wake-up was for.
                return
            _safely(works[0])
            works.popleft()
        if works:
            self._hub.loop.run_callback(self._work)


class AsyncioLoop(Loop):
    """The application's asyncio loop, which is Tornado's too: the running one, or one that was given."""

    def __init__(self, loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
        super().__init__()
        self._find = loop
        self._ended: threading.Event | None = None
        self._gone = asyncio.Event()

    def start(self) -> None:
        self._loop = self._find()
        self._gone = asyncio.Event()
        try:
            here = asyncio.get_running_loop() is self._loop
        except RuntimeError:
            here = False
        if here:
            self.thread = self._here = threading.get_ident()
            return
        started = threading.Event()

        def begin() -> None:
            self.thread = self._here = threading.get_ident()
            started.set()

        self._loop.call_soon_threadsafe(begin)
        started.wait(10)

    async def gone(self) -> None:
        """Wait for the last callback."""
        if self._loop is not None:
            await self._gone.wait()

    def stop(self, work: Work, timeout: float) -> None:
        if threading.get_ident() == self.thread:
            work()
            return
        self._ended = threading.Event()
        self.call(work)
        self._ended.wait(timeout)

    def ended(self) -> None:
        loop, self._loop = self._loop, None
        if loop is not None:
            self._gone.set()
        if self._ended is not None:
            self._ended.set()


def _safely(work: Work) -> None:
    """Call a listener; its failure is logged and ends neither the loop nor the connection."""
    try:
        work()
    except Exception:
        log.exception("a listener failed")


def loop_for(where: Any) -> Loop:
    """Return the Loop for AMQPPlugin's argument. Raises TypeError."""
    if where == "thread":
        return ThreadLoop()
    if where == "gevent":
        return GeventLoop()
    if where in ("asyncio", "tornado"):
        return AsyncioLoop(asyncio.get_running_loop)
    if isinstance(where, asyncio.AbstractEventLoop):
        return AsyncioLoop(lambda: where)
    if hasattr(where, "asyncio_loop"):
        # Tornado's IOLoop.
        return AsyncioLoop(lambda: where.asyncio_loop)
    if hasattr(where, "submit") and hasattr(where, "loop"):
        # An AsyncioPlugin, which has a loop once the bus has started.
        return AsyncioLoop(lambda: _of_plugin(where))
    raise TypeError(
        "loop is 'thread', 'asyncio', 'tornado', 'gevent', an event loop or an AsyncioPlugin, "
        f"not {type(where).__name__}"
    )


def _of_plugin(plugin: Any) -> asyncio.AbstractEventLoop:
    loop: asyncio.AbstractEventLoop | None = plugin.loop
    if loop is None:
        raise RuntimeError("the AsyncioPlugin that the AMQPPlugin is to use is not subscribed to the bus")
    return loop
