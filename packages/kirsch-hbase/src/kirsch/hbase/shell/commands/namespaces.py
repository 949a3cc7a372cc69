"""Groups `namespace`, `snapshots` and `configuration`."""

from typing import Any

from kirsch.hbase.shell.answers import Facts, Grid, Names
from kirsch.hbase.shell.command import CommandError, UsageError, command
from kirsch.hbase.shell.commands.rows import rows
from kirsch.hbase.shell.session import Session, table_name, text

rows(
    "namespace",
    {
        "describe_namespace": (
            lambda admin, namespace: Facts({"NAME": namespace, **admin.namespaces.configuration(namespace)}),
            "Show a namespace's settings.\n\ndescribe_namespace 'ns1'",
        ),
        "drop_namespace": (
            lambda admin, namespace: admin.namespaces.drop(namespace),
            "Delete a namespace, which must be empty.\n\ndrop_namespace 'ns1'",
        ),
        "list_namespace_tables": (
            lambda admin, namespace: Names(
                "TABLE", [name.rpartition(":")[2] for name in admin.tables(namespace=namespace)]
            ),
            "List the tables of a namespace.\n\nlist_namespace_tables 'ns1'",
        ),
    },
)


@command("namespace", keep_hashes=True)
def create_namespace(session: Session, namespace: str, *settings: dict[str, Any], **more: Any) -> None:
    """Create a namespace, with settings.

    create_namespace 'ns1'
    create_namespace 'ns1', {'hbase.namespace.quota.maxtables' => '5'}
    """
    given = {text(key): text(value) for setting in settings for key, value in setting.items()}
    if more:
        raise UsageError("create_namespace: put the settings in { }")
    session.admin.namespaces.create(text(namespace, "a namespace's name"), **given)


@command("namespace", keep_hashes=True)
def alter_namespace(session: Session, namespace: str, *settings: dict[str, Any], **more: Any) -> None:
    """Change a namespace's settings.

    alter_namespace 'ns1', {METHOD => 'set', 'PROPERTY_NAME' => 'PROPERTY_VALUE'}
    alter_namespace 'ns1', {METHOD => 'unset', NAME => 'PROPERTY_NAME'}
    """
    changes: dict[str, str | None] = {}
    given = [{str(key).upper(): (key, value) for key, value in s.items()} for s in (*settings, more) if s]
    for setting in given:
        method = setting.pop("METHOD", ("", ""))[1]
        if method == "set" and setting:
            changes |= {text(key): text(value) for key, value in setting.values()}
        elif method == "unset" and "NAME" in setting:
            changes[text(setting["NAME"][1])] = None
        else:
            raise UsageError(
                "alter_namespace: METHOD => 'set' with settings, or METHOD => 'unset', NAME => 'SETTING'"
            )
    session.admin.namespaces.alter(text(namespace, "a namespace's name"), changes)


@command("namespace")
def list_namespace(session: Session, pattern: str = ".*") -> Names:
    """List namespaces, all or those that match a pattern.

    list_namespace
    list_namespace 'abc.*'
    """
    matches = session.pattern(pattern).asMatchPredicate()
    return Names("NAMESPACE", [name for name in session.admin.namespaces.list() if matches.test(name)])


def _snapshots(found: Any) -> Grid:
    return Grid(
        ("SNAPSHOT", "TABLE", "CREATED", "TYPE", "TTL", "OWNER"),
        [(s.name, s.table, s.created, s.kind, s.ttl or None, s.owner) for s in found],
        "snapshot",
    )


rows(
    "snapshots",
    {
        "snapshot": (
            lambda admin, table, snapshot, *, skip_flush=False, ttl=None, max_filesize=None: (
                admin.snapshots.take(
                    snapshot, table, flush=not skip_flush, ttl=ttl or None, max_filesize=max_filesize or None
                )
            ),
            "Take a snapshot of a table.\n\nsnapshot 't1', 'snap1'\n"
            "snapshot 't1', 'snap1', {SKIP_FLUSH => true}\n"
            "snapshot 't1', 'snap1', {TTL => 86400, MAX_FILESIZE => 21474836480}\n\n"
            "TTL is in seconds. With SKIP_FLUSH the snapshot lacks what is in memory only.",
        ),
        "delete_snapshot": (
            lambda admin, snapshot: admin.snapshots.drop(snapshot),
            "Delete a snapshot.\n\ndelete_snapshot 'snap1'",
        ),
        "list_snapshots": (
            lambda admin, pattern=".*": _snapshots(admin.snapshots.list(pattern)),
            "List snapshots, all or those that match a pattern.\n\nlist_snapshots\nlist_snapshots 'abc.*'",
        ),
        "list_table_snapshots": (
            lambda admin, table_pattern, pattern=".*": _snapshots(
                admin.snapshots.list(pattern, table_pattern)
            ),
            "List the snapshots of tables that match a pattern.\n\n"
            "list_table_snapshots 't1'\nlist_table_snapshots 't.*', 'snap.*'",
        ),
    },
)

rows(
    "configuration",
    {
        "update_all_config": (
            lambda admin: admin.cluster.reload_configuration(),
            "Read hbase-site.xml again on all servers.\n\nupdate_all_config\n\n"
            "HBase's reference guide lists the settings that running servers accept.",
        ),
        "update_config": (
            lambda admin, server: admin.cluster.reload_configuration(server),
            "Read hbase-site.xml again on one server.\n\nupdate_config 'host,16020,1700000000000'",
        ),
    },
)


@command("snapshots")
def clone_snapshot(
    session: Session, name: str, table: Any, *, restore_acl: bool = False, clone_sft: str | None = None
) -> None:
    """Create a table from a snapshot.

    clone_snapshot 'snap1', 't2'
    clone_snapshot 'snap1', 't2', {RESTORE_ACL => true}
    """
    session.admin.snapshots.clone(
        text(name, "a snapshot's name"), table_name(table), restore_acl, clone_sft or None
    )


@command("snapshots")
def restore_snapshot(session: Session, name: str, *, restore_acl: bool = False) -> None:
    """Restore a table, which must be disabled, from its snapshot.

    restore_snapshot 'snap1'
    restore_snapshot 'snap1', {RESTORE_ACL => true}
    """
    snapshots = session.admin.snapshots
    snapshots.restore(text(name, "a snapshot's name"), safe=None, acl=restore_acl, disable=False)


@command("snapshots")
def delete_all_snapshot(session: Session, pattern: str) -> Grid:
    """Delete the snapshots that match a pattern, after a question on a terminal.

    delete_all_snapshot 's.*'
    """
    return _delete(session, text(pattern, "a pattern"), ".*")


@command("snapshots")
def delete_table_snapshots(session: Session, table: str, pattern: str = ".*") -> Grid:
    """Delete the snapshots of tables that match a pattern, after a question on a terminal.

    delete_table_snapshots 't1'
    delete_table_snapshots 't.*', 'snap.*'
    """
    return _delete(session, text(pattern, "a pattern"), text(table, "a pattern"))


def _delete(session: Session, pattern: str, table: str) -> Grid:
    snapshots = session.admin.snapshots
    found = snapshots.list(pattern, table)
    if not found:
        raise CommandError(f"no snapshot matches {pattern}")
    if not session.confirm(f"Delete {', '.join(one.name for one in found)}?"):
        return _snapshots([])
    for one in found:
        session.progress.say(one.name)
        snapshots.drop(one.name)
    return _snapshots(found)
