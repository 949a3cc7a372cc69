"""What becomes of a request's session: CherryPy on a real socket, PostgreSQL, a pool of ONE connection."""

import http.client
import itertools
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.deadline import eventually
from tests.port import free_port

pytestmark = pytest.mark.services

words = (f"word-{number}" for number in itertools.count())


@dataclass(frozen=True)
class Answer:
    status: int
    headers: http.client.HTTPMessage
    text: str


@dataclass
class Application:
    port: int
    postgres: object
    log: Path

    def get(self, path: str, method: str = "GET") -> Answer:
        """One request; redirects are not followed."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path)
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read().decode())
        finally:
            connection.close()

    def hang_up(self, path: str, read: int) -> None:
        """Ask for a response, read some bytes of it and reset the connection."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as sock:
            sock.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            while read > 0:
                read -= len(sock.recv(read))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def has(self, word: str) -> bool:
        with self.postgres.connect() as connection:
            return connection.execute("select 1 from words where text = %s", [word]).fetchone() is not None

    def checked_out(self) -> int:
        return int(self.get("/pool").text)


@pytest.fixture(scope="module")
def run() -> Callable[..., AbstractContextManager[Application]]:
    """`with run(postgres, log, pool_size, pool_timeout) as application`: in a process of its own."""

    @contextmanager
    def run(postgres, log: Path, pool_size: int = 1, pool_timeout: float = 30) -> Iterator[Application]:
        application = Application(free_port(), postgres, log)
        script = Path(__file__).with_name("sql_application.py")
        arguments = (postgres.url, application.port, pool_size, pool_timeout)
        with log.open("wb") as output:
            argv = [sys.executable, str(script), *map(str, arguments)]
            process = subprocess.Popen(argv, stdout=output, stderr=output)

        def listens() -> bool:
            assert process.poll() is None, log.read_text()
            try:
                return application.get("/pool").status == 200
            except OSError:
                return False

        try:
            eventually(listens, what=f"the application ({log})")
            yield application
        finally:
            process.terminate()
            process.wait(20)

    return run


@pytest.fixture(scope="module")
def application(run, postgres, tmp_path_factory) -> Iterator[Application]:
    with run(postgres, tmp_path_factory.mktemp("application") / "log") as application:
        yield application


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
    assert application.get(f"/{path}?word={word}").status == status
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
    assert application.get(f"/{path}?word={word}").status == status
    assert not application.has(word)
    assert application.checked_out() == 0


def test_the_target_of_a_redirect_sees_what_was_committed(application, word):
    before = int(application.get("/count").text)
    assert application.get(f"/internal_redirect?word={word}").text == str(before + 1)


def test_a_commit_that_fails_is_an_error_of_the_request(application, word):
    application.get(f"/add?word={word}")
    assert application.get(f"/unflushed?word={word}").status == 500
    assert application.get(f"/unflushed_redirect?word={word}").status == 500
    assert application.get(f"/caught?word={word}").status == 409
    assert application.checked_out() == 0


@pytest.mark.parametrize("path", ["dies_at_commit", "dies_at_redirect"])
def test_a_commit_that_finds_no_database_is_503(run, postgres, tmp_path, word, path):
    with run(postgres, tmp_path / "log", pool_size=2) as application:
        answer = application.get(f"/{path}?word={word}")
        assert answer.status == 503
        assert answer.headers["Retry-After"] == "2"
        assert answer.headers["Location"] is None
        assert not application.has(word)
        assert application.get(f"/add?word={word}").status == 200


def test_a_database_lost_amid_a_request(run, postgres, tmp_path, word):
    with run(postgres, tmp_path / "log", pool_size=2) as application:
        assert application.get(f"/lost_on_the_way?word={word}").status == 503
        assert application.get(f"/conflict_when_dead?word={word}").status == 409
        assert application.checked_out() == 0
        assert application.get(f"/add?word={word}").status == 200


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
        statuses = list(threads.map(lambda path: application.get(path).status, paths))
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
    assert application.get(f"/stream_writes?word={word}").text == "first\nReadOnlySqlTransaction"
    assert not application.has(word)
    # The pool's connection is as it was: the next request writes.
    assert application.get(f"/add?word={word}").status == 200


def test_a_body_of_known_length_is_streamed_too(application):
    assert application.get("/sized").text == "0007"
    # The client has the last byte a moment before the server has seen that there are no more.
    eventually(lambda: application.checked_out() == 0, what="the connection")


def test_a_background_task_commits_or_rolls_back(application, word):
    assert application.get(f"/background?word={word}").text == "rolled back"
    assert application.has(word)
    assert not application.has(f"{word}-failed")
    assert application.checked_out() == 0


def test_a_connection_that_the_server_ended_is_replaced(application, postgres):
    pid = int(application.get("/pid").text)
    assert int(application.get("/pid").text) == pid
    with postgres.connect() as connection:
        connection.execute("select pg_terminate_backend(%s, 5000)", [pid])
    assert int(application.get("/pid").text) != pid


def test_postgresql_is_restarted_between_two_requests(run, make_postgres, tmp_path, word):
    server = make_postgres().start()
    with run(server, tmp_path / "log") as application:
        application.get("/count")
        server.restart()
        assert application.get(f"/add?word={word}").status == 200
        assert application.has(word)

        server.stop()
        answer = application.get("/count")
        assert (answer.status, answer.headers["Retry-After"]) == (503, "2")
        server.start()
        assert application.get("/count").text == "1"


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


def test_a_select_that_may_do_something_begins_one(application):
    for what in ("text", "lock", "function", "cte", "isolation", "cursor"):
        assert application.get(f"/selects?what={what}").text == "True False", what


def test_another_method_begins_one_for_each_select(application):
    assert application.get("/selects", method="POST").text == "True False"


@pytest.mark.parametrize("how", ["orm", "core", "bulk", "text", "savepoint"])
def test_a_write_after_a_select_is_undone_by_an_error(application, word, how):
    """The select ran on its own; what follows is in a transaction, even in a GET."""
    assert application.get(f"/select_then_write?word={word}&how={how}&status=409").status == 409
    assert not application.has(word)
    assert application.get(f"/select_then_write?word={word}&how={how}&status=200").status == 200
    assert application.has(word)


def test_the_next_request_gets_a_connection_as_it_was(application, word):
    application.get("/selects")
    assert application.get(f"/conflict?word={word}", method="POST").status == 409
    assert not application.has(word)


def test_the_pools_figures(run, postgres, tmp_path):
    with run(postgres, tmp_path / "log") as application, ThreadPoolExecutor(2) as threads:
        assert application.get("/figures").text == "size 1 checked_out 0 overflow 0 waits_total 0"
        held = threads.submit(application.get, "/hold?seconds=1")
        eventually(lambda: application.checked_out() == 1)
        assert application.get("/count").status == 200
        assert held.result().status == 200
        assert application.get("/figures").text == "size 1 checked_out 0 overflow 0 waits_total 1"
