"""Replication: peers, clusters that are sent what is written here."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kirsch.hbase.calls import call
from kirsch.hbase.convert import to_java
from kirsch.hbase.jvm import cls, hbase
from kirsch.hbase.names import namespace_name, table_name


@dataclass(frozen=True, slots=True)
class Peer:
    """`cluster` is ZooKeeper's `host,host:port:/node`; with `all` everything is sent but `namespaces` and
    `tables`, else only these. `tables` are names to families, none of them meaning all; `bandwidth` in bytes
    a second, 0: as much as there is; `serial`: in the order of the writes; `endpoint`: a class that
    replicates in its own way."""

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
        """A Java ReplicationPeerConfig."""
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
    """`admin.peers`."""

    def __init__(self, java: Any) -> None:
        self._java = java

    def list(self) -> list[Peer]:
        """All of them."""
        return [_peer(one) for one in call(self._java.listReplicationPeers)]

    def add(self, peer: Peer) -> None:
        """Raises Exists, Invalid."""
        call(self._java.addReplicationPeer, peer.name, peer.java(), peer.enabled)

    def alter(self, peer: Peer) -> None:
        """Give a peer other settings. Raises NotFound, Invalid."""
        call(self._java.updateReplicationPeerConfig, peer.name, peer.java())

    def remove(self, name: str) -> None:
        """Raises NotFound."""
        call(self._java.removeReplicationPeer, name)

    def enable(self, name: str) -> None:
        """Raises NotFound."""
        call(self._java.enableReplicationPeer, name)

    def disable(self, name: str) -> None:
        """What is written meanwhile is sent once it is enabled. Raises NotFound."""
        call(self._java.disableReplicationPeer, name)

    def replicate(self, table: str, on: bool = True) -> None:
        """Have a table's families replicated, or not. Raises NotFound."""
        name = hbase("TableName").valueOf(table_name(table))
        call(self._java.enableTableReplication if on else self._java.disableTableReplication, name)


def table_families(tables: Mapping[str, Iterable[str]]) -> Any:
    """A Java Map of TableName to lists of families."""
    made = cls("java.util.HashMap")()
    for name, families in tables.items():
        made.put(hbase("TableName").valueOf(table_name(name)), to_java(list(families)))
    return made


def _peer(java: Any) -> Peer:
    settings = java.getPeerConfig()
    every = bool(settings.replicateAllUserTables())
    tables = settings.getExcludeTableCFsMap() if every else settings.getTableCFsMap()
    namespaces = settings.getExcludeNamespaces() if every else settings.getNamespaces()
    return Peer(
        str(java.getPeerId()),
        str(settings.getClusterKey() or ""),
        bool(java.isEnabled()),
        every,
        frozenset(str(name) for name in namespaces or ()),
        {
            str(entry.getKey().getNameAsString()): tuple(str(family) for family in entry.getValue() or ())
            for entry in (tables.entrySet() if tables is not None else ())
        },
        int(settings.getBandwidth()),
        bool(settings.isSerial()),
        str(settings.getReplicationEndpointImpl() or ""),
        {str(e.getKey()): str(e.getValue()) for e in settings.getConfiguration().entrySet()},
    )
