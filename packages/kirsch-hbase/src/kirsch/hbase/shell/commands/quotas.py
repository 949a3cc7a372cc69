"""quotas: limits of requests and of space (hbase.quota.enabled)."""

import re
from typing import Any

from kirsch.hbase.shell.answers import Grid
from kirsch.hbase.shell.command import CommandError, UsageError, command
from kirsch.hbase.shell.commands.rows import rows
from kirsch.hbase.shell.session import Session, text

UNITS = {"": 1, "B": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40, "P": 1 << 50}
TIMES = {"sec": "SECONDS", "min": "MINUTES", "hour": "HOURS", "day": "DAYS"}
_RATE = re.compile(r"(\d+)(req|CU|[BKMGTP])/(sec|min|hour|day)", re.I)
_SIZE = re.compile(r"(\d+)\s*([BKMGTP]?)B?", re.I)
ALL_SERVERS = "all"


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
    kind = str(type).upper() or ("" if global_bypass is None else "GLOBAL_BYPASS")
    if kind == "THROTTLE":
        settings = _throttle(
            session, limit, user, table, namespace, regionserver, str(throttle_type).upper(), scope
        )
    elif kind == "SPACE":
        settings = _space(session, limit, table, namespace, policy)
    elif kind == "GLOBAL_BYPASS":
        if user is None or global_bypass is None:
            raise UsageError("set_quota: GLOBAL_BYPASS goes with USER, and is true or false")
        settings = _factory(session).bypassGlobals(text(user, "a user's name"), bool(global_bypass))
    else:
        raise CommandError(f"{type or 'no type'} is no TYPE of quota: there are THROTTLE and SPACE")
    session.admin("setQuota", settings)


def _factory(session: Session) -> Any:
    return session.java("quotas.QuotaSettingsFactory")


def _throttle(
    session: Session,
    limit: Any,
    user: str | None,
    table: Any,
    namespace: str | None,
    server: str | None,
    kind: str,
    scope: str,
) -> Any:
    target: list[Any] = []
    if user is not None:
        subject = "User"
        target.append(text(user, "a user's name"))
        if table is not None:
            target.append(session.table_name(table))
        elif namespace is not None:
            target.append(text(namespace, "a namespace's name"))
    elif table is not None:
        subject, target = "Table", [session.table_name(table)]
    elif namespace is not None:
        subject, target = "Namespace", [text(namespace, "a namespace's name")]
    elif server is not None:
        subject, target = "RegionServer", [text(server, "a server's name")]
        if target[0] != ALL_SERVERS:
            raise CommandError("a quota of region servers is of all of them: REGIONSERVER => 'all'")
    else:
        raise UsageError("set_quota: of whom? USER, TABLE, NAMESPACE or REGIONSERVER")
    factory = _factory(session)
    if _none(limit):
        if kind == "REQUEST":
            return session.call(getattr(factory, f"unthrottle{subject}"), *target)
        throttle = session.enum("quotas.ThrottleType", f"{kind}_NUMBER")
        return session.call(getattr(factory, f"unthrottle{subject}ByThrottleType"), *target, throttle)
    number, throttle, unit = _rate(str(limit), kind)
    arguments = [
        *target,
        session.enum("quotas.ThrottleType", throttle),
        session.java("java.lang.Long")(number),
        session.java("java.util.concurrent.TimeUnit").valueOf(unit),
    ]
    if subject != "RegionServer":
        arguments.append(session.enum("quotas.QuotaScope", scope))
    return session.call(getattr(factory, f"throttle{subject}"), *arguments)


def _space(session: Session, limit: Any, table: Any, namespace: str | None, policy: str | None) -> Any:
    factory = _factory(session)
    if (table is None) == (namespace is None):
        raise UsageError("set_quota: TYPE => SPACE goes with one of TABLE and NAMESPACE")
    target = session.table_name(table) if table is not None else text(namespace, "a namespace's name")
    of = "Table" if table is not None else "Namespace"
    if _none(limit):
        return session.call(getattr(factory, f"remove{of}SpaceLimit"), target)
    if policy is None:
        raise UsageError(
            "set_quota: TYPE => SPACE needs a POLICY: NO_INSERTS, NO_WRITES, NO_WRITES_COMPACTIONS or DISABLE"
        )
    size = session.java("java.lang.Long")(bytes_of(str(limit)))
    return session.call(
        getattr(factory, f"limit{of}Space"), target, size, session.enum("quotas.SpaceViolationPolicy", policy)
    )


def _none(limit: Any) -> bool:
    return limit is None or str(limit).upper() == "NONE"


def _rate(limit: str, kind: str) -> tuple[int, str, str]:
    """Of `10M/sec`: the number, ThrottleType and TimeUnit. Raises CommandError."""
    match = _RATE.fullmatch(limit.strip())
    if match is None or not int(match.group(1)):
        raise CommandError(f"{limit or 'nothing'} is no limit: write 10req/sec, 5CU/min, 10M/hour …, or NONE")
    if kind not in ("READ", "WRITE", "REQUEST"):
        raise CommandError(f"there is no THROTTLE_TYPE {kind}: there are READ, WRITE and REQUEST")
    number, unit = int(match.group(1)), match.group(2).lower()
    what = {"req": "NUMBER", "cu": "CAPACITY_UNIT"}.get(unit, "SIZE")
    if what == "SIZE":
        number *= UNITS[unit.upper()]
    return number, f"{kind}_{what}", TIMES[match.group(3).lower()]


def bytes_of(size: str) -> int:
    """10G in bytes. Raises CommandError."""
    match = _SIZE.fullmatch(size.strip())
    if match is None:
        raise CommandError(f"{size or 'nothing'} is no size: write 500M, 1G, 2T …")
    return int(match.group(1)) * UNITS[match.group(2).upper()]


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
    quota_filter = session.java("quotas.QuotaFilter")()
    for value, setter in (
        (user, "setUserFilter"),
        (table, "setTableFilter"),
        (namespace, "setNamespaceFilter"),
        (regionserver, "setRegionServerFilter"),
    ):
        if value is not None:
            getattr(quota_filter, setter)(text(value, "a pattern"))
    rows = []
    for quota in session.admin("getQuota", quota_filter):
        owner = {
            "USER": quota.getUserName(),
            "TABLE": quota.getTableName(),
            "NAMESPACE": quota.getNamespace(),
            "REGIONSERVER": quota.getRegionServer(),
        }
        named = ", ".join(f"{key} => {value}" for key, value in owner.items() if value is not None)
        rows.append((named, str(quota.getQuotaType().name()), str(quota)))
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
    found: dict[Any, Any] = {}
    if regionserver is not None:
        found = dict(session.admin("getRegionServerSpaceQuotaSnapshots", session.server(regionserver)))
    elif table is not None:
        name = session.table_name(table)
        found = {name: session.admin("getCurrentSpaceQuotaSnapshot", name)}
    elif namespace is not None:
        found = {namespace: session.admin("getCurrentSpaceQuotaSnapshot", text(namespace))}
    else:
        for server in session.live():
            found.update(dict(session.admin("getRegionServerSpaceQuotaSnapshots", server)))
    rows = []
    for name, view in found.items():
        if view is None or (namespace and table and str(name) != str(table)):
            continue
        state = view.getQuotaStatus()
        policy = state.getPolicy().orElse(None) if state.isInViolation() else None
        rows.append(
            (
                str(name),
                int(view.getUsage()),
                int(view.getLimit()),
                bool(state.isInViolation()),
                None if policy is None else str(policy.name()),
            )
        )
    return Grid(
        ("TABLE", "USAGE", "LIMIT", "VIOLATION", "POLICY"), sorted(rows, key=lambda r: r[0]), "snapshot"
    )
