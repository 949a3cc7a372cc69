"""Reading of cells by commands: from options to the arguments of a Table's methods, and from cells to what is
shown."""

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
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


def _versions(value: Any) -> dict[str, Any]:
    if number(value, "VERSIONS", INT) < 1:
        raise CommandError("VERSIONS is 1 or more")
    return {"versions": number(value, "VERSIONS")}


def _time_range(value: Any) -> dict[str, Any]:
    if len(many(value)) != 2:
        raise UsageError("TIMERANGE is written [FROM, TO], in ms")
    return {"time_range": tuple(number(one, "TIMERANGE") for one in value)}


def _limit(value: Any) -> dict[str, Any]:
    return {"limit": None if value == -1 else number(value, "LIMIT")}


def _labels(session: Session, java: Any, value: Any) -> None:
    java.setAuthorizations(session.java("security.visibility.Authorizations")(session.strings(value)))


def _attributes(session: Session, java: Any, value: Any) -> None:
    for name, one in value.items():
        java.setAttribute(text(name), session.bytes(one))


def _enum(setter: str, kind: str) -> Callable[[Session, Any, Any], None]:
    return lambda session, java, value: getattr(java, setter)(session.enum(kind, value))


def _number(setter: str, name: str, most: int) -> Callable[[Session, Any, Any], None]:
    return lambda session, java, value: session.call(getattr(java, setter), number(value, name, most))


def _nothing(session: Session, java: Any, value: Any) -> None:
    """Accept an option that has no effect here: rows come whole, in blocks bounded by bytes."""


# Options of get and scan: arguments of a Table's methods; what only a Java Get or Scan has, and its setter;
# what is of scans only; and options that are read together. Parser, completion and help take them from here.
ARGUMENTS: dict[str, Callable[[Any], dict[str, Any]]] = {
    "VERSIONS": _versions,
    "TIMESTAMP": lambda value: {"timestamp": number(value, "TIMESTAMP")},
    "TIMERANGE": _time_range,
    "FILTER": lambda value: {"filter": value},
}
SETTERS: dict[str, Callable[[Session, Any, Any], None]] = {
    "AUTHORIZATIONS": _labels,
    "ATTRIBUTES": _attributes,
    "CONSISTENCY": _enum("setConsistency", "client.Consistency"),
    "REGION_REPLICA_ID": _number("setReplicaId", "REGION_REPLICA_ID", INT),
    "ISOLATION_LEVEL": _enum("setIsolationLevel", "client.IsolationLevel"),
    "CACHE_BLOCKS": lambda session, java, value: java.setCacheBlocks(bool(value)),
}
SCAN_ARGUMENTS: dict[str, Callable[[Any], dict[str, Any]]] = {
    "RAW": lambda value: {"raw": bool(value)},
    "LIMIT": _limit,
}
SCAN_SETTERS: dict[str, Callable[[Session, Any, Any], None]] = {
    "CACHE": _number("setCaching", "CACHE", INT),
    "MAX_RESULT_SIZE": _number("setMaxResultSize", "MAX_RESULT_SIZE", LONG),
    "READ_TYPE": _enum("setReadType", "client.Scan$ReadType"),
    "BATCH": _nothing,
    "ALLOW_PARTIAL_RESULTS": _nothing,
}
SHOWN = ("FORMATTER", "FORMATTER_CLASS", "MAXLENGTH")
GET = ("COLUMN", "COLUMNS", *ARGUMENTS, *SETTERS, *SHOWN)
RANGE = ("STARTROW", "STOPROW", "ENDROW", "ROWPREFIXFILTER", "PREFIX", "REVERSED", "INCLUSIVE_STOP")
METRICS = ("ALL_METRICS", "METRICS")
SCAN = (*GET, *RANGE, *SCAN_ARGUMENTS, *SCAN_SETTERS, *METRICS)


def reading(
    session: Session, format_: Format, columns: Iterable[Any], options: dict[str, Any], scan: bool = False
) -> dict[str, Any]:
    """Return what to read of rows as arguments of a Table's `get` or `scan`, removed from `options`."""
    given: dict[str, Any] = {}
    named = [format_.column(one) for one in columns]
    named += [format_.column(one) for name in ("columns", "column") for one in many(options.pop(name, None))]
    given["columns"] = [family if qualifier is None else (family, qualifier) for family, qualifier in named]
    if "timerange" in options and options.get("versions") is None:
        given["versions"] = None
    for name, argument in {**ARGUMENTS, **(SCAN_ARGUMENTS if scan else {})}.items():
        if (value := options.pop(name.lower(), None)) is not None:
            given.update(argument(value))
    setting = [
        (setter, value)
        for name, setter in {**SETTERS, **(SCAN_SETTERS if scan else {})}.items()
        if (value := options.pop(name.lower(), None)) is not None
    ]

    def set_all(java: Any) -> None:
        for setter, value in setting:
            setter(session, java, value)

    if setting:
        given["java"] = set_all
    return given


def scan_of(session: Session, format_: Format, options: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a Table's `scan`. Raises UsageError for an unknown option."""
    given = reading(session, format_, (), options, scan=True)
    edges = {
        "start": _either(options, "startrow", "start"),
        "stop": _either(options, "stoprow", "endrow", "stop"),
        "prefix": _either(options, "rowprefixfilter", "prefix"),
    }
    given["reverse"] = bool(_either(options, "reversed", "reverse"))
    inclusive = bool(options.pop("inclusive_stop", False))
    metrics = [options.pop(name.lower(), None) for name in METRICS]
    refuse("scan", options, SCAN, "a scan")
    edges = {name: data(value) for name, value in edges.items() if value is not None}
    before = given.pop("java", None)

    def set_all(java: Any) -> None:
        if before is not None:
            before(java)
        if inclusive and "stop" in edges and "prefix" not in edges:
            java.withStopRow(session.bytes(edges["stop"]), True)
        if any(metrics):
            java.setScanMetricsEnabled(True)

    return {**given, **edges, "java": set_all}


def refuse(command: str, options: Mapping[str, Any], known: Sequence[str], subject: str = "") -> None:
    """Raise UsageError for an option that was not used, with a similar one."""
    for name in options:
        near = difflib.get_close_matches(name.upper(), known, 1)
        hint = f"; do you mean {near[0]}?" if near else f": help({command!r}) says which there are"
        raise UsageError(f"{subject or command} has no option {name.upper()}{hint}")


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


def format_of(session: Session, options: dict[str, Any]) -> Format:
    """Return the formatters that options give, and remove them."""
    return Format(
        session,
        options.pop("formatter", None),
        options.pop("formatter_class", None),
        number(options.pop("maxlength", 0), "MAXLENGTH"),
    )


def scanned(session: Session, table: Any, options: Mapping[str, Any]) -> Stream:
    """Return the rows of a Table as a stream."""
    given = {key.lower(): value for key, value in options.items()}
    format_ = format_of(session, given)
    metrics, every = given.get("metrics"), given.get("all_metrics", False)
    scanner = table.scan(**scan_of(session, format_, given))
    if table.name == META:
        format_.decode_meta()
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


def rewrite(session: Session, table: Any, specification: Any, **settings: Any) -> int:
    """Rewrite the cells that a scan finds, each put with settings of Table.put. Return their number."""
    options = {str(key): value for key, value in (specification or {}).items()}
    target = session.connection.table(text(table, "a table's name"))
    done = 0
    with target.mutator() as mutator:
        for row in scanned(session, target, options):
            for cell in row.cells:
                if not cell.deletes:
                    column = (cell.family, cell.qualifier)
                    mutator.put(cell.row, {column: cell.value}, timestamp=cell.timestamp, **settings)
                    done += 1
            session.progress.say(f"{done:,} cells")
    return done
