"""Rows: a key, its cells, and a mapping of columns to their newest values; names of columns. Pure."""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, Generic

from kirsch.hbase.cell import Cell
from kirsch.hbase.codec import BYTES, Codec, K, V, codec
from kirsch.hbase.errors import Invalid

# "family:qualifier", or both apart, for a qualifier that is not text.
Column = str | bytes | tuple[str | bytes, str | bytes]
Given = Codec[Any] | str | Mapping[str, Codec[Any] | str]


def column(given: Column) -> tuple[bytes, bytes]:
    """Return a column's family and qualifier, which is empty for `family` and `family:`. Raises Invalid."""
    try:
        return _column(given)
    except TypeError:
        raise Invalid(_NO_COLUMN.format(given)) from None


# Who writes many rows names the same few columns.
@lru_cache(maxsize=1024)
def _column(given: Column) -> tuple[bytes, bytes]:
    family, qualifier = column_or_family(given)
    return family, qualifier or b""


_NO_COLUMN = "{!r} is no column: columns are 'family:qualifier' or (family, qualifier)"


def column_or_family(given: Column) -> tuple[bytes, bytes | None]:
    """Return a column's family and qualifier, which is None for `family`. Raises Invalid."""
    if isinstance(given, str):
        given = given.encode()
    if isinstance(given, bytes):
        family, colon, qualifier = given.partition(b":")
        if not family:
            raise Invalid(f"{given!r} names no family: columns are 'family:qualifier'")
        return family, qualifier if colon else None
    if isinstance(given, tuple) and len(given) == 2:
        first, second = (part.encode() if isinstance(part, str) else part for part in given)
        if isinstance(first, bytes) and isinstance(second, bytes) and first:
            return first, second
    raise Invalid(_NO_COLUMN.format(given))


class Codecs:
    """Codecs of a table: one for keys, one for values, others for columns or families."""

    __slots__ = ("_by_column", "_value", "key", "plain")

    def __init__(self, key: Codec[Any] | str = BYTES, value: Given = BYTES) -> None:
        self.key = codec(key)
        self._by_column: dict[bytes, Codec[Any]] = {}
        if isinstance(value, Mapping):
            self._by_column = {name.encode(): codec(one) for name, one in value.items() if name}
            self._value = codec(value.get("", BYTES))
        else:
            self._value = codec(value)
        # Nothing to decode: cells are as they came.
        self.plain = self.key is BYTES and self._value is BYTES and not self._by_column

    @property
    def single(self) -> Codec[Any] | None:
        """Return the codec of all values, if there is a single one."""
        return None if self._by_column else self._value

    def of(self, family: bytes, qualifier: bytes) -> Codec[Any]:
        """Return the codec of a column: its own, its family's, or the table's."""
        if not self._by_column:
            return self._value
        own = self._by_column.get(family + b":" + qualifier)
        return own or self._by_column.get(family) or self._value

    def decoded(self, cell: Cell) -> Cell:
        """Return a cell with its value decoded; delete markers have none."""
        if cell.deletes:
            return cell
        value = self.of(cell.family, cell.qualifier).decode(cell.value)
        return Cell(cell.row, cell.family, cell.qualifier, cell.timestamp, value, cell.type)


PLAIN = Codecs()


class Row(Mapping[bytes, V], Generic[K, V]):
    """One row: `row.key`, `row["cf:q"]` the newest value of a column, `row.cells` all there is, in HBase's
    order.

    Iterating gives the columns as bytes, `family:qualifier`; values are decoded by the table's codecs.
    """

    __slots__ = ("_cells", "_codecs", "_columns", "_decoded", "_key")

    def __init__(self, key: bytes, cells: list[Cell], codecs: Codecs = PLAIN) -> None:
        self._key = key
        self._cells = cells
        self._codecs = codecs
        self._columns: dict[bytes, Cell] | None = None
        self._decoded = codecs.plain

    @property
    def key(self) -> K:
        """Return the key, decoded by the table's key codec."""
        key: Any = self._key if self._codecs.plain else self._codecs.key.decode(self._key)
        return key  # type: ignore[no-any-return]

    @property
    def cells(self) -> list[Cell]:
        """Return the cells with decoded values, by family and qualifier, the newest first."""
        if not self._decoded:
            self._cells = [self._codecs.decoded(cell) for cell in self._cells]
            self._decoded = True
        return self._cells

    @property
    def raw(self) -> list[Cell]:
        """Return the cells as they came from the server, until `cells` was read."""
        return self._cells

    def cell(self, name: Column) -> Cell:
        """Return the newest cell of a column. Raises KeyError."""
        family, qualifier = column(name)
        return self._newest()[family + b":" + qualifier]

    def versions(self, name: Column) -> list[Cell]:
        """Return all cells of a column, the newest first."""
        where = column(name)
        return [cell for cell in self.cells if (cell.family, cell.qualifier) == where]

    def _newest(self) -> dict[bytes, Cell]:
        if self._columns is None:
            columns: dict[bytes, Cell] = {}
            for cell in self.cells:
                columns.setdefault(cell.family + b":" + cell.qualifier, cell)
            self._columns = columns
        return self._columns

    def __getitem__(self, name: Column) -> V:
        value: Any = self.cell(name).value
        return value  # type: ignore[no-any-return]

    def __contains__(self, name: object) -> bool:
        try:
            self.cell(name)  # type: ignore[arg-type]
        except (KeyError, Invalid):
            return False
        return True

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._newest())

    def __len__(self) -> int:
        return len(self._newest())

    def __repr__(self) -> str:
        values = {name.decode(errors="backslashreplace"): cell.value for name, cell in self._newest().items()}
        return f"Row({self.key!r}, {values!r})"

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Row):
            return self.key == other.key and self.cells == other.cells
        return super().__eq__(other)

    __hash__ = None  # type: ignore[assignment]
