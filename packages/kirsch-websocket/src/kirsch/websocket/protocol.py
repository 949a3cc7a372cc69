"""One side of a connection, after its handshake: bytes in, events out; messages in, bytes to send.

No I/O and no clock. This is the version to read; `kirsch.websocket.compiled.protocol` is the same in Cython.
"""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from kirsch.websocket.errors import Closed, ProtocolError
from kirsch.websocket.frame import Buffer
from kirsch.websocket.limits import Limits
from kirsch.websocket.message import Event, Message
from kirsch.websocket.parser import Parser
from kirsch.websocket.sending import BATCH, CLOSED, CLOSING, OPEN, Sending

if TYPE_CHECKING:
    from kirsch.websocket.deflate import Codec

__all__ = ["BATCH", "CLOSED", "CLOSING", "OPEN", "Protocol"]


class Protocol(Sending):
    """The state of one side.

    `receive()` what the peer sends and `answer()` each Ping and Close among the events, in their order, after
    what came before them. What is to be sent is taken by `take()` while `pending`: see Sending.

    Attributes:
        heard: something came since this was last set to False.
    """

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
        self.__parser = Parser(client=client, limits=limits, codec=codec, stream=stream)

    def receive(self, data: Buffer) -> list[Event]:
        """The events that `data` completes; what breaks the protocol sets `error` and fails it."""
        if self.error is None and self.state != CLOSED:
            try:
                self.__parser.feed(data)
            except ProtocolError as error:
                self.fail(error)
        return self.__events()

    def get_buffer(self) -> memoryview | None:
        """Where the rest of a large payload is best read to, if one is on its way: then `advance()`."""
        return None if self.error is not None else self.__parser.get_buffer()

    def advance(self, count: int) -> list[Event]:
        """As `receive()`: so many bytes were read to the start of `get_buffer()`."""
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
        """As `receive()`, but what extends this class is told of each event by a call of `received_…`."""
        self.heard = True
        self.__dispatch(self.receive(data))
        self.arrived(len(data))

    def filled(self, count: int) -> None:
        """As `advance()`, but what extends this class is told of each event by a call of `received_…`."""
        self.heard = True
        self.__dispatch(self.advance(count))
        self.arrived(count)

    def received_message(self, message: Message) -> None:
        """A message came. For those who extend this class."""

    def received_other(self, event: Event) -> None:
        """Something else came: a chunk, or a control frame to answer. For those who extend this class."""

    def arrived(self, count: int) -> None:
        """So many bytes came, and all they brought has been told. For those who extend this class."""

    def crashed(self, error: Exception) -> None:
        """`received_…` raised this. For those who extend this class."""
        raise error

    def __dispatch(self, events: list[Event]) -> None:
        # Replies to what came together go together.
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
                    # It sent on a connection that is closing: what is left it is told of all the same.
                    continue
                break
        except Exception as error:
            self.crashed(error)
        finally:
            self.corked = False

    def end(self) -> None:
        """Nothing comes or goes any more: drop all that waits, and what has come of a message."""
        super().end()
        self.__parser.close()
