"""HAProxy's files that kirsch ships or shows, with a real HAProxy: no POST is sent twice, none is lost on a
connection that its server closes."""

import http.client
import os
import random
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from tests.deadline import eventually

from kirsch.bus import Limits
from kirsch.cluster.application.templates import HAPROXY
from kirsch.cluster.balancer.config import filled, haproxy

pytestmark = [
    pytest.mark.services,
    pytest.mark.skipif(
        not shutil.which("haproxy", path="/usr/sbin:/usr/bin"), reason="haproxy is not installed"
    ),
]

ROOT = Path(__file__).parents[2]
CHECK = "/checked"


def block(page: str) -> str:
    """The configuration that a page of the documentation shows first."""
    found = re.search(r"```(?:cfg|haproxy)\n(.*?)```", (ROOT / "docs" / page).read_text(), re.DOTALL)
    assert found, page
    return found[1]


FILES = {
    "notes": (ROOT / "examples/notes/balancer/haproxy.cfg").read_text(),
    "chat": (ROOT / "examples/chat/balancer/haproxy.cfg").read_text(),
    "kirsch init": HAPROXY["configuration"].replace("@READY@", "/"),
    "docs/balancer.md": block("balancer.md"),
    "docs/tutorial.md": block("tutorial.md"),
}


class Server:
    """A server that keeps connections. It answers each request, or closes in place of an answer if it `dies`;
    checks it answers when it may. `requests` are the methods that it was sent, but for checks."""

    def __init__(self, dies: bool) -> None:
        self.dies = dies
        self.requests: list[str] = []
        self.checked, self.may_answer = threading.Event(), threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self.listener.close()
        for client in self._open:
            client.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                self._open.append(client)
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError), client, client.makefile("rb") as lines:
            while line := lines.readline():
                method, path, _ = line.decode().split()
                length = 0
                while (field := lines.readline()).strip():
                    name, _, value = field.decode().partition(":")
                    length = int(value) if name.lower() == "content-length" else length
                lines.read(length)
                if path == CHECK:
                    self.checked.set()
                    self.may_answer.wait(30)
                else:
                    self.requests.append(method)
                if self.dies:
                    return
                client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as found:
        yield found


def before(
    server: Server, text: str, folder: Path, stack: ExitStack, options: str = ""
) -> http.client.HTTPConnection:
    """A client of HAProxy with a file's text, whose one backend has the server."""
    address = f"127.{random.randrange(1, 255)}.{random.randrange(256)}.{random.randrange(2, 255)}"
    backend = re.findall(r"^backend (\S+)", text, re.MULTILINE)[0]
    file = folder / "haproxy.cfg"
    file.write_text(filled(text, {(backend, "one"): ("127.0.0.1", server.port)}, options))
    (port,) = re.findall(r"^frontend (?:web|http)\n\s+bind .*:(\d+)", text, re.MULTILINE)
    environment = {name: value for name, value in os.environ.items() if name != "SYSLOG"}
    process = subprocess.Popen(
        [haproxy(), "-db", "-f", str(file)], env=environment | {"KIRSCH_ADDRESS": address}
    )
    stack.callback(process.wait, 20)
    stack.callback(process.kill)

    def listens() -> bool:
        assert process.poll() is None
        with suppress(OSError), socket.create_connection((address, int(port)), 5):
            return True
        return False

    eventually(listens)
    client = http.client.HTTPConnection(address, int(port), timeout=30)
    stack.callback(client.close)
    return client


def ask(client: http.client.HTTPConnection, method: str) -> int:
    client.request(method, "/", b"one" if method == "POST" else None)
    response = client.getresponse()
    response.read()
    return response.status


@pytest.mark.parametrize("name", FILES)
def test_a_post_that_has_no_answer_is_not_sent_again_and_a_get_is(
    name: str, tmp_path: Path, stack: ExitStack
):
    server = Server(dies=True)
    stack.callback(server.close)
    client = before(server, FILES[name], tmp_path, stack)
    assert ask(client, "POST") == 502
    assert server.requests == ["POST"]
    client.close()
    assert ask(client, "GET") == 502
    assert server.requests.count("GET") > 1


@pytest.mark.parametrize("name", FILES)
def test_an_instance_that_is_slow_to_answer_a_check_is_not_taken_out(
    name: str, tmp_path: Path, stack: ExitStack
):
    server = Server(dies=False)
    stack.callback(server.close)
    stack.callback(server.may_answer.set)
    text = re.sub(r"option httpchk .*\n", "", FILES[name]).replace(
        "balance ", f"option httpchk GET {CHECK}\n    balance "
    )
    client = before(server, text, tmp_path, stack, "check inter 50ms fall 1 rise 1")
    assert server.checked.wait(20)
    # A second check begins only once HAProxy has given the first one up.
    server.checked.clear()
    assert not server.checked.wait(0.5)
    assert ask(client, "POST") == 200


@pytest.mark.parametrize("name", ["notes", "chat", "docs/tutorial.md"])
def test_half_requests_of_one_address_leave_others_their_connections(
    name: str, tmp_path: Path, stack: ExitStack
):
    server = Server(dies=False)
    stack.callback(server.close)
    text = "global\n    maxconn 30\n" + re.sub(r" +maxconn \d+\n", "", FILES[name])
    text, limits = re.subn(r"conn_cur gt \d+", "conn_cur gt 5", text)
    text, times = re.subn(r"timeout (client|http-request) .*", r"timeout \1 1h", text)
    assert (limits, times) == (1, 2)
    client = before(server, text, tmp_path, stack)
    for _ in range(40):
        with suppress(ConnectionError):
            half = stack.enter_context(socket.create_connection((client.host, client.port), 5))
            half.sendall(b"GET / HTTP/1.1\r\n")
    other = http.client.HTTPConnection(client.host, client.port, timeout=10, source_address=("127.0.0.2", 0))
    stack.callback(other.close)
    assert ask(other, "GET") == 200


def test_a_post_is_lost_without_a_word_where_its_server_closes_the_connection(
    tmp_path: Path, stack: ExitStack
):
    """HAProxy leaves it to the client to send it again, and says nothing. That is why a server keeps idle
    connections for longer than HAProxy does, which needs seconds to close what it has no use for."""
    assert Limits().idle >= 3600
    server = Server(dies=False)
    stack.callback(server.close)
    client = before(server, FILES["notes"], tmp_path, stack)
    assert ask(client, "POST") == 200
    server.dies = True
    with pytest.raises(http.client.RemoteDisconnected):
        ask(client, "POST")
    assert server.requests == ["POST", "POST"]


@pytest.mark.parametrize("name", ["notes", "chat"])
def test_a_browser_gets_a_page_where_no_instance_is_ready(name: str, tmp_path: Path, stack: ExitStack):
    server = Server(dies=False)
    stack.callback(server.close)
    client = before(server, FILES[name], tmp_path, stack, "disabled")
    client.request("GET", "/", headers={"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
    response = client.getresponse()
    assert (response.status, response.getheader("Retry-After")) == (503, "1")
    assert response.getheader("Content-Type") == "text/html; charset=utf-8"
    assert "<meta http-equiv=refresh" in response.read().decode()


def test_a_program_gets_a_problem_where_no_instance_is_ready(tmp_path: Path, stack: ExitStack):
    server = Server(dies=False)
    stack.callback(server.close)
    client = before(server, FILES["notes"], tmp_path, stack, "disabled")
    client.request("GET", "/api/notes", headers={"Accept": "*/*"})
    response = client.getresponse()
    assert (response.status, response.getheader("Content-Type")) == (503, "application/problem+json")
    assert "no instance of the notes is ready" in response.read().decode()
