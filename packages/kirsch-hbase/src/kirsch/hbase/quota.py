"""Quotas: how much a user, a table or a namespace may use."""

from dataclasses import dataclass
from typing import Any, Literal

from kirsch.hbase.calls import call
from kirsch.hbase.errors import Invalid
from kirsch.hbase.jvm import cls, hbase
from kirsch.hbase.names import namespace_name, table_name

UNITS = {"sec": "SECONDS", "min": "MINUTES", "hour": "HOURS", "day": "DAYS"}
TYPES = (
    "REQUEST_NUMBER", "REQUEST_SIZE", "WRITE_NUMBER", "WRITE_SIZE", "READ_NUMBER", "READ_SIZE",
    "REQUEST_CAPACITY_UNIT", "WRITE_CAPACITY_UNIT", "READ_CAPACITY_UNIT",
)  # fmt: skip
POLICIES = ("NO_INSERTS", "NO_WRITES", "NO_WRITES_COMPACTIONS", "DISABLE")


@dataclass(frozen=True, slots=True)
class Whose:
    """Whose quota it is: a user's, in a namespace or a table if these are named too; a namespace's; a
    table's."""

    user: str = ""
    namespace: str = ""
    table: str = ""

    def arguments(self) -> tuple[str, tuple[Any, ...]]:
        """The last word of Java's factory methods, and their first arguments. Raises Invalid."""
        table = hbase("TableName").valueOf(table_name(self.table)) if self.table else None
        namespace = namespace_name(self.namespace) if self.namespace else None
        where = table if table is not None else namespace
        if self.user:
            return "User", (self.user,) if where is None else (self.user, where)
        if table is not None:
            return "Table", (table,)
        if namespace is not None:
            return "Namespace", (namespace,)
        raise Invalid("a quota is a user's, a namespace's or a table's: name one")


@dataclass(frozen=True, slots=True)
class Quota:
    """One quota: a throttle (`limit` of requests, bytes or capacity units, for each `unit`), or a limit of
    space (`type` is SPACE, `limit` in bytes, `unit` what happens when it is reached)."""

    whose: Whose
    type: str
    limit: int
    unit: str


class Quotas:
    """`admin.quotas`. Raises Unsupported where the server has quotas switched off."""

    def __init__(self, java: Any) -> None:
        self._java = java
        self._factory = hbase("quotas.QuotaSettingsFactory")

    def throttle(
        self,
        limit: int,
        unit: Literal["sec", "min", "hour", "day"] = "sec",
        *,
        type: str = "REQUEST_NUMBER",
        user: str = "",
        namespace: str = "",
        table: str = "",
    ) -> None:
        """So many requests, bytes or capacity units in a unit of time; `type` is one of TYPES."""
        if type not in TYPES or unit not in UNITS:
            words = f"its type is one of {', '.join(TYPES)}, its unit one of {', '.join(UNITS)}"
            raise Invalid(f"there is no throttle of {type} for each {unit}: {words}")
        word, whose = Whose(user, namespace, table).arguments()
        kind = hbase("quotas.ThrottleType").valueOf(type)
        time = cls("java.util.concurrent.TimeUnit").valueOf(UNITS[unit])
        made = call(getattr(self._factory, f"throttle{word}"), *whose, kind, limit, time)
        call(self._java.setQuota, made)

    def unthrottle(self, *, user: str = "", namespace: str = "", table: str = "") -> None:
        """Take all throttles away."""
        word, whose = Whose(user, namespace, table).arguments()
        call(self._java.setQuota, getattr(self._factory, f"unthrottle{word}")(*whose))

    def limit_space(
        self, limit: int, policy: str = "NO_INSERTS", *, namespace: str = "", table: str = ""
    ) -> None:
        """So many bytes; `policy` is what is no longer allowed then, one of POLICIES."""
        if policy not in POLICIES:
            raise Invalid(f"a policy is one of {', '.join(POLICIES)}")
        word, whose = Whose("", namespace, table).arguments()
        java_policy = hbase("quotas.SpaceViolationPolicy").valueOf(policy)
        made = call(getattr(self._factory, f"limit{word}Space"), *whose, limit, java_policy)
        call(self._java.setQuota, made)

    def free_space(self, *, namespace: str = "", table: str = "") -> None:
        """Take the limit of space away."""
        word, whose = Whose("", namespace, table).arguments()
        call(self._java.setQuota, getattr(self._factory, f"remove{word}SpaceLimit")(*whose))

    def list(self, *, user: str = "", namespace: str = "", table: str = "") -> list[Quota]:
        """All, or those whose user, namespace or table regular expressions match."""
        wanted = hbase("quotas.QuotaFilter")()
        for value, setter in (
            (user, wanted.setUserFilter),
            (namespace, wanted.setNamespaceFilter),
            (table, wanted.setTableFilter),
        ):
            if value:
                setter(value)
        return [_quota(one) for one in call(self._java.getQuota, wanted)]


def _quota(java: Any) -> Quota:
    table = java.getTableName()
    whose = Whose(
        str(java.getUserName() or ""),
        str(java.getNamespace() or ""),
        str(table.getNameAsString()) if table is not None else "",
    )
    if isinstance(java, hbase("quotas.ThrottleSettings")):
        units = {there: here for here, there in UNITS.items()}
        unit = units.get(str(java.getTimeUnit().name()), str(java.getTimeUnit().name()).lower())
        return Quota(whose, str(java.getThrottleType().name()), int(java.getSoftLimit()), unit)
    # What a limit of space is can be read from its message only.
    message = hbase("quotas.QuotaSettings").buildSetQuotaRequestProto(java)
    if message.hasSpaceLimit():
        quota = message.getSpaceLimit().getQuota()
        return Quota(whose, "SPACE", int(quota.getSoftLimit()), str(quota.getViolationPolicy().name()))
    return Quota(whose, str(java.getQuotaType().name()), 0, str(java))
