"""snapshots: of tables, and what can be made of them."""

from typing import Any

from kirsch.hbase.shell.answer import Grid
from kirsch.hbase.shell.command import CommandError, command
from kirsch.hbase.shell.session import Session, text


@command("snapshots")
def snapshot(
    session: Session, table: Any, name: str, *, skip_flush: bool = False, ttl: int = 0, max_filesize: int = 0
) -> None:
    """Take a snapshot of a table.

        snapshot 't1', 'snap1'
        snapshot 't1', 'snap1', {SKIP_FLUSH => true}
        snapshot 't1', 'snap1', {TTL => 86400, MAX_FILESIZE => 21474836480}

    TTL is in seconds. With SKIP_FLUSH what is in memory only is not in it.
    """
    table_name = session.table_name(table)
    # HBase 2.6's master with access control dies of a snapshot of a table that is not there.
    session.admin("getDescriptor", table_name)
    properties = session.java("java.util.HashMap")()
    long = session.java("java.lang.Long")
    if ttl:
        properties.put("TTL", long.valueOf(ttl))
    if max_filesize:
        properties.put("MAX_FILESIZE", long.valueOf(max_filesize))
    kind = session.enum("client.SnapshotType", "SKIPFLUSH" if skip_flush else "FLUSH")
    session.admin("snapshot", text(name, "a snapshot's name"), table_name, kind, properties)


@command("snapshots")
def clone_snapshot(
    session: Session, name: str, table: Any, *, restore_acl: bool = False, clone_sft: str | None = None
) -> None:
    """Make a table of a snapshot.

    clone_snapshot 'snap1', 't2'
    clone_snapshot 'snap1', 't2', {RESTORE_ACL => true}
    """
    arguments = [text(name, "a snapshot's name"), session.table_name(table), restore_acl]
    session.admin("cloneSnapshot", *arguments, *([clone_sft] if clone_sft else []))


@command("snapshots")
def restore_snapshot(session: Session, name: str, *, restore_acl: bool = False) -> None:
    """Make a table again what it was when a snapshot was taken. It must be disabled.

    restore_snapshot 'snap1'
    restore_snapshot 'snap1', {RESTORE_ACL => true}
    """
    failsafe = session.connection.java.getConfiguration().getBoolean(
        "hbase.snapshot.restore.take.failsafe.snapshot", False
    )
    session.admin("restoreSnapshot", text(name, "a snapshot's name"), failsafe, restore_acl)


@command("snapshots")
def delete_snapshot(session: Session, name: str) -> None:
    """Delete a snapshot.

    delete_snapshot 'snap1'
    """
    session.admin("deleteSnapshot", text(name, "a snapshot's name"))


@command("snapshots")
def list_snapshots(session: Session, pattern: str = ".*") -> Grid:
    """List snapshots, those that match a pattern if there is one.

    list_snapshots
    list_snapshots 'abc.*'
    """
    return _grid(session.admin("listSnapshots", session.pattern(pattern)))


@command("snapshots")
def list_table_snapshots(session: Session, table: str, pattern: str = ".*") -> Grid:
    """List the snapshots of the tables that match a pattern.

    list_table_snapshots 't1'
    list_table_snapshots 't.*', 'snap.*'
    """
    return _grid(session.admin("listTableSnapshots", session.pattern(table), session.pattern(pattern)))


@command("snapshots")
def delete_all_snapshot(session: Session, pattern: str) -> Grid:
    """Delete the snapshots that match a pattern; on a terminal you are asked first.

    delete_all_snapshot 's.*'
    """
    return _delete(session, list_snapshots.function(session, pattern), pattern)


@command("snapshots")
def delete_table_snapshots(session: Session, table: str, pattern: str = ".*") -> Grid:
    """Delete the snapshots of the tables that match a pattern; on a terminal you are asked first.

    delete_table_snapshots 't1'
    delete_table_snapshots 't.*', 'snap.*'
    """
    return _delete(session, list_table_snapshots.function(session, table, pattern), pattern)


def _delete(session: Session, found: Grid, pattern: str) -> Grid:
    if not found:
        raise CommandError(f"no snapshot matches {pattern}")
    if not session.confirm(f"Delete {', '.join(row['SNAPSHOT'] for row in found)}?"):
        return Grid(found.columns, [], "snapshot")
    for row in found:
        session.progress.say(row["SNAPSHOT"])
        session.admin("deleteSnapshot", row["SNAPSHOT"])
    return found


def _grid(descriptions: Any) -> Grid:
    rows: list[tuple[Any, ...]] = [
        (
            str(s.getName()),
            str(s.getTableNameAsString()),
            int(s.getCreationTime()),
            str(s.getType()),
            int(s.getTtl()) or None,
            str(s.getOwner() or ""),
        )
        for s in descriptions
    ]
    return Grid(
        ("SNAPSHOT", "TABLE", "CREATED", "TYPE", "TTL", "OWNER"),
        sorted(rows),
        "snapshot",
    )
