"""The cluster: its servers, its balancer, and what its master does now and then."""

from dataclasses import dataclass
from typing import Any

from kirsch.hbase.calls import call
from kirsch.hbase.jvm import hbase


@dataclass(frozen=True, slots=True)
class Server:
    """A region server: `name` is `host,port,started`; memory in MB."""

    name: str
    regions: int
    requests_a_second: int
    heap_used: float
    heap_most: float


@dataclass(frozen=True, slots=True)
class Status:
    """A cluster as its master sees it."""

    version: str
    id: str
    master: str
    backup_masters: tuple[str, ...]
    servers: tuple[Server, ...]
    dead: tuple[str, ...]
    regions: int
    average_load: float
    balancer: bool


class Cluster:
    """`admin.cluster`."""

    def __init__(self, java: Any) -> None:
        self._java = java

    def status(self) -> Status:
        """How it is."""
        metrics = call(self._java.getClusterMetrics)
        return Status(
            str(metrics.getHBaseVersion()),
            str(metrics.getClusterId()),
            str(metrics.getMasterName()),
            tuple(str(name) for name in metrics.getBackupMasterNames()),
            tuple(_server(entry) for entry in metrics.getLiveServerMetrics().entrySet()),
            tuple(str(name) for name in metrics.getDeadServerNames()),
            int(metrics.getRegionCount()),
            float(metrics.getAverageLoad()),
            bool(metrics.getBalancerOn()),
        )

    def balance(self, force: bool = False) -> bool:
        """Have regions moved so that all servers have as many; whether it was done."""
        return bool(call(self._java.balance, force))

    def balancer(self, on: bool | None = None) -> bool:
        """Whether the balancer runs by itself; switch it if `on` is given, and whether it was on before."""
        if on is None:
            return bool(call(self._java.isBalancerEnabled))
        return bool(call(self._java.balancerSwitch, on, True))

    def normalizer(self, on: bool | None = None) -> bool:
        """As `balancer`, of the one that merges small regions and splits large ones."""
        if on is None:
            return bool(call(self._java.isNormalizerEnabled))
        return bool(call(self._java.normalizerSwitch, on))

    def splitting(self, on: bool | None = None) -> bool:
        """As `balancer`, of the splitting of regions that grow."""
        if on is None:
            return bool(call(self._java.isSplitEnabled))
        return bool(call(self._java.splitSwitch, on, True))

    def merging(self, on: bool | None = None) -> bool:
        """As `balancer`, of the merging of regions."""
        if on is None:
            return bool(call(self._java.isMergeEnabled))
        return bool(call(self._java.mergeSwitch, on, True))

    def capabilities(self) -> list[str]:
        """What of security is switched on: AUTHORIZATION, CELL_VISIBILITY, …"""
        return sorted(str(one.name()) for one in call(self._java.getSecurityCapabilities))

    def roll_log(self, server: str) -> None:
        """Have a server begin a new write-ahead log."""
        call(self._java.rollWALWriter, call(hbase("ServerName").valueOf, server))


def _server(entry: Any) -> Server:
    metrics = entry.getValue()
    megabyte = hbase("Size$Unit").MEGABYTE
    return Server(
        str(entry.getKey().getServerName()),
        int(metrics.getRegionMetrics().size()),
        int(metrics.getRequestCountPerSecond()),
        float(metrics.getUsedHeapSize().get(megabyte)),
        float(metrics.getMaxHeapSize().get(megabyte)),
    )
