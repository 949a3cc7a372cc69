"""Snapshots: a table as it was."""

from dataclasses import dataclass
from typing import Any

from kirsch.hbase import convert
from kirsch.hbase.calls import call
from kirsch.hbase.errors import NotFound
from kirsch.hbase.jvm import cls, hbase
from kirsch.hbase.names import table_name


@dataclass(frozen=True, slots=True)
class Snapshot:
    """`created` in ms since 1970, `ttl` in seconds (0: for ever)."""

    name: str
    table: str
    kind: str
    created: int
    owner: str = ""
    ttl: int = 0


class Snapshots:
    """`admin.snapshots`."""

    def __init__(self, java: Any) -> None:
        self._java = java

    def list(self, pattern: str = ".*", table: str = ".*") -> list[Snapshot]:
        """Those whose names, and whose tables' names, regular expressions match as a whole."""
        found = call(self._java.listTableSnapshots, convert.pattern(table), convert.pattern(pattern))
        return sorted((_snapshot(one) for one in found), key=lambda snapshot: snapshot.name)

    def take(self, name: str, table: str, *, flush: bool = True, ttl: float | None = None) -> None:
        """Take one. `flush` False leaves out what is in memory only; `ttl` in seconds. Raises NotFound,
        Exists."""
        kind = hbase("client.SnapshotType")
        java_name = hbase("TableName").valueOf(table_name(table))
        # HBase 2.6 with access control does not survive the question (AccessController.preSnapshot).
        if not call(self._java.tableExists, java_name):
            raise NotFound(f"there is no table {table}")
        how = kind.FLUSH if flush else kind.SKIPFLUSH
        properties = cls("java.util.HashMap")()
        if ttl is not None:
            properties.put("TTL", cls("java.lang.Long").valueOf(int(ttl)))
        call(self._java.snapshot, name, java_name, how, properties)

    def restore(self, name: str, *, safe: bool = True) -> None:
        """Make its table as it was, which is disabled for it and enabled again. `safe`: a snapshot is taken
        before, for the case that it fails. Raises NotFound."""
        snapshot = next((one for one in self.list() if one.name == name), None)
        java_name = hbase("TableName").valueOf(snapshot.table) if snapshot else None
        enabled = java_name is not None and call(self._java.isTableEnabled, java_name)
        if enabled:
            call(self._java.disableTable, java_name)
        call(self._java.restoreSnapshot, name, safe)
        if enabled:
            call(self._java.enableTable, java_name)

    def clone(self, name: str, table: str) -> None:
        """Make a new table of one. Raises NotFound, Exists."""
        call(self._java.cloneSnapshot, name, hbase("TableName").valueOf(table_name(table)))

    def drop(self, name: str) -> None:
        """Delete one. Raises NotFound."""
        call(self._java.deleteSnapshot, name)

    def drop_all(self, pattern: str = ".*", table: str = ".*") -> None:
        """Delete those that match, as in `list`."""
        call(self._java.deleteTableSnapshots, convert.pattern(table), convert.pattern(pattern))


def _snapshot(java: Any) -> Snapshot:
    return Snapshot(
        str(java.getName()),
        str(java.getTableNameAsString()),
        str(java.getType().name()),
        int(java.getCreationTime()),
        str(java.getOwner() or ""),
        int(java.getTtl()),
    )
