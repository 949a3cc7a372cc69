"""snapshots, each command against the server."""

import pytest

from kirsch.hbase import Exists, HBaseError, NotFound
from kirsch.hbase.shell.command import CommandError


def test_snapshots(shell, name):
    shell(f"create '{name}', 'f'; put '{name}', 'r', 'f:q', 'old'")
    shell(f"snapshot '{name}', '{name}-s'")
    (found,) = shell(f"list_snapshots '{name}.*'")
    assert (found["SNAPSHOT"], found["TABLE"], found["TYPE"]) == (f"{name}-s", name, "FLUSH")
    assert any(row["SNAPSHOT"] == f"{name}-s" for row in shell("list_snapshots"))
    shell(f"put '{name}', 'r', 'f:q', 'new'; put '{name}', 'r2', 'f:q', 'new'")
    shell(f"clone_snapshot '{name}-s', '{name}c'")
    assert [dict(row) for row in shell(f"scan '{name}c'")] == [{b"f:q": b"old"}]
    with pytest.raises(HBaseError, match=r"enabled|disable"):
        shell(f"restore_snapshot '{name}-s'")
    shell(f"disable '{name}'; restore_snapshot '{name}-s', {{RESTORE_ACL => true}}; enable '{name}'")
    assert shell(f"count '{name}'") == 1
    with pytest.raises(Exists, match=f"there is a snapshot {name}-s already"):
        shell(f"snapshot '{name}', '{name}-s'")
    shell(f"delete_snapshot '{name}-s'")
    assert shell(f"list_snapshots '{name}.*'") == []
    with pytest.raises(NotFound, match=f"there is no snapshot {name}-s"):
        shell(f"clone_snapshot '{name}-s', '{name}d'")
    with pytest.raises(NotFound, match=f"^there is no snapshot {name}-s$"):
        shell(f"restore_snapshot '{name}-s'")
    with pytest.raises(NotFound):
        shell(f"snapshot '{name}x', '{name}-s'")


def test_many_snapshots(shell, name):
    shell(f"create '{name}', 'f'")
    shell(f"snapshot '{name}', '{name}-1', {{SKIP_FLUSH => true}}")
    shell(f"snapshot '{name}', '{name}-2', {{TTL => 3600, MAX_FILESIZE => 21474836480}}")
    rows = {row["SNAPSHOT"]: row for row in shell(f"list_table_snapshots '{name}'")}
    assert (rows[f"{name}-1"]["TYPE"], rows[f"{name}-2"]["TTL"]) == ("SKIPFLUSH", 3600)
    assert len(shell(f"list_table_snapshots '{name}', '.*-2'")) == 1
    assert [row["SNAPSHOT"] for row in shell(f"delete_table_snapshots '{name}', '.*-1'")] == [f"{name}-1"]
    assert [row["SNAPSHOT"] for row in shell(f"delete_all_snapshot '{name}.*'")] == [f"{name}-2"]
    with pytest.raises(CommandError, match="no snapshot matches"):
        shell(f"delete_all_snapshot '{name}.*'")
    with pytest.raises(CommandError, match="no snapshot matches"):
        shell(f"delete_table_snapshots '{name}'")
