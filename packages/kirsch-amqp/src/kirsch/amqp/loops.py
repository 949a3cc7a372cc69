"""Where the connection to the broker runs: in a thread of its own, or on a loop that the application has."""

import asyncio
import collections
import logging
import threading
from collections.abc import Callable
from typing import Any, Protocol

from pika import ConnectionParameters
from pika.adapters.select_connection import IOLoop

from kirsch.amqp.framing import OnAsyncio, Selected

Work = Callable[[], object]
Opened = Callable[[Any], object]
Gone = Callable[[Any, Any], object]

log = logging.getLogger("kirsch.amqp")

# How much is done before gevent's greenlets, which write what was sent, have their turn.
TURN = 4


class Timer(Protocol):
    """What `later` returns."""

    def cancel(self) -> object: ...


class Loop(Protocol):
    """Runs the connection, and the listeners of what it brings.

    Attributes:
        thread: the ident of the thread that listeners are called in; 0 before the start.
    """

    thread: int

    @property
    def running(self) -> bool:
        """Whether it has been started, and has not come to its end."""

    def start(self) -> None:
        """Begin; returns at once."""

    def stop(self, work: Work, timeout: float) -> None:
        """Do `work`, which ends what runs, and have no more callbacks; waits `timeout` seconds if it can."""

    def call(self, work: Work) -> None:
        """Do this soon, where the connection runs; from any thread."""

    def tell(self, work: Work) -> None:
        """Do this where listeners are called; from where the connection runs."""

    def later(self, seconds: float, work: Work) -> Timer:
        """Do this in some seconds; from where the connection runs."""

    def connect(self, parameters: ConnectionParameters, opened: Opened, failed: Gone, closed: Gone) -> Any:
        """Begin to connect: pika's connection."""


class _Nothing:
    """A timer of a loop that is gone."""

    def cancel(self) -> None:
        pass


class ThreadLoop:
    """A thread of its own, with pika's own loop (epoll or poll)."""

    def __init__(self) -> None:
        self.thread = 0
        self._loop: Any = None
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    @property
    def running(self) -> bool:
        return self._loop is not None

    def start(self) -> None:
        self._loop = IOLoop()
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
        """The last callback: the thread ends."""
        with self._lock:
            loop, self._loop = self._loop, None
        if loop is not None:
            loop.stop()

    def call(self, work: Work) -> None:
        with self._lock:
            if self._loop is not None:
                self._loop.add_callback_threadsafe(work)

    def tell(self, work: Work) -> None:
        _safely(work)

    def later(self, seconds: float, work: Work) -> Timer:
        return _Scheduled(self._loop, seconds, work) if self._loop is not None else _Nothing()

    def connect(self, parameters: ConnectionParameters, opened: Opened, failed: Gone, closed: Gone) -> Any:
        return Selected(parameters, opened, failed, closed, custom_ioloop=self._loop)

    def _run(self, loop: Any, started: threading.Event) -> None:
        self._begun()
        started.set()
        try:
            loop.start()
        finally:
            loop.close()

    def _begun(self) -> None:
        self.thread = threading.get_ident()


class _Scheduled:
    """A timer of pika's loop."""

    def __init__(self, loop: Any, seconds: float, work: Work) -> None:
        self._loop = loop
        self._timer = loop.call_later(seconds, work)

    def cancel(self) -> None:
        self._loop.remove_timeout(self._timer)


class GeventLoop(ThreadLoop):
    """As ThreadLoop, but listeners are called by gevent's hub of the thread that started it.

    Their greenlets may not wait: what they do is done one after another.
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
        """Listeners are not called here."""

    def _work(self) -> None:
        # What comes meanwhile wakes the hub again only once all is done.
        works = self._works
        for _ in range(TURN):
            if not works:
                # All is done, perhaps by a turn that saw what came before its own wake-up.
                return
            _safely(works[0])
            works.popleft()
        if works:
            self._hub.loop.run_callback(self._work)


class AsyncioLoop:
    """A loop of asyncio's, which Tornado's is too: the one that runs when the bus starts, or one given."""

    def __init__(self, loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
        self.thread = 0
        self._find = loop
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended: threading.Event | None = None
        self._gone = asyncio.Event()

    @property
    def running(self) -> bool:
        return self._loop is not None

    def start(self) -> None:
        self._loop = self._find()
        self._gone = asyncio.Event()
        try:
            here = asyncio.get_running_loop() is self._loop
        except RuntimeError:
            here = False
        if here:
            self.thread = threading.get_ident()
            return
        started = threading.Event()

        def begin() -> None:
            self.thread = threading.get_ident()
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
        """The last callback."""
        loop, self._loop = self._loop, None
        if loop is not None:
            self._gone.set()
        if self._ended is not None:
            self._ended.set()

    def call(self, work: Work) -> None:
        loop = self._loop
        if loop is None:
            return
        if threading.get_ident() == self.thread:
            loop.call_soon(work)
            return
        try:
            loop.call_soon_threadsafe(work)
        except RuntimeError:
            # It was closed before the bus stopped.
            self.ended()

    def tell(self, work: Work) -> None:
        _safely(work)

    def later(self, seconds: float, work: Work) -> Timer:
        return self._loop.call_later(seconds, work) if self._loop is not None else _Nothing()

    def connect(self, parameters: ConnectionParameters, opened: Opened, failed: Gone, closed: Gone) -> Any:
        return OnAsyncio(parameters, opened, failed, closed, custom_ioloop=self._loop)


def _safely(work: Work) -> None:
    """A listener's failure ends neither the loop nor the connection."""
    try:
        work()
    except Exception:
        log.exception("a listener failed")


def loop_for(where: Any) -> Any:
    """The Loop for AMQPPlugin's argument. Raises TypeError."""
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
