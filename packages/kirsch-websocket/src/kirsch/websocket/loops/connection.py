"""Connection to iterate over with `async for`."""

import asyncio
from collections.abc import Callable, Generator
from contextvars import Context
from inspect import isawaitable
from typing import Any, Self

from kirsch.websocket.core.errors import Closed
from kirsch.websocket.core.inbox import NORMALLY, Chunks, FilledInbox
from kirsch.websocket.core.message import Message
from kirsch.websocket.loops.wire import Wire


class Stream(Chunks):
    """Message that is taken in chunks: `async for chunk in message`; `text` tells `str` from `bytes`."""

    def __aiter__(self) -> Self:
        self.complete()
        return self

    async def __anext__(self) -> Any:
        while not self._chunks:
            if self.complete():
                raise StopAsyncIteration
            await self._connection.more()
        return self._chunks.popleft()


class Connection(FilledInbox):
    """WebSocket whose messages wait to be taken: `async for message in ws`, or `await ws.recv()`.

    The iteration ends when the connection is closed with 1000, 1001 or no code, and raises Closed for any
    other code. Where messages are streamed, each is a Stream.
    """

    wire: Wire
    stream_class = Stream

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._wakeup = Wakeup()
        # Set while `finish_sending_on` waits.
        self._all_sent_on: asyncio.Future[None] | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        inbox = self._inbox
        if not inbox:
            if self._current is not None:
                self._current.skip()
            while not inbox:
                closed = self._closed
                if closed is not None and closed.code in NORMALLY:
                    raise StopAsyncIteration
                await self.more()
        return inbox.popleft()

    async def recv(self, timeout: float | None = None) -> Message | Any:
        """Return the next message. Raises Closed, and TimeoutError after `timeout` seconds."""
        if self._inbox:
            return self._inbox.popleft()
        if self._current is not None:
            self._current.skip()
        async with asyncio.timeout(timeout):
            while not self._inbox:
                await self.more()
        return self._inbox.popleft()

    def more(self) -> "Wakeup":
        """Return an awaitable that is done when something more has been received; flush what was sent.

        Raises Closed when the connection has ended, RuntimeError where another task waits already.
        """
        wakeup, closed = self._wakeup, self._closed
        if closed is not None:
            raise Closed(closed.code, closed.reason)
        if wakeup.awaited:
            raise RuntimeError("another task waits for this connection's messages")
        self._unread = 0
        wire = self.wire
        if self._sending_on:
            self._relax()
        elif wire.held:
            wire.hold(False)
        if not self.corked and self.pending:
            # This may end the connection.
            wire.flush()
            wakeup.awaited = self._closed is None
        else:
            wakeup.awaited = True
        return wakeup

    async def handle(self, handler: Callable[[Any], Any]) -> None:
        """Run a coroutine function on this connection, then close it: with 1011 if the function raised."""
        try:
            running = handler(self)
            if not isawaitable(running):
                raise TypeError("on a loop the function is an `async def`")
            await running
            await self.finish_sending_on()
        except Closed:
            pass
        except Exception as error:
            self.crashed(error)
        finally:
            self.close()

    async def finish_sending_on(self, timeout: float | None = None) -> None:
        if self._sending_on and self._closed is None:
            self._relax()
            self._all_sent_on = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._all_sent_on], timeout=timeout)

    def _sent_all_on(self) -> None:
        if self._all_sent_on is not None and not self._all_sent_on.done():
            self._all_sent_on.set_result(None)

    def _wake(self) -> None:
        if self._wakeup.awaited:
            # What the task sends until it waits again is written together.
            self.corked = True
            self._wakeup.wake()
            self.corked = False


class Wakeup:
    """Future-like object that one task awaits again and again, and that resumes it at once.

    A Future has the loop resume the task at its next turn, which costs a system call for each read. `wake`
    resumes the task directly, in the task's own context.

    Attributes:
        awaited: True while a task waits or is about to; set it to have the next `await` wait.
    """

    __slots__ = ("_asyncio_future_blocking", "_cancelled", "_context", "_loop", "_resume", "awaited")

    _context: Context
    _resume: Callable[[Any], object]

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

    def wake(self) -> None:
        """Resume the task that waits, here and now."""
        self.awaited = False
        try:
            self._context.run(self._resume, self)
        except RuntimeError:
            # Another task runs, or this is the same context; exceptions of the task itself do not come here.
            self.get_loop().call_soon(self._resume, self, context=self._context)

    # asyncio.Task calls these, as it does those of any future.

    def get_loop(self) -> asyncio.AbstractEventLoop:
        assert self._loop is not None
        return self._loop

    def add_done_callback(self, resume: Callable[[Any], object], *, context: Context) -> None:
        self._resume, self._context = resume, context

    def cancel(self, msg: Any = None) -> bool:
        if not self.awaited:
            return False
        self.awaited, self._cancelled = False, True
        self.get_loop().call_soon(self._resume, self, context=self._context)
        return True

    def result(self) -> None:
        if self._cancelled:
            self._cancelled = False
            raise asyncio.CancelledError
