"""Compression of messages: permessage-deflate (RFC 7692), its negotiation and its codec."""

import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from itertools import chain
from typing import Any, Final

from kirsch.websocket.core.errors import HandshakeError, ProtocolError
from kirsch.websocket.core.headers import Parameters, parse_extensions
from kirsch.websocket.core.limits import Limits

NAME: Final = "permessage-deflate"
# Every compressed message ends in these bytes, which are not sent (RFC 7692, 7.2.1).
TAIL: Final = b"\x00\x00\xff\xff"
# The tail, and an empty block that ends the stream: read as such only where a message may end.
_END: Final = TAIL + b"\x01\x00\x00\xff\xff"
# Up to this size a message may have any ratio.
RATIO_FREE: Final = 1 << 20
# Bytes decompressed at a time, and bytes given to zlib at a time, since zlib copies its unused input.
PIECE: Final = 256 << 10
_SLICE: Final = 64 << 10
# Each final block costs a new decompressor, and a sender needs one a frame at most: so many are accepted, and
# one more for so many bytes.
_FINAL_BLOCKS: Final = 16
_FINAL_EVERY: Final = 1 << 12
_NO_LIMIT: Final = 1 << 63
# Idle compressors kept for each kind, for connections that compress each message alone.
_SPARES: Final = 4

_BITS = {str(bits): bits for bits in range(8, 16)}

Bytes = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class Deflate:
    """Compression that one side asks for; the peer may reduce it.

    The defaults are the fastest for small JSON: a connection that has sent compressed messages holds 190 KiB
    for that, 130 with a memory level of 5, and one that has received some 40 KiB. Smaller windows need less
    memory and compress less; where each message is compressed alone, nothing is held between two. An
    attacker who can add text to a message, or with context takeover to another one, can guess a secret in it
    by its compressed size: do not compress such messages.

    Attributes:
        server_no_context_takeover: the server compresses each message alone (RFC 7692, 7.1.1.1).
        client_no_context_takeover: so does the client (7.1.1.2).
        server_max_window_bits: the base-2 logarithm of the server's largest window, 8 to 15; None is 15
            (7.1.2.1).
        client_max_window_bits: that of the client (7.1.2.2); ignored for a client that cannot limit it.
        level: zlib's, 0 to 9; -1 is its default.
        memory_level: zlib's, 1 to 9.
        minimum: smaller messages, in bytes, are sent uncompressed.
    """

    server_no_context_takeover: bool = False
    client_no_context_takeover: bool = False
    server_max_window_bits: int | None = None
    client_max_window_bits: int | None = None
    level: int = 1
    memory_level: int = 8
    minimum: int = 64

    def __post_init__(self) -> None:
        for bits in (self.server_max_window_bits, self.client_max_window_bits):
            if bits is not None and not 8 <= bits <= 15:
                raise ValueError(f"window bits are 8 to 15, not {bits}")
        if not -1 <= self.level <= 9:
            raise ValueError(f"a compression level is -1 to 9, not {self.level}")
        if not 1 <= self.memory_level <= 9:
            raise ValueError(f"a memory level is 1 to 9, not {self.memory_level}")


@dataclass(frozen=True, slots=True)
class Agreement:
    """Compression that both sides agreed on; the attributes are those of Deflate."""

    server_no_context_takeover: bool = False
    client_no_context_takeover: bool = False
    server_max_window_bits: int = 15
    client_max_window_bits: int = 15
    level: int = 1
    memory_level: int = 8
    minimum: int = 64

    def codec(self, *, client: bool, limits: Limits) -> "Codec":
        """Return the codec of one connection's client or server."""
        return Codec(self, client=client, limits=limits)


class Codec:
    """Compresses the messages that one side sends and decompresses those that it receives, each in order.

    zlib's memory is taken when a message first needs it. After an error the codec cannot be used any more.

    Attributes:
        minimum: smaller messages, in bytes, are better sent uncompressed.
    """

    __slots__ = (
        "_alone",
        "_deflater",
        "_finals",
        "_forget",
        "_inflater",
        "_kind",
        "_largest",
        "_left",
        "_owed",
        "_produced",
        "_ratio",
        "_received",
        "_window",
        "minimum",
    )

    def __init__(self, agreement: Agreement, *, client: bool, limits: Limits) -> None:
        server_side = (agreement.server_no_context_takeover, agreement.server_max_window_bits)
        client_side = (agreement.client_no_context_takeover, agreement.client_max_window_bits)
        ours, theirs = (client_side, server_side) if client else (server_side, client_side)
        self.minimum = agreement.minimum
        # zlib's raw deflate has no window of 256 bytes. But with one of 512 it reaches back 512 - 262 bytes
        # at most, and whoever has 256 can read that.
        self._kind = (agreement.level, max(ours[1], 9), agreement.memory_level)
        self._alone = ours[0]
        self._deflater: Any = None
        self._forget = theirs[0]
        self._window = -max(theirs[1], 9)
        self._inflater: Any = None
        self._largest = _NO_LIMIT if limits.message is None else limits.message
        self._ratio = _NO_LIMIT if limits.ratio is None else limits.ratio
        # Bytes of the current message, before and after decompression.
        self._received = 0
        self._produced = 0
        # Input of the current slice that zlib has not taken yet.
        self._left: bytes | None = None
        # True if the inflater was not given the tail of the last message yet.
        self._owed = False
        # Number of final blocks of the current message.
        self._finals = 0

    @property
    def kind(self) -> object:
        """Key that is equal for codecs with the same output; None where earlier messages influence it."""
        return self._kind if self._alone else None

    def compress(self, data: Bytes, final: bool = True) -> bytes:
        """Return the payload of a frame: a whole message or the end of one, unless `final` is False.

        The payload of an earlier frame can be decompressed before the next one comes.
        """
        deflater = self._deflater
        if deflater is None:
            deflater = self._deflater = _deflater(self._kind)
        payload: bytes = deflater.compress(data)
        if not final:
            flushed: bytes = deflater.flush(zlib.Z_SYNC_FLUSH)
            return payload + flushed
        if self._alone:
            payload += deflater.flush(zlib.Z_FULL_FLUSH)
            # It has no history now, so that any connection's next message may use it.
            self._deflater = None
            _spare(self._kind, deflater)
        else:
            payload += deflater.flush(zlib.Z_SYNC_FLUSH)
        # A zlib may write nothing where nothing came since the last flush (RFC 7692, 7.2.3.6).
        return payload[:-4] or b"\x00"

    def decompress(self, data: Bytes, final: bool) -> bytes:
        """Decompress a part of a message's payload, `final` for the last.

        Raises ProtocolError 1009 beyond the limits of size and ratio, 1007 for data that is corrupt or ends
        too early.
        """
        if len(data) > _SLICE:
            return _joined(self.pieces(data, final))
        # Nearly every message needs only one call of zlib.
        out: bytes = self._start(data)
        if self._left is not None:
            out = _joined(chain((out,), self._rest()))
        if final:
            self._end()
        return out

    def pieces(self, data: Bytes, final: bool) -> Iterator[bytes]:
        """Decompress as `decompress()`, yielding pieces of at most PIECE bytes.

        All pieces have to be taken before anything else is decompressed.
        """
        view = memoryview(data)
        size = len(data)
        for begin in range(0, size or 1, _SLICE):
            yield self._start(view[begin : begin + _SLICE])
            yield from self._rest()
        if final:
            self._end()

    def _start(self, data: Bytes) -> bytes:
        """Decompress the beginning of a slice; `_left` is not None if there is more."""
        if not len(data):
            return b""
        self._received += len(data)
        if self._owed:
            self._owed = False
            data = b"".join((TAIL, data))
        return self._step(data)

    def _rest(self) -> Iterator[bytes]:
        while self._left is not None:
            yield self._step(self._left)

    def _step(self, data: Bytes) -> bytes:
        inflater = self._inflater
        if inflater is None:
            inflater = self._inflater = zlib.decompressobj(self._window)
        most = self._ratio * self._received
        if most < RATIO_FREE:
            most = RATIO_FREE
        if most > self._largest:
            most = self._largest
        most -= self._produced
        asked = most + 1 if most < PIECE else PIECE
        try:
            out: bytes = inflater.decompress(data, asked)
        except zlib.error:
            raise ProtocolError(1007, "a compressed message that is corrupt") from None
        size = len(out)
        if size > most:
            raise self._too_large(most)
        self._produced += size
        if inflater.eof:
            # After a block that calls itself final DEFLATE begins anew (RFC 7692, 7.2.3.4).
            self._inflater = None
            left = inflater.unused_data
            self._finals += 1
            # The offset of the block's end, independent of how the message is cut.
            ended = self._received - len(left)
            if self._finals > _FINAL_BLOCKS + ended // _FINAL_EVERY:
                raise ProtocolError(1007, "a compressed message of too many final blocks")
            self._left = left or None
        else:
            # zlib may hold back what there was no room for, without any input left.
            self._left = inflater.unconsumed_tail or (b"" if size == asked else None)
        return out

    def _too_large(self, most: int) -> ProtocolError:
        if self._produced + most >= self._largest:
            return ProtocolError(1009, f"a message of more than {self._largest} bytes once decompressed")
        return ProtocolError(1009, f"a message that is more than {self._ratio} times its compressed size")

    def _end(self) -> None:
        inflater = self._inflater
        # A final block has no tail, and some senders leave out the empty block of an empty message (7.2.3.6).
        if inflater is not None and self._received:
            # zlib does not tell where it is, so the test is done by a copy if more messages are to come.
            inflater = inflater if self._forget else inflater.copy()
            try:
                whole = not inflater.decompress(_END) and inflater.eof and not inflater.unused_data
            except zlib.error:
                whole = False
            if not whole:
                raise ProtocolError(1007, "a compressed message that is corrupt: its end is missing")
            self._owed = not self._forget
        self._received = self._produced = self._finals = 0
        if self._forget:
            self._inflater = None


def _joined(pieces: Iterable[bytes]) -> bytes:
    """Join the pieces with less memory than `b"".join` needs."""
    whole = BytesIO()
    for piece in pieces:
        whole.write(piece)
    return whole.getvalue()


_Kind = tuple[int, int, int]
_spares: dict[_Kind, list[Any]] = {}


def _deflater(kind: _Kind) -> Any:
    try:
        return _spares[kind].pop()
    except LookupError:
        level, bits, memory_level = kind
        return zlib.compressobj(level, zlib.DEFLATED, -bits, memory_level)


def _spare(kind: _Kind, deflater: Any) -> None:
    spares = _spares.setdefault(kind, [])
    if len(spares) < _SPARES:
        spares.append(deflater)


# Cached, since all clients of one kind send the same offer.
@lru_cache(maxsize=64)
def negotiate(offers: str, wish: Deflate) -> tuple[Agreement, str] | None:
    """Return the agreement on the first acceptable offer of a client, and the answer for its response.

    None if no offer is acceptable (RFC 7692, 5 and 7.1). Raises HandshakeError 400 if `offers` is no list of
    extensions.
    """
    try:
        extensions = parse_extensions(offers)
    except ValueError as error:
        raise HandshakeError(400, f"Sec-WebSocket-Extensions: {error}") from None
    for name, parameters in extensions:
        if name == NAME and (found := _offered(parameters)) is not None:
            return _accepted(found, wish)
    return None


def _offered(parameters: Parameters) -> dict[str, int | None] | None:
    """Return an offer's parameters; None if it is to be declined."""
    found: dict[str, int | None] = {}
    for name, value in parameters:
        if name in found:
            return None
        if name in ("server_no_context_takeover", "client_no_context_takeover"):
            if value is not None:
                return None
            found[name] = None
        elif name == "client_max_window_bits" and value is None:
            found[name] = None
        elif name in ("server_max_window_bits", "client_max_window_bits") and value in _BITS:
            found[name] = _BITS[value]
        else:
            return None
    return found


def _accepted(offer: dict[str, int | None], wish: Deflate) -> tuple[Agreement, str]:
    server_alone = "server_no_context_takeover" in offer or wish.server_no_context_takeover
    client_alone = "client_no_context_takeover" in offer or wish.client_no_context_takeover
    server_bits = min(offer.get("server_max_window_bits") or 15, wish.server_max_window_bits or 15)
    client_bits = 15
    if "client_max_window_bits" in offer:
        client_bits = min(offer["client_max_window_bits"] or 15, wish.client_max_window_bits or 15)
    answer = _written(
        server_alone,
        client_alone,
        str(server_bits) if server_bits < 15 or "server_max_window_bits" in offer else None,
        str(client_bits) if client_bits < 15 or offer.get("client_max_window_bits") else None,
    )
    return _agreement(wish, server_alone, client_alone, server_bits, client_bits), answer


def _agreement(
    wish: Deflate, server_alone: bool, client_alone: bool, server_bits: int, client_bits: int
) -> Agreement:
    return Agreement(
        server_alone, client_alone, server_bits, client_bits, wish.level, wish.memory_level, wish.minimum
    )


def _written(server_alone: bool, client_alone: bool, server_bits: str | None, client_bits: str | None) -> str:
    """Return the extension with its parameters; empty bits stand for a parameter without a value."""
    parts = [NAME]
    if server_alone:
        parts.append("server_no_context_takeover")
    if client_alone:
        parts.append("client_no_context_takeover")
    for name, bits in (("server_max_window_bits", server_bits), ("client_max_window_bits", client_bits)):
        if bits is not None:
            parts.append(f"{name}={bits}" if bits else name)
    return "; ".join(parts)


def offer(wish: Deflate) -> str:
    """Return a client's offer, which always says that its window can be limited (RFC 7692, 7.1.2.2)."""
    server_bits = wish.server_max_window_bits
    return _written(
        wish.server_no_context_takeover,
        wish.client_no_context_takeover,
        None if server_bits is None else str(server_bits),
        str(wish.client_max_window_bits or ""),
    )


@lru_cache(maxsize=64)
def agree(value: str, wish: Deflate) -> Agreement:
    """Return the agreement of a server's Sec-WebSocket-Extensions with our `offer()`.

    Raises HandshakeError for an answer that does not fit the offer (RFC 7692, 5.1 and 7.1).
    """
    try:
        extensions = parse_extensions(value)
    except ValueError as error:
        raise _misfit(str(error)) from None
    if len(extensions) != 1 or extensions[0][0] != NAME:
        raise _misfit(f"{value[:100]!a} answers an offer of {NAME}")
    answer: dict[str, int] = {}
    for name, text in extensions[0][1]:
        if name in answer:
            raise _misfit(f"{name} comes twice")
        if name in ("server_no_context_takeover", "client_no_context_takeover") and text is None:
            answer[name] = 1
        elif name in ("server_max_window_bits", "client_max_window_bits") and text in _BITS:
            answer[name] = _BITS[text]
        else:
            raise _misfit(f"{name}{'' if text is None else f'={text[:20]!a}'} is no parameter of an answer")
    server_alone = "server_no_context_takeover" in answer
    if wish.server_no_context_takeover and not server_alone:
        raise _misfit("server_no_context_takeover was asked for and is not there")
    asked = wish.server_max_window_bits
    server_bits = answer.get("server_max_window_bits", 15)
    if asked is not None and server_bits > asked:
        raise _misfit(f"server_max_window_bits of {asked} at most was asked for and is not there")
    client_bits = min(answer.get("client_max_window_bits", 15), wish.client_max_window_bits or 15)
    client_alone = "client_no_context_takeover" in answer or wish.client_no_context_takeover
    return _agreement(wish, server_alone, client_alone, server_bits, client_bits)


def _misfit(reason: str) -> HandshakeError:
    return HandshakeError(101, f"the server's Sec-WebSocket-Extensions: {reason}")
