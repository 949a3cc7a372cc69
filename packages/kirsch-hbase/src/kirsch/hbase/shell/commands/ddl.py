"""ddl: tables and their families."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from kirsch.hbase.shell import schema
from kirsch.hbase.shell.answers import Facts, Grid, Names
from kirsch.hbase.shell.command import CommandError, UsageError, command
from kirsch.hbase.shell.commands.rows import rows
from kirsch.hbase.shell.session import Session, data, java_bytes, many, python_bytes, shown, text

GROUP = "ddl"
ALTER = ("NAME", "METHOD", *schema.FAMILY, *schema.TABLE, *schema.MAPS, "CLASSNAME")
SPLITS = ("SPLITS", "SPLITS_FILE", "NUMREGIONS", "SPLITALGO")
REGION_COLUMNS = ("SERVER_NAME", "REGION_NAME", "START_KEY", "END_KEY", "SIZE", "REQ", "LOCALITY")


rows(
    "ddl",
    {
        "exists": (
            lambda admin, table: admin.exists(table),
            "Return whether a table exists.\n\nexists 't1'",
        ),
        "enable": (
            lambda admin, table: None if admin.enabled(table) else admin.enable(table),
            "Enable a table.\n\nenable 't1'",
        ),
        "disable": (
            lambda admin, table: admin.disable(table) if admin.enabled(table) else None,
            "Disable a table.\n\ndisable 't1'",
        ),
        "is_enabled": (
            lambda admin, table: admin.enabled(table),
            "Return whether a table is enabled.\n\nis_enabled 't1'",
        ),
        "is_disabled": (
            lambda admin, table: not admin.enabled(table),
            "Return whether a table is disabled.\n\nis_disabled 't1'",
        ),
        "drop": (
            lambda admin, table: admin.drop(table),
            "Delete a table, which must be disabled.\n\ndrop 't1'",
        ),
        "list": (
            lambda admin, pattern=".*": Names("TABLE", admin.tables(pattern)),
            "List tables, all or those that match a pattern.\n\nlist\nlist 'abc.*'\nlist 'ns1:.*'\n\n"
            "In Python, list('abc.*') does the same; list(x) of anything but text is Python's own function.",
        ),
        "clone_table_schema": (
            lambda admin, table, new, preserve_splits=True: admin.clone_schema(table, new, preserve_splits),
            "Create an empty table with another's schema; with false, with a single region.\n\n"
            "clone_table_schema 't1', 't2'\nclone_table_schema 't1', 't2', false",
        ),
    },
)


@command(GROUP, keep_hashes=True, options=("NAME", *schema.FAMILY, *schema.TABLE, *schema.MAPS, *SPLITS))
def create(session: Session, table: Any, *families: Any, **options: Any) -> Any:
    """Make a table with its families.

        create 't1', 'f1', 'f2'
        create 'ns1:t1', {NAME => 'f1', VERSIONS => 5}
        create 't1', {NAME => 'f1', TTL => 2592000, BLOCKCACHE => true}, 'f2'
        create 't1', {NAME => 'f1', CONFIGURATION => {'hbase.hstore.blockingStoreFiles' => '10'}}
        create 't1', 'f1', SPLITS => ['10', '20', '30', '40']
        create 't1', 'f1', SPLITS_FILE => 'splits.txt'
        create 't1', 'f1', {NUMREGIONS => 15, SPLITALGO => 'HexStringSplit'}
        create 't1', 'f1', {MAX_FILESIZE => '10737418240', METADATA => {'mykey' => 'myvalue'}}

    A family's options: VERSIONS, MIN_VERSIONS, TTL, BLOCKSIZE, BLOOMFILTER, COMPRESSION, DATA_BLOCK_ENCODING,
    IN_MEMORY, BLOCKCACHE, KEEP_DELETED_CELLS, REPLICATION_SCOPE, IS_MOB, MOB_THRESHOLD, STORAGE_POLICY, … A
    table's: MAX_FILESIZE, MEMSTORE_FLUSHSIZE, READONLY, DURABILITY, SPLIT_POLICY, REGION_REPLICATION,
    PRIORITY, … Answers the table, for a variable.
    """
    name = session.table_name(table)
    builder = session.java("client.TableDescriptorBuilder").newBuilder(name)
    splitting: dict[str, Any] = {}
    there: set[bytes] = set()
    family: bytes | None
    for given in [*families, *([options] if options else [])]:
        if not isinstance(given, dict):
            family, hash_ = data(given), {}
        else:
            hash_ = schema.upper(given)
            family = data(hash_["NAME"]) if "NAME" in hash_ else None
        if family is None:
            splitting.update({key: hash_.pop(key) for key in SPLITS if key in hash_})
            schema.table(session, builder, hash_)
        elif family in there:
            raise CommandError(f"family {shown(family)} is named twice")
        else:
            there.add(family)
            builder.setColumnFamily(schema.family(session, family, hash_))
    if not there:
        raise UsageError("create: a table needs a family: create 't1', 'f1'")
    _create(session, builder.build(), splitting)
    return session.table(str(name))


def _create(session: Session, descriptor: Any, splitting: dict[str, Any]) -> None:
    keys = [data(key) for key in many(splitting.get("SPLITS"))]
    if "SPLITS_FILE" in splitting:
        path = Path(text(splitting["SPLITS_FILE"], "a file"))
        try:
            keys += [line.encode() for line in path.read_text().splitlines() if line]
        except OSError as error:
            raise CommandError(f"{path}: {error.strerror}") from None
    if "NUMREGIONS" in splitting or "SPLITALGO" in splitting:
        keys += _split_by(splitting.get("NUMREGIONS"), splitting.get("SPLITALGO"))
    if not keys:
        session.admin("createTable", descriptor)
        return
    import jpype

    array = jpype.JArray(jpype.JArray(jpype.JByte))([java_bytes(key) for key in keys])
    session.admin("createTable", descriptor, array)


def _split_by(regions: Any, algorithm: Any) -> list[bytes]:
    """The keys that HBase's RegionSplitter would split at; it is not in its client."""
    if not isinstance(regions, int) or regions < 2 or algorithm is None:
        raise UsageError("create: NUMREGIONS (2 or more) goes with SPLITALGO => 'HexStringSplit', or another")
    name = text(algorithm)
    if name == "HexStringSplit":
        size = 1 << 32
        return [f"{size * i // regions:08x}".encode() for i in range(1, regions)]
    if name == "DecimalStringSplit":
        size = 10**8
        return [f"{size * i // regions:08d}".encode() for i in range(1, regions)]
    if name == "UniformSplit":
        size = 1 << 64
        return [(size * i // regions).to_bytes(8, "big") for i in range(1, regions)]
    raise CommandError(
        f"there is no SPLITALGO {name}: there are HexStringSplit, DecimalStringSplit, UniformSplit"
    )


@command(GROUP)
def describe(session: Session, table: Any) -> Facts:
    """Say how a table and its families are set up.

    describe 't1'
    describe 'ns1:t1'
    """
    name = session.table_name(table)
    descriptor = session.admin("getDescriptor", name)
    enabled = bool(session.admin("isTableEnabled", name))
    families = [
        {"NAME": shown(python_bytes(f.getName())), **_for_ever(schema.attributes(f))}
        for f in descriptor.getColumnFamilies()
    ]
    settings = {k: v for k, v in schema.attributes(descriptor).items() if k != "IS_META"}
    state = "enabled" if enabled else "disabled"
    lines = [f"Table {name} is {state}", *(f"  {key} => '{value}'" for key, value in settings.items())]
    for family in families:
        lines.append("{" + ", ".join(f"{key} => '{value}'" for key, value in family.items()) + "}")
    facts = {"TABLE": str(name), "ENABLED": enabled, "ATTRIBUTES": settings, "FAMILIES": families}
    return Facts(facts, "\n".join(lines))


def _for_ever(attributes: dict[str, str]) -> dict[str, str]:
    """TTL as HBase's own shell has it."""
    for_ever = str((1 << 31) - 1)
    return {
        key: "FOREVER" if (key, value) == ("TTL", for_ever) else value for key, value in attributes.items()
    }


@command(GROUP)
def change_sft(session: Session, table: Any, *family_and_tracker: Any) -> None:
    """Change how the files of a table or family are tracked: DEFAULT, FILE or MIGRATION.

    change_sft 't1', 'FILE'
    change_sft 't1', 'f1', 'FILE'
    """
    words = [text(word, "a family or tracker") for word in family_and_tracker]
    if len(words) not in (1, 2):
        raise UsageError(
            "change_sft: change_sft 'TABLE', 'TRACKER' or change_sft 'TABLE', 'FAMILY', 'TRACKER'"
        )
    name = str(session.table_name(table))
    session.connection.admin.change_store_files(name, words[-1], words[0] if len(words) == 2 else None)


@command(GROUP)
def change_sft_all(session: Session, pattern: str, tracker: str) -> Names:
    """Change how the files of tables that match a pattern are tracked, after a question on a terminal.

    change_sft_all 't.*', 'FILE'
    """
    tracker = text(tracker, "a tracker")
    return _all(
        session,
        pattern,
        "Change the trackers of",
        lambda admin, name: admin.change_store_files(name, tracker),
    )


@command(GROUP)
def enable_all(session: Session, pattern: str) -> Names:
    """Enable the tables that match a pattern; on a terminal you are asked first.

    enable_all 't.*'
    """
    return _all(session, pattern, "Enable", lambda admin, name: admin.enabled(name) or admin.enable(name))


@command(GROUP)
def disable_all(session: Session, pattern: str) -> Names:
    """Disable the tables that match a pattern; on a terminal you are asked first.

    disable_all 't.*'
    """
    return _all(session, pattern, "Disable", lambda admin, name: admin.enabled(name) and admin.disable(name))


@command(GROUP)
def drop_all(session: Session, pattern: str) -> Names:
    """Delete the tables that match a pattern, which must be disabled; on a terminal you are asked first.

    drop_all 't.*'
    """
    return _all(session, pattern, "Drop", lambda admin, name: admin.drop(name))


def _all(session: Session, pattern: str, verb: str, do: Callable[[Any, str], Any]) -> Names:
    admin = session.connection.admin
    found = admin.tables(text(pattern, "a pattern"))
    if not found:
        raise CommandError(f"no table matches {pattern}")
    if not session.confirm(f"{verb} {', '.join(found)}?"):
        return Names("TABLE", [])
    for done, name in enumerate(found):
        session.progress.say(f"{name} ({done} of {len(found)})")
        do(admin, name)
    return Names("TABLE", found)


@command(GROUP)
def get_table(session: Session, table: Any) -> Any:
    """A table, for a variable: its commands without its name.

        get_table 't1'

    table_help says more.
    """
    name = session.table_name(table)
    session.admin("getDescriptor", name)
    return session.table(str(name))


@command(GROUP)
def list_regions(session: Session, table: Any, *more: Any, locality_threshold: float | None = None) -> Grid:
    """List a table's regions; of servers whose names begin so, and some columns only.

    list_regions 't1'
    list_regions 't1', 'server1'
    list_regions 't1', {LOCALITY_THRESHOLD => 0.8}
    list_regions 't1', 'server1', ['REGION_NAME', 'SIZE']
    """
    prefix = next((text(one) for one in more if isinstance(one, str | bytes)), "")
    columns = [text(c).upper() for one in more if not isinstance(one, str | bytes) for c in many(one)]
    if unknown := [c for c in columns if c not in REGION_COLUMNS]:
        raise CommandError(f"there is no column {unknown[0]}: there are {', '.join(REGION_COLUMNS)}")
    name = session.table_name(table)
    session.admin("getDescriptor", name)
    locator = session.connection.java.getRegionLocator(name)
    try:
        locations = list(session.call(locator.getAllRegionLocations))
    finally:
        locator.close()
    metrics = {}
    for server in {
        str(one.getServerName()): one.getServerName() for one in locations if one.getServerName()
    }.values():
        for region in session.admin("getRegionMetrics", server, name):
            metrics[python_bytes(region.getRegionName())] = region
    rows = []
    for location in locations:
        server, info = str(location.getServerName()), location.getRegion()
        load = metrics.get(python_bytes(info.getRegionName()))
        locality = 0.0 if load is None else float(load.getDataLocality())
        if server.startswith(prefix) and (locality_threshold is None or locality < float(locality_threshold)):
            rows.append(
                (
                    server,
                    shown(python_bytes(info.getRegionName())),
                    python_bytes(info.getStartKey()),
                    python_bytes(info.getEndKey()),
                    0 if load is None else int(load.getStoreFileSize().getLongValue()),
                    0 if load is None else int(load.getRequestCount()),
                    round(locality, 3),
                )
            )
    if not columns:
        return Grid(REGION_COLUMNS, rows, "region")
    return Grid(columns, [[row[REGION_COLUMNS.index(c)] for c in columns] for row in rows], "region")


@command(GROUP)
def locate_region(session: Session, table: Any, row: Any) -> Facts:
    """Say which server has a row.

    locate_region 't1', 'r1'
    """
    name = session.table_name(table)
    session.admin("getDescriptor", name)
    locator = session.connection.java.getRegionLocator(name)
    try:
        location = session.call(locator.getRegionLocation, session.bytes(row), True)
    finally:
        locator.close()
    info = location.getRegion()
    return Facts(
        {
            "SERVER": str(location.getServerName()),
            "REGION": shown(python_bytes(info.getRegionName())),
            "ENCODED": str(info.getEncodedName()),
            "START_KEY": python_bytes(info.getStartKey()),
            "END_KEY": python_bytes(info.getEndKey()),
        }
    )


@command(GROUP)
def show_filters(session: Session) -> Names:
    """List the filters that FILTER => "…" knows.

    show_filters
    """
    filters = session.java("filter.ParseFilter").getAllFilters()
    return Names("FILTER", sorted(str(name) for name in filters.keySet()))


GROUP = "ddl"
METHODS = (
    "delete",
    "table_att",
    "table_att_unset",
    "table_conf_unset",
    "table_remove_coprocessor",
)


@command(GROUP, keep_hashes=True, options=ALTER)
def alter(session: Session, table: Any, *changes: Any, **options: Any) -> None:
    """Change a table: its families, or its own options. Waits until all regions have it.

        alter 't1', NAME => 'f1', VERSIONS => 5
        alter 't1', 'f1', {NAME => 'f2', IN_MEMORY => true}, {NAME => 'f3', VERSIONS => 5}
        alter 't1', NAME => 'f1', METHOD => 'delete'
        alter 't1', 'delete' => 'f1'
        alter 't1', MAX_FILESIZE => '134217728', READONLY => true
        alter 't1', CONFIGURATION => {'hbase.hregion.scan.loadColumnFamiliesOnDemand' => 'true'}
        alter 't1', {NAME => 'f2', CONFIGURATION => {'hbase.hstore.blockingStoreFiles' => '10'}}
        alter 't1', 'coprocessor' => 'hdfs:///foo.jar|com.foo.FooRegionObserver|1001|arg1=1,arg2=2'
        alter 't1', METHOD => 'table_att_unset', NAME => 'MAX_FILESIZE'
        alter 't1', METHOD => 'table_conf_unset', NAME => 'hbase.hregion.majorcompaction'
        alter 't1', METHOD => 'table_remove_coprocessor', CLASSNAME => 'com.foo.FooRegionObserver'

    A family that is not there is made.
    """
    future = _alter(session, table, changes, options)
    session.call(future.get)


@command(GROUP, keep_hashes=True, options=ALTER)
def alter_async(session: Session, table: Any, *changes: Any, **options: Any) -> None:
    """Change a table as alter does, and do not wait. alter_status says how far it is.

    alter_async 't1', NAME => 'f1', VERSIONS => 5
    """
    _alter(session, table, changes, options)


@command(GROUP)
def alter_status(session: Session, table: Any) -> Facts:
    """Say how many of a table's regions have its last change.

    alter_status 't1'
    """
    name = session.table_name(table)
    session.admin("getDescriptor", name)
    counts = session.metrics().getTableRegionStatesCount().get(name)
    total = 0 if counts is None else int(counts.getTotalRegions())
    moving = 0 if counts is None else int(counts.getRegionsInTransition())
    return Facts({"REGIONS": total, "UPDATED": total - moving}, f"{total - moving}/{total} regions updated")


def _alter(session: Session, table: Any, changes: Any, options: Any) -> Any:
    name = session.table_name(table)
    descriptor = session.admin("getDescriptor", name)
    builder = session.java("client.TableDescriptorBuilder").newBuilder(descriptor)
    given = [*changes, *([options] if options else [])]
    if not given:
        raise UsageError("alter: change what? alter 't1', NAME => 'f1', VERSIONS => 5")
    for change in given:
        if isinstance(change, dict):
            _change(session, builder, descriptor, schema.upper(change))
        else:
            _family(session, builder, descriptor, data(change), {})
    return session.admin("modifyTableAsync", builder.build())


def _change(session: Session, builder: Any, descriptor: Any, change: dict[str, Any]) -> None:
    method = change.get("METHOD")
    if "DELETE" in change:
        method, change = "delete", {"NAME": change["DELETE"]}
    if method is not None:
        _method(session, builder, descriptor, text(method).lower(), change)
    elif "NAME" in change:
        _family(session, builder, descriptor, data(change["NAME"]), change)
    else:
        schema.table(session, builder, change)


def _family(session: Session, builder: Any, descriptor: Any, name: bytes, change: dict[str, Any]) -> None:
    old = descriptor.getColumnFamily(session.bytes(name))
    made = schema.family(session, name, change, old)
    if old is None:
        session.call(builder.setColumnFamily, made)
    else:
        session.call(builder.modifyColumnFamily, made)


def _method(session: Session, builder: Any, descriptor: Any, method: str, change: dict[str, Any]) -> None:
    if method not in METHODS:
        raise CommandError(f"there is no METHOD {method}: there are {', '.join(METHODS)}")
    if method == "table_remove_coprocessor":
        if "CLASSNAME" not in change:
            raise UsageError("alter: table_remove_coprocessor goes with CLASSNAME => 'CLASS'")
        for one in many(change["CLASSNAME"]):
            if not descriptor.hasCoprocessor(text(one)):
                raise CommandError(f"the table has no coprocessor {text(one)}")
            session.call(builder.removeCoprocessor, text(one))
        return
    if method == "table_att":
        schema.table(session, builder, {key: value for key, value in change.items() if key != "METHOD"})
        return
    if "NAME" not in change:
        raise UsageError(f"alter: METHOD => '{method}' goes with NAME => 'WHICH'")
    for one in many(change["NAME"]):
        if method == "delete":
            if not descriptor.hasColumnFamily(session.bytes(one)):
                raise CommandError(
                    f"there is no family {shown(data(one))} in table {descriptor.getTableName()}"
                )
            session.call(builder.removeColumnFamily, session.bytes(one))
        else:
            if descriptor.getValue(text(one)) is None:
                raise CommandError(f"{text(one)} is not set in table {descriptor.getTableName()}")
            session.call(builder.removeValue, session.bytes(one))
