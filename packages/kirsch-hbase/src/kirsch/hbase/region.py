"""Regions of tables: where they are, their load, and what splits, merges, moves and compacts them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jpype

from kirsch.hbase.calls import call
from kirsch.hbase.convert import to_java
from kirsch.hbase.jvm import hbase
from kirsch.hbase.names import family_name, table_name

if TYPE_CHECKING:
    from kirsch.hbase.connection import Connection


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
class Region:
    """A range of a table's keys, from `start` (inclusive) to `stop` (exclusive; empty: the end).

    `server` is `host,port,started`, empty while no server has the region; `name` is the encoded name that
    commands take, `full_name` has table, start and time of creation before it.
    """

    name: str
    table: str
    start: bytes
    stop: bytes
    server: str
    replica: int = 0
    full_name: bytes = b""
    offline: bool = False
    split: bool = False


@dataclass(frozen=True, slots=True)
class Transition:
    """Region that is being opened, closed, split or merged, for `duration` ms."""

    region: bytes
    state: str
    server: str
    duration: int


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
            found = self._call(locator.getAllRegionLocations)
            return [_region(one.getRegion(), one.getServerName()) for one in found]
        finally:
            locator.close()

    def of(self, table: str, row: bytes) -> Region:
        """Return the region of a row. Raises NotFound."""
        locator = self._connection.java.getRegionLocator(hbase("TableName").valueOf(table_name(table)))
        try:
            found = self._call(locator.getRegionLocation, row, jpype.JBoolean(True))
            return _region(found.getRegion(), found.getServerName())
        finally:
            locator.close()

    def find(self, name: bytes) -> Region | None:
        """Return the region with an encoded or full name; None if no server has it."""
        for server in self._call(self._java.getClusterMetrics).getLiveServerMetrics().keySet():
            for region in self._call(self._java.getRegions, server):
                if name in (bytes(region.getRegionName()), bytes(region.getEncodedNameAsBytes())):
                    return _region(region, server)
        return None

    def loads(self, table: str) -> Sequence[RegionLoad]:
        """Return the load of each region of a table that a server has. Raises NotFound."""
        name = hbase("TableName").valueOf(table_name(table))
        servers = [
            call(hbase("ServerName").valueOf, server)
            for server in dict.fromkeys(region.server for region in self.list(table))
            if server
        ]
        found = ((server, self._call(self._java.getRegionMetrics, server, name)) for server in servers)
        return [region_load(server, one) for server, ones in found for one in ones]

    def in_transition(self) -> Sequence[Transition]:
        """Return the regions that are being opened, closed, split or merged."""
        return [
            Transition(
                bytes(one.getRegion().getRegionName()),
                str(one.getState()),
                str(one.getServerName() or ""),
                int(one.getRitDuration()),
            )
            for one in self._call(self._java.getClusterMetrics).getRegionStatesInTransition() or ()
        ]

    def count(self, table: str) -> tuple[int, int]:
        """Return how many regions a table has, and how many of them are in transition. Raises NotFound."""
        name = hbase("TableName").valueOf(table_name(table))
        self._call(self._java.getDescriptor, name)
        found = self._call(self._java.getClusterMetrics).getTableRegionStatesCount().get(name)
        if found is None:
            return 0, 0
        return int(found.getTotalRegions()), int(found.getRegionsInTransition())

    def split(self, table_or_region: "str | Region | bytes", at: bytes | None = None) -> None:
        """Split a region, or every region of a table, at a key or in the middle. Returns before it is
        done."""
        point = () if at is None else (to_java(at),)
        if isinstance(table_or_region, str):
            self._call(self._java.split, hbase("TableName").valueOf(table_name(table_or_region)), *point)
        else:
            self._call(self._java.splitRegion, encoded(table_or_region), *point)

    def merge(self, *regions: "Region | bytes", force: bool = False, wait: bool = False) -> None:
        """Merge adjacent regions; `force` permits others. Returns before it is done, unless with `wait`."""
        names = jpype.JArray(jpype.JArray(jpype.JByte))([encoded(region) for region in regions])
        merging = self._call(self._java.mergeRegionsAsync, names, force)
        if wait:
            self._call(merging.get)

    def flush(self, region: "Region | bytes", family: str | None = None) -> None:
        """Write the memory of a region, or of one of its families, to files."""
        more = () if family is None else (to_java(family_name(family)),)
        self._call(self._java.flushRegion, encoded(region), *more)

    def compact(self, region: "Region | bytes", family: str | None = None, major: bool = False) -> None:
        """Merge the files of a region, or of one of its families, in the background."""
        function = self._java.majorCompactRegion if major else self._java.compactRegion
        self._call(function, encoded(region), *(() if family is None else (to_java(family_name(family)),)))

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


def _region(region: Any, server: Any) -> Region:
    return Region(
        str(region.getEncodedName()),
        str(region.getTable().getNameAsString()),
        bytes(region.getStartKey()),
        bytes(region.getEndKey()),
        str(server.getServerName()) if server is not None else "",
        int(region.getReplicaId()),
        bytes(region.getRegionName()),
        bool(region.isOffline()),
        bool(region.isSplit()),
    )


def region_load(server: Any, one: Any) -> RegionLoad:
    return RegionLoad(
        bytes(one.getRegionName()),
        str(server.getServerName()),
        int(one.getStoreCount()),
        int(one.getStoreFileCount()),
        megabytes(one.getStoreFileSize()),
        megabytes(one.getMemStoreSize()),
        int(one.getReadRequestCount()),
        int(one.getFilteredReadRequestCount()),
        int(one.getWriteRequestCount()),
        kilobytes(one.getStoreFileUncompressedDataIndexSize()),
        kilobytes(one.getBloomFilterSize()),
        int(one.getCompactingCellCount()),
        int(one.getCompactedCellCount()),
        int(one.getLastMajorCompactionTimestamp()),
        float(one.getDataLocality()),
    )


def megabytes(size: Any) -> float:
    return float(size.get(hbase("Size$Unit").MEGABYTE))


def kilobytes(size: Any) -> float:
    return float(size.get(hbase("Size$Unit").KILOBYTE))
