"""WebSocket: the class that applications extend, the same for every provider, with the names of ws4py."""

import logging
from collections.abc import Callable, Mapping
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, Self
from typing import Protocol as Interface

from kirsch.websocket.core.errors import Closed, ProtocolError
from kirsch.websocket.core.frame import ABNORMAL, GOING_AWAY, INTERNAL, NORMAL
from kirsch.websocket.core.message import Chunk, Close, Event, Message, Ping, Pong
from kirsch.websocket.core.protocol import CLOSED, CLOSING, OPEN
from kirsch.websocket.core.speedups import Protocol

if TYPE_CHECKING:
    from kirsch.websocket.core.headers import Request, Response

log = logging.getLogger("kirsch.websocket")


class Wire(Interface):
    """Provider's side of a connection, as its WebSocket sees it."""

    def wake(self) -> None:
        """Write what `take()` gives. Called by the sender, in any thread if the provider has threads."""

    def abort(self) -> None:
        """End the connection without waiting for the peer."""

    def drain(self, timeout: float | None) -> Any:
        """Wait until little is queued: blocking, or an awaitable, as the provider is."""

    def wait_closed(self, timeout: float | None) -> Any:
        """Wait until the connection is gone and return True, or False after `timeout` seconds.

        Blocking, or an awaitable, as the provider is.
        """

    @property
    def buffered(self) -> int:
        """Bytes taken from the WebSocket and not yet given to the system."""


class WebSocket(Protocol):
    """One connection after its handshake: extend this class, and give your class to a provider.

    `opened`, `received_message`, `ponged` and `closed` are called one after another, never two at once.
    `send` never blocks. An exception in a callback is logged, and closes the connection with 1011; Closed is
    ignored, since it only tells that the peer does not get a message.

    Attributes:
        streaming: True to get messages in chunks, by `received_chunk`.
        views: True to get binary messages as read-only memoryviews; those in fragments are copied once less.
        request: on a server, the handshake's request.
        response: on a client, the handshake's response.
        path_params: on a server, the parts of the path that a route such as "/rooms/{room}" names.
        latency: the seconds that the last ping took which this library sent by itself or by `round_trip`.
        subprotocol: the agreed subprotocol, or None.
        peer: the peer's address, for logs.
        unsent: the bytes that waited to be sent when a peer that did not read them was given up.
    """

    streaming = False
    request: "Request | None" = None
    response: "Response | None" = None
    path_params: Mapping[str, str] = MappingProxyType({})
    latency: float | None = None
    subprotocol: str | None = None
    peer: str = "?"
    unsent: int = 0
    # Set by the provider.
    wire: Any

    # For subclasses.

    def opened(self) -> None:
        """Start: the handshake is done."""

    def received_message(self, message: Message) -> None:
        """Process a message: text is `str`; binary is `bytes`, or a read-only memoryview if `views`."""

    def received_chunk(self, data: str | bytes, first: bool, final: bool) -> None:
        """Process a part of a message, if `streaming`."""

    def ponged(self, data: bytes) -> None:
        """Process the peer's answer to a ping; `data` is that of the ping."""

    def closed(self, code: int, reason: str) -> None:
        """Clean up after the end, called once; `code` is 1006 without a close frame (RFC 6455, 7.1.5)."""

    # For users; `send`, `ping` and `close` are Protocol's.

    @property
    def buffered(self) -> int:
        """Bytes that wait to be sent, in this object and in the provider."""
        taken: int = self.wire.buffered
        return self.queued + taken

    def drain(self, timeout: float | None = None) -> Any:
        """Wait until at most a quarter of `limits.queue` waits: an awaitable with asyncio and Tornado.

        Blocks with other providers. Raises Closed, and TimeoutError after `timeout` seconds.
        """
        return self.wire.drain(timeout)

    def round_trip(self, timeout: float | None = None) -> Any:
        """Ping the peer, and return the seconds until its pong: an awaitable with asyncio and Tornado.

        Blocks with other providers, so do not call it in a callback. Raises Closed, and TimeoutError after
        `timeout` seconds.
        """
        return self.wire.round_trip(timeout)

    def wait_closed(self, timeout: float | None = None) -> Any:
        """Wait until the connection is gone and return True, or False after `timeout` seconds.

        An awaitable with asyncio and Tornado. Blocks with other providers, so do not call it in a callback.
        """
        return self.wire.wait_closed(timeout)

    def __enter__(self) -> Self:
        """Begin a `with` block, at whose end the connection is closed: with threads and on gevent."""
        if not hasattr(self.wire, "close_and_wait"):
            raise TypeError("on a loop it is `async with connect(...)`")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.wire.close_and_wait(close_code(kind))
        if kind is None:
            self.require_all_sent()

    def require_all_sent(self) -> None:
        """Raise Closed if the peer was given up before it had read everything."""
        if self.unsent:
            raise Closed(ABNORMAL, f"{self.unsent} bytes were not sent")

    # For providers.

    __since: float | None = None
    __pinged: float | None = None
    __closing: float | None = None
    # Pings that wait for their pong, by their data: when they were sent, and what is called then.
    __pings: dict[bytes, tuple[float, Callable[[float], object]]] | None = None
    __number = 0
    # Bytes that waited at the last tick of a connection that is closing.
    __left = 0

    def start(self, wire: Wire) -> None:
        """Begin on a wire, and call `opened`."""
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
        """Note that the connection is gone, and call `closed`, once."""
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
        """True if the connection is to end after its last byte.

        After an error the peer may still be sending: end the writing side first, and the connection when the
        peer ends its own, so that the peer gets what was written.
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
        """Ping a silent peer, and abort where it stays silent. `now` is in seconds, of any clock."""
        limits = self.limits
        if self.state == CLOSED:
            return
        if self.state == CLOSING:
            # Wires may tell what the system has that the peer's has not taken.
            left = self.buffered + getattr(self.wire, "outgoing", 0)
            if self.__closing is None or left != self.__left:
                # The peer still reads what was sent before the close frame.
                self.__closing, self.__left = now, left
            elif now - self.__closing >= limits.close_timeout:
                if self.buffered and not self.unsent:
                    self.unsent, silence = self.buffered, now - self.__closing
                    text = "%s: %d bytes were not sent: the peer has read nothing for %g s"
                    log.warning(text, self.peer, self.unsent, silence)
                self.wire.abort()
        elif self.heard or self.__since is None:
            self.heard, self.__since, self.__pinged = False, now, None
        elif self.__pinged is None:
            if limits.ping_interval is not None and now - self.__since >= limits.ping_interval:
                self.__pinged = now
                try:
                    self.__ping(b"", _ignore)
                except Closed:
                    # Another thread began to close just now.
                    pass
        elif limits.ping_timeout is not None and now - self.__pinged >= limits.ping_timeout:
            log.info("%s: no sign of life in %g s", self.peer, now - self.__since)
            # The end may take longer than until the next tick.
            self.__since, self.__pinged = now, None
            self.unanswered()

    def ping_for(self, ponged: Callable[[float], object]) -> None:
        """Ping the peer, and have `ponged(seconds)` called when it has answered. Raises Closed."""
        self.__number += 1
        self.__ping(b"%d" % self.__number, ponged)

    def __clock(self) -> float:
        """Return the seconds of the wire's clock; 0 where it has none."""
        seconds: float = getattr(self.wire, "clock", float)()
        return seconds

    def __ping(self, data: bytes, ponged: Callable[[float], object]) -> None:
        if self.__pings is None:
            self.__pings = {}
        self.__pings[data] = self.__clock(), ponged
        self.ping(data)

    def __ponged(self, data: bytes) -> None:
        pings = self.__pings
        if pings is None or data not in pings:
            return
        # A peer may answer the last of several pings only (RFC 6455, 5.5.3).
        for each in list(pings):
            at, ponged = pings.pop(each)
            seconds = self.__clock() - at
            ponged(seconds)
            if each == data:
                self.latency = seconds
                break

    def no_pong(self, timeout: float | None) -> Exception:
        """Return the error of `round_trip` without a pong."""
        if self.state == OPEN and timeout is not None:
            return TimeoutError(f"no pong in {timeout:g} s")
        close = self.close_received or self.close_sent or Close(ABNORMAL, "")
        return Closed(close.code, close.reason)

    def unanswered(self) -> None:
        """End the connection, since the peer did not answer a ping in time."""
        self.wire.abort()

    def wake(self) -> None:
        self.wire.wake()

    def fail(self, error: ProtocolError) -> None:
        cause = error.__cause__
        log.warning("%s: %s", self.peer, error, exc_info=cause if isinstance(cause, Exception) else None)
        # It is logged, and its traceback would keep all frames of that time alive, and this connection.
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
            self.__ponged(event.data)
            self.ponged(event.data)
        elif isinstance(event, Ping | Close):
            self.answer(event)


def _ignore(seconds: float) -> None:
    """Take no notice of a pong."""


def close_code(raised: type[BaseException] | None) -> int:
    """Return the code with which `with` closes a connection whose body raised this exception."""
    if raised is None or issubclass(raised, Closed):
        return NORMAL
    return INTERNAL if issubclass(raised, Exception) else GOING_AWAY
