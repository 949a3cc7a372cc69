"""Commands of the group `tools` for regions."""

from typing import Any

from kirsch.hbase.shell.answers import Facts, Grid
from kirsch.hbase.shell.command import CommandError, UsageError, command
from kirsch.hbase.shell.commands.rows import rows
from kirsch.hbase.shell.session import Session, data, family_text, many, shown, table_name, text

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


def served(session: Session, name: Any) -> Any:
    """Return a region by its full or encoded name. Raises CommandError where no server has it."""
    found = session.admin.regions.find(data(name))
    if found is None:
        raise CommandError(
            f"no server has a region {shown(data(name))}: list_regions 'TABLE' says their names"
        )
    return found


def _is_region(name: Any) -> bool:
    given = data(name)
    return given.count(b",") >= 2 or (len(given) == 32 and not set(given) - set(b"0123456789abcdef"))


@command(GROUP)
def close_region(session: Session, region: Any, server: Any = None) -> None:
    """Close a region; in HBase 2 the same as unassign.

    close_region 'ENCODED_REGION'
    close_region 'ENCODED_REGION', 'host,16020,1700000000000'
    """
    found = served(session, region)
    if server is not None and session.server(server) != found.server:
        raise CommandError(f"region {found.name} is on {found.server}")
    session.admin.regions.unassign(found)


@command(GROUP)
def move(session: Session, region: Any, server: Any = None) -> None:
    """Move a region to a server, or to any other.

    move 'ENCODED_REGION'
    move 'ENCODED_REGION', 'host,16020,1700000000000'
    """
    found = served(session, region)
    session.admin.regions.move(found, "" if server is None else session.server(server))


@command(GROUP)
def split(session: Session, name: Any, key: Any = None) -> None:
    """Split a table's regions, or one region, in the middle or at a row.

    split 't1'
    split 't1', 'row500'
    split 'REGION', 'row500'
    """
    what = data(name) if _is_region(name) else table_name(name)
    session.admin.regions.split(what, None if key is None else data(key))


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
    found = [served(session, name) for name in names]
    session.admin.regions.merge(*found, force=force, wait=True)


@command(GROUP)
def flush(session: Session, name: Any, family: Any = None) -> None:
    """Write the memory of a table, region or server to files, or that of one family.

    flush 't1'
    flush 't1', 'f1'
    flush 'REGION'
    flush 'host,16020,1700000000000'
    """
    admin, given = session.admin, data(name)
    only = None if family is None else family_text(family)
    if given.count(b",") == 2 and text(name) in admin.cluster.live():
        admin.cluster.flush(text(name))
    elif _is_region(name):
        admin.regions.flush(given, only)
    else:
        admin.flush(table_name(name), only)


@command(GROUP)
def compact(session: Session, name: Any, family: Any = None, kind: str = "NORMAL") -> None:
    """Compact files of a table or region, or of one family, in the background.

    compact 't1'
    compact 't1', 'f1'
    compact 'REGION'
    compact 't1', nil, 'MOB'
    """
    _compact(session, name, family, kind)


@command(GROUP)
def major_compact(session: Session, name: Any, family: Any = None, kind: str = "NORMAL") -> None:
    """Compact all files of a table or region into one, without deleted cells, in the background.

    major_compact 't1'
    major_compact 't1', 'f1'
    major_compact 'REGION', 'f1'
    major_compact 't1', nil, 'MOB'
    """
    _compact(session, name, family, kind, major=True)


def _compact(session: Session, name: Any, family: Any, kind: str, major: bool = False) -> None:
    only = None if family is None else family_text(family)
    if _is_region(name):
        session.admin.regions.compact(data(name), only, major)
        return
    if not session.admin.exists(table_name(name)):
        raise CommandError(f"there is no table {text(name)}")
    session.admin.compact(table_name(name), only, major, kind)


@command(GROUP)
def regioninfo(session: Session, region: Any) -> Facts:
    """Show a region and its server.

    regioninfo 'REGION'
    regioninfo 'ENCODED_REGION'
    """
    found = served(session, region)
    return Facts(
        {
            "REGION": shown(found.full_name),
            "ENCODED": found.name,
            "TABLE": found.table,
            "START_KEY": found.start,
            "END_KEY": found.stop,
            "REPLICA": found.replica,
            "OFFLINE": found.offline,
            "SPLIT": found.split,
            "SERVER": found.server,
        }
    )


@command(GROUP)
def rit(session: Session) -> Grid:
    """List the regions in transition: being opened, closed, split or merged.

    rit
    """
    rows = [
        (shown(one.region), one.state, one.server, one.duration)
        for one in session.admin.regions.in_transition()
    ]
    return Grid(("REGION", "STATE", "SERVER", "MS"), rows, "region")
