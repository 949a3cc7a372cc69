"""Group `ddl`: changing tables."""

import re
from dataclasses import replace
from typing import Any

from kirsch.hbase.schema import Schema, coprocessor_class
from kirsch.hbase.shell import schema
from kirsch.hbase.shell.answers import Facts
from kirsch.hbase.shell.command import CommandError, UsageError, command
from kirsch.hbase.shell.session import Session, data, family_text, many, shown, table_name, text

GROUP = "ddl"
_COPROCESSOR = re.compile(r"coprocessor\$(\d+)")
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
    _alter(session, table, changes, options)


@command(GROUP, keep_hashes=True, options=ALTER)
def alter_async(session: Session, table: Any, *changes: Any, **options: Any) -> None:
    """Change a table as alter does, without waiting. alter_status shows the progress.

    alter_async 't1', NAME => 'f1', VERSIONS => 5
    """
    _alter(session, table, changes, options, wait=False)


@command(GROUP)
def alter_status(session: Session, table: Any) -> Facts:
    """Show how many regions of a table have its last change.

    alter_status 't1'
    """
    total, moving = session.admin.regions.count(table_name(table))
    return Facts({"REGIONS": total, "UPDATED": total - moving}, f"{total - moving}/{total} regions updated")


def _alter(session: Session, table: Any, changes: Any, options: Any, wait: bool = True) -> None:
    admin = session.admin
    altered: Schema = admin.schema(table_name(table))
    given = [*changes, *([options] if options else [])]
    if not given:
        raise UsageError("alter: change what? alter 't1', NAME => 'f1', VERSIONS => 5")
    for change in given:
        if isinstance(change, dict):
            altered = _changed(session, altered, schema.upper(change))
        else:
            altered = schema.with_family(session, altered, family_text(change), {})
    admin.alter(altered, wait=wait)


def _changed(session: Session, table: Schema, change: dict[str, Any]) -> Schema:
    method = change.get("METHOD")
    if "DELETE" in change:
        method, change = "delete", {"NAME": change["DELETE"]}
    if method is not None:
        return _by_method(session, table, text(method).lower(), change)
    if "NAME" in change:
        return schema.with_family(session, table, family_text(change["NAME"]), change)
    return schema.with_options(session, table, change)


def _by_method(session: Session, table: Schema, method: str, change: dict[str, Any]) -> Schema:
    if method not in METHODS:
        raise CommandError(f"there is no METHOD {method}: there are {', '.join(METHODS)}")
    if method == "table_remove_coprocessor":
        if "CLASSNAME" not in change:
            raise UsageError("alter: table_remove_coprocessor goes with CLASSNAME => 'CLASS'")
        for one in many(change["CLASSNAME"]):
            kept = tuple(spec for spec in table.coprocessors if coprocessor_class(spec) != text(one))
            if kept == table.coprocessors:
                raise CommandError(f"the table has no coprocessor {text(one)}")
            table = replace(table, coprocessors=kept)
        return table
    if method == "table_att":
        return schema.with_options(session, table, change)
    if "NAME" not in change:
        raise UsageError(f"alter: METHOD => '{method}' goes with NAME => 'WHICH'")
    for one in many(change["NAME"]):
        if method == "delete":
            name = family_text(one)
            if name not in [family.name for family in table.families]:
                raise CommandError(f"there is no family {shown(data(one))} in table {table.name}")
            table = table.without_family(name)
        elif method == "table_att_unset" and (found := _COPROCESSOR.fullmatch(text(one))):
            # As describe numbers them.
            at = int(found[1]) - 1
            if not 0 <= at < len(table.coprocessors):
                raise CommandError(f"{text(one)} is not set in table {table.name}")
            table = replace(table, coprocessors=table.coprocessors[:at] + table.coprocessors[at + 1 :])
        else:
            if text(one) not in {**table.attributes, **table.configuration}:
                raise CommandError(f"{text(one)} is not set in table {table.name}")
            table = replace(
                table,
                attributes={k: v for k, v in table.attributes.items() if k != text(one)},
                configuration={k: v for k, v in table.configuration.items() if k != text(one)},
            )
    return table
