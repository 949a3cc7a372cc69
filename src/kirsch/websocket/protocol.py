"""One side of a connection, after its handshake: bytes in, events out; messages in, bytes to send.

No I/O and no clock. This is the version to read; `kirsch.websocket.compiled.protocol` is the same in Cython.
"""

import os
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Final

from kirsch.websocket.errors import Closed, ProtocolError, Slow
from kirsch.websocket.frame import (
    ABNORMAL,
    BINARY,
    CLOSE,
    FIN,
    INTERNAL,
    NO_CODE,
    NORMAL,
    PING,
    PONG,
    RSV1,
    TEXT,
    Buffer,
    header,
    mask,
    sendable,
)
from kirsch.websocket.limits import Limits
from kirsch.websocket.message import LARGE, Close, Event, Ping
from kirsch.websocket.parser import Parser
from kirsch.websocket.source import Source

if TYPE_CHECKING:
    from kirsch.websocket.deflate import Codec

OPEN: Final = 1
CLOSING: Final = 2
CLOSED: Final = 3

# So much is handed over at a time, and no more is gathered before it is.
BATCH: Final = 64 << 10
KEYS: Final = 4096


class Protocol:
    """The state of one side.

    `receive()` what the peer sends and `answer()` each Ping and Close among the events, in their order, after
    what came before them. What is to be sent is taken by `take()` while `pending`. `wake()` is called when
    there is something to take and nobody has been told, unless `corked`: then whoever corked looks itself.

    Attributes:
        state: OPEN, CLOSING (a close frame has been sent or received) or CLOSED.
        error: what the peer did wrong, after which nothing it sends is read.
        close_sent, close_received: the close frames.
        guard: a lock for those who send from several threads.
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
        self.client = client
        self.limits = limits
        self.state = OPEN
        self.error: ProtocolError | None = None
        self.close_sent: Close | None = None
        self.close_received: Close | None = None
        self.corked = False
        self.guard: AbstractContextManager[object] | None = None
        self._parser = Parser(client=client, limits=limits, codec=codec, stream=stream)
        self._codec = codec
        self._entropy = entropy
        self._keys = b""
        self._out: list[bytes | memoryview] = []
        self._size = 0
        self._told = False
        # A message that is sent from an iterator, and what waits behind it.
        self._source: Source | None = None
        self._behind: deque[tuple[int, bytes | memoryview] | Source] = deque()
        self._waiting = 0

    # What comes in.

    def receive(self, data: Buffer) -> list[Event]:
        """The events that `data` completes; what breaks the protocol sets `error` and fails it."""
        if self.error is None:
            try:
                self._parser.feed(data)
            except ProtocolError as error:
                self.fail(error)
        return self._events()

    def get_buffer(self) -> memoryview | None:
        """Where the rest of a large payload is best read to, if one is on its way: then `advance()`."""
        return None if self.error else self._parser.get_buffer()

    def advance(self, count: int) -> list[Event]:
        """As `receive()`: so many bytes were read to the start of `get_buffer()`."""
        if self.error is None:
            try:
                self._parser.advance(count)
            except ProtocolError as error:
                self.fail(error)
        return self._events()

    def _events(self) -> list[Event]:
        events = self._parser.events[:]
        self._parser.events.clear()
        return events

    def answer(self, event: Event) -> None:
        """Answer a Ping by a Pong, a Close by a Close (RFC 6455, 5.5.1 and 5.5.2)."""
        if isinstance(event, Ping):
            # A peer that asks and does not read gets no answers beyond the limit.
            if self.state == OPEN and self._size <= self.limits.queue:
                self._control(PONG, event.data)
        elif isinstance(event, Close):
            self.close_received = event
            if self.close_sent is None:
                self._close(event)

    # What goes out.

    @property
    def pending(self) -> bool:
        """Whether `take()` would give anything."""
        return bool(self._out) or self._source is not None

    @property
    def queued(self) -> int:
        """Bytes that wait here to be taken."""
        return self._size + self._waiting

    def send(self, data: str | Buffer | Iterator[str] | Iterator[bytes]) -> None:
        """Queue a message: `str` is text, bytes are binary; the items of an iterator, or a file, are one.

        Raises Closed, Slow (nothing was queued; one message may always wait), TypeError.
        """
        if self.guard is None:
            self._send(data)
        else:
            with self.guard:
                self._send(data)
        self._tell()

    def ping(self, data: bytes = b"") -> None:
        """Ask whether the peer is there: its Pong carries `data` back, 125 bytes at most.

        Raises Closed, ValueError.
        """
        self._require_open()
        self._control(PING, data)

    def close(self, code: int = NORMAL, reason: str = "") -> None:
        """Begin to close: what was queued goes first. Nothing happens if that has begun already.

        Raises ValueError for a code that may not be sent or a reason of more than 123 bytes (RFC 6455, 5.5).
        """
        if not sendable(code):
            raise ValueError(f"the close code {code} cannot be sent: 1000, 1001 and 3000 to 4999 can")
        if len(reason.encode()) > 123:
            raise ValueError("a close reason has 123 bytes at most")
        if self.close_sent is None:
            self._close(Close(code, reason))

    def fail(self, error: ProtocolError) -> None:
        """Close because of an error: what was queued is dropped, and nothing more is read."""
        self.error = error
        self.discard()
        if self.close_sent is None:
            self._close(Close(error.code, error.reason))

    def discard(self) -> None:
        """Drop all that waits to be taken."""
        self._out.clear()
        self._behind.clear()
        self._source = None
        self._size = self._waiting = 0

    def take(self) -> list[bytes | memoryview]:
        """What is to be sent now, in this order: about BATCH bytes, more where a message is larger."""
        if self.guard is None:
            return self._take()
        with self.guard:
            return self._take()

    def wake(self) -> None:
        """There is something to take. For those who extend this class."""

    # How.

    def _require_open(self) -> None:
        if self.state != OPEN:
            close = self.close_received or self.close_sent or Close(ABNORMAL, "")
            raise Closed(close.code, close.reason)

    def _send(self, data: object) -> None:
        self._require_open()
        payload: bytes | memoryview
        if isinstance(data, str):
            opcode, payload = TEXT, data.encode()
        elif isinstance(data, bytes):
            opcode, payload = BINARY, data
        elif isinstance(data, bytearray | memoryview):
            opcode, payload = BINARY, _frozen(data)
        else:
            self._stream(data)
            return
        size, queued = len(payload), self.queued
        if queued and queued + size > self.limits.queue:
            raise Slow(queued, self.limits.queue)
        if self._source is None:
            self._message(opcode, payload)
        else:
            self._behind.append((opcode, payload))
            self._waiting += size

    def _message(self, opcode: int, payload: bytes | memoryview) -> None:
        if self._codec is None:
            self._write(FIN | opcode, payload)
        else:
            self._write(FIN | RSV1 | opcode, self._codec.compress(bytes(payload)))

    def _stream(self, data: object) -> None:
        if self.queued > self.limits.queue:
            raise Slow(self.queued, self.limits.queue)
        source = Source(data)
        if self._source is None:
            self._source = source
        else:
            self._behind.append(source)

    def _control(self, opcode: int, payload: bytes) -> None:
        if len(payload) > 125:
            raise ValueError("a ping carries 125 bytes at most")
        self._write(FIN | opcode, payload)
        self._tell()

    def _close(self, close: Close) -> None:
        self.close_sent = close
        self.state = CLOSING
        payload = b"" if close.code == NO_CODE else close.code.to_bytes(2) + _reason(close.reason)
        if self._source is None:
            self._write(FIN | CLOSE, payload)
        else:
            self._behind.append((CLOSE, payload))
        self._tell()

    def _write(self, first: int, payload: bytes | memoryview) -> None:
        size = len(payload)
        head = header(first, size, self.client)
        if self.client:
            key = self._key()
            head += key
            payload = mask(payload, key)
        if size < LARGE:
            self._out.append(head + payload)
        else:
            self._out += head, payload
        self._size += len(head) + size

    def _key(self) -> bytes:
        """A masking key nobody can foresee (RFC 6455, 5.3)."""
        keys = self._keys or self._entropy(KEYS)
        self._keys = keys[4:]
        return keys[:4]

    def _tell(self) -> None:
        if (not self.corked or self._size >= BATCH) and not self._told and self.pending:
            self._told = True
            self.wake()

    def _take(self) -> list[bytes | memoryview]:
        self._told = False
        while self._source is not None and self._size < BATCH:
            self._pull(self._source)
        taken, self._out, self._size = self._out, [], 0
        return _joined(taken)

    def _pull(self, source: Source) -> None:
        """The next fragment of the message from an iterator; after its last what waits behind it."""
        try:
            first, payload = source.fragment()
        except Exception as cause:
            error = ProtocolError(INTERNAL, "a message could not be read to its end")
            error.__cause__ = cause
            self.fail(error)
            return
        if self._codec is not None:
            payload = self._codec.compress(bytes(payload), bool(first & FIN))
            if first & 0x0F:
                first |= RSV1
        self._write(first, payload)
        if first & FIN:
            self._source = None
            while self._behind and self._source is None:
                following = self._behind.popleft()
                if isinstance(following, Source):
                    self._source = following
                elif following[0] == CLOSE:
                    self._write(FIN | CLOSE, following[1])
                else:
                    self._waiting -= len(following[1])
                    self._message(*following)


def _frozen(data: bytearray | memoryview) -> bytes | memoryview:
    """Bytes that stay as they are until they are sent."""
    if isinstance(data, memoryview) and data.readonly and data.contiguous and data.format == "B":
        return data
    return bytes(data)


def _reason(reason: str) -> bytes:
    """As much of a reason as a close frame holds, cut between characters."""
    return reason.encode()[:123].decode(errors="ignore").encode()


def _joined(pieces: list[bytes | memoryview]) -> list[bytes | memoryview]:
    """The same bytes: small ones together, large ones as they are."""
    if len(pieces) < 2:
        return pieces
    joined: list[bytes | memoryview] = []
    small: list[bytes | memoryview] = []
    for piece in pieces:
        if len(piece) < LARGE:
            small.append(piece)
            continue
        joined += (b"".join(small), piece) if small else (piece,)
        small = []
    return [*joined, b"".join(small)] if small else joined
