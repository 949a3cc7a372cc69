"""general: about the cluster and this shell."""

import base64
from importlib import metadata
from typing import Any

from kirsch.hbase.shell.answers import Facts, Grid, Text
from kirsch.hbase.shell.command import CommandError, command
from kirsch.hbase.shell.session import Session, shown, text

FORMATS = ("summary", "simple", "detailed", "replication", "tasks")


@command("general")
def status(session: Session, format: str = "summary", side: str = "both") -> Any:
    """Show the state of the cluster.

        status
        status 'simple'
        status 'detailed'
        status 'replication', 'source'
        status 'tasks'

    'simple' has a line a server, 'detailed' a line a region, each below what the master says of itself;
    'replication' may be followed by 'source' or 'sink'.
    """
    if format not in FORMATS:
        raise CommandError(f"there is no status {format}: there are {', '.join(FORMATS)}")
    if format == "tasks":
        return processlist.function(session, "all")
    found = session.connection.admin.cluster.status(regions=format == "detailed")
    if format == "replication":
        return _replication(found, side)
    answers = {"summary": _summary, "simple": _servers, "detailed": _regions}
    return answers[format](found)


def _summary(status: Any) -> Facts:
    facts = {
        "MASTER": status.master,
        "BACKUP_MASTERS": len(status.backup_masters),
        "SERVERS": len(status.servers),
        "DEAD": len(status.dead),
        "REGIONS": status.regions,
        "AVERAGE_LOAD": round(status.average_load, 4),
        "VERSION": status.version,
        "CLUSTER_ID": status.id,
    }
    return Facts(
        facts,
        f"1 active master, {len(status.backup_masters)} backup masters, {len(status.servers)} servers, "
        f"{len(status.dead)} dead, {facts['AVERAGE_LOAD']:.4f} average load",
    )


def _master(status: Any) -> dict[str, Any]:
    return {"MASTER": status.master, "BACKUP_MASTERS": list(status.backup_masters)}


def _servers(status: Any) -> Grid:
    rows: list[tuple[Any, ...]] = [
        (
            one.name,
            "live",
            one.regions,
            one.requests_a_second,
            one.requests,
            one.reads,
            one.writes,
            one.stores,
            one.files,
            int(one.files_size),
            int(one.memstore),
            int(one.heap_used),
            int(one.heap_most),
            list(one.coprocessors),
        )
        for one in status.servers
    ]
    rows += [(name, "dead", *[0] * 11, []) for name in status.dead]
    columns = (
        "SERVER", "STATE", "REGIONS", "REQUESTS/S", "REQUESTS", "READS", "WRITES", "STORES", "FILES",
        "FILES_MB", "MEMSTORE_MB", "HEAP_MB", "MAX_HEAP_MB", "COPROCESSORS",
    )  # fmt: skip
    load = sum(one.requests_a_second for one in status.servers)
    head = {**_master(status), "AGGREGATE_LOAD": load, "REGIONS": sum(one.regions for one in status.servers)}
    return Grid(columns, rows, "server", Facts(head))


def _regions(status: Any) -> Grid:
    rows = [
        (
            shown(one.name),
            one.server,
            one.stores,
            one.files,
            int(one.files_size),
            int(one.memstore),
            one.reads,
            one.filtered_reads,
            one.writes,
            int(one.index),
            int(one.bloom),
            one.compacting,
            one.compacted,
            one.major or None,
            round(one.locality, 3),
        )
        for one in status.loads
    ]
    columns = (
        "REGION", "SERVER", "STORES", "FILES", "FILES_MB", "MEMSTORE_MB", "READS", "FILTERED_READS", "WRITES",
        "INDEX_KB", "BLOOM_KB", "COMPACTING", "COMPACTED", "LAST_MAJOR", "LOCALITY",
    )  # fmt: skip
    head = {
        "VERSION": status.version,
        "IN_TRANSITION": list(status.in_transition),
        **_master(status),
        "MASTER_COPROCESSORS": list(status.coprocessors),
        "SERVERS": [one.name for one in status.servers],
        "DEAD": list(status.dead),
    }
    return Grid(columns, sorted(rows), "region", Facts(head))


def _replication(status: Any, side: str) -> Grid:
    if side.lower() not in ("both", "source", "sink"):
        raise CommandError(f"there is no side {side}: there are source and sink")
    found = [
        (one.server, "sink" if one.peer is None else "source", one.peer, one.age, one.queue, one.lag)
        for one in status.replication
    ]
    rows = [row for row in found if side.lower() in ("both", row[1])]
    return Grid(("SERVER", "SIDE", "PEER", "AGE_MS", "LOG_QUEUE", "LAG_MS"), rows, "line")


@command("general")
def version(session: Session) -> Facts:
    """Show the versions of HBase's client and server.

    version
    """
    kirsch = metadata.version("kirsch-hbase")
    client = str(session.java("util.VersionInfo").getVersion())
    server = session.connection.admin.cluster.status().version
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
    rows = [
        (one.server, one.started, one.state, one.description, one.status)
        for one in session.connection.admin.cluster.tasks()
        if text(host, "a host") in one.server and _is(kind, one.description, one.state)
    ]
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
        for p in session.connection.admin.procedures.list()
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
        for lock in session.connection.admin.procedures.locks()
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
