"""A client of several machines of which one takes requests and does not answer, or ends them unanswered."""

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from tests.cluster.etcd_server import Authority

from kirsch.cluster.api import client as client_module
from kirsch.cluster.api.client import Client, ClientError
from kirsch.cluster.api.transport import Https

BODY = b'{"machine": "%s"}'


class Machine:
    """Takes requests over TLS, and does as told: it "answers", "hangs" until it is closed, or "drops" the
    connection."""

    def __init__(self, name: str, authority: Authority, does: str) -> None:
        self.name = name
        self.does = does
        self.asked: list[str] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.place = self.listener.getsockname()
        self.context = authority.certificates(name, "127.0.0.1").server()
        self.closed = threading.Event()
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        """Take no more."""
        self.closed.set()
        with suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)  # wakes who accepts
        self.listener.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                plain, _ = self.listener.accept()
                threading.Thread(target=self._converse, args=(plain,), daemon=True).start()

    def _converse(self, plain: socket.socket) -> None:
        with suppress(OSError), self.context.wrap_socket(plain, server_side=True) as connection:
            while data := connection.recv(65536):
                self.asked.append(data.split()[0].decode())
                if self.does == "drops":
                    return
                if self.does == "hangs":
                    self.closed.wait()
                    return
                body = BODY % self.name.encode()
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))


@contextmanager
def machines(folder: Path, *does: str) -> Iterator[tuple[list[Machine], Client]]:
    """Machines that do so, and a client of all."""
    authority = Authority(folder / "authority")
    with ExitStack() as stack:
        made = [Machine(f"n{number}", authority, each) for number, each in enumerate(does, 1)]
        for machine in made:
            stack.callback(machine.close)
        places = [machine.place for machine in made]
        reach = Https(places, authority.certificates("person"), "cluster test", folder / "memory")
        client = Client(reach)
        stack.callback(client.close)
        yield made, client


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounds that a test can wait for."""
    monkeypatch.setattr(client_module, "PATIENCE", (1.0, 10.0))


def test_what_one_machine_does_not_answer_is_asked_of_the_next_which_is_remembered(tmp_path: Path):
    with machines(tmp_path, "hangs", "answers") as ([hung, well], client):
        assert client.get("/x") == {"machine": "n2"}
        assert (tmp_path / "memory").read_text() == f"127.0.0.1:{well.place[1]}\n"
        asked = len(hung.asked)
        assert client.get("/x") == client.patch("/x", {}) == {"machine": "n2"}
        assert len(hung.asked) == asked


def test_a_machine_that_only_takes_connections_is_not_remembered(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(client_module, "PATIENCE", ())
    with machines(tmp_path, "hangs", "hangs") as (_, client):
        client.timeout = 0.5
        with pytest.raises(ClientError, match=r"kirschd at cluster test does not answer$"):
            client.get("/x")
    assert not (tmp_path / "memory").exists()


@pytest.mark.parametrize("method", ["get", "put", "delete"])
def test_what_can_be_done_twice_is_asked_of_the_next(tmp_path: Path, method: str):
    with machines(tmp_path, "drops", "answers") as ([dropping, well], client):
        getattr(client, method)("/x", *([{}] if method == "put" else []))
        assert (dropping.asked, well.asked) == ([method.upper()], [method.upper()])


@pytest.mark.parametrize("method", ["patch", "post"])
def test_what_may_have_been_done_is_not_done_again(tmp_path: Path, method: str):
    with machines(tmp_path, "drops", "answers") as ([dropping, well], client):
        with pytest.raises(ClientError) as failed:
            getattr(client, method)("/x", {})
        assert str(failed.value) == (
            "kirschd at cluster test ends connections unanswered; what was asked of it may be done"
        )
        assert (dropping.asked, well.asked) == ([method.upper()], [])


def test_a_change_goes_to_the_next_where_nothing_of_it_was_sent(tmp_path: Path):
    with machines(tmp_path, "answers", "answers") as ([ended, _], client):
        ended.close()
        assert client.patch("/x", {}) == {"machine": "n2"}


def test_a_connection_that_was_kept_and_closed_meanwhile_harms_no_change(tmp_path: Path):
    with machines(tmp_path, "answers") as (_, client):
        client.get("/x")
        [kept] = client._kept
        kept.shutdown(socket.SHUT_RDWR)
        assert client.post("/x") == {"machine": "n1"}
        assert client._kept == [kept]  # no heap of them
        assert client.get("/x") == {"machine": "n1"}
