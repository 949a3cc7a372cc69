"""A database that hangs: SIGSTOP of PostgreSQL, whose kernel goes on taking connections and data."""

import socket
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import OperationalError
from tests.deadline import eventually

from kirsch.sql import Timeouts, make_engine
from kirsch.sql.connection import GIVEN_UP, PROBE_TIMEOUT, silent

pytestmark = [pytest.mark.services, pytest.mark.slow]

THREADS = 10
# Seconds. The times of kirsch.sql add up to less (test_the_promise_is_kept_by_the_sum_of_the_times).
PROMISED = 5.0


def timed(ask, *arguments):
    start = time.monotonic()
    return ask(*arguments), time.monotonic() - start


@dataclass
class Database:
    """Servers, of which the first takes writes, and the URL that names them all."""

    servers: Sequence[Any]

    @property
    def url(self):
        if len(self.servers) == 1:
            return self.servers[0].url
        credentials = self.servers[0].url.partition("@")[0]
        return f"{credentials}@{','.join(f'127.0.0.1:{server.port}' for server in self.servers)}/notes"

    @contextmanager
    def frozen(self):
        with ExitStack() as stack:
            for server in self.servers:
                stack.enter_context(server.frozen())
            yield


@pytest.fixture(params=["one server", pytest.param("two servers", marks=pytest.mark.soak)])
def database(request, make_postgres):
    if request.param == "one server":
        return Database([make_postgres().start()])
    return Database(request.getfixturevalue("pair"))


def test_every_request_is_answered_while_the_database_hangs(run, database, tmp_path):
    """Those at work, and those that find an idle connection, need a new one, or wait for one."""
    with run(database, tmp_path / "log", pool_size=4, pool_timeout=1.5) as application:
        with ThreadPoolExecutor(THREADS) as threads:
            list(threads.map(application.get, ["/count"] * 20))  # the pool is filled

            def hold():
                return application.get("/hold?seconds=30"), time.monotonic()

            at_work = [threads.submit(hold) for _ in range(2)]
            eventually(lambda: application.checked_out() == 2)
            frozen_at = time.monotonic()
            with database.frozen():
                kinds = ["/count", "/pid"]
                asked = [threads.submit(timed, application.get, path) for path in kinds]
                asked += [
                    threads.submit(timed, application.post, f"/add?word=frozen-{number}")
                    for number in range(5)
                ]
                stream = threads.submit(timed, application.get, "/rows")
                answers = [request.result(30) for request in at_work + asked]
                again = [timed(application.get, "/count"), timed(application.post, "/add?word=again")]
        assert {answer.status for answer, _ in answers + again} == {503}
        assert {answer.headers["Retry-After"] for answer, _ in answers + again} == {"2"}
        # A stream has been answered before it asks the database: CherryPy can but end it.
        assert stream.result()[0].status in (500, 503)
        # Those at work waited for their statement before the database hung: that time is not counted.
        seconds = [end - frozen_at for _, end in answers[: len(at_work)]]
        seconds += [seconds for _, seconds in [*answers[len(at_work) :], *again, stream.result()]]
        print(f"answered after {min(seconds):.2f} to {max(seconds):.2f} s")
        assert max(seconds) < PROMISED
        eventually(lambda: application.get("/count").status == 200, what="the database")
        assert application.checked_out() == 0
        assert application.get("/count").text == "0"


def test_a_commit_that_hangs_has_an_unknown_outcome(run, make_postgres, tmp_path):
    server = make_postgres().start()
    with run(server, tmp_path / "log", pool_size=4) as application, ThreadPoolExecutor(1) as threads:
        application.post("/slow_commits")
        asked = threads.submit(application.post, "/add?word=hung")
        sleeps = "select 1 from pg_stat_activity where query = 'COMMIT' and wait_event = 'PgSleep'"
        with server.connect() as other:
            eventually(lambda: other.execute(sleeps).fetchone(), what="the commit")
        with server.frozen():
            answer, seconds = timed(asked.result)
        assert (answer.status, answer.headers["Retry-After"]) == (500, None)
        assert "may or may not be made" in answer.text
        assert seconds < PROMISED


def test_the_promise_is_kept_by_the_sum_of_the_times():
    """The sum of what a request waits for."""
    timeouts = Timeouts()
    ways = {
        "a connection that was just used, and its statement or commit": timeouts.pool + GIVEN_UP,
        "a connection that is asked first, for it was idle": timeouts.pool + GIVEN_UP,
        "a new connection to the only address": timeouts.pool + timeouts.connect,
        "several addresses that hang": timeouts.pool + PROBE_TIMEOUT,
        "several addresses, and one that hangs once it was probed": timeouts.pool
        + PROBE_TIMEOUT
        + timeouts.connect,
    }
    assert {way: seconds for way, seconds in ways.items() if seconds >= PROMISED} == {}
    assert timeouts.pool + GIVEN_UP < PROMISED - 1, "room for a machine that has much to do"


def test_after_a_ping_that_hangs_no_connection_is_waited_for(make_postgres, monkeypatch):
    """An application that nobody has asked for a while: its time would be up with the second of these."""
    monkeypatch.setattr("kirsch.sql.engine.PING_AFTER_IDLE", 0.0)
    server = make_postgres().start()
    engine = make_engine(server.url)
    with engine.connect() as connection:
        connection.execute(text("select 1"))
    opened = []
    event.listen(engine, "do_connect", lambda *arguments: opened.append(arguments), insert=True)
    with server.frozen(), pytest.raises(OperationalError, match=r"has not answered for 2 s"):
        engine.connect()
    assert opened == []
    with engine.connect() as connection:  # and then it goes on
        assert connection.execute(text("select 1")).scalar_one() == 1
    engine.dispose()


def test_a_slow_statement_of_a_database_that_answers_is_waited_for(application):
    answer, seconds = timed(application.get, "/hold?seconds=3.5")
    assert answer.status == 200
    assert seconds > 3.5


def test_a_process_of_the_server_that_is_stuck_is_given_up(run, make_postgres, tmp_path):
    """The server answers others, and this one's statement_timeout does not run."""
    server = make_postgres().start()
    with run(server, tmp_path / "log", statement=1.5) as application, ThreadPoolExecutor(1) as threads:
        pid = int(application.get("/pid").text)
        asked = threads.submit(timed, application.get, "/hold?seconds=60")
        sleeps = "select 1 from pg_stat_activity where wait_event = 'PgSleep'"
        with server.connect() as other:
            eventually(lambda: other.execute(sleeps).fetchone(), what="the statement")
        with server.frozen(pid):
            answer, seconds = asked.result(30)
        assert answer.status == 503
        assert seconds < PROMISED
        assert application.get("/count").status == 200


def test_a_connection_that_waits_for_notifications_is_left_alone(postgres):
    engine = make_engine(postgres.url, Timeouts(statement=0.5))
    with engine.connect() as connection:
        connection.execute(text("listen here"))
        connection.commit()
        driver = connection.connection.driver_connection
        assert list(driver.notifies(timeout=2.5)) == []
        assert connection.execute(text("select 1")).scalar_one() == 1
    engine.dispose()


def test_who_is_silent(postgres, make_postgres, tmp_path):
    server = make_postgres().start()
    here, there = ("127.0.0.1", postgres.port), ("127.0.0.1", server.port)
    assert silent({here, there}) == set()
    with server.frozen():
        assert silent({here, there, ("::1", server.port)}, timeout=3) == {there}
    server.stop()
    assert silent({here, there}) == set()  # its kernel refuses, which is an answer
    assert silent({(str(tmp_path), server.port)}) == set()  # no server has made its socket
    assert silent({("/" + "x" * 200, 5432), ("no number", 5432)}) == set()  # nothing is known


def test_servers_that_are_there_and_silent_are_found_without_postgresql():
    """A listener that takes no connections in, one that says nothing, and one that hangs up."""
    with ExitStack() as stack:
        full, quiet, rude = (stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(3))
        full.listen(0)
        stack.enter_context(socket.create_connection(full.getsockname()))
        threading.Thread(target=lambda: rude.accept()[0].close(), daemon=True).start()
        places = {server.getsockname() for server in (full, quiet, rude)}
        assert silent(places, timeout=3) == places - {rude.getsockname()}
