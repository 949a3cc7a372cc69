"""Events of a connection: messages, whole or in chunks, and control frames."""

import codecs
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kirsch.websocket.core import arguments
from kirsch.websocket.core.errors import ProtocolError
from kirsch.websocket.core.frame import BINARY, INVALID, NO_CODE, TEXT, Buffer, sendable

if TYPE_CHECKING:
    from kirsch.websocket.core.deflate import Codec


@dataclass(frozen=True, slots=True)
class Ping:
    """Ping of the peer; WebSocket has answered it."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Pong:
    """Pong of the peer: the answer to a ping, or unsolicited."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Close:
    """Close frame; code 1005 stands for a frame without a code (RFC 6455, 7.1.5)."""

    code: int
    reason: str

    @property
    def payload(self) -> bytes:
        """Payload of the frame, with as many whole characters of the reason as it can carry."""
        if self.code == NO_CODE:
            return b""
        return self.code.to_bytes(2) + self.reason.encode()[:123].decode(errors="ignore").encode()


def check_close(code: int, reason: str) -> None:
    """Raise ValueError for a code that may not be sent, or a reason over 123 bytes (RFC 6455, 5.5).

    Raises TypeError for a code that is no whole number, or a reason that is no text.
    """
    arguments.kind("a close code", code, int, "a whole number")
    arguments.kind("a close reason", reason, str, "a text")
    if not sendable(code):
        raise ValueError(
            f"the close code {code} cannot be sent: 1000 to 1003, 1007 to 1014, 3000 to 4999 can"
        )
    if len(reason.encode()) > 123:
        raise ValueError("a close reason has 123 bytes at most")


@dataclass(frozen=True, slots=True)
class Chunk:
    """Part of a message, for streaming applications; text is cut between characters."""

    data: str | bytes
    first: bool
    final: bool


class Prepared(bytes):
    """Message for many connections: encoded once, and compressed once for each kind of compression.

    `send` takes it in place of the `str` or bytes it was made of. Raises TypeError for anything else.
    """

    opcode: int

    def __new__(cls, data: str | Buffer) -> "Prepared":
        if not isinstance(data, str | bytes | bytearray | memoryview):
            raise TypeError(f"a message for many is str or bytes, not {type(data).__name__}")
        return super().__new__(cls, data.encode() if isinstance(data, str) else data)

    def __init__(self, data: str | Buffer) -> None:
        """Make one of `str` or bytes."""
        self.opcode = TEXT if isinstance(data, str) else BINARY
        # Compressed forms, by `Codec.kind`.
        self._compressed: dict[object, bytes] = {}

    @property
    def held(self) -> int:
        """Bytes of memory that it holds, compressed forms included."""
        return len(self) + sum(map(len, self._compressed.values()))

    def compressed(self, codec: "Codec") -> bytes:
        """Return the payload of its frame on a connection that compresses with `codec`."""
        kind = codec.kind
        if kind is None:
            return codec.compress(self)
        payload = self._compressed.get(kind)
        if payload is None:
            payload = self._compressed[kind] = codec.compress(self)
        return payload


Message = str | bytes | memoryview
Event = Message | Ping | Pong | Close | Chunk

_decoder = codecs.getincrementaldecoder("utf-8")


class Text:
    """Decoder of text that comes in parts; invalid UTF-8 fails as soon as it is seen (RFC 6455, 8.1)."""

    __slots__ = ("_decoder",)

    def __init__(self) -> None:
        self._decoder = _decoder()

    def add(self, data: Buffer, final: bool) -> str:
        """Return the characters that `data` completes. Raises ProtocolError 1007 for invalid UTF-8."""
        try:
            text = self._decoder.decode(data, final)
        except UnicodeDecodeError:
            raise invalid_text() from None
        # Two bytes show that it is a surrogate, but Python waits for the third.
        begun = self._decoder.getstate()[0]
        if begun[:1] == b"\xed" and begun[1:] >= b"\xa0":
            raise invalid_text()
        return text


def decode(data: Buffer) -> str:
    """Decode a whole text. Raises ProtocolError 1007 for invalid UTF-8."""
    try:
        return str(data, "utf-8")
    except UnicodeDecodeError:
        raise invalid_text() from None


def of_type(data: object, text: bool) -> str | bytes:
    """Return a message as `str` if `text`, else as bytes. Raises ValueError for bytes that are not UTF-8."""
    if isinstance(data, str):
        return data if text else data.encode()
    if not isinstance(data, bytes | bytearray | memoryview):
        raise TypeError(f"text= is for str and bytes, not {type(data).__name__}")
    return str(data, "utf-8") if text else bytes(data)


def frozen(data: Buffer) -> bytes | memoryview:
    """Return the bytes in a form that cannot change until they are sent."""
    if (
        isinstance(data, memoryview)
        and data.readonly
        and data.c_contiguous
        and (data.ndim, data.format) == (1, "B")
    ):
        return data
    return bytes(data)


def invalid_text() -> ProtocolError:
    """Return the error for invalid UTF-8."""
    return ProtocolError(INVALID, "text that is not UTF-8")
