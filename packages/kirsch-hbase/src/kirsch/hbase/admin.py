"""What changes a cluster: tables here; namespaces, snapshots and the others each in a module of its own."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import jpype

from kirsch.hbase import convert
from kirsch.hbase.calls import call
from kirsch.hbase.cluster import Cluster
from kirsch.hbase.errors import Invalid, NotFound
from kirsch.hbase.jvm import hbase
from kirsch.hbase.names import namespace_name, table_name
from kirsch.hbase.namespace import Namespaces
from kirsch.hbase.peer import Peers
from kirsch.hbase.permission import Permissions
from kirsch.hbase.procedure import Procedures
from kirsch.hbase.quota import Quotas
from kirsch.hbase.region import Regions
from kirsch.hbase.schema import Family, Schema, families, of_fields
from kirsch.hbase.snapshot import Snapshots

if TYPE_CHECKING:
    from kirsch.hbase.connection import Connection


class Admin:
    """Tables, and the way to all else. `java` is the Java Admin. For any number of threads."""

    def __init__(self, connection: "Connection", java: Any) -> None:
        self.connection = connection
        self.java = java

    @cached_property
    def namespaces(self) -> Namespaces:
        """Groups of tables."""
        return Namespaces(self.java)

    @cached_property
    def snapshots(self) -> Snapshots:
        """Tables as they were."""
        return Snapshots(self.java)

    @cached_property
    def quotas(self) -> Quotas:
        """How much users, tables and namespaces may use."""
        return Quotas(self.java)

    @cached_property
    def permissions(self) -> Permissions:
        """Who may do what."""
        return Permissions(self.java)

    @cached_property
    def peers(self) -> Peers:
        """Clusters that are sent what is written here."""
        return Peers(self.java)

    @cached_property
    def regions(self) -> Regions:
        """The parts of tables."""
        return Regions(self.connection, self.java)

    @cached_property
    def procedures(self) -> Procedures:
        """What the master is doing."""
        return Procedures(self.java)

    @cached_property
    def cluster(self) -> Cluster:
        """Servers, balancer and the like."""
        return Cluster(self.java)

    # Tables

    def tables(
        self, pattern: str | None = None, namespace: str | None = None, system: bool = False
    ) -> list[str]:
        """The names of tables, sorted: of a namespace, or those that a regular expression matches as a
        whole."""
        if namespace is not None:
            names = call(self.java.listTableNamesByNamespace, namespace_name(namespace))
        elif pattern is not None:
            names = call(self.java.listTableNames, convert.pattern(pattern), system)
        elif system:
            names = call(self.java.listTableNames, convert.pattern(".*"), True)
        else:
            names = call(self.java.listTableNames)
        return sorted(str(name.getNameAsString()) for name in names)

    def exists(self, table: str) -> bool:
        """Whether there is a table."""
        return bool(call(self.java.tableExists, self.name(table)))

    def schema(self, table: str) -> Schema:
        """A table's schema. Raises NotFound."""
        return Schema.of_java(call(self.java.getDescriptor, self.name(table)))

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
            call(self.java.createTable, schema.java(), byte_arrays(keys))
        else:
            call(self.java.createTable, schema.java())

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
            call(self.java.modifyTable, schema.java())
        else:
            call(self.java.modifyTableAsync, schema.java())

    def drop(self, table: str, force: bool = False) -> None:
        """Delete a table, which must be disabled; `force` disables it first. Raises NotFound, Disabled."""
        if force and self.enabled(table):
            self.disable(table)
        call(self.java.deleteTable, self.name(table))

    def truncate(self, table: str, preserve_splits: bool = True) -> None:
        """Delete a table's rows, which is disabled for it if it is not yet. Raises NotFound."""
        if self.enabled(table):
            self.disable(table)
        call(self.java.truncateTable, self.name(table), preserve_splits)

    def enable(self, table: str) -> None:
        """Raises NotFound, Disabled where it is enabled already."""
        call(self.java.enableTable, self.name(table))

    def disable(self, table: str) -> None:
        """Raises NotFound, Disabled where it is disabled already."""
        call(self.java.disableTable, self.name(table))

    def enabled(self, table: str) -> bool:
        """Whether a table is enabled. Raises NotFound."""
        name = self.name(table)
        if not call(self.java.tableExists, name):
            raise NotFound(f"there is no table {table}")
        return bool(call(self.java.isTableEnabled, name))

    def clone_schema(self, table: str, new: str, preserve_splits: bool = True) -> None:
        """Create a table with another's schema. Raises NotFound, Exists."""
        call(self.java.cloneTableSchema, self.name(table), self.name(new), preserve_splits)

    def flush(self, table: str) -> None:
        """Write what is in memory into files."""
        call(self.java.flush, self.name(table))

    def compact(self, table: str, family: str | None = None, major: bool = False) -> None:
        """Have files merged; the request is answered at once."""
        function = self.java.majorCompact if major else self.java.compact
        call(function, self.name(table), *(() if family is None else (family.encode(),)))

    @staticmethod
    def name(table: str) -> Any:
        """A Java TableName. Raises Invalid."""
        return hbase("TableName").valueOf(table_name(table))


def byte_arrays(values: Sequence[bytes]) -> Any:
    """A Java byte[][]."""
    array = jpype.JArray(jpype.JByte)
    return jpype.JArray(array)([array(value) for value in values])


def hexadecimal_splits(regions: int) -> list[bytes]:
    """Keys of 8 digits that split the hexadecimal keys evenly. Raises Invalid."""
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
