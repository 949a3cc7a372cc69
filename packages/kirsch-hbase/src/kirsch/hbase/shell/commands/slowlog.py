"""tools: what was slow, and what the balancer decided (kept in memory by the servers)."""

import json
from typing import Any

from kirsch.hbase.shell.answer import Grid
from kirsch.hbase.shell.command import CommandError, command
from kirsch.hbase.shell.session import Session, many, text

GROUP = "tools"
FILTERS = {
    "REGION_NAME": "regionName",
    "TABLE_NAME": "tableName",
    "CLIENT_IP": "clientAddress",
    "USER": "userName",
    "FILTER_BY_OP": "filterByOperator",
}
LIMIT = 10


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
    """List requests that were answered slowly, of all servers or some.

        get_slowlog_responses '*'
        get_slowlog_responses ['host,16020,1700000000000'], {LIMIT => 50}
        get_slowlog_responses '*', {TABLE_NAME => 't1', CLIENT_IP => '10.0.0.1:43210', FILTER_BY_OP => 'AND'}

    Servers keep them where hbase.regionserver.slowlog.buffer.enabled is true; LIMIT (10) is a server's.
    """
    filters = _filters(region_name, table_name, client_ip, user, filter_by_op)
    return _requests(session, "SLOW_LOG", servers, limit, filters)


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
    """List requests whose answers were large, of all servers or some.

    get_largelog_responses '*'
    get_largelog_responses ['host,16020,1700000000000'], {USER => 'bob', LIMIT => 50}
    """
    filters = _filters(region_name, table_name, client_ip, user, filter_by_op)
    return _requests(session, "LARGE_LOG", servers, limit, filters)


@command(GROUP)
def clear_slowlog_responses(session: Session, servers: Any = "*") -> str:
    """Forget slow and large requests, of all servers or some.

    clear_slowlog_responses
    clear_slowlog_responses ['host,16020,1700000000000']
    """
    done = [bool(cleared) for cleared in session.admin("clearSlowLogResponses", _set(session, servers))]
    return f"cleared on {sum(done)} of {len(done)} servers"


@command(GROUP)
def get_balancer_decisions(session: Session, *, limit: int = 250) -> Grid:
    """List what the balancer decided.

        get_balancer_decisions
        get_balancer_decisions LIMIT => 5

    The master keeps it where hbase.master.balancer.decision.buffer.enabled is true.
    """
    return _balancer(session, "BALANCER_DECISION", limit)


@command(GROUP)
def get_balancer_rejections(session: Session, *, limit: int = 250) -> Grid:
    """List why the balancer did nothing.

        get_balancer_rejections
        get_balancer_rejections LIMIT => 5

    The master keeps it where hbase.master.balancer.rejection.buffer.enabled is true.
    """
    return _balancer(session, "BALANCER_REJECTION", limit)


def _filters(*values: Any) -> dict[str, str]:
    return {
        key: text(value) for key, value in zip(FILTERS.values(), values, strict=True) if value is not None
    }


def _set(session: Session, servers: Any) -> Any:
    made = session.java("java.util.HashSet")()
    for server in session.servers("*" if servers in ("*", "all") else many(servers)):
        made.add(server)
    return made


def _requests(session: Session, kind: str, servers: Any, limit: int, filters: dict[str, str]) -> Grid:
    if not isinstance(limit, int) or limit < 1:
        raise CommandError(f"LIMIT is a number from 1 on, not {limit!r}")
    where = session.java("client.ServerType").REGION_SERVER
    found = session.admin("getLogEntries", _set(session, servers), kind, where, limit, session.map(filters))
    rows = [
        (
            int(r.getStartTime()),
            int(r.getProcessingTime()),
            int(r.getQueueTime()),
            int(r.getResponseSize()),
            str(r.getMethodName()),
            str(r.getUserName()),
            str(r.getClientAddress()),
            str(r.getRegionName() or ""),
            str(r.getCallDetails()),
        )
        for r in found
    ]
    columns = ("START", "MS", "QUEUE_MS", "BYTES", "METHOD", "USER", "CLIENT", "REGION", "CALL")
    return Grid(columns, rows, "request")


def _balancer(session: Session, kind: str, limit: int) -> Grid:
    where = session.java("client.ServerType").MASTER
    nobody = session.java("java.util.Collections").emptySet()
    found = session.admin("getLogEntries", nobody, kind, where, limit, session.map({}))
    entries = [json.loads(str(entry.toJsonPrettyPrint())) for entry in found]
    columns = tuple(dict.fromkeys(key for entry in entries for key in entry))
    rows = [[entry.get(column) for column in columns] for entry in entries]
    return Grid([column.upper() for column in columns], rows, "entry")
