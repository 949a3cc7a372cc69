"""Replication: peers, which are clusters that receive what is written to this one."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kirsch.hbase.convert import to_java
from kirsch.hbase.errors import Invalid, NotFound
from kirsch.hbase.jvm import cls, hbase
from kirsch.hbase.names import namespace_name, table_name

if TYPE_CHECKING:
    from kirsch.hbase.connection import Connection


@dataclass(frozen=True, slots=True)
class Peer:
    """A peer: its `cluster` is ZooKeeper's `host,host:port:/node`.

    With `all` it receives everything but `namespaces` and `tables`, else only these. `tables` maps names to
    families; no families are all of them. `bandwidth` is in bytes a second (0: no limit); `serial` keeps the
    order of the writes; `endpoint` is a class that replicates in its own way.
    """

    name: str
    cluster: str = ""
    enabled: bool = True
    all: bool = True
    namespaces: frozenset[str] = frozenset()
    tables: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    bandwidth: int = 0
    serial: bool = False
    endpoint: str = ""
    configuration: Mapping[str, str] = field(default_factory=dict)

    def java(self) -> Any:
        """Return a Java ReplicationPeerConfig."""
        builder = hbase("replication.ReplicationPeerConfig").newBuilder()
        if self.cluster:
            builder.setClusterKey(self.cluster)
        if self.endpoint:
            builder.setReplicationEndpointImpl(self.endpoint)
        builder.setReplicateAllUserTables(self.all).setBandwidth(self.bandwidth).setSerial(self.serial)
        tables = table_families(self.tables)
        namespaces = to_java({namespace_name(name) for name in self.namespaces})
        if tables.size():
            (builder.setExcludeTableCFsMap if self.all else builder.setTableCFsMap)(tables)
        if namespaces.size():
            (builder.setExcludeNamespaces if self.all else builder.setNamespaces)(namespaces)
        for key, value in self.configuration.items():
            builder.putConfiguration(key, value)
        return builder.build()


class Peers:
    """Replication peers, as `admin.peers`."""

    def __init__(self, connection: "Connection", java: Any) -> None:
        self._call = connection.call
        self._java = java

    def list(self) -> list[Peer]:
        """Return all replication peers."""
        return [_peer(one) for one in self._call(self._java.listReplicationPeers)]

    def add(self, peer: Peer) -> None:
        """Add a peer. Raises Exists, Invalid."""
        self._call(self._java.addReplicationPeer, peer.name, peer.java(), peer.enabled)

    def alter(self, peer: Peer) -> None:
        """Replace a peer's settings. Raises NotFound, Invalid."""
        self._call(self._java.updateReplicationPeerConfig, peer.name, peer.java())

    def remove(self, name: str) -> None:
        """Remove a peer. Raises NotFound."""
        self._call(self._java.removeReplicationPeer, name)

    def enable(self, name: str) -> None:
        """Replicate to a peer again. Raises NotFound."""
        self._call(self._java.enableReplicationPeer, name)

    def disable(self, name: str) -> None:
        """Stop replicating to a peer. Writes are kept for it meanwhile. Raises NotFound."""
        self._call(self._java.disableReplicationPeer, name)

    def replicate(self, table: str, on: bool = True) -> None:
        """Replicate all families of a table, or none. Raises NotFound."""
        name = hbase("TableName").valueOf(table_name(table))
        self._call(self._java.enableTableReplication if on else self._java.disableTableReplication, name)

    def replicated(self) -> dict[str, dict[str, int]]:
        """Return the replicated families and their scopes, by table."""
        return {
            str(one.getTable().getNameAsString()): {
                str(entry.getKey()): int(entry.getValue()) for entry in one.getColumnFamilyMap().entrySet()
            }
            for one in self._call(self._java.listReplicatedTableCFs)
        }

    # Single settings, each read, changed and written

    def settings(self, name: str) -> dict[str, Any]:
        """Return a peer's settings as `change` names them; None where one is not set. Raises NotFound."""
        return _settings(self._call(self._java.getReplicationPeerConfig, name))

    def all_settings(self) -> Sequence[tuple[str, bool, dict[str, Any]]]:
        """Return each peer's name, whether it is enabled, and its settings."""
        return [
            (str(one.getPeerId()), bool(one.isEnabled()), _settings(one.getPeerConfig()))
            for one in self._call(self._java.listReplicationPeers)
        ]

    def create(self, name: str, *, enabled: bool = True, **settings: Any) -> None:
        """Add a peer with settings as `change` names them. Raises Exists, Invalid."""
        builder = hbase("replication.ReplicationPeerConfig").newBuilder()
        _apply(builder, settings)
        self._call(self._java.addReplicationPeer, name, builder.build(), enabled)

    def change(self, name: str, **settings: Any) -> None:
        """Change single settings; an empty collection removes one. Raises NotFound, Invalid.

        The settings are cluster, endpoint, all, namespaces, tables, exclude_namespaces, exclude_tables,
        bandwidth, serial; configuration (str) and data (bytes) add to what is there.
        """
        config = self._call(self._java.getReplicationPeerConfig, name)
        builder = hbase("replication.ReplicationPeerConfig").newBuilder(config)
        _apply(builder, settings)
        self._call(self._java.updateReplicationPeerConfig, name, builder.build())

    def replicate_all(self, name: str, on: bool) -> None:
        """Replicate all tables but the excluded ones, or only the named ones. The other names are removed."""
        self.change(name, all=on, **dict.fromkeys(INCLUDED if on else EXCLUDED))

    def add_namespaces(self, name: str, namespaces: Iterable[str], *, exclude: bool = False) -> None:
        """Add to the namespaces that a peer receives, or does not."""
        key = (EXCLUDED if exclude else INCLUDED)[0]
        self.change(name, **{key: {*(self.settings(name)[key] or ()), *namespaces}})

    def remove_namespaces(self, name: str, namespaces: Iterable[str], *, exclude: bool = False) -> None:
        """Remove from the namespaces that a peer receives, or does not."""
        key = (EXCLUDED if exclude else INCLUDED)[0]
        self.change(name, **{key: {*(self.settings(name)[key] or ())} - {*namespaces}})

    def add_tables(self, name: str, tables: Mapping[str, Iterable[str]], *, exclude: bool = False) -> None:
        """Add to the tables and families that a peer receives, or does not."""
        key = (EXCLUDED if exclude else INCLUDED)[1]
        old = self.settings(name)[key] or {}
        for table, families in tables.items():
            added = set(families)
            everything = table in old and not (old[table] and added)
            old[table] = [] if everything else sorted({*old.get(table, ()), *added})
        self.change(name, **{key: old})

    def remove_tables(self, name: str, tables: Mapping[str, Iterable[str]], *, exclude: bool = False) -> None:
        """Remove from the tables and families that a peer receives, or does not. Raises NotFound, Invalid."""
        key = (EXCLUDED if exclude else INCLUDED)[1]
        verb = ("exclude", "excludes") if exclude else ("name", "names")
        old = self.settings(name)[key] or {}
        for table, families in tables.items():
            removed = set(families)
            if table not in old:
                raise NotFound(f"peer {name} does not {verb[0]} table {table}")
            if removed and not old[table]:
                raise Invalid(f"peer {name} {verb[1]} all of table {table}: remove the table as a whole")
            left = [family for family in old.pop(table) if removed and family not in removed]
            if left:
                old[table] = left
        self.change(name, **{key: old})


INCLUDED, EXCLUDED = ("namespaces", "tables"), ("exclude_namespaces", "exclude_tables")
# Java's setters of single settings.
_SETTERS = {
    "cluster": "setClusterKey",
    "endpoint": "setReplicationEndpointImpl",
    "all": "setReplicateAllUserTables",
    "namespaces": "setNamespaces",
    "exclude_namespaces": "setExcludeNamespaces",
    "tables": "setTableCFsMap",
    "exclude_tables": "setExcludeTableCFsMap",
    "bandwidth": "setBandwidth",
    "serial": "setSerial",
}


def _apply(builder: Any, settings: Mapping[str, Any]) -> None:
    for key, value in settings.items():
        if key == "configuration":
            for setting, one in value.items():
                builder.putConfiguration(setting, one)
        elif key == "data":
            for setting, one in value.items():
                builder.putPeerData(to_java(setting), to_java(one))
        elif key in ("cluster", "endpoint") and value is None:
            continue
        elif key in (INCLUDED[0], EXCLUDED[0]):
            getattr(builder, _SETTERS[key])(to_java({namespace_name(n) for n in value}) if value else None)
        elif key in (INCLUDED[1], EXCLUDED[1]):
            getattr(builder, _SETTERS[key])(table_families(value) if value else None)
        else:
            getattr(builder, _SETTERS[key])(value)


def _settings(config: Any) -> dict[str, Any]:
    def names(found: Any) -> list[str] | None:
        return None if found is None else sorted(str(name) for name in found)

    def tables(found: Any) -> dict[str, list[str]] | None:
        if found is None:
            return None
        return {
            str(entry.getKey().getNameAsString()): [str(family) for family in entry.getValue() or ()]
            for entry in found.entrySet()
        }

    return {
        "cluster": _text(config.getClusterKey()),
        "endpoint": _text(config.getReplicationEndpointImpl()),
        "all": bool(config.replicateAllUserTables()),
        "namespaces": names(config.getNamespaces()),
        "tables": tables(config.getTableCFsMap()),
        "exclude_namespaces": names(config.getExcludeNamespaces()),
        "exclude_tables": tables(config.getExcludeTableCFsMap()),
        "bandwidth": int(config.getBandwidth()),
        "serial": bool(config.isSerial()),
        "configuration": {str(e.getKey()): str(e.getValue()) for e in config.getConfiguration().entrySet()},
    }


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def table_families(tables: Mapping[str, Iterable[str]]) -> Any:
    """Return a Java Map of TableName to lists of families; null is all of them."""
    made = cls("java.util.HashMap")()
    for name, families in tables.items():
        made.put(hbase("TableName").valueOf(table_name(name)), to_java(list(families)) if families else None)
    return made


def _peer(java: Any) -> Peer:
    settings = _settings(java.getPeerConfig())
    namespaces, tables = (settings[key] for key in (EXCLUDED if settings["all"] else INCLUDED))
    return Peer(
        str(java.getPeerId()),
        settings["cluster"] or "",
        bool(java.isEnabled()),
        settings["all"],
        frozenset(namespaces or ()),
        {table: tuple(families) for table, families in (tables or {}).items()},
        settings["bandwidth"],
        settings["serial"],
        settings["endpoint"] or "",
        settings["configuration"],
    )
