"""An event loop in which time is a number: where nothing is left to do now, it jumps to when something is."""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from heapq import heappop, heappush
from typing import Any, TypeVar

T = TypeVar("T")


class Stuck(RuntimeError):
    """Nothing will ever happen any more, and somebody still waits."""


class Call:
    """A call that is to be made, `at` a time. As asyncio's handles it can be cancelled."""

    __slots__ = ("_arguments", "_at", "_callback", "_context", "_loop")

    def __init__(
        self,
        loop: "VirtualLoop",
        at: float,
        callback: Callable[..., object],
        arguments: tuple[Any, ...],
        context: Context | None,
    ) -> None:
        self._loop = loop
        self._at = at
        self._callback: Callable[..., object] | None = callback
        self._arguments = arguments
        self._context = copy_context() if context is None else context

    def when(self) -> float:
        """The time of the call."""
        return self._at

    def cancel(self) -> None:
        """The call is not made."""
        self._callback = None

    def cancelled(self) -> bool:
        """True if the call is not made."""
        return self._callback is None

    def make(self) -> None:
        """Make the call, unless it was cancelled. What it raises goes to the loop's handler."""
        if (callback := self._callback) is None:
            return
        try:
            self._context.run(callback, *self._arguments)
        except Exception as error:
            self._loop.call_exception_handler({"message": f"in {callback}", "exception": error})


class VirtualLoop(asyncio.AbstractEventLoop):
    """A loop on a virtual clock that begins at 0 s, for tasks, futures and timers. It does no I/O, and what
    is due at one time is called in the order in which it was asked for."""

    def __init__(self) -> None:
        self._now = 0.0
        self._ready: deque[Call] = deque()
        self._timers: list[tuple[float, int, Call]] = []
        self._asked = 0
        self._task_factory: Callable[..., asyncio.Task[Any]] = lambda loop, coro, **values: asyncio.Task(
            coro, loop=loop, **values
        )
        self._running = False

    def time(self) -> float:
        return self._now

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return self._running

    def is_closed(self) -> bool:
        return False

    def close(self) -> None:
        self._ready.clear()
        self._timers.clear()

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def set_task_factory(self, factory: Any) -> None:
        self._task_factory = factory

    def create_task(self, coro: Any, **values: Any) -> asyncio.Task[Any]:
        return self._task_factory(self, coro, **values)

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *arguments: Any, context: Context | None = None
    ) -> Call:
        call = Call(self, self._now, callback, arguments, context)
        self._ready.append(call)
        return call

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *arguments: Any, context: Context | None = None
    ) -> Call:
        return self.call_at(self._now + delay, callback, *arguments, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *arguments: Any, context: Context | None = None
    ) -> Call:
        call = Call(self, when, callback, arguments, context)
        self._asked += 1
        heappush(self._timers, (when, self._asked, call))
        return call

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.default_exception_handler(context)

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        asyncio.log.logger.error(context["message"], exc_info=context.get("exception"))

    def run_until_complete(self, future: Coroutine[Any, Any, T]) -> T:  # type: ignore[override]
        """Run a coroutine to its end. Raises what that raises, and Stuck."""
        task: asyncio.Task[T] = self.create_task(future)
        asyncio._set_running_loop(self)
        self._running = True
        try:
            while not task.done():
                self._turn()
            # What it has cancelled last ends too.
            while self._ready:
                self._turn()
        finally:
            self._running = False
            asyncio._set_running_loop(None)
        return task.result()

    def _turn(self) -> None:
        """Make all calls that are ready and due by now."""
        ready, timers = self._ready, self._timers
        if not ready:
            while timers and timers[0][2].cancelled():
                heappop(timers)
            if not timers:
                raise Stuck("nothing is to happen any more")
            self._now = max(self._now, timers[0][0])
        while timers and timers[0][0] <= self._now:
            ready.append(heappop(timers)[2])
        for _ in range(len(ready)):
            ready.popleft().make()
