"""A table as a mapping of rows, and all that one does with rows."""

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, overload

import jpype

from kirsch.hbase.calls import call
from kirsch.hbase.cell import decode
from kirsch.hbase.codec import LONG
from kirsch.hbase.crossing import mutations, pack
from kirsch.hbase.errors import Invalid
from kirsch.hbase.jvm import cls, hbase
from kirsch.hbase.mutation import (
    ALL_VERSIONS,
    FAMILY,
    FAMILY_VERSION,
    ONE_VERSION,
    Erasure,
    Settings,
    Value,
    block,
    delete,
    put,
)
from kirsch.hbase.row import Codecs, Column, Row, column, column_or_family
from kirsch.hbase.scan import Query, Range, Scanner, java_scan

if TYPE_CHECKING:
    from kirsch.hbase.connection import Connection

Values = Mapping[Any, Any]
_LONGEST_KEY = 32767


class Encoder:
    """From a table's values to mutations as bytes. Pure."""

    __slots__ = ("codecs",)

    def __init__(self, codecs: Codecs) -> None:
        self.codecs = codecs

    def key(self, row: Any) -> bytes:
        """A row's key. Raises CodecError, Invalid."""
        key = row if type(row) is bytes and self.codecs.plain else self.codecs.key.encode(row)
        if not 0 < len(key) <= _LONGEST_KEY:
            raise Invalid(f"a row's key has 1 to {_LONGEST_KEY} bytes, this one {len(key)}")
        return key

    def values(self, values: Values) -> list[Value]:
        """What a put has. Raises CodecError, Invalid."""
        if not values:
            raise Invalid("a put has no values: give it {'family:qualifier': value}")
        plain, of = self.codecs.plain, self.codecs.of
        encoded = []
        for name, value in values.items():
            family, qualifier = column(name)
            data = value if plain and type(value) is bytes else of(family, qualifier).encode(value)
            encoded.append(Value(family, qualifier, data))
        return encoded

    def put(self, row: Any, values: Values, settings: Settings) -> bytes:
        """A put as an action of a block."""
        return put(self.key(row), self.values(values), settings)

    def delete(
        self,
        row: Any,
        columns: Iterable[Column],
        timestamp: int | None,
        all_versions: bool,
        settings: Settings,
    ) -> bytes:
        """A delete as an action of a block."""
        return delete(self.key(row), erasures(columns, timestamp, all_versions), settings)


def erasures(columns: Iterable[Column], timestamp: int | None, all_versions: bool) -> list[Erasure]:
    """What a delete takes away; nothing named: the row. Raises Invalid."""
    found = []
    for name in [columns] if isinstance(columns, str | bytes) else columns:
        family, qualifier = column_or_family(name)
        if qualifier is None:
            found.append(Erasure(family, b"", FAMILY if all_versions else FAMILY_VERSION, timestamp))
        else:
            found.append(Erasure(family, qualifier, ALL_VERSIONS if all_versions else ONE_VERSION, timestamp))
    return found


class Table:
    """A table's rows. `table[key]` is a Row, or KeyError; `table[key] = {"cf:q": value}` writes these columns
    (others of the row stay); `del table[key]`; `key in table`; iterating gives the keys. For any number of
    threads."""

    def __init__(self, connection: "Connection", name: str, codecs: Codecs) -> None:
        self.connection = connection
        self.name = name
        self.codecs = codecs
        self.encoder = Encoder(codecs)

    @property
    def java(self) -> Any:
        """This thread's Java Table."""
        return self.connection.java_table(self.name)

    def __repr__(self) -> str:
        return f"Table({self.name!r})"

    # Reading

    @overload
    def get(self, row: Any, default: None = None, **query: Any) -> Row | None: ...
    @overload
    def get(self, row: Any, default: Any, **query: Any) -> Any: ...
    def get(self, row: Any, default: Any = None, **query: Any) -> Any:
        """A row, or `default` where there is none. `query`: columns=, versions= (1; None: all), time_range=,
        timestamp=, filter=."""
        java = Query(**query).apply(hbase("client.Get")(self.encoder.key(row)))
        key = bytes(java.getRow())
        cells = decode(self._call(self._get, java))
        return Row(key, cells, self.codecs) if cells else default

    @staticmethod
    def _get(table: Any, get: Any) -> bytes:
        return pack([table.get(get)])

    def exists(self, row: Any, **query: Any) -> bool:
        """Whether there is something of a row."""
        java = Query(**query).apply(hbase("client.Get")(self.encoder.key(row)))
        return bool(self._call(lambda table: table.exists(java)))

    def scan(
        self,
        start: Any = None,
        stop: Any = None,
        *,
        after: Any = None,
        prefix: Any = None,
        reverse: bool = False,
        limit: int | None = None,
        raw: bool = False,
        caching: bool = True,
        **query: Any,
    ) -> Scanner:
        """The rows from `start` (inclusive) to `stop` (exclusive), or after the key `after`, or whose keys
        begin with `prefix`, as an iterator that reads ahead by one block. `reverse`: from the last to the
        first, `start` is above `stop` then. `raw`: marks of deletes too. `caching`: may the server keep the
        blocks it reads in its cache. `query` as for `get`."""
        edges = {"start": start, "stop": stop, "after": after, "prefix": prefix}
        encoded = {n: self.codecs.key.encode(v) if v is not None else None for n, v in edges.items()}
        java = java_scan(Query(**query), Range(**encoded, reverse=reverse), limit, raw, caching)
        return Scanner(self.java, java, self.codecs, limit)

    # Writing

    def put(
        self,
        row: Any,
        values: Values,
        *,
        timestamp: int | None = None,
        ttl: float | None = None,
        durability: str = "default",
    ) -> None:
        """Write values of one row, all or none of them. `timestamp` in ms (the server's time); `ttl`: seconds
        after which they are gone; `durability`: default, skip, async, sync or fsync."""
        self._apply([self.encoder.put(row, values, settings(timestamp, ttl, durability))])

    def delete(
        self,
        row: Any,
        columns: Iterable[Column] = (),
        *,
        timestamp: int | None = None,
        all_versions: bool = True,
        durability: str = "default",
    ) -> None:
        """Delete a row, or families or columns of it: all versions up to `timestamp`, or one."""
        self._apply(
            [
                self.encoder.delete(
                    row,
                    columns,
                    timestamp,
                    all_versions,
                    settings(None if columns else timestamp, None, durability),
                )
            ]
        )

    def increment(self, row: Any, columns: Mapping[Any, int] | Column, amount: int = 1) -> Any:
        """Add to counters (8 bytes, Java's long), and their new values: of one column a number, of a mapping
        {column: amount} a dict."""
        one = not isinstance(columns, Mapping)
        amounts: Mapping[Any, int] = {columns: amount} if one else columns  # type: ignore[assignment]
        java = hbase("client.Increment")(self.encoder.key(row))
        for name, by in amounts.items():
            java.addColumn(*column(name), jpype.JLong(by))
        cells = decode(self._call(lambda table: pack([table.increment(java)])))
        values = {cell.column: LONG.decode(cell.value) for cell in cells}
        return next(iter(values.values())) if one else values

    def counter(self, row: Any, name: Column) -> int:
        """A counter's value; 0 where there is none."""
        cells = decode(
            self._call(self._get, Query((name,)).apply(hbase("client.Get")(self.encoder.key(row))))
        )
        return int(LONG.decode(cells[0].value)) if cells else 0

    def append(self, row: Any, values: Values) -> Row:
        """Append to values, and the row as it is after that."""
        java = hbase("client.Append")(self.encoder.key(row))
        for value in self.encoder.values(values):
            java.addColumn(value.family, value.qualifier, value.value)
        key = self.encoder.key(row)
        return Row(key, decode(self._call(lambda table: pack([table.append(java)]))), self.codecs)

    def _apply(self, actions: list[bytes]) -> None:
        data = block(actions)
        self._call(self._write, data)

    @staticmethod
    def _write(table: Any, data: bytes) -> None:
        given = mutations(data)
        table.batch(given, cls("java.lang.Object")[given.size()])

    def _call(self, function: Any, *arguments: Any) -> Any:
        return call(lambda: function(self.java, *arguments))

    # A mapping

    def __getitem__(self, row: Any) -> Row:
        found = self.get(row)
        if found is None:
            raise KeyError(row)
        return found

    def __setitem__(self, row: Any, values: Values) -> None:
        self.put(row, values)

    def __delitem__(self, row: Any) -> None:
        self.delete(row)

    def __contains__(self, row: Any) -> bool:
        return self.exists(row)

    def __iter__(self) -> Iterator[Any]:
        for row in self.scan(filter="FirstKeyOnlyFilter() AND KeyOnlyFilter()"):
            yield row.key

    def items(self, **scan: Any) -> Iterator[tuple[Any, Row]]:
        """Keys and rows."""
        return ((row.key, row) for row in self.scan(**scan))


def settings(timestamp: int | None, ttl: float | None, durability: str) -> Settings:
    """What holds for a whole mutation. Raises Invalid."""
    from kirsch.hbase.mutation import DURABILITIES, PLAIN

    if timestamp is None and ttl is None and durability == "default":
        return PLAIN
    if durability not in DURABILITIES:
        raise Invalid(f"durability={durability!r}: it is one of {', '.join(DURABILITIES)}")
    if timestamp is not None and timestamp < 0:
        raise Invalid(f"timestamp={timestamp}: it is in milliseconds since 1970, and not negative")
    if ttl is not None and ttl <= 0:
        raise Invalid(f"ttl={ttl}: it is in seconds, and more than 0")
    return Settings(timestamp, max(1, round(ttl * 1000)) if ttl else 0, durability)
