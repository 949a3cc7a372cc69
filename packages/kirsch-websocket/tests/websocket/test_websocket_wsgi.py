"""WebSockets by WSGI middleware: behind gunicorn, Werkzeug and Python's own server; 501 elsewhere."""

import contextlib
import http.client
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
from wsgiref.simple_server import WSGIRequestHandler, make_server
from wsgiref.validate import validator

import pytest
import waitress.server
import werkzeug.serving
from tests.deadline import eventually
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from kirsch.websocket import Limits, Policy, WebSocket
from kirsch.websocket.wsgi import Server, WebSockets, serve

APPLICATION = """
from kirsch.websocket import Limits, Policy, WebSocket
from kirsch.websocket.wsgi import WebSockets

class Echo(WebSocket):
    def received_message(self, message):
        self.send(message)

def backwards(ws):
    for message in ws:
        ws.send(message[::-1])

def pages(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
    return [b"hello"]

application = WebSockets(
    {"/echo": Echo, "/function": backwards},
    pages,
    policy=Policy(subprotocols=("chat",)),
    limits=Limits(message=17 << 20, queue=17 << 20),
)
"""
exec(APPLICATION)

REQUEST = (
    "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: {version}\r\n{more}\r\n"
)
HELLO = b"\x81\x85\x00\x00\x00\x00hello"


class Place:
    """A running server."""

    def __init__(self, port, process=None):
        self.port, self.process = port, process

    def connect(self, path="/echo", **options):
        options = {"compression": None, "max_size": None, "proxy": None, **options}
        return connect(f"ws://127.0.0.1:{self.port}{path}", **options)

    def ask(self, path="/echo", key="dGhlIHNhbXBsZSBub25jZQ==", version="13", more="", after=b""):
        """A handshake by hand: the response's head, and the socket."""
        sock = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        host = f"127.0.0.1:{self.port}"
        request = REQUEST.format(path=path, host=host, key=key, version=version, more=more)
        sock.sendall(request.encode() + after)
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            byte = sock.recv(1)
            assert byte, head
            head += byte
        return head.decode(), sock

    def get(self, path="/"):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request("GET", path)
        response = connection.getresponse()
        response.text = response.read().decode()
        connection.close()
        return response

    @property
    def workers(self):
        """The processes that gunicorn has forked."""
        with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children") as children:
            return [int(pid) for pid in children.read().split()]

    def settled(self):
        """How many file descriptors the workers have, once that has not changed for a while."""
        counts = []

        def same():
            counts.append(sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in self.workers))
            return counts[-100:].count(counts[-1]) == 100

        eventually(same, 30)
        return counts[-1]


@contextlib.contextmanager
def gunicorn(folder, *options):
    (folder / "application.py").write_text(APPLICATION)
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "gunicorn",
            "--no-control-socket",
            "-b",
            "127.0.0.1:0",
            *options,
            "application",
        ],
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
    )
    lines = []
    try:
        port = None
        for line in process.stderr:
            lines.append(line)
            if match := re.search(r"Listening at: http://127.0.0.1:(\d+)", line):
                port = int(match[1])
            if "Booting worker" in line:
                break
        place = Place(port, process)
        place.lines = lines
        collecting = threading.Thread(target=lambda: lines.extend(process.stderr))
        collecting.start()
        yield place
    finally:
        process.terminate()
        try:
            process.wait(20)
        finally:
            process.kill()
        collecting.join(10)
        process.stderr.close()
    assert process.returncode == 0, lines
    assert not [line for line in lines if "Traceback" in line or "ERROR" in line], lines


@contextlib.contextmanager
def in_thread(serve_forever, shutdown, port):
    thread = threading.Thread(target=serve_forever)
    thread.start()
    try:
        yield Place(port)
    finally:
        shutdown()
        thread.join(10)
        assert not thread.is_alive()


@contextlib.contextmanager
def running(kind, folder):
    if kind.startswith("gunicorn"):
        options = {
            "gunicorn gthread": ("-k", "gthread", "--threads", "4"),
            "gunicorn gthread, nothing kept alive": ("-k", "gthread", "--threads", "4", "--keep-alive", "0"),
            "gunicorn sync": ("-k", "sync"),
        }[kind]
        with gunicorn(folder, *options) as place:
            yield place
        return
    ours = globals()["application"]
    if kind == "werkzeug":
        server = werkzeug.serving.make_server("127.0.0.1", 0, ours, threaded=True)
        with in_thread(server.serve_forever, server.shutdown, server.server_port) as place:
            yield place
        server.server_close()
    else:
        with Server(ours) as server:
            yield Place(server.address[1])
    ours.close()


KINDS = ["gunicorn gthread", "gunicorn gthread, nothing kept alive", "gunicorn sync", "werkzeug", "our own"]


@pytest.fixture(params=KINDS, scope="module")
def place(request, tmp_path_factory):
    with running(request.param, tmp_path_factory.mktemp("place")) as place:
        yield place


def test_messages_come_back_up_to_16_mib(place):
    with place.connect() as ws:
        for size in (0, 1, 125, 126, 65535, 65536, 1 << 20, 16 << 20):
            data = os.urandom(size)
            ws.send(data)
            assert ws.recv(timeout=60) == data
        ws.send("text")
        assert ws.recv(timeout=10) == "text"


def test_more_websockets_than_threads(place):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(place.connect()) for _ in range(20)]
        for ws in sockets:
            ws.send("here")
        assert {ws.recv(timeout=10) for ws in sockets} == {"here"}


def test_the_handshake(place):
    with place.connect(compression="deflate", subprotocols=["none", "chat"]) as ws:
        assert ws.subprotocol == "chat"
        assert ws.protocol.extensions
        ws.send("again and again " * 1000)
        assert ws.recv(timeout=10) == "again and again " * 1000


def test_a_function_is_given_a_connection(place):
    with place.connect("/function") as ws:
        ws.send("abc")
        assert ws.recv(timeout=10) == "cba"


def test_what_is_sent_with_the_handshake_is_not_lost(place):
    head, sock = place.ask(after=HELLO * 50)
    assert head.startswith("HTTP/1.1 101 Switching Protocols\r\n")
    assert sock.recv(350, socket.MSG_WAITALL) == b"\x81\x05hello" * 50
    sock.close()


@pytest.mark.parametrize(
    ("changes", "status", "reason"),
    [
        ({"key": "short"}, 400, "Sec-WebSocket-Key is not 16 bytes in base64, once"),
        ({"version": "7"}, 426, "version '7': it is 13 here"),
        (
            {"more": "Origin: https://evil.example\r\n"},
            403,
            "the origin 'https://evil.example' is not allowed",
        ),
        ({"more": "Content-Length: 5\r\n", "after": b"12345"}, 400, "a WebSocket's request has no body"),
    ],
)
def test_bad_handshakes_are_a_status_and_one_line(place, changes, status, reason):
    head, sock = place.ask(**changes)
    assert re.match(rf"HTTP/1\.[01] {status} ", head)
    length = int(re.search(r"(?i)content-length: (\d+)", head)[1])
    assert sock.recv(length, socket.MSG_WAITALL).decode() == f"{reason}\n"
    sock.close()


@pytest.mark.parametrize("kind", ["gunicorn gthread", "gunicorn sync", "werkzeug"])
def test_everything_else_is_the_applications(kind, tmp_path):
    with running(kind, tmp_path) as place, place.connect() as ws:
        assert place.get("/").text == place.get("/echo").text == "hello"
        head, sock = place.ask("/elsewhere")
        assert head.startswith("HTTP/1.1 200 ")
        sock.close()
        ws.send("still")
        assert ws.recv(timeout=10) == "still"


@pytest.mark.parametrize("kind", ["gunicorn gthread", "gunicorn sync"])
def test_gunicorns_worker_says_1001_when_it_ends(kind, tmp_path):
    with running(kind, tmp_path) as place, place.connect() as ws:
        ws.send("before")
        assert ws.recv(timeout=10) == "before"
        place.process.send_signal(signal.SIGTERM)
        with pytest.raises(ConnectionClosed) as closed:
            ws.recv(timeout=10)
        assert closed.value.rcvd.code == 1001


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS[:3])
def test_gunicorn_has_nothing_left_of_connections_that_have_ended(kind, tmp_path):
    with running(kind, tmp_path) as place:
        with place.connect() as ws:
            ws.send("first")
            ws.recv(timeout=10)
        place.get("/")
        for _ in range(3):
            # The first round leaves behind what is made once: the pool.
            before = place.settled()
            sockets = [place.ask()[1] for _ in range(30)]
            for sock in sockets:
                sock.sendall(HELLO)
            for sock in sockets:
                assert sock.recv(7, socket.MSG_WAITALL) == b"\x81\x05hello"
                sock.close()
        assert place.settled() == before


@pytest.mark.parametrize("count", [100, pytest.param(1000, marks=pytest.mark.slow)])
def test_idle_connections_behind_gunicorn_with_10_threads(tmp_path, count):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4096)), hard))
    with running("gunicorn gthread", tmp_path) as place:
        sockets = [place.ask()[1] for _ in range(count)]
        assert {place.get("/").text for _ in range(20)} == {"hello"}
        for sock in sockets:
            sock.sendall(HELLO)
        for sock in sockets:
            assert sock.recv(7, socket.MSG_WAITALL) == b"\x81\x05hello"
            sock.close()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Quiet(WSGIRequestHandler):
    def log_message(self, *arguments):
        pass


def test_wsgiref_keeps_its_connections_501(caplog):
    ours = globals()["application"]
    server = make_server("127.0.0.1", 0, validator(ours), handler_class=Quiet)
    with in_thread(server.serve_forever, server.shutdown, server.server_port) as place:
        head, sock = place.ask()
        assert head.startswith("HTTP/1.0 501 Not Implemented\r\n")
        body = sock.makefile("rb").read().decode()
        sock.close()
        assert place.get("/").text == "hello"
    server.server_close()
    assert body.startswith("this WSGI server does not hand over connections: use kirsch's, gunicorn")
    assert body.count("\n") == 1
    (record,) = (record for record in caplog.records if record.name == "kirsch.websocket")
    assert record.exc_info is None
    assert record.getMessage().startswith("127.0.0.1: this WSGI server does not hand over connections")


def test_waitress_keeps_its_connections_501():
    server = waitress.server.create_server(globals()["application"], host="127.0.0.1", port=0)
    with in_thread(server.run, server.close, server.effective_port) as place:
        head, sock = place.ask()
        sock.close()
        assert head.startswith("HTTP/1.1 501 ")
        server.maintenance(0)


def test_without_an_application_others_are_refused(caplog):
    class Echo(WebSocket):
        pass

    with serve({"/echo": Echo}) as server:
        place = Place(server.address[1])
        assert place.get("/elsewhere").status == 404
        refused = place.get("/echo")
        assert (refused.status, refused.text) == (426, "this is a WebSocket: Upgrade: websocket is missing\n")
    assert "127.0.0.1" in caplog.text


def handshake(**environ):
    return {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": "/echo",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": "localhost",
        "HTTP_UPGRADE": "websocket",
        "HTTP_CONNECTION": "Upgrade",
        "HTTP_SEC_WEBSOCKET_KEY": "dGhlIHNhbXBsZSBub25jZQ==",
        "HTTP_SEC_WEBSOCKET_VERSION": "13",
    } | environ


def test_a_connection_that_is_handed_over_too_late_gets_a_reason():
    handed = []
    application = WebSockets({"/echo": globals()["Echo"]})
    application(handshake(**{"kirsch.upgrade": handed.append}), lambda status, headers: None)
    application.pool.close(1001, "over")
    ours, theirs = socket.socketpair()
    with theirs:
        handed[0](ours, b"")
        assert theirs.recv(100) == b"\x88\x06\x03\xe9over"
        assert theirs.recv(100) == b""


def test_a_tls_socket_is_not_taken():
    import ssl

    theirs, ours = socket.socketpair()
    wrapped = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).wrap_socket(
        theirs, server_side=True, do_handshake_on_connect=False
    )
    said = []
    environ = handshake(**{"gunicorn.socket": wrapped})
    body = globals()["application"](environ, lambda status, headers: said.append(status))
    assert said == ["501 Not Implemented"]
    assert b"TLS" in b"".join(body)
    wrapped.close()
    ours.close()


def test_names_of_the_module_are_what_applications_need():
    assert WebSockets({}, policy=Policy(), limits=Limits()).site.application == {}
