"""dml: rows and cells."""

from typing import Any

from kirsch.hbase.shell.answers import Names, Stream
from kirsch.hbase.shell.command import CommandError, UsageError, command
from kirsch.hbase.shell.commands.rows import rows
from kirsch.hbase.shell.queries import COLUMNS, GET, LONG, SCAN, format_of, number, reading, refuse, scanned
from kirsch.hbase.shell.session import Session, data, many, shown, text

GROUP = "dml"
COUNTER = 8


rows(
    "dml",
    {
        "get_splits": (
            lambda admin, table: Names(
                "SPLIT", [shown(region.start) for region in admin.regions.list(table) if region.start]
            ),
            "List the keys at which a table is split into regions.\n\nget_splits 't1'",
        ),
        "truncate": (
            lambda admin, table: admin.truncate(table, preserve_splits=False),
            "Delete all rows of a table. It has a single region afterwards.\n\ntruncate 't1'",
        ),
        "truncate_preserve": (
            lambda admin, table: admin.truncate(table),
            "Delete all rows of a table, and keep its regions.\n\ntruncate_preserve 't1'",
        ),
    },
)


@command(GROUP, options=SCAN)
def scan(session: Session, table: Any, **options: Any) -> Stream:
    """Read rows of a table, in order.

        scan 't1', {LIMIT => 10}
        scan 't1', {COLUMNS => ['c1', 'c2:q'], LIMIT => 10, STARTROW => 'xyz'}
        scan 't1', {ROWPREFIXFILTER => 'row2', FILTER => "(QualifierFilter (>=, 'binary:xyz'))"}
        scan 't1', {TIMERANGE => [1303668804000, 1303668904000], REVERSED => true}
        scan 't1', {RAW => true, VERSIONS => 10}
        scan 't1', {COLUMNS => ['cf:a:toInt', 'cf:b:c(org.apache.hadoop.hbase.util.Bytes).toLong']}
        scan 't1', limit: 10, prefix: 'row2'

    In Python the rows are iterated, once: for row in scan('t1'): row.key, row['c1:q'], row.cells.
    """
    return scanned(session, _existing(_table(session, table)), options)


@command(GROUP, options=GET)
def get(session: Session, table: Any, row: Any, *columns: Any, **options: Any) -> Stream:
    """Read a row, or columns of it.

    get 't1', 'r1'
    get 't1', 'r1', 'c1', 'c2:q'
    get 't1', 'r1', {COLUMN => 'c1', TIMERANGE => [1, 1303668904000], VERSIONS => 4}
    get 't1', 'r1', {COLUMN => ['c1', 'c2'], FILTER => "ValueFilter(=, 'binary:abc')"}
    get 't1', 'r1', 'c1:n:toLong'

    """
    given = dict(options)
    format_ = format_of(session, given)
    asked = reading(session, format_, [name for one in columns for name in many(one)], given)
    refuse("get", given, GET)
    found = _table(session, table).get(data(row), **asked)
    rows = [] if found is None else [found]
    return Stream(COLUMNS[1:], iter(rows), lambda one: [line[1:] for line in format_.lines(one)], "row")


@command(GROUP)
def put(
    session: Session,
    table: Any,
    row: Any,
    column: Any,
    value: Any,
    timestamp: int | None = None,
    *,
    attributes: dict[str, Any] | None = None,
    visibility: str | None = None,
    ttl: int | None = None,
) -> None:
    """Write a cell.

        put 't1', 'r1', 'c1:q', 'value'
        put 't1', 'r1', 'c1:q', 'value', 1303668804000
        put 't1', 'r1', 'c1:q', 'value', {VISIBILITY => 'PRIVATE|SECRET'}
        put 't1', 'r1', 'c1:q', 'value', {TTL => 60000, ATTRIBUTES => {'mykey' => 'myvalue'}}

    Text is written in UTF-8, a number as its digits; "\\x00\\x01" in double quotes are bytes. TTL is in ms.
    """
    _table(session, table).put(
        data(row),
        # nil is empty, as in HBase's shell.
        {_column(column): b"" if value is None else data(value)},
        timestamp=_stamp(timestamp),
        ttl=None if ttl is None else number(ttl, "TTL") / 1000,
        **_labelled(attributes, visibility),
    )


@command(GROUP)
def delete(
    session: Session,
    table: Any,
    row: Any,
    column: Any,
    timestamp: int | None = None,
    *,
    visibility: str | None = None,
) -> None:
    """Delete a cell: its newest version, or that of a timestamp.

        delete 't1', 'r1', 'c1:q'
        delete 't1', 'r1', 'c1:q', 1303668804000
        delete 't1', 'r1', 'c1:q', {VISIBILITY => 'PRIVATE|SECRET'}

    deleteall deletes all versions.
    """
    _table(session, table).delete(
        data(row),
        [_column(column)],
        timestamp=_stamp(timestamp),
        all_versions=False,
        **_labelled(None, visibility),
    )


@command(GROUP)
def deleteall(
    session: Session,
    table: Any,
    row: Any = None,
    column: Any = None,
    timestamp: int | None = None,
    *,
    rowprefixfilter: Any = None,
    cache: int = 100,
    visibility: str | None = None,
) -> None:
    """Delete a row, a column of it, or all rows with a prefix.

        deleteall 't1', 'r1'
        deleteall 't1', 'r1', 'c1:q'
        deleteall 't1', 'r1', 'c1:q', 1303668804000
        deleteall 't1', {ROWPREFIXFILTER => 'prefix'}
        deleteall 't1', {ROWPREFIXFILTER => 'prefix', CACHE => 100}

    A timestamp is the last one that is deleted. With a prefix CACHE rows go at once.
    """
    target = _table(session, table)
    if (row is None) == (rowprefixfilter is None):
        raise UsageError("deleteall: of a row, or of those with ROWPREFIXFILTER => 'prefix'")
    which: dict[str, Any] = {"timestamp": _stamp(timestamp), **_labelled(None, visibility)}
    if column is not None:
        family, qualifier = _family_or_column(column)
        which["columns"] = [family if qualifier is None else (family, qualifier)]
    if row is not None:
        target.delete(data(row), **which)
        return
    _existing(target)
    done, batch = 0, target.batch()
    only_keys = "FirstKeyOnlyFilter() AND KeyOnlyFilter()"
    for found in target.scan(prefix=data(rowprefixfilter), filter=only_keys):
        batch.delete(found.key, **which)
        if len(batch) >= max(1, number(cache, "CACHE")):
            done += len(batch)
            batch.send()
            session.progress.say(f"{done:,} rows")
    batch.send()


@command(GROUP)
def append(
    session: Session,
    table: Any,
    row: Any,
    column: Any,
    value: Any,
    *,
    attributes: dict[str, Any] | None = None,
    visibility: str | None = None,
) -> bytes:
    """Append to a cell's value. Returns the new value.

    append 't1', 'r1', 'c1:q', 'value'
    append 't1', 'r1', 'c1:q', 'value', {VISIBILITY => 'PRIVATE|SECRET'}
    """
    where = _column(column)
    labelled = _labelled(attributes, visibility)
    appended = _table(session, table).append(data(row), {where: data(value)}, **labelled)
    return bytes(appended[where])


@command(GROUP)
def incr(
    session: Session,
    table: Any,
    row: Any,
    column: Any,
    amount: int = 1,
    *,
    attributes: dict[str, Any] | None = None,
    visibility: str | None = None,
) -> int:
    """Add to a counter. Returns the new value.

    incr 't1', 'r1', 'c1:q'
    incr 't1', 'r1', 'c1:q', 10
    incr 't1', 'r1', 'c1:q', 10, {VISIBILITY => 'PRIVATE|SECRET'}
    """
    if isinstance(amount, bool) or not isinstance(amount, int):
        raise CommandError(f"incr: a whole number is needed, not {amount!r}")
    if not -LONG <= amount <= LONG:
        raise CommandError(f"incr: a counter has 8 bytes, and {amount} does not fit")
    labelled = _labelled(attributes, visibility)
    return int(_table(session, table).increment(data(row), _column(column), amount, **labelled))


@command(GROUP)
def get_counter(session: Session, table: Any, row: Any, column: Any) -> int | None:
    """Show the value of a counter.

    get_counter 't1', 'r1', 'c1:q'
    """
    where = _column(column)
    found = _table(session, table).get(data(row), columns=[where])
    return None if found is None else _counter(found[where], column)


def _counter(value: bytes, column: Any) -> int:
    if len(value) != COUNTER:
        raise CommandError(
            f"{shown(data(column))} is no counter: its value is {len(value)} bytes long, not 8"
        )
    return int.from_bytes(value, "big", signed=True)


@command(GROUP, options=(*SCAN, "INTERVAL"))
def count(session: Session, table: Any, interval: int | None = None, **options: Any) -> int:
    """Count rows.

        count 't1'
        count 't1', INTERVAL => 100000, CACHE => 1000
        count 't1', 100000
        count 't1', FILTER => "PrefixFilter('row2')"
        count 't1', COLUMNS => ['c1', 'c2'], STARTROW => 'abc', STOPROW => 'xyz'

    With INTERVAL it prints a line after so many rows.
    """
    if interval is not None and number(interval, "INTERVAL") < 1:
        raise CommandError("INTERVAL is 1 or more")
    given = dict(options)
    if "filter" not in given and not given.get("raw"):
        given["filter"] = "FirstKeyOnlyFilter() AND KeyOnlyFilter()"
    done = 0
    for row in scanned(session, _existing(_table(session, table)), given):
        done += 1
        if done % 1000 == 0:
            session.progress.say(f"{done:,} rows, {shown(row.key)}")
        if interval and done % int(interval) == 0:
            session.say(f"Current count: {done}, row: {shown(row.key)}")
    return done


def _table(session: Session, name: Any) -> Any:
    return session.connection.table(text(name, "a table's name"))


def _existing(table: Any) -> Any:
    """Return a Table that is there. It is checked, for a scan would tell much later."""
    if not table.connection.admin.exists(table.name):
        raise CommandError(f"there is no table {table.name}")
    return table


def _column(column: Any) -> tuple[bytes, bytes]:
    family, qualifier = _family_or_column(column)
    return family, qualifier or b""


def _family_or_column(column: Any) -> tuple[bytes, bytes | None]:
    family, colon, qualifier = data(column).partition(b":")
    if not family:
        raise CommandError(f"{shown(data(column))!r} names no family: write 'FAMILY:QUALIFIER'")
    return family, qualifier if colon else None


def _stamp(timestamp: Any) -> int | None:
    return None if timestamp is None else number(timestamp, "a timestamp")


def _labelled(attributes: dict[str, Any] | None, visibility: str | None) -> dict[str, Any]:
    """Return the arguments of a write that have its attributes and visibility."""
    return {
        "attributes": {text(name): data(value) for name, value in (attributes or {}).items()},
        "visibility": None if visibility is None else text(visibility),
    }
