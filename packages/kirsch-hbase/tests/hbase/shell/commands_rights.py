"""security, visibility labels and quotas, each command against the server."""

import pytest
from tests.deadline import eventually

from kirsch.hbase import HBaseError, NotFound, connect
from kirsch.hbase.shell.command import CommandError, UsageError
from kirsch.hbase.shell.session import Session


def test_rights(shell, shell_of, quorum, name):
    assert "AUTHORIZATION" in shell("list_security_capabilities")
    shell(f"create_namespace '{name}'; create '{name}', 'f', 'g'")
    shell(f"put '{name}', 'r', 'f:q', 'v'")
    theirs = Session(lambda: connect(quorum, user="bob", patience=60))
    bob = shell_of(theirs)
    try:
        with pytest.raises(HBaseError, match="not permitted"):
            bob(f"put '{name}', 'r', 'f:q', 'bob'")
        shell(f"grant 'bob', 'RW', '{name}', 'f', 'q'")
        (row,) = [row for row in shell(f"user_permission '{name}'") if row["USER"] == "bob"]
        assert (row["SCOPE"], row["TABLE"], row["FAMILY"], row["QUALIFIER"], row["ACTIONS"]) == (
            "TABLE", name, b"f", b"q", "READ,WRITE",
        )  # fmt: skip
        eventually(lambda: bob.says(f"put '{name}', 'r', 'f:q', 'bob'")[0] == 0, 30)
        assert bob.says(f"put '{name}', 'r', 'g:q', 'bob'")[0] == 1
        shell(f"revoke 'bob', '{name}', 'f', 'q'")
        eventually(lambda: bob.says(f"put '{name}', 'r', 'f:q', 'bob'")[0] == 1, 30)
    finally:
        theirs.close()
    shell(f"grant 'bob', 'RWXCA', '@{name}'; grant '@staff', 'R'")
    assert [r["ACTIONS"] for r in shell(f"user_permission '@{name}'") if r["USER"] == "bob"] == [
        "READ,WRITE,EXEC,CREATE,ADMIN"
    ]
    assert any(row["USER"] == "@staff" and row["SCOPE"] == "GLOBAL" for row in shell("user_permission"))
    shell(f"revoke 'bob', '@{name}'; revoke '@staff'")
    assert not any(row["USER"] == "@staff" for row in shell("user_permission"))
    assert shell(f"grant '{name}', {{'bob' => 'R'}}, {{COLUMNS => ['f']}}") == 1
    shell(f"drop_namespace '{name}'")
    with pytest.raises(CommandError, match="Z is not a permission"):
        shell("grant 'bob', 'RZ'")
    with pytest.raises(CommandError, match=f"there is no family h in table {name}"):
        shell(f"grant 'bob', 'R', '{name}', 'h'")
    with pytest.raises(NotFound, match="there is no table absent"):
        shell("grant 'bob', 'R', 'absent'")
    with pytest.raises(NotFound, match="there is no namespace absent"):
        shell("grant 'bob', 'R', '@absent'")
    with pytest.raises(UsageError, match="a namespace has no families"):
        shell("grant 'bob', 'R', '@default', 'f'")


@pytest.mark.soak
def test_labels(labelled, name):
    shell = labelled
    assert "CELL_VISIBILITY" in shell("list_security_capabilities")
    secret, public = f"{name}S", f"{name}P"
    shell(f"add_labels ['{secret}', '{public}']")
    assert shell(f"list_labels '{name}.*'") == [public, secret]
    assert secret in shell("list_labels")
    with pytest.raises(HBaseError, match="already exists"):
        shell(f"add_labels '{secret}'")
    shell(f"set_auths '{name}', ['{secret}', '{public}']")
    assert shell(f"get_auths '{name}'") == [public, secret]
    shell(f"clear_auths '{name}', ['{secret}']")
    assert shell(f"get_auths '{name}'") == [public]
    shell(f"clear_auths '{name}'")
    assert shell(f"get_auths '{name}'") == []
    with pytest.raises(HBaseError, match=f"{name}X"):
        shell(f"set_auths '{name}', ['{name}X']")


@pytest.mark.soak
def test_cells_with_labels(labelled, shell_of, labels_quorum, name):
    shell = labelled
    secret = f"{name}S"
    shell(f"add_labels '{secret}'; create '{name}', 'f'; grant '{name}u', 'RW', '{name}'")
    shell(f"set_auths '{name}u', '{secret}'")
    shell(f"put '{name}', 'r1', 'f:q', 'v', {{VISIBILITY => '{secret}'}}; put '{name}', 'r2', 'f:q', 'v'")
    theirs = Session(lambda: connect(labels_quorum, user=f"{name}u", patience=60))
    user = shell_of(theirs)
    try:
        eventually(lambda: user.says(f"scan '{name}'")[0] == 0, 30)
        assert len(user(f"scan '{name}', {{AUTHORIZATIONS => ['{secret}']}}")) == 2
        assert len(user(f"scan '{name}', {{AUTHORIZATIONS => []}}")) in (1, 2)
        shell(f"clear_auths '{name}u', '{secret}'")
        eventually(lambda: [row.key for row in user(f"scan '{name}'")] == [b"r2"], 30)
        assert shell(f"set_visibility '{name}', '{secret}', {{STARTROW => 'r2'}}") == 1
        eventually(lambda: user(f"scan '{name}'") == [], 30)
    finally:
        theirs.close()


def test_quotas(shell, name):
    shell(f"create_namespace '{name}'; create '{name}', 'f'")
    shell(f"set_quota TYPE => THROTTLE, USER => '{name}', LIMIT => '10req/sec'")
    shell(
        f"set_quota TYPE => THROTTLE, THROTTLE_TYPE => WRITE, USER => '{name}', TABLE => '{name}', "
        "LIMIT => '5M/min'"
    )
    shell(
        f"set_quota TYPE => THROTTLE, THROTTLE_TYPE => READ, NAMESPACE => '{name}', "
        "LIMIT => '7CU/hour', SCOPE => CLUSTER"
    )
    quotas = shell(f"list_quotas USER => '{name}'")
    assert {row["OWNER"] for row in quotas} == {f"USER => {name}", f"USER => {name}, TABLE => {name}"}
    assert "10req/sec" in next(row["QUOTA"] for row in quotas if row["OWNER"] == f"USER => {name}")
    assert len(shell(f"list_quotas USER => '{name}', TABLE => '{name}'")) == 1
    assert "CLUSTER" in shell(f"list_quotas NAMESPACE => '{name}'")[0]["QUOTA"]
    shell(f"set_quota USER => '{name}', GLOBAL_BYPASS => true")
    assert any(
        "GLOBAL_BYPASS" in row["TYPE"] for row in shell("list_quotas") if row["OWNER"] == f"USER => {name}"
    )
    shell(f"set_quota USER => '{name}', GLOBAL_BYPASS => false")
    for owner in (f"USER => '{name}'", f"USER => '{name}', TABLE => '{name}'", f"NAMESPACE => '{name}'"):
        shell(f"set_quota TYPE => THROTTLE, {owner}, LIMIT => NONE")
    shell(f"set_quota TYPE => THROTTLE, THROTTLE_TYPE => WRITE, TABLE => '{name}', LIMIT => '1req/sec'")
    shell(f"set_quota TYPE => THROTTLE, THROTTLE_TYPE => WRITE, TABLE => '{name}', LIMIT => '10M/min'")
    shell(f"set_quota TYPE => THROTTLE, THROTTLE_TYPE => WRITE, TABLE => '{name}', LIMIT => NONE")
    assert not [row for row in shell("list_quotas") if name in row["OWNER"]]
    shell(f"drop_namespace '{name}'")


def test_quotas_of_space(shell, name):
    shell(
        f"create '{name}', 'f'; "
        f"set_quota TYPE => SPACE, TABLE => '{name}', LIMIT => '1G', POLICY => NO_INSERTS"
    )
    (row,) = shell(f"list_quotas TABLE => '{name}'")
    assert row["TYPE"] == "SPACE"
    assert "NO_INSERTS" in row["QUOTA"]
    assert {tuple(row) for row in shell("list_quota_table_sizes")} <= {("TABLE", "BYTES")}
    server, _ = shell("list_liveservers")
    for typed in (f"TABLE => '{name}'", "NAMESPACE => 'default'", f"REGIONSERVER => '{server}'"):
        assert isinstance(shell(f"list_quota_snapshots {typed}"), list)
    assert isinstance(shell("list_quota_snapshots"), list)
    assert {tuple(row) for row in shell("list_snapshot_sizes")} <= {("SNAPSHOT", "BYTES")}
    shell(f"set_quota TYPE => SPACE, TABLE => '{name}', LIMIT => NONE")
    assert shell(f"list_quotas TABLE => '{name}'") == []


def test_throttling_as_a_whole(shell, alone):
    before = shell("disable_rpc_throttle")
    assert shell("enable_rpc_throttle") is False
    assert shell("enable_rpc_throttle") is True
    if not before:
        shell("disable_rpc_throttle")
    shell(
        "set_quota TYPE => THROTTLE, THROTTLE_TYPE => WRITE, REGIONSERVER => 'all', LIMIT => '30000req/sec'"
    )
    shell("set_quota TYPE => THROTTLE, THROTTLE_TYPE => READ, REGIONSERVER => 'all', LIMIT => '30000req/sec'")
    try:
        assert shell("enable_exceed_throttle_quota") is False
        assert shell("disable_exceed_throttle_quota") is True
    finally:
        shell("set_quota TYPE => THROTTLE, REGIONSERVER => 'all', LIMIT => NONE")
        shell("set_quota TYPE => THROTTLE, THROTTLE_TYPE => WRITE, REGIONSERVER => 'all', LIMIT => NONE")
        shell("set_quota TYPE => THROTTLE, THROTTLE_TYPE => READ, REGIONSERVER => 'all', LIMIT => NONE")


@pytest.mark.parametrize(
    ("typed", "kind", "message"),
    [
        ("set_quota TYPE => THROTTLE, LIMIT => '1req/sec'", UsageError, "of whom"),
        (
            "set_quota TYPE => THROTTLE, USER => 'u', LIMIT => 'many'",
            CommandError,
            "many is no limit: write 10req/sec",
        ),
        ("set_quota TYPE => THROTTLE, USER => 'u', LIMIT => '0req/sec'", CommandError, "is no limit"),
        (
            "set_quota TYPE => THROTTLE, THROTTLE_TYPE => 'UP', USER => 'u', LIMIT => '1req/sec'",
            CommandError,
            "no THROTTLE_TYPE UP",
        ),
        (
            "set_quota TYPE => THROTTLE, REGIONSERVER => 'h:1', LIMIT => '1req/sec'",
            CommandError,
            "REGIONSERVER => 'all'",
        ),
        ("set_quota TYPE => SPACE, TABLE => 't', LIMIT => '1G'", UsageError, "needs a POLICY"),
        (
            "set_quota TYPE => SPACE, TABLE => 't', LIMIT => 'big', POLICY => DISABLE",
            CommandError,
            "big is no size",
        ),
        (
            "set_quota TYPE => SPACE, LIMIT => '1G', POLICY => DISABLE",
            UsageError,
            "one of TABLE and NAMESPACE",
        ),
        ("set_quota TYPE => 'LOVE', LIMIT => '1G'", CommandError, "LOVE is no TYPE of quota"),
        ("set_quota GLOBAL_BYPASS => true", UsageError, "GLOBAL_BYPASS goes with USER"),
        ("set_quota LIMITS => 1", UsageError, "no option LIMITS; do you mean LIMIT?"),
    ],
)
def test_quotas_that_are_refused(shell, typed, kind, message):
    with pytest.raises(kind, match=message):
        shell(typed)
