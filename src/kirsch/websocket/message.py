"""What a peer says: messages, whole or in chunks, and the control frames between them."""

import codecs
from dataclasses import dataclass
from typing import Final

from kirsch.websocket.errors import ProtocolError
from kirsch.websocket.frame import INVALID, Buffer

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


@dataclass(frozen=True, slots=True)
class Chunk:
    """A part of a message, for those who take messages as they come: text is cut between characters."""

    data: str | bytes
    first: bool
    final: bool


Message = str | bytes | memoryview
Event = Message | Ping | Pong | Close | Chunk

_decoder = codecs.getincrementaldecoder("utf-8")


class Text:
    """Text on its way: UTF-8 is checked as it arrives: what is wrong fails at once (RFC 6455, 8.1)."""

    __slots__ = ("_decode",)

    def __init__(self) -> None:
        self._decode = _decoder().decode

    def add(self, data: Buffer, final: bool) -> str:
        """The characters that `data` completes. Raises ProtocolError 1007 for what is not UTF-8."""
        try:
            return self._decode(data, final)
        except UnicodeDecodeError as error:
            raise not_text(error) from None


def decode(data: Buffer) -> str:
    """A whole text. Raises ProtocolError 1007 for what is not UTF-8."""
    try:
        return str(data, "utf-8")
    except UnicodeDecodeError as error:
        raise not_text(error) from None


def whole(data: bytes | bytearray) -> bytes | memoryview:
    """A binary message as applications get it."""
    return bytes(data) if len(data) < LARGE else memoryview(data).toreadonly()


def not_text(error: UnicodeDecodeError) -> ProtocolError:
    return ProtocolError(INVALID, f"text that is not UTF-8: {error.reason}")
