"""general, configuration and procedures, each command against the server."""

import re

import pytest
from tests.deadline import eventually

from kirsch.hbase.shell.command import CommandError


def test_status(shell, name):
    shell(f"create '{name}', 'f'")
    summary = shell("status")
    assert summary["SERVERS"] == 2
    assert summary.sentence.startswith("1 active master, 0 backup masters, 2 servers, 0 dead, ")
    server, _ = shell("status 'simple'")
    assert server["STATE"] == "live"
    assert server["REGIONS"] > 0
    assert server["MAX_HEAP_MB"] > 100
    assert server["STORES"] > 0
    assert any("AccessController" in name for name in server["COPROCESSORS"])
    _, out, _ = shell.says("status 'simple'")
    assert re.match(
        r"MASTER +\S+,\d+,\d+\nBACKUP_MASTERS +-\nAGGREGATE_LOAD +\d+\nREGIONS +\d+\n\nSERVER ", out
    ), out
    # The master hears of a region by its server's next report.
    eventually(
        lambda: any(row["REGION"].startswith(f"{name},") for row in shell("status 'detailed'")),
        30,
        "the load of the new region",
    )
    shell(f"put '{name}', 'r', 'f:q', 'v'; flush '{name}'; major_compact '{name}'")

    def compacted():
        return [
            row
            for row in shell("status 'detailed'")
            if row["REGION"].startswith(f"{name},") and row["LAST_MAJOR"]
        ]

    (region,) = eventually(compacted, 60, "the load of a region that was compacted")
    assert (region["STORES"], region["FILES"], region["WRITES"]) == (1, 1, 1)
    _, out, _ = shell.says("status 'detailed'")
    for line in (
        r"VERSION +2\.",
        r"IN_TRANSITION +-$",
        r"MASTER_COPROCESSORS +.*AccessController",
        r"DEAD +-$",
    ):
        assert re.search(f"^{line}", out, re.M), out
    # A time is told as one.
    assert re.search(rf"^{name},.* \d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{{3}}Z +\S+$", out, re.M), out
    assert all(row["SIDE"] == "sink" for row in shell("status 'replication', 'sink'"))
    assert isinstance(shell("status 'replication'"), list)
    assert {"SERVER", "STATE", "TASK"} <= set(shell("status 'tasks'")[0])
    with pytest.raises(CommandError, match="there is no status bad: there are summary, simple"):
        shell("status 'bad'")
    with pytest.raises(CommandError, match="there is no side left"):
        shell("status 'replication', 'left'")


def test_who_and_what(shell):
    version = shell("version")
    assert version["SERVER"].startswith("2.")
    assert version["CLIENT"].startswith("2.")
    me = shell("whoami")
    assert me["AUTHENTICATION"] == "SIMPLE"
    assert me["USER"] in me.sentence
    tasks = shell("processlist")
    assert shell("processlist 'all', 'nowhere'") == []
    assert len(shell("processlist 'handler'")) + len(shell("processlist 'general'")) >= len(tasks) - 5
    assert all(
        row["STATE"] == "RUNNING" for row in shell("processlist 'rpc'") + shell("processlist 'operation'")
    )
    with pytest.raises(CommandError, match="there is no kind odd"):
        shell("processlist 'odd'")
    assert "t = get_table 't1'" in shell("table_help")


def test_configuration(shell):
    server, other = shell("list_liveservers")
    shell("update_all_config")
    shell(f"update_config '{server}'")
    host, port, _ = server.split(",")
    shell(f"update_config '{host}:{port}'")
    with pytest.raises(CommandError, match=f"elsewhere is no region server; there are: {server}, {other}"):
        shell("update_config 'elsewhere'")
    with pytest.raises(CommandError, match=f"{host} is more than one region server"):
        shell(f"update_config '{host}'")


def test_procedures(shell, name):
    shell(f"create '{name}', 'f'")
    procedures = shell("list_procedures")
    assert any(row["NAME"] == "CreateTableProcedure" and row["TABLE"] == name for row in procedures)
    assert {tuple(row) for row in shell("list_locks")} <= {
        ("RESOURCE", "NAME", "LOCK", "OWNER_PID", "WAITING")
    }
