"""Commands of the group `tools` for servers, the master's chores, and logs in servers' memory."""

from dataclasses import astuple
from typing import Any

from kirsch.hbase.shell.answers import Grid, Names, Text
from kirsch.hbase.shell.command import CommandError, command
from kirsch.hbase.shell.commands.rows import rows
from kirsch.hbase.shell.session import Session, many, python_bytes, shown, text

GROUP = "tools"
TRACING = "org.apache.hadoop.hbase.trace.TraceUtil"
FILTERS = {
    "REGION_NAME": "regionName",
    "TABLE_NAME": "tableName",
    "CLIENT_IP": "clientAddress",
    "USER": "userName",
    "FILTER_BY_OP": "filterByOperator",
}
LIMIT = 10


def _queues(queues: Any) -> list[str]:
    names = [text(one) for one in many(queues)]
    if unknown := [name for name in names if name not in ("long", "short")]:
        raise CommandError(f"there is no queue {unknown[0]}: there are long and short")
    return names


def _cleared(done: list[bool]) -> str:
    return f"cleared on {sum(done)} of {len(done)} servers"


rows(
    GROUP,
    {
        "list_liveservers": (
            lambda admin: Names("SERVER", admin.cluster.live()),
            "List the region servers that are alive.\n\nlist_liveservers",
        ),
        "list_deadservers": (
            lambda admin: Names("SERVER", admin.cluster.dead()),
            "List the region servers that the master considers dead.\n\nlist_deadservers",
        ),
        "list_unknownservers": (
            lambda admin: Names("SERVER", admin.cluster.unknown()),
            "List servers that have regions in hbase:meta, and are neither alive nor dead.\n\n"
            "list_unknownservers",
        ),
        "flush_master_store": (
            lambda admin: admin.cluster.flush_master_store(),
            "Write the master's local store to files.\n\nflush_master_store",
        ),
        "list_decommissioned_regionservers": (
            lambda admin: Names("SERVER", admin.cluster.decommissioned()),
            "List the region servers that get no regions.\n\nlist_decommissioned_regionservers",
        ),
        "decommission_regionservers": (
            lambda admin, servers, offload=False: admin.cluster.decommission(servers, offload),
            "Assign no more regions to servers; with true, move their regions away.\n\n"
            "decommission_regionservers 'host'\n"
            "decommission_regionservers ['host1:16020', 'host2,16020,1700000000000'], true",
        ),
        "recommission_regionserver": (
            lambda admin, server, regions=(): admin.cluster.recommission(server, regions),
            "Assign regions to a decommissioned server again, the named ones at once.\n\n"
            "recommission_regionserver 'host,16020,1700000000000'\n"
            "recommission_regionserver 'host', ['ENCODED_REGION']",
        ),
        "stop_regionserver": (
            lambda admin, server: admin.cluster.stop_server(server),
            "Stop a region server.\n\nstop_regionserver 'host:16020'",
        ),
        "wal_roll": (
            lambda admin, server: admin.cluster.roll_log(server),
            "Start a new write-ahead log on a region server.\n\nwal_roll 'host,16020,1700000000000'",
        ),
        "compact_rs": (
            lambda admin, server, major=False: admin.cluster.compact(server, major),
            "Compact all regions of a server; with true, into one file each.\n\n"
            "compact_rs 'host,16020,1700000000000'\ncompact_rs 'host,16020,1700000000000', true",
        ),
        "compaction_switch": (
            lambda admin, enabled, servers=(): Grid(
                ("SERVER", "WAS"), sorted(admin.cluster.compaction(enabled, servers).items()), "server"
            ),
            "Turn compaction on or off on some servers or all. Shows the previous states.\n\n"
            "compaction_switch false\ncompaction_switch true, ['host,16020,1700000000000']\n\n"
            "A server that restarts compacts again.",
        ),
        "clear_compaction_queues": (
            lambda admin, server, queues=("long", "short"): admin.cluster.clear_compactions(
                server, _queues(queues)
            ),
            "Remove compactions that a server has not started from its queues.\n\n"
            "clear_compaction_queues 'host,16020,1700000000000'\n"
            "clear_compaction_queues 'host,16020,1700000000000', ['long', 'short']",
        ),
        "clear_slowlog_responses": (
            lambda admin, servers=(): _cleared(admin.cluster.clear_slow_log(servers)),
            "Clear the log of slow and large requests on some servers or all.\n\n"
            "clear_slowlog_responses\nclear_slowlog_responses ['host,16020,1700000000000']",
        ),
        "catalogjanitor_run": (
            lambda admin: admin.cluster.run_catalog_janitor(),
            "Clean hbase:meta now. Returns the number of regions it removed.\n\ncatalogjanitor_run",
        ),
        "catalogjanitor_switch": (
            lambda admin, enabled: admin.cluster.catalog_janitor(enabled),
            "Turn the periodic cleaning of hbase:meta on or off. Returns its previous state.\n\n"
            "catalogjanitor_switch true",
        ),
        "catalogjanitor_enabled": (
            lambda admin: admin.cluster.catalog_janitor(),
            "Return whether hbase:meta is cleaned periodically.\n\ncatalogjanitor_enabled",
        ),
        "cleaner_chore_run": (
            lambda admin: admin.cluster.run_cleaner(),
            "Delete unused files now. Returns whether the chore ran.\n\ncleaner_chore_run",
        ),
        "cleaner_chore_switch": (
            lambda admin, enabled: admin.cluster.cleaner(enabled),
            "Turn the periodic deletion of unused files on or off. Returns its previous state.\n\n"
            "cleaner_chore_switch true",
        ),
        "cleaner_chore_enabled": (
            lambda admin: admin.cluster.cleaner(),
            "Return whether unused files are deleted periodically.\n\ncleaner_chore_enabled",
        ),
        "snapshot_cleanup_switch": (
            lambda admin, enabled: admin.cluster.snapshot_cleanup(enabled),
            "Turn the deletion of expired snapshots on or off. Returns its previous state.\n\n"
            "snapshot_cleanup_switch true",
        ),
        "snapshot_cleanup_enabled": (
            lambda admin: admin.cluster.snapshot_cleanup(),
            "Return whether expired snapshots are deleted.\n\nsnapshot_cleanup_enabled",
        ),
        "is_in_maintenance_mode": (
            lambda admin: admin.cluster.maintenance(),
            "Return whether the master is in maintenance mode.\n\nis_in_maintenance_mode",
        ),
    },
)


@command(GROUP)
def clear_deadservers(session: Session, *servers: Any) -> Names:
    """Remove dead servers from the master's list, all if none is named. Returns those that remain.

    clear_deadservers
    clear_deadservers 'host,16020,1700000000000'
    clear_deadservers ['host1,16020,1', 'host2,16020,2']
    """
    cluster = session.admin.cluster
    dead = cluster.dead()
    wanted = [text(name, "a server's name") for given in servers for name in many(given)] or dead
    for name in wanted:
        if name not in dead:
            raise CommandError(f"{name} is no dead server; there are: {', '.join(dead) or 'none'}")
    return Names("SERVER", cluster.clear_dead(wanted))


@command(GROUP)
def stop_master(session: Session) -> None:
    """Stop the master, after a question on a terminal.

    stop_master
    """
    if session.confirm("Stop the master?"):
        session.admin.cluster.stop_master()


@command(GROUP)
def zk_dump(session: Session) -> Text:
    """Show what HBase keeps in ZooKeeper.

    zk_dump
    """
    configuration = session.connection.java.getConfiguration()
    root = str(configuration.get("zookeeper.znode.parent", "/hbase"))
    timer = session.java("org.apache.hbase.thirdparty.io.netty.util.HashedWheelTimer")()
    client = session.call(session.java("zookeeper.ReadOnlyZKClient"), configuration, timer)
    try:
        lines = [f"HBase is rooted at {root}", f"Quorum: {client.getConnectString()}"]
        _dump(session, client, root, 0, lines)
    finally:
        client.close()
        timer.stop()
    return Text("\n".join(lines))


def _dump(session: Session, client: Any, path: str, depth: int, lines: list[str]) -> None:
    value = python_bytes(session.call(client.get(path).get))
    told = shown(value[:60]) + ("…" if len(value) > 60 else "")
    lines.append(f"{'  ' * depth}{path}{': ' if told else ''}{told}")
    for child in sorted(str(name) for name in session.call(client.list(path).get)):
        _dump(session, client, f"{path.rstrip('/')}/{child}", depth + 1, lines)


@command(GROUP)
def trace(session: Session, what: str = "status", name: str = "HBaseShell") -> Text:
    """Start or stop a trace of this shell's operations, or show its status.

        trace 'start', 'migration'
        trace 'status'
        trace 'stop'

    Spans go where OpenTelemetry's Java agent sends them: options=['-javaagent:…'] of connect, or
    JAVA_TOOL_OPTIONS. Without it nothing is recorded.
    """
    spans: list[Any] = session.spans
    if what == "start":
        if spans:
            raise CommandError("a trace has been started already: trace 'stop' ends it")
        tracer = session.call(session.java(TRACING).getGlobalTracer)
        spans.append(tracer.spanBuilder(text(name, "a trace's name")).startSpan())
    elif what == "stop":
        if not spans:
            raise CommandError("no trace has been started")
        spans.pop().end()
        return Text("The trace is over")
    elif what != "status":
        raise CommandError(f"trace does not know {what}: there are start, stop and status")
    if not spans:
        return Text("No trace has been started")
    recorded = spans[0].isRecording()
    return Text(
        f"A trace goes on{'' if recorded else '; nothing is recorded, for there is no OpenTelemetry agent'}"
    )


@command(GROUP)
def get_slowlog_responses(
    session: Session,
    servers: Any = "*",
    *,
    limit: int = LIMIT,
    region_name: str | None = None,
    table_name: str | None = None,
    client_ip: str | None = None,
    user: str | None = None,
    filter_by_op: str | None = None,
) -> Grid:
    """List slow requests of all servers or some.

        get_slowlog_responses '*'
        get_slowlog_responses ['host,16020,1700000000000'], {LIMIT => 50}
        get_slowlog_responses '*', {TABLE_NAME => 't1', CLIENT_IP => '10.0.0.1:43210', FILTER_BY_OP => 'AND'}

    Servers keep them where hbase.regionserver.slowlog.buffer.enabled is true; LIMIT (10) is a server's.
    """
    filters = _filters(region_name, table_name, client_ip, user, filter_by_op)
    return _requests(session, servers, limit, filters)


@command(GROUP)
def get_largelog_responses(
    session: Session,
    servers: Any = "*",
    *,
    limit: int = LIMIT,
    region_name: str | None = None,
    table_name: str | None = None,
    client_ip: str | None = None,
    user: str | None = None,
    filter_by_op: str | None = None,
) -> Grid:
    """List requests with large answers of all servers or some.

    get_largelog_responses '*'
    get_largelog_responses ['host,16020,1700000000000'], {USER => 'bob', LIMIT => 50}
    """
    filters = _filters(region_name, table_name, client_ip, user, filter_by_op)
    return _requests(session, servers, limit, filters, large=True)


def _filters(*values: Any) -> dict[str, str]:
    return {
        key: text(value) for key, value in zip(FILTERS.values(), values, strict=True) if value is not None
    }


def _requests(
    session: Session, servers: Any, limit: int, filters: dict[str, str], large: bool = False
) -> Grid:
    if not isinstance(limit, int) or limit < 1:
        raise CommandError(f"LIMIT is a number from 1 on, not {limit!r}")
    found = session.admin.cluster.slow_requests(
        session.servers(servers), large=large, limit=limit, filters=filters
    )
    columns = ("START", "MS", "QUEUE_MS", "BYTES", "METHOD", "USER", "CLIENT", "REGION", "CALL")
    return Grid(columns, [astuple(one) for one in found], "request")


@command(GROUP)
def hbck_chore_run(session: Session) -> bool:
    """Check the cluster for inconsistencies now. Returns whether the check ran.

        hbck_chore_run

    What it found is on the master's page (HBCK Report).
    """
    return bool(session.admin.cluster.check())
