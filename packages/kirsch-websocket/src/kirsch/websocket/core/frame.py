"""Frames on the wire (RFC 6455, 5.2), their masks (5.3), and close codes (7.4)."""

from collections.abc import Callable
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

# Close codes (RFC 6455, 7.4.1, and IANA's registry).
NORMAL: Final = 1000
GOING_AWAY: Final = 1001
BROKEN: Final = 1002
NO_CODE: Final = 1005
ABNORMAL: Final = 1006
INVALID: Final = 1007
POLICY: Final = 1008
TOO_BIG: Final = 1009
INTERNAL: Final = 1011

# Random bytes fetched at once.
KEYS: Final = 4096


def sendable(code: int) -> bool:
    """Return True if a close frame may carry this code (RFC 6455, 7.4); some are only reported."""
    return (1000 <= code <= 1014 and code not in (1004, NO_CODE, ABNORMAL)) or 3000 <= code <= 4999


def header(first: int, length: int, masked: bool) -> bytes:
    """Return a frame's header without its masking key; `first` is FIN, RSV1 and the opcode."""
    bit = MASK if masked else 0
    if length < 126:
        return bytes((first, bit | length))
    if length < 1 << 16:
        return bytes((first, bit | 126)) + length.to_bytes(2)
    return bytes((first, bit | 127)) + length.to_bytes(8)


def mask(data: Buffer, key: bytes, offset: int = 0) -> bytes:
    """Mask or unmask `data`, which begins `offset` bytes into a payload, with `key` (4 bytes)."""
    if len(key) != 4:
        raise ValueError("a key has 4 bytes")
    size = len(data)
    start = offset % 4
    pattern = (key * (size // 4 + 2))[start : start + size]
    masked = int.from_bytes(data, "little") ^ int.from_bytes(pattern, "little")
    return masked.to_bytes(size, "little")


class Keys:
    """Unpredictable masking keys (RFC 6455, 5.3); `entropy(n)` gives n random bytes."""

    __slots__ = ("_at", "_bytes", "_entropy")

    def __init__(self, entropy: Callable[[int], bytes]) -> None:
        self._entropy = entropy
        self._bytes, self._at = b"", 0

    def take(self) -> bytes:
        at = self._at
        if at + 4 > len(self._bytes):
            self._bytes, at = self._entropy(KEYS), 0
        self._at = at + 4
        return self._bytes[at : at + 4]
