"""`tools.idempotency`: a POST that is sent twice is carried out once."""

import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import count
from types import SimpleNamespace
from urllib.parse import quote

import pytest
from tests.deadline import eventually

pytestmark = pytest.mark.services

numbers = count()


@pytest.fixture
def key() -> dict[str, str]:
    return {"Idempotency-Key": f'"key-{next(numbers)}"'}


@pytest.fixture(scope="module")
def application(run, postgres, tmp_path_factory):
    with run(postgres, tmp_path_factory.mktemp("application") / "log", pool_size=10) as application:
        yield application


def lines(postgres, name: str) -> int:
    with postgres.connect() as connection:
        return connection.execute("select count(*) from orders where name = %s", [name]).fetchone()[0]


def test_the_same_request_gets_the_same_answer_and_is_done_once(application, postgres, key):
    body = json.dumps({"name": "once"})
    first = application.post("/order", key, body)
    second = application.post("/order", key, body)
    assert first.status == second.status == 201
    assert first.text == second.text
    assert first.headers["Location"] == second.headers["Location"] is not None
    assert first.headers["Content-Type"] == second.headers["Content-Type"]
    assert lines(postgres, "once") == 1


def test_without_a_key_each_request_is_done(application, postgres):
    for _ in range(2):
        assert application.post("/order", body=json.dumps({"name": "twice"})).status == 201
    assert lines(postgres, "twice") == 2


@pytest.mark.parametrize(
    ("path", "body"),
    [("/order", '{"name": "another"}'), ("/order?also=this", '{"name": "first"}')],
)
def test_another_request_with_the_key_is_refused(application, postgres, key, path, body):
    assert application.post("/order", key, '{"name": "first"}').status == 201
    answer = application.post(path, key, body)
    assert answer.status == 422
    assert "use a new key" in answer.text
    assert lines(postgres, "another") == 0


def test_users_do_not_see_each_others_answers(application, key):
    body = '{"name": "user"}'
    one = application.post("/order", key | {"Authorization": "Bearer one"}, body)
    other = application.post("/order", key | {"Authorization": "Bearer two"}, body)
    assert one.status == other.status == 201
    assert one.text != other.text


def test_many_at_once_are_done_once(application, postgres, key):
    body = '{"name": "at once"}'
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: application.post("/order", key, body), range(24)))
    assert {answer.status for answer in answers} <= {201, 409}
    assert len({answer.text for answer in answers if answer.status == 201}) == 1
    assert {answer.headers["Retry-After"] for answer in answers if answer.status == 409} <= {"1"}
    assert lines(postgres, "at once") == 1
    assert application.post("/order", key, body).status == 201


def test_one_that_comes_while_the_first_is_at_work_is_told_so(application, postgres, key):
    body = '{"name": "slow"}'
    with ThreadPoolExecutor(1) as threads, postgres.connect(autocommit=False) as other:
        other.execute("lock table orders in access exclusive mode")
        first = threads.submit(application.post, "/order", key, body)
        waits = "select 1 from pg_stat_activity where wait_event_type = 'Lock'"
        with postgres.connect() as third:
            eventually(lambda: third.execute(waits).fetchone(), what="the first")
        busy = application.post("/order", key, body)
        assert (busy.status, busy.headers["Retry-After"]) == (409, "1")
        other.rollback()
        assert first.result().status == 201
    assert application.post("/order", key, body).text == first.result().text
    assert lines(postgres, "slow") == 1


@pytest.mark.parametrize("fault", ["status", "error", "exception", "late"])
def test_a_request_that_failed_may_be_sent_again(application, postgres, key, fault):
    assert application.post(f"/order?fault={fault}", key, '{"name": "failed"}').status >= 400
    assert application.post(f"/order?fault={fault}", key, '{"name": "failed"}').status >= 400
    assert lines(postgres, "failed") == 0
    assert application.post("/order", key, json.dumps({"name": f"mended {fault}"})).status == 201
    assert lines(postgres, f"mended {fault}") == 1


def test_a_connection_lost_before_the_commit_leaves_no_key(application, postgres, key):
    assert application.post("/order?fault=killed", key, '{"name": "killed"}').status == 503
    assert lines(postgres, "killed") == 0
    assert application.post("/order", key, '{"name": "again"}').status == 201


class Wire:
    """TCP to a server: `lose` has the next COMMIT carried out, and its answer lost with the connection."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.lose = threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                server = socket.create_connection(("127.0.0.1", self.port))
                lost = threading.Event()
                threading.Thread(target=self.ask, args=(client, server, lost), daemon=True).start()
                threading.Thread(target=self.answer, args=(server, client, lost), daemon=True).start()

    def ask(self, client: socket.socket, server: socket.socket, lost: threading.Event) -> None:
        with suppress(OSError):
            while data := client.recv(65536):
                if b"COMMIT" in data and self.lose.is_set():
                    self.lose.clear()
                    lost.set()
                server.sendall(data)
            server.shutdown(socket.SHUT_WR)

    def answer(self, server: socket.socket, client: socket.socket, lost: threading.Event) -> None:
        with suppress(OSError), client, server:
            while (data := server.recv(65536)) and not lost.is_set():
                client.sendall(data)
            # Closed alone it would stay open while the other thread reads from it.
            client.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def wire(postgres) -> Iterator[Wire]:
    wire = Wire(postgres.port)
    yield wire
    wire.listener.close()


@pytest.mark.slow
@pytest.mark.parametrize("keyed", [True, False])
def test_after_a_commit_whose_answer_was_lost_the_key_finds_it(run, postgres, wire, tmp_path, key, keyed):
    """The change was made, and who asks again with the key is answered as the first time."""
    url = postgres.url.replace(str(postgres.port), str(wire.listener.getsockname()[1]))
    name = f"lost {keyed}"
    body, headers = json.dumps({"name": name}), key if keyed else {}
    with run(SimpleNamespace(url=url), tmp_path / "log") as application:
        assert application.post("/order", {}, body).status == 201
        wire.lose.set()
        first = application.post("/order", headers, body)
        assert "may or may not be made" in first.text
        assert (first.status, first.headers["Retry-After"]) == ((503, "2") if keyed else (500, None))
        assert lines(postgres, name) == 2
        if keyed:
            again = application.post("/order", headers, body)
            assert again.status == 201
            assert json.loads(again.text)["name"] == name
            assert again.headers["Location"] == f"/orders/{json.loads(again.text)['number']}"
            assert lines(postgres, name) == 2


def test_a_redirect_is_an_answer_too(application, postgres, key):
    answers = [application.post("/order?fault=redirect", key, '{"name": "moved"}') for _ in range(2)]
    assert [answer.status for answer in answers] == [303, 303]
    assert answers[0].headers["Location"] == answers[1].headers["Location"]
    assert lines(postgres, "moved") == 1


def test_forms_are_read_as_ever(application, postgres, key):
    headers = key | {"Content-Type": "application/x-www-form-urlencoded"}
    name = "Zoë & co"
    answers = [application.post("/order_form", headers, f"name={quote(name)}") for _ in range(2)]
    assert [answer.status for answer in answers] == [200, 200]
    assert lines(postgres, name) == 1
    assert application.post("/order_form", headers, "name=other").status == 422


def test_answers_are_compressed_for_who_asked(application, key):
    """The kept answer is the one before compression."""
    plain = application.post("/order", key, '{"name": "gzip"}')
    accepting = key | {"Accept-Encoding": "gzip"}
    packed = application.get("/order", "POST", accepting, '{"name": "gzip"}', raw=True)
    assert packed.headers["Content-Encoding"] == "gzip"
    assert plain.headers["Content-Encoding"] is None
    assert packed.status == 201


@pytest.mark.parametrize(
    ("path", "headers", "body", "status"),
    [
        ("/order_required", {}, "{}", 400),
        ("/order", {"Idempotency-Key": "x" * 256}, "{}", 400),
        ("/order", {"Idempotency-Key": "large"}, "x" * 2000, 413),
        ("/order_streamed", {"Idempotency-Key": "streamed"}, "{}", 500),
        ("/order_sessionless", {"Idempotency-Key": "sessionless"}, "{}", 500),
    ],
)
def test_what_is_refused(application, path, headers, body, status):
    assert application.post(path, headers, body).status == status


def test_keys_are_removed_after_their_time(application, postgres, key):
    application.post("/order", key, '{"name": "old"}')
    with postgres.connect() as connection:
        connection.execute("update idempotency_keys set created = created - interval '25 hours'")
        before = connection.execute("select count(*) from idempotency_keys").fetchone()[0]
        for number in range(before):
            application.post("/order", {"Idempotency-Key": f"new-{number}"}, '{"name": "new"}')
        old = "select count(*) from idempotency_keys where created < now() - interval '24 hours'"
        assert connection.execute(old).fetchone()[0] == 0
    # A key that is used again after its time is new.
    assert application.post("/order", key, '{"name": "another order"}').status == 201
