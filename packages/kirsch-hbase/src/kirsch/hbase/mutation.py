"""Puts, deletes and gets as bytes, in HBase's protobuf form (Client.proto). Pure.

A block is a RegionAction, which Java parses in one call.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from struct import Struct
from typing import NamedTuple

from kirsch.hbase.cell import LATEST
from kirsch.hbase.errors import Invalid

# MutationProto.MutationType
_PUT = 2
_DELETE = 3
# MutationProto.DeleteType
ONE_VERSION = 0
ALL_VERSIONS = 1
FAMILY = 2
FAMILY_VERSION = 3
DURABILITIES = {"default": 0, "skip": 1, "async": 2, "sync": 3, "fsync": 4}
# The attribute that Mutation.setTTL sets.
_TTL = b"_ttl"
_VISIBILITY = "VISIBILITY"
_LONG = Struct(">q")
# RegionSpecifier{type=REGION_NAME, value=""}: which region a row is in the client finds out.
_REGION = b"\x0a\x04\x08\x01\x12\x00"


class Value(NamedTuple):
    """A value of a put and its column."""

    family: bytes
    qualifier: bytes
    value: bytes
    timestamp: int | None = None


class Erasure(NamedTuple):
    """A part of a row to delete: `kind` is one of the four above; a family's has no qualifier."""

    family: bytes
    qualifier: bytes = b""
    kind: int = ALL_VERSIONS
    timestamp: int | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of a whole mutation: `timestamp` in ms, `ttl` in ms (0: none), a durability, attributes."""

    timestamp: int | None = None
    ttl: int = 0
    durability: str = "default"
    attributes: tuple[tuple[str, bytes], ...] = ()

    def encoded(self) -> bytes:
        """Encode the settings as fields of a MutationProto."""
        parts = []
        if self.timestamp is not None:
            parts.append(b"\x20" + varint(self.timestamp))
        named = [(name.encode(), value) for name, value in self.attributes]
        if self.ttl:
            named.append((_TTL, _LONG.pack(self.ttl)))
        parts += [_field(0x2A, _field(0x0A, name) + _field(0x12, value)) for name, value in named]
        if self.durability != "default":
            parts.append(b"\x30" + varint(DURABILITIES[self.durability]))
        return b"".join(parts)


PLAIN = Settings()


def put(
    row: bytes, values: Iterable[Value | tuple[bytes, bytes, bytes]], settings: Settings = PLAIN
) -> bytes:
    """Encode a put as an action of a block; values are Value, or the first three parts of one."""
    return _mutation(row, _PUT, b"".join([_value(*value) for value in values]), settings)


def delete(row: bytes, erasures: Sequence[Erasure] = (), settings: Settings = PLAIN) -> bytes:
    """Encode a delete as an action of a block: of the whole row unless parts are given."""
    return _mutation(row, _DELETE, b"".join([_erasure(erasure) for erasure in erasures]), settings)


def get(row: bytes, columns: Iterable[tuple[bytes, bytes | None]] = (), versions: int = 1) -> bytes:
    """Encode a get as an action of a block: of families, or of columns."""
    return _action(0x1A, get_message(row, columns, versions))


def get_message(
    row: bytes,
    columns: Iterable[tuple[bytes, bytes | None]] = (),
    versions: int = 1,
    time_range: tuple[int, int] | None = None,
) -> bytes:
    """Encode a get: of families, or of columns; of timestamps in a range of ms, the end excluded."""
    parts = [_field(0x0A, row)]
    named: dict[bytes, list[bytes]] = {}
    for family, qualifier in columns:
        # As Java's addFamily and addColumn: of a family and columns of it the last that is named counts.
        if qualifier is None:
            named[family] = []
        else:
            named.setdefault(family, []).append(qualifier)
    for family, qualifiers in named.items():
        parts.append(_field(0x12, _field(0x0A, family) + b"".join(_field(0x12, q) for q in qualifiers)))
    if time_range is not None:
        first, last = time_range
        parts.append(_field(0x2A, b"\x08" + varint(first) + b"\x10" + varint(last)))
    if versions != 1:
        parts.append(b"\x30" + varint(versions))
    return b"".join(parts)


def block(actions: Sequence[bytes]) -> bytes:
    """Join actions to a block."""
    return _REGION + b"".join(actions)


def row_of(action: bytes) -> bytes:
    """Return the row of an action that this module encoded."""
    at = 0
    # The action's tag and length, those of what it holds, and of the row, which comes first in that.
    for _ in range(3):
        size, at = _number(action, at + 1)
    return action[at : at + size]


def _number(data: bytes, at: int) -> tuple[int, int]:
    """Decode a varint. Return its value and the position behind it."""
    number = shift = 0
    while True:
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
        shift += 7


def varint(number: int) -> bytes:
    """Encode a varint of 64 bits; negative numbers as two's complement."""
    if 0 <= number < 0x80:
        return _SMALL[number]
    number &= 0xFFFF_FFFF_FFFF_FFFF
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


_SMALL = [bytes((number,)) for number in range(0x80)]


def _field(tag: int, data: bytes) -> bytes:
    size = len(data)
    return (_SMALL[tag] + _SMALL[size] if size < 0x80 else _SMALL[tag] + varint(size)) + data


def _mutation(row: bytes, kind: int, columns: bytes, settings: Settings) -> bytes:
    extra = settings.encoded() if settings is not PLAIN else b""
    size = len(row)
    head = b"\x0a" + (_SMALL[size] if size < 0x80 else varint(size)) + row
    return _action(0x12, head + b"\x10" + _SMALL[kind] + columns + extra)


def _action(tag: int, message: bytes) -> bytes:
    size = len(message)
    inner = _SMALL[tag] + (_SMALL[size] if size < 0x80 else varint(size)) + message
    size = len(inner)
    return b"\x1a" + (_SMALL[size] if size < 0x80 else varint(size)) + inner


def _value(family: bytes, qualifier: bytes, value: bytes, timestamp: int | None = None) -> bytes:
    head, inner = _heads(family, qualifier)
    size = len(value)
    inner += (b"\x12" + (_SMALL[size] if size < 0x80 else varint(size))) + value
    if timestamp is not None:
        inner += b"\x18" + varint(timestamp)
    size = len(inner)
    message = head + (_SMALL[size] if size < 0x80 else varint(size)) + inner
    size = len(message)
    return b"\x1a" + (_SMALL[size] if size < 0x80 else varint(size)) + message


# Who writes many rows names the same few columns.
@lru_cache(maxsize=1024)
def _heads(family: bytes, qualifier: bytes) -> tuple[bytes, bytes]:
    """Return the beginning of a column's message, and of its values' messages."""
    return _field(0x0A, family) + b"\x12", _field(0x0A, qualifier)


def _erasure(erasure: Erasure) -> bytes:
    inner = _field(0x0A, erasure.qualifier)
    if erasure.timestamp is not None:
        inner += b"\x18" + varint(erasure.timestamp)
    inner += b"\x20" + _SMALL[erasure.kind]
    return _field(0x1A, _field(0x0A, erasure.family) + _field(0x12, inner))


def check_stamp(timestamp: int | None) -> None:
    """Raise Invalid for what is no time in ms, or too large for a Java long."""
    if timestamp is not None and not 0 <= timestamp <= LATEST:
        raise Invalid(f"timestamp={timestamp}: it is in milliseconds since 1970, and not negative")


def settings(
    timestamp: int | None = None,
    ttl: float | None = None,
    durability: str = "default",
    attributes: Mapping[str, bytes] | None = None,
    visibility: str | None = None,
) -> Settings:
    """Return the settings of a whole mutation. Raises Invalid."""
    named = dict(attributes or {})
    if visibility is not None:
        # As Mutation.setCellVisibility does: a message CellVisibility.
        named[_VISIBILITY] = _field(0x0A, visibility.encode())
    if timestamp is None and ttl is None and durability == "default" and not named:
        return PLAIN
    if durability not in DURABILITIES:
        raise Invalid(f"durability={durability!r}: it is one of {', '.join(DURABILITIES)}")
    check_stamp(timestamp)
    if ttl is not None and not 0 < ttl <= LATEST // 1000:
        raise Invalid(f"ttl={ttl}: it is in seconds, and more than 0")
    return Settings(timestamp, max(1, round(ttl * 1000)) if ttl else 0, durability, tuple(named.items()))
