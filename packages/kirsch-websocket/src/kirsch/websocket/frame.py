"""Frames: what they look like on the wire (RFC 6455, 5.2), and how they are masked (5.3)."""

from collections.abc import Callable
from functools import cache
from typing import Final

Buffer = bytes | bytearray | memoryview

CONTINUATION: Final = 0x0
TEXT: Final = 0x1
BINARY: Final = 0x2
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA

FIN: Final = 0x80
RSV1: Final = 0x40
RESERVED: Final = 0x30
MASK: Final = 0x80

# Close codes (RFC 6455, 7.4.1, and the registry it founded).
NORMAL: Final = 1000
GOING_AWAY: Final = 1001
BROKEN: Final = 1002
NO_CODE: Final = 1005
ABNORMAL: Final = 1006
INVALID: Final = 1007
POLICY: Final = 1008
TOO_BIG: Final = 1009
INTERNAL: Final = 1011

# Up to so many bytes one large number is quicker to lay a key over than each byte by a table.
SHORT: Final = 512
# So many random bytes are fetched at once.
KEYS: Final = 4096


def sendable(code: int) -> bool:
    """Whether a close frame may carry this code (RFC 6455, 7.4): those that only report are not sent."""
    return (1000 <= code <= 1014 and code not in (1004, NO_CODE, ABNORMAL)) or 3000 <= code <= 4999


def header(first: int, length: int, masked: bool) -> bytes:
    """A frame's header without its masking key: `first` is FIN, RSV1 and the opcode."""
    bit = MASK if masked else 0
    if length < 126:
        return bytes((first, bit | length))
    if length < 1 << 16:
        return bytes((first, bit | 126)) + length.to_bytes(2)
    return bytes((first, bit | 127)) + length.to_bytes(8)


def mask(data: Buffer, key: bytes, offset: int = 0) -> bytes:
    """`data` with `key` (4 bytes) laid over it again and again, `offset` bytes into a payload.

    The same again gives back what it was.
    """
    if len(key) != 4:
        raise ValueError("a key has 4 bytes")
    if not isinstance(data, bytes):
        data = memoryview(data).tobytes()
    size = len(data)
    if offset := offset % 4:
        key = key[offset:] + key[:offset]
    if size > SHORT:
        laid = bytearray(data)
        mask_in_place(laid, key)
        return bytes(laid)
    pattern = int.from_bytes((key * (size // 4 + 1))[:size], "little")
    return (int.from_bytes(data, "little") ^ pattern).to_bytes(size, "little")


def mask_in_place(data: bytearray, key: bytes) -> None:
    """As `mask`, where `data` is."""
    if len(key) != 4:
        raise ValueError("a key has 4 bytes")
    tables = _tables()
    data[::4] = data[::4].translate(tables[key[0]])
    data[1::4] = data[1::4].translate(tables[key[1]])
    data[2::4] = data[2::4].translate(tables[key[2]])
    data[3::4] = data[3::4].translate(tables[key[3]])


class Keys:
    """Masking keys nobody can foresee (RFC 6455, 5.3): `entropy` gives so many random bytes."""

    __slots__ = ("_at", "_bytes", "_entropy")

    def __init__(self, entropy: Callable[[int], bytes]) -> None:
        self._entropy = entropy
        self._bytes, self._at = b"", 0

    def take(self) -> bytes:
        """The next."""
        at = self._at
        if at + 4 > len(self._bytes):
            self._bytes, at = self._entropy(KEYS), 0
        self._at = at + 4
        return self._bytes[at : at + 4]


@cache
def _tables() -> list[bytes]:
    """What each byte is with a byte of a key laid over it, for all 256 of those."""
    return [bytes(byte ^ laid for byte in range(256)) for laid in range(256)]
