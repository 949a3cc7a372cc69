"""Group `ddl`: changing tables."""

from typing import Any

from kirsch.hbase.shell import schema
from kirsch.hbase.shell.answers import Facts
from kirsch.hbase.shell.command import CommandError, UsageError, command
from kirsch.hbase.shell.session import Session, data, many, shown, text

GROUP = "ddl"
ALTER = ("NAME", "METHOD", *schema.FAMILY, *schema.TABLE, *schema.MAPS, "CLASSNAME")
METHODS = (
    "delete",
    "table_att",
    "table_att_unset",
    "table_conf_unset",
    "table_remove_coprocessor",
)


@command(GROUP, keep_hashes=True, options=ALTER)
def alter(session: Session, table: Any, *changes: Any, **options: Any) -> None:
    """Change a table's families or options. Waits until all regions have the change.

        alter 't1', NAME => 'f1', VERSIONS => 5
        alter 't1', 'f1', {NAME => 'f2', IN_MEMORY => true}, {NAME => 'f3', VERSIONS => 5}
        alter 't1', NAME => 'f1', METHOD => 'delete'
        alter 't1', 'delete' => 'f1'
        alter 't1', MAX_FILESIZE => '134217728', READONLY => true
        alter 't1', CONFIGURATION => {'hbase.hregion.scan.loadColumnFamiliesOnDemand' => 'true'}
        alter 't1', {NAME => 'f2', CONFIGURATION => {'hbase.hstore.blockingStoreFiles' => '10'}}
        alter 't1', 'coprocessor' => 'hdfs:///foo.jar|com.foo.FooRegionObserver|1001|arg1=1,arg2=2'
        alter 't1', METHOD => 'table_att_unset', NAME => 'MAX_FILESIZE'
        alter 't1', METHOD => 'table_conf_unset', NAME => 'hbase.hregion.majorcompaction'
        alter 't1', METHOD => 'table_remove_coprocessor', CLASSNAME => 'com.foo.FooRegionObserver'

    A family that is not there is made.
    """
    future = _alter(session, table, changes, options)
    session.call(future.get)


@command(GROUP, keep_hashes=True, options=ALTER)
def alter_async(session: Session, table: Any, *changes: Any, **options: Any) -> None:
    """Change a table as alter does, without waiting. alter_status shows the progress.

    alter_async 't1', NAME => 'f1', VERSIONS => 5
    """
    _alter(session, table, changes, options)


@command(GROUP)
def alter_status(session: Session, table: Any) -> Facts:
    """Show how many regions of a table have its last change.

    alter_status 't1'
    """
    name = session.table_name(table)
    session.admin("getDescriptor", name)
    counts = session.metrics().getTableRegionStatesCount().get(name)
    total = 0 if counts is None else int(counts.getTotalRegions())
    moving = 0 if counts is None else int(counts.getRegionsInTransition())
    return Facts({"REGIONS": total, "UPDATED": total - moving}, f"{total - moving}/{total} regions updated")


def _alter(session: Session, table: Any, changes: Any, options: Any) -> Any:
    name = session.table_name(table)
    descriptor = session.admin("getDescriptor", name)
    builder = session.java("client.TableDescriptorBuilder").newBuilder(descriptor)
    given = [*changes, *([options] if options else [])]
    if not given:
        raise UsageError("alter: change what? alter 't1', NAME => 'f1', VERSIONS => 5")
    for change in given:
        if isinstance(change, dict):
            _change(session, builder, descriptor, schema.upper(change))
        else:
            _family(session, builder, descriptor, data(change), {})
    return session.admin("modifyTableAsync", builder.build())


def _change(session: Session, builder: Any, descriptor: Any, change: dict[str, Any]) -> None:
    method = change.get("METHOD")
    if "DELETE" in change:
        method, change = "delete", {"NAME": change["DELETE"]}
    if method is not None:
        _method(session, builder, descriptor, text(method).lower(), change)
    elif "NAME" in change:
        _family(session, builder, descriptor, data(change["NAME"]), change)
    else:
        schema.table(session, builder, change)


def _family(session: Session, builder: Any, descriptor: Any, name: bytes, change: dict[str, Any]) -> None:
    old = descriptor.getColumnFamily(session.bytes(name))
    made = schema.family(session, name, change, old)
    if old is None:
        session.call(builder.setColumnFamily, made)
    else:
        session.call(builder.modifyColumnFamily, made)


def _method(session: Session, builder: Any, descriptor: Any, method: str, change: dict[str, Any]) -> None:
    if method not in METHODS:
        raise CommandError(f"there is no METHOD {method}: there are {', '.join(METHODS)}")
    if method == "table_remove_coprocessor":
        if "CLASSNAME" not in change:
            raise UsageError("alter: table_remove_coprocessor goes with CLASSNAME => 'CLASS'")
        for one in many(change["CLASSNAME"]):
            if not descriptor.hasCoprocessor(text(one)):
                raise CommandError(f"the table has no coprocessor {text(one)}")
            session.call(builder.removeCoprocessor, text(one))
        return
    if method == "table_att":
        schema.table(session, builder, {key: value for key, value in change.items() if key != "METHOD"})
        return
    if "NAME" not in change:
        raise UsageError(f"alter: METHOD => '{method}' goes with NAME => 'WHICH'")
    for one in many(change["NAME"]):
        if method == "delete":
            if not descriptor.hasColumnFamily(session.bytes(one)):
                raise CommandError(
                    f"there is no family {shown(data(one))} in table {descriptor.getTableName()}"
                )
            session.call(builder.removeColumnFamily, session.bytes(one))
        else:
            if descriptor.getValue(text(one)) is None:
                raise CommandError(f"{text(one)} is not set in table {descriptor.getTableName()}")
            session.call(builder.removeValue, session.bytes(one))
