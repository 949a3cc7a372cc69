"""Reading of cells by commands: from options to Java's Get and Scan, and from cells to what is shown."""

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from kirsch.hbase.shell.answers import Stream
from kirsch.hbase.shell.command import CommandError, UsageError
from kirsch.hbase.shell.session import Session, data, many, shown, text

# How HBase's shell calls what its class Bytes does, and the codec that does it.
FORMATTERS = {
    "toString": "utf8",
    "toInt": "int",
    "toLong": "long",
    "toShort": "short",
    "toFloat": "float",
    "toDouble": "double",
    "toBoolean": "boolean",
}
_CLASS = re.compile(r"c\(([\w.$]+)\)\.(\w+)")
COLUMNS = ("ROW", "COLUMN", "TIMESTAMP", "VALUE")
# What a scan knows, by the names that a mistake is likely to have meant.
OPTIONS = (
    "LIMIT", "COLUMNS", "COLUMN", "STARTROW", "STOPROW", "ENDROW", "ROWPREFIXFILTER", "PREFIX", "FILTER",
    "VERSIONS", "TIMESTAMP", "TIMERANGE", "REVERSED", "RAW", "CACHE", "CACHE_BLOCKS", "MAX_RESULT_SIZE",
    "FORMATTER", "FORMATTER_CLASS", "MAXLENGTH", "AUTHORIZATIONS", "ATTRIBUTES", "ISOLATION_LEVEL",
    "CONSISTENCY", "REGION_REPLICA_ID", "READ_TYPE", "INCLUSIVE_STOP",
)  # fmt: skip
# The largest of Java's numbers.
INT, LONG = (1 << 31) - 1, (1 << 63) - 1
# Lines of a rewrite that go to the server at once.
BLOCK = 1000
Decode = Callable[[bytes], Any]


class Format:
    """Formatters of values, by column or for all; `longest` is the length at which values are cut."""

    def __init__(self, session: Session, formatter: Any = None, class_: Any = None, longest: int = 0) -> None:
        self._session = session
        self._all = self.decoder(text(formatter), class_) if formatter else None
        self._columns: dict[bytes, Decode] = {}
        self._longest = longest

    def column(self, given: Any) -> tuple[bytes, bytes | None]:
        """Parse a column: family and qualifier; `f:q:toInt` gives its formatter too."""
        name = data(given)
        family, colon, qualifier = name.partition(b":")
        if not family:
            raise CommandError(f"{shown(name)!r} names no family: write 'FAMILY' or 'FAMILY:QUALIFIER'")
        before, third, formatter = qualifier.rpartition(b":")
        if third:
            told = formatter.decode(errors="replace")
            if told in FORMATTERS or _codec(told) or _CLASS.fullmatch(told):
                qualifier = before
                self._columns[family + b":" + qualifier] = self.decoder(told)
        return family, qualifier if colon else None

    def decoder(self, name: str, class_: Any = None) -> Decode:
        """Return the decoder of a formatter's name. Raises CommandError."""
        if found := _CLASS.fullmatch(name):
            class_, name = found.groups()
        if class_ is not None:
            method = getattr(self._session.java(text(class_)), name, None)
            if method is None:
                raise CommandError(f"{class_} has no method {name}")
            return lambda value: _plain(self._session.call(method, self._session.bytes(value)))
        if name == "toStringBinary":
            return shown
        codec = _codec(FORMATTERS.get(name, name))
        if codec is None:
            from kirsch.hbase.codec import CODECS

            raise CommandError(f"there is no formatter {name}: there are {', '.join([*FORMATTERS, *CODECS])}")
        decode: Decode = codec.decode
        return decode

    def value(self, cell: Any) -> Any:
        """Return a cell's value as it is shown."""
        decode = self._columns.get(cell.column, self._all)
        made = cell.value if decode is None else decode(cell.value)
        if self._longest and isinstance(made, bytes | str):
            made = made[: self._longest]
        return made

    def lines(self, row: Any) -> list[tuple[Any, ...]]:
        """Return a row's lines in a table."""
        return [
            (
                cell.row,
                cell.column,
                cell.timestamp,
                f"type={type_name(cell)}" if cell.deletes else self.value(cell),
            )
            for cell in row.cells
        ]


def _codec(name: str) -> Any:
    from kirsch.hbase.codec import CODECS

    return CODECS.get(name)


def type_name(cell: Any) -> str:
    """Return the name of a cell's type."""
    from kirsch.hbase.cell import TYPES

    return TYPES.get(cell.type, str(cell.type))


def _plain(value: Any) -> Any:
    from kirsch.hbase import to_python

    return to_python(value)


def query(
    session: Session, java: Any, format_: Format, columns: Iterable[Any], options: dict[str, Any]
) -> None:
    """Set on a Java Get or Scan the options that both have, and remove them from `options`."""
    for column in columns:
        family, qualifier = format_.column(column)
        if qualifier is None:
            java.addFamily(session.bytes(family))
        else:
            java.addColumn(session.bytes(family), session.bytes(qualifier))
    if (versions := options.pop("versions", None)) is not None:
        if number(versions, "VERSIONS", INT) < 1:
            raise CommandError("VERSIONS is 1 or more")
        session.call(java.readVersions, number(versions, "VERSIONS"))
    if (stamp := options.pop("timestamp", None)) is not None:
        session.call(
            java.setTimestamp, session.java("java.lang.Long")(number(stamp, "TIMESTAMP")).longValue()
        )
    if (given := options.pop("timerange", None)) is not None:
        if len(many(given)) != 2:
            raise UsageError("TIMERANGE is written [FROM, TO], in ms")
        first, last = (number(one, "TIMERANGE") for one in given)
        if versions is None:
            java.readAllVersions()
        session.call(java.setTimeRange, first, last)
    if (filter_ := options.pop("filter", None)) is not None:
        from kirsch.hbase.filters import java_filter

        java.setFilter(java_filter(filter_))
    if (labels := options.pop("authorizations", None)) is not None:
        java.setAuthorizations(session.java("security.visibility.Authorizations")(session.strings(labels)))
    if (consistency := options.pop("consistency", None)) is not None:
        java.setConsistency(session.enum("client.Consistency", consistency))
    if (replica := options.pop("region_replica_id", None)) is not None:
        java.setReplicaId(number(replica, "REGION_REPLICA_ID", INT))
    if (isolation := options.pop("isolation_level", None)) is not None:
        java.setIsolationLevel(session.enum("client.IsolationLevel", isolation))
    for name, value in (options.pop("attributes", None) or {}).items():
        java.setAttribute(text(name), session.bytes(value))
    if (blocks := options.pop("cache_blocks", None)) is not None:
        java.setCacheBlocks(bool(blocks))


def scan_of(session: Session, format_: Format, options: dict[str, Any]) -> tuple[Any, int | None]:
    """Return a Java Scan of a command's options, and its limit. Raises UsageError for an unknown option."""
    scan = session.java("client.Scan")()
    columns = [*many(options.pop("columns", None)), *many(options.pop("column", None))]
    query(session, scan, format_, columns, options)
    start = _either(options, "startrow", "start")
    stop = _either(options, "stoprow", "endrow", "stop")
    prefix = _either(options, "rowprefixfilter", "prefix")
    backwards = bool(_either(options, "reversed", "reverse"))
    if prefix is not None:
        _prefix(session, scan, data(prefix), start, stop, backwards)
    else:
        if start is not None:
            session.call(scan.withStartRow, session.bytes(start))
        if stop is not None:
            session.call(scan.withStopRow, session.bytes(stop), bool(options.pop("inclusive_stop", False)))
    if backwards:
        scan.setReversed(True)
    if options.pop("raw", False):
        scan.setRaw(True)
    if (cache := options.pop("cache", None)) is not None:
        session.call(scan.setCaching, number(cache, "CACHE", INT))
    if (size := options.pop("max_result_size", None)) is not None:
        scan.setMaxResultSize(number(size, "MAX_RESULT_SIZE"))
    if (kind := options.pop("read_type", None)) is not None:
        scan.setReadType(session.enum("client.Scan$ReadType", kind))
    options.pop("allow_partial_results", None)  # rows come whole
    limit = options.pop("limit", None)
    limit = None if limit is None or limit == -1 else number(limit, "LIMIT")
    # One that Java has no number for the rows are counted by, as they come.
    if limit and limit <= INT:
        scan.setLimit(limit)
    if options:
        unknown = next(iter(options)).upper()
        near = difflib.get_close_matches(unknown, OPTIONS, 1)
        hint = f"; do you mean {near[0]}?" if near else ": help('scan') says which there are"
        raise UsageError(f"a scan has no option {unknown}{hint}")
    return scan, limit


def _prefix(session: Session, scan: Any, prefix: bytes, start: Any, stop: Any, backwards: bool) -> None:
    from kirsch.hbase.scan import Range

    first, last = (None if one is None else data(one) for one in (start, stop))
    Range(first, last, prefix=prefix, reverse=backwards).apply(scan)


def _either(options: dict[str, Any], *names: str) -> Any:
    found = [value for name in names if (value := options.pop(name, None)) is not None]
    if len(found) > 1:
        raise UsageError(f"{' and '.join(name.upper() for name in names)} are the same: one of them")
    return found[0] if found else None


def number(value: Any, name: str, most: int = LONG) -> int:
    """Check a whole number. Raises CommandError."""
    if isinstance(value, str) and value.strip().isdecimal():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise CommandError(f"{name} is a whole number, not {value!r}")
    if value > most:
        raise CommandError(f"{name} is {most} at most, not {value}")
    return value


def scanned(session: Session, table: str, options: Mapping[str, Any]) -> Stream:
    """Return the rows of a table as a stream."""
    from kirsch.hbase.row import PLAIN
    from kirsch.hbase.scan import Scanner

    given = {key.lower(): value for key, value in options.items()}
    format_ = Format(
        session,
        given.pop("formatter", None),
        given.pop("formatter_class", None),
        number(given.pop("maxlength", 0), "MAXLENGTH"),
    )
    scan, limit = scan_of(session, format_, given)
    connection = session.connection
    scanner = Scanner(connection.java_table(table), scan, PLAIN, limit, connection.timeout)
    return Stream(COLUMNS, iter(scanner), format_.lines, "row", scanner.close)


def rows_of(results: Any) -> list[Any]:
    """Return the rows of Java Results."""
    from kirsch.hbase.block_transfer import pack
    from kirsch.hbase.compiled import decode_rows
    from kirsch.hbase.row import PLAIN, Row

    return [Row(key, cells, PLAIN) for key, cells in decode_rows(pack(results))]


def rewrite(session: Session, table: Any, specification: Any, change: Callable[[Any], Any]) -> int:
    """Rewrite the cells that a scan finds, each put changed. Return their number."""
    options = {str(key): value for key, value in (specification or {}).items()}
    name = str(session.table_name(table))
    java = session.connection.java_table(name)
    done = 0
    for puts in _puts(session, scanned(session, name, options), change):
        session.call(java.put, puts)
        done += puts.size()
        session.progress.say(f"{done:,} cells")
    return done


def _puts(session: Session, rows: Iterable[Any], change: Callable[[Any], Any]) -> Iterator[Any]:
    puts = session.java("java.util.ArrayList")()
    for row in rows:
        for cell in row.cells:
            if cell.deletes:
                continue
            put = session.java("client.Put")(session.bytes(cell.row))
            put.addColumn(
                session.bytes(cell.family),
                session.bytes(cell.qualifier),
                cell.timestamp,
                session.bytes(cell.value),
            )
            change(put)
            puts.add(put)
        if puts.size() >= BLOCK:
            yield puts
            puts = session.java("java.util.ArrayList")()
    if puts.size():
        yield puts
