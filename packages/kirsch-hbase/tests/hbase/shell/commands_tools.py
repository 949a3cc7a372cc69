"""tools, each command against the server."""

import pytest
from tests.deadline import eventually

from kirsch.hbase.shell.command import CommandError, UsageError


def regions(shell, name):
    return [row["REGION_NAME"] for row in shell(f"list_regions '{name}'")]


def encoded(region):
    return region.rstrip(".").rpartition(".")[2]


def test_regions_move(shell, alone, name):
    shell(f"create '{name}', 'f'; put '{name}', 'r', 'f:q', 'v'")
    (region,) = regions(shell, name)
    info = shell(f"regioninfo '{encoded(region)}'")
    assert (info["REGION"], info["TABLE"], info["START_KEY"], info["SPLIT"]) == (region, name, b"", False)
    assert shell(f"regioninfo '{region}'") == info
    shell(f"unassign '{region}'")
    with pytest.raises(CommandError, match="no server has a region"):
        shell(f"regioninfo '{region}'")
    shell(f"assign '{encoded(region)}'")
    eventually(lambda: shell(f"count '{name}'") == 1, 30)
    here = shell(f"regioninfo '{region}'")["SERVER"]
    (there,) = {*shell("list_liveservers")} - {here}
    shell(f"move '{encoded(region)}', '{there}'")
    assert shell(f"regioninfo '{region}'")["SERVER"] == there
    shell(f"move '{encoded(region)}'")
    assert shell(f"count '{name}'") == 1
    with pytest.raises(CommandError, match="is on"):
        shell(f"close_region '{encoded(region)}', 'elsewhere,1,1'")
    here = shell(f"regioninfo '{region}'")["SERVER"]
    shell(f"close_region '{encoded(region)}', '{here}'; assign '{region}'")
    eventually(lambda: shell(f"count '{name}'") == 1, 30)
    assert isinstance(shell("rit"), list)
    with pytest.raises(CommandError, match="no server has a region"):
        shell("move '0123456789abcdef0123456789abcdef'")


@pytest.mark.soak
@pytest.mark.timeout(500)
def test_regions_split_and_merge(shell, name):
    shell(f"create '{name}', 'f'; put '{name}', 'a', 'f:q', 1; put '{name}', 'z', 'f:q', 1; flush '{name}'")
    shell(f"split '{name}', 'm'")
    eventually(lambda: shell(f"get_splits '{name}'") == ["m"], 60, "the split")
    found = eventually(lambda: len(there := regions(shell, name)) == 2 and there, 60)
    # They hold on to their parent's files until these are compacted.
    shell(f"major_compact '{name}'; major_compact '{found[0]}'; compact '{found[1]}', 'f'")
    eventually(lambda: shell(f"compaction_state '{name}'") == "NONE", 60)

    def merged():
        status, _, error = shell.says(f"merge_region '{encoded(found[0])}', '{encoded(found[1])}'")
        assert status == 0 or "merg" in error or "reference" in error, error
        shell("catalogjanitor_run")
        return status == 0

    eventually(merged, 240, "the merge")
    eventually(lambda: shell(f"get_splits '{name}'") == [], 60)
    assert shell(f"count '{name}'") == 2
    with pytest.raises(CommandError, match="no server has a region 0123456789abcdef0123456789abcdef"):
        shell(f"merge_region '{encoded(regions(shell, name)[0])}', '0123456789abcdef0123456789abcdef'")
    with pytest.raises(UsageError, match="two regions are needed"):
        shell("merge_region 'a'")


def test_files_are_written_and_compacted(shell, alone, name):
    shell(f"create '{name}', 'f', 'g'; put '{name}', 'r', 'f:q', 'v'")
    (region,) = regions(shell, name)
    server = shell(f"regioninfo '{region}'")["SERVER"]
    shell(
        f"flush '{name}'; flush '{name}', 'f'; flush '{region}'; flush '{encoded(region)}'; flush '{server}'"
    )
    shell(f"compact '{name}'; compact '{name}', 'f'; compact '{region}'; compact '{name}', nil, 'NORMAL'")
    shell(f"major_compact '{name}'; major_compact '{name}', 'f'; major_compact '{region}', 'f'")
    eventually(lambda: shell(f"compaction_state '{name}'") == "NONE", 60)
    shell(f"compact_rs '{server}'; compact_rs '{server}', true")
    before = shell("compaction_switch false")
    assert {"SERVER": server, "WAS": True} in before
    assert len(before) == 2
    assert shell(f"compaction_switch true, ['{server}']") == [{"SERVER": server, "WAS": False}]
    shell("compaction_switch true")
    shell(f"clear_compaction_queues '{server}'; clear_compaction_queues '{server}', 'long'")
    with pytest.raises(CommandError, match="there is no queue wide"):
        shell(f"clear_compaction_queues '{server}', ['wide']")
    shell(f"wal_roll '{server}'")
    assert shell(f"clear_block_cache '{name}'")["FAILURES"] == 0
    with pytest.raises(CommandError, match="there is no table absent"):
        shell("compact 'absent'")


def test_servers(shell, alone):
    _, server = shell("list_liveservers")
    assert shell("list_deadservers") == []
    assert shell("clear_deadservers") == []
    with pytest.raises(CommandError, match="x,1,1 is no dead server"):
        shell("clear_deadservers 'x,1,1'")
    shell(f"decommission_regionservers '{server}'")
    try:
        assert shell("list_decommissioned_regionservers") == [server]
    finally:
        shell(f"recommission_regionserver '{server}'")
    assert shell("list_decommissioned_regionservers") == []
    assert shell("list_unknownservers") == []
    shell("flush_master_store")
    dump = shell("zk_dump")
    assert dump.startswith("HBase is rooted at /hbase\nQuorum: ")
    assert "/hbase/rs/" + server in dump
    assert shell("is_in_maintenance_mode") is False


def test_a_trace(shell):
    assert shell("trace") == "No trace has been started"
    assert "A trace goes on" in shell("trace 'start', 'mine'")
    with pytest.raises(CommandError, match="already"):
        shell("trace 'start'")
    assert shell("trace 'stop'") == "The trace is over"
    with pytest.raises(CommandError, match="no trace"):
        shell("trace 'stop'")
    with pytest.raises(CommandError, match="does not know pause"):
        shell("trace 'pause'")


@pytest.mark.parametrize(
    ("switch", "asked"),
    [
        ("balance_switch", "balancer_enabled"),
        ("normalizer_switch", "normalizer_enabled"),
        ("catalogjanitor_switch", "catalogjanitor_enabled"),
        ("cleaner_chore_switch", "cleaner_chore_enabled"),
        ("snapshot_cleanup_switch", "snapshot_cleanup_enabled"),
        ("splitormerge_switch 'SPLIT',", "splitormerge_enabled 'SPLIT'"),
        ("splitormerge_switch 'MERGE',", "splitormerge_enabled 'MERGE'"),
    ],
)
def test_switches(shell, alone, switch, asked):
    was = shell(asked)
    try:
        assert shell(f"{switch} false") is was
        assert shell(asked) is False
        assert shell(f"{switch} 'true'") is False
        assert shell(asked) is True
        with pytest.raises(UsageError, match="true or false is needed, not 'on'"):
            shell(f"{switch} 'on'")
    finally:
        shell(f"{switch} {str(was).lower()}")


def test_chores(shell, alone, name):
    shell(f"create '{name}', 'f'; balance_switch true")
    assert "moves calculated" in shell("balancer").sentence
    assert shell("balancer 'dry_run', 'ignore_rit'")["MOVES_EXECUTED"] == 0
    with pytest.raises(CommandError, match="balancer does not know hard"):
        shell("balancer 'hard'")
    assert shell("catalogjanitor_run") >= 0
    assert shell("cleaner_chore_run") in (True, False)  # one may run already
    assert shell("hbck_chore_run") in (True, False)
    assert shell("normalize") in (True, False)
    assert shell(f"normalize TABLE_NAME => '{name}'") in (True, False)
    assert shell(f"normalize TABLE_NAMES => ['{name}'], REGEX => 't.*', NAMESPACE => 'default'") in (
        True,
        False,
    )
    with pytest.raises(CommandError, match="SIDEWAYS is neither SPLIT nor MERGE"):
        shell("splitormerge_switch 'SIDEWAYS', true")


def test_what_was_slow(shell, alone, name):
    # The server takes all for slow that takes a millisecond, all for large that has 100 bytes.
    shell("clear_slowlog_responses")
    shell(f"create '{name}', 'f'; put '{name}', 'r', 'f:q', '{'x' * 5000}'; scan '{name}'")

    def large():
        shell(f"get '{name}', 'r'")
        return shell(f"get_largelog_responses '*', {{LIMIT => 100, TABLE_NAME => '{name}'}}")

    found = eventually(large, 30)
    assert found[0]["BYTES"] > 100
    assert found[0]["REGION"].startswith(f"{name},")
    server, _ = shell("list_liveservers")
    assert isinstance(shell(f"get_slowlog_responses ['{server}'], {{LIMIT => 50}}"), list)
    assert isinstance(shell("get_slowlog_responses '*', {USER => 'nobody', FILTER_BY_OP => 'AND'}"), list)
    with pytest.raises(CommandError, match="LIMIT is a number from 1 on"):
        shell("get_slowlog_responses '*', LIMIT => 0")
    assert shell("clear_slowlog_responses '*'") == "cleared on 2 of 2 servers"
    assert isinstance(shell("get_balancer_decisions"), list)
    assert isinstance(shell("get_balancer_rejections LIMIT => 5"), list)


def test_a_region_is_truncated(shell, name):
    shell(f"create '{name}', 'f', SPLITS => ['m']; put '{name}', 'a', 'f:q', 1; put '{name}', 'z', 'f:q', 1")
    shell(f"truncate_region '{regions(shell, name)[0]}'")
    assert [row.key for row in shell(f"scan '{name}'")] == [b"z"]
