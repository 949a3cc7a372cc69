"""A database that hangs: SIGSTOP of PostgreSQL, whose kernel goes on taking connections and data."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import OperationalError
from tests.deadline import eventually

from kirsch.sql import Timeouts, make_engine
from kirsch.sql.connection import GIVEN_UP, answers

pytestmark = [pytest.mark.services, pytest.mark.slow]

THREADS = 10
# 5 s are promised; a machine that runs two test files at once may take twice that.
BOUND = 10.0


def timed(ask, *arguments):
    start = time.monotonic()
    return ask(*arguments), time.monotonic() - start


def test_every_request_is_answered_while_the_database_hangs(run, make_postgres, tmp_path):
    """Those at work, and those that find an idle connection, need a new one, or wait for one."""
    server = make_postgres().start()
    with run(server, tmp_path / "log", pool_size=4, pool_timeout=1.5) as application:
        with ThreadPoolExecutor(THREADS) as threads:
            list(threads.map(application.get, ["/count"] * 20))  # the pool is filled
            at_work = [threads.submit(timed, application.get, "/hold?seconds=30") for _ in range(2)]
            eventually(lambda: application.checked_out() == 2)
            with server.frozen():
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
        seconds = max(seconds for _, seconds in [*answers, *again, stream.result()])
        assert seconds < BOUND
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
        assert seconds < BOUND


def test_the_promise_is_kept_by_the_sum_of_the_times():
    """Whatever a request waits for; the tests here have slow machines, so their bound is another."""
    timeouts = Timeouts()
    assert timeouts.pool + GIVEN_UP <= 5  # a connection that was just used, then a statement
    assert timeouts.pool + timeouts.connect <= 5  # a place in the pool, then a connection that is not made
    assert GIVEN_UP <= 5  # a connection that is asked first, for it was idle


def test_after_a_ping_that_hangs_no_connection_is_waited_for(make_postgres, monkeypatch):
    """An application that nobody has asked for a while: its time would be up with the second of these."""
    monkeypatch.setattr("kirsch.sql.engine.PING_AFTER_IDLE", 0.0)
    server = make_postgres().start()
    engine = make_engine(server.url)
    with engine.connect() as connection:
        connection.execute(text("select 1"))
    opened = []
    event.listen(engine, "do_connect", lambda *arguments: opened.append(arguments), insert=True)
    with server.frozen(), pytest.raises(OperationalError, match=r"has not answered for 2\.5 s"):
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
        assert seconds < BOUND
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


def test_what_answers(postgres, make_postgres):
    assert answers(("127.0.0.1", postgres.port))
    server = make_postgres().start()
    with server.frozen():
        assert not answers(("127.0.0.1", server.port), timeout=0.2)
    server.stop()
    assert answers(("127.0.0.1", server.port))  # its kernel refuses, which is an answer
