"""A connection to iterate over with `for`, in a greenlet."""

from collections import deque
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self

import gevent
from gevent.event import Event

from kirsch.websocket.application import WebSocket
from kirsch.websocket.errors import Closed, ProtocolError
from kirsch.websocket.frame import GOING_AWAY, INTERNAL, NORMAL, Buffer
from kirsch.websocket.gevent_wire import Wire
from kirsch.websocket.message import Message


class Stream:
    """A message that is taken in chunks: `for chunk in message`; `text` says of which kind they are."""

    def __init__(self, connection: "Connection", text: bool) -> None:
        self.text = text
        self._connection = connection
        self._chunks: deque[str | bytes] = deque()
        self._whole = False
        self._readers = 0

    def __iter__(self) -> Iterator[Any]:
        self._readers += 1
        try:
            while True:
                if self._chunks:
                    yield self._chunks.popleft()
                elif self._whole:
                    return
                else:
                    self._connection.news()
        finally:
            self._readers -= 1

    def add(self, data: str | bytes, final: bool) -> None:
        self._whole = final
        if data:
            self._chunks.append(data)

    def skip(self) -> None:
        """Nobody wants the rest, unless it is being read: sent on, perhaps."""
        if not self._readers:
            self._chunks = deque(maxlen=0)


class Connection(WebSocket):
    """A WebSocket whose messages wait until they are taken: `for message in ws`, or `ws.recv()`.

    The iteration ends when the connection is closed with 1000 or 1001, and raises Closed where it ends
    otherwise. Where messages are streamed, each is a Stream. A client's is a context manager that closes it.
    """

    wire: Wire

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._inbox: deque[Any] = deque()
        # Messages go where they wait without a call of ours.
        self.received_message = self._inbox.append  # type: ignore[assignment, method-assign]
        self._unread = 0
        # Chunks came, or the end.
        self._news = False
        self._arrival = Event()
        self._over: Closed | None = None
        self._incoming: Stream | None = None

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        if self._inbox:
            return self._inbox.popleft()
        try:
            return self._next()
        except Closed as closed:
            if closed.code in (NORMAL, GOING_AWAY):
                raise StopIteration from None
            raise

    def recv(self, timeout: float | None = None) -> Message | Any:
        """The next message. Raises Closed, and TimeoutError after `timeout` seconds."""
        if self._inbox:
            return self._inbox.popleft()
        if timeout is None:
            return self._next()
        with gevent.Timeout(timeout, TimeoutError(f"no message in {timeout:g} seconds")):
            return self._next()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.wire.leave()

    def _next(self) -> Any:
        if self._incoming is not None:
            self._incoming.skip()
        while not self._inbox:
            self.news()
        return self._inbox.popleft()

    def news(self) -> None:
        """Wait until something more has been received. Raises Closed when the connection has ended."""
        if self._over is not None:
            raise Closed(self._over.code, self._over.reason)
        self._unread = 0
        self.wire.hold(False)
        self._arrival.clear()
        self._arrival.wait()

    def handle(self, handler: "Callable[[Connection], object]") -> None:
        """Run a function on this connection, and close it then: 1011 where it raised."""
        try:
            handler(self)
        except Closed:
            pass
        except Exception as cause:
            if self.error is None:
                error = ProtocolError(INTERNAL, "the application failed")
                error.__cause__ = cause
                self.fail(error)
        self.close()

    def feed(self, data: Buffer) -> None:
        super().feed(data)
        self._arrived(len(data))

    def filled(self, count: int) -> None:
        super().filled(count)
        self._arrived(count)

    def received_chunk(self, data: str | bytes, first: bool, final: bool) -> None:
        if first or self._incoming is None:
            self._incoming = Stream(self, isinstance(data, str))
            self._inbox.append(self._incoming)
        self._incoming.add(data, final)
        self._news = True
        if final:
            self._incoming = None

    def closed(self, code: int, reason: str) -> None:
        self._over = Closed(code, reason)
        self._news = True
        self._arrived(0)

    def _arrived(self, count: int) -> None:
        if self._inbox or self._news:
            self._news = False
            self._unread += count
            if self._unread > self.limits.inbox:
                self.wire.hold(True)
            self._arrival.set()


class Handled(Connection):
    """A connection that a function takes care of, in a greenlet; it is closed when the function returns."""

    def __init__(self, handler: Callable[[Connection], object], **arguments: Any) -> None:
        super().__init__(**arguments)
        self._handler = handler

    def opened(self) -> None:
        gevent.spawn(self.handle, self._handler)
