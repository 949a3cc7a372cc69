"""Bytes to events: a generator that yields how many bytes it needs, and is sent bytes.

The events do not depend on how the bytes are cut. This is the reference of the protocol, made to be read
beside RFC 6455. `kirsch.websocket.compiled.parser` does the same; tests compare the two event by event.
"""

from collections.abc import Generator, Iterable
from io import SEEK_CUR, SEEK_END, BytesIO
from typing import Any, Final, Protocol

from kirsch.websocket.core.errors import ProtocolError
from kirsch.websocket.core.frame import (
    BINARY,
    BROKEN,
    CLOSE,
    FIN,
    MASK,
    NO_CODE,
    PING,
    POLICY,
    PONG,
    RESERVED,
    RSV1,
    TEXT,
    TOO_BIG,
    mask,
    sendable,
)
from kirsch.websocket.core.limits import Limits
from kirsch.websocket.core.message import Chunk, Close, Event, Ping, Pong, Text, decode

# From this many missing bytes on, a payload is read directly into the buffer that it stays in.
DIRECT: Final = 256 << 10
# Bytes of such a payload that are unmasked at a time.
PIECE: Final = 64 << 10
# Compression may lengthen a message by so many bytes, and by 1 in 256.
SPARE: Final = 64

# A part of the generator: yields the number of bytes that it needs, and is sent bytes, or the number of bytes
# that were read into `get_buffer()`.
Steps = Generator[int, Any, Any]


class Decompressor(Protocol):
    """Decompressor of permessage-deflate, as `kirsch.websocket.core.deflate.Codec` is one."""

    def decompress(self, data: bytes, final: bool) -> bytes: ...

    def pieces(self, data: bytes, final: bool) -> Iterable[bytes]: ...


class Parser:
    """Parser of the bytes that a server (`client=True`: we are the client) or a client sends.

    Attributes:
        events: the events so far; the caller takes them out.
        needed: the number of bytes that the parser waits for, though fewer or more may be fed. It is 0 after
            a ProtocolError, a close frame or `close()`, when nothing more is read.
    """

    def __init__(
        self,
        *,
        client: bool = False,
        limits: Limits = Limits(),  # noqa: B008 - it is frozen
        codec: Decompressor | None = None,
        stream: bool = False,
        views: bool = False,
    ) -> None:
        """`codec` decompresses, None for no compression; `stream` gives messages in Chunks.

        `views` gives binary messages as read-only memoryviews, where others get `bytes`.
        """
        self.events: list[Event] = []
        self._masked = not client
        self._limits = limits
        self._codec = codec
        self._stream = stream
        self._views = views
        # Bytes that were fed and not used yet; all are used before the generator waits for more.
        self._fed: bytes | memoryview = b""
        # The buffer for the rest of a large payload, while it is read.
        self._rest: memoryview | None = None
        # Of the current message: its payload so far, and the decoder if it is text.
        self._payload = BytesIO()
        self._text: Text | None = None
        self._begin_message(0, False)
        self._steps = self._parse()
        self.needed: int = next(self._steps)

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Parse bytes. Raises ProtocolError; the events before it are there."""
        if len(data):
            self._resume(memoryview(data))

    def get_buffer(self) -> memoryview | None:
        """Return a buffer to read the rest of a large payload into, or None; then call `advance()`."""
        return self._rest

    def advance(self, count: int) -> None:
        """Process `count` bytes that were read into `get_buffer()`. Raises ProtocolError, ValueError."""
        if self._rest is None or not 0 <= count <= len(self._rest):
            raise ValueError("there is no such room")
        self._resume(count)

    def close(self) -> None:
        """Drop an unfinished message; nothing more will come."""
        self._steps.close()
        self._fed, self._rest, self._payload = b"", None, BytesIO()
        # The codec may hold hundreds of KiB.
        self._codec = None
        self.needed = 0

    def _resume(self, sent: memoryview | int) -> None:
        needed = 0
        try:
            needed = self._steps.send(sent)
        except StopIteration:
            # The parser has ended before.
            pass
        finally:
            self.needed = needed

    # The generator.

    def _parse(self) -> Steps:
        opcode = None
        while opcode != CLOSE:
            first, length, key = yield from self._header()
            opcode = first & 0x0F
            self._check(first, length)
            if opcode & 0x8:
                payload = yield from self._exactly(length)
                self._control(opcode, mask(payload, key))
                continue
            if opcode:
                self._begin_message(opcode, bool(first & RSV1))
            self._count(length)
            yield from self._data(length, key, bool(first & FIN))
            if first & FIN:
                self._end_message()
        # Bytes after a close frame are ignored (5.5.1).
        while True:
            self._fed = b""
            yield 0

    def _header(self) -> Steps:
        """Read a frame's header (5.2): its first byte, the length of its payload, and its key."""
        first, second = yield from self._exactly(2)
        if bool(second & MASK) != self._masked:
            raise ProtocolError(BROKEN, "a frame without a mask" if self._masked else "a masked frame")
        length = second & 0x7F
        size = {126: 2, 127: 8}.get(length, 0)
        extended = yield from self._exactly(size + (4 if self._masked else 0))
        if size:
            length = int.from_bytes(extended[:size])
            if length >> 63 or length < (126 if size == 2 else 1 << 16):
                raise ProtocolError(BROKEN, f"a length of {length} in {size} bytes")
        # Unmasked data is as if masked with zeros.
        return first, length, extended[size:] or bytes(4)

    def _data(self, length: int, key: bytes, final: bool) -> Steps:
        """Read the payload of a data frame, as it comes."""
        done = 0
        while True:
            piece = self._take(length - done)
            self._add(mask(piece, key, done), final and done + len(piece) == length)
            done += len(piece)
            if done == length:
                return
            if length - done >= DIRECT and not self._stream and not self._compressed:
                yield from self._data_directly(length - done, key, done, final)
                return
            self._fed = yield length - done

    def _data_directly(self, length: int, key: bytes, done: int, final: bool) -> Steps:
        """Read the last `length` bytes of a payload into the message; `done` came before them."""
        start = self._payload.tell()
        try:
            self._make_room(length)
        except (MemoryError, OverflowError):
            raise ProtocolError(TOO_BIG, f"a frame of {done + length} bytes: no memory for it") from None
        rest = self._payload.getbuffer()[start:]
        while rest:
            self._rest = rest if len(rest) >= DIRECT else None
            sent = yield len(rest)
            self._rest = None
            if not isinstance(sent, int):
                self._fed = sent
                piece = self._take(len(rest))
                rest[: len(piece)] = piece
                sent = len(piece)
            for begin in range(0, sent, PIECE):
                part = rest[begin : min(begin + PIECE, sent)]
                part[:] = mask(part, key, done + begin)
            if self._text is not None:
                self._text.add(rest[:sent], final and sent == len(rest))
            done += sent
            rest = rest[sent:]

    def _exactly(self, size: int) -> Steps:
        """Read so many bytes."""
        data = self._take(size)
        while len(data) < size:
            self._fed = yield size - len(data)
            data += self._take(size - len(data))
        return data

    def _take(self, size: int) -> bytes:
        """Take at most so many of the bytes that are here."""
        taken = bytes(self._fed[:size])
        self._fed = self._fed[size:] or b""
        return taken

    # Rules.

    def _check(self, first: int, length: int) -> None:
        """Raise ProtocolError for a frame that RFC 6455 (5.2, 5.4, 5.5) or RFC 7692 (6) forbids."""
        opcode, compressed = first & 0x0F, first & RSV1
        if first & RESERVED:
            raise ProtocolError(BROKEN, "a reserved bit is set")
        if opcode > PONG or BINARY < opcode < CLOSE:
            raise ProtocolError(BROKEN, f"an unknown opcode: {opcode}")
        if opcode >= CLOSE:
            if compressed:
                raise ProtocolError(BROKEN, "a compressed control frame")
            if not first & FIN:
                raise ProtocolError(BROKEN, "a control frame in fragments")
            if length > 125:
                raise ProtocolError(BROKEN, f"a control frame of {length} bytes: 125 at most")
        elif opcode:
            if self._opcode:
                raise ProtocolError(BROKEN, "a message within another")
            if compressed and self._codec is None:
                raise ProtocolError(BROKEN, "a compressed message, but no compression was agreed on")
        else:
            if not self._opcode:
                raise ProtocolError(BROKEN, "a continuation of nothing")
            if compressed:
                raise ProtocolError(BROKEN, "a continuation that is marked as compressed")

    def _count(self, length: int) -> None:
        """Count a frame of the message. Raises ProtocolError beyond a limit."""
        limits = self._limits
        if limits.frame is not None and length > limits.frame:
            raise ProtocolError(TOO_BIG, f"a frame of {length} bytes: {limits.frame} at most")
        self._size += length
        if limits.message is not None:
            spare = SPARE + (limits.message >> 8) if self._compressed else 0
            if self._size > limits.message + spare:
                raise ProtocolError(TOO_BIG, f"a message of more than {limits.message} bytes")
        self._frames += 1
        if limits.fragments is not None and self._frames > limits.fragments:
            raise ProtocolError(POLICY, f"a message of more than {limits.fragments} fragments")

    # Messages.

    def _control(self, opcode: int, payload: bytes) -> None:
        if opcode == PING:
            self.events.append(Ping(payload))
        elif opcode == PONG:
            self.events.append(Pong(payload))
        else:
            self.events.append(parse_close(payload))

    def _begin_message(self, opcode: int, compressed: bool) -> None:
        """Begin a message; opcode 0 stands for none."""
        self._opcode, self._compressed = opcode, compressed
        self._frames = self._size = 0
        self._chunked = False
        self._payload = BytesIO()
        self._text = Text() if opcode == TEXT else None

    def _add(self, piece: bytes, last: bool) -> None:
        """Add a piece of the message's payload."""
        if self._stream:
            self._add_chunks(piece, last)
            return
        if self._compressed:
            assert self._codec is not None
            piece = self._codec.decompress(piece, last)
        if self._text is not None:
            self._text.add(piece, last)
        self._append(piece)

    def _append(self, piece: bytes) -> None:
        try:
            self._payload.write(piece)
        except BufferError:
            # A caller still holds the buffer of an earlier frame.
            self._payload = BytesIO(self._payload.getvalue())
            self._payload.seek(0, SEEK_END)
            self._payload.write(piece)

    def _make_room(self, size: int) -> None:
        """Add so many bytes, which are to be overwritten."""
        self._append(b"")
        self._payload.seek(size - 1, SEEK_CUR)
        self._append(b"\0")

    def _add_chunks(self, piece: bytes, last: bool) -> None:
        """Emit a piece of a streamed message."""
        if self._compressed:
            assert self._codec is not None
            for part in self._codec.pieces(piece, last):
                self._add_chunk(part, False)
            piece = b""
        self._add_chunk(piece, last)

    def _add_chunk(self, piece: bytes, last: bool) -> None:
        data = piece if self._text is None else self._text.add(piece, last)
        if data or last:
            self.events.append(Chunk(data, not self._chunked, last))
            self._chunked = True

    def _end_message(self) -> None:
        if not self._stream:
            # Nothing is copied, unless a caller still holds a buffer.
            payload = self._payload.getvalue()
            if self._text is not None:
                self.events.append(decode(payload))
            else:
                self.events.append(memoryview(payload) if self._views else payload)
        self._begin_message(0, False)


def parse_close(payload: bytes) -> Close:
    """Parse a close frame. Raises ProtocolError for a code that may not be sent (7.4), or invalid UTF-8."""
    if not payload:
        return Close(NO_CODE, "")
    code = int.from_bytes(payload[:2])
    if len(payload) < 2 or not sendable(code):
        raise ProtocolError(
            BROKEN, f"a close frame with code {code}" if len(payload) > 1 else "half a close code"
        )
    return Close(code, decode(payload[2:]))
