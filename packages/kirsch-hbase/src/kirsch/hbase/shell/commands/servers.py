"""tools: servers, and what they have at hand."""

from typing import Any

from kirsch.hbase.shell.answer import Facts, Grid, Names, Text
from kirsch.hbase.shell.command import CommandError, command
from kirsch.hbase.shell.session import Session, many, python_bytes, shown, text

GROUP = "tools"
TRACING = "org.apache.hadoop.hbase.trace.TraceUtil"


@command(GROUP)
def list_liveservers(session: Session) -> Names:
    """List the region servers that live.

    list_liveservers
    """
    return Names("SERVER", sorted(str(server.getServerName()) for server in session.live()))


@command(GROUP)
def list_deadservers(session: Session) -> Names:
    """List the region servers that the master takes for dead.

    list_deadservers
    """
    return Names("SERVER", sorted(str(server.getServerName()) for server in session.admin("listDeadServers")))


@command(GROUP)
def clear_deadservers(session: Session, *servers: Any) -> Names:
    """Forget dead servers; all if none is named. Answers those that are remembered still.

    clear_deadservers
    clear_deadservers 'host,16020,1700000000000'
    clear_deadservers ['host1,16020,1', 'host2,16020,2']
    """
    dead = {str(s.getServerName()): s for s in session.admin("listDeadServers")}
    wanted = [text(name, "a server's name") for given in servers for name in many(given)] or list(dead)
    names = session.java("java.util.ArrayList")()
    for name in wanted:
        if name not in dead:
            raise CommandError(f"{name} is no dead server; there are: {', '.join(dead) or 'none'}")
        names.add(dead[name])
    left = session.admin("clearDeadServers", names)
    return Names("SERVER", [str(server.getServerName()) for server in left])


@command(GROUP)
def list_decommissioned_regionservers(session: Session) -> Names:
    """List the region servers that get no regions.

    list_decommissioned_regionservers
    """
    servers = session.admin("listDecommissionedRegionServers")
    return Names("SERVER", sorted(str(server.getServerName()) for server in servers))


@command(GROUP)
def decommission_regionservers(session: Session, servers: Any, offload: bool = False) -> None:
    """Give region servers no more regions; with true, move away those they have.

    decommission_regionservers 'host'
    decommission_regionservers ['host1:16020', 'host2,16020,1700000000000'], true
    """
    session.admin("decommissionRegionServers", session.servers(many(servers)), bool(offload))


@command(GROUP)
def recommission_regionserver(session: Session, server: Any, regions: Any = None) -> None:
    """Give a region server regions again, some at once if they are named.

    recommission_regionserver 'host,16020,1700000000000'
    recommission_regionserver 'host', ['ENCODED_REGION']
    """
    names = session.java("java.util.ArrayList")()
    for region in many(regions):
        names.add(session.bytes(region))
    session.admin("recommissionRegionServer", session.server(server), names)


@command(GROUP)
def stop_master(session: Session) -> None:
    """Stop the master. On a terminal you are asked first.

    stop_master
    """
    if session.confirm("Stop the master?"):
        session.admin("stopMaster")


@command(GROUP)
def stop_regionserver(session: Session, server: Any) -> None:
    """Stop a region server.

    stop_regionserver 'host:16020'
    """
    found = session.server(server)
    session.admin("stopRegionServer", f"{found.getHostname()}:{found.getPort()}")


@command(GROUP)
def wal_roll(session: Session, server: Any) -> None:
    """Have a region server begin a new write-ahead log.

    wal_roll 'host,16020,1700000000000'
    """
    session.admin("rollWALWriter", session.server(server))


@command(GROUP)
def compact_rs(session: Session, server: Any, major: bool = False) -> None:
    """Have all regions of a server compacted; with true, to one file each.

    compact_rs 'host,16020,1700000000000'
    compact_rs 'host,16020,1700000000000', true
    """
    session.admin("majorCompactRegionServer" if major else "compactRegionServer", session.server(server))


@command(GROUP)
def compaction_switch(session: Session, enabled: bool, servers: Any = None) -> Grid:
    """Let servers compact, or not; all if none is named. Answers what was before.

        compaction_switch false
        compaction_switch true, ['host,16020,1700000000000']

    It is forgotten when a server starts anew.
    """
    names = [str(session.server(name).getServerName()) for name in many(servers)]
    before = dict(session.admin("compactionSwitch", bool(enabled), session.strings(names)))
    rows = sorted((str(s.getServerName()), bool(was)) for s, was in before.items())
    return Grid(("SERVER", "WAS"), rows, "server")


@command(GROUP)
def clear_compaction_queues(session: Session, server: Any, queues: Any = ("long", "short")) -> None:
    """Forget compactions that a server has not begun.

    clear_compaction_queues 'host,16020,1700000000000'
    clear_compaction_queues 'host,16020,1700000000000', ['long', 'short']
    """
    names = session.java("java.util.HashSet")()
    for queue in many(queues):
        if queue not in ("long", "short"):
            raise CommandError(f"there is no queue {queue}: there are long and short")
        names.add(queue)
    session.admin("clearCompactionQueues", session.server(server), names)


@command(GROUP)
def clear_block_cache(session: Session, table: Any) -> Facts:
    """Forget the blocks of a table that are cached.

    clear_block_cache 't1'
    """
    stats = session.admin("clearBlockCache", session.table_name(table))
    return Facts(
        {
            "EVICTED_BLOCKS": int(stats.getEvictedBlocks()),
            "MAX_CACHE_BYTES": int(stats.getMaxCacheSize()),
            "FAILURES": int(stats.getExceptionCount()),
        },
        f"{stats.getEvictedBlocks()} blocks evicted",
    )


@command(GROUP)
def zk_dump(session: Session) -> Text:
    """Say what HBase keeps in ZooKeeper.

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
    """Trace what is done from here: start, stop or status.

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
