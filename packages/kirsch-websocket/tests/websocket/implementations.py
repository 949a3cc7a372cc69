"""The core in Python and compiled: each test of it runs with both; frames made by hand, to feed it."""

import importlib.util
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from kirsch.websocket.core import frame, parser, protocol, speedups
from kirsch.websocket.core.errors import ProtocolError

try:
    from kirsch.websocket import compiled

    MISSING = ""
except ImportError as error:
    compiled = None
    MISSING = f"the compiled core is not there: {error}"


@dataclass(frozen=True)
class Implementation:
    """One of the two."""

    name: str
    Parser: Any
    Protocol: Any
    mask: Callable[..., bytes]
    WebSocket: Any


def application(base: Any) -> Any:
    """WebSocket as it is where `base` is the Protocol that could be had."""
    spec = importlib.util.find_spec("kirsch.websocket.core.application")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    there, speedups.Protocol = speedups.Protocol, base
    try:
        spec.loader.exec_module(module)
    finally:
        speedups.Protocol = there
    return module.WebSocket


def implementation(name: str) -> Implementation:
    if name == "python":
        protocols = protocol.Protocol
        return Implementation(name, parser.Parser, protocols, frame.mask, application(protocols))
    if compiled is None:
        pytest.skip(MISSING)
    protocols = compiled.Protocol
    return Implementation(name, compiled.Parser, protocols, compiled.mask, application(protocols))


NAMES = ("python", "cython")

KEY = b"\x01\xfe\x80\x00"
TEXT, BINARY, CONTINUATION, CLOSE, PING, PONG = 1, 2, 0, 8, 9, 10


def laid(data: bytes, key: bytes) -> bytes:
    """RFC 6455, 5.3, as it is written there."""
    return bytes(octet ^ key[i % 4] for i, octet in enumerate(data)) if len(data) < 4096 else _wide(data, key)


def _wide(data: bytes, key: bytes) -> bytes:
    pad = -len(data) % 4
    words = (data + bytes(pad),)[0]
    number = int.from_bytes(words, "big") ^ int.from_bytes(key * (len(words) // 4), "big")
    return number.to_bytes(len(words), "big")[: len(data)]


def made(
    opcode: int,
    payload: bytes = b"",
    *,
    final: bool = True,
    bits: int = 0,
    key: bytes | None = KEY,
    length: int | None = None,
    size: int | None = None,
) -> bytes:
    """A frame; `length` and the `size` it is written in may be wrong."""
    length = len(payload) if length is None else length
    size = size if size is not None else 0 if length < 126 else 2 if length < 1 << 16 else 8
    head = bytes(((0x80 if final else 0) | bits | opcode,))
    masked = 0 if key is None else 0x80
    head += bytes((masked | {0: length, 2: 126, 8: 127}[size],))
    head += length.to_bytes(size, "big") if size else b""
    return head + (payload if key is None else key + laid(payload, key))


def parts(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    """`data` cut at these places."""
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(places)]


def fed(parser: Any, pieces: Sequence[bytes], direct: bool = False) -> tuple[list[Any], Any, list[int]]:
    """The events, the ProtocolError as (code, reason, number of the piece), and what was needed after each.

    If `direct` what there is room for goes to `get_buffer()`.
    """
    needed = [parser.needed]
    failed = None
    for number, piece in enumerate(pieces):
        try:
            while direct and piece and (room := parser.get_buffer()) is not None:
                count = min(len(room), len(piece))
                room[:count] = piece[:count]
                del room
                parser.advance(count)
                piece = piece[count:]
            parser.feed(piece)
        except ProtocolError as error:
            assert failed is None
            failed = (error.code, error.reason, number)
        needed.append(parser.needed)
    return parser.events, failed, needed
