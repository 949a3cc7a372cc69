"""Group `ddl`: tables and their families."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kirsch.hbase.errors import HBaseError
from kirsch.hbase.quota import Quota
from kirsch.hbase.schema import Family, Schema
from kirsch.hbase.shell import schema
from kirsch.hbase.shell.answers import Facts, Grid, Names
from kirsch.hbase.shell.command import CommandError, UsageError, command
from kirsch.hbase.shell.commands.quotas import statement
from kirsch.hbase.shell.commands.rows import rows
from kirsch.hbase.shell.session import Session, data, family_text, many, shown, table_name, text

GROUP = "ddl"
# How `describe` marks settings that differ for a family.
SETTING = "CONFIGURATION "
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
    """Create a table with its families.

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
    made = Schema(table_name(table))
    splitting: dict[str, Any] = {}
    for given in [*families, *([options] if options else [])]:
        hash_ = schema.upper(given) if isinstance(given, dict) else {"NAME": given}
        if "NAME" not in hash_:
            splitting.update({key: hash_.pop(key) for key in SPLITS if key in hash_})
            made = schema.with_options(session, made, hash_)
            continue
        family = family_text(hash_["NAME"])
        if family in [one.name for one in made.families]:
            raise CommandError(f"family {_printable(family)} is named twice")
        made = schema.with_family(session, made, family, hash_)
    if not made.families:
        raise UsageError("create: a table needs a family: create 't1', 'f1'")
    session.connection.admin.create(made, splits=_splits(splitting))
    return session.table(made.name)


def _splits(splitting: dict[str, Any]) -> list[bytes]:
    keys = [data(key) for key in many(splitting.get("SPLITS"))]
    if "SPLITS_FILE" in splitting:
        path = Path(text(splitting["SPLITS_FILE"], "a file"))
        try:
            keys += [line.encode() for line in path.read_text().splitlines() if line]
        except OSError as error:
            raise CommandError(f"{path}: {error.strerror}") from None
    if "NUMREGIONS" in splitting or "SPLITALGO" in splitting:
        keys += _split_by(splitting.get("NUMREGIONS"), splitting.get("SPLITALGO"))
    return keys


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
    """Show the settings of a table and its families.

    describe 't1'
    describe 'ns1:t1'
    """
    admin = session.connection.admin
    name = table_name(table)
    found, enabled = admin.schema(name), admin.enabled(name)
    families = [{"NAME": _printable(family.name), **_family(family)} for family in found.families]
    coprocessors = {f"{schema.COPROCESSOR}${n}": spec for n, spec in enumerate(found.coprocessors, 1)}
    settings = _sorted({**found.attributes, **found.configuration, **coprocessors})
    quotas = _quotas(session, name)
    # The statements can be pasted back.
    hashes = [_hash(settings, schema.TABLE)] if settings else []
    hashes += [_hash(family, {"NAME": None, **schema.FAMILY}) for family in families]
    lines = [
        f"Table {name} is {'enabled' if enabled else 'disabled'}",
        ",\n  ".join([f"create {_quoted(name)}", *hashes]),
        *map(statement, quotas),
    ]
    facts = {
        "TABLE": name,
        "ENABLED": enabled,
        "ATTRIBUTES": settings,
        "FAMILIES": families,
        "QUOTAS": [quota.text for quota in quotas],
    }
    return Facts(facts, "\n".join(lines))


def _quotas(session: Session, table: str) -> list[Quota]:
    try:
        found: list[Quota] = session.connection.admin.quotas.list(table=re.escape(table))
        return found
    except HBaseError:
        return []  # Quotas are off, or for administrators only.


def _hash(values: Mapping[str, str], known: Mapping[str, Any]) -> str:
    """Write settings as a hash that create takes."""
    plain = {k: v for k, v in values.items() if k in known or k.startswith(schema.COPROCESSOR)}
    more = {k: v for k, v in values.items() if k not in plain}
    settings = {k.removeprefix(SETTING): v for k, v in more.items() if k.startswith(SETTING)}
    metadata = {k: v for k, v in more.items() if not k.startswith(SETTING)}
    parts = [f"{k if k.isidentifier() else _quoted(k)} => {_quoted(v)}" for k, v in plain.items()]
    for name, nested in (("CONFIGURATION", settings), ("METADATA", metadata)):
        if nested:
            pairs = ", ".join(f"{_quoted(k)} => {_quoted(v)}" for k, v in nested.items())
            parts.append(f"{name} => {{{pairs}}}")
    return "{" + ", ".join(parts) + "}"


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _family(family: Family) -> dict[str, str]:
    """Return a family's attributes, TTL as HBase's own shell has it, and its settings."""
    words = family.words()
    if family.ttl is None:
        words["TTL"] = "FOREVER"
    return _sorted({**words, **{f"{SETTING}{key}": value for key, value in family.configuration.items()}})


def _sorted(values: Mapping[str, str]) -> dict[str, str]:
    return {key: _printable(value) for key, value in sorted(values.items())}


def _printable(value: str) -> str:
    """Return a text that kirsch.hbase.schema has of bytes, with those that are no text as \\xNN."""
    return value.encode(errors="surrogateescape").decode(errors="backslashreplace")


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
    name = table_name(table)
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
    """Enable the tables that match a pattern, after a question on a terminal.

    enable_all 't.*'
    """
    return _all(session, pattern, "Enable", lambda admin, name: admin.enabled(name) or admin.enable(name))


@command(GROUP)
def disable_all(session: Session, pattern: str) -> Names:
    """Disable the tables that match a pattern, after a question on a terminal.

    disable_all 't.*'
    """
    return _all(session, pattern, "Disable", lambda admin, name: admin.enabled(name) and admin.disable(name))


@command(GROUP)
def drop_all(session: Session, pattern: str) -> Names:
    """Delete the tables that match a pattern, which must be disabled, after a question on a terminal.

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
    """Return a table for a variable: its commands take no table name.

        get_table 't1'

    table_help says more.
    """
    return session.table(session.admin.schema(table_name(table)).name)


@command(GROUP)
def list_regions(session: Session, table: Any, *more: Any, locality_threshold: float | None = None) -> Grid:
    """List a table's regions, on some servers or with some columns only.

    list_regions 't1'
    list_regions 't1', 'server1'
    list_regions 't1', {LOCALITY_THRESHOLD => 0.8}
    list_regions 't1', 'server1', ['REGION_NAME', 'SIZE']
    """
    prefix = next((text(one) for one in more if isinstance(one, str | bytes)), "")
    columns = [text(c).upper() for one in more if not isinstance(one, str | bytes) for c in many(one)]
    if unknown := [c for c in columns if c not in REGION_COLUMNS]:
        raise CommandError(f"there is no column {unknown[0]}: there are {', '.join(REGION_COLUMNS)}")
    regions, name = session.admin.regions, table_name(table)
    loads = {load.name: load for load in regions.loads(name)}
    rows = []
    for one in regions.list(name):
        load = loads.get(one.full_name)
        locality = 0.0 if load is None else load.locality
        if one.server.startswith(prefix) and (
            locality_threshold is None or locality < float(locality_threshold)
        ):
            rows.append(
                (
                    one.server,
                    shown(one.full_name),
                    one.start,
                    one.stop,
                    0 if load is None else int(load.files_size),
                    0 if load is None else load.reads + load.writes,
                    round(locality, 3),
                )
            )
    if not columns:
        return Grid(REGION_COLUMNS, rows, "region")
    return Grid(columns, [[row[REGION_COLUMNS.index(c)] for c in columns] for row in rows], "region")


@command(GROUP)
def locate_region(session: Session, table: Any, row: Any) -> Facts:
    """Show the server and region of a row.

    locate_region 't1', 'r1'
    """
    found = session.admin.regions.of(table_name(table), data(row))
    return Facts(
        {
            "SERVER": found.server,
            "REGION": shown(found.full_name),
            "ENCODED": found.name,
            "START_KEY": found.start,
            "END_KEY": found.stop,
        }
    )


@command(GROUP)
def show_filters(session: Session) -> Names:
    """List the filters for FILTER => "…".

    show_filters
    """
    filters = session.java("filter.ParseFilter").getAllFilters()
    return Names("FILTER", sorted(str(name) for name in filters.keySet()))


GROUP = "ddl"
