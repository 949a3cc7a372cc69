"""replication, each command against the server; peers are clusters that need not be there."""

import pytest

from kirsch.hbase import HBaseError, Invalid, NotFound
from kirsch.hbase.shell.command import CommandError, UsageError


@pytest.fixture
def peer(shell, name, quorum):
    """A peer that is switched off: this cluster by another name, which is never reached."""
    shell(f"add_peer '{name}', CLUSTER_KEY => '{key(quorum)}', STATE => 'DISABLED'")
    yield name
    shell(f"remove_peer '{name}'")


def key(quorum):
    return f"127.0.0.1:{quorum.partition(':')[2]}:/elsewhere"


def config(shell, peer):
    return shell(f"get_peer_config '{peer}'")


def test_peers(shell, peer, quorum, name):
    (row,) = shell(f"list_peers '{peer}'")
    assert (row["PEER_ID"], row["STATE"], row["CLUSTER_KEY"], row["ALL"]) == (
        peer,
        "DISABLED",
        key(quorum),
        True,
    )
    shell(f"enable_peer '{peer}'")
    assert shell(f"list_peers '{peer}'")[0]["STATE"] == "ENABLED"
    shell(f"disable_peer '{peer}'")
    assert shell(f"list_peers '{peer}'")[0]["STATE"] == "DISABLED"
    shell(f"update_peer_config '{peer}', CONFIG => {{'a' => 'b'}}, DATA => {{'c' => 'd'}}")
    assert config(shell, peer)["CONFIG"]["a"] == "b"
    shell(f"set_peer_bandwidth '{peer}', 1048576")
    assert config(shell, peer)["BANDWIDTH"] == 1048576
    shell(f"set_peer_serial '{peer}', true")
    assert config(shell, peer)["SERIAL"] is True
    assert {row["SETTING"]: row["VALUE"] for row in shell("list_peer_configs") if row["PEER_ID"] == peer}[
        "SERIAL"
    ] is True
    with pytest.raises(UsageError, match="where to"):
        shell("add_peer 'x'")
    with pytest.raises(CommandError, match="there is no STATE ON"):
        shell(f"add_peer 'x', '{key(quorum)}', STATE => 'ON'")
    with pytest.raises(UsageError, match="what"):
        shell(f"update_peer_config '{peer}'")
    with pytest.raises(NotFound, match="absent"):
        shell("disable_peer 'absent'")
    with pytest.raises(HBaseError, match="already"):
        shell(f"add_peer '{peer}', '{key(quorum)}'")


def test_peers_that_get_some(shell, name, quorum):
    shell(f"create '{name}', 'f', 'g'; create_namespace '{name}n'")
    shell(
        f"add_peer '{name}', CLUSTER_KEY => '{key(quorum)}', STATE => DISABLED, NAMESPACES => ['{name}n'], "
        f"TABLE_CFS => {{'{name}' => ['f']}}"
    )
    try:
        assert (config(shell, name)["NAMESPACES"], config(shell, name)["REPLICATE_ALL"]) == (
            [f"{name}n"],
            False,
        )
        assert shell(f"show_peer_tableCFs '{name}'") == f"{name}:f"
        shell(f"append_peer_tableCFs '{name}', {{'{name}' => ['g'], '{name}x' => []}}")
        assert config(shell, name)["TABLE_CFS"] == {name: ["f", "g"], f"{name}x": []}
        shell(f"remove_peer_tableCFs '{name}', {{'{name}x' => [], '{name}' => ['f']}}")
        assert config(shell, name)["TABLE_CFS"] == {name: ["g"]}
        shell(f"set_peer_tableCFs '{name}', {{'{name}' => []}}")
        assert config(shell, name)["TABLE_CFS"] == {name: []}
        shell(f"append_peer_namespaces '{name}', ['{name}m']")
        assert config(shell, name)["NAMESPACES"] == [f"{name}m", f"{name}n"]
        shell(f"remove_peer_namespaces '{name}', ['{name}n', '{name}m']")
        assert config(shell, name)["NAMESPACES"] is None
        shell(f"set_peer_namespaces '{name}', ['{name}n']")
        assert config(shell, name)["NAMESPACES"] == [f"{name}n"]
        with pytest.raises(UsageError, match="tables and families are written"):
            shell(f"set_peer_tableCFs '{name}', 't1'")
    finally:
        shell(f"remove_peer '{name}'; drop_namespace '{name}n'")


def test_peers_that_get_all_but_some(shell, peer):
    shell(f"set_peer_replicate_all '{peer}', true")
    shell(f"set_peer_exclude_namespaces '{peer}', ['n1']")
    shell(f"append_peer_exclude_namespaces '{peer}', ['n2']")
    assert config(shell, peer)["EXCLUDE_NAMESPACES"] == ["n1", "n2"]
    shell(f"remove_peer_exclude_namespaces '{peer}', ['n1', 'n2']")
    assert config(shell, peer)["EXCLUDE_NAMESPACES"] is None
    shell(f"set_peer_exclude_tableCFs '{peer}', {{'t1' => ['f'], 't2' => []}}")
    shell(f"append_peer_exclude_tableCFs '{peer}', {{'t1' => ['g'], 't3' => ['h']}}")
    assert config(shell, peer)["EXCLUDE_TABLE_CFS"] == {"t1": ["f", "g"], "t2": [], "t3": ["h"]}
    with pytest.raises(Invalid, match="excludes all of table t2"):
        shell(f"remove_peer_exclude_tableCFs '{peer}', {{'t2' => ['f']}}")
    with pytest.raises(NotFound, match="does not exclude table t9"):
        shell(f"remove_peer_exclude_tableCFs '{peer}', {{'t9' => []}}")
    shell(f"remove_peer_exclude_tableCFs '{peer}', {{'t1' => ['f'], 't2' => []}}")
    assert config(shell, peer)["EXCLUDE_TABLE_CFS"] == {"t1": ["g"], "t3": ["h"]}
    shell(f"set_peer_exclude_namespaces '{peer}', ['n1']")
    (listed,) = shell(f"list_peers '{peer}'")
    assert (listed["NAMESPACES"], listed["TABLE_CFS"]) == (["!n1"], {"!t1": ["g"], "!t3": ["h"]})
    shell(f"set_peer_replicate_all '{peer}', false")
    facts = config(shell, peer)
    assert (facts["REPLICATE_ALL"], facts["EXCLUDE_TABLE_CFS"]) == (False, None)


def test_tables_are_replicated(shell, peer, name):
    # The peer gets other tables only, so it need not be there to be asked for this one.
    shell(f"set_peer_replicate_all '{peer}', false")
    shell(f"create '{name}', 'f', {{NAME => 'g', REPLICATION_SCOPE => 1}}")
    assert [(row["TABLE"], row["FAMILY"]) for row in shell(f"list_replicated_tables '{name}'")] == [
        (name, "g")
    ]
    shell(f"enable_table_replication '{name}'")
    assert [row["FAMILY"] for row in shell(f"list_replicated_tables '{name}'")] == ["f", "g"]
    shell(f"disable_table_replication '{name}'")
    assert shell(f"list_replicated_tables '{name}'") == []
