"""quotas: limits of requests and of space (hbase.quota.enabled)."""

import re
from typing import Any, cast

from kirsch.hbase.names import table_name
from kirsch.hbase.quota import ALL_SERVERS, TYPES, Quota, Quotas, Unit, Whose
from kirsch.hbase.shell.answers import Grid
from kirsch.hbase.shell.command import CommandError, UsageError, command
from kirsch.hbase.shell.commands.rows import rows
from kirsch.hbase.shell.session import Session, text

UNITS = {"": 1, "B": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40, "P": 1 << 50}
# What a throttle counts, as a limit is written.
COUNTED = {"NUMBER": "req", "CAPACITY_UNIT": "CU"}
_SCOPE = re.compile(r"\bSCOPE => (\w+)")
_RATE = re.compile(r"(\d+)(req|CU|[BKMGTP])/(sec|min|hour|day)", re.I)
_SIZE = re.compile(r"(\d+)\s*([BKMGTP]?)B?", re.I)


rows(
    "quotas",
    {
        "list_quota_table_sizes": (
            lambda admin: Grid(("TABLE", "BYTES"), sorted(admin.quotas.table_sizes().items()), "table"),
            "List the sizes of tables that space quotas are compared with.\n\nlist_quota_table_sizes",
        ),
        "list_snapshot_sizes": (
            lambda admin: Grid(
                ("SNAPSHOT", "BYTES"), sorted(admin.quotas.snapshot_sizes().items()), "snapshot"
            ),
            "List the sizes of snapshots that space quotas are compared with.\n\nlist_snapshot_sizes",
        ),
        "enable_rpc_throttle": (
            lambda admin: admin.cluster.request_quotas(True),
            "Enforce request quotas. Returns whether they were enforced before.\n\nenable_rpc_throttle",
        ),
        "disable_rpc_throttle": (
            lambda admin: admin.cluster.request_quotas(False),
            "Do not enforce request quotas. Returns whether they were enforced before.\n\n"
            "disable_rpc_throttle",
        ),
        "enable_exceed_throttle_quota": (
            lambda admin: admin.cluster.exceeding_quotas(True),
            "Let users exceed request quotas while servers have capacity. Returns the previous state.\n\n"
            "enable_exceed_throttle_quota\n\n"
            "It needs a quota of the region servers for reads and for writes a second.",
        ),
        "disable_exceed_throttle_quota": (
            lambda admin: admin.cluster.exceeding_quotas(False),
            "Do not let users exceed request quotas. Returns the previous state.\n\n"
            "disable_exceed_throttle_quota",
        ),
    },
)


@command("quotas")
def set_quota(
    session: Session,
    *,
    type: str = "",
    limit: Any = "",
    user: str | None = None,
    table: Any = None,
    namespace: str | None = None,
    regionserver: str | None = None,
    throttle_type: str = "REQUEST",
    policy: str | None = None,
    scope: str = "MACHINE",
    global_bypass: bool | None = None,
) -> None:
    """Set or remove a limit.

        set_quota TYPE => THROTTLE, USER => 'u1', LIMIT => '10req/sec'
        set_quota TYPE => THROTTLE, THROTTLE_TYPE => READ, USER => 'u1', TABLE => 't1', LIMIT => '10M/sec'
        set_quota TYPE => THROTTLE, NAMESPACE => 'ns1', LIMIT => NONE
        set_quota TYPE => THROTTLE, REGIONSERVER => 'all', LIMIT => '30000req/sec'
        set_quota TYPE => SPACE, TABLE => 't1', LIMIT => '1G', POLICY => NO_INSERTS
        set_quota TYPE => SPACE, TABLE => 't1', LIMIT => NONE
        set_quota USER => 'u1', GLOBAL_BYPASS => true

    A limit is so many req, CU (capacity units) or bytes (B, K, M, G, T, P) a sec, min, hour or day.
    THROTTLE_TYPE is READ, WRITE or REQUEST, SCOPE is MACHINE or CLUSTER; POLICY is NO_INSERTS, NO_WRITES,
    NO_WRITES_COMPACTIONS or DISABLE.
    """
    quotas = session.connection.admin.quotas
    kind = str(type).upper() or ("" if global_bypass is None else "GLOBAL_BYPASS")
    if kind == "THROTTLE":
        whose = _whose(user, table, namespace, regionserver)
        _throttle(quotas, limit, str(throttle_type).upper(), str(scope).upper(), whose)
    elif kind == "SPACE":
        if (table is None) == (namespace is None):
            raise UsageError("set_quota: TYPE => SPACE goes with one of TABLE and NAMESPACE")
        _limit_space(quotas, limit, policy, _whose(None, table, namespace, None))
    elif kind == "GLOBAL_BYPASS":
        if user is None or global_bypass is None:
            raise UsageError("set_quota: GLOBAL_BYPASS goes with USER, and is true or false")
        quotas.exempt(text(user, "a user's name"), bool(global_bypass))
    else:
        raise CommandError(f"{type or 'no type'} is no TYPE of quota: there are THROTTLE and SPACE")


def _throttle(quotas: Quotas, limit: Any, kind: str, scope: str, whose: dict[str, str]) -> None:
    if _none(limit):
        for type_ in [""] if kind == "REQUEST" else [each for each in TYPES if each.startswith(f"{kind}_")]:
            quotas.unthrottle(type=type_, **whose)
        return
    number, type_, unit = _rate(str(limit), kind)
    quotas.throttle(number, unit, type=type_, scope=scope, **whose)


def _limit_space(quotas: Quotas, limit: Any, policy: str | None, whose: dict[str, str]) -> None:
    if _none(limit):
        quotas.free_space(**whose)
        return
    if policy is None:
        raise UsageError(
            "set_quota: TYPE => SPACE needs a POLICY: NO_INSERTS, NO_WRITES, NO_WRITES_COMPACTIONS or DISABLE"
        )
    quotas.limit_space(bytes_of(str(limit)), str(policy).upper(), **whose)


def _whose(user: str | None, table: Any, namespace: str | None, server: str | None) -> dict[str, str]:
    """Return the subject of a quota as Quotas takes it. Raises UsageError, CommandError."""
    whose = {}
    if user is not None:
        whose["user"] = text(user, "a user's name")
    if table is not None:
        whose["table"] = table_name(text(table, "a table's name"))
    elif namespace is not None:
        whose["namespace"] = text(namespace, "a namespace's name")
    if not whose and server is not None:
        whose["servers"] = text(server, "a server's name")
        if whose["servers"] != ALL_SERVERS:
            raise CommandError("a quota of region servers is of all of them: REGIONSERVER => 'all'")
    if not whose:
        raise UsageError("set_quota: of whom? USER, TABLE, NAMESPACE or REGIONSERVER")
    return whose


def _none(limit: Any) -> bool:
    return limit is None or str(limit).upper() == "NONE"


def _rate(limit: str, kind: str) -> tuple[int, str, Unit]:
    """Return the number, type and unit of a throttle such as `10M/sec`. Raises CommandError."""
    match = _RATE.fullmatch(limit.strip())
    if match is None or not int(match.group(1)):
        raise CommandError(f"{limit or 'nothing'} is no limit: write 10req/sec, 5CU/min, 10M/hour …, or NONE")
    if kind not in ("READ", "WRITE", "REQUEST"):
        raise CommandError(f"there is no THROTTLE_TYPE {kind}: there are READ, WRITE and REQUEST")
    number, unit = int(match.group(1)), match.group(2).lower()
    what = next((what for what, written in COUNTED.items() if written.lower() == unit), "SIZE")
    if what == "SIZE":
        number *= UNITS[unit.upper()]
    return number, f"{kind}_{what}", cast(Unit, match.group(3).lower())


def bytes_of(size: str) -> int:
    """10G in bytes. Raises CommandError."""
    match = _SIZE.fullmatch(size.strip())
    if match is None:
        raise CommandError(f"{size or 'nothing'} is no size: write 500M, 1G, 2T …")
    return int(match.group(1)) * UNITS[match.group(2).upper()]


def statement(quota: Quota) -> str:
    """Return the statement that sets a quota."""
    owner = ", ".join(f"{key} => '{value}'" for key, value in _owner(quota.whose).items())
    if quota.type == "SPACE":
        return f"set_quota TYPE => SPACE, {owner}, LIMIT => '{_size(quota.limit)}', POLICY => {quota.unit}"
    if quota.type not in TYPES:
        return f"set_quota {owner}, GLOBAL_BYPASS => true"
    kind, _, counted = quota.type.partition("_")
    limit = f"{quota.limit}{COUNTED[counted]}" if counted in COUNTED else _size(quota.limit)
    throttle = "" if kind == "REQUEST" else f"THROTTLE_TYPE => {kind}, "
    cluster = (match := _SCOPE.search(quota.text)) is not None and match[1] == "CLUSTER"
    scope = ", SCOPE => CLUSTER" if cluster else ""
    return f"set_quota TYPE => THROTTLE, {throttle}{owner}, LIMIT => '{limit}/{quota.unit}'{scope}"


def _size(size: int) -> str:
    """Return bytes as a limit is written, with the largest unit that is exact."""
    for unit, bytes_ in reversed([*UNITS.items()][1:]):
        if size % bytes_ == 0:
            return f"{size // bytes_}{unit}"
    raise AssertionError("every size is so many bytes")


def _owner(whose: Whose) -> dict[str, str]:
    """Return the subject of a quota by the options that name it."""
    named = {
        "USER": whose.user,
        "TABLE": whose.table,
        "NAMESPACE": whose.namespace,
        "REGIONSERVER": whose.servers,
    }
    return {key: value for key, value in named.items() if value}


@command("quotas")
def list_quotas(
    session: Session,
    *,
    user: str | None = None,
    table: str | None = None,
    namespace: str | None = None,
    regionserver: str | None = None,
) -> Grid:
    """List quotas, all or those that match patterns.

    list_quotas
    list_quotas USER => 'bob.*'
    list_quotas USER => 'bob.*', TABLE => 't1'
    list_quotas NAMESPACE => 'ns.*'
    """
    given = {"user": user, "table": table, "namespace": namespace, "servers": regionserver}
    patterns = {name: text(value, "a pattern") for name, value in given.items() if value is not None}
    rows = []
    for quota in session.connection.admin.quotas.list(**patterns):
        named = ", ".join(f"{key} => {value}" for key, value in _owner(quota.whose).items())
        rows.append((named, "THROTTLE" if quota.type in TYPES else quota.type, quota.text))
    return Grid(("OWNER", "TYPE", "QUOTA"), rows, "quota")


@command("quotas")
def list_quota_snapshots(
    session: Session, *, table: str | None = None, namespace: str | None = None, regionserver: Any = None
) -> Grid:
    """List the use of space quotas, as a server or the master sees it.

    list_quota_snapshots
    list_quota_snapshots TABLE => 't1'
    list_quota_snapshots NAMESPACE => 'ns1'
    list_quota_snapshots REGIONSERVER => 'host:16020'
    """
    quotas = session.connection.admin.quotas
    if regionserver is not None:
        found = quotas.usage(server=session.server(regionserver))
    elif table is not None or namespace is not None:
        found = quotas.usage(**_whose(None, table, namespace, None))
    else:
        found = quotas.usage()
    rows = [(one.subject, one.used, one.limit, one.policy is not None, one.policy) for one in found]
    return Grid(("TABLE", "USAGE", "LIMIT", "VIOLATION", "POLICY"), rows, "snapshot")
