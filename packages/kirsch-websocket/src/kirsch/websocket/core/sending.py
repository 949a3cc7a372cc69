"""Sending half of a connection after its handshake: messages in, bytes out; and closing.

No I/O and no clock. This is the reference; `kirsch.websocket.compiled.sending` does the same in Cython.
"""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from enum import IntEnum
from threading import get_ident
from typing import TYPE_CHECKING, Any, Final

from kirsch.websocket.core.errors import Closed, ProtocolError, Slow
from kirsch.websocket.core.frame import (
    ABNORMAL,
    BINARY,
    CLOSE,
    FIN,
    INTERNAL,
    NORMAL,
    PING,
    PONG,
    RSV1,
    TEXT,
    Buffer,
    Keys,
    header,
    mask,
)
from kirsch.websocket.core.limits import Limits
from kirsch.websocket.core.message import Close, Event, Ping, Prepared, check_close, frozen, of_type
from kirsch.websocket.core.source import Incoming, Relay, Source

if TYPE_CHECKING:
    from kirsch.websocket.core.deflate import Codec


class State(IntEnum):
    """State of a connection: `ws.state == State.OPEN`."""

    OPEN = 1
    CLOSING = 2
    CLOSED = 3


OPEN: Final = State.OPEN
CLOSING: Final = State.CLOSING
CLOSED: Final = State.CLOSED

# Bytes that are returned at a time; no more are gathered before.
BATCH: Final = 256 << 10
# From this size on a payload is returned as it is, not copied.
APART: Final = 32 << 10
# The largest header with its key, which is counted for each message that waits.
HEADER: Final = 14
# The guard of connections that have none.
FREE: Final = nullcontext()


class Sending:
    """Sending half of a Protocol: `take()` the bytes to write while `pending`.

    `wake()` is called once when there is something to take, until it is taken; not while `corked`, where the
    caller that corked checks `pending` afterwards.

    Attributes:
        state: OPEN, CLOSING (a close frame has been sent or received) or CLOSED.
        error: the peer's violation of the protocol, after which nothing is read.
        close_sent, close_received: the close frames.
        corked: True while messages are gathered.
        guard: a lock, where several threads send; only one thread takes.
        thread: the ident of the only thread that may send; 0 for any.
        room: what `send` returns: an awaitable that waits for room in the queue, where the provider has one.
    """

    def __init__(
        self,
        *,
        client: bool,
        limits: Limits,
        codec: "Codec | None",
        entropy: Callable[[int], bytes],
    ) -> None:
        self.client = client
        self.limits = limits
        self.state: int = OPEN
        self.error: ProtocolError | None = None
        self.close_sent: Close | None = None
        self.close_received: Close | None = None
        self.corked = False
        self.guard: AbstractContextManager[object] | None = None
        self.thread = 0
        self.room: Any = None
        self.__codec = codec
        self.__keys = Keys(entropy)
        self.__out: list[bytes | memoryview] = []
        self.__size = 0
        # Size of the largest payload in it, of those from APART on.
        self.__largest = 0
        self.__notified = False
        # True once the close frame was taken.
        self.__close_taken = False
        # A message that is sent from an iterator; True if it may have a fragment; and what waits behind it.
        self.__source: Source | None = None
        self.__ready = False
        self.__behind: deque[tuple[int, bytes | memoryview] | Source] = deque()
        self.__waiting = 0

    def answer(self, event: Event) -> None:
        """Answer a Ping with a Pong, a Close with a Close (RFC 6455, 5.5.1 and 5.5.2)."""
        with self.guard or FREE:
            if isinstance(event, Ping):
                # A peer that pings and does not read gets no answers beyond the limit.
                if self.state == OPEN and self.__size <= self.limits.queue:
                    self.__write(FIN | PONG, event.data)
            elif isinstance(event, Close):
                self.close_received = event
                if self.close_sent is None and self.state != CLOSED:
                    self.__close(event)
        self.__notify()

    @property
    def pending(self) -> bool:
        """True if `take()` would return anything."""
        return bool(self.__out) or self.__ready

    @property
    def under_way(self) -> bool:
        """True while a message from an iterator is sent whose end was not read yet."""
        return self.__source is not None

    @property
    def queued(self) -> int:
        """Bytes that wait to be taken."""
        return self.__size + self.__waiting

    def send(
        self, data: str | Buffer | Iterator[str] | Iterator[bytes] | Incoming, text: bool | None = None
    ) -> Any:
        """Queue a message: `str` is text, bytes are binary; an iterator's items, or a file, are one message.

        A message that is received in chunks is sent on as they come.

        Never blocks. On asyncio and Tornado it may be awaited, which waits while the peer reads slowly.

        Args:
            data: the message.
            text: True sends bytes as text, False `str` as a binary message; None decides by the type.

        Raises:
            Closed: the connection is closing or closed.
            Slow: more than `limits.queue` bytes wait besides the largest message; nothing was queued.
            TypeError: the argument is no message.
            ValueError: bytes to be sent as text are not UTF-8.
            RuntimeError: on asyncio, Tornado and gevent, in another thread than the connection's.
        """
        if text is not None:
            data = of_type(data, text)
        if not isinstance(data, str | bytes | bytearray | memoryview):
            self.__stream(data)
        elif self.guard is None:
            self.__send(data)
        else:
            with self.guard:
                self.__send(data)
        self.__notify()
        return self.room

    def ping(self, data: bytes = b"") -> None:
        """Send a ping; the peer's Pong carries `data` back, 125 bytes at most.

        Raises Closed, ValueError, and RuntimeError as `send` does.
        """
        if len(data) > 125:
            raise ValueError("a ping carries 125 bytes at most")
        with self.guard or FREE:
            self.__require_open()
            self.__write(FIN | PING, data)
        self.__notify()

    def close(self, code: int = NORMAL, reason: str = "") -> None:
        """Begin to close; queued messages are sent first. Does nothing if closing has begun.

        Raises ValueError for a code that may not be sent or a reason over 123 bytes (RFC 6455, 5.5), and
        RuntimeError as `send` does.
        """
        self.__require_thread()
        check_close(code, reason)
        with self.guard or FREE:
            if self.close_sent is None and self.state != CLOSED:
                self.__close(Close(code, reason))
        self.__notify()

    def fail(self, error: ProtocolError) -> None:
        """Close because of an error: drop queued messages, and read nothing more."""
        # Its traceback would keep the frames it was raised in alive, and with them this object.
        error.__traceback__ = error.__context__ = None
        with self.guard or FREE:
            self.error = error
            self.__drop()
            # A close frame that was not taken yet was dropped.
            if not self.__close_taken and self.state != CLOSED:
                self.__close(Close(error.code, error.reason))
        self.__notify()

    def discard(self) -> None:
        """Drop all messages that wait to be taken."""
        with self.guard or FREE:
            self.__drop()

    def end(self) -> None:
        """Drop everything, since the connection is gone."""
        with self.guard or FREE:
            self.state = CLOSED
            self.__drop()
            self.__codec = None

    def take(self) -> list[bytes | memoryview]:
        """Return the bytes to write now, in order: about BATCH, more if a message is larger."""
        self.__notified = False
        while True:
            with self.guard or FREE:
                source = self.__source
                if source is None or not self.__ready or self.__size >= BATCH:
                    self.__close_taken = source is None and self.close_sent is not None
                    taken, self.__out, self.__size, self.__largest = self.__out, [], 0, 0
                    return _joined(taken)
                # Cleared first, since `resume()` may be called meanwhile.
                self.__ready = False
            self.__pull(source)

    def resume(self) -> None:
        """Go on with a message that is sent on: more of it has come."""
        with self.guard or FREE:
            self.__ready = self.__source is not None
        self.__notify()

    def wake(self) -> None:
        """Have `take()` called. For subclasses."""

    def __require_thread(self) -> None:
        if self.thread and self.thread != get_ident():
            raise _wrong_thread()

    def __require_open(self) -> None:
        self.__require_thread()
        if self.state != OPEN:
            close = self.close_received or self.close_sent or Close(ABNORMAL, "")
            raise Closed(close.code, close.reason)

    def __send(self, data: str | Buffer) -> None:
        self.__require_open()
        payload: bytes | memoryview
        if isinstance(data, str):
            opcode, payload = TEXT, data.encode()
        elif isinstance(data, Prepared):
            opcode, payload = data.opcode, data
        else:
            opcode, payload = BINARY, data if type(data) is bytes else frozen(data)
        self.__require_room()
        if self.__source is None:
            self.__message(opcode, payload)
        else:
            self.__wait((opcode, payload), len(payload))

    def __require_room(self) -> None:
        # The largest message that waits may be of any size, and so may the new one.
        if self.queued - self.__largest > self.limits.queue:
            raise Slow(self.queued, self.limits.queue)

    def __message(self, opcode: int, payload: bytes | memoryview) -> None:
        if self.__codec is None or len(payload) < self.__codec.minimum:
            self.__write(FIN | opcode, payload)
        elif isinstance(payload, Prepared):
            self.__write(FIN | RSV1 | opcode, payload.compressed(self.__codec))
        else:
            self.__write(FIN | RSV1 | opcode, self.__codec.compress(payload))

    def __stream(self, data: object) -> None:
        with self.guard or FREE:
            self.__require_open()
            self.__require_room()
        # No lock is held while the application's iterator runs.
        source = Relay(data, self) if isinstance(data, Incoming) else Source(data)
        with self.guard or FREE:
            if self.state != OPEN:
                source.drop()
                self.__require_open()
            if self.__source is None:
                self.__source, self.__ready = source, True
            else:
                self.__wait(source, source.size)

    def __wait(self, item: tuple[int, bytes | memoryview] | Source, size: int) -> None:
        self.__behind.append(item)
        self.__waiting += size + HEADER

    def __close(self, close: Close) -> None:
        self.close_sent = close
        self.state = CLOSING
        if self.__source is None:
            self.__write(FIN | CLOSE, close.payload)
        else:
            self.__wait((CLOSE, close.payload), len(close.payload))

    def __drop(self) -> None:
        if self.__source is not None:
            self.__source.drop()
        for item in self.__behind:
            if isinstance(item, Source):
                item.drop()
        self.__out.clear()
        self.__behind.clear()
        self.__source = None
        self.__size = self.__largest = self.__waiting = 0
        self.__notified = self.__ready = False

    def __write(self, first: int, payload: bytes | memoryview) -> None:
        size = len(payload)
        head = header(first, size, self.client)
        if self.client:
            key = self.__keys.take()
            head += key
            payload = mask(payload, key)
        if size < APART:
            self.__out.append(head + payload)
        else:
            self.__out += head, payload
            self.__largest = max(self.__largest, size)
        self.__size += len(head) + size

    def __notify(self) -> None:
        if (not self.corked or self.__size >= BATCH) and not self.__notified and self.pending:
            self.__notified = True
            self.wake()

    def __pull(self, source: Source) -> None:
        """Queue the next fragment of a message from an iterator, and after the last what waits behind it."""
        try:
            fragment = source.fragment()
        except Closed:
            # The connection that the message came from failed or ended.
            self.fail(ProtocolError(INTERNAL, "a message that was sent on did not come to its end"))
            return
        except Exception as cause:
            error = ProtocolError(INTERNAL, "a message could not be read to its end")
            error.__cause__ = cause
            self.fail(error)
            return
        if fragment is None:
            # The next fragment has not come yet.
            return
        first, payload = fragment
        with self.guard or FREE:
            if self.__source is not source:
                # The message was dropped meanwhile.
                return
            last = bool(first & FIN)
            if self.__codec is not None:
                payload = self.__codec.compress(payload, last)
                if first & 0x0F:
                    first |= RSV1
            self.__write(first, payload)
            self.__ready = not last
            if last:
                self.__source = None
                self.__follow()

    def __follow(self) -> None:
        """Queue the messages that waited behind one from an iterator, up to the next of that kind."""
        while self.__behind and self.__source is None:
            item = self.__behind.popleft()
            if isinstance(item, Source):
                self.__source, self.__ready = item, True
                self.__waiting -= item.size + HEADER
                continue
            opcode, payload = item
            self.__waiting -= len(payload) + HEADER
            if opcode == CLOSE:
                self.__write(FIN | CLOSE, payload)
            else:
                self.__message(opcode, payload)


def _wrong_thread() -> RuntimeError:
    return RuntimeError(
        "this connection belongs to another thread: have that one send, by "
        "loop.call_soon_threadsafe(ws.send, message) on asyncio, hub.loop.run_callback_threadsafe on gevent"
    )


def _joined(pieces: list[bytes | memoryview]) -> list[bytes | memoryview]:
    """Join small pieces, and leave large ones as they are."""
    if len(pieces) < 2:
        return pieces
    joined: list[bytes | memoryview] = []
    small: list[bytes | memoryview] = []
    for piece in pieces:
        if len(piece) < APART:
            small.append(piece)
            continue
        joined += (b"".join(small), piece) if small else (piece,)
        small = []
    return [*joined, b"".join(small)] if small else joined
