"""replication: which tables and namespaces a peer gets, or does not."""

from collections.abc import Callable, Mapping
from typing import Any

from kirsch.hbase.shell.answer import Text
from kirsch.hbase.shell.command import CommandError, UsageError, command
from kirsch.hbase.shell.session import Session, many, text

GROUP = "replication"


def namespaces_of(session: Session, names: Any) -> Any:
    """A Java Set<String>."""
    made = session.java("java.util.HashSet")()
    for name in many(names):
        made.add(text(name, "a namespace's name"))
    return made


def tables_of(session: Session, tables: Any) -> Any:
    """A Java Map<TableName, List<String>> of {"t1" => ["f1"], "t2" => []}; no families are all of them."""
    if not isinstance(tables, Mapping):
        raise UsageError('tables and families are written {"t1" => [], "ns2:t2" => ["cf1", "cf2"]}')
    made = session.java("java.util.HashMap")()
    for table, families in tables.items():
        made.put(session.table_name(table), session.strings(families, "a family") if families else None)
    return made


def update(session: Session, peer: Any, change: Callable[[Any], Any]) -> None:
    """Read a peer's configuration, change it, and write it."""
    config = session.admin("getReplicationPeerConfig", _id(peer))
    builder = session.java("replication.ReplicationPeerConfig").newBuilder(config)
    change(builder)
    session.admin("updateReplicationPeerConfig", _id(peer), builder.build())


@command(GROUP, keep_hashes=True)
def set_peer_tableCFs(session: Session, peer: Any, tables: Any = None) -> None:  # noqa: N802 - HBase's name
    """Have a peer get these tables and families only; none if none is named.

    set_peer_tableCFs '2', {"t1" => [], "ns2:t2" => ["cf1", "cf2"]}
    """
    update(
        session, peer, lambda builder: builder.setTableCFsMap(tables_of(session, tables) if tables else None)
    )


@command(GROUP, keep_hashes=True)
def append_peer_tableCFs(session: Session, peer: Any, tables: Any) -> None:  # noqa: N802
    """Have a peer get these tables and families too.

    append_peer_tableCFs '2', {"ns4:t4" => ["cfA", "cfB"]}
    """
    session.admin("appendReplicationPeerTableCFs", _id(peer), tables_of(session, tables))


@command(GROUP, keep_hashes=True)
def remove_peer_tableCFs(session: Session, peer: Any, tables: Any) -> None:  # noqa: N802
    """Have a peer not get these tables and families any more.

    remove_peer_tableCFs '2', {"ns4:t4" => ["cfA", "cfB"]}
    """
    session.admin("removeReplicationPeerTableCFs", _id(peer), tables_of(session, tables))


@command(GROUP)
def show_peer_tableCFs(session: Session, peer: Any) -> Text:  # noqa: N802
    """Say which tables and families a peer gets; nothing is shown where it gets all.

    show_peer_tableCFs '2'
    """
    config = session.admin("getReplicationPeerConfig", _id(peer))
    tables = config.getTableCFsMap()
    parts = []
    for table, families in sorted((str(t), f) for t, f in dict(tables or {}).items()):
        named = ",".join(str(f) for f in families or ())
        parts.append(f"{table}:{named}" if named else table)
    return Text(";".join(parts))


@command(GROUP, keep_hashes=True)
def set_peer_exclude_tableCFs(session: Session, peer: Any, tables: Any = None) -> None:  # noqa: N802
    """Have a peer that gets all not get these tables and families.

    set_peer_exclude_tableCFs '2', {"t1" => [], "ns2:t2" => ["cf1"]}
    """
    update(
        session,
        peer,
        lambda builder: builder.setExcludeTableCFsMap(tables_of(session, tables) if tables else None),
    )


@command(GROUP, keep_hashes=True)
def append_peer_exclude_tableCFs(session: Session, peer: Any, tables: Any) -> None:  # noqa: N802
    """Have a peer that gets all not get these tables and families either.

    append_peer_exclude_tableCFs '2', {"t1" => [], "ns2:t2" => ["cf1"]}
    """
    old = _tables(session.admin("getReplicationPeerConfig", _id(peer)).getExcludeTableCFsMap())
    for table, families in _named(tables).items():
        if table in old and (not old[table] or not families):
            old[table] = []  # all of its families
        else:
            old[table] = sorted({*old.get(table, []), *families})
    update(session, peer, lambda builder: builder.setExcludeTableCFsMap(tables_of(session, old)))


@command(GROUP, keep_hashes=True)
def remove_peer_exclude_tableCFs(session: Session, peer: Any, tables: Any) -> None:  # noqa: N802
    """Have a peer get these tables and families again.

    remove_peer_exclude_tableCFs '2', {"t1" => [], "ns2:t2" => ["cf1"]}
    """
    old = _tables(session.admin("getReplicationPeerConfig", _id(peer)).getExcludeTableCFsMap())
    for table, families in _named(tables).items():
        if table not in old:
            raise CommandError(f"peer {peer} does not exclude table {table}")
        if families and not old[table]:
            raise CommandError(
                f"peer {peer} excludes all of table {table}, so no family alone can be taken out"
            )
        left = [family for family in old[table] if families and family not in families]
        old.pop(table)
        if left:
            old[table] = left
    update(
        session, peer, lambda builder: builder.setExcludeTableCFsMap(tables_of(session, old) if old else None)
    )


@command(GROUP)
def set_peer_namespaces(session: Session, peer: Any, namespaces: Any = None) -> None:
    """Have a peer get the tables of these namespaces; of none if none is named.

    set_peer_namespaces '1', ["ns1", "ns2"]
    set_peer_namespaces '1', []
    """
    update(
        session, peer, lambda b: b.setNamespaces(namespaces_of(session, namespaces) if namespaces else None)
    )


@command(GROUP)
def append_peer_namespaces(session: Session, peer: Any, namespaces: Any) -> None:
    """Have a peer get the tables of these namespaces too.

    append_peer_namespaces '1', ["ns1", "ns2"]
    """
    _change(session, peer, "Namespaces", lambda old: old | _set(namespaces))


@command(GROUP)
def remove_peer_namespaces(session: Session, peer: Any, namespaces: Any) -> None:
    """Have a peer not get the tables of these namespaces any more.

    remove_peer_namespaces '1', ["ns1", "ns2"]
    """
    _change(session, peer, "Namespaces", lambda old: old - _set(namespaces))


@command(GROUP)
def set_peer_exclude_namespaces(session: Session, peer: Any, namespaces: Any = None) -> None:
    """Have a peer that gets all not get the tables of these namespaces.

    set_peer_exclude_namespaces '1', ["ns1", "ns2"]
    set_peer_exclude_namespaces '1', []
    """
    _change(session, peer, "ExcludeNamespaces", lambda old: _set(namespaces))


@command(GROUP)
def append_peer_exclude_namespaces(session: Session, peer: Any, namespaces: Any) -> None:
    """Have a peer that gets all not get the tables of these namespaces either.

    append_peer_exclude_namespaces '1', ["ns1", "ns2"]
    """
    _change(session, peer, "ExcludeNamespaces", lambda old: old | _set(namespaces))


@command(GROUP)
def remove_peer_exclude_namespaces(session: Session, peer: Any, namespaces: Any) -> None:
    """Have a peer get the tables of these namespaces again.

    remove_peer_exclude_namespaces '1', ["ns1", "ns2"]
    """
    _change(session, peer, "ExcludeNamespaces", lambda old: old - _set(namespaces))


def _change(session: Session, peer: Any, what: str, change: Any) -> None:
    config = session.admin("getReplicationPeerConfig", _id(peer))
    old = {str(name) for name in getattr(config, f"get{what}")() or ()}
    new = change(old)
    made = namespaces_of(session, sorted(new)) if new else None
    update(session, peer, lambda builder: getattr(builder, f"set{what}")(made))


def _named(tables: Any) -> dict[str, list[str]]:
    if not isinstance(tables, Mapping):
        raise UsageError('tables and families are written {"t1" => [], "ns2:t2" => ["cf1", "cf2"]}')
    return {
        text(table, "a table's name"): [text(f) for f in many(families)] for table, families in tables.items()
    }


def _tables(tables: Any) -> dict[str, list[str]]:
    return {str(t): [str(f) for f in families or ()] for t, families in dict(tables or {}).items()}


def _set(names: Any) -> set[str]:
    return {text(name, "a namespace's name") for name in many(names)}


def _id(peer: Any) -> str:
    return text(peer, "a peer's id")
