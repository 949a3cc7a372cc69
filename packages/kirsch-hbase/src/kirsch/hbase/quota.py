"""Quotas: limits of requests and space for users, tables and namespaces."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from kirsch.hbase.calls import call
from kirsch.hbase.errors import Invalid
from kirsch.hbase.jvm import cls, hbase
from kirsch.hbase.names import namespace_name, table_name

if TYPE_CHECKING:
    from kirsch.hbase.connection import Connection

Unit = Literal["sec", "min", "hour", "day"]
UNITS = {"sec": "SECONDS", "min": "MINUTES", "hour": "HOURS", "day": "DAYS"}
TYPES = (
    "REQUEST_NUMBER", "REQUEST_SIZE", "WRITE_NUMBER", "WRITE_SIZE", "READ_NUMBER", "READ_SIZE",
    "REQUEST_CAPACITY_UNIT", "WRITE_CAPACITY_UNIT", "READ_CAPACITY_UNIT",
)  # fmt: skip
POLICIES = ("NO_INSERTS", "NO_WRITES", "NO_WRITES_COMPACTIONS", "DISABLE")
SCOPES = ("MACHINE", "CLUSTER")
# The only name of region servers that has quotas: of all of them.
ALL_SERVERS = "all"


@dataclass(frozen=True, slots=True)
class Whose:
    """Subject of a quota: a user (in a namespace or table if one is named), a namespace, a table, or the
    region servers ("all")."""

    user: str = ""
    namespace: str = ""
    table: str = ""
    servers: str = ""

    def arguments(self) -> tuple[str, tuple[Any, ...]]:
        """Return the last word of Java's factory methods, and their first arguments. Raises Invalid."""
        table = hbase("TableName").valueOf(table_name(self.table)) if self.table else None
        namespace = namespace_name(self.namespace) if self.namespace else None
        where = table if table is not None else namespace
        if self.user:
            return "User", (self.user,) if where is None else (self.user, where)
        if table is not None:
            return "Table", (table,)
        if namespace is not None:
            return "Namespace", (namespace,)
        if self.servers == ALL_SERVERS:
            return "RegionServer", (ALL_SERVERS,)
        if self.servers:
            raise Invalid(f"a quota of region servers is of all of them: name {ALL_SERVERS!r}")
        raise Invalid("a quota needs a user, a namespace, a table or the region servers: name one")


@dataclass(frozen=True, slots=True)
class Quota:
    """One quota: a throttle (`limit` of requests, bytes or capacity units, for each `unit`), a limit of space
    (`type` is SPACE, `limit` in bytes, `unit` what happens when it is reached), or a user's exemption
    (GLOBAL_BYPASS). `text` is what HBase's own shell shows of it."""

    whose: Whose
    type: str
    limit: int
    unit: str
    text: str


@dataclass(frozen=True, slots=True)
class Usage:
    """Space that a table or namespace uses of its limit, in bytes; `policy` applies if it is exceeded."""

    subject: str
    used: int
    limit: int
    policy: str | None


class Quotas:
    """Quotas, as `admin.quotas`. Raises Unsupported where the server has them off."""

    def __init__(self, connection: "Connection", java: Any) -> None:
        self._connection = connection
        self._call = connection.call
        self._java = java
        self._factory = hbase("quotas.QuotaSettingsFactory")

    def throttle(
        self,
        limit: int,
        unit: Unit = "sec",
        *,
        type: str = "REQUEST_NUMBER",
        user: str = "",
        namespace: str = "",
        table: str = "",
        servers: str = "",
        scope: str = "MACHINE",
    ) -> None:
        """Limit requests, bytes or capacity units in a unit of time; `type` is one of TYPES. Each server has
        the limit (MACHINE), or all of them together (CLUSTER)."""
        if type not in TYPES or unit not in UNITS or scope not in SCOPES:
            words = f"its type is one of {', '.join(TYPES)}, its unit one of {', '.join(UNITS)}"
            raise Invalid(
                f"there is no throttle of {type} for each {unit} of a {scope}: {words}, its scope one of "
                f"{', '.join(SCOPES)}"
            )
        word, whose = Whose(user, namespace, table, servers).arguments()
        kind = hbase("quotas.ThrottleType").valueOf(type)
        time = cls("java.util.concurrent.TimeUnit").valueOf(UNITS[unit])
        # A limit of region servers is of each of them, always.
        where = () if word == "RegionServer" else (hbase("quotas.QuotaScope").valueOf(scope),)
        made = call(getattr(self._factory, f"throttle{word}"), *whose, kind, limit, time, *where)
        self._call(self._java.setQuota, made)

    def unthrottle(
        self, *, type: str = "", user: str = "", namespace: str = "", table: str = "", servers: str = ""
    ) -> None:
        """Remove all throttles of a subject, or those of the kind of request that `type` names."""
        word, whose = Whose(user, namespace, table, servers).arguments()
        if type and type not in TYPES:
            raise Invalid(f"there is no throttle of {type}: its type is one of {', '.join(TYPES)}")
        if type:
            kind = hbase("quotas.ThrottleType").valueOf(type)
            made = call(getattr(self._factory, f"unthrottle{word}ByThrottleType"), *whose, kind)
        else:
            made = call(getattr(self._factory, f"unthrottle{word}"), *whose)
        self._call(self._java.setQuota, made)

    def exempt(self, user: str, on: bool = True) -> None:
        """Exempt a user from the quotas that are not the user's own, or end that."""
        self._call(self._java.setQuota, self._factory.bypassGlobals(user, on))

    def limit_space(
        self, limit: int, policy: str = "NO_INSERTS", *, namespace: str = "", table: str = ""
    ) -> None:
        """Limit space in bytes; `policy` (one of POLICIES) applies when it is used up."""
        if policy not in POLICIES:
            raise Invalid(f"a policy is one of {', '.join(POLICIES)}")
        word, whose = Whose("", namespace, table).arguments()
        java_policy = hbase("quotas.SpaceViolationPolicy").valueOf(policy)
        made = call(getattr(self._factory, f"limit{word}Space"), *whose, limit, java_policy)
        self._call(self._java.setQuota, made)

    def free_space(self, *, namespace: str = "", table: str = "") -> None:
        """Remove a limit of space."""
        word, whose = Whose("", namespace, table).arguments()
        self._call(self._java.setQuota, getattr(self._factory, f"remove{word}SpaceLimit")(*whose))

    def table_sizes(self) -> dict[str, int]:
        """Return the sizes of tables in bytes that limits of space are compared with."""
        found = self._call(self._java.getSpaceQuotaTableSizes)
        return {str(e.getKey().getNameAsString()): int(e.getValue()) for e in found.entrySet()}

    def snapshot_sizes(self) -> dict[str, int]:
        """Return the sizes of snapshots in bytes that limits of space are compared with."""
        found = self._call(hbase("quotas.QuotaTableUtil").getObservedSnapshotSizes, self._connection.java)
        return {str(e.getKey()): int(e.getValue()) for e in found.entrySet()}

    def usage(self, *, table: str = "", namespace: str = "", server: str = "") -> list[Usage]:
        """Return how much of their limits of space tables use: one table or namespace, as the master counts;
        else all tables, as one server (`host,port,started`) counts them, or as all servers do."""
        if table or namespace:
            subject = hbase("TableName").valueOf(table_name(table)) if table else namespace_name(namespace)
            found = [(str(subject), self._call(self._java.getCurrentSpaceQuotaSnapshot, subject))]
        else:
            names = [server] if server else self._connection.admin.cluster.live()
            found = []
            for name in names:
                of_server = call(hbase("ServerName").valueOf, name)
                views = self._call(self._java.getRegionServerSpaceQuotaSnapshots, of_server)
                found += [(str(e.getKey().getNameAsString()), e.getValue()) for e in views.entrySet()]
        usages = {subject: _usage(subject, view) for subject, view in found if view is not None}
        return [usages[subject] for subject in sorted(usages)]

    def list(self, *, user: str = "", namespace: str = "", table: str = "", servers: str = "") -> list[Quota]:
        """Return all quotas, or those whose subjects match regular expressions."""
        wanted = hbase("quotas.QuotaFilter")()
        for value, setter in (
            (user, wanted.setUserFilter),
            (namespace, wanted.setNamespaceFilter),
            (table, wanted.setTableFilter),
            (servers, wanted.setRegionServerFilter),
        ):
            if value:
                setter(value)
        return [_quota(one) for one in self._call(self._java.getQuota, wanted)]


def _usage(subject: str, view: Any) -> Usage:
    state = view.getQuotaStatus()
    policy = state.getPolicy().orElse(None) if state.isInViolation() else None
    return Usage(
        subject, int(view.getUsage()), int(view.getLimit()), None if policy is None else str(policy.name())
    )


def _quota(java: Any) -> Quota:
    table = java.getTableName()
    whose = Whose(
        str(java.getUserName() or ""),
        str(java.getNamespace() or ""),
        str(table.getNameAsString()) if table is not None else "",
        str(java.getRegionServer() or ""),
    )
    text = str(java)
    if isinstance(java, hbase("quotas.ThrottleSettings")):
        units = {there: here for here, there in UNITS.items()}
        unit = units.get(str(java.getTimeUnit().name()), str(java.getTimeUnit().name()).lower())
        return Quota(whose, str(java.getThrottleType().name()), int(java.getSoftLimit()), unit, text)
    # A limit of space is readable from its protobuf message only.
    message = hbase("quotas.QuotaSettings").buildSetQuotaRequestProto(java)
    if message.hasSpaceLimit():
        quota = message.getSpaceLimit().getQuota()
        policy = str(quota.getViolationPolicy().name())
        return Quota(whose, "SPACE", int(quota.getSoftLimit()), policy, text)
    return Quota(whose, str(java.getQuotaType().name()), 0, "", text)
