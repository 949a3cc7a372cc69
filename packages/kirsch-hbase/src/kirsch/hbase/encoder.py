"""Encoder of a table's rows, columns and values as actions of a block."""

from collections.abc import Iterable, Mapping
from typing import Any

from kirsch.hbase.compiled import put
from kirsch.hbase.errors import Invalid
from kirsch.hbase.mutation import (
    ALL_VERSIONS,
    FAMILY,
    FAMILY_VERSION,
    ONE_VERSION,
    Erasure,
    Settings,
    Value,
    check_stamp,
    delete,
)
from kirsch.hbase.row import Codecs, Column, column, column_or_family

Values = Mapping[Any, Any]
# Of bytes: a short of Java's.
LONGEST_KEY = 32767


class Encoder:
    """Encoder of a table's rows and values as mutations in bytes."""

    __slots__ = ("codecs",)

    def __init__(self, codecs: Codecs) -> None:
        self.codecs = codecs

    def key(self, row: Any) -> bytes:
        """Encode a row's key. Raises CodecError, Invalid."""
        key = row if type(row) is bytes and self.codecs.plain else self.codecs.key.encode(row)
        if not 0 < len(key) <= LONGEST_KEY:
            raise Invalid(f"a row's key has 1 to {LONGEST_KEY} bytes, this one {len(key)}")
        return key

    def values(self, values: Values) -> list[Value]:
        """Return the encoded values of a put. Raises CodecError, Invalid."""
        return [Value(family, qualifier, data) for family, qualifier, data in self.encoded(values)]

    def encoded(self, values: Values) -> list[tuple[bytes, bytes, bytes]]:
        """Return family, qualifier and encoded value of each value of a put. Raises CodecError, Invalid."""
        if not values:
            raise Invalid("a put has no values: give it {'family:qualifier': value}")
        plain, of = self.codecs.plain, self.codecs.of
        encoded = []
        try:
            named = values.items()
        except AttributeError:
            raise Invalid(f"a put's values are {{'family:qualifier': value}}, not {values!r:.60}") from None
        for name, value in named:
            family, qualifier = column(name)
            data = value if plain and type(value) is bytes else of(family, qualifier).encode(value)
            encoded.append((family, qualifier, data))
        return encoded

    def put(self, row: Any, values: Values, settings: Settings) -> bytes:
        """Encode a put as an action of a block."""
        return put(self.key(row), self.encoded(values), settings)

    def delete(
        self,
        row: Any,
        columns: Iterable[Column],
        timestamp: int | None,
        all_versions: bool,
        settings: Settings,
    ) -> bytes:
        """Encode a delete as an action of a block."""
        return delete(self.key(row), erasures(columns, timestamp, all_versions), settings)


def erasures(columns: Iterable[Column], timestamp: int | None, all_versions: bool) -> list[Erasure]:
    """Return the parts of a row to delete; none is the whole row. Raises Invalid."""
    check_stamp(timestamp)
    found = []
    for name in [columns] if isinstance(columns, str | bytes) else columns:
        family, qualifier = column_or_family(name)
        if qualifier is None:
            found.append(Erasure(family, b"", FAMILY if all_versions else FAMILY_VERSION, timestamp))
        else:
            found.append(Erasure(family, qualifier, ALL_VERSIONS if all_versions else ONE_VERSION, timestamp))
    return found
