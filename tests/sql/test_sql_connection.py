"""Connections on a real PostgreSQL: what is sent when (libpq's own trace says), and how they end."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Engine, column, exc, select, table, text
from sqlalchemy.orm import Session
from tests.deadline import eventually

from kirsch.sql import make_engine
from kirsch.sql.engine import CountingPool
from kirsch.sql.plugin import LazySession

pytestmark = pytest.mark.services

INSERT = text("insert into piped values (:word) returning word")
SLEEP = text("select pg_sleep(:seconds)")
KILL = "select pg_terminate_backend(%s, 5000)"


@pytest.fixture(scope="module")
def url(postgres) -> str:
    with postgres.connect() as connection:
        connection.execute("create table piped (word text primary key)")
    return postgres.url


@pytest.fixture
def engine(url, postgres) -> Iterator[Engine]:
    engine = make_engine(url, poolclass=CountingPool, pool_size=1, max_overflow=0, pool_timeout=5)
    yield engine
    engine.dispose()
    with postgres.connect() as connection:
        connection.execute("truncate piped")


class Trace:
    """What went over a connection from here on."""

    def __init__(self, connection: psycopg.Connection, path: Path) -> None:
        self._pgconn, self._path = connection.pgconn, path
        self._file = path.open("w")
        self._pgconn.trace(self._file.fileno())

    def turns(self) -> list[list[str]]:
        """The messages that were sent before each answer."""
        self._pgconn.untrace()
        self._file.close()
        found: list[list[str]] = []
        before = "B"
        for line in self._path.read_text().splitlines():
            if "\t" not in line:  # SQL of several lines
                continue
            _, way, _, message, *_ = line.split("\t")
            if way == "F":
                if before == "B":
                    found.append([])
                found[-1].append(message)
            before = way
        return found


@pytest.fixture
def trace(tmp_path):
    return lambda connection: Trace(connection.connection.driver_connection, tmp_path / "trace")


def status(connection) -> str:
    return connection.connection.driver_connection.info.transaction_status.name


def written(postgres) -> list[str]:
    with postgres.connect() as connection:
        return [word for (word,) in connection.execute("select word from piped order by word")]


SENT = ["Parse", "Bind", "Describe", "Execute"]


def test_a_write_is_three_round_trips(engine, trace, postgres):
    with engine.connect() as connection:
        seen = trace(connection)
        assert connection.execute(INSERT, {"word": "one"}).scalar_one() == "one"
        assert written(postgres) == []
        connection.commit()
        assert seen.turns() == [["Query"], [*SENT, "Sync"], ["Query"]]
    assert written(postgres) == ["one"]


def test_a_read_of_a_read_only_session_is_one_round_trip(engine, trace, postgres):
    query = select(column("word")).select_from(table("piped", column("word"))).where(column("word") == "one")
    with LazySession(engine, read_only=True) as session:
        seen = trace(session.connection())
        assert session.scalars(query).all() == []
        session.commit()
        assert seen.turns() == [[*SENT, "Sync"]]
    assert written(postgres) == []


def test_what_follows_is_in_the_same_transaction(engine, trace, postgres):
    with engine.connect() as connection:
        connection.execute(INSERT, {"word": "one"})
        seen = trace(connection)
        connection.execute(INSERT, {"word": "two"})
        connection.rollback()
        assert seen.turns() == [[*SENT, "Sync"], ["Query"]]
        assert status(connection) == "IDLE"
    assert written(postgres) == []


def test_the_first_statement_fails(engine, postgres):
    for _ in range(8):  # also once it is prepared, and after the rollback has dropped that
        with engine.connect() as connection:
            assert connection.execute(INSERT, {"word": "one"}).scalar_one() == "one"
            connection.rollback()
            connection.execute(INSERT, {"word": "one"})
            connection.commit()
        with engine.connect() as connection:
            with pytest.raises(exc.IntegrityError) as caught:
                connection.execute(INSERT, {"word": "one"})
            assert isinstance(caught.value.orig, psycopg.errors.UniqueViolation)
            assert status(connection) == "INERROR"
            with pytest.raises(exc.InternalError):
                connection.execute(INSERT, {"word": "two"})
            connection.rollback()
            assert status(connection) == "IDLE"
            connection.execute(text("delete from piped where word = :word"), {"word": "one"})
            connection.commit()
    assert engine.pool.checkedout() == 0
    assert written(postgres) == []


def test_a_statement_that_cannot_be_parsed(engine):
    with engine.connect() as connection:
        for prepare in (None, True):
            with pytest.raises(psycopg.errors.SyntaxError):
                connection.connection.cursor().execute("insart %s", ["x"], prepare=prepare)
            assert status(connection) == "INERROR"
            connection.rollback()
            connection.connection.rollback()
        assert connection.execute(INSERT, {"word": "one"}).scalar_one() == "one"


def test_parameters_that_cannot_be_sent(engine, postgres):
    with engine.connect() as connection:
        driver = connection.connection.driver_connection
        with pytest.raises(psycopg.ProgrammingError, match="cannot adapt"):
            driver.execute("insert into piped values (%s)", [object()])
        driver.rollback()
        many = 65536  # one more than the protocol can count
        with pytest.raises(psycopg.OperationalError, match="number of parameters"):
            driver.execute(f"select array[{','.join(['%s::text'] * many)}]", ["x"] * many)
        assert status(connection) == "INTRANS"
        assert not driver.closed
        driver.rollback()
        assert connection.execute(INSERT, {"word": "one"}).scalar_one() == "one"


@pytest.fixture
def once_asleep(postgres):
    """Starts a thread that does something to the backend that executes pg_sleep()."""

    @contextmanager
    def once_asleep(act) -> Iterator[None]:
        def work() -> None:
            query = "select pid from pg_stat_activity where wait_event = 'PgSleep'"
            with postgres.connect() as other:
                eventually(lambda: other.execute(query).fetchone(), what="the sleeper")
                act(other, other.execute(query).fetchone())

        thread = threading.Thread(target=work)
        thread.start()
        yield
        thread.join()

    return once_asleep


def test_the_server_ends_the_connection_amid_the_statement(engine, once_asleep):
    with (
        once_asleep(lambda other, pid: other.execute(KILL, pid)),
        engine.connect() as connection,
        pytest.raises(exc.DBAPIError) as caught,
    ):
        connection.execute(SLEEP, {"seconds": 30})
    assert isinstance(caught.value.orig, psycopg.errors.AdminShutdown)
    assert caught.value.connection_invalidated
    with engine.connect() as connection:
        assert connection.execute(INSERT, {"word": "one"}).scalar_one() == "one"


def test_the_statement_is_cancelled(engine, once_asleep):
    cancel = "select pg_cancel_backend(%s)"
    with once_asleep(lambda other, pid: other.execute(cancel, pid)), engine.connect() as connection:
        with pytest.raises(exc.OperationalError) as caught:
            connection.execute(SLEEP, {"seconds": 30})
        assert not caught.value.connection_invalidated
        assert status(connection) == "INERROR"
        connection.rollback()
        assert connection.execute(INSERT, {"word": "one"}).scalar_one() == "one"


def test_the_wait_is_interrupted(engine, once_asleep):
    """As by ^C: psycopg cancels the statement, and the connection is of use."""

    def interrupt(signum, frame) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with engine.connect() as connection:
            driver = connection.connection.driver_connection
            with (
                once_asleep(lambda other, pid: os.kill(os.getpid(), signal.SIGUSR1)),
                pytest.raises(KeyboardInterrupt),
            ):
                driver.execute("select pg_sleep(%s)", [30])
            assert status(connection) == "INERROR"
            driver.rollback()
            assert connection.execute(INSERT, {"word": "one"}).scalar_one() == "one"
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_the_server_has_ended_the_connection_before_the_statement(engine, postgres):
    with engine.connect() as connection:
        pid = connection.connection.driver_connection.info.backend_pid
        with postgres.connect() as other:
            other.execute(KILL, [pid])
        with pytest.raises(exc.OperationalError) as caught:
            connection.execute(INSERT, {"word": "one"})
        assert caught.value.connection_invalidated
    with engine.connect() as connection:
        connection.execute(INSERT, {"word": "two"})
        connection.commit()
    assert written(postgres) == ["two"]


def test_a_connection_lost_in_the_pool_is_replaced_and_nothing_done_twice(engine, postgres):
    with engine.connect() as connection:
        pid = connection.connection.driver_connection.info.backend_pid
        connection.execute(INSERT, {"word": "one"})
        connection.commit()
    with postgres.connect() as other:
        other.execute(KILL, [pid])
    with engine.connect() as connection:
        assert connection.execute(INSERT, {"word": "two"}).scalar_one() == "two"
        assert connection.connection.driver_connection.info.backend_pid != pid
        connection.commit()
    assert written(postgres) == ["one", "two"]


def test_savepoints(engine, postgres):
    with Session(engine) as session:
        with session.begin_nested():
            session.execute(INSERT, {"word": "one"})
        with pytest.raises(exc.IntegrityError), session.begin_nested():
            session.execute(INSERT, {"word": "one"})
        session.execute(INSERT, {"word": "two"})
        session.commit()
    assert written(postgres) == ["one", "two"]
    with Session(engine) as session:
        session.execute(INSERT, {"word": "three"})  # begins, then a savepoint
        with pytest.raises(exc.IntegrityError), session.begin_nested():
            session.execute(INSERT, {"word": "one"})
        session.rollback()
    assert written(postgres) == ["one", "two"]


def test_autocommit_begins_nothing(engine, trace, postgres):
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        seen = trace(connection)
        connection.execute(INSERT, {"word": "one"})
        assert status(connection) == "IDLE"
        connection.execute(INSERT, {"word": "two"})
        # A connection reads by default, so this one is told once that it may write.
        assert seen.turns() == [["Query"], [*SENT, "Sync"], [*SENT, "Sync"]]
        assert written(postgres) == ["one", "two"]


def test_the_transaction_is_of_the_kind_that_was_asked_for(engine):
    setting = text("select current_setting(:name)")
    with engine.connect().execution_options(isolation_level="SERIALIZABLE") as connection:
        assert connection.execute(setting, {"name": "transaction_isolation"}).scalar_one() == "serializable"
    with LazySession(engine, read_only=True) as connection:
        assert connection.execute(setting, {"name": "transaction_read_only"}).scalar_one() == "on"
        with pytest.raises(exc.InternalError, match="read-only"):
            connection.execute(INSERT, {"word": "one"})
    with engine.connect() as connection:
        assert connection.execute(setting, {"name": "transaction_isolation"}).scalar_one() == "read committed"
        assert connection.execute(setting, {"name": "transaction_read_only"}).scalar_one() == "off"


def test_results_are_streamed_from_a_cursor_in_the_server(engine):
    query = text("select i from generate_series(1, :most) i").execution_options(yield_per=10)
    for read_only in (False, True):
        with LazySession(engine, read_only) as session:
            rows = session.execute(query, {"most": 95})
            assert next(rows) == (1,)
            assert status(session.connection()) == "INTRANS"
            assert sum(1 for _ in rows) == 94


def test_many_rows_at_once(engine, postgres):
    many = [{"word": str(number)} for number in range(3)]
    with engine.connect() as connection:
        connection.execute(text("insert into piped values (:word)"), many)
        connection.rollback()
        connection.execute(text("insert into piped values (:word)"), many)
        connection.commit()
    assert written(postgres) == ["0", "1", "2"]


def test_the_caller_may_choose_the_cursor(url):
    engine = make_engine(url, connect_args={"cursor_factory": psycopg.ClientCursor})
    with engine.connect() as connection:
        assert type(connection.connection.cursor()) is psycopg.ClientCursor
    engine.dispose()
