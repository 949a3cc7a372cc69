"""Bytes to events: a generator that yields how many bytes it needs, and is sent what there is.

It knows nothing of where bytes come from. It is fed a byte or a megabyte: the events are the same. This is
the version to read; `kirsch.websocket.compiled.parser` is the same in Cython.
"""

from collections.abc import Generator, Iterable
from typing import Any, Final, Protocol

from kirsch.websocket.errors import ProtocolError
from kirsch.websocket.frame import (
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
    mask_in_place,
    sendable,
)
from kirsch.websocket.limits import Limits
from kirsch.websocket.message import LARGE, Chunk, Close, Event, Ping, Pong, Text, decode, whole

# From this many missing bytes on, a payload is better read straight to where it will stay.
DIRECT: Final = 256 << 10
# So much of it is unmasked at a time.
PIECE: Final = 64 << 10
# More than any frame has: no limit.
NONE: Final = 1 << 62
# By so much, and 1 part in 256, compression may lengthen.
SPARE: Final = 64

# What a part of the generator gives back: the data that was sent last, and how much of it is used up.
Fed = Generator[int, Any, tuple[bytes, int]]


class Decompressor(Protocol):
    """What undoes permessage-deflate: `kirsch.websocket.deflate.Codec`."""

    def decompress(self, data: bytes, final: bool) -> bytes: ...

    def pieces(self, data: bytes, final: bool) -> Iterable[bytes]: ...


class Parser:
    """What one peer sends, a server's (`client=True`: we are the client) or a client's.

    `feed()` it; take `events`. `needed` is how many bytes it lacks: more may be fed, and less. After a
    ProtocolError, a close frame or `close()` it is 0, and nothing more is read.
    """

    def __init__(
        self,
        *,
        client: bool = False,
        limits: Limits = Limits(),  # noqa: B008 - it is frozen
        codec: Decompressor | None = None,
        stream: bool = False,
    ) -> None:
        self.events: list[Event] = []
        self._masked = 0 if client else MASK
        self._largest = NONE if limits.message is None else limits.message
        self._frame = limits.frame
        self._fragments = NONE if limits.fragments is None else limits.fragments
        self._codec = codec
        self._stream = stream
        # The message that has begun: its opcode (0 is none), whether compressed, frames and bytes so far.
        self._opcode = 0
        self._compressed = False
        self._count = 0
        self._size = 0
        self._begun = False
        self._payload = bytearray()
        self._text: Text | None = None
        # Where the rest of a large payload goes, while it is read.
        self._rest: memoryview | None = None
        self._frames = self._parse()
        self.needed: int = next(self._frames)

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Take bytes. Raises ProtocolError; the events before it are there."""
        if len(data):
            self._resume(data if isinstance(data, bytes) else bytes(data))

    def get_buffer(self) -> memoryview | None:
        """Where the rest of a large payload is best read to, if one is on its way; then `advance()`."""
        return self._rest

    def advance(self, count: int) -> None:
        """So many bytes were read to the start of `get_buffer()`. Raises ProtocolError, ValueError."""
        if self._rest is None or not 0 <= count <= len(self._rest):
            raise ValueError("there is no such room")
        self._resume(count)

    def close(self) -> None:
        """Nothing more will come: what has come of a message is dropped."""
        self._frames.close()
        self._rest, self._payload = None, bytearray()
        # It may hold hundreds of KiB.
        self._codec = None
        self.needed = 0

    def _resume(self, sent: bytes | int) -> None:
        needed = 0
        try:
            needed = self._frames.send(sent)
        except StopIteration:
            # It has ended before.
            pass
        finally:
            self.needed = needed

    def _parse(self) -> Generator[int, Any, None]:
        events, must, stream = self.events, self._masked, self._stream
        plain = -1 if stream else self._largest if self._frame is None else min(self._largest, self._frame)
        keyed = 4 if must else 0
        data, at = b"", 0
        while True:
            # The header (5.2): opcode and flags, length, key.
            if len(data) - at < 2:
                # What was fed is not kept while we wait.
                data = data[at:]
                head, data, at = yield from _take(data, 2)
                first, second = head
            else:
                first, second = data[at], data[at + 1]
                at += 2
            if second & MASK != must:
                raise ProtocolError(BROKEN, "a frame without a mask" if must else "a masked frame")
            length = second & 0x7F
            size = keyed if length < 126 else keyed + 2 if length == 126 else keyed + 8
            key = data[at : at + size]
            at += size
            if len(key) < size:
                data = b""
                key, data, at = yield from _take(key, size)
            if length > 125:
                size -= keyed
                length, key = int.from_bytes(key[:size]), key[size:]
                if length >> 63 or length < (126 if size == 2 else 1 << 16):
                    raise ProtocolError(BROKEN, f"a length of {length} in {size} bytes")
            # A message in one frame that is here as a whole: nearly all of them.
            end = at + length
            if end <= len(data) and length <= plain and not self._opcode:
                if first == FIN | TEXT:
                    events.append(decode(mask(data[at:end], key) if key else data[at:end]))
                    at = end
                    continue
                if first == FIN | BINARY:
                    if key and length >= LARGE:
                        laid = bytearray(memoryview(data)[at:end])
                        mask_in_place(laid, key)
                        events.append(whole(laid))
                    else:
                        events.append(whole(mask(data[at:end], key) if key else data[at:end]))
                    at = end
                    continue
            # All others, by the book.
            opcode = first & 0x0F
            self._check(first, length)
            if opcode & 0x8:
                payload = data[at:end]
                at = end
                if len(payload) < length:
                    data = b""
                    payload, data, at = yield from _take(payload, length)
                self._control(opcode, mask(payload, key) if key else payload)
                if opcode == CLOSE:
                    break
                continue
            if opcode:
                self._opcode, self._compressed = opcode, bool(first & RSV1)
                if opcode == TEXT:
                    self._text = Text()
            final = bool(first & FIN)
            done = 0
            while True:
                piece = data[at : at + length - done]
                at += len(piece)
                self._add(mask(piece, key, done) if key else piece, final and done + len(piece) == length)
                done += len(piece)
                if done == length:
                    break
                data = piece = b""
                if length - done >= DIRECT and not stream and not self._compressed:
                    data, at = yield from self._direct(length - done, key, done, final)
                    break
                data, at = (yield length - done), 0
            piece = b""
            if final:
                self._finish()
        # What follows a close frame is not looked at (5.5.1).
        data = b""
        while True:
            yield 0

    def _direct(self, length: int, key: bytes, done: int, final: bool) -> Fed:
        """Read the last `length` bytes of a frame's payload to where they stay; `done` came before them."""
        start = len(self._payload)
        try:
            if start:
                self._grow(bytes(length))
            else:
                self._payload = bytearray(length)
        except MemoryError:
            raise ProtocolError(TOO_BIG, f"a frame of {done + length} bytes: no memory for it") from None
        rest = memoryview(self._payload)[start:]
        data, at = b"", 0
        while rest:
            self._rest = rest if len(rest) >= DIRECT else None
            data = b""
            sent: Any = yield len(rest)
            self._rest = None
            if isinstance(sent, bytes):
                data, at = sent, min(len(sent), len(rest))
                rest[:at] = data[:at]
                sent = at
            # In pieces: what is made of them is small.
            for begin in range(0, sent if key else 0, PIECE):
                piece = rest[begin : min(begin + PIECE, sent)]
                piece[:] = mask(piece, key, done + begin)
            if self._text is not None:
                self._text.add(rest[:sent], final and sent == len(rest))
            done += sent
            rest = rest[sent:]
        return data, at

    def _check(self, first: int, length: int) -> None:
        """Refuse what RFC 6455 (5.2, 5.4, 5.5), RFC 7692 (6) or a limit forbids."""
        opcode, final = first & 0x0F, first & FIN
        if first & RESERVED:
            raise ProtocolError(BROKEN, "a reserved bit is set")
        if opcode & 0x8:
            if opcode > PONG:
                raise ProtocolError(BROKEN, f"an unknown opcode: {opcode}")
            if first & RSV1:
                raise ProtocolError(BROKEN, "a compressed control frame")
            if not final:
                raise ProtocolError(BROKEN, "a control frame in fragments")
            if length > 125:
                raise ProtocolError(BROKEN, f"a control frame of {length} bytes: 125 at most")
            return
        if opcode > BINARY:
            raise ProtocolError(BROKEN, f"an unknown opcode: {opcode}")
        if opcode:
            if self._opcode:
                raise ProtocolError(BROKEN, "a message within another")
            if first & RSV1 and self._codec is None:
                raise ProtocolError(BROKEN, "a compressed message, but no compression was agreed on")
        elif not self._opcode:
            raise ProtocolError(BROKEN, "a continuation of nothing")
        elif first & RSV1:
            raise ProtocolError(BROKEN, "a continuation that is marked as compressed")
        if self._frame is not None and length > self._frame:
            raise ProtocolError(TOO_BIG, f"a frame of {length} bytes: {self._frame} at most")
        self._size += length
        # What does not let itself be compressed grows a little.
        compressed = first & RSV1 if opcode else self._compressed
        if self._size > self._largest + (SPARE + (self._largest >> 8) if compressed else 0):
            raise ProtocolError(TOO_BIG, f"a message of more than {self._largest} bytes")
        self._count += 1
        if self._count > self._fragments:
            raise ProtocolError(POLICY, f"a message of more than {self._fragments} fragments")

    def _control(self, opcode: int, payload: bytes) -> None:
        if opcode == PING:
            self.events.append(Ping(payload))
        elif opcode == PONG:
            self.events.append(Pong(payload))
        else:
            self.events.append(closing(payload))

    def _add(self, piece: bytes, last: bool) -> None:
        """Take a piece of the message's payload, the `last` or not."""
        if self._stream:
            self._chunks(piece, last)
            return
        if self._compressed:
            assert self._codec is not None
            piece = self._codec.decompress(piece, last)
        if self._text is not None:
            self._text.add(piece, last)
        self._grow(piece)

    def _grow(self, piece: bytes) -> None:
        try:
            self._payload += piece
        except BufferError:
            # Someone still holds what `get_buffer()` gave for an earlier frame.
            self._payload = self._payload + piece

    def _chunks(self, piece: bytes, last: bool) -> None:
        """Give on a piece of a message that nobody holds."""
        if self._compressed:
            assert self._codec is not None
            for part in self._codec.pieces(piece, last):
                self._chunk(part, False)
            piece = b""
        self._chunk(piece, last)

    def _chunk(self, piece: bytes, last: bool) -> None:
        chunk = piece if self._text is None else self._text.add(piece, last)
        if chunk or last:
            self.events.append(Chunk(chunk, not self._begun, last))
            self._begun = True

    def _finish(self) -> None:
        """The message is whole."""
        if not self._stream:
            payload, self._payload = self._payload, bytearray()
            self.events.append(whole(payload) if self._text is None else decode(payload))
        self._opcode = self._count = self._size = 0
        self._begun = False
        self._text = None


def closing(payload: bytes) -> Close:
    """What a close frame says. Raises ProtocolError: a code nobody may send (7.4), a reason not in UTF-8."""
    if not payload:
        return Close(NO_CODE, "")
    code = int.from_bytes(payload[:2])
    if len(payload) < 2 or not sendable(code):
        raise ProtocolError(
            BROKEN, f"a close frame with code {code}" if len(payload) > 1 else "half a close code"
        )
    return Close(code, decode(payload[2:]))


def _take(piece: bytes, size: int) -> Generator[int, Any, tuple[bytes, bytes, int]]:
    """`size` bytes that begin with `piece`, however they come; then the data they ended in and where."""
    data, at = b"", 0
    while len(piece) < size:
        data = b""
        data = yield size - len(piece)
        at = min(size - len(piece), len(data))
        piece += data[:at]
    return piece, data, at
