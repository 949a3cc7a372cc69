"""Scans: queries and ranges as values, and the iteration by blocks, with one block read ahead."""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypedDict

import jpype

from kirsch.hbase.block_transfer import next_rows, rows_of
from kirsch.hbase.calls import Pending, begin, call, late, translated
from kirsch.hbase.cell import Cell
from kirsch.hbase.codec import K, V
from kirsch.hbase.compiled import decode_rows
from kirsch.hbase.encoder import LONGEST_KEY
from kirsch.hbase.errors import Invalid, OtherJVM
from kirsch.hbase.filters import java_filter
from kirsch.hbase.jvm import hbase
from kirsch.hbase.mutation import get_message
from kirsch.hbase.row import Codecs, Column, Row, column_or_family

# A block has so many bytes, and what its last row has more: memory is bounded by it, and a call's cost is
# spread over it.
BLOCK = 1 << 20
_FIRST_ROWS = 100
_MOST_ROWS = 5000
# Of Java's numbers.
_INT = (1 << 31) - 1
_LONG = (1 << 63) - 1


class Some(TypedDict, total=False):
    """Keyword arguments of what to read of each of many rows."""

    columns: Column | Sequence[Column]
    versions: int | None


class Which(Some, total=False):
    """Keyword arguments of what to read of each row, as in Query."""

    time_range: tuple[int, int] | None
    timestamp: int | None
    filter: Any
    java: Callable[[Any], object] | None


class Span(Which, total=False):
    """Keyword arguments of a scan, but for the key after which it begins."""

    start: Any
    stop: Any
    prefix: Any
    reverse: bool
    limit: int | None
    raw: bool
    caching: bool


@dataclass(frozen=True, slots=True)
class Query:
    """Query of the cells of a row. `versions` None: all; `time_range` from (inclusive) to (exclusive), in
    ms; `java` gets the Java Get or Scan last, and sets what has no parameter here."""

    columns: Column | Sequence[Column] = ()
    versions: int | None = 1
    time_range: tuple[int, int] | None = None
    timestamp: int | None = None
    filter: Any = None
    java: Callable[[Any], object] | None = None

    def apply(self, java: Any) -> Any:
        """Set the query on a Java Get or Scan. Raises Invalid."""
        self.check()
        for given in [self.columns] if isinstance(self.columns, str | bytes) else self.columns:
            family, qualifier = column_or_family(given)
            if qualifier is None:
                java.addFamily(family)
            else:
                java.addColumn(family, qualifier)
        if self.versions is None:
            java.readAllVersions()
        elif self.versions > 1:
            java.readVersions(self.versions)
        if self.timestamp is not None:
            java.setTimestamp(self.timestamp)
        if self.time_range is not None:
            java.setTimeRange(*self.time_range)
        if self.filter is not None:
            java.setFilter(java_filter(self.filter))
        if self.java is not None:
            self.java(java)
        return java

    def message(self, row: bytes) -> bytes | None:
        """Encode a get of a row; None where it needs a Java Get. Raises Invalid."""
        self.check()
        if self.filter is not None or self.java is not None:
            return None
        named = [self.columns] if isinstance(self.columns, str | bytes) else self.columns
        versions = _INT if self.versions is None else self.versions
        at = self.timestamp
        return get_message(
            row,
            [column_or_family(given) for given in named],
            versions,
            # As Java's setTimestamp and setTimeRange: what is set last wins.
            self.time_range or (None if at is None else (at, at + 1)),
        )

    def check(self) -> None:
        """Raise Invalid for numbers that Java, or HBase, would refuse."""
        if self.versions is not None and not 0 < self.versions <= _INT:
            raise Invalid(f"versions={self.versions}: it is from 1 to {_INT}, or None for all")
        if self.timestamp is not None and not 0 <= self.timestamp < _LONG:
            raise Invalid(f"timestamp={self.timestamp}: it is in milliseconds since 1970, and not negative")
        if self.time_range is not None:
            check_range(self.time_range)


def check_range(time_range: tuple[int, int]) -> None:
    """Raise Invalid unless a range of time is (first, last) in ms."""
    first, last = time_range
    if not 0 <= first <= last <= _LONG:
        raise Invalid(f"time_range={time_range}: it is (first, last), in ms, the last not included")


@dataclass(frozen=True, slots=True)
class Range:
    """Range of rows: from `start` (inclusive) to `stop` (exclusive), or after a key, or with a prefix."""

    start: bytes | None = None
    stop: bytes | None = None
    after: bytes | None = None
    prefix: bytes | None = None
    reverse: bool = False

    def apply(self, java: Any) -> Any:
        """Set the range on a Java Scan. Raises Invalid."""
        self.check()
        start, stop, inclusive = self.start, self.stop, True
        if self.after is not None:
            start, inclusive = self.after, False
        if self.prefix:
            first, last = self.prefix, behind(self.prefix)
            if self.reverse:
                # Downwards from just below what no longer has the prefix.
                if start is None:
                    start, inclusive = (last, False) if last else (None, True)
                if stop is None:
                    java.withStopRow(first, True)
            else:
                start = first if start is None or start < first else start
                stop = last if stop is None or (last and stop > last) else stop
        if start:
            java.withStartRow(start, inclusive)
        if stop:
            java.withStopRow(stop)
        if self.reverse:
            java.setReversed(True)
        return java

    def check(self) -> None:
        """Raise Invalid for contradictions, and for what HBase would refuse."""
        if self.start is not None and self.after is not None:
            raise Invalid("a scan begins at start= or after=, not both")
        for name in ("start", "stop", "after", "prefix"):
            if len(getattr(self, name) or b"") > LONGEST_KEY:
                raise Invalid(f"a row's key has {LONGEST_KEY} bytes at most, and {name}= has more")


def behind(prefix: bytes) -> bytes:
    """Return the first key behind all that begin with `prefix`; empty if there is none."""
    trimmed = prefix.rstrip(b"\xff")
    return trimmed[:-1] + bytes((trimmed[-1] + 1,)) if trimmed else b""


class Scanner(Iterable[Row[K, V]], Generic[K, V]):
    """Rows of a scan, as an iterator that can be used once.

    It closes itself at its end, when it is interrupted or left, and when it is garbage-collected; `close` or
    `with` closes it at once. It is not thread-safe.
    """

    def __init__(
        self,
        table: Any,
        scan: Any,
        codecs: Codecs,
        limit: int | None = None,
        timeout: float | None = None,
    ) -> None:
        """`timeout` is the time in seconds that a block may take."""
        self.codecs = codecs
        self._blocks = Blocks(table, scan, limit, timeout)
        self._rows = _rows(self._blocks, codecs)

    def __iter__(self) -> Iterator[Row[K, V]]:
        # The generator itself: it costs less a row than a method.
        return self._rows

    def __next__(self) -> Row[K, V]:
        return next(self._rows)

    def arrow(self, *, wide: bool = False) -> Any:
        """Return all cells as a pyarrow.Table: a line a cell, or with `wide` a line a row and a column a
        column."""
        from kirsch.hbase import export

        return export.wide(self) if wide else export.cells(self)

    def arrow_batches(self) -> Iterator[Any]:
        """Yield a pyarrow.RecordBatch a block, a line a cell, for scans that exceed memory."""
        from kirsch.hbase import export

        return export.batches(self)

    def pandas(self) -> Any:
        """Return all rows as a pandas.DataFrame: indexed by key, a column a column, its newest value."""
        from kirsch.hbase import export

        return export.frame(self)

    def block(self) -> list[Row[K, V]] | None:
        """Return the rows of the next block; None at the end."""
        block, codecs = self._blocks.next(), self.codecs
        return None if block is None else [Row(key, cells, codecs) for key, cells in block]

    def raw_block(self) -> list[tuple[bytes, list[Cell]]] | None:
        """Return the next block as keys and undecoded cells; None at the end."""
        return self._blocks.next()

    def metrics(self) -> dict[str, int]:
        """Return Java's metrics of the scan, which are complete at its end; none unless the Scan has them
        on."""
        found = self._blocks.java.getScanMetrics() if self._blocks.java is not None else None
        return {str(e.getKey()): int(e.getValue()) for e in found.getMetricsMap().entrySet()} if found else {}

    def close(self) -> None:
        """Close the scan here and on the server."""
        self._rows.close()
        self._blocks.end()

    def __enter__(self) -> "Scanner[K, V]":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _rows(blocks: "Blocks", codecs: Codecs) -> Generator[Row[Any, Any], None, None]:
    """Yield the rows of blocks. The generator must not refer to the scanner, which refers to it: the cycle
    would keep both alive long after a loop was left."""
    try:
        while (block := blocks.next()) is not None:
            yield from [Row(key, cells, codecs) for key, cells in block]
    finally:
        blocks.end()


class Blocks:
    """Blocks of a scan; the next one is fetched while one is used. They end when they are no longer referred
    to."""

    def __init__(self, table: Any, scan: Any, limit: int | None = None, timeout: float | None = None) -> None:
        self._timeout = timeout
        self._left = limit
        self._wanted = _FIRST_ROWS if limit is None else min(limit, _FIRST_ROWS)
        # Java's scanner; `_java` is None once it is closed.
        self.java: Any = None
        self._java: Any = None
        self._pending: Pending[tuple[int, bytes]] | None = None
        if limit != 0:
            self.java = self._java = call(table.getScanner, scan, limit=timeout)
            self._source = rows_of(self._java)
            self._pending = begin(next_rows, self._source, self._wanted, BLOCK)

    def next(self) -> list[tuple[bytes, list[Cell]]] | None:
        """Return the next block, keys and their cells; None at the end."""
        pending, self._pending = self._pending, None
        if pending is None:
            return None
        try:
            count, data = pending.result(self._timeout)
        except jpype.JException as error:
            self.end()
            raise translated(error) from error
        except TimeoutError:
            self.end()
            raise late(self._timeout or 0.0) from None
        except BaseException:
            self.end()
            raise
        if self._left is not None:
            self._left -= count
        if count == 0 or self._left == 0:
            self.end()
        else:
            self._wanted = following(self._wanted, count, len(data), self._left)
            self._pending = begin(next_rows, self._source, self._wanted, BLOCK)
            self._pending.handed_over()
        return decode_rows(data) if count else None

    def end(self) -> None:
        """Close the Java scanner, in another thread."""
        java, self._java = self._java, None
        pending, self._pending = self._pending, None
        # At the end of Python there is no JVM any more, and no thread can be started.
        if java is None or not jpype.isJVMStarted():
            return

        def end() -> None:
            # A scanner is not for two threads: the block on its way comes first.
            if pending is not None:
                pending.wait()
            java.close()

        try:
            begin(end)
        except OtherJVM:
            pass  # A forked process has a copy of the scanner only.

    def __del__(self) -> None:
        self.end()


def following(wanted: int, count: int, size: int, left: int | None) -> int:
    """Return the number of rows to ask for next, after `count` rows of `size` bytes came for `wanted`."""
    fitting = BLOCK * count // max(size, 1)
    most = min(max(fitting, 1), wanted * 8, _MOST_ROWS)
    return most if left is None else min(most, left)


def java_scan(query: Query, range_: Range, limit: int | None, raw: bool, caching: bool) -> Any:
    """Return a Java Scan of a query and a range. Raises Invalid."""
    if limit is not None and (not isinstance(limit, int) or limit < 0):
        raise Invalid(f"limit={limit!r}: it is a whole number, 0 or more")
    scan = range_.apply(hbase("client.Scan")())
    if limit and limit <= _INT:
        scan.setLimit(limit)
    if raw:
        scan.setRaw(True)
    scan.setCacheBlocks(caching)
    # A request brings a block, not the three that 2 MiB would be: else the server rests while these are used.
    scan.setCaching(_MOST_ROWS)
    return query.apply(scan)
