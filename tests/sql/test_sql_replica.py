"""cherrypy.request.db_read: reads on a real standby, while that is near enough."""

import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cherrypy
import pytest
from cherrypy.lib.httputil import Host
from cherrypy.process import wspbus
from sqlalchemy import event, text
from tests.deadline import eventually
from tests.sql.conftest import ADDRESS, Postgres

from kirsch.sql.plugin import SQLAlchemyPlugin
from kirsch.sql.replica import Replica
from kirsch.sql.tool import Transaction, ask

COUNT = text("select count(*) from marks")
STANDBY = text("select pg_is_in_recovery()")


@pytest.fixture
def pair(make_postgres: Callable[..., Any]) -> tuple[Postgres, Postgres]:
    """A server, and a standby that follows it."""
    leader, standby = make_postgres(), make_postgres()
    leader.start()
    with leader.connect() as connection:
        connection.execute("create table marks (word text)")
    leader.stop()
    folder = Path(leader.data).resolve()
    access = folder / "pg_hba.conf"
    access.write_text(f"host replication all {ADDRESS}/32 trust\n{access.read_text()}")
    copy = Path(standby.data)
    shutil.copytree(folder, copy, copy_function=shutil.copy2)
    for path in (folder, *folder.rglob("*")):
        there = copy / path.relative_to(folder)
        shutil.chown(there, path.stat().st_uid, path.stat().st_gid)
    (copy / "standby.signal").touch()
    with (copy / "postgresql.auto.conf").open("a") as file:
        file.write(f"primary_conninfo = 'host={ADDRESS} port={leader.port} user=notes'\n")
        file.write("wal_receiver_timeout = '1s'\n")
    leader.start()
    standby.start()
    return leader, standby


@pytest.fixture
def database(pair: tuple[Postgres, Postgres]) -> Iterator[SQLAlchemyPlugin]:
    leader, standby = pair
    bus = wspbus.Bus()
    plugin = SQLAlchemyPlugin(bus, leader.url, replica=standby.url, lag=0.5, pool_size=1)
    plugin.subscribe()
    plugin.start()
    yield plugin
    plugin.stop()


@pytest.mark.slow
@pytest.mark.services
def test_reads_go_to_the_replica_while_it_is_near(
    pair: tuple[Postgres, Postgres], database: SQLAlchemyPlugin
):
    leader, standby = pair

    def reads() -> int | None:
        session = ask(database.bus, "bind-replica", "")
        if session is None:
            return None
        with session:
            assert session.scalars(STANDBY).one()
            return session.scalars(COUNT).one()

    eventually(lambda: reads() == 0, 60, "a replica")
    with leader.connect() as writer, standby.connect() as held:
        writer.execute("insert into marks values ('one')")
        eventually(lambda: reads() == 1, 60, "the row")
        # It receives, and replays nothing.
        held.execute("select pg_wal_replay_pause()")
        writer.execute("insert into marks values ('two')")
        eventually(lambda: reads() is None, 60, "a replica that is behind")
        held.execute("select pg_wal_replay_resume()")
        eventually(lambda: reads() == 2, 60, "a replica that is near again")
    leader.stop()
    eventually(lambda: reads() is None, 60, "a replica that receives nothing")
    standby.stop()
    assert reads() is None


@pytest.mark.services
def test_a_database_without_a_replica_reads_where_it_writes(postgres: Postgres):
    replica = Replica(postgres.url, 1.0, None)
    replica.look()
    assert replica.near, "what takes writes is not behind"
    replica.engine.dispose()
    nobody = Replica("postgresql://notes@127.0.0.1:1/notes", 1.0, None)
    nobody.look()
    assert not nobody.near


@pytest.mark.services
def test_a_streamed_answer_holds_no_connection_of_the_replica(postgres: Postgres):
    """A slow reader would keep it from others for as long as it reads."""
    bus = cherrypy.engine
    plugin = SQLAlchemyPlugin(bus, postgres.url, replica=postgres.url)
    plugin.subscribe()
    plugin.start()
    local = Host("127.0.0.1", 80)
    cherrypy.serving.load(
        cherrypy.serving.request.__class__(local, local), cherrypy.serving.response.__class__()
    )
    try:
        reads = eventually(lambda: ask(bus, "bind-replica", ""), 60, "a replica")
        pool = reads.get_bind().pool
        transaction = Transaction(ask(bus, "bind-session", "", True), "", reads)
        reads.execute(text("select 1"))
        assert pool.checkedout() == 1
        cherrypy.serving.response.stream = True
        cherrypy.serving.response.body = (str(reads.scalar(text("select 7"))).encode() for _ in range(2))
        transaction.settle()
        assert pool.checkedout() == 0
        assert list(cherrypy.serving.response.body) == [b"7", b"7"]
        assert pool.checkedout() == 0
        # One that the handler lost, and did without.
        again = ask(bus, "bind-replica", "")
        transaction = Transaction(ask(bus, "bind-session", "", True), "", again)
        again.connection().invalidate()
        transaction.settle()
        assert pool.checkedout() == 0
    finally:
        cherrypy.serving.clear()
        plugin.stop()
        plugin.unsubscribe()


@pytest.mark.services
def test_a_stop_waits_for_a_look_that_is_under_way(postgres: Postgres):
    """Else that one would leave a connection behind."""
    looking, go_on = threading.Event(), threading.Event()
    plugin = SQLAlchemyPlugin(wspbus.Bus(), postgres.url, replica=postgres.url)
    plugin.subscribe()
    plugin.start()
    session = eventually(lambda: ask(plugin.bus, "bind-replica", ""), 60, "a replica")

    def wait(*_: object) -> None:
        looking.set()
        go_on.wait()

    event.listen(session.get_bind(), "before_cursor_execute", wait)
    assert looking.wait(60)
    stopping = threading.Thread(target=plugin.stop)
    stopping.start()
    stopping.join(0.2)
    assert stopping.is_alive()
    go_on.set()
    stopping.join(60)
    assert session.get_bind().pool.checkedout() == 0
    assert "replica look" not in {thread.name for thread in threading.enumerate()}
