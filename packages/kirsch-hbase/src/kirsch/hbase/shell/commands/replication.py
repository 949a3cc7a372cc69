"""replication: peers, which get what is written here."""

from typing import Any

from kirsch.hbase.shell.answer import Facts, Grid
from kirsch.hbase.shell.command import CommandError, UsageError, command
from kirsch.hbase.shell.commands.peer_tables import namespaces_of, tables_of, update
from kirsch.hbase.shell.session import Session, text

GROUP = "replication"


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
    """Add a peer: another cluster, or a class of yours, that gets what is written here.

    add_peer '1', CLUSTER_KEY => "server1.example.com:2181:/hbase"
    add_peer '1', CLUSTER_KEY => "zk1,zk2,zk3:2182:/hbase-prod", STATE => "DISABLED"
    add_peer '2', CLUSTER_KEY => "zk1:2182:/hbase", TABLE_CFS => {"t1" => [], "ns2:t2" => ["cf1"]}
    add_peer '3', ENDPOINT_CLASSNAME => 'org.example.Endpoint', DATA => {"k" => "v"}, CONFIG => {"k" => "v"}
    add_peer '4', CLUSTER_KEY => "zk1:2182:/hbase", NAMESPACES => ["ns1"], SERIAL => true
    """
    key = cluster_key if cluster_key is not None else cluster
    if key is None and endpoint_classname is None:
        raise UsageError("add_peer: where to? CLUSTER_KEY => 'zk1,zk2:2181:/hbase', or ENDPOINT_CLASSNAME")
    builder = session.java("replication.ReplicationPeerConfig").newBuilder()
    if key is not None:
        builder.setClusterKey(text(key, "a cluster's key"))
    if endpoint_classname is not None:
        builder.setReplicationEndpointImpl(text(endpoint_classname))
    for name, value in (config or {}).items():
        builder.putConfiguration(text(name), text(value))
    for name, value in (data or {}).items():
        builder.putPeerData(session.bytes(name), session.bytes(value))
    if serial is not None:
        builder.setSerial(bool(serial))
    if namespaces is not None or table_cfs is not None:
        builder.setReplicateAllUserTables(False)
    if namespaces is not None:
        builder.setNamespaces(namespaces_of(session, namespaces))
    if table_cfs is not None:
        builder.setTableCFsMap(tables_of(session, table_cfs))
    if str(state).upper() not in ("ENABLED", "DISABLED"):
        raise CommandError(f"there is no STATE {state}: there are ENABLED and DISABLED")
    session.admin("addReplicationPeer", _id(peer), builder.build(), str(state).upper() == "ENABLED")


@command(GROUP)
def remove_peer(session: Session, peer: Any) -> None:
    """Forget a peer.

    remove_peer '1'
    """
    session.admin("removeReplicationPeer", _id(peer))


@command(GROUP)
def enable_peer(session: Session, peer: Any) -> None:
    """Send to a peer again.

    enable_peer '1'
    """
    session.admin("enableReplicationPeer", _id(peer))


@command(GROUP)
def disable_peer(session: Session, peer: Any) -> None:
    """Send nothing to a peer for now; what is written is kept for it.

    disable_peer '1'
    """
    session.admin("disableReplicationPeer", _id(peer))


@command(GROUP)
def list_peers(session: Session, pattern: str | None = None) -> Grid:
    """List peers, those whose id matches a pattern if there is one.

    list_peers
    list_peers 'abc.*'
    """
    arguments = () if pattern is None else (session.pattern(pattern),)
    rows = []
    for peer in session.admin("listReplicationPeers", *arguments):
        config = peer.getPeerConfig()
        rows.append(
            (
                str(peer.getPeerId()),
                _text(config.getClusterKey()),
                _text(config.getReplicationEndpointImpl()),
                "ENABLED" if peer.isEnabled() else "DISABLED",
                bool(config.replicateAllUserTables()),
                _names(config.getNamespaces()),
                _tables(config.getTableCFsMap()),
                int(config.getBandwidth()),
                bool(config.isSerial()),
            )
        )
    columns = (
        "PEER_ID",
        "CLUSTER_KEY",
        "ENDPOINT",
        "STATE",
        "ALL",
        "NAMESPACES",
        "TABLE_CFS",
        "BANDWIDTH",
        "SERIAL",
    )
    return Grid(columns, rows, "peer")


@command(GROUP)
def get_peer_config(session: Session, peer: Any) -> Facts:
    """Say how a peer is set up.

    get_peer_config '1'
    """
    return _facts(session.admin("getReplicationPeerConfig", _id(peer)))


@command(GROUP)
def list_peer_configs(session: Session) -> Grid:
    """Say how all peers are set up.

    list_peer_configs
    """
    rows = []
    for peer in session.admin("listReplicationPeers"):
        for name, value in _facts(peer.getPeerConfig()).items():
            rows.append((str(peer.getPeerId()), name, value))
    return Grid(("PEER_ID", "SETTING", "VALUE"), rows, "setting")


@command(GROUP)
def update_peer_config(
    session: Session, peer: Any, *, config: dict[str, Any] | None = None, data: dict[str, Any] | None = None
) -> None:
    """Change a peer's settings.

    update_peer_config '1', CONFIG => {"config1" => "value1"}
    update_peer_config '1', DATA => {"data1" => "value1"}, CONFIG => {"config1" => "value1"}
    """
    if not config and not data:
        raise UsageError("update_peer_config: what? CONFIG => {…} or DATA => {…}")

    def change(builder: Any) -> None:
        for name, value in (config or {}).items():
            builder.putConfiguration(text(name), text(value))
        for name, value in (data or {}).items():
            builder.putPeerData(session.bytes(name), session.bytes(value))

    update(session, peer, change)


@command(GROUP)
def set_peer_bandwidth(session: Session, peer: Any, bandwidth: int = 0) -> None:
    """Bound how much a server sends to a peer, in bytes a second; 0 is no bound.

    set_peer_bandwidth '1', 1048576
    """
    if not isinstance(bandwidth, int):
        raise UsageError("set_peer_bandwidth: a number of bytes a second is needed")
    update(session, peer, lambda builder: builder.setBandwidth(bandwidth))


@command(GROUP)
def set_peer_serial(session: Session, peer: Any, serial: bool) -> None:
    """Have a peer get what is written in order, or faster.

    set_peer_serial '1', true
    """
    update(session, peer, lambda builder: builder.setSerial(bool(serial)))


@command(GROUP)
def set_peer_replicate_all(session: Session, peer: Any, replicate_all: bool) -> None:
    """Have a peer get all tables but those it excludes, or only those it names.

    set_peer_replicate_all '1', true
    set_peer_replicate_all '1', false
    """

    def change(builder: Any) -> None:
        builder.setReplicateAllUserTables(bool(replicate_all))
        if replicate_all:
            builder.setNamespaces(None)
            builder.setTableCFsMap(None)
        else:
            builder.setExcludeNamespaces(None)
            builder.setExcludeTableCFsMap(None)

    update(session, peer, change)


@command(GROUP)
def enable_table_replication(session: Session, table: Any) -> None:
    """Replicate all families of a table; where a peer lacks the table it is made there.

    enable_table_replication 't1'
    """
    session.admin("enableTableReplication", session.table_name(table))


@command(GROUP)
def disable_table_replication(session: Session, table: Any) -> None:
    """Replicate no family of a table.

    disable_table_replication 't1'
    """
    session.admin("disableTableReplication", session.table_name(table))


@command(GROUP)
def list_replicated_tables(session: Session, pattern: str = ".*") -> Grid:
    """List the families that are replicated, of tables that match a pattern if there is one.

    list_replicated_tables
    list_replicated_tables 'abc.*'
    """
    matches = session.pattern(pattern).asMatchPredicate()
    rows = []
    for one in session.admin("listReplicatedTableCFs"):
        if matches.test(str(one.getTable())):
            for family, scope in dict(one.getColumnFamilyMap()).items():
                rows.append((str(one.getTable()), str(family), "GLOBAL" if int(scope) == 1 else str(scope)))
    return Grid(("TABLE", "FAMILY", "SCOPE"), sorted(rows), "family")


def _id(peer: Any) -> str:
    return text(peer, "a peer's id")


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _names(names: Any) -> list[str] | None:
    return None if names is None else sorted(str(name) for name in names)


def _tables(tables: Any) -> dict[str, list[str]] | None:
    if tables is None:
        return None
    return {str(table): [str(f) for f in families or ()] for table, families in dict(tables).items()}


def _facts(config: Any) -> Facts:
    return Facts(
        {
            "CLUSTER_KEY": _text(config.getClusterKey()),
            "ENDPOINT": _text(config.getReplicationEndpointImpl()),
            "REPLICATE_ALL": bool(config.replicateAllUserTables()),
            "NAMESPACES": _names(config.getNamespaces()),
            "TABLE_CFS": _tables(config.getTableCFsMap()),
            "EXCLUDE_NAMESPACES": _names(config.getExcludeNamespaces()),
            "EXCLUDE_TABLE_CFS": _tables(config.getExcludeTableCFsMap()),
            "BANDWIDTH": int(config.getBandwidth()),
            "SERIAL": bool(config.isSerial()),
            "CONFIG": {str(k): str(v) for k, v in dict(config.getConfiguration()).items()},
        }
    )
