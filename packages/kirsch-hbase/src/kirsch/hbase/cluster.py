"""The cluster: its servers, the regions of its tables, its balancer and the master's periodic chores."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jpype

from kirsch.hbase.calls import call
from kirsch.hbase.convert import to_java
from kirsch.hbase.jvm import hbase
from kirsch.hbase.names import table_name

if TYPE_CHECKING:
    from kirsch.hbase.connection import Connection


@dataclass(frozen=True, slots=True)
class Server:
    """A region server: `name` is `host,port,started`; sizes in MB; counts since it was started."""

    name: str
    regions: int
    requests_a_second: int
    heap_used: float
    heap_most: float
    requests: int
    reads: int
    writes: int
    stores: int
    files: int
    files_size: float
    memstore: float
    coprocessors: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RegionLoad:
    """Load of a region: sizes in MB, those of indexes and Bloom filters in KB; `compacted` of
    `compacting` cells; `major` is when its files became one, in ms (0: not yet)."""

    name: bytes
    server: str
    stores: int
    files: int
    files_size: float
    memstore: float
    reads: int
    filtered_reads: int
    writes: int
    index: float
    bloom: float
    compacting: int
    compacted: int
    major: int
    locality: float


@dataclass(frozen=True, slots=True)
class ReplicationLoad:
    """Replication by a server: to a `peer`, or from others, with none: times in ms, logs that wait."""

    server: str
    peer: str | None
    age: int
    queue: int | None = None
    lag: int | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """A task of the master or a region server, begun at `started` (ms)."""

    server: str
    started: int
    state: str
    description: str
    status: str


@dataclass(frozen=True, slots=True)
class Status:
    """State of a cluster as its master reports it. `in_transition` are regions that are being opened, closed,
    split or merged; `loads` are there if they were asked for."""

    version: str
    id: str
    master: str
    backup_masters: tuple[str, ...]
    servers: tuple[Server, ...]
    dead: tuple[str, ...]
    regions: int
    average_load: float
    balancer: bool
    coprocessors: tuple[str, ...]
    in_transition: tuple[str, ...]
    replication: tuple[ReplicationLoad, ...]
    loads: tuple[RegionLoad, ...] = ()


class Cluster:
    """Servers, balancer and chores of a cluster, as `admin.cluster`.

    Each switch (`balancer`, `normalizer`, …) returns its state; with `on` it is set, and its previous state
    is returned. Servers are named `host,port,started`.
    """

    def __init__(self, connection: "Connection", java: Any) -> None:
        self._call = connection.call
        self._java = java

    def status(self, regions: bool = False) -> Status:
        """Return the servers, the number of regions and the load; with `regions` the load of each."""
        metrics = self._call(self._java.getClusterMetrics)
        servers = sorted(
            metrics.getLiveServerMetrics().entrySet(), key=lambda entry: str(entry.getKey().getServerName())
        )
        return Status(
            str(metrics.getHBaseVersion()),
            str(metrics.getClusterId()),
            str(metrics.getMasterName()),
            tuple(str(name) for name in metrics.getBackupMasterNames()),
            tuple(_server(entry) for entry in servers),
            tuple(str(name) for name in metrics.getDeadServerNames()),
            int(metrics.getRegionCount()),
            float(metrics.getAverageLoad()),
            bool(metrics.getBalancerOn()),
            tuple(str(name) for name in metrics.getMasterCoprocessorNames()),
            tuple(str(state.toDescriptiveString()) for state in metrics.getRegionStatesInTransition()),
            tuple(load for entry in servers for load in _replication(entry)),
            tuple(load for entry in servers for load in _loads(entry)) if regions else (),
        )

    def tasks(self) -> list[Task]:
        """Return the tasks of the master and the region servers, handlers of requests too."""
        metrics = self._call(self._java.getClusterMetrics)
        found = [("master", task) for task in metrics.getMasterTasks() or ()]
        for entry in metrics.getLiveServerMetrics().entrySet():
            name = str(entry.getKey().getServerName())
            found += [(name, task) for task in entry.getValue().getTasks() or ()]
        return [
            Task(
                name,
                int(task.getStartTime()),
                str(task.getState()),
                str(task.getDescription()),
                str(task.getStatus() or ""),
            )
            for name, task in found
        ]

    def balance(self, force: bool = False) -> bool:
        """Distribute regions evenly over the servers. Return whether the balancer ran."""
        return bool(self._call(self._java.balance, force))

    # Switches

    def balancer(self, on: bool | None = None) -> bool:
        """Return or set whether the balancer runs periodically."""
        return self._switch("isBalancerEnabled", "balancerSwitch", on, True)

    def normalizer(self, on: bool | None = None) -> bool:
        """Return or set whether small regions are merged and large ones split automatically."""
        return self._switch("isNormalizerEnabled", "normalizerSwitch", on)

    def splitting(self, on: bool | None = None) -> bool:
        """Return or set whether growing regions are split automatically."""
        return self._switch("isSplitEnabled", "splitSwitch", on, True)

    def merging(self, on: bool | None = None) -> bool:
        """Return or set whether regions may be merged."""
        return self._switch("isMergeEnabled", "mergeSwitch", on, True)

    def catalog_janitor(self, on: bool | None = None) -> bool:
        """Return or set whether hbase:meta is cleaned periodically."""
        return self._switch("isCatalogJanitorEnabled", "catalogJanitorSwitch", on)

    def cleaner(self, on: bool | None = None) -> bool:
        """Return or set whether unused files are deleted periodically."""
        return self._switch("isCleanerChoreEnabled", "cleanerChoreSwitch", on)

    def snapshot_cleanup(self, on: bool | None = None) -> bool:
        """Return or set whether snapshots are deleted when their TTL ends."""
        return self._switch("isSnapshotCleanupEnabled", "snapshotCleanupSwitch", on, True)

    def request_quotas(self, on: bool | None = None) -> bool:
        """Return or set whether request quotas are enforced."""
        return self._switch("isRpcThrottleEnabled", "switchRpcThrottle", on)

    def exceeding_quotas(self, on: bool) -> bool:
        """Set whether users may exceed request quotas while servers have capacity."""
        return bool(self._call(self._java.exceedThrottleQuotaSwitch, on))

    def compaction(self, on: bool, servers: Iterable[str] = ()) -> dict[str, bool]:
        """Set whether servers compact (all of them if none is named). Return the previous states."""
        before = self._call(self._java.compactionSwitch, on, to_java(list(servers)))
        return {str(e.getKey().getServerName()): bool(e.getValue()) for e in before.entrySet()}

    def _switch(self, ask: str, set_: str, on: bool | None, *more: bool) -> bool:
        if on is None:
            return bool(self._call(getattr(self._java, ask)))
        return bool(self._call(getattr(self._java, set_), on, *more))

    # Chores

    def run_catalog_janitor(self) -> int:
        """Clean hbase:meta now. Return the number of regions it removed."""
        return int(self._call(self._java.runCatalogJanitor))

    def run_cleaner(self) -> bool:
        """Delete unused files now. Return whether the chore ran."""
        return bool(self._call(self._java.runCleanerChore))

    def maintenance(self) -> bool:
        """Return whether the master is in maintenance mode."""
        return bool(self._call(self._java.isMasterInMaintenanceMode))

    def capabilities(self) -> list[str]:
        """Return the security features that are on: AUTHORIZATION, CELL_VISIBILITY, …"""
        return sorted(str(one.name()) for one in self._call(self._java.getSecurityCapabilities))

    # Servers

    def live(self) -> list[str]:
        """Return the region servers that are alive."""
        return _names(self._call(self._java.getClusterMetrics).getLiveServerMetrics().keySet())

    def dead(self) -> list[str]:
        """Return the region servers that the master considers dead."""
        return _names(self._call(self._java.listDeadServers))

    def decommissioned(self) -> list[str]:
        """Return the region servers that get no regions."""
        return _names(self._call(self._java.listDecommissionedRegionServers))

    def unknown(self) -> list[str]:
        """Return the servers that hbase:meta names for regions, and that are neither alive nor dead."""
        return _names(self._call(self._java.listUnknownServers))

    def flush_master_store(self) -> None:
        """Write the master's local store, where it keeps procedures, to files."""
        self._call(self._java.flushMasterStore)

    def decommission(self, servers: Iterable[str], offload: bool = False) -> None:
        """Assign no more regions to servers; with `offload`, move away the regions they have."""
        self._call(self._java.decommissionRegionServers, self._servers(servers), offload)

    def recommission(self, server: str, regions: Iterable[bytes] = ()) -> None:
        """Assign regions to a decommissioned server again, the named ones at once."""
        self._call(self._java.recommissionRegionServer, self._server(server), to_java(list(regions)))

    def stop_master(self) -> None:
        """Stop the active master."""
        self._call(self._java.stopMaster)

    def stop_server(self, server: str) -> None:
        """Stop a region server."""
        name = self._server(server)
        self._call(self._java.stopRegionServer, f"{name.getHostname()}:{name.getPort()}")

    def roll_log(self, server: str) -> None:
        """Start a new write-ahead log on a server."""
        self._call(self._java.rollWALWriter, self._server(server))

    def compact(self, server: str, major: bool = False) -> None:
        """Compact all regions of a server, in the background."""
        self._call(self._java.majorCompactRegionServer if major else self._java.compactRegionServer,
             self._server(server))  # fmt: skip

    def clear_compactions(self, server: str, queues: Iterable[str] = ("long", "short")) -> None:
        """Remove compactions that a server has not started from its queues."""
        self._call(self._java.clearCompactionQueues, self._server(server), to_java(set(queues)))

    def clear_slow_log(self, servers: Iterable[str] = ()) -> list[bool]:
        """Clear the log of slow and large requests of servers, of all if none is named."""
        names = to_java(set())
        for name in servers or self.live():
            names.add(self._server(name))
        return [bool(one) for one in self._call(self._java.clearSlowLogResponses, names)]

    def reload_configuration(self, server: str | None = None) -> None:
        """Read hbase-site.xml again, on one server or on all of them."""
        self._call(self._java.updateConfiguration, *(() if server is None else (self._server(server),)))

    @staticmethod
    def _server(name: str) -> Any:
        return call(hbase("ServerName").valueOf, name)

    def _servers(self, names: Iterable[str]) -> Any:
        made = to_java([])
        for name in names:
            made.add(self._server(name))
        return made


def _names(servers: Any) -> list[str]:
    return sorted(str(server.getServerName()) for server in servers)


def _megabytes(size: Any) -> float:
    return float(size.get(hbase("Size$Unit").MEGABYTE))


def _kilobytes(size: Any) -> float:
    return float(size.get(hbase("Size$Unit").KILOBYTE))


def _server(entry: Any) -> Server:
    metrics = entry.getValue()
    regions = [*metrics.getRegionMetrics().values()]
    return Server(
        str(entry.getKey().getServerName()),
        len(regions),
        int(metrics.getRequestCountPerSecond()),
        _megabytes(metrics.getUsedHeapSize()),
        _megabytes(metrics.getMaxHeapSize()),
        int(metrics.getRequestCount()),
        sum(int(one.getReadRequestCount()) for one in regions),
        sum(int(one.getWriteRequestCount()) for one in regions),
        sum(int(one.getStoreCount()) for one in regions),
        sum(int(one.getStoreFileCount()) for one in regions),
        sum(_megabytes(one.getStoreFileSize()) for one in regions),
        sum(_megabytes(one.getMemStoreSize()) for one in regions),
        tuple(sorted(str(name) for name in metrics.getCoprocessorNames())),
    )


def _loads(entry: Any) -> list[RegionLoad]:
    return [
        RegionLoad(
            bytes(one.getRegionName()),
            str(entry.getKey().getServerName()),
            int(one.getStoreCount()),
            int(one.getStoreFileCount()),
            _megabytes(one.getStoreFileSize()),
            _megabytes(one.getMemStoreSize()),
            int(one.getReadRequestCount()),
            int(one.getFilteredReadRequestCount()),
            int(one.getWriteRequestCount()),
            _kilobytes(one.getStoreFileUncompressedDataIndexSize()),
            _kilobytes(one.getBloomFilterSize()),
            int(one.getCompactingCellCount()),
            int(one.getCompactedCellCount()),
            int(one.getLastMajorCompactionTimestamp()),
            float(one.getDataLocality()),
        )
        for one in entry.getValue().getRegionMetrics().values()
    ]


def _replication(entry: Any) -> list[ReplicationLoad]:
    name, metrics = str(entry.getKey().getServerName()), entry.getValue()
    found = [
        ReplicationLoad(
            name,
            str(peer.getKey()),
            int(load.getAgeOfLastShippedOp()),
            int(load.getSizeOfLogQueue()),
            int(load.getReplicationLag()),
        )
        for peer in metrics.getReplicationLoadSourceMap().entrySet()
        for load in peer.getValue()
    ]
    sink = metrics.getReplicationLoadSink()
    return found if sink is None else [*found, ReplicationLoad(name, None, int(sink.getAgeOfLastAppliedOp()))]


@dataclass(frozen=True, slots=True)
class Region:
    """A range of a table's keys, from `start` (inclusive) to `stop` (exclusive; empty: the end).

    `server` is `host,port,started`, empty while no server has the region; `name` is the encoded name that
    commands take.
    """

    name: str
    table: str
    start: bytes
    stop: bytes
    server: str
    replica: int = 0


class Regions:
    """Regions of tables, as `admin.regions`. A method that takes a region takes its encoded or full name
    too."""

    def __init__(self, connection: "Connection", java: Any) -> None:
        self._connection = connection
        self._call = connection.call
        self._java = java

    def list(self, table: str) -> list[Region]:
        """Return a table's regions in the order of their keys. Raises NotFound."""
        name = hbase("TableName").valueOf(table_name(table))
        self._call(self._java.getDescriptor, name)
        locator = self._connection.java.getRegionLocator(name)
        try:
            locator.clearRegionLocationCache()
            return [_region(one) for one in self._call(locator.getAllRegionLocations)]
        finally:
            locator.close()

    def of(self, table: str, row: bytes) -> Region:
        """Return the region of a row. Raises NotFound."""
        locator = self._connection.java.getRegionLocator(hbase("TableName").valueOf(table_name(table)))
        try:
            return _region(self._call(locator.getRegionLocation, row, jpype.JBoolean(True)))
        finally:
            locator.close()

    def split(self, table_or_region: "str | Region", at: bytes | None = None) -> None:
        """Split a region, or every region of a table, at a key or in the middle. Returns before it is
        done."""
        point = () if at is None else (to_java(at),)
        if isinstance(table_or_region, Region):
            self._call(self._java.splitRegion, encoded(table_or_region), *point)
        else:
            self._call(self._java.split, hbase("TableName").valueOf(table_name(table_or_region)), *point)

    def merge(self, first: Region, second: Region, force: bool = False) -> None:
        """Merge two adjacent regions; `force` permits others. Returns before it is done."""
        self._call(self._java.mergeRegions, encoded(first), encoded(second), force)

    def truncate(self, region: "Region | bytes") -> None:
        """Delete all rows of a region."""
        self._call(self._java.truncateRegion, encoded(region))

    def move(self, region: "Region | bytes", server: str = "") -> None:
        """Move a region to a server named `host,port,started`, or to any other."""
        target = (call(hbase("ServerName").valueOf, server),) if server else ()
        self._call(self._java.move, encoded(region), *target)

    def assign(self, region: "Region | bytes") -> None:
        """Assign a region to a server."""
        self._call(self._java.assign, encoded(region))

    def unassign(self, region: "Region | bytes") -> None:
        """Close a region. The master does not open it elsewhere."""
        self._call(self._java.unassign, encoded(region))


def encoded(region: "Region | bytes") -> Any:
    """Return a region's name as a Java byte[]; some overloads take an array of arrays too."""
    return to_java(region if isinstance(region, bytes) else region.name.encode())


def _region(java: Any) -> Region:
    region, server = java.getRegion(), java.getServerName()
    return Region(
        str(region.getEncodedName()),
        str(region.getTable().getNameAsString()),
        bytes(region.getStartKey()),
        bytes(region.getEndKey()),
        str(server.getServerName()) if server is not None else "",
        int(region.getReplicaId()),
    )
