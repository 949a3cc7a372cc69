"""The cluster: its servers, its balancer, the master's periodic chores, and logs that servers keep."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kirsch.hbase.calls import call
from kirsch.hbase.convert import to_java
from kirsch.hbase.jvm import hbase
from kirsch.hbase.names import namespace_name, table_name
from kirsch.hbase.region import RegionLoad, megabytes, region_load

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
class Balance:
    """Result of a run of the balancer: the moves of regions that it planned, and those that it made."""

    ran: bool
    planned: int
    made: int


@dataclass(frozen=True, slots=True)
class SlowRequest:
    """Request that a server took long for, or had a large answer to: `started` and what follows in ms, `size`
    in bytes."""

    started: int
    duration: int
    queued: int
    size: int
    method: str
    user: str
    client: str
    region: str
    call: str


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
        self._connection = connection
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

    def balance(self, force: bool = False, dry_run: bool = False) -> Balance:
        """Distribute regions evenly over the servers; with `force` while regions are in transition, with
        `dry_run` only plan it."""
        request = hbase("client.BalanceRequest").newBuilder()
        request.setIgnoreRegionsInTransition(force)
        request.setDryRun(dry_run)
        answer = self._call(self._java.balance, request.build())
        return Balance(
            bool(answer.isBalancerRan()), int(answer.getMovesCalculated()), int(answer.getMovesExecuted())
        )

    def normalize(
        self, tables: Iterable[str] = (), pattern: str | None = None, namespace: str | None = None
    ) -> bool:
        """Split and merge regions to similar sizes: of some tables, or of all. Return whether it will be
        done."""
        builder = hbase("client.NormalizeTableFilterParams$Builder")()
        if names := [hbase("TableName").valueOf(table_name(name)) for name in tables]:
            builder.tableNames(to_java(names))
        if pattern is not None:
            builder.regex(pattern)
        if namespace is not None:
            builder.namespace(namespace_name(namespace))
        return bool(self._call(self._java.normalize, builder.build()))

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

    def check(self) -> bool:
        """Look for inconsistencies now. Return whether that ran; the master's page has what it found."""
        checks = self._call(self._connection.java.getHbck)
        try:
            return bool(self._call(checks.runHbckChore))
        finally:
            checks.close()

    # Logs in the memory of servers

    def slow_requests(
        self,
        servers: Iterable[str] = (),
        *,
        large: bool = False,
        limit: int = 10,
        filters: Mapping[str, str] | None = None,
    ) -> list[SlowRequest]:
        """Return slow requests, or those with `large` answers, of servers, of all if none is named. `limit`
        is for each server; `filters` has regionName, tableName, clientAddress, userName, filterByOperator."""
        kind = "LARGE_LOG" if large else "SLOW_LOG"
        found = self._log(
            kind, hbase("client.ServerType").REGION_SERVER, servers or self.live(), limit, filters
        )
        return [
            SlowRequest(
                int(one.getStartTime()),
                int(one.getProcessingTime()),
                int(one.getQueueTime()),
                int(one.getResponseSize()),
                str(one.getMethodName()),
                str(one.getUserName()),
                str(one.getClientAddress()),
                str(one.getRegionName() or ""),
                str(one.getCallDetails()),
            )
            for one in found
        ]

    def balancer_log(self, rejections: bool = False, limit: int = 250) -> list[dict[str, Any]]:
        """Return the balancer's decisions, or the `rejections` of runs in which it did nothing."""
        kind = "BALANCER_REJECTION" if rejections else "BALANCER_DECISION"
        found = self._log(kind, hbase("client.ServerType").MASTER, (), limit, None)
        return [json.loads(str(one.toJsonPrettyPrint())) for one in found]

    def _log(
        self, kind: str, where: Any, servers: Iterable[str], limit: int, filters: Mapping[str, str] | None
    ) -> Any:
        names = to_java(set())
        for server in servers:
            names.add(self._server(server))
        return self._call(self._java.getLogEntries, names, kind, where, limit, to_java(filters or {}))

    # Servers

    def live(self) -> list[str]:
        """Return the region servers that are alive."""
        return _names(self._call(self._java.getClusterMetrics).getLiveServerMetrics().keySet())

    def dead(self) -> list[str]:
        """Return the region servers that the master considers dead."""
        return _names(self._call(self._java.listDeadServers))

    def clear_dead(self, servers: Iterable[str]) -> list[str]:
        """Remove dead servers from the master's list. Return those that remain of these."""
        return _names(self._call(self._java.clearDeadServers, self._servers(servers)))

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

    def flush(self, server: str) -> None:
        """Write the memory of all regions of a server to files."""
        self._call(self._java.flushRegionServer, self._server(server))

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


def _server(entry: Any) -> Server:
    metrics = entry.getValue()
    regions = [*metrics.getRegionMetrics().values()]
    return Server(
        str(entry.getKey().getServerName()),
        len(regions),
        int(metrics.getRequestCountPerSecond()),
        megabytes(metrics.getUsedHeapSize()),
        megabytes(metrics.getMaxHeapSize()),
        int(metrics.getRequestCount()),
        sum(int(one.getReadRequestCount()) for one in regions),
        sum(int(one.getWriteRequestCount()) for one in regions),
        sum(int(one.getStoreCount()) for one in regions),
        sum(int(one.getStoreFileCount()) for one in regions),
        sum(megabytes(one.getStoreFileSize()) for one in regions),
        sum(megabytes(one.getMemStoreSize()) for one in regions),
        tuple(sorted(str(name) for name in metrics.getCoprocessorNames())),
    )


def _loads(entry: Any) -> list[RegionLoad]:
    return [region_load(entry.getKey(), one) for one in entry.getValue().getRegionMetrics().values()]


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
