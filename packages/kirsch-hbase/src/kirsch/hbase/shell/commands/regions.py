"""Commands of the group `tools` for regions."""

from typing import Any

from kirsch.hbase.shell.answers import Facts, Grid
from kirsch.hbase.shell.command import CommandError, UsageError, command
from kirsch.hbase.shell.commands.rows import rows
from kirsch.hbase.shell.session import Session, data, many, python_bytes, shown, text

GROUP = "tools"


def _evicted(stats: Any) -> Facts:
    return Facts(
        {
            "EVICTED_BLOCKS": int(stats.getEvictedBlocks()),
            "MAX_CACHE_BYTES": int(stats.getMaxCacheSize()),
            "FAILURES": int(stats.getExceptionCount()),
        },
        f"{stats.getEvictedBlocks()} blocks evicted",
    )


rows(
    GROUP,
    {
        "assign": (
            lambda admin, region: admin.regions.assign(region),
            "Assign a region to a server.\n\nassign 'REGION'\nassign 'ENCODED_REGION'",
        ),
        "unassign": (
            lambda admin, region, force=False: admin.regions.unassign(region),
            "Close a region. The master does not open it elsewhere until it is assigned.\n\n"
            "unassign 'REGION'\nunassign 'ENCODED_REGION'",
        ),
        "truncate_region": (
            lambda admin, region: admin.regions.truncate(region),
            "Delete all rows of a region.\n\ntruncate_region 'REGION'\ntruncate_region 'ENCODED_REGION'",
        ),
        "compaction_state": (
            lambda admin, table: admin.compaction_state(table),
            "Show whether a table is being compacted: NONE, MINOR, MAJOR or MAJOR_AND_MINOR.\n\n"
            "compaction_state 't1'",
        ),
        "clear_block_cache": (
            lambda admin, table: _evicted(admin.clear_block_cache(table)),
            "Evict a table's blocks from the cache.\n\nclear_block_cache 't1'",
        ),
    },
)


def region(session: Session, name: Any) -> tuple[Any, Any] | None:
    """Return a region and its server by its full or encoded name; None if no server has it."""
    given = data(name)
    for server in session.live():
        for info in session.admin("getRegions", server):
            if given in (python_bytes(info.getRegionName()), python_bytes(info.getEncodedNameAsBytes())):
                return info, server
    return None


def served(session: Session, name: Any) -> tuple[Any, Any]:
    """Return a region and its server. Raises CommandError where no server has it."""
    found = region(session, name)
    if found is None:
        raise CommandError(
            f"no server has a region {shown(data(name))}: list_regions 'TABLE' says their names"
        )
    return found


def _is_table(session: Session, name: Any) -> bool:
    """Return whether a name is the name of a table, and not of a region."""
    given = data(name)
    if given.count(b",") >= 2 or (len(given) == 32 and not set(given) - set(b"0123456789abcdef")):
        return False
    return bool(session.admin("tableExists", session.table_name(name)))


def _is_region(name: Any) -> bool:
    given = data(name)
    return given.count(b",") >= 2 or (len(given) == 32 and not set(given) - set(b"0123456789abcdef"))


@command(GROUP)
def close_region(session: Session, region: Any, server: Any = None) -> None:
    """Close a region; in HBase 2 the same as unassign.

    close_region 'ENCODED_REGION'
    close_region 'ENCODED_REGION', 'host,16020,1700000000000'
    """
    info, where = served(session, region)
    if server is not None and str(session.server(server)) != str(where):
        raise CommandError(f"region {info.getEncodedName()} is on {where}")
    session.admin("unassign", info.getRegionName())


@command(GROUP)
def move(session: Session, region: Any, server: Any = None) -> None:
    """Move a region to a server, or to any other.

    move 'ENCODED_REGION'
    move 'ENCODED_REGION', 'host,16020,1700000000000'
    """
    info, _ = served(session, region)
    if server is None:
        session.admin("move", info.getEncodedNameAsBytes())
        return
    session.admin("move", info.getEncodedNameAsBytes(), session.server(server))


@command(GROUP)
def split(session: Session, name: Any, key: Any = None) -> None:
    """Split a table's regions, or one region, in the middle or at a row.

    split 't1'
    split 't1', 'row500'
    split 'REGION', 'row500'
    """
    point = [] if key is None else [session.bytes(key)]
    if _is_region(name):
        session.admin("splitRegion", session.bytes(name), *point)
        return
    session.admin("split", session.table_name(name), *point)


@command(GROUP)
def merge_region(session: Session, *regions: Any) -> None:
    """Merge adjacent regions; with true at the end, others too.

    merge_region 'ENCODED_REGION_A', 'ENCODED_REGION_B'
    merge_region ['REGION_A', 'REGION_B', 'REGION_C'], true
    """
    force = bool(regions) and isinstance(regions[-1], bool) and regions[-1]
    names = [name for given in regions if not isinstance(given, bool) for name in many(given)]
    if len(names) < 2:
        raise UsageError("merge_region: two regions are needed at least")
    import jpype

    for name in names:
        served(session, name)
    array = jpype.JArray(jpype.JArray(jpype.JByte))([session.bytes(name) for name in names])
    future = session.admin("mergeRegionsAsync", array, force)
    session.call(future.get)


@command(GROUP)
def flush(session: Session, name: Any, family: Any = None) -> None:
    """Write the memory of a table, region or server to files, or that of one family.

    flush 't1'
    flush 't1', 'f1'
    flush 'REGION'
    flush 'host,16020,1700000000000'
    """
    more = [] if family is None else [session.bytes(family)]
    if _is_region(name):
        server = (
            text(name) if data(name).count(b",") == 2 and data(name).rpartition(b",")[2].isdigit() else None
        )
        if server is not None and any(str(s.getServerName()) == server for s in session.live()):
            session.admin("flushRegionServer", session.server(server))
            return
        session.admin("flushRegion", session.bytes(name), *more)
        return
    session.admin("flush", session.table_name(name), *more)


@command(GROUP)
def compact(session: Session, name: Any, family: Any = None, kind: str = "NORMAL") -> None:
    """Compact files of a table or region, or of one family, in the background.

    compact 't1'
    compact 't1', 'f1'
    compact 'REGION'
    compact 't1', nil, 'MOB'
    """
    _compact(session, "compact", name, family, kind)


@command(GROUP)
def major_compact(session: Session, name: Any, family: Any = None, kind: str = "NORMAL") -> None:
    """Compact all files of a table or region into one, without deleted cells, in the background.

    major_compact 't1'
    major_compact 't1', 'f1'
    major_compact 'REGION', 'f1'
    major_compact 't1', nil, 'MOB'
    """
    _compact(session, "majorCompact", name, family, kind)


def _compact(session: Session, method: str, name: Any, family: Any, kind: str) -> None:
    more = [] if family is None else [session.bytes(family)]
    if _is_region(name):
        session.admin(f"{method}Region", session.bytes(name), *more)
        return
    if not _is_table(session, name):
        raise CommandError(f"there is no table {text(name)}")
    session.admin(method, session.table_name(name), *more, session.enum("client.CompactType", kind))


@command(GROUP)
def regioninfo(session: Session, region: Any) -> Facts:
    """Show a region and its server.

    regioninfo 'REGION'
    regioninfo 'ENCODED_REGION'
    """
    info, server = served(session, region)
    return Facts(
        {
            "REGION": shown(python_bytes(info.getRegionName())),
            "ENCODED": str(info.getEncodedName()),
            "TABLE": str(info.getTable()),
            "START_KEY": python_bytes(info.getStartKey()),
            "END_KEY": python_bytes(info.getEndKey()),
            "REPLICA": int(info.getReplicaId()),
            "OFFLINE": bool(info.isOffline()),
            "SPLIT": bool(info.isSplit()),
            "SERVER": str(server.getServerName()),
        }
    )


@command(GROUP)
def rit(session: Session) -> Grid:
    """List the regions in transition: being opened, closed, split or merged.

    rit
    """
    rows = []
    for state in session.metrics().getRegionStatesInTransition() or ():
        info = state.getRegion()
        rows.append(
            (
                shown(python_bytes(info.getRegionName())),
                str(state.getState()),
                str(state.getServerName() or ""),
                int(state.getRitDuration()),
            )
        )
    return Grid(("REGION", "STATE", "SERVER", "MS"), rows, "region")
