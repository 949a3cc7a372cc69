"""What an application writes: one class for every provider, with the names of ws4py."""

import logging
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from typing import Protocol as Interface

from kirsch.websocket.errors import Closed, ProtocolError
from kirsch.websocket.frame import ABNORMAL, GOING_AWAY, INTERNAL, NORMAL
from kirsch.websocket.message import Chunk, Close, Event, Message, Ping, Pong
from kirsch.websocket.protocol import CLOSED, CLOSING
from kirsch.websocket.speedups import Protocol

if TYPE_CHECKING:
    from kirsch.websocket.handshake import Request

log = logging.getLogger("kirsch.websocket")


class Wire(Interface):
    """What a provider is to a WebSocket: it writes when it is woken."""

    def wake(self) -> None:
        """`take()` has something. Called by whoever sends, in any thread where the provider has threads."""

    def abort(self) -> None:
        """End the connection at once."""

    def drain(self, timeout: float | None) -> Any:
        """Wait until what is queued is low: blocking, or an awaitable, as the provider is."""

    def wait_closed(self, timeout: float | None) -> Any:
        """Wait until the connection is gone; whether it is, in time. Blocking, or an awaitable."""

    @property
    def buffered(self) -> int:
        """Bytes taken and not yet given to the system."""


class WebSocket(Protocol):
    """One connection, from its handshake on: extend it, and give the class to a provider.

    `opened`, `received_message`, `ponged` and `closed` are called one after another, never two at once.
    `send` never blocks. An exception in one of them is logged, and closes the connection with 1011; Closed
    is none: it only says that what was sent has nowhere to go.

    Attributes:
        streaming: take messages as they come, by `received_chunk`, and hold none.
        request: what the client asked for, on a server.
        subprotocol: what was agreed on, or None.
        peer: the other side's address, for logs.
    """

    streaming = False
    request: "Request | None" = None
    subprotocol: str | None = None
    peer: str = "?"
    # Each provider's own.
    wire: Any

    # For those who extend it.

    def opened(self) -> None:
        """The handshake is done."""

    def received_message(self, message: Message) -> None:
        """A message: text is `str`; binary is `bytes`, from 64 KiB on a read-only memoryview."""

    def received_chunk(self, data: str | bytes, first: bool, final: bool) -> None:
        """A part of a message, if `streaming`."""

    def ponged(self, data: bytes) -> None:
        """The peer's answer to a ping, with what the ping carried."""

    def closed(self, code: int, reason: str) -> None:
        """The connection has ended, once: 1006 if nobody said why (RFC 6455, 7.1.5)."""

    # For those who use it; `send`, `ping` and `close` are Protocol's.

    @property
    def buffered(self) -> int:
        """Bytes that wait to be sent, here and in the provider's hands."""
        taken: int = self.wire.buffered
        return self.queued + taken

    def drain(self, timeout: float | None = None) -> Any:
        """Wait until a quarter of `limits.queue` waits at most: an awaitable with asyncio and Tornado.

        It blocks elsewhere. Raises Closed, and TimeoutError after `timeout` seconds.
        """
        return self.wire.drain(timeout)

    def wait_closed(self, timeout: float | None = None) -> Any:
        """Wait until the connection is gone, for `timeout` seconds at most; whether it is.

        An awaitable with asyncio and Tornado; it blocks elsewhere, so it is nothing for its own callbacks.
        """
        return self.wire.wait_closed(timeout)

    def __enter__(self) -> Self:
        """With threads and on gevent `with` closes the connection at its end, and waits for that."""
        if not hasattr(self.wire, "farewell"):
            raise TypeError("on a loop it is `async with connect(...)`")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.wire.farewell(farewell(kind))

    # For providers.

    __since: float | None = None
    __pinged: float | None = None
    __closing: float | None = None

    def start(self, wire: Wire) -> None:
        """The connection is there."""
        self.wire = wire
        self.corked = True
        try:
            self.opened()
        except Closed:
            pass
        except Exception as error:
            self.crashed(error)
        finally:
            self.corked = False

    def ended(self) -> None:
        """The connection is gone: the application is told, once."""
        if self.state == CLOSED:
            return
        if self.close_received is not None:
            close = self.close_received
        elif self.error is not None:
            close = Close(self.error.code, self.error.reason)
        else:
            close = Close(ABNORMAL, "")
        self.end()
        try:
            self.closed(close.code, close.reason)
        except Closed:
            pass
        except Exception as error:
            self.crashed(error)

    @property
    def finished(self) -> bool:
        """Whether the connection is to end once all is written.

        After an error the peer may still be sending: end the writing side first, and the connection when the
        peer ends its own, lest what was written is lost.
        """
        if self.error is not None:
            return True
        return (
            not self.client
            and self.close_sent is not None
            and self.close_received is not None
            and not self.under_way
        )

    def tick(self, now: float) -> None:
        """Time has passed: ping who is silent, give up who stays so. `now` is any clock's, in seconds."""
        limits = self.limits
        if self.state == CLOSED:
            return
        if self.state == CLOSING:
            if self.__closing is None:
                self.__closing = now
            elif now - self.__closing >= limits.close_timeout:
                self.wire.abort()
        elif self.heard or self.__since is None:
            self.heard, self.__since, self.__pinged = False, now, None
        elif self.__pinged is None:
            if limits.ping_interval is not None and now - self.__since >= limits.ping_interval:
                self.__pinged = now
                try:
                    self.ping()
                except Closed:
                    # Another thread began to close just now.
                    pass
        elif limits.ping_timeout is not None and now - self.__pinged >= limits.ping_timeout:
            log.info("%s: no sign of life in %g s", self.peer, now - self.__since)
            self.wire.abort()

    # How.

    def wake(self) -> None:
        self.wire.wake()

    def fail(self, error: ProtocolError) -> None:
        cause = error.__cause__
        log.warning("%s: %s", self.peer, error, exc_info=cause if isinstance(cause, Exception) else None)
        # It has been told of, and its traceback would keep all that was at work then, with this.
        error.__cause__ = None
        super().fail(error)

    def crashed(self, error: Exception) -> None:
        failure = ProtocolError(INTERNAL, "the application failed")
        failure.__cause__ = error
        if self.error is None and self.state != CLOSED:
            self.fail(failure)
        else:
            log.error("%s: %s", self.peer, failure, exc_info=error)

    def received_other(self, event: Event) -> None:
        if isinstance(event, Chunk):
            self.received_chunk(event.data, event.first, event.final)
        elif isinstance(event, Pong):
            self.ponged(event.data)
        elif isinstance(event, Ping | Close):
            self.answer(event)


def farewell(raised: type[BaseException] | None) -> int:
    """The code with which `with` closes a connection, if its body raised this."""
    if raised is None or issubclass(raised, Closed):
        return NORMAL
    return INTERNAL if issubclass(raised, Exception) else GOING_AWAY
