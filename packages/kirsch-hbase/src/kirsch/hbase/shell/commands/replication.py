"""Group `replication`: peers, which receive what is written to this cluster."""

from collections.abc import Mapping
from typing import Any

from kirsch.hbase.shell.answers import Facts, Grid, Text
from kirsch.hbase.shell.command import CommandError, UsageError, command
from kirsch.hbase.shell.commands.rows import CONVERTERS, rows
from kirsch.hbase.shell.session import Session, text
from kirsch.hbase.shell.session import data as bytes_of

GROUP = "replication"


def _bandwidth(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise UsageError("set_peer_bandwidth: give a number of bytes a second")
    return value


rows(
    GROUP,
    {
        "remove_peer": (
            lambda admin, peer: admin.peers.remove(peer),
            "Remove a replication peer.\n\nremove_peer '1'",
        ),
        "enable_peer": (
            lambda admin, peer: admin.peers.enable(peer),
            "Replicate to a peer again.\n\nenable_peer '1'",
        ),
        "disable_peer": (
            lambda admin, peer: admin.peers.disable(peer),
            "Stop replicating to a peer. Writes are kept for it meanwhile.\n\ndisable_peer '1'",
        ),
        "set_peer_bandwidth": (
            lambda admin, peer, bandwidth=0: admin.peers.change(peer, bandwidth=_bandwidth(bandwidth)),
            "Limit the bytes a second that a server sends to a peer; 0 is no limit.\n\n"
            "set_peer_bandwidth '1', 1048576",
        ),
        "set_peer_serial": (
            lambda admin, peer, serial: admin.peers.change(peer, serial=serial),
            "Replicate to a peer in the order of the writes, or not.\n\nset_peer_serial '1', true",
        ),
        "set_peer_namespaces": (
            lambda admin, peer, namespaces=(): admin.peers.change(peer, namespaces=namespaces),
            "Set the namespaces that a peer receives; none if none is named.\n\n"
            "set_peer_namespaces '1', [\"ns1\", \"ns2\"]\nset_peer_namespaces '1', []",
        ),
        "append_peer_namespaces": (
            lambda admin, peer, namespaces: admin.peers.add_namespaces(peer, namespaces),
            'Add namespaces to those that a peer receives.\n\nappend_peer_namespaces \'1\', ["ns1", "ns2"]',
        ),
        "remove_peer_namespaces": (
            lambda admin, peer, namespaces: admin.peers.remove_namespaces(peer, namespaces),
            "Remove namespaces from those that a peer receives.\n\n"
            'remove_peer_namespaces \'1\', ["ns1", "ns2"]',
        ),
        "set_peer_exclude_namespaces": (
            lambda admin, peer, namespaces=(): admin.peers.change(peer, exclude_namespaces=namespaces),
            "Set the namespaces that a peer of all tables does not receive.\n\n"
            "set_peer_exclude_namespaces '1', [\"ns1\", \"ns2\"]\nset_peer_exclude_namespaces '1', []",
        ),
        "append_peer_exclude_namespaces": (
            lambda admin, peer, namespaces: admin.peers.add_namespaces(peer, namespaces, exclude=True),
            "Add namespaces to those that a peer of all tables does not receive.\n\n"
            'append_peer_exclude_namespaces \'1\', ["ns1", "ns2"]',
        ),
        "remove_peer_exclude_namespaces": (
            lambda admin, peer, namespaces: admin.peers.remove_namespaces(peer, namespaces, exclude=True),
            "Remove namespaces from those that a peer of all tables does not receive.\n\n"
            'remove_peer_exclude_namespaces \'1\', ["ns1", "ns2"]',
        ),
        "enable_table_replication": (
            lambda admin, table: admin.peers.replicate(table),
            "Replicate all families of a table. A peer that lacks the table gets it.\n\n"
            "enable_table_replication 't1'",
        ),
        "disable_table_replication": (
            lambda admin, table: admin.peers.replicate(table, on=False),
            "Replicate no family of a table.\n\ndisable_table_replication 't1'",
        ),
        "set_peer_tableCFs": (
            lambda admin, peer, table_cfs=None: admin.peers.change(peer, tables=table_cfs),
            "Set the tables and families that a peer receives; none if none is named.\n\n"
            'set_peer_tableCFs \'2\', {"t1" => [], "ns2:t2" => ["cf1", "cf2"]}',
        ),
        "append_peer_tableCFs": (
            lambda admin, peer, table_cfs: admin.peers.add_tables(peer, table_cfs),
            "Add tables and families to those that a peer receives.\n\n"
            'append_peer_tableCFs \'2\', {"ns4:t4" => ["cfA", "cfB"]}',
        ),
        "remove_peer_tableCFs": (
            lambda admin, peer, table_cfs: admin.peers.remove_tables(peer, table_cfs),
            "Remove tables and families from those that a peer receives.\n\n"
            'remove_peer_tableCFs \'2\', {"ns4:t4" => ["cfA", "cfB"]}',
        ),
        "set_peer_exclude_tableCFs": (
            lambda admin, peer, table_cfs=None: admin.peers.change(peer, exclude_tables=table_cfs),
            "Set the tables and families that a peer of all tables does not receive.\n\n"
            'set_peer_exclude_tableCFs \'2\', {"t1" => [], "ns2:t2" => ["cf1"]}',
        ),
        "append_peer_exclude_tableCFs": (
            lambda admin, peer, table_cfs: admin.peers.add_tables(peer, table_cfs, exclude=True),
            "Add tables and families to those that a peer of all tables does not receive.\n\n"
            'append_peer_exclude_tableCFs \'2\', {"t1" => [], "ns2:t2" => ["cf1"]}',
        ),
        "remove_peer_exclude_tableCFs": (
            lambda admin, peer, table_cfs: admin.peers.remove_tables(peer, table_cfs, exclude=True),
            "Remove tables and families from those that a peer of all tables does not receive.\n\n"
            'remove_peer_exclude_tableCFs \'2\', {"t1" => [], "ns2:t2" => ["cf1"]}',
        ),
        "show_peer_tableCFs": (
            lambda admin, peer: _table_families(admin.peers.settings(peer)["tables"]),
            "Show the tables and families that a peer receives, nothing where it receives all.\n\n"
            "show_peer_tableCFs '2'",
        ),
        "get_peer_config": (
            lambda admin, peer: _facts(admin.peers.settings(peer)),
            "Show a peer's settings.\n\nget_peer_config '1'",
        ),
        "list_peer_configs": (
            lambda admin: Grid(
                ("PEER_ID", "SETTING", "VALUE"),
                [
                    (name, key, value)
                    for name, _, settings in admin.peers.all_settings()
                    for key, value in _facts(settings).items()
                ],
                "setting",
            ),
            "Show the settings of all peers.\n\nlist_peer_configs",
        ),
        "set_peer_replicate_all": (
            lambda admin, peer, replicate_all: admin.peers.replicate_all(peer, replicate_all),
            "Replicate all tables to a peer but those it excludes, or only those it names.\n\n"
            "set_peer_replicate_all '1', true\nset_peer_replicate_all '1', false",
        ),
    },
)


def _table_families(tables: Mapping[str, list[str]] | None) -> Text:
    pairs = sorted((tables or {}).items())
    return Text(";".join(f"{table}:{','.join(families)}" if families else table for table, families in pairs))


def _facts(settings: Mapping[str, Any]) -> Facts:
    return Facts(
        {
            "CLUSTER_KEY": settings["cluster"],
            "ENDPOINT": settings["endpoint"],
            "REPLICATE_ALL": settings["all"],
            "NAMESPACES": settings["namespaces"],
            "TABLE_CFS": settings["tables"],
            "EXCLUDE_NAMESPACES": settings["exclude_namespaces"],
            "EXCLUDE_TABLE_CFS": settings["exclude_tables"],
            "BANDWIDTH": settings["bandwidth"],
            "SERIAL": settings["serial"],
            "CONFIG": settings["configuration"],
        }
    )


@command(GROUP)
def add_peer(
    session: Session,
    peer: Any,
    cluster: Any = None,
    *,
    cluster_key: str | None = None,
    endpoint_classname: str | None = None,
    state: str = "ENABLED",
    data: dict[str, Any] | None = None,
    config: dict[str, Any] | None = None,
    table_cfs: dict[str, Any] | None = None,
    namespaces: Any = None,
    serial: bool | None = None,
) -> None:
    """Add a replication peer: another cluster, or a class that replicates in its own way.

    add_peer '1', CLUSTER_KEY => "server1.example.com:2181:/hbase"
    add_peer '1', CLUSTER_KEY => "zk1,zk2,zk3:2182:/hbase-prod", STATE => "DISABLED"
    add_peer '2', CLUSTER_KEY => "zk1:2182:/hbase", TABLE_CFS => {"t1" => [], "ns2:t2" => ["cf1"]}
    add_peer '3', ENDPOINT_CLASSNAME => 'org.example.Endpoint', DATA => {"k" => "v"}, CONFIG => {"k" => "v"}
    add_peer '4', CLUSTER_KEY => "zk1:2182:/hbase", NAMESPACES => ["ns1"], SERIAL => true
    """
    key = cluster_key if cluster_key is not None else cluster
    if key is None and endpoint_classname is None:
        raise UsageError("add_peer: where to? CLUSTER_KEY => 'zk1,zk2:2181:/hbase', or ENDPOINT_CLASSNAME")
    if str(state).upper() not in ("ENABLED", "DISABLED"):
        raise CommandError(f"there is no STATE {state}: there are ENABLED and DISABLED")
    convert = CONVERTERS
    session.connection.admin.peers.create(
        text(peer, "a peer's id"),
        enabled=str(state).upper() == "ENABLED",
        cluster=None if key is None else text(key, "a cluster's key"),
        endpoint=None if endpoint_classname is None else text(endpoint_classname),
        all=namespaces is None and table_cfs is None,
        configuration=_settings(config),
        data=_data(data),
        **{} if serial is None else {"serial": bool(serial)},
        **{} if namespaces is None else {"namespaces": convert["namespaces"](session, namespaces)},
        **{} if table_cfs is None else {"tables": convert["table_cfs"](session, table_cfs)},
    )


@command(GROUP)
def list_peers(session: Session, pattern: str = ".*") -> Grid:
    """List replication peers, all or those whose id matches a pattern.

    list_peers
    list_peers 'abc.*'
    """
    matches = session.pattern(pattern).asMatchPredicate()
    lines = [
        (
            name, s["cluster"], s["endpoint"], "ENABLED" if enabled else "DISABLED", s["all"],
            s["namespaces"] or _but(s["exclude_namespaces"]), s["tables"] or _but(s["exclude_tables"]),
            s["bandwidth"], s["serial"],
        )
        for name, enabled, s in session.connection.admin.peers.all_settings()
        if matches.test(name)
    ]  # fmt: skip
    columns = (
        "PEER_ID", "CLUSTER_KEY", "ENDPOINT", "STATE", "ALL", "NAMESPACES", "TABLE_CFS", "BANDWIDTH",
        "SERIAL",
    )  # fmt: skip
    return Grid(columns, lines, "peer")


def _but(excluded: Any) -> Any:
    """Mark what a peer does not get with !, as HBase's shell does."""
    if isinstance(excluded, dict):
        return {f"!{name}": families for name, families in excluded.items()}
    return [f"!{name}" for name in excluded] if excluded else excluded


@command(GROUP)
def update_peer_config(
    session: Session, peer: Any, *, config: dict[str, Any] | None = None, data: dict[str, Any] | None = None
) -> None:
    """Change a peer's settings.

    update_peer_config '1', CONFIG => {"config1" => "value1"}
    update_peer_config '1', DATA => {"data1" => "value1"}, CONFIG => {"config1" => "value1"}
    """
    if not config and not data:
        raise UsageError("update_peer_config: change what? Give CONFIG => {…} or DATA => {…}")
    peers = session.connection.admin.peers
    peers.change(text(peer, "a peer's id"), configuration=_settings(config), data=_data(data))


def _settings(config: Mapping[Any, Any] | None) -> dict[str, str]:
    return {text(name): text(value) for name, value in (config or {}).items()}


def _data(given: Mapping[Any, Any] | None) -> dict[bytes, bytes]:
    return {bytes_of(name): bytes_of(value) for name, value in (given or {}).items()}


@command(GROUP)
def list_replicated_tables(session: Session, pattern: str = ".*") -> Grid:
    """List the families that are replicated, of all tables or those that match a pattern.

    list_replicated_tables
    list_replicated_tables 'abc.*'
    """
    matches = session.pattern(pattern).asMatchPredicate()
    lines = [
        (table, family, "GLOBAL" if scope == 1 else str(scope))
        for table, families in session.connection.admin.peers.replicated().items()
        if matches.test(table)
        for family, scope in families.items()
    ]
    return Grid(("TABLE", "FAMILY", "SCOPE"), sorted(lines), "family")
