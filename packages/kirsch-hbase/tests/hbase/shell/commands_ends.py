"""Commands that stop servers, on a server of their own."""

import pytest
from tests.deadline import eventually
from tests.hbase.standalone import Standalone

from kirsch.hbase import Unsupported, connect
from kirsch.hbase.permission import Permission


@pytest.fixture
def own(tmp_path, client):
    """Two region servers, groups, and neither access control nor labels."""
    busy = ("--set=zookeeper.session.timeout=120000", "--set=hbase.zookeeper.property.tickTime=6000")
    server = Standalone(
        tmp_path, "--groups", "--set=hbase.regionservers=2", "--set=hbase.regionserver.port=0", *busy
    ).start()
    yield server
    server.kill()


@pytest.mark.soak
@pytest.mark.slow
def test_servers_are_stopped(shell, shell_of, own):
    session = type(shell.session)(lambda: connect(own.quorum, timeout=10, patience=60))
    session.test = shell.session.test
    theirs = shell_of(session)
    for typed in ("list_labels", "set_visibility 't', 'a'", "clear_auths 'bob'"):
        status, out, error = theirs.says(typed)
        assert (status, out) == (1, "")
        assert error.startswith(
            "kirsch: this server has no visibility labels: VisibilityController is not among"
        )
    assert theirs.says("user_permission")[0] == 1
    with pytest.raises(Unsupported):
        session.connection.admin.permissions.grant(Permission("bob", "RW", table="t"))
    _, server = theirs("list_liveservers")
    address = ":".join(server.split(",")[:2])
    theirs(f"stop_regionserver '{address}'")
    eventually(lambda: theirs("list_deadservers") == [server] and not theirs("rit"), 60, "its death")
    assert eventually(lambda: theirs(f"clear_deadservers '{server}'") == [], 60) is True
    theirs(f"remove_servers_rsgroup ['{address}']")
    assert address not in theirs("get_rsgroup 'default'")["SERVERS"]
    asked = []
    session.confirm = lambda question: asked.append(question) or len(asked) > 1
    theirs("stop_master")
    assert own.process.poll() is None
    theirs("stop_master")
    assert asked == ["Stop the master?"] * 2
    eventually(lambda: own.process.poll() is not None, 60, "the server's end")
