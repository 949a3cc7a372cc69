"""What a task awaits that iterates over a connection: it goes on as soon as something has come."""

import asyncio
from collections.abc import Callable, Generator
from contextvars import Context
from typing import Any


class Arrival:
    """To asyncio's tasks it is a future; it serves for one wait after another, of one task at a time.

    A future has the loop go on with the task at its next turn, which costs a system call; here the task goes
    on within `came`, in its own context.

    Attributes:
        awaited: a task waits, or is about to; set it where something is to be awaited.
    """

    __slots__ = ("_asyncio_future_blocking", "_cancelled", "_context", "_go_on", "_loop", "awaited")

    _context: Context
    _go_on: Callable[[Any], object]

    def __init__(self) -> None:
        self._asyncio_future_blocking = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._cancelled = False
        self.awaited = False

    def __await__(self) -> Generator[Any, None, None]:
        if self.awaited:
            if self._loop is None:
                self._loop = asyncio.get_running_loop()
            self._asyncio_future_blocking = True
            yield self

    def came(self) -> None:
        """Let the task go on."""
        self.awaited = False
        try:
            self._context.run(self._go_on, self)
        except RuntimeError:
            # Another task runs, or we are in that context already; what a task raises does not come out.
            self.get_loop().call_soon(self._go_on, self, context=self._context)

    # For the task.

    def get_loop(self) -> asyncio.AbstractEventLoop:
        assert self._loop is not None
        return self._loop

    def add_done_callback(self, go_on: Callable[[Any], object], *, context: Context) -> None:
        self._go_on, self._context = go_on, context

    def cancel(self, msg: Any = None) -> bool:
        if not self.awaited:
            return False
        self.awaited, self._cancelled = False, True
        self.get_loop().call_soon(self._go_on, self, context=self._context)
        return True

    def result(self) -> None:
        if self._cancelled:
            self._cancelled = False
            raise asyncio.CancelledError
