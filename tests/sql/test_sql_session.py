"""The session and the pool do what SQLAlchemy's do."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Engine, MetaData, create_engine, delete, event, exc, func, insert, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from kirsch.sql import make_engine
from kirsch.sql.engine import CountingPool
from kirsch.sql.plugin import LazySession

pytestmark = pytest.mark.services


class Base(DeclarativeBase):
    metadata = MetaData()


class Line(Base):
    __tablename__ = "lines"
    text: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(default=0)


LINES = Line.__table__
ADD = insert(LINES).returning(LINES.c.text)
HOW_MANY = select(func.count()).select_from(LINES)


@pytest.fixture(scope="module")
def tables(postgres) -> str:
    engine = make_engine(postgres.url)
    Base.metadata.create_all(engine)
    engine.dispose()
    return postgres.url


@pytest.fixture
def engine(tables) -> Iterator[Engine]:
    engine = make_engine(tables, poolclass=CountingPool, pool_size=1, max_overflow=0, pool_timeout=1)
    with engine.begin() as connection:
        connection.execute(delete(LINES))
    yield engine
    assert engine.pool.checkedout() == 0
    engine.dispose()


@pytest.fixture
def session(engine) -> Iterator[LazySession]:
    with LazySession(engine) as session:
        yield session


def count(engine: Engine) -> int:
    with engine.connect() as connection:
        return connection.scalar(HOW_MANY)


def test_it_commits_and_gives_the_connection_back(session, engine):
    assert engine.pool.checkedout() == 0
    assert session.execute(ADD, {"text": "a"}).scalar_one() == "a"
    transaction = session.get_transaction()
    assert engine.pool.checkedout() == 1
    session.commit()
    assert engine.pool.checkedout() == 0
    assert not session.in_transaction()
    assert not transaction.is_active
    assert count(engine) == 1
    session.execute(ADD, {"text": "b"})
    session.rollback()
    session.commit()
    session.close()
    assert count(engine) == 1


def test_closed_it_stays_closed(session):
    session.execute(ADD, {"text": "a"})
    session.commit()
    session.close()
    session.close()
    for use in (lambda: session.execute(HOW_MANY), lambda: session.get(Line, "a"), session.begin):
        with pytest.raises(exc.InvalidRequestError, match="permanently closed"):
            use()


def test_closing_undoes_what_was_not_committed(session, engine):
    session.execute(ADD, {"text": "a"})
    session.close()
    assert count(engine) == 0


def test_objects_are_written_before_a_statement(session, engine):
    # Statements of objects: SQLAlchemy 2.0 writes before these alone, 2.1 before those of tables too.
    how_many = select(func.count()).select_from(Line)
    session.add(Line(text="a"))
    assert session.execute(how_many).scalar_one() == 1
    line = session.get(Line, "a")
    line.number = 7
    assert session.execute(select(Line.number)).scalar_one() == 7
    session.delete(line)
    assert session.execute(how_many).scalar_one() == 0
    session.add(Line(text="b"))
    session.commit()
    assert count(engine) == 1


def test_objects_are_written_by_the_commit_and_stay_readable(session, engine):
    session.execute(ADD, {"text": "a"})
    line = Line(text="b")
    session.add(line)
    session.commit()
    line.number = 3
    session.commit()
    assert line in session
    session.close()
    assert line not in session
    assert (line.text, line.number) == ("b", 3)
    with engine.connect() as connection:
        assert connection.scalar(select(LINES.c.number).where(LINES.c.text == "b")) == 3


def test_a_commit_that_fails_leaves_nothing_but_the_rollback(session, engine):
    with engine.begin() as connection:
        connection.execute(text("alter table lines drop constraint if exists once"))
        connection.execute(
            text("alter table lines add constraint once unique (number) deferrable initially deferred")
        )
    session.execute(ADD, [{"text": "a"}, {"text": "b"}])
    with pytest.raises(exc.IntegrityError):
        session.commit()
    with pytest.raises(exc.InvalidRequestError):
        session.execute(HOW_MANY)
    session.rollback()
    assert session.execute(HOW_MANY).scalar_one() == 0
    session.rollback()
    with engine.begin() as connection:
        connection.execute(text("alter table lines drop constraint once"))


@pytest.mark.parametrize("of", ["the session", "the class"])
def test_who_listens_hears(session, engine, of):
    heard = []
    target = session if of == "the session" else LazySession
    names = ("do_orm_execute", "after_begin", "before_commit", "after_commit", "after_transaction_end")

    def listener(name):
        return lambda *arguments: heard.append(name)

    listeners = [(name, listener(name)) for name in names]
    for name, function in listeners:
        event.listen(target, name, function)
    try:
        session.execute(ADD, {"text": "a"})
        session.commit()
    finally:
        for name, function in listeners:
            event.remove(target, name, function)
    assert heard == [
        "do_orm_execute",
        "after_begin",
        "before_commit",
        "after_commit",
        "after_transaction_end",
    ]


@pytest.mark.parametrize("name", ["before_commit", "after_commit", "after_transaction_end"])
def test_who_alone_listens_hears(session, name):
    heard = []
    event.listen(session, name, lambda *arguments: heard.append(name))
    session.execute(ADD, {"text": "a"})
    session.commit()
    assert heard == [name]


def test_blocks_and_savepoints(session, engine):
    with session.begin():
        session.execute(ADD, {"text": "a"})
    with pytest.raises(exc.IntegrityError), session.begin():
        session.execute(ADD, [{"text": "b"}, {"text": "a"}])
    nested = session.begin_nested()
    session.execute(ADD, {"text": "c"})
    nested.rollback()
    session.execute(ADD, {"text": "d"})
    session.begin_nested()
    session.execute(ADD, {"text": "e"})
    session.commit()
    with engine.connect() as connection:
        assert connection.scalars(select(LINES.c.text).order_by(LINES.c.text)).all() == ["a", "d", "e"]


def test_a_commit_within_its_block_ends_it(session):
    with session.begin():
        session.execute(ADD, {"text": "a"})
        session.commit()
        with pytest.raises(exc.InvalidRequestError, match="closed transaction"):
            session.execute(HOW_MANY)


def test_what_is_no_statement_is_refused(session):
    for wrong in ("select 1", LINES.c.text, 7):
        with pytest.raises(exc.ArgumentError):
            session.execute(wrong)


def test_options_and_other_engines(session, engine, tables):
    other = create_engine(make_engine(tables).url)
    result = session.execute(HOW_MANY, bind_arguments={"bind": other}, execution_options={"mine": 1})
    assert result.context.execution_options["mine"] == 1
    session.execute(ADD, {"text": "a"})
    assert engine.pool.checkedout() == other.pool.checkedout() == 1
    session.commit()
    assert engine.pool.checkedout() == other.pool.checkedout() == 0
    assert count(engine) == 1
    other.dispose()


def test_a_connection_that_is_the_callers_stays_open(engine):
    with engine.connect() as connection, connection.begin() as transaction:
        with LazySession(connection) as session:
            session.execute(ADD, {"text": "a"})
            session.commit()
        assert not connection.closed
        transaction.rollback()
    assert count(engine) == 0


def test_threads_share_few_connections(tables):
    engine = make_engine(tables, poolclass=CountingPool, pool_size=2, max_overflow=1, pool_timeout=20)

    def work(number: int) -> int:
        with LazySession(engine) as session:
            pid = session.execute(select(func.pg_backend_pid())).scalar_one()
            session.commit()
            return pid

    with ThreadPoolExecutor(8) as threads:
        pids = list(threads.map(work, range(200)))
    assert len(pids) == 200
    assert engine.pool.checkedout() == 0
    assert engine.pool.checkedin() in (2, 3)
    assert engine.pool.waits > 0
    engine.dispose()
    assert engine.pool.checkedin() == 0


def test_the_pool_has_its_limit(engine):
    with engine.connect(), pytest.raises(exc.TimeoutError, match="timeout 1"):
        engine.connect()
    assert engine.pool.waits == 1


def test_the_pool_last_in_first_out(tables):
    engine = make_engine(tables, poolclass=CountingPool, pool_size=2, pool_use_lifo=True)
    first, second = engine.connect(), engine.connect()
    pid = second.connection.driver_connection.info.backend_pid
    first.close()
    second.close()
    with engine.connect() as connection:
        assert connection.connection.driver_connection.info.backend_pid == pid
    engine.dispose()
