"""Regions: the parts of a table, and which server has them."""

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
class Region:
    """Keys from `start` (inclusive) to `stop` (exclusive; empty: the end); `server` as `host,port,started`,
    empty where none has it; `name` is what commands take."""

    name: str
    table: str
    start: bytes
    stop: bytes
    server: str
    replica: int = 0

    @property
    def encoded(self) -> Any:
        """The name as Java's methods take it: an array, for some take an array of arrays too."""
        return to_java(self.name.encode())


class Regions:
    """`admin.regions`."""

    def __init__(self, connection: "Connection", java: Any) -> None:
        self._connection = connection
        self._java = java

    def list(self, table: str) -> list[Region]:
        """A table's, by their keys. Raises NotFound."""
        name = hbase("TableName").valueOf(table_name(table))
        call(self._java.getDescriptor, name)
        locator = self._connection.java.getRegionLocator(name)
        try:
            locator.clearRegionLocationCache()
            return [_region(one) for one in call(locator.getAllRegionLocations)]
        finally:
            locator.close()

    def of(self, table: str, row: bytes) -> Region:
        """The one that a row is in. Raises NotFound."""
        locator = self._connection.java.getRegionLocator(hbase("TableName").valueOf(table_name(table)))
        try:
            return _region(call(locator.getRegionLocation, row, jpype.JBoolean(True)))
        finally:
            locator.close()

    def split(self, table_or_region: "str | Region", at: bytes | None = None) -> None:
        """Split a region, or all of a table, at a key, or where its middle is; done a while after."""
        if isinstance(table_or_region, Region):
            point = () if at is None else (to_java(at),)
            call(self._java.splitRegion, table_or_region.encoded, *point)
        else:
            name = hbase("TableName").valueOf(table_name(table_or_region))
            call(self._java.split, name, *(() if at is None else (to_java(at),)))

    def merge(self, first: Region, second: Region, force: bool = False) -> None:
        """Make one of two; `force`: though they are not beside each other. Done a while after."""
        call(self._java.mergeRegions, first.encoded, second.encoded, force)

    def move(self, region: Region, server: str = "") -> None:
        """Have another server take it: any, or one by its name `host,port,started`."""
        name = region.encoded
        call(self._java.move, name, *((call(hbase("ServerName").valueOf, server),) if server else ()))

    def assign(self, region: Region) -> None:
        """Have a server take it."""
        call(self._java.assign, region.encoded)

    def unassign(self, region: Region) -> None:
        """Take it off its server."""
        call(self._java.unassign, region.encoded)


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
