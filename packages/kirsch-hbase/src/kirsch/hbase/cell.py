"""One value in a table, with its coordinates; and blocks of them as bytes, in HBase's own form. Pure.

A block is what HBase's KeyValueCodec writes: for each cell a length of 4 bytes, then a KeyValue:

    key length 4 | value length 4 | row length 2 | row | family length 1 | family | qualifier | timestamp 8 |
    type 1 | value

all big-endian; what the key length leaves is the qualifier's.
"""

from struct import Struct
from struct import error as struct_error
from typing import Any, NamedTuple

# Types of cells (KeyValue.Type): a put, and the markers that deletes leave; a raw scan shows those.
PUT = 4
DELETE = 8
DELETE_FAMILY_VERSION = 10
DELETE_COLUMN = 12
DELETE_FAMILY = 14
TYPES = {
    PUT: "Put",
    DELETE: "Delete",
    DELETE_FAMILY_VERSION: "DeleteFamilyVersion",
    DELETE_COLUMN: "DeleteColumn",
    DELETE_FAMILY: "DeleteFamily",
}
# 'Now': the server puts its own time in place of it (HConstants.LATEST_TIMESTAMP).
LATEST = (1 << 63) - 1
_HEAD = Struct(">IIIH")
_STAMP = Struct(">q")
# Of the key: row length, family length, timestamp and type.
_KEY_OVERHEAD = 2 + 1 + 8 + 1


class Cell(NamedTuple):
    """A value and where it is: `timestamp` in milliseconds since 1970, `type` one of TYPES."""

    row: bytes
    family: bytes
    qualifier: bytes
    timestamp: int
    value: Any
    type: int = PUT

    @property
    def column(self) -> bytes:
        """Return the full name, `family:qualifier`."""
        return self.family + b":" + self.qualifier

    @property
    def deletes(self) -> bool:
        """Return whether the cell is a delete marker, which has no value."""
        return self.type != PUT


def decode(block: bytes) -> list[Cell]:
    """The cells of a block. Raises ValueError where the block ends within a cell."""
    return [cell for _, cells in decode_rows(block) for cell in cells]


def decode_rows(block: bytes) -> list[tuple[bytes, list[Cell]]]:
    """Return the rows of a block: their keys and cells. Raises ValueError where the block ends within a cell,
    or a cell's parts are longer than it.

    This is the reference for kirsch.hbase.compiled.block, made to be read.
    """
    rows: list[tuple[bytes, list[Cell]]] = []
    at = 0
    try:
        while at < len(block):
            total, key_length, _, row_length = _HEAD.unpack_from(block, at)
            row = at + _HEAD.size
            family = row + row_length
            qualifier = family + 1 + block[family]
            value = at + 12 + key_length
            at += 4 + total
            if qualifier + 9 > value or value > at:
                raise IndexError
            key = block[row:family]
            if not rows or rows[-1][0] != key:
                rows.append((key, []))
            timestamp, kind = _STAMP.unpack_from(block, value - 9)[0], block[value - 1]
            names = block[family + 1 : qualifier], block[qualifier : value - 9]
            rows[-1][1].append(Cell(rows[-1][0], *names, timestamp, block[value:at], kind))
    except (IndexError, struct_error):
        raise ValueError("the block ends within a cell") from None
    if at != len(block):
        raise ValueError("the block ends within a cell")
    return rows


def decode_result(message: bytes) -> list[Cell]:
    """The cells of one row, as HBase's protobuf message Result has them (Client.proto, Cell.proto). Raises
    ValueError where it ends within a cell."""
    cells: list[Cell] = []
    at, size = 0, len(message)
    try:
        while at < size:
            tag, number = message[at], message[at + 1]
            at += 2
            if number > 0x7F:
                number, at = _more(message, number, at)
            if tag == 0x0A:
                end = at + number
                cells.append(_cell(message, at, end))
                at = end
            elif tag & 7:
                # Others than numbers, such as whether it is stale, are not known.
                raise ValueError(f"a result has no field {tag >> 3} of kind {tag & 7}")
    except IndexError:
        raise ValueError("the message ends within a cell") from None
    if at != size:
        raise ValueError("the message ends within a cell")
    return cells


def _cell(message: bytes, at: int, end: int) -> Cell:
    """The cell from a place to another. Raises IndexError, ValueError."""
    row = family = qualifier = value = b""
    timestamp, kind = 0, PUT
    while at < end:
        tag, number = message[at], message[at + 1]
        at += 2
        if number > 0x7F:
            number, at = _more(message, number, at)
        if tag == 0x20:
            timestamp = number
        elif tag == 0x28:
            kind = number
        elif tag & 7 == 2:
            data = message[at : at + number]
            at += number
            if tag == 0x0A:
                row = data
            elif tag == 0x12:
                family = data
            elif tag == 0x1A:
                qualifier = data
            elif tag == 0x32:
                value = data
        else:
            raise ValueError(f"a cell has no field {tag >> 3} of kind {tag & 7}")
    if at != end:
        raise IndexError
    return Cell(row, family, qualifier, timestamp, value, kind)


def _more(message: bytes, number: int, at: int) -> tuple[int, int]:
    """A varint of which the first byte was `number`: what it is, and the place behind it."""
    number &= 0x7F
    shift = 7
    while (byte := message[at]) > 0x7F:
        number |= (byte & 0x7F) << shift
        shift += 7
        at += 1
    return number | byte << shift, at + 1


def encode(cells: list[Cell]) -> bytes:
    """Cells as a block; the opposite of `decode`."""
    parts: list[bytes] = []
    for cell in cells:
        key_length = len(cell.row) + len(cell.family) + len(cell.qualifier) + _KEY_OVERHEAD
        parts += (
            _HEAD.pack(8 + key_length + len(cell.value), key_length, len(cell.value), len(cell.row)),
            cell.row,
            bytes((len(cell.family),)),
            cell.family,
            cell.qualifier,
            _STAMP.pack(cell.timestamp),
            bytes((cell.type,)),
            cell.value,
        )
    return b"".join(parts)
