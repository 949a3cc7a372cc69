"""A connection to iterate over with `for`, in a greenlet."""

from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from types import TracebackType
from typing import Any, Self

import gevent
from gevent.event import Event

from kirsch.websocket.application import WebSocket, farewell
from kirsch.websocket.errors import Closed
from kirsch.websocket.frame import NORMAL, Buffer
from kirsch.websocket.gevent_wire import READ, Wire
from kirsch.websocket.inbox import NORMALLY, OVERHEAD, Chunks, enough, ignore, waiting
from kirsch.websocket.message import Close, Message
from kirsch.websocket.protocol import OPEN


class Stream(Chunks):
    """A message that is taken in chunks: `for chunk in message`; `text` says of which kind they are."""

    _readers = 0

    def __iter__(self) -> Iterator[Any]:
        self._readers += 1
        try:
            while True:
                over = self.over()
                if self._chunks:
                    yield self._chunks.popleft()
                elif over:
                    return
                else:
                    self._connection.news()
        finally:
            self._readers -= 1

    def skip(self) -> None:
        """Nobody wants the rest, unless it is being read: sent on, perhaps."""
        if not self._readers:
            super().skip()


class Connection(WebSocket):
    """A WebSocket whose messages wait until they are taken: `for message in ws`, or `ws.recv()`.

    The iteration ends when the connection is closed with 1000, 1001 or no code, and raises Closed where it
    ends otherwise. Where messages are streamed, each is a Stream. `with` closes the connection, and waits.
    """

    wire: Wire

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._inbox: deque[Any] = deque()
        # Messages go where they wait without a call of ours.
        self.received_message = self._inbox.append  # type: ignore[assignment, method-assign]
        # Bytes that wait, and whether they are too many.
        self._unread = 0
        self._enough = enough(self.limits, self.client, READ)
        self._full = False
        # Chunks came, or the end.
        self._news = False
        self._arrival = Event()
        self._over: Closed | None = None
        self._incoming: Stream | None = None
        # Messages that are sent on, and not whole or not all there yet; whether there are none.
        self._passing: list[Stream] = []
        self._passed = Event()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        if self._inbox:
            return self._taken() if self._full else self._inbox.popleft()
        try:
            return self._next()
        except Closed as closed:
            if closed.code in NORMALLY:
                raise StopIteration from None
            raise

    def recv(self, timeout: float | None = None) -> Message | Any:
        """The next message. Raises Closed, and TimeoutError after `timeout` seconds."""
        if self._inbox:
            return self._taken() if self._full else self._inbox.popleft()
        if timeout is None:
            return self._next()
        with gevent.Timeout(timeout, TimeoutError(f"no message in {timeout:g} seconds")):
            return self._next()

    def close(self, code: int = NORMAL, reason: str = "") -> None:
        """Begin to close, as ever.

        What comes from now on is dropped where the inbox is full: it does not keep the peer's answer away.
        """
        super().close(code, reason)
        if self._full:
            self._refuse()

    def wait_closed(self, timeout: float | None = None) -> bool:
        """Wait until the connection is gone, and drop what comes until then; whether it is."""
        self.dismiss()
        return self.wire.wait_closed(timeout)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.pass_on(self.limits.close_timeout)
        self.close(farewell(kind))
        self.dismiss()
        super().__exit__(kind, error, trace)

    def _next(self) -> Any:
        if self._incoming is not None:
            self._incoming.skip()
        while not self._inbox:
            self.news()
        return self._taken() if self._full else self._inbox.popleft()

    def _taken(self) -> Any:
        """The next message, of too many; after the last reading goes on."""
        message = self._inbox.popleft()
        if not self._inbox and not isinstance(message, Stream):
            self._ease()
        return message

    def _ease(self) -> None:
        self._unread = self._waits() if self._passing else 0
        if self._full and self._unread <= self._enough:
            self._full = False
            self.wire.hold(False)

    def news(self) -> None:
        """Wait until something more has been received. Raises Closed when the connection has ended."""
        if self._over is not None:
            raise Closed(self._over.code, self._over.reason)
        self._ease()
        self._arrival.clear()
        self._arrival.wait()

    def handle(self, handler: "Callable[[Connection], object]") -> None:
        """Run a function on this connection, and close it then: 1011 where it raised."""
        try:
            handler(self)
            self.pass_on()
        except Closed:
            pass
        except Exception as error:
            self.crashed(error)
        self.close()
        self.dismiss()

    def dismiss(self) -> None:
        """Nobody takes messages any more: what comes is dropped, so that the end is seen."""
        self._refuse()
        self._inbox.clear()

    def _refuse(self) -> None:
        """Take what has come, and nothing more; read to the end."""
        self.received_message = ignore  # type: ignore[assignment, method-assign]
        self.received_chunk = ignore  # type: ignore[assignment, method-assign]
        self._cut()
        self._unread = 0
        if self._full:
            self._full = False
            self.wire.hold(False)

    def feed(self, data: Buffer) -> None:
        before = len(self._inbox)
        super().feed(data)
        self._arrived(before)

    def filled(self, count: int) -> None:
        before = len(self._inbox)
        super().filled(count)
        self._arrived(before)

    def received_chunk(self, data: str | bytes, first: bool, final: bool) -> None:
        if first or self._incoming is None:
            self._incoming = Stream(self, isinstance(data, str))
            self._inbox.append(self._incoming)
        self._incoming.add(data, final)
        self._unread += OVERHEAD + len(data)
        self._news = True
        if final:
            self._incoming = None

    def received_other(self, event: Any) -> None:
        if isinstance(event, Close):
            self._cut()
        super().received_other(event)

    def closed(self, code: int, reason: str) -> None:
        self._over = Closed(code, reason)
        self._cut()
        self._passed.set()
        self._arrival.set()

    def _arrived(self, before: int) -> None:
        """Count what came, as it is once decompressed; `before` is how many messages had been waiting."""
        inbox = self._inbox
        if self._news:
            self._news = False
        elif new := len(inbox) - before:
            self._unread += OVERHEAD * new + sum(map(len, islice(reversed(inbox), new)))
        else:
            return
        behind = self._unread + self.queued
        if self._passing:
            behind = self._unread = self._waits()
        if behind > self._enough and not self._full:
            if self.state == OPEN:
                self._full = True
                self.wire.hold(True)
            else:
                self._refuse()
        self._arrival.set()

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
                self._passed.set()
        if self._full:
            self._ease()

    def pass_on(self, timeout: float | None = None) -> None:
        """Wait until all that is sent on has been taken, or the connection is gone."""
        if self._passing and self._over is None:
            self._ease()
            self._passed.clear()
            self._passed.wait(timeout)

    def _waits(self) -> int:
        return waiting(self, self._inbox, self._passing, self._incoming)

    def _cut(self) -> None:
        """What has come of a message is all that comes of it."""
        if self._incoming is not None:
            self._incoming.cut()
            self._incoming.tell()


class Handled(Connection):
    """A connection that a function takes care of, in a greenlet; it is closed when the function returns."""

    def __init__(self, handler: Callable[[Connection], object], **arguments: Any) -> None:
        super().__init__(**arguments)
        self._handler = handler

    def opened(self) -> None:
        gevent.spawn(self.handle, self._handler)
