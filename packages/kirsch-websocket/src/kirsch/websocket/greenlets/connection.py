"""Connection to iterate over with `for`, in a greenlet."""

from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self

import gevent
from gevent.event import Event

from kirsch.websocket.core.errors import Closed
from kirsch.websocket.core.inbox import NORMALLY, Chunks, FilledInbox
from kirsch.websocket.core.message import Message
from kirsch.websocket.greenlets.wire import Wire


class Stream(Chunks):
    """Message that is taken in chunks: `for chunk in message`; `text` tells `str` from `bytes`."""

    # How many iterations are under way.
    _readers = 0

    def __iter__(self) -> Iterator[Any]:
        self._readers += 1
        try:
            while True:
                complete = self.complete()
                if self._chunks:
                    yield self._chunks.popleft()
                elif complete:
                    return
                else:
                    self._connection.more()
        finally:
            self._readers -= 1

    def skip(self) -> None:
        # A message that is being read, by `send(message)` perhaps, is kept.
        if not self._readers:
            super().skip()


class Connection(FilledInbox):
    """WebSocket whose messages wait until they are taken: `for message in ws`, or `ws.recv()`.

    The iteration ends when the connection is closed with 1000, 1001 or no code, and raises Closed for any
    other code. Where messages are streamed, each is a Stream. `with` closes the connection, and waits.
    """

    wire: Wire
    stream_class = Stream

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._wakeup = Event()
        self._all_sent_on = Event()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        if self._inbox:
            return self._inbox.popleft()
        try:
            return self._next()
        except Closed as closed:
            if closed.code in NORMALLY:
                raise StopIteration from None
            raise

    def recv(self, timeout: float | None = None) -> Message | Any:
        """Return the next message. Raises Closed, and TimeoutError after `timeout` seconds."""
        if self._inbox:
            return self._inbox.popleft()
        if timeout is None:
            return self._next()
        with gevent.Timeout(timeout, TimeoutError(f"no message in {timeout:g} seconds")):
            return self._next()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.finish_sending_on(self.limits.close_timeout)
        super().__exit__(kind, error, trace)

    def finish_sending_on(self, timeout: float | None = None) -> None:
        if self._sending_on and self._closed is None:
            self._relax()
            self._all_sent_on.clear()
            self._all_sent_on.wait(timeout)

    def _next(self) -> Any:
        if self._current is not None:
            self._current.skip()
        while not self._inbox:
            self.more()
        return self._inbox.popleft()

    def more(self) -> None:
        """Wait until something more has been received. Raises Closed when the connection has ended."""
        if self._closed is not None:
            raise Closed(self._closed.code, self._closed.reason)
        self._relax()
        self._wakeup.clear()
        self._wakeup.wait()

    def _wake(self) -> None:
        self._wakeup.set()

    def _sent_all_on(self) -> None:
        self._all_sent_on.set()


class Handled(Connection):
    """Connection that a function runs on, in a greenlet; it is closed when the function returns."""

    def __init__(self, handler: Callable[[Connection], object], **arguments: Any) -> None:
        super().__init__(**arguments)
        self._handler = handler

    def opened(self) -> None:
        gevent.spawn(self.handle, self._handler)
