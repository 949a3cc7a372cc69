"""A connection to iterate over with `async for`."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import Any, Self

from kirsch.websocket.application import WebSocket
from kirsch.websocket.arrival import Arrival
from kirsch.websocket.async_wire import READ, Wire
from kirsch.websocket.errors import Closed
from kirsch.websocket.frame import NORMAL
from kirsch.websocket.inbox import NORMALLY, Chunks, enough, ignore, waiting
from kirsch.websocket.message import Close, Event, Message
from kirsch.websocket.protocol import OPEN


class Stream(Chunks):
    """A message that is taken in chunks: `async for chunk in message`; `text` says of which kind they are."""

    def __aiter__(self) -> Self:
        self.over()
        return self

    async def __anext__(self) -> Any:
        while not self._chunks:
            if self.over():
                raise StopAsyncIteration
            await self._connection.news()
        return self._chunks.popleft()


class Connection(WebSocket):
    """A WebSocket whose messages wait to be taken: `async for message in ws`, or `await ws.recv()`.

    The iteration ends when the connection is closed with 1000, 1001 or no code, and raises Closed where it
    ends otherwise. Where messages are streamed, each is a Stream.
    """

    wire: Wire

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._inbox: deque[Any] = deque()
        self._packed = arguments.get("codec") is not None
        if not self._packed:
            # Messages go where they wait without a call of ours.
            self.received_message = self._inbox.append  # type: ignore[method-assign, assignment]
        self._unread = 0
        self._enough = enough(self.limits, self.client, READ)
        # Chunks came, or the end.
        self._news = False
        self._arrival = Arrival()
        self._over: Closed | None = None
        self._current: Stream | None = None
        # Messages that are sent on, and not whole or not all there yet; who waits until all are.
        self._passing: list[Stream] = []
        self._passed: asyncio.Future[None] | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        inbox = self._inbox
        if not inbox:
            if self._current is not None:
                self._current.skip()
            while not inbox:
                over = self._over
                if over is not None and over.code in NORMALLY:
                    raise StopAsyncIteration
                await self.news()
        return inbox.popleft()

    async def recv(self, timeout: float | None = None) -> Message | Any:
        """The next message. Raises Closed, and TimeoutError after `timeout` seconds."""
        if self._inbox:
            return self._inbox.popleft()
        if self._current is not None:
            self._current.skip()
        async with asyncio.timeout(timeout):
            while not self._inbox:
                await self.news()
        return self._inbox.popleft()

    def news(self) -> Arrival:
        """What to await until something more has been received; what was sent goes out.

        Raises Closed when the connection has ended, RuntimeError where another task waits already.
        """
        arrival, over = self._arrival, self._over
        if over is not None:
            raise Closed(over.code, over.reason)
        if arrival.awaited:
            raise RuntimeError("another task waits for this connection's messages")
        self._unread = 0
        wire = self.wire
        if self._passing:
            self._ease()
        elif wire.held:
            wire.hold(False)
        if not self.corked and self.pending:
            # It may be the last there is to say.
            wire.flush()
            arrival.awaited = self._over is None
        else:
            arrival.awaited = True
        return arrival

    def close(self, code: int = NORMAL, reason: str = "") -> None:
        """Begin to close, as ever.

        What comes from now on is dropped where the inbox is full: it does not keep the peer's answer away.
        """
        super().close(code, reason)
        if self.wire.held:
            self._refuse()
            self.wire.hold(False)

    async def wait_closed(self, timeout: float | None = None) -> bool:
        """Wait until the connection is gone, and drop what comes until then; whether it is."""
        self._inbox.clear()
        self._refuse()
        if self.wire.held:
            self.wire.hold(False)
        return await self.wire.wait_closed(timeout)

    async def handle(self, handler: "Callable[[Connection], Awaitable[object]]") -> None:
        """Run a coroutine function on this connection, and close it then: 1011 where it raised."""
        try:
            working = handler(self)
            if not isawaitable(working):
                raise TypeError("on a loop the function is an `async def`")
            await working
            await self.pass_on()
        except Closed:
            pass
        except Exception as error:
            self.crashed(error)
        finally:
            self.close()

    def received_message(self, message: Message) -> None:
        """One that came compressed: what waits is larger than what was read."""
        self._inbox.append(message)
        self._unread += len(message)

    def received_chunk(self, data: str | bytes, first: bool, final: bool) -> None:
        if first or self._current is None:
            self._current = Stream(self, isinstance(data, str))
            self._inbox.append(self._current)
        self._current.add(data, final)
        if self._packed:
            self._unread += len(data)
        self._news = True
        if final:
            self._current = None

    def received_other(self, event: Event) -> None:
        if isinstance(event, Close):
            self._cut()
        super().received_other(event)

    def closed(self, code: int, reason: str) -> None:
        self._over = Closed(code, reason)
        self._news = True
        self._cut()
        self._all_passed()
        self.arrived(0)

    def arrived(self, count: int) -> None:
        if self._inbox or self._news:
            self._news = False
            self._unread += count
            behind = self._unread + self.queued
            if self._passing:
                behind = self._unread = self._waits()
            if behind > self._enough:
                if self.state == OPEN:
                    self.wire.hold(True)
                else:
                    self._refuse()
            if self._arrival.awaited:
                # What it sends goes together.
                self.corked = True
                self._arrival.came()
                self.corked = False

    def _refuse(self) -> None:
        """It is closing, and read to the end; nobody is behind the messages that come yet."""
        self.received_message = ignore  # type: ignore[method-assign, assignment]
        self.received_chunk = ignore  # type: ignore[method-assign, assignment]
        self._cut()

    # Messages that are sent on.

    def passes(self, stream: Stream) -> None:
        """A message is sent on."""
        self._passing.append(stream)
        self._ease()

    def taken(self, stream: Stream) -> None:
        """A chunk of a message that is sent on was taken, or nobody takes any more."""
        if stream.target is None and stream in self._passing:
            self._passing.remove(stream)
            if not self._passing:
                self._all_passed()
        if self.wire.held:
            self._ease()

    async def pass_on(self) -> None:
        """Wait until all that is sent on has been taken, or the connection is gone."""
        if self._passing and self._over is None:
            self._ease()
            self._passed = asyncio.get_running_loop().create_future()
            await self._passed

    def _all_passed(self) -> None:
        if self._passed is not None and not self._passed.done():
            self._passed.set_result(None)

    def _waits(self) -> int:
        return waiting(self, self._inbox, self._passing, self._current)

    def _ease(self) -> None:
        """Read on, if little waits. What waits to be sent the wire sees to."""
        self._unread = self._waits()
        if self.wire.held and self._unread <= self._enough:
            self.wire.hold(False)

    def _cut(self) -> None:
        """What has come of a message is all that comes of it."""
        if self._current is not None:
            self._current.cut()
            self._current.tell()
