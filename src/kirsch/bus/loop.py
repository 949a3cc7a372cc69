"""An asyncio event loop on the bus."""

import asyncio
import concurrent.futures
import logging
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from cherrypy.process.plugins import SimplePlugin

T = TypeVar("T")


class AsyncioPlugin(SimplePlugin):
    """One event loop in one thread, from early in the bus's start until late in its stop.

    On stop, tasks that are left are cancelled, asynchronous generators closed, and the loop is closed. A
    task that takes more than `grace` seconds to be cancelled is left behind, and said so.
    """

    def __init__(self, bus: Any, grace: float = 10.0) -> None:
        super().__init__(bus)
        self.grace = grace
        self.loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stopping: asyncio.Event | None = None

    def start(self) -> None:
        if self._thread is not None:
            return
        started = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(started,), name="asyncio", daemon=True)
        self._thread.start()
        started.wait()

    start.priority = 20  # type: ignore[attr-defined]

    def stop(self) -> None:
        with self._lock:
            loop, self.loop = self.loop, None
            # Behind what submit() has queued, so that it becomes tasks that are cancelled.
            if loop is not None and self._stopping is not None:
                loop.call_soon_threadsafe(self._stopping.set)
        thread, self._thread = self._thread, None
        if thread is not None and thread is not threading.current_thread():
            thread.join(self.grace)
            if thread.is_alive():
                self.bus.log("The event loop has a task that cannot be cancelled", level=logging.ERROR)

    stop.priority = 90  # type: ignore[attr-defined]

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> "concurrent.futures.Future[T]":
        """Run a coroutine in the loop, from any thread. Raises RuntimeError when the bus has not started."""
        with self._lock:
            if self.loop is not None:
                return asyncio.run_coroutine_threadsafe(coroutine, self.loop)
        coroutine.close()
        raise RuntimeError("there is no event loop: start the bus first")

    def run(self, coroutine: Coroutine[Any, Any, T], timeout: float | None = None) -> T:
        """Run a coroutine in the loop and wait for it: its result, or its exception, is the caller's.

        After `timeout` seconds it is cancelled, and TimeoutError raised. Raises RuntimeError when the bus has
        not started, or in the loop's own thread; CancelledError (of concurrent.futures) when the bus stops.
        """
        if threading.current_thread() is self._thread:
            coroutine.close()
            raise RuntimeError("run() in the event loop's own thread would wait for itself: await instead")
        future = self.submit(coroutine)
        try:
            return future.result(timeout)
        except TimeoutError as error:
            if future.done():  # the coroutine's own
                raise
            future.cancel()
            raise TimeoutError(f"not done within {timeout} s") from error
        except BaseException:
            future.cancel()  # Ctrl-C while waiting; no effect when it is done
            raise

    def _serve(self, started: threading.Event) -> None:
        with asyncio.Runner() as runner:
            runner.run(self._until_stopped(started))

    async def _until_stopped(self, started: threading.Event) -> None:
        self._stopping = asyncio.Event()
        self.loop = asyncio.get_running_loop()
        started.set()
        await self._stopping.wait()
