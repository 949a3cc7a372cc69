"""general: about the cluster and this shell."""

import base64
import json
from importlib import metadata
from typing import Any

from kirsch.hbase.shell.answers import Facts, Grid, Text
from kirsch.hbase.shell.command import CommandError, command
from kirsch.hbase.shell.session import Session, python_bytes, shown, text

FORMATS = ("summary", "simple", "detailed", "replication", "tasks")


@command("general")
def status(session: Session, format: str = "summary", side: str = "both") -> Any:
    """Show the state of the cluster.

        status
        status 'simple'
        status 'detailed'
        status 'replication', 'source'
        status 'tasks'

    'simple' has a line a server, 'detailed' a line a region; 'replication' may be followed by 'source' or
    'sink'.
    """
    metrics = session.metrics()
    if format == "summary":
        return _summary(metrics)
    if format == "simple":
        return _servers(metrics)
    if format == "detailed":
        return _regions(metrics)
    if format == "replication":
        return _replication(metrics, side)
    if format == "tasks":
        return processlist.function(session, "all")
    raise CommandError(f"there is no status {format}: there are {', '.join(FORMATS)}")


def _summary(metrics: Any) -> Facts:
    live, dead = metrics.getLiveServerMetrics().size(), metrics.getDeadServerNames().size()
    backups = metrics.getBackupMasterNames().size()
    facts = {
        "MASTER": str(metrics.getMasterName()),
        "BACKUP_MASTERS": int(backups),
        "SERVERS": int(live),
        "DEAD": int(dead),
        "REGIONS": int(metrics.getRegionCount()),
        "AVERAGE_LOAD": round(float(metrics.getAverageLoad()), 4),
        "VERSION": str(metrics.getHBaseVersion()),
        "CLUSTER_ID": str(metrics.getClusterId()),
    }
    return Facts(
        facts,
        f"1 active master, {backups} backup masters, {live} servers, {dead} dead, "
        f"{facts['AVERAGE_LOAD']:.4f} average load",
    )


def _servers(metrics: Any) -> Grid:
    rows = []
    for name, server in dict(metrics.getLiveServerMetrics()).items():
        rows.append(
            (
                str(name.getServerName()),
                "live",
                int(server.getRegionMetrics().size()),
                int(server.getRequestCountPerSecond()),
                int(server.getRequestCount()),
                _size(server.getUsedHeapSize()),
                _size(server.getMaxHeapSize()),
            )
        )
    rows += [(str(name.getServerName()), "dead", 0, 0, 0, 0, 0) for name in metrics.getDeadServerNames()]
    columns = ("SERVER", "STATE", "REGIONS", "REQUESTS/S", "REQUESTS", "HEAP_MB", "MAX_HEAP_MB")
    return Grid(columns, rows, "server")


def _regions(metrics: Any) -> Grid:
    rows = []
    for name, server in dict(metrics.getLiveServerMetrics()).items():
        for region in server.getRegionMetrics().values():
            rows.append(
                (
                    shown(python_bytes(region.getRegionName())),
                    str(name.getServerName()),
                    int(region.getStoreCount()),
                    int(region.getStoreFileCount()),
                    _size(region.getStoreFileSize()),
                    _size(region.getMemStoreSize()),
                    int(region.getReadRequestCount()),
                    int(region.getWriteRequestCount()),
                    round(float(region.getDataLocality()), 3),
                )
            )
    columns = (
        "REGION",
        "SERVER",
        "STORES",
        "FILES",
        "FILES_MB",
        "MEMSTORE_MB",
        "READS",
        "WRITES",
        "LOCALITY",
    )
    return Grid(columns, sorted(rows), "region")


def _replication(metrics: Any, side: str) -> Grid:
    if side.lower() not in ("both", "source", "sink"):
        raise CommandError(f"there is no side {side}: there are source and sink")
    rows: list[tuple[Any, ...]] = []
    for name, server in dict(metrics.getLiveServerMetrics()).items():
        where = str(name.getServerName())
        if side.lower() != "sink":
            for peer, loads in dict(server.getReplicationLoadSourceMap()).items():
                for load in loads:
                    rows.append(
                        (
                            where,
                            "source",
                            str(peer),
                            int(load.getAgeOfLastShippedOp()),
                            int(load.getSizeOfLogQueue()),
                            int(load.getReplicationLag()),
                        )
                    )
        sink = server.getReplicationLoadSink()
        if side.lower() != "source" and sink is not None:
            rows.append((where, "sink", None, int(sink.getAgeOfLastAppliedOp()), None, None))
    return Grid(("SERVER", "SIDE", "PEER", "AGE_MS", "LOG_QUEUE", "LAG_MS"), rows, "line")


def _size(size: Any) -> int:
    """Return a size in megabytes."""
    return int(
        size.getLongValue() if str(size.getUnit()) == "MEGABYTE" else size.get(size.getUnit().MEGABYTE)
    )


@command("general")
def version(session: Session) -> Facts:
    """Show the versions of HBase's client and server.

    version
    """
    kirsch = metadata.version("kirsch-hbase")
    client = str(session.java("util.VersionInfo").getVersion())
    server = str(session.metrics().getHBaseVersion())
    facts = {"CLIENT": client, "SERVER": server, "KIRSCH": kirsch}
    return Facts(facts, f"server {server}, client {client}, kirsch {kirsch}")


@command("general")
def whoami(session: Session) -> Facts:
    """Show your user name and groups as HBase knows them.

    whoami
    """
    user = session.call(session.java("security.User").getCurrent)
    groups = [str(group) for group in user.getGroupNames()]
    how = str(user.getUGI().getAuthenticationMethod())
    facts = {"USER": str(user.getName()), "AUTHENTICATION": how, "GROUPS": groups}
    return Facts(facts, f"{facts['USER']} (auth:{how}), groups: {', '.join(groups) or 'none'}")


@command("general")
def processlist(session: Session, kind: str = "all", host: str = "") -> Grid:
    """List the tasks of servers and master.

        processlist
        processlist 'rpc'
        processlist 'all', 'host1'

    Kinds: all, general (no handlers of requests), handler, rpc (handlers that are at work), operation (those
    at a scan or mutation).
    """
    kinds = ("all", "general", "handler", "rpc", "operation")
    if kind not in kinds:
        raise CommandError(f"there is no kind {kind}: there are {', '.join(kinds)}")
    metrics = session.metrics()
    tasks = [("master", task) for task in metrics.getMasterTasks() or ()]
    for name, server in dict(metrics.getLiveServerMetrics()).items():
        tasks += [(str(name.getServerName()), task) for task in server.getTasks() or ()]
    rows = []
    for where, task in tasks:
        description, state = str(task.getDescription()), str(task.getState())
        if text(host, "a host") in where and _is(kind, description, state):
            rows.append((where, int(task.getStartTime()), state, description, str(task.getStatus() or "")))
    return Grid(("SERVER", "START", "STATE", "TASK", "STATUS"), rows, "task")


def _is(kind: str, description: str, state: str) -> bool:
    handler = "Handler" in description
    return {
        "all": True,
        "general": not handler,
        "handler": handler,
        "rpc": handler and state == "RUNNING",
        "operation": handler and state == "RUNNING" and "Call" in description,
    }[kind]


@command("general")
def table_help(session: Session) -> Text:
    """Explain how to keep a table in a variable.

    table_help
    """
    return Text(
        "A table in a variable:\n\n"
        "    t = get_table 't1'            or   t = create 't1', 'f'\n"
        "    t.put 'r', 'f:q', 'v'         or   t.put('r', 'f:q', 'v')\n"
        "    t.scan LIMIT => 10            or   t.scan(limit=10)\n"
        "    t.describe; t.flush; t.disable; t.enable; t.drop; t.get 'r'; t.count; t.delete 'r', 'f:q'\n\n"
        "It has every command that has a table first. In Python it can be gone through: for row in t.scan(): "
        "…;\n"
        "t.table is kirsch.hbase's Table, for blocks, codecs and what else there is."
    )


@command("procedures")
def list_procedures(session: Session) -> Grid:
    """List the master's procedures, recent ones too.

    list_procedures
    """
    rows = [
        (
            int(p.get("procId", 0)),
            str(p.get("className", "")).rpartition(".")[2],
            p.get("state"),
            int(p.get("submittedTime", 0)),
            int(p.get("lastUpdate", 0)),
            _table(p.get("stateMessage", [])),
        )
        for p in _json(session.admin("getProcedures"))
    ]
    return Grid(("PID", "NAME", "STATE", "SUBMITTED", "LAST_UPDATE", "TABLE"), rows, "procedure")


@command("procedures")
def list_locks(session: Session) -> Grid:
    """List the locks of procedures and the procedures that wait for them.

    list_locks
    """
    rows = [
        (
            lock.get("resourceType"),
            lock.get("resourceName"),
            lock.get("lockType"),
            (lock.get("exclusiveLockOwnerProcedure") or {}).get("procId"),
            len(lock.get("waitingProcedures") or ()),
        )
        for lock in _json(session.admin("getLocks"))
    ]
    return Grid(("RESOURCE", "NAME", "LOCK", "OWNER_PID", "WAITING"), rows, "lock")


def _table(message: Any) -> str | None:
    """The table that a procedure's state names first."""
    if isinstance(message, list):
        return next((found for one in message if (found := _table(one))), None)
    if not isinstance(message, dict):
        return None
    if isinstance(name := message.get("tableName"), dict) and "qualifier" in name:
        namespace, table = (
            base64.b64decode(name.get(key, "")).decode() for key in ("namespace", "qualifier")
        )
        return table if namespace in ("", "default") else f"{namespace}:{table}"
    return next((found for one in message.values() if (found := _table(one))), None)


def _json(answer: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(str(answer))
    return found
