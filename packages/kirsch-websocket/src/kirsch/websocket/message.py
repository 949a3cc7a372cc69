"""What a peer says: messages, whole or in chunks, and the control frames between them."""

import codecs
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from kirsch.websocket.errors import ProtocolError
from kirsch.websocket.frame import BINARY, INVALID, NO_CODE, TEXT, Buffer, sendable

if TYPE_CHECKING:
    from kirsch.websocket.deflate import Codec

# A binary message from this size on is a view of the buffer it was received in, not a copy.
LARGE: Final = 64 << 10


@dataclass(frozen=True, slots=True)
class Ping:
    """The peer asks whether we are there; it has been answered."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Pong:
    """The peer is there: its answer to a ping, or unasked."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Close:
    """The peer's close frame: 1005 where it gave no code (RFC 6455, 7.1.5)."""

    code: int
    reason: str

    @property
    def payload(self) -> bytes:
        """Its frame's: as much of the reason as that holds, cut between characters."""
        if self.code == NO_CODE:
            return b""
        return self.code.to_bytes(2) + self.reason.encode()[:123].decode(errors="ignore").encode()


def check_close(code: int, reason: str) -> None:
    """Raises ValueError for a code that may not be sent, a reason of more than 123 bytes (RFC 6455, 5.5)."""
    if not sendable(code):
        raise ValueError(f"the close code {code} cannot be sent: 1000 and 3000 to 4999 can")
    if len(reason.encode()) > 123:
        raise ValueError("a close reason has 123 bytes at most")


@dataclass(frozen=True, slots=True)
class Chunk:
    """A part of a message, for those who take messages as they come: text is cut between characters."""

    data: str | bytes
    first: bool
    final: bool


class Prepared(bytes):
    """A message that many connections are sent: encoded once, and compressed once for those that do it alike.

    `send` takes it as it takes the `str` or bytes that it is made of. Raises TypeError for anything else.
    """

    opcode: int

    def __new__(cls, data: str | Buffer) -> "Prepared":
        """Make one of text or bytes."""
        if not isinstance(data, str | bytes | bytearray | memoryview):
            raise TypeError(f"a message for many is str or bytes, not {type(data).__name__}")
        prepared = super().__new__(cls, data.encode() if isinstance(data, str) else data)
        prepared.opcode = TEXT if isinstance(data, str) else BINARY
        prepared._compressed = {}
        return prepared

    _compressed: dict[object, bytes]

    @property
    def held(self) -> int:
        """How many bytes of memory it has, with what it was compressed to."""
        return len(self) + sum(map(len, self._compressed.values()))

    def compressed(self, codec: "Codec") -> bytes:
        """The payload of its frame on a connection that compresses."""
        alike = codec.alike
        if alike is None:
            return codec.compress(self)
        payload = self._compressed.get(alike)
        if payload is None:
            payload = self._compressed[alike] = codec.compress(self)
        return payload


Message = str | bytes | memoryview
Event = Message | Ping | Pong | Close | Chunk

_decoder = codecs.getincrementaldecoder("utf-8")


class Text:
    """Text on its way: UTF-8 is checked as it arrives: what is wrong fails at once (RFC 6455, 8.1)."""

    __slots__ = ("_decoder",)

    def __init__(self) -> None:
        self._decoder = _decoder()

    def add(self, data: Buffer, final: bool) -> str:
        """The characters that `data` completes. Raises ProtocolError 1007 for what is not UTF-8."""
        try:
            text = self._decoder.decode(data, final)
        except UnicodeDecodeError:
            raise not_text() from None
        # Python waits for the third byte of what two show to be a surrogate.
        begun = self._decoder.getstate()[0]
        if begun[:1] == b"\xed" and begun[1:] >= b"\xa0":
            raise not_text()
        return text


def decode(data: Buffer) -> str:
    """A whole text. Raises ProtocolError 1007 for what is not UTF-8."""
    try:
        return str(data, "utf-8")
    except UnicodeDecodeError:
        raise not_text() from None


def whole(data: bytes | bytearray) -> bytes | memoryview:
    """A binary message as applications get it."""
    return bytes(data) if len(data) < LARGE else memoryview(data).toreadonly()


def frozen(data: Buffer) -> bytes | memoryview:
    """Bytes that stay as they are until they are sent."""
    if (
        isinstance(data, memoryview)
        and data.readonly
        and data.c_contiguous
        and (data.ndim, data.format) == (1, "B")
    ):
        return data
    return bytes(data)


def not_text(*_: object) -> ProtocolError:
    """What is said of bytes that are no UTF-8, wherever they were cut."""
    return ProtocolError(INVALID, "text that is not UTF-8")
