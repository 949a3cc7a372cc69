"""One side of a connection after its handshake: bytes in, events out; messages in, bytes out.

No I/O and no clock. This is the reference; `kirsch.websocket.compiled.protocol` does the same in Cython.
"""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from kirsch.websocket.core.errors import Closed, ProtocolError
from kirsch.websocket.core.frame import Buffer
from kirsch.websocket.core.limits import Limits
from kirsch.websocket.core.message import Event, Message
from kirsch.websocket.core.parser import Parser
from kirsch.websocket.core.sending import BATCH, CLOSED, CLOSING, OPEN, Sending

if TYPE_CHECKING:
    from kirsch.websocket.core.deflate import Codec

__all__ = ["BATCH", "CLOSED", "CLOSING", "OPEN", "Protocol"]


class Protocol(Sending):
    """State of one side of a connection.

    `receive()` the peer's bytes, and `answer()` each Ping and Close among the events, in their order.
    `take()` the bytes to write while `pending`; see Sending.

    Attributes:
        heard: True if bytes came since it was set to False.
        views: True to get binary messages as read-only memoryviews. For subclasses.
    """

    views = False

    def __init__(
        self,
        *,
        client: bool = False,
        limits: Limits = Limits(),  # noqa: B008 - it is frozen
        codec: "Codec | None" = None,
        stream: bool = False,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        super().__init__(client=client, limits=limits, codec=codec, entropy=entropy)
        self.heard = True
        self.__parser = Parser(client=client, limits=limits, codec=codec, stream=stream, views=self.views)

    def receive(self, data: Buffer) -> list[Event]:
        """Return the events that `data` completes; a violation of the protocol sets `error` and closes."""
        if self.error is None and self.state != CLOSED:
            try:
                self.__parser.feed(data)
            except ProtocolError as error:
                self.fail(error)
        return self.__events()

    def get_buffer(self) -> memoryview | None:
        """Return a buffer to read the rest of a large payload into, or None; then call `advance()`."""
        return None if self.error is not None else self.__parser.get_buffer()

    def advance(self, count: int) -> list[Event]:
        """Return events as `receive()` does, after `count` bytes were read into `get_buffer()`."""
        if self.error is None and self.state != CLOSED:
            try:
                self.__parser.advance(count)
            except ProtocolError as error:
                self.fail(error)
        return self.__events()

    def __events(self) -> list[Event]:
        events = self.__parser.events[:]
        self.__parser.events.clear()
        return events

    def feed(self, data: Buffer) -> None:
        """Receive bytes, and call `received_message` or `received_other` for each event."""
        self.heard = True
        self.__dispatch(self.receive(data))
        self.arrived(len(data))

    def filled(self, count: int) -> None:
        """Process bytes in `get_buffer()`, and call `received_message` or `received_other` for each event."""
        self.heard = True
        self.__dispatch(self.advance(count))
        self.arrived(count)

    def received_message(self, message: Message) -> None:
        """Process a message. For subclasses."""

    def received_other(self, event: Event) -> None:
        """Process another event: a chunk, or a control frame to answer. For subclasses."""

    def arrived(self, count: int) -> None:
        """Act on `count` bytes that came, after all their events. For subclasses."""

    def crashed(self, error: Exception) -> None:
        """Handle an exception of a callback. For subclasses."""
        raise error

    def __dispatch(self, events: list[Event]) -> None:
        # Replies to messages that came together are written together.
        if len(events) > 1:
            self.corked = True
        received = self.received_message
        left = iter(events)
        try:
            while True:
                try:
                    for event in left:
                        kind = type(event)
                        if kind is str or kind is bytes or kind is memoryview:
                            received(event)  # type: ignore[arg-type]
                        else:
                            self.received_other(event)
                except Closed:
                    # The application sent on a closing connection; it gets the remaining events all the same.
                    continue
                break
        except Exception as error:
            self.crashed(error)
        finally:
            self.corked = False

    def end(self) -> None:
        """Drop everything, since the connection is gone."""
        super().end()
        self.__parser.close()
