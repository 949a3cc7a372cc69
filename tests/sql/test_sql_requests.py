"""What becomes of a request's session: CherryPy on a real socket, PostgreSQL, a pool of ONE connection."""

import http.client
import itertools
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.deadline import eventually

pytestmark = pytest.mark.services

words = (f"word-{number}" for number in itertools.count())


@pytest.fixture
def word() -> str:
    return next(words)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("add", 200),
        ("generator", 200),
        ("redirect", 303),
        ("internal_redirect", 200),
        ("rows", 200),
        ("unflushed", 200),
    ],
)
def test_a_handler_that_ends_well_commits(application, word, path, status):
    assert application.post(f"/{path}?word={word}").status == status
    assert application.has(word)
    assert application.checked_out() == 0


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("runtime_error", 500),
        ("conflict", 409),
        ("status_conflict", 409),
        ("generator_conflict", 409),
    ],
)
def test_a_handler_that_fails_commits_nothing(application, word, path, status):
    assert application.post(f"/{path}?word={word}").status == status
    assert not application.has(word)
    assert application.checked_out() == 0


def test_the_target_of_a_redirect_sees_what_was_committed(application, word):
    before = int(application.get("/count").text)
    assert application.post(f"/internal_redirect?word={word}").text == str(before + 1)


def test_a_commit_that_fails_is_an_error_of_the_request(application, word):
    application.post(f"/add?word={word}")
    assert application.post(f"/unflushed?word={word}").status == 500
    assert application.post(f"/unflushed_redirect?word={word}").status == 500
    assert application.post(f"/caught?word={word}").status == 409
    assert application.checked_out() == 0


@pytest.mark.slow
@pytest.mark.parametrize("path", ["dies_at_commit", "dies_at_redirect"])
def test_a_commit_that_finds_no_database_is_503(run, postgres, tmp_path, word, path):
    with run(postgres, tmp_path / "log", pool_size=2) as application:
        answer = application.post(f"/{path}?word={word}")
        assert answer.status == 503
        assert answer.headers["Retry-After"] == "2"
        assert answer.headers["Location"] is None
        assert not application.has(word)
        assert application.post(f"/add?word={word}").status == 200


def test_a_database_lost_amid_a_request(run, postgres, tmp_path, word):
    with run(postgres, tmp_path / "log", pool_size=2) as application:
        assert application.post(f"/lost_on_the_way?word={word}").status == 503
        assert application.post(f"/conflict_when_dead?word={word}").status == 409
        assert application.checked_out() == 0
        assert application.post(f"/add?word={word}").status == 200


def test_a_session_that_is_not_used_takes_no_connection(application):
    assert application.get("/nothing").text == "0"


def test_streamed_responses_in_turn_with_a_pool_of_one(application):
    expected = "".join(f"{number}\n" for number in range(1, 1001))
    for _ in range(50):
        assert application.get("/rows").text == expected


def test_streamed_responses_of_many_threads_share_the_pool_of_one(application):
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: application.get("/rows"), range(32)))
    assert {(answer.status, answer.text.count("\n")) for answer in answers} == {(200, 1000)}


def test_threads_write_through_the_pool_of_one(application):
    mine = [next(words) for _ in range(40)]
    paths = [f"/{'add' if number % 2 else 'conflict'}?word={word}" for number, word in enumerate(mine)]
    with ThreadPoolExecutor(8) as threads:
        statuses = list(threads.map(lambda path: application.post(path).status, paths))
    assert statuses == [409, 200] * 20
    assert [application.has(word) for word in mine] == [False, True] * 20


@pytest.mark.parametrize("read", [0, 1, 50_000])
@pytest.mark.parametrize("path", ["/endless", "/endless?finish=yes"])
def test_a_client_that_hangs_up_gives_the_connection_back(application, path, read):
    application.hang_up(path, read)
    eventually(lambda: application.checked_out() == 0, what="the connection")
    assert application.get("/rows").status == 200


def test_head_of_a_streamed_response_gives_the_connection_back(application, word):
    assert application.get(f"/rows?word={word}", method="HEAD").text == ""
    assert application.has(word)
    assert application.checked_out() == 0


def test_a_stream_that_fails_is_cut_and_gives_the_connection_back(application):
    with pytest.raises(http.client.IncompleteRead):
        application.get("/stream_fails")
    assert application.checked_out() == 0


def test_a_stream_cannot_write(application, word):
    assert application.post(f"/stream_writes?word={word}").text == "first\nReadOnlySqlTransaction"
    assert not application.has(word)
    # The pool's connection is as it was: the next request writes.
    assert application.post(f"/add?word={word}").status == 200


def test_a_body_of_known_length_is_streamed_too(application):
    assert application.get("/sized").text == "0007"
    # The client has the last byte a moment before the server has seen that there are no more.
    eventually(lambda: application.checked_out() == 0, what="the connection")


def test_a_background_task_commits_or_rolls_back(application, word):
    assert application.post(f"/background?word={word}").text == "rolled back"
    assert application.has(word)
    assert not application.has(f"{word}-failed")
    assert application.checked_out() == 0


def test_a_connection_that_the_server_ended_is_replaced(application, postgres):
    pid = int(application.get("/pid").text)
    assert int(application.get("/pid").text) == pid
    with postgres.connect() as connection:
        connection.execute("select pg_terminate_backend(%s, 5000)", [pid])
    assert int(application.get("/pid").text) != pid


@pytest.mark.slow
def test_postgresql_is_restarted_between_two_requests(run, make_postgres, tmp_path, word):
    server = make_postgres().start()
    with run(server, tmp_path / "log") as application:
        application.get("/count")
        server.restart()
        assert application.post(f"/add?word={word}").status == 200
        assert application.has(word)

        server.stop()
        answer = application.get("/count")
        assert (answer.status, answer.headers["Retry-After"]) == (503, "2")
        server.start()
        assert application.get("/count").text == "1"


@pytest.mark.slow
def test_who_waits_for_a_connection_in_vain_gets_503(run, postgres, tmp_path):
    with (
        run(postgres, tmp_path / "log", pool_timeout=0.5) as application,
        ThreadPoolExecutor(1) as threads,
    ):
        held = threads.submit(application.get, "/hold?seconds=3")
        eventually(lambda: application.checked_out() == 1)
        assert application.get("/count").status == 503
        assert held.result().status == 200


def test_a_get_that_only_selects_has_no_transaction_around_it(application):
    assert application.get("/selects").text == "False False"


@pytest.mark.parametrize("what", ["text", "text_in_order_by", "function", "subclass", "isolation", "cursor"])
def test_a_select_that_may_do_something_begins_one(application, what):
    assert application.get(f"/selects?what={what}").text == "True False"


@pytest.mark.parametrize("what", ["lock", "cte"])
def test_a_select_that_writes_or_locks_is_for_other_methods(application, what):
    assert application.get(f"/selects?what={what}").status == 500
    assert application.post(f"/selects?what={what}").text == "True False"


def test_another_method_begins_one_for_each_select(application):
    assert application.post("/selects").text == "True False"


WAYS = ("orm", "core", "bulk", "text", "savepoint", "view", "function", "subclass", "order_by", "raw")


@pytest.mark.parametrize("how", WAYS)
def test_a_write_after_a_select_is_undone_by_an_error(application, word, how):
    assert application.post(f"/select_then_write?word={word}&how={how}&status=409").status == 409
    assert not application.has(word)
    assert application.post(f"/select_then_write?word={word}&how={how}&status=200").status == 200
    assert application.has(word)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("first", ["", "&first=yes"])
@pytest.mark.parametrize("how", WAYS)
def test_a_safe_method_cannot_write(application, word, how, first, method):
    """However the statement is written, alone and after a select, answered well or with an error."""
    for status in (200, 409):
        answer = application.get(f"/select_then_write?word={word}&how={how}&status={status}{first}", method)
        assert answer.status == 500
    assert not application.has(word)
    assert application.checked_out() == 0
    # The pool's connection is as it was.
    assert application.post(f"/add?word={word}").status == 200


def test_a_safe_method_that_writes_is_told_how_in_the_log(application):
    application.get("/add?word=x")
    assert "GET /add tried to write, which GET cannot: use POST, or set" in application.log.read_text()


def test_a_session_that_was_set_to_write_reads_again_later(application, word):
    """A handler that changes its connection's default changes it for itself only."""
    assert application.get("/unguard").text == "off"
    assert application.get(f"/add?word={word}").status == 500
    assert not application.has(word)


def test_a_path_may_write_with_a_safe_method(application, word):
    assert application.get(f"/get_writes?word={word}").status == 200
    assert application.has(word)


def test_a_path_may_be_read_only_with_any_method(application, word):
    assert application.post(f"/post_reads?word={word}").status == 500
    assert not application.has(word)


def test_autocommit_that_is_asked_for_writes(application, word):
    assert application.post(f"/autocommit?word={word}").status == 409
    assert application.has(word)
    assert application.get(f"/select_then_write?word={word}-2&how=text&status=200").status == 500


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_safe_method_cannot_write_in_autocommit_either(application, word, method):
    """HTTPError(409) would have come too late to undo it."""
    assert application.get(f"/autocommit?word={word}", method).status == 500
    assert not application.has(word)
    assert application.post(f"/autocommit?word={word}").status == 409
    assert application.has(word)


@pytest.mark.parametrize("path", ["swallowed", "swallowed_redirect", "swallowed_stream"])
def test_a_swallowed_error_is_not_answered_well(application, word, path):
    """PostgreSQL answers COMMIT of a failed transaction with ROLLBACK, and no error."""
    answer = application.post(f"/{path}?word={word}")
    assert answer.status == 500
    assert answer.headers["Location"] is None
    assert not application.has(word)
    assert application.checked_out() == 0


def test_a_swallowed_error_in_a_savepoint_harms_nothing(application, word):
    assert application.post(f"/swallowed_savepoint?word={word}").status == 200
    assert application.has(word)


def test_a_swallowed_error_that_waiting_mends_is_503(application, postgres, word):
    with postgres.connect(autocommit=False) as other:
        other.execute("lock table words in access exclusive mode")
        answer = application.post(f"/swallowed_nowait?word={word}")
    assert (answer.status, answer.headers["Retry-After"]) == (503, "2")


@pytest.mark.parametrize(
    ("state", "status", "retry"),
    [
        ("08006", 503, "2"),
        ("40001", 503, "2"),
        ("40P01", 503, "2"),
        ("53300", 503, "2"),
        ("55P03", 503, "2"),
        ("57P01", 503, "2"),
        ("57P04", 500, None),
        ("57014", 504, None),
        ("58030", 500, None),
        ("55006", 500, None),
        ("23505", 500, None),
        ("42P01", 500, None),
        ("XX000", 500, None),
        ("40003", 500, None),
    ],
)
def test_the_answer_to_an_error_goes_by_its_sqlstate(application, state, status, retry):
    answer = application.post(f"/raises?state={state}")
    assert (answer.status, answer.headers["Retry-After"]) == (status, retry)


def test_too_many_parameters_are_no_reason_to_try_again(application):
    """libpq gives this error no SQLSTATE, psycopg makes it an OperationalError as for a lost connection."""
    assert application.post("/too_many_parameters").status == 500


@pytest.mark.slow
def test_a_statement_that_takes_too_long_is_504(run, postgres, tmp_path):
    with run(postgres, tmp_path / "log", statement=0.5) as application:
        answer = application.get("/hold?seconds=20")
        assert answer.status == 504
        assert "took too long" in answer.text
        assert answer.headers["Retry-After"] is None
        assert application.get("/count").status == 200


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "path", "headers", "status", "retry", "words"),
    [
        ("POST", "/add", {}, 500, None, "Look before you send it again"),
        ("PUT", "/add", {}, 503, "2", "Sending this request again is safe"),
        ("POST", "/add", {"Idempotency-Key": "once"}, 503, "2", "Sending this request again is safe"),
        # Nothing keeps the key there.
        ("POST", "/add_keyless", {"Idempotency-Key": "once"}, 500, None, "Look before you send it again"),
    ],
)
def test_a_commit_of_unknown_outcome(
    run, make_postgres, tmp_path, word, method, path, headers, status, retry, words
):
    server = make_postgres().start()
    with run(server, tmp_path / "log") as application, ThreadPoolExecutor(1) as threads:
        application.post("/slow_commits")
        asked = threads.submit(application.get, f"{path}?word={word}", method, headers)
        sleeps = "select pid from pg_stat_activity where query = 'COMMIT' and wait_event = 'PgSleep'"
        with server.connect() as other:
            (pid,) = eventually(lambda: other.execute(sleeps).fetchone(), what="the commit")
            other.execute("select pg_terminate_backend(%s)", [pid])
        answer = asked.result()
        assert (answer.status, answer.headers["Retry-After"]) == (status, retry)
        assert "may or may not be made" in answer.text
        assert words in answer.text


@pytest.mark.parametrize("priority", [81, 100, 999])
def test_a_tool_that_fails_after_the_handler_undoes_its_changes(application, word, priority):
    assert application.post(f"/bad_tool/{priority}?word={word}").status == 500
    assert not application.has(word)


def test_a_hook_that_fails_after_the_commit_comes_too_late(application, word):
    """The client is told of an error, and the change is made, as docs/sql.md says."""
    assert application.post(f"/bad_hook?word={word}").status == 500
    assert application.has(word)
    assert application.checked_out() == 0


def test_the_next_request_gets_a_connection_as_it_was(application, word):
    application.get("/selects")
    assert application.post(f"/conflict?word={word}").status == 409
    assert not application.has(word)


def test_a_request_says_which_database_it_uses(application, postgres):
    assert application.get("/which").text == f"{postgres.database} "
    assert application.get("/which_other").text == "postgres postgres"
    assert application.get("/which_wrong").status == 500
    assert "nobody answers 'bind-session nowhere'" in application.log.read_text()


@pytest.mark.slow
def test_the_pools_figures(run, postgres, tmp_path):
    with run(postgres, tmp_path / "log") as application, ThreadPoolExecutor(2) as threads:
        assert application.get("/figures").text == "size 1 checked_out 0 overflow 0 waits_total 0"
        held = threads.submit(application.get, "/hold?seconds=1")
        eventually(lambda: application.checked_out() == 1)
        assert application.get("/count").status == 200
        assert held.result().status == 200
        assert application.get("/figures").text == "size 1 checked_out 0 overflow 0 waits_total 1"
