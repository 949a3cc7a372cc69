"""A database of several servers: which one is used, and what follows when another takes over."""

import socket
import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, exc, text
from sqlalchemy.orm import Session

from kirsch.sql import database_url, make_engine
from kirsch.sql.connection import PROBE_TIMEOUT
from kirsch.sql.engine import Hosts, place
from kirsch.sql.errors import BUSY, answer_to
from kirsch.sql.plugin import LazySession

INSERT = text("insert into marks values (:word)")


@pytest.mark.parametrize(
    ("url", "hosts", "rest"),
    [
        ("postgresql://notes:w@a,b:5433/db", ("a", "b:5433"), ("notes", "w", "db")),
        ("postgres://a,b", ("a", "b"), (None, None, "")),
        (
            "postgresql+psycopg://u@10.0.0.1,10.0.0.2/d?connect_timeout=1",
            ("10.0.0.1", "10.0.0.2"),
            ("u", None, "d"),
        ),
        ("postgresql://u@/d?host=a&host=b", ("a", "b"), ("u", None, "d")),
    ],
)
def test_a_url_names_several_hosts(url: str, hosts: tuple[str, ...], rest: tuple[str | None, ...]):
    read = database_url(url)
    assert read.query["host"] == hosts
    assert (read.username, read.password, read.database or "") == rest
    assert place(read) == f"{','.join(hosts)}/{rest[2]}"


def test_one_host_is_told_as_before():
    assert place(database_url("postgresql://u:p@a:5433/d")) == "a:5433/d"
    assert place(database_url("postgresql:///d")) == "localhost/d"


@given(
    st.lists(
        st.tuples(st.sampled_from("abcd"), st.sampled_from(["5432", "5433", ""])), min_size=2, unique=True
    )
)
def test_the_host_that_answered_last_is_asked_first(pairs: list[tuple[str, str]]):
    given = {"host": ",".join(host for host, _ in pairs), "port": ",".join(port for _, port in pairs)}
    hosts = Hosts()
    assert hosts.ordered(given) == given | {"target_session_attrs": "primary"}
    last = pairs[-1][0], pairs[-1][1] or "5432"
    hosts.remember(*last)
    ordered = hosts.ordered(given)
    found = list(zip(ordered["host"].split(","), ordered["port"].split(","), strict=True))
    assert sorted(found) == sorted(pairs)
    assert (found[0][0], found[0][1] or "5432") == last


def test_what_the_url_asks_for_is_asked_for():
    hosts = Hosts()
    one = {"host": "a", "port": "5432"}
    assert hosts.ordered(one) == one
    assert hosts.ordered(one | {"target_session_attrs": "read-write"})["target_session_attrs"] == "primary"
    reads = {"host": "a,b", "port": "5432", "target_session_attrs": "prefer-standby"}
    assert hosts.ordered(reads)["target_session_attrs"] == "prefer-standby"


def test_a_name_that_leads_nowhere_keeps_nobody_from_the_others():
    """A cluster's name for the server that takes writes, while none does."""
    hosts = Hosts()
    given = {"host": "nowhere.invalid,127.0.0.1,127.0.0.2", "port": "5432"}
    assert hosts.answering(given)["host"] == "127.0.0.1,127.0.0.2"
    assert hosts.answering({"host": "nowhere.invalid,127.0.0.1", "port": "5432"})["host"] == "127.0.0.1"
    unknown = {"host": "nowhere.invalid", "port": "5432"}
    assert hosts.answering(unknown) == unknown


def test_a_host_that_was_silent_a_moment_ago_is_waited_for_but_briefly():
    """Until another leads each request asks all hosts, the dead one too."""
    hosts = Hosts()
    with socket.create_server(("127.0.0.1", 0)) as quiet:
        port = quiet.getsockname()[1]
        given = {"host": "127.0.0.1,127.0.0.2", "port": f"{port},{port}"}
        times = [time.monotonic()]
        for _ in range(2):
            assert hosts.answering(given)["host"] == "127.0.0.2", "its kernel refuses"
            times.append(time.monotonic())
    first, second = (after - before for before, after in pairwise(times))
    assert second < PROBE_TIMEOUT <= first


@pytest.fixture
def engine(pair: Any) -> Iterator[Engine]:
    leader, standby = pair
    credentials = leader.url.partition("@")[0]
    engine = make_engine(f"{credentials}@127.0.0.1:{standby.port},127.0.0.1:{leader.port}/notes", pool_size=2)
    yield engine
    engine.dispose()


def words(server: Any) -> list[str]:
    with server.connect() as connection:
        return [word for (word,) in connection.execute("select word from marks")]


def write(engine: Engine, word: str) -> None:
    with Session(engine) as session:
        session.execute(INSERT, {"word": word})
        session.commit()


@pytest.mark.slow
@pytest.mark.services
def test_writes_go_to_the_server_that_takes_them_and_to_its_successor(pair: Any, engine: Engine):
    leader, standby = pair
    with standby.frozen():  # it is named first, and left out
        write(engine, "one")
    assert words(leader) == ["one"]
    leader.stop()
    with pytest.raises(exc.OperationalError) as failed:
        write(engine, "two")
    assert answer_to(failed.value, repeatable=False) == BUSY, "there is nobody who takes it"
    with standby.connect() as connection:
        connection.execute("select pg_promote()")
    write(engine, "three")
    assert words(standby) == ["three"]


@pytest.mark.slow
@pytest.mark.services
def test_a_standby_that_refuses_to_write_is_given_up(pair: Any):
    """As behind a name that still leads to the server that led before."""
    standby = pair[1]
    engine = make_engine(standby.url)
    try:
        with Session(engine) as session:
            assert session.scalars(text("select count(*) from marks")).one() == 0
        with pytest.raises(exc.InternalError) as failed:
            write(engine, "one")
        assert failed.value.connection_invalidated
        assert answer_to(failed.value, repeatable=False) == BUSY
        with standby.connect() as connection:
            connection.execute("select pg_promote()")
        write(engine, "two")
    finally:
        engine.dispose()
    assert words(standby) == ["two"]


@pytest.mark.slow
@pytest.mark.services
def test_a_session_that_may_not_write_is_a_programs_error(postgres: Any):
    engine = make_engine(postgres.url)
    with LazySession(engine, read_only=True) as session, pytest.raises(exc.InternalError) as failed:
        session.execute(text("create table marks (word text)"))
    engine.dispose()
    assert answer_to(failed.value, repeatable=False) is None
