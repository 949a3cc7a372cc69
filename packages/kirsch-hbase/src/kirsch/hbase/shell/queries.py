"""Reading of cells by commands: from options to Java's Get and Scan, and from cells to what is shown."""

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from kirsch.hbase.shell.answers import Grid, Stream
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
_LIKE_FORMATTER = re.compile(r"to[A-Z]\w*")
COLUMNS = ("ROW", "COLUMN", "TIMESTAMP", "VALUE")
# The largest of Java's numbers.
INT, LONG = (1 << 31) - 1, (1 << 63) - 1
# Lines of a rewrite that go to the server at once.
BLOCK = 1000
META = "hbase:meta"
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
            if _LIKE_FORMATTER.fullmatch(told):
                self.decoder(told)  # Raises CommandError for one that does not exist.
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

    def decode_meta(self) -> None:
        """Show the columns of hbase:meta decoded, unless a formatter is given for them."""
        region = self._session.java("client.RegionInfo").parseFromOrNull
        readable: dict[bytes, Decode] = {
            b"info:regioninfo": lambda value: str(region(self._session.bytes(value)) or shown(value)),
            b"info:serverstartcode": self.decoder("toLong"),
            b"info:seqnumDuringOpen": self.decoder("toLong"),
        }
        self._columns = {**readable, **self._columns}

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


def _versions(session: Session, java: Any, value: Any) -> None:
    if number(value, "VERSIONS", INT) < 1:
        raise CommandError("VERSIONS is 1 or more")
    session.call(java.readVersions, number(value, "VERSIONS"))


def _timestamp(session: Session, java: Any, value: Any) -> None:
    stamp = session.java("java.lang.Long")(number(value, "TIMESTAMP")).longValue()
    session.call(java.setTimestamp, stamp)


def _time_range(session: Session, java: Any, value: Any) -> None:
    if len(many(value)) != 2:
        raise UsageError("TIMERANGE is written [FROM, TO], in ms")
    session.call(java.setTimeRange, *(number(one, "TIMERANGE") for one in value))


def _filter(session: Session, java: Any, value: Any) -> None:
    from kirsch.hbase.filters import java_filter

    java.setFilter(java_filter(value))


def _labels(session: Session, java: Any, value: Any) -> None:
    java.setAuthorizations(session.java("security.visibility.Authorizations")(session.strings(value)))


def _attributes(session: Session, java: Any, value: Any) -> None:
    for name, one in value.items():
        java.setAttribute(text(name), session.bytes(one))


def _enum(setter: str, kind: str) -> Callable[[Session, Any, Any], None]:
    return lambda session, java, value: getattr(java, setter)(session.enum(kind, value))


def _number(setter: str, name: str, most: int) -> Callable[[Session, Any, Any], None]:
    return lambda session, java, value: session.call(getattr(java, setter), number(value, name, most))


def _truth(setter: str) -> Callable[[Session, Any, Any], None]:
    return lambda session, java, value: getattr(java, setter)(bool(value))


def _nothing(session: Session, java: Any, value: Any) -> None:
    """Accept an option that has no effect here: rows come whole, in blocks bounded by bytes."""


# Options of get and scan, and what sets each on a Java Get or Scan; those of a scan only; and options that
# are read together. The parser, completion and help take them from here.
BOTH: dict[str, Callable[[Session, Any, Any], None]] = {
    "VERSIONS": _versions,
    "TIMESTAMP": _timestamp,
    "TIMERANGE": _time_range,
    "FILTER": _filter,
    "AUTHORIZATIONS": _labels,
    "ATTRIBUTES": _attributes,
    "CONSISTENCY": _enum("setConsistency", "client.Consistency"),
    "REGION_REPLICA_ID": _number("setReplicaId", "REGION_REPLICA_ID", INT),
    "ISOLATION_LEVEL": _enum("setIsolationLevel", "client.IsolationLevel"),
    "CACHE_BLOCKS": _truth("setCacheBlocks"),
}
SCAN_ONLY: dict[str, Callable[[Session, Any, Any], None]] = {
    "RAW": _truth("setRaw"),
    "CACHE": _number("setCaching", "CACHE", INT),
    "MAX_RESULT_SIZE": _number("setMaxResultSize", "MAX_RESULT_SIZE", LONG),
    "READ_TYPE": _enum("setReadType", "client.Scan$ReadType"),
    "BATCH": _nothing,
    "ALLOW_PARTIAL_RESULTS": _nothing,
}
SHOWN = ("FORMATTER", "FORMATTER_CLASS", "MAXLENGTH")
GET = ("COLUMN", "COLUMNS", *BOTH, *SHOWN)
RANGE = (
    "LIMIT", "STARTROW", "STOPROW", "ENDROW", "ROWPREFIXFILTER", "PREFIX", "REVERSED", "INCLUSIVE_STOP",
)  # fmt: skip
METRICS = ("ALL_METRICS", "METRICS")
SCAN = ("COLUMN", "COLUMNS", *RANGE, *BOTH, *SCAN_ONLY, *METRICS, *SHOWN)


def query(
    session: Session, java: Any, format_: Format, columns: Iterable[Any], options: dict[str, Any]
) -> None:
    """Set columns and options on a Java Get or Scan, and remove them from `options`."""
    for column in columns:
        family, qualifier = format_.column(column)
        if qualifier is None:
            java.addFamily(session.bytes(family))
        else:
            java.addColumn(session.bytes(family), session.bytes(qualifier))
    if "timerange" in options and options.get("versions") is None:
        java.readAllVersions()
    for name, apply in BOTH.items():
        if (value := options.pop(name.lower(), None)) is not None:
            apply(session, java, value)


def scan_of(session: Session, format_: Format, options: dict[str, Any]) -> tuple[Any, int | None]:
    """Return a Java Scan of a command's options, and its limit. Raises UsageError for an unknown option."""
    scan = session.java("client.Scan")()
    columns = [*many(options.pop("columns", None)), *many(options.pop("column", None))]
    query(session, scan, format_, columns, options)
    for name, apply in SCAN_ONLY.items():
        if (value := options.pop(name.lower(), None)) is not None:
            apply(session, scan, value)
    start = _either(options, "startrow", "start")
    stop = _either(options, "stoprow", "endrow", "stop")
    prefix = _either(options, "rowprefixfilter", "prefix")
    backwards = bool(_either(options, "reversed", "reverse"))
    inclusive = bool(options.pop("inclusive_stop", False))
    if prefix is not None:
        _prefix(session, scan, data(prefix), start, stop, backwards)
    else:
        if start is not None:
            session.call(scan.withStartRow, session.bytes(start))
        if stop is not None:
            session.call(scan.withStopRow, session.bytes(stop), inclusive)
    if backwards:
        scan.setReversed(True)
    limit = options.pop("limit", None)
    limit = None if limit is None or limit == -1 else number(limit, "LIMIT")
    # A limit beyond Java's int is counted here only, as the rows come.
    if limit and limit <= INT:
        scan.setLimit(limit)
    refuse("scan", options, SCAN, "a scan")
    return scan, limit


def refuse(command: str, options: Mapping[str, Any], known: Sequence[str], subject: str = "") -> None:
    """Raise UsageError for an option that was not used, with a similar one."""
    for name in options:
        near = difflib.get_close_matches(name.upper(), known, 1)
        hint = f"; do you mean {near[0]}?" if near else f": help({command!r}) says which there are"
        raise UsageError(f"{subject or command} has no option {name.upper()}{hint}")


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
    metrics, every = given.pop("metrics", None), given.pop("all_metrics", False)
    scan, limit = scan_of(session, format_, given)
    if table == META:
        format_.decode_meta()
    if metrics or every:
        scan.setScanMetricsEnabled(True)
    connection = session.connection
    scanner = Scanner(connection.java_table(table), scan, PLAIN, limit, connection.timeout)
    stream = Stream(COLUMNS, iter(scanner), format_.lines, "row", scanner.close)
    if metrics or every:
        stream.after = lambda: _metrics(
            scanner, () if every else [text(one).upper() for one in many(metrics)]
        )
    return stream


def _metrics(scanner: Any, names: Iterable[str]) -> Grid:
    """Return the metrics of a scan that has ended: the named ones, or all."""
    found = scanner.metrics()
    wanted = [name for name in sorted(found) if not names or name in names]
    return Grid(("METRIC", "VALUE"), [(name, found[name]) for name in wanted], "metric")


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
