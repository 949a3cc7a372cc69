"""cherrypy.request.db_read: reads on a real standby, while that is near enough."""

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import cherrypy
import pytest
from cherrypy.lib.httputil import Host
from cherrypy.process import wspbus
from sqlalchemy import event, text
from sqlalchemy.exc import OperationalError
from tests.deadline import eventually
from tests.sql.conftest import ADDRESS, Postgres

from kirsch.sql.errors import BUSY, answer_to
from kirsch.sql.plugin import SQLAlchemyPlugin
from kirsch.sql.replica import Replica
from kirsch.sql.tool import Transaction, ask

COUNT = text("select count(*) from marks")
STANDBY = text("select pg_is_in_recovery()")


def follow(leader: Postgres, standby: Postgres) -> None:
    """Make a server that is not started a standby of a stopped one."""
    folder, copy = Path(leader.data).resolve(), Path(standby.data)
    shutil.copytree(folder, copy, copy_function=shutil.copy2)
    for path in (folder, *folder.rglob("*")):
        there = copy / path.relative_to(folder)
        shutil.chown(there, path.stat().st_uid, path.stat().st_gid)
    (copy / "standby.signal").touch()
    with (copy / "postgresql.auto.conf").open("a") as file:
        file.write(f"primary_conninfo = 'host={ADDRESS} port={leader.port} user=notes'\n")
        file.write("wal_receiver_timeout = '1s'\n")


@pytest.fixture
def leader(make_postgres: Callable[..., Any]) -> Postgres:
    """A server that standbys may follow, stopped."""
    server = make_postgres()
    server.start()
    with server.connect() as connection:
        connection.execute("create table marks (word text)")
    server.stop()
    access = Path(server.data).resolve() / "pg_hba.conf"
    access.write_text(f"host replication all {ADDRESS}/32 trust\n{access.read_text()}")
    return server


@pytest.fixture
def pair(leader: Postgres, make_postgres: Callable[..., Any]) -> tuple[Postgres, Postgres]:
    """A server, and a standby that follows it."""
    standby = make_postgres()
    follow(leader, standby)
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
            try:
                assert session.scalars(STANDBY).one()
            except OperationalError as error:
                # It finds out before the look does: the client of a request is told to come again.
                if answer_to(error, True) is not BUSY:
                    raise
                return None
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


@pytest.mark.slow
@pytest.mark.services
def test_none_of_many_connections_reads_at_a_replica_that_is_behind(
    leader: Postgres, make_postgres: Callable[..., Any]
):
    """The pool's connections lead to two servers, of which one falls behind; then both do."""
    standbys = [make_postgres(), make_postgres()]
    for standby in standbys:
        follow(leader, standby)
    for server in (leader, *standbys):
        server.start()
    both = f"{ADDRESS}:{standbys[0].port},{ADDRESS}:{standbys[1].port}"
    url = f"{leader.url.replace(f'{ADDRESS}:{leader.port}', both)}?load_balance_hosts=random"
    replica = Replica(url, 0.5, None, pool_size=8, max_overflow=0)

    def rows() -> set[tuple[int, int]]:
        """Which server answered, and how many rows it has, by all connections at the same time."""
        with ExitStack() as stack:
            all_of_them = [stack.enter_context(replica.engine.connect()) for _ in range(8)]
            return {
                (c.scalar(text("select inet_server_port()")) or 0, c.scalar(COUNT) or 0) for c in all_of_them
            }

    def behind(server: Postgres) -> bool:
        with server.connect() as connection:
            found = connection.execute(
                "select clock_timestamp() - pg_last_xact_replay_timestamp() > interval '0.5 s'"
                " and pg_last_wal_receive_lsn() > pg_last_wal_replay_lsn()"
            ).fetchone()
            return bool(found and found[0])

    try:
        with leader.connect() as writer, standbys[0].connect() as first, standbys[1].connect() as second:
            writer.execute("insert into marks values ('one')")
            everywhere = {(standby.port, 1) for standby in standbys}
            # Of eight connections all lead to one server once in 128 times.
            eventually(lambda: replica.engine.dispose() or rows() == everywhere, 60, "both servers")
            first.execute("select pg_wal_replay_pause()")
            writer.execute("insert into marks values ('two')")
            eventually(lambda: behind(standbys[0]), 60, "a server that is behind")
            replica.look()
            assert replica.near
            assert rows() == {(standbys[1].port, 2)}
            # Then the other one too: nothing is read, neither by old connections nor by new ones.
            second.execute("select pg_wal_replay_pause()")
            writer.execute("insert into marks values ('three')")
            eventually(lambda: behind(standbys[1]), 60, "both behind")
            replica.look()
            assert not replica.near
            with pytest.raises(OperationalError, match="no replica that is near enough") as refused:
                replica.engine.connect()
            assert answer_to(refused.value, True) is BUSY
            for held in (first, second):
                held.execute("select pg_wal_replay_resume()")
            eventually(lambda: replica.look() or replica.near, 60, "a replica that is near again")
            assert {count for _, count in rows()} == {3}
    finally:
        replica.engine.dispose()


@pytest.mark.slow
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


@pytest.mark.slow
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
