"""rsgroup, each command against the server, whose one region server stays where it is but for a moment."""

import contextlib

import pytest
from tests.deadline import eventually

from kirsch.hbase import HBaseError, Invalid, NotFound, Unavailable
from kirsch.hbase.shell.command import CommandError, UsageError


@pytest.fixture
def group(shell, alone, name):
    shell(f"add_rsgroup '{name}'")
    yield name
    shell(f"remove_rsgroup '{name}'")


def test_groups(shell, group):
    assert {"GROUP": group, "KIND": None, "NAME": None} in shell(f"list_rsgroups '{group}'")
    assert any(row["GROUP"] == "default" and row["KIND"] == "server" for row in shell("list_rsgroups"))
    assert shell(f"get_rsgroup '{group}'") == {"GROUP": group, "SERVERS": [], "TABLES": []}
    shell(f"rename_rsgroup '{group}', '{group}r'")
    assert shell(f"get_rsgroup '{group}r'")["GROUP"] == f"{group}r"
    shell(f"rename_rsgroup '{group}r', '{group}'")
    with pytest.raises(NotFound, match="there is no group absent"):
        shell("get_rsgroup 'absent'")
    with pytest.raises(HBaseError, match=r"(?i)exists"):
        shell(f"add_rsgroup '{group}'")
    with pytest.raises(HBaseError, match=r"(?i)not exist|no group"):
        shell("remove_rsgroup 'absent'")


def test_settings_of_groups(shell, group):
    shell(f"alter_rsgroup_config '{group}', {{METHOD => 'set', 'a.b' => 'c'}}")
    assert shell(f"show_rsgroup_config '{group}'") == {"a.b": "c"}
    shell(f"update_rsgroup_config '{group}', {{METHOD => 'unset', NAME => 'a.b'}}")
    assert shell(f"show_rsgroup_config '{group}'") == {}
    with pytest.raises(UsageError, match="METHOD => 'set'"):
        shell(f"alter_rsgroup_config '{group}', {{'a' => 'b'}}")


def address(server):
    return ":".join(server.split(",")[:2])


def balanced(shell, how):
    """The answer of the balancer, which fails while other tests' tables are being made."""

    def answer():
        with contextlib.suppress(Unavailable):
            return shell(f"balance_rsgroup {how}")

    # Three files of tests make tables at a time.
    return eventually(answer, 60)


@pytest.mark.soak
def test_who_is_in_which_group(shell, alone, name):
    shell(f"create '{name}', 'f'; create_namespace '{name}'")
    server, _ = shell("list_liveservers")
    assert shell(f"get_server_rsgroup '{address(server)}'") == "default"
    assert shell(f"get_table_rsgroup '{name}'") == "default"
    assert shell(f"get_namespace_rsgroup '{name}'") == "default"
    assert balanced(shell, "'default'")["RAN"] in (True, False)
    assert balanced(shell, "'default', 'dry_run', 'ignore_rit'")["MOVES_EXECUTED"] in (0, None)
    shell(f"drop_namespace '{name}'")
    with pytest.raises(NotFound, match="there is no table absent"):
        shell("get_table_rsgroup 'absent'")
    with pytest.raises(Invalid, match="write HOST:PORT"):
        shell("get_server_rsgroup 'here'")
    with pytest.raises(CommandError, match="does not know fast"):
        shell("balance_rsgroup 'default', 'fast'")


@pytest.fixture
def served(shell, group):
    """A group with a server, which goes back to where it was."""
    server = address(shell("list_liveservers")[1])
    shell(f"move_servers_rsgroup '{group}', ['{server}']")
    yield group, server
    shell(f"move_servers_rsgroup 'default', ['{server}']")


def test_servers_and_tables_move(shell, served, name):
    group, server = served
    assert shell(f"get_rsgroup '{group}'")["SERVERS"] == [server]
    assert shell(f"get_server_rsgroup '{server}'") == group
    shell(f"create_namespace '{name}'; create '{name}:t', 'f'; create '{name}', 'f'")
    shell(f"move_tables_rsgroup '{group}', ['{name}']")
    assert shell(f"get_rsgroup '{group}'")["TABLES"] == [name]
    assert shell(f"locate_region '{name}', 'r'")["SERVER"].startswith(server.replace(":", ","))
    shell(f"move_namespaces_rsgroup '{group}', ['{name}']")
    assert (shell(f"get_table_rsgroup '{name}:t'"), shell(f"get_namespace_rsgroup '{name}'")) == (
        group,
        group,
    )
    shell(f"move_namespaces_rsgroup 'default', '{name}'; move_tables_rsgroup 'default', ['{name}']")
    assert shell(f"get_rsgroup '{group}'")["TABLES"] == []
    shell(f"disable '{name}:t'; drop '{name}:t'; drop_namespace '{name}'")
    with pytest.raises(NotFound, match="there is no group absent"):
        shell("move_namespaces_rsgroup 'absent', 'default'")


def test_servers_move_with_tables(shell, group, name):
    server = address(shell("list_liveservers")[1])
    shell(f"create_namespace '{name}'; create '{name}:t', 'f'; create '{name}', 'f'")
    shell(f"move_servers_tables_rsgroup '{group}', ['{server}'], ['{name}']")
    assert shell(f"get_rsgroup '{group}'") == {"GROUP": group, "SERVERS": [server], "TABLES": [name]}
    shell(f"move_tables_rsgroup 'default', ['{name}']; move_servers_rsgroup 'default', ['{server}']")
    shell(f"move_servers_namespaces_rsgroup '{group}', ['{server}'], ['{name}']")
    assert shell(f"get_table_rsgroup '{name}:t'") == group
    shell(f"move_namespaces_rsgroup 'default', ['{name}']; move_servers_rsgroup 'default', ['{server}']")
    shell(f"disable '{name}:t'; drop '{name}:t'; drop_namespace '{name}'")
    # Only who is gone can be forgotten.
    with pytest.raises(HBaseError, match=server.partition(":")[0]):
        shell(f"remove_servers_rsgroup ['{server}']")
    both = [address(one) for one in shell("list_liveservers")]
    with pytest.raises(HBaseError, match="at least one server"):
        shell(f"move_servers_rsgroup '{group}', both", both=both)
