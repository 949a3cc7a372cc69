"""Administration: tables, namespaces, snapshots and procedures; larger subjects have modules of their own."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import jpype

from kirsch.hbase import convert
from kirsch.hbase.cluster import Cluster
from kirsch.hbase.errors import Invalid, NotFound
from kirsch.hbase.jvm import cls, hbase
from kirsch.hbase.names import family_name, namespace_name, table_name
from kirsch.hbase.peer import Peers
from kirsch.hbase.permission import Labels, Permissions
from kirsch.hbase.quota import Quotas
from kirsch.hbase.region import Regions
from kirsch.hbase.rsgroup import Groups
from kirsch.hbase.schema import Family, Schema, families, of_fields

if TYPE_CHECKING:
    from kirsch.hbase.connection import Connection


class Namespaces:
    """Namespaces, which hold tables, as `admin.namespaces`."""

    def __init__(self, connection: "Connection", java: Any) -> None:
        self._call = connection.call
        self._java = java

    def list(self) -> list[str]:
        """Return the names of all namespaces, sorted."""
        return sorted(str(name) for name in self._call(self._java.listNamespaces))

    def create(self, name: str, **configuration: str) -> None:
        """Create a namespace with settings. Raises Exists, Invalid."""
        self._call(self._java.createNamespace, self._descriptor(name, configuration))

    def configuration(self, name: str) -> dict[str, str]:
        """Return a namespace's settings. Raises NotFound."""
        found = self._call(self._java.getNamespaceDescriptor, namespace_name(name)).getConfiguration()
        return {str(entry.getKey()): str(entry.getValue()) for entry in found.entrySet()}

    def alter(self, name: str, changes: Mapping[str, str | None]) -> None:
        """Change settings; the value None removes one. Raises NotFound."""
        merged = {**self.configuration(name), **changes}
        kept = {key: value for key, value in merged.items() if value is not None}
        self._call(self._java.modifyNamespace, self._descriptor(name, kept))

    def drop(self, name: str) -> None:
        """Delete a namespace, which must be empty. Raises NotFound, Invalid."""
        self._call(self._java.deleteNamespace, namespace_name(name))

    @staticmethod
    def _descriptor(name: str, configuration: Mapping[str, str]) -> Any:
        builder = hbase("NamespaceDescriptor").create(namespace_name(name))
        for key, value in configuration.items():
            builder.addConfiguration(key, value)
        return builder.build()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A table's state at one time: `created` in ms since 1970, `ttl` in seconds (0: no limit)."""

    name: str
    table: str
    kind: str
    created: int
    owner: str = ""
    ttl: int = 0


class Snapshots:
    """Snapshots of tables, as `admin.snapshots`."""

    def __init__(self, connection: "Connection", java: Any) -> None:
        self._connection = connection
        self._call = connection.call
        self._java = java

    def list(self, pattern: str = ".*", table: str = ".*") -> list[Snapshot]:
        """Return the snapshots whose name and whose table's name match regular expressions."""
        found = self._call(self._java.listTableSnapshots, convert.pattern(table), convert.pattern(pattern))
        return sorted((_snapshot(one) for one in found), key=lambda snapshot: snapshot.name)

    def take(
        self,
        name: str,
        table: str,
        *,
        flush: bool = True,
        ttl: float | None = None,
        max_filesize: int | None = None,
    ) -> None:
        """Take a snapshot. Without `flush` it lacks what is in memory only; `ttl` in seconds, `max_filesize`
        in bytes. Raises NotFound, Exists."""
        kind = hbase("client.SnapshotType")
        java_name = hbase("TableName").valueOf(table_name(table))
        # The master of HBase 2.6 with access control aborts on a missing table
        # (AccessController.preSnapshot).
        if not self._call(self._java.tableExists, java_name):
            raise NotFound(f"there is no table {table}")
        how = kind.FLUSH if flush else kind.SKIPFLUSH
        properties = cls("java.util.HashMap")()
        if ttl is not None:
            properties.put("TTL", cls("java.lang.Long").valueOf(int(ttl)))
        if max_filesize is not None:
            properties.put("MAX_FILESIZE", cls("java.lang.Long").valueOf(max_filesize))
        self._call(self._java.snapshot, name, java_name, how, properties)

    def restore(
        self, name: str, *, safe: bool | None = True, acl: bool = False, disable: bool = True
    ) -> None:
        """Restore the table of a snapshot, with `acl` its permissions too. With `safe` a snapshot of the
        present state is taken first, which is restored on failure (None: as hbase-site.xml says). An enabled
        table is disabled meanwhile, or refused without `disable`. Raises NotFound, Disabled."""
        if safe is None:
            configuration = self._connection.java.getConfiguration()
            safe = bool(configuration.getBoolean("hbase.snapshot.restore.take.failsafe.snapshot", False))
        if not disable:
            self._call(self._java.restoreSnapshot, name, safe, acl)
            return
        snapshot = next((one for one in self.list() if one.name == name), None)
        java_name = hbase("TableName").valueOf(snapshot.table) if snapshot else None
        enabled = java_name is not None and self._call(self._java.isTableEnabled, java_name)
        if enabled:
            self._call(self._java.disableTable, java_name)
        self._call(self._java.restoreSnapshot, name, safe, acl)
        if enabled:
            self._call(self._java.enableTable, java_name)

    def clone(self, name: str, table: str, acl: bool = False, tracker: str | None = None) -> None:
        """Create a table from a snapshot; `acl` restores its permissions, `tracker` says how its files are
        tracked. Raises NotFound, Exists."""
        java_name = hbase("TableName").valueOf(table_name(table))
        more = () if tracker is None else (tracker,)
        self._call(self._java.cloneSnapshot, name, java_name, acl, *more)

    def drop(self, name: str) -> None:
        """Delete a snapshot. Raises NotFound."""
        self._call(self._java.deleteSnapshot, name)

    def drop_all(self, pattern: str = ".*", table: str = ".*") -> None:
        """Delete the snapshots that match, as in `list`."""
        self._call(self._java.deleteTableSnapshots, convert.pattern(table), convert.pattern(pattern))


def _snapshot(java: Any) -> Snapshot:
    return Snapshot(
        str(java.getName()),
        str(java.getTableNameAsString()),
        str(java.getType().name()),
        int(java.getCreationTime()),
        str(java.getOwner() or ""),
        int(java.getTtl()),
    )


class Procedures:
    """Procedures of the master and their locks, as `admin.procedures`."""

    def __init__(self, connection: "Connection", java: Any) -> None:
        self._call = connection.call
        self._java = java

    def locks(self) -> list[dict[str, Any]]:
        """Return the locks that are held or waited for: resourceType, resourceName, lockType, …"""
        found: list[dict[str, Any]] = json.loads(str(self._call(self._java.getLocks)))
        return found

    def abort(self, number: int) -> bool:
        """Ask a procedure to stop. Return whether it will."""
        return bool(self._call(self._java.abortProcedure, number, True))

    def list(self) -> list[dict[str, Any]]:
        """Return the procedures that the master remembers: procId, className, state, submittedTime (ms), …"""
        found: list[dict[str, Any]] = json.loads(str(self._call(self._java.getProcedures)))
        return found


class Admin:
    """Administration of a cluster. `java` is the Java Admin. Safe for any number of threads."""

    def __init__(self, connection: "Connection", java: Any) -> None:
        self.connection = connection
        self.java = java

    @cached_property
    def namespaces(self) -> Namespaces:
        """Namespaces, which hold tables."""
        return Namespaces(self.connection, self.java)

    @cached_property
    def snapshots(self) -> Snapshots:
        """Snapshots of tables, to restore or clone."""
        return Snapshots(self.connection, self.java)

    @cached_property
    def quotas(self) -> Quotas:
        """Limits of requests and space."""
        return Quotas(self.connection, self.java)

    @cached_property
    def permissions(self) -> Permissions:
        """Permissions of users (ACLs)."""
        return Permissions(self.connection, self.java)

    @cached_property
    def peers(self) -> Peers:
        """Peers of replication: clusters that receive what is written to this one."""
        return Peers(self.connection, self.java)

    @cached_property
    def regions(self) -> Regions:
        """Regions of tables, and their servers."""
        return Regions(self.connection, self.java)

    @cached_property
    def labels(self) -> Labels:
        """Visibility labels of cells, and their users."""
        return Labels(self.connection, self.java)

    @cached_property
    def groups(self) -> Groups:
        """Groups of region servers. Raises Unsupported where the server has none."""
        return Groups(self.connection, self.java)

    @cached_property
    def procedures(self) -> Procedures:
        """Procedures of the master."""
        return Procedures(self.connection, self.java)

    @cached_property
    def cluster(self) -> Cluster:
        """Servers, balancer and chores."""
        return Cluster(self.connection, self.java)

    # Tables

    def tables(
        self, pattern: str | None = None, namespace: str | None = None, system: bool = False
    ) -> list[str]:
        """Return the names of tables, sorted: of a namespace, or those that match a regular expression."""
        if namespace is not None:
            names = self.connection.call(self.java.listTableNamesByNamespace, namespace_name(namespace))
        elif pattern is not None:
            names = self.connection.call(self.java.listTableNames, convert.pattern(pattern), system)
        elif system:
            names = self.connection.call(self.java.listTableNames, convert.pattern(".*"), True)
        else:
            names = self.connection.call(self.java.listTableNames)
        return sorted(str(name.getNameAsString()) for name in names)

    def exists(self, table: str) -> bool:
        """Return whether a table exists."""
        return bool(self.connection.call(self.java.tableExists, self.name(table)))

    def schema(self, table: str) -> Schema:
        """Return a table's schema. Raises NotFound."""
        return Schema.of_java(self.connection.call(self.java.getDescriptor, self.name(table)))

    def create(
        self,
        table: str | Schema,
        *families_: Family | str | Mapping[str, Any],
        splits: Sequence[bytes] | int = (),
        attributes: Mapping[str, str] | None = None,
        configuration: Mapping[str, str] | None = None,
    ) -> None:
        """Create a table: of a Schema, or of a name and families. `splits`: the first keys of its second
        region and the following; or a number of regions, for keys that are hexadecimal digits. Raises Exists,
        Invalid."""
        schema = table if isinstance(table, Schema) else Schema(table)
        if families_:
            schema = replace(schema, families=(*schema.families, *families(families_)))
        schema = replace(
            schema,
            attributes={**schema.attributes, **(attributes or {})},
            configuration={**schema.configuration, **(configuration or {})},
        )
        keys = hexadecimal_splits(splits) if isinstance(splits, int) else list(splits)
        if keys:
            self.connection.call(self.java.createTable, schema.java(), byte_arrays(keys))
        else:
            self.connection.call(self.java.createTable, schema.java())

    def alter(
        self,
        table: str | Schema,
        *changed: Family | str | Mapping[str, Any],
        drop: Iterable[str] = (),
        attributes: Mapping[str, str | None] | None = None,
        configuration: Mapping[str, str | None] | None = None,
        wait: bool = True,
    ) -> None:
        """Alter a table: give it a Schema; or add and replace families, and drop others. A mapping changes
        the fields it names of the family it names. Attributes and settings of None are removed. Raises
        NotFound, Invalid."""
        if isinstance(table, Schema):
            schema = table
        else:
            schema = self.schema(table)
            for one in changed:
                schema = schema.with_family(_altered(schema, one))
            for name in [drop] if isinstance(drop, str) else drop:
                schema = schema.without_family(name)
            schema = replace(
                schema,
                attributes=_merged(schema.attributes, attributes),
                configuration=_merged(schema.configuration, configuration),
            )
        if wait:
            self.connection.call(self.java.modifyTable, schema.java())
        else:
            self.connection.call(self.java.modifyTableAsync, schema.java())

    def drop(self, table: str, force: bool = False) -> None:
        """Delete a table, which must be disabled; `force` disables it first. Raises NotFound, Disabled."""
        if force and self.enabled(table):
            self.disable(table)
        self.connection.call(self.java.deleteTable, self.name(table))

    def truncate(self, table: str, preserve_splits: bool = True) -> None:
        """Delete all rows of a table; an enabled table is disabled first. Raises NotFound."""
        if self.enabled(table):
            self.disable(table)
        self.connection.call(self.java.truncateTable, self.name(table), preserve_splits)

    def enable(self, table: str) -> None:
        """Enable a table. Raises NotFound, and Disabled where it is enabled already."""
        self.connection.call(self.java.enableTable, self.name(table))

    def disable(self, table: str) -> None:
        """Disable a table. Raises NotFound, and Disabled where it is disabled already."""
        self.connection.call(self.java.disableTable, self.name(table))

    def enabled(self, table: str) -> bool:
        """Return whether a table is enabled. Raises NotFound."""
        name = self.name(table)
        if not self.connection.call(self.java.tableExists, name):
            raise NotFound(f"there is no table {table}")
        return bool(self.connection.call(self.java.isTableEnabled, name))

    def clone_schema(self, table: str, new: str, preserve_splits: bool = True) -> None:
        """Create a table with another's schema. Raises NotFound, Exists."""
        self.connection.call(self.java.cloneTableSchema, self.name(table), self.name(new), preserve_splits)

    def compaction_state(self, table: str) -> str:
        """Return NONE, MINOR, MAJOR or MAJOR_AND_MINOR."""
        return str(self.connection.call(self.java.getCompactionState, self.name(table)).name())

    def clear_block_cache(self, table: str) -> Any:
        """Evict a table's blocks from the cache. Return Java's CacheEvictionStats."""
        return self.connection.call(self.java.clearBlockCache, self.name(table))

    def change_store_files(self, table: str, tracker: str, family: str | None = None) -> None:
        """Change how the files of a table or family are tracked: DEFAULT, FILE or MIGRATION."""
        if family is None:
            self.connection.call(self.java.modifyTableStoreFileTracker, self.name(table), tracker)
        else:
            change = self.java.modifyColumnFamilyStoreFileTracker
            self.connection.call(change, self.name(table), family.encode(), tracker)

    def flush(self, table: str, family: str | None = None) -> None:
        """Write the memory of a table, or of one of its families, to files."""
        more = () if family is None else (convert.to_java(family_name(family)),)
        self.connection.call(self.java.flush, self.name(table), *more)

    def compact(
        self, table: str, family: str | None = None, major: bool = False, kind: str = "NORMAL"
    ) -> None:
        """Merge a table's files, or those of its large objects (`kind` MOB), in the background. Raises
        Invalid."""
        kinds = {str(one.name()): one for one in hbase("client.CompactType").values()}
        if kind.upper() not in kinds:
            raise Invalid(f"{kind} is none of {', '.join(kinds)}")
        function = self.java.majorCompact if major else self.java.compact
        more = () if family is None else (convert.to_java(family_name(family)),)
        self.connection.call(function, self.name(table), *more, kinds[kind.upper()])

    @staticmethod
    def name(table: str) -> Any:
        """Return a Java TableName. Raises Invalid."""
        return hbase("TableName").valueOf(table_name(table))


def byte_arrays(values: Sequence[bytes]) -> Any:
    """Return a Java byte[][] of byte strings."""
    array = jpype.JArray(jpype.JByte)
    return jpype.JArray(array)([array(value) for value in values])


def hexadecimal_splits(regions: int) -> list[bytes]:
    """Return keys of 8 hexadecimal digits that split such keys evenly. Raises Invalid."""
    if regions < 1:
        raise Invalid(f"splits={regions}: a table has 1 region at least")
    return [b"%08x" % (index * (1 << 32) // regions) for index in range(1, regions)]


def _altered(schema: Schema, given: Family | str | Mapping[str, Any]) -> Family:
    names = {family.name for family in schema.families}
    if isinstance(given, Mapping) and given.get("name") in names:
        return of_fields(given, schema.family(str(given["name"])))
    return families([given])[0]


def _merged(there: Mapping[str, str], changes: Mapping[str, str | None] | None) -> dict[str, str]:
    merged: dict[str, str | None] = {**there, **(changes or {})}
    return {name: value for name, value in merged.items() if value is not None}
