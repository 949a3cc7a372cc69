"""Tables: rows as a mapping, scans, writes, counters, atomic changes."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from itertools import islice
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, Unpack, overload, runtime_checkable

import jpype

from kirsch.hbase.block_transfer import cells, gets, mutations, pack, sizes
from kirsch.hbase.calls import call
from kirsch.hbase.cell import Cell
from kirsch.hbase.codec import LONG, Codec, K, V
from kirsch.hbase.compiled import decode_rows
from kirsch.hbase.convert import to_python
from kirsch.hbase.encoder import Encoder
from kirsch.hbase.errors import HBaseError, Invalid
from kirsch.hbase.filters import java_filter
from kirsch.hbase.jvm import hbase
from kirsch.hbase.mutation import PLAIN, block, get, row_of, settings
from kirsch.hbase.row import Codecs, Column, Row, column, column_or_family
from kirsch.hbase.scan import Query, Range, Scanner, Some, Span, Which, check_range, java_scan
from kirsch.hbase.writes import Batch, Mutator, Writes

if TYPE_CHECKING:
    from pathlib import Path

    from kirsch.hbase.connection import Connection

D = TypeVar("D")
# Gets in one request, and as many versions as protobuf's number holds.
_GETS = 500
_EVERY = (1 << 31) - 1
_ALL = Query()
# What a scan takes besides.
_RANGE = ("start", "stop", "after", "prefix", "reverse", "limit", "raw", "caching")
OPERATORS = {
    "=": "EQUAL",
    "!=": "NOT_EQUAL",
    "<": "LESS",
    "<=": "LESS_OR_EQUAL",
    ">": "GREATER",
    ">=": "GREATER_OR_EQUAL",
}


@runtime_checkable
class Frame(Protocol):
    """A pandas.DataFrame, of which nothing is imported."""

    @property
    def columns(self) -> Any: ...
    def itertuples(self, index: bool = ..., name: str | None = ...) -> Iterable[Any]: ...


@dataclass(frozen=True, slots=True)
class Page(Generic[K, V]):
    """A page of rows, and the key after which the next one begins."""

    rows: list[Row[K, V]]
    after: K | None


class Table(Writes[K, V]):
    """Rows of a table, as a mapping. Safe for any number of threads.

    `table[key]` is a Row, or KeyError; `table[key] = {"cf:q": value}` writes these columns and keeps the
    row's others; `del table[key]`; `key in table`; iterating gives the keys. K is the type of keys, V that of
    values, as the codecs have them.
    """

    def __init__(self, connection: "Connection", name: str, codecs: Codecs) -> None:
        self.connection = connection
        self.name = name
        self.codecs = codecs
        self.encoder = Encoder(codecs)

    @property
    def java(self) -> Any:
        """Return this thread's Java Table."""
        return self.connection.java_table(self.name)

    def __repr__(self) -> str:
        return f"Table({self.name!r})"

    # Reading

    @overload
    def get(self, row: K, default: None = None, **query: Unpack[Which]) -> Row[K, V] | None: ...
    @overload
    def get(self, row: K, default: D, **query: Unpack[Which]) -> Row[K, V] | D: ...
    def get(self, row: K, default: Any = None, **query: Unpack[Which]) -> Any:
        """Return a row, or `default` where there is none. `query`: columns=, versions= (1; None: all),
        time_range=, timestamp=, filter=, java= (a function that is given the Java Get)."""
        key = self.encoder.key(row)
        found = self._cells(key, _query("get", query) if query else _ALL)
        return Row(key, found, self.codecs) if found else default

    def _cells(self, key: bytes, query: Query) -> list[Cell]:
        message = query.message(key)
        if message is not None:
            found: list[Cell] = self.connection.call(lambda: self.connection.reader(self.name)(message))
            return found
        java = query.apply(hbase("client.Get")(key))
        return self._call(lambda table: cells(table.get(java)))  # type: ignore[no-any-return]

    def exists(self, row: K, **query: Unpack[Which]) -> bool:
        """Return whether a row has cells that match the query."""
        java = _query("exists", query).apply(hbase("client.Get")(self.encoder.key(row)))
        return bool(self._call(lambda table: table.exists(java)))

    def scan(
        self,
        start: K | None = None,
        stop: K | None = None,
        *,
        after: K | None = None,
        prefix: K | tuple[Any, ...] | None = None,
        reverse: bool = False,
        limit: int | None = None,
        raw: bool = False,
        caching: bool = True,
        **query: Unpack[Which],
    ) -> Scanner[K, V]:
        """Return the rows from `start` (inclusive) to `stop` (exclusive), or after the key `after`, or whose
        keys begin with `prefix` (of a composite key: a tuple of its first parts), as an iterator that reads
        one block ahead. `reverse` reads from the last to the first, with `start` above `stop`. `raw` includes
        delete markers. `caching` lets the server cache the blocks it reads. `query` as for `get`."""
        edges = {"start": start, "stop": stop, "after": after}
        encoded = {n: self.codecs.key.encode(v) if v is not None else None for n, v in edges.items()}
        encoded["prefix"] = None if prefix is None else self.codecs.key.prefix(prefix)
        java = java_scan(
            _query("scan", query, _RANGE), Range(**encoded, reverse=reverse), limit, raw, caching
        )
        return Scanner(self.java, java, self.codecs, limit, self.connection.timeout)

    # Writing

    def _add(self, action: bytes) -> None:
        """Write one row by Java's put or delete: these tell at once that a table is disabled, and Table.batch
        would try again until its timeout."""
        data = block([action])
        try:
            self._call(self._write, data)
        except HBaseError as error:
            error.failures = error.failures or ((row_of(action), error),)
            raise

    @staticmethod
    def _write(table: Any, data: bytes) -> None:
        (change,) = mutations(data)
        (table.put if isinstance(change, hbase("client.Put")) else table.delete)(change)

    @overload
    def increment(
        self,
        row: K,
        columns: Column,
        amount: int = 1,
        *,
        attributes: Mapping[str, bytes] | None = None,
        visibility: str | None = None,
    ) -> int: ...
    @overload
    def increment(
        self,
        row: K,
        columns: Mapping[Any, int],
        *,
        attributes: Mapping[str, bytes] | None = None,
        visibility: str | None = None,
    ) -> dict[bytes, int]: ...
    def increment(
        self,
        row: K,
        columns: Mapping[Any, int] | Column,
        amount: int = 1,
        *,
        attributes: Mapping[str, bytes] | None = None,
        visibility: str | None = None,
    ) -> Any:
        """Add to counters (8 bytes, a Java long). Return the new value of one column, or of a mapping
        {column: amount} a dict."""
        one = not isinstance(columns, Mapping)
        amounts: Mapping[Any, int] = {columns: amount} if one else columns  # type: ignore[assignment]
        java = hbase("client.Increment")(self.encoder.key(row))
        for name, by in amounts.items():
            LONG.encode(by)
            java.addColumn(*column(name), jpype.JLong(by))
        _attach(java, attributes, visibility)
        found = self._call(lambda table: cells(table.increment(java)))
        values = {cell.column: LONG.decode(cell.value) for cell in found}
        return next(iter(values.values())) if one else values

    def counter(self, row: K, name: Column) -> int:
        """Return a counter's value; 0 where there is none."""
        found = self._cells(self.encoder.key(row), Query((name,)))
        return int(LONG.decode(found[0].value)) if found else 0

    def append(
        self,
        row: K,
        values: Mapping[Any, V],
        *,
        attributes: Mapping[str, bytes] | None = None,
        visibility: str | None = None,
    ) -> Row[K, V]:
        """Append to values. Return the row afterwards."""
        java = hbase("client.Append")(self.encoder.key(row))
        for value in self.encoder.values(values):
            java.addColumn(value.family, value.qualifier, value.value)
        _attach(java, attributes, visibility)
        key = self.encoder.key(row)
        return Row(key, self._call(lambda table: cells(table.append(java))), self.codecs)

    def mutate(self, row: K, put: Mapping[Any, V] | None = None, delete: Iterable[Column] = ()) -> None:
        """Put and delete in one row atomically."""
        self.connection.call(self.java.mutateRow, self._mutations(row, put, delete))

    def check_and_mutate(
        self,
        row: K,
        condition: Column | None = None,
        operator: str = "=",
        value: Any = None,
        *,
        filter: Any = None,
        time_range: tuple[int, int] | None = None,
        put: Mapping[Any, V] | None = None,
        delete: Iterable[Column] = (),
    ) -> bool:
        """Put and delete in one row atomically, if a condition holds. Return whether it held.

        The condition is that a column's value is `= != < <= > >=` a value (None: there is no such column), or
        that a filter accepts the row. `<` and the like need a codec whose bytes sort as values do, or LONG.
        """
        builder = hbase("client.CheckAndMutate").newBuilder(self.encoder.key(row))
        if filter is not None:
            builder.ifMatches(java_filter(filter))
        elif condition is None:
            raise Invalid("a check has a column or a filter")
        else:
            family, qualifier = column(condition)
            if value is None:
                builder.ifNotExists(family, qualifier)
            else:
                _match(builder, family, qualifier, operator, self.codecs.of(family, qualifier), value)
        if time_range is not None:
            check_range(time_range)
            builder.timeRange(hbase("io.TimeRange").between(*time_range))
        built = call(builder.build, self._mutations(row, put, delete))
        return bool(self._call(lambda table: table.checkAndMutate(built)).isSuccess())

    def _mutations(self, row: K, put: Mapping[Any, V] | None, delete: Iterable[Column]) -> Any:
        """Return a Java RowMutations. Raises Invalid."""
        actions = [] if put is None else [self.encoder.put(row, put, PLAIN)]
        if taken := list(delete) if not isinstance(delete, str | bytes) else [delete]:
            actions.append(self.encoder.delete(row, taken, None, True, PLAIN))
        if not actions:
            raise Invalid("nothing to do: give it put= or delete=")
        return hbase("client.RowMutations").of(call(mutations, block(actions)))

    def batch(self) -> Batch[K, V]:
        """Return a batch: puts and deletes of many rows, sent together at the end of a `with`."""
        return Batch(self)

    def mutator(self, buffer: int = 2 << 20) -> Mutator[K, V]:
        """Return a mutator: puts and deletes of any number of rows, sent while more are made; `buffer` is
        Java's, in bytes."""
        return Mutator(self, buffer)

    def put_many(
        self, rows: Iterable[tuple[K, Mapping[Any, V]]] | Mapping[K, Mapping[Any, V]] | Frame
    ) -> int:
        """Put any number of rows: pairs of key and values, a mapping of these, or a pandas.DataFrame as
        Scanner.pandas makes it. Return their number."""
        pairs: Iterable[tuple[K, Mapping[Any, V]]]
        if isinstance(rows, Frame):
            from kirsch.hbase.export import puts

            pairs = puts(rows, self.codecs)
        else:
            pairs = rows.items() if isinstance(rows, Mapping) else rows
        count = 0
        with self.mutator() as mutator:
            for row, values in pairs:
                mutator.put(row, values)
                count += 1
        return count

    def bulk_load(
        self,
        rows: Iterable[tuple[K, Mapping[Any, V]]],
        folder: "str | Path",
        *,
        timestamp: int | None = None,
        timeout: float = 600.0,
    ) -> int:
        """Load rows as files (HFiles) that HBase takes over, past its log and its memory. Return the number
        of rows.

        `rows` are pairs of key and values, sorted by the keys' bytes. `folder` is one that the region servers
        read and may move files from: a URI such as hdfs://nn/tmp, or a path for a server on this machine; a
        folder in it has the files meanwhile. Loading may take `timeout` seconds. The connection has the jars
        of kirsch.hbase.jars.bulk, or HBASE_HOME's. Raises NoJars; Invalid and HBaseError, where no row was
        loaded, or those of some regions.
        """
        from kirsch.hbase import bulk

        return bulk.load(self, rows, folder, timestamp, timeout)

    def apply(self, actions: list[bytes]) -> None:
        """Write encoded actions. Raises HBaseError; its `failures` are the rows that were not written, all of
        them where the request was refused."""
        data = block(actions)
        try:
            self.connection.call(lambda: self.connection.writer(self.name)(data))
        except HBaseError as error:
            error.failures = error.failures or tuple((row_of(action), error) for action in actions)
            raise

    def coprocessor(
        self,
        service: Any,
        function: Callable[[Any], Any],
        start: bytes | None = None,
        stop: bytes | None = None,
    ) -> dict[bytes, Any]:
        """Call a coprocessor's service in each region with keys from `start` to `stop` (inclusive).
        `function` gets the service's stub; its results are returned by the regions' names. `service` is the
        generated Java class."""
        called = jpype.JProxy(
            "org.apache.hadoop.hbase.client.coprocessor.Batch$Call", dict={"call": function}
        )
        kind = service.class_ if hasattr(service, "class_") else service
        found = self._call(lambda table: table.coprocessorService(kind, start, stop, called))
        return {bytes(entry.getKey()): to_python(entry.getValue()) for entry in found.entrySet()}

    def _call(self, function: Any, *arguments: Any) -> Any:
        return self.connection.call(lambda: function(self.java, *arguments))

    def get_many(self, keys: Iterable[K], **query: Unpack[Some]) -> list[Row[K, V] | None]:
        """Return rows by their keys in that order, None for missing ones, in a few requests. `query` may have
        columns and versions only."""
        unknown = set(query) - {"columns", "versions"}
        if unknown:
            raise Invalid(f"get_many takes columns= and versions=, not {', '.join(sorted(unknown))}=")
        given = query.get("columns", ())
        named = [column_or_family(one) for one in ([given] if isinstance(given, str | bytes) else given)]
        versions = query.get("versions", 1)
        Query(versions=versions).check()
        wanted = [self.encoder.key(key) for key in keys]
        found: list[Row[K, V] | None] = []
        for begin in range(0, len(wanted), _GETS):
            some = wanted[begin : begin + _GETS]
            actions = [get(key, named, _EVERY if versions is None else versions) for key in some]
            data, counts = self._call(self._get_many, block(actions))
            rest = (cell for _, cells in decode_rows(data) for cell in cells)
            for key, count in zip(some, counts, strict=True):
                found.append(Row(key, list(islice(rest, count)), self.codecs) if count else None)
        return found

    @staticmethod
    def _get_many(table: Any, data: bytes) -> tuple[bytes, list[int]]:
        results = table.get(gets(data))
        return pack(results), sizes(results)

    def count(self, *, after: K | None = None, **scan: Unpack[Span]) -> int:
        """Count all rows, or those of a scan. Only their keys are transferred."""
        given = scan.get("filter")
        keys = hbase("filter.FilterList")()
        if given is not None:
            keys.addFilter(java_filter(given))
        keys.addFilter(hbase("filter.FirstKeyOnlyFilter")())
        keys.addFilter(hbase("filter.KeyOnlyFilter")())
        scan["filter"] = keys
        return sum(1 for _ in self.scan(after=after, **scan))

    def page(self, size: int, after: K | None = None, **scan: Unpack[Span]) -> Page[K, V]:
        """Return a page of at most `size` rows after the key `after`: `page.rows`, and `page.after` for the
        next page, None at the end."""
        if size < 1:
            raise Invalid(f"a page of {size} rows: it has 1 at least")
        scan["limit"] = size + 1
        rows = list(self.scan(after=after, **scan))
        return Page(rows[:size], rows[size - 1].key if len(rows) > size else None)

    # A mapping

    def __getitem__(self, row: K) -> Row[K, V]:
        found = self.get(row)
        if found is None:
            raise KeyError(row)
        return found

    def __setitem__(self, row: K, values: Mapping[Any, V]) -> None:
        self.put(row, values)

    def __delitem__(self, row: K) -> None:
        self.delete(row)

    def __contains__(self, row: K) -> bool:
        return self.exists(row)

    def __iter__(self) -> Iterator[K]:
        for row in self.scan(filter="FirstKeyOnlyFilter() AND KeyOnlyFilter()"):
            yield row.key

    def items(self, *, after: K | None = None, **scan: Unpack[Span]) -> Iterator[tuple[K, Row[K, V]]]:
        """Yield keys and rows of a scan."""
        return ((row.key, row) for row in self.scan(after=after, **scan))


def _attach(java: Any, attributes: Mapping[str, bytes] | None, visibility: str | None) -> None:
    """Set attributes of a Java Increment or Append."""
    for name, value in settings(attributes=attributes, visibility=visibility).attributes:
        java.setAttribute(name, value)


def _query(method: str, given: Mapping[str, Any], besides: tuple[str, ...] = ()) -> Query:
    """Return a query of keyword arguments. Raises Invalid for an unknown name, with those there are."""
    try:
        return Query(**given)
    except TypeError:
        there = [*besides, *(field.name for field in fields(Query))]
        unknown = next(name for name in given if name not in there)
        near = get_close_matches(unknown, there, 1)
        hint = f"do you mean {near[0]}=?" if near else f"there are {', '.join(there)}"
        raise Invalid(f"{method} has no {unknown}=: {hint}") from None


def _match(
    builder: Any, family: bytes, qualifier: bytes, operator: str, codec: Codec[Any], value: Any
) -> None:
    """Set the condition of a CheckAndMutate: a column's value compared with one. Raises Invalid."""
    compare, data = _operator(operator), codec.encode(value)
    if operator in ("=", "!=") or codec.ordered:
        builder.ifMatches(family, qualifier, compare, data)
    elif codec is LONG:
        # Of Java's numbers only long has a comparator at the server; others sort negatives last, as bytes do.
        comparator = hbase("filter.LongComparator")(value)
        plain = hbase("CompareOperator").valueOf(OPERATORS[operator])
        condition = hbase("filter.SingleColumnValueFilter")(family, qualifier, plain, comparator)
        condition.setFilterIfMissing(True)
        builder.ifMatches(condition)
    else:
        raise Invalid(
            f"{operator} cannot compare values of codec {codec.name}, whose bytes do not sort as values do: "
            "compare with = or !=, keep such numbers with LONG, or give a codec of your own ordered=True"
        )


def _operator(text: str) -> Any:
    """A Java CompareOperator, as the value is on its left: HBase's own is the other way round."""
    flipped = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}.get(text, text)
    if flipped not in OPERATORS:
        raise Invalid(f"{text!r} does not compare: there are {' '.join(OPERATORS)}")
    return hbase("CompareOperator").valueOf(OPERATORS[flipped])
