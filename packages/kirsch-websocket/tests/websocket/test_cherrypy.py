"""WebSockets on CherryPy's port: kirsch's HTTP server, with and without TLS."""

import atexit
import base64
import contextlib
import http.client
import logging
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
import time

import cherrypy
import pytest
from cherrypy.process.wspbus import Bus
from tests.deadline import eventually
from tests.port import free_port
from tests.process import descriptors
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect, unix_connect

from kirsch.bus import Limits, http_server
from kirsch.install import pip_install
from kirsch.websocket import Limits as WireLimits
from kirsch.websocket import Protocol, WebSocket
from kirsch.websocket.cherrypy import WebSocketPlugin, WebSocketTool
from kirsch.websocket.cherrypy import serve as serve_alone
from kirsch.websocket.core.protocol import OPEN

THREADS = 10
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
FIELDS = {
    "Host": "{host}",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": KEY,
    "Sec-WebSocket-Version": "13",
}


class Echo(WebSocket):
    """Sends back what comes; tells a test what happens."""

    ends: list

    def received_message(self, message):
        self.send(message)

    def closed(self, code, reason):
        self.ends.append((code, reason))


class Greeter(Echo):
    """Speaks first: with what the page handler has found out."""

    greeting = "?"

    def opened(self):
        self.send(self.greeting)


class Failing(Echo):
    def received_message(self, message):
        raise RuntimeError("as it should")


def mounted(bus, ends):
    """An application with WebSockets of all kinds."""
    websocket = cherrypy.tools.websocket = WebSocketTool(bus)

    class OurEcho(Echo):
        pass

    class OurGreeter(Greeter):
        pass

    OurEcho.ends = OurGreeter.ends = Failing.ends = ends

    def backwards(ws):
        for message in ws:
            ws.send(message[::-1])

    class Root:
        @cherrypy.expose
        def index(self):
            return "hello"

        @cherrypy.expose
        @websocket(application=OurEcho, message=17 << 20, queue=17 << 20)
        def echo(self):
            return "nobody reads this"

        @cherrypy.expose
        @websocket(application=OurEcho, message=1000, close_timeout=0.5)
        def small(self):
            pass

        @cherrypy.expose
        @websocket(application=OurEcho, subprotocols=("chat", "talk"), origins=("https://example.com",))
        def picky(self):
            assert cherrypy.request.websocket.subprotocol in ("chat", "talk", None)

        @cherrypy.expose
        @websocket(application=backwards)
        def function(self):
            pass

        @cherrypy.expose
        @websocket(application=Failing)
        def failing(self):
            pass

        @cherrypy.expose
        @websocket(application=OurGreeter)
        def room(self, name, who="?"):
            cherrypy.request.websocket.greeting = f"{who} in {name}"

        @cherrypy.expose
        @cherrypy.tools.sessions()
        @websocket(application=OurGreeter)
        def session(self):
            visits = cherrypy.session["visits"] = cherrypy.session.get("visits", 0) + 1
            cherrypy.request.websocket.greeting = f"visit {visits}"
            cherrypy.response.headers["X-Visits"] = str(visits)

        @cherrypy.expose
        @websocket(application=OurGreeter)
        def private(self):
            cherrypy.request.websocket.greeting = cherrypy.request.login

        @cherrypy.expose
        @cherrypy.tools.gzip()
        @cherrypy.tools.etags(autotags=True)
        @cherrypy.tools.encode()
        @cherrypy.tools.response_headers(headers=[("X-Tool", "was here")])
        @websocket(application=OurEcho)
        def tooled(self):
            return "text " * 1000

        @cherrypy.expose
        @websocket(application=OurEcho)
        def refusing(self, how):
            if how == "error":
                raise cherrypy.HTTPError(403, "not you")
            if how == "redirect":
                raise cherrypy.HTTPRedirect("/echo")
            if how == "status":
                cherrypy.response.status = 409
                return "conflict"
            raise RuntimeError("as it should")

        @cherrypy.expose
        def configured(self):
            pass

        @cherrypy.expose
        def misconfigured(self):
            pass

        @cherrypy.expose
        def without(self):
            pass

    def check(realm, user, password):
        return (user, password) == ("mary", "secret")

    return cherrypy.Application(
        Root(),
        "",
        {
            "/private": {
                "tools.auth_basic.on": True,
                "tools.auth_basic.realm": "test",
                "tools.auth_basic.checkpassword": check,
            },
            "/configured": {"tools.websocket.on": True, "tools.websocket.application": OurEcho},
            "/misconfigured": {"tools.websocket.on": True, "tools.websocket.mesage": 5},
            "/without": {"tools.websocket.on": True},
        },
    )


class Client:
    """A client that reads only while it waits, for SSL sockets are not for two threads at a time."""

    def __init__(self, sock):
        self.sock = sock
        self.protocol = Protocol(client=True, limits=WireLimits(message=None, queue=1 << 30))
        self.events = []

    def send(self, data):
        self.protocol.send(data)
        self.write()

    def write(self):
        while self.protocol.pending:
            for piece in self.protocol.take():
                self.sock.sendall(piece)

    def recv(self):
        """The next message, or Close."""
        while not self.events:
            data = self.sock.recv(1 << 16)
            assert data, "the connection has ended"
            self.events += self.protocol.receive(data)
        return self.events.pop(0)

    def close(self):
        if self.protocol.state == OPEN:
            self.protocol.close()
            self.write()
            assert self.recv().code == 1000
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()


class Site:
    """A running server: where it is, and what has happened."""

    def __init__(self, bus, adapter, plugin, ends, context=None):
        self.bus, self.adapter, self.plugin, self.ends, self.context = bus, adapter, plugin, ends, context
        self.server = adapter.httpserver
        self.address = adapter.bind_addr
        self.host = f"localhost:{self.address[1]}"

    def connect(self, path="/echo", **options):
        options = {"compression": None, "max_size": None, "proxy": None, **options}
        return connect(f"ws://{self.host}{path}", **options)

    def client(self, path="/echo"):
        return Client(self.ask(path)[1])

    def socket(self):
        sock = socket.create_connection(self.address, timeout=10)
        return self.context.wrap_socket(sock, server_hostname="localhost") if self.context else sock

    def ask(self, path="/echo", *, method="GET", version="HTTP/1.1", more=b"", **changes):
        """A handshake by hand: the response's head, and the socket; `changes` to its fields, `_` for `-`."""
        fields = {name: value.format(host=self.host) for name, value in FIELDS.items()}
        for name, value in changes.items():
            name = next((each for each in fields if each.lower() == name.replace("_", "-").lower()), name)
            fields[name.replace("_", "-")] = value
        lines = [f"{name}: {value}\r\n" for name, value in fields.items() if value is not None]
        sock = self.socket()
        sock.sendall(f"{method} {path} {version}\r\n{''.join(lines)}\r\n".encode() + more)
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            byte = sock.recv(1)
            assert byte, head
            head += byte
        return head.decode(), sock

    def get(self, path="/"):
        kind = http.client.HTTPSConnection if self.context else http.client.HTTPConnection
        options = {"context": self.context} if self.context else {}
        connection = kind("localhost", self.address[1], timeout=10, **options)
        connection.request("GET", path)
        response = connection.getresponse()
        response.text = response.read().decode()
        connection.close()
        return response


@pytest.fixture
def serve(certificate):
    """serve(kind): a running Site, `kind` of "ours", "ours tls"."""
    stack = contextlib.ExitStack()

    def serve(kind="ours"):
        bus, ends = Bus(), []
        application = mounted(bus, ends)
        plugin = WebSocketPlugin(bus, threads=2)
        plugin.subscribe()
        context = certificate.server if kind == "ours tls" else None
        limits = Limits(threads=THREADS, keep_alive=20)
        adapter = http_server(bus, application, port=0, limits=limits, tls=context)
        if context is not None:
            context = certificate.client
        bus.start()
        stack.callback(atexit.unregister, bus._clean_exit)
        stack.callback(lambda: bus.state is bus.states.STARTED and bus.stop())
        return Site(bus, adapter, plugin, ends, context)

    with stack:
        yield serve
    # The threads that all clients of a process share stay, whoever's they were.
    names = {thread.name for thread in threading.enumerate()}
    shared = ("websocket-clients", "websocket-callbacks")
    assert not [name for name in names if name.startswith("websocket") and not name.startswith(shared)]


@pytest.fixture
def site(serve):
    return serve()


KINDS = pytest.mark.parametrize("kind", ["ours", "ours tls"])


def idle(site):
    return site.server.busy == 0


@KINDS
def test_messages_come_back_up_to_16_mib(serve, kind):
    site = serve(kind)
    with site.client() as ws:
        for size in (0, 1, 125, 126, 65535, 65536, 1 << 20, 16 << 20):
            text, data = "é" * (size // 2), os.urandom(size)
            ws.send(text)
            assert ws.recv() == text
            ws.send(data)
            assert ws.recv() == data
    eventually(lambda: site.ends == [(1000, "")])


@KINDS
def test_the_thread_is_free_and_the_server_has_forgotten(serve, kind):
    site = serve(kind)
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(site.client()) for _ in range(3 * THREADS)]
        eventually(lambda: idle(site))
        assert site.server.open == 0
        eventually(lambda: len(site.plugin.connections) == len(sockets))
        assert site.get().text == "hello"
        for ws in sockets:
            ws.send("here")
        assert {ws.recv() for ws in sockets} == {"here"}
    eventually(lambda: site.plugin.connections == [])


@KINDS
def test_what_is_sent_with_the_handshake_is_not_lost(serve, kind):
    site = serve(kind)
    frame = b"\x81\x85\x00\x00\x00\x00early"
    head, sock = site.ask(more=frame * 100)
    assert head.startswith("HTTP/1.1 101 Switching Protocols\r\n")
    received = b""
    while len(received) < 700:
        received += sock.recv(700)
    assert received == b"\x81\x05early" * 100
    sock.close()
    eventually(lambda: site.ends == [(1006, "")])


@KINDS
def test_a_stop_of_the_bus_says_1001(serve, kind):
    site = serve(kind)
    with site.client() as ws, site.client() as other:
        for each in (ws, other):
            each.send("before")
            assert each.recv() == "before"
        stopping = threading.Thread(target=site.bus.stop)
        stopping.start()
        for each in (ws, other):
            close = each.recv()
            assert close.code == 1001
            each.protocol.answer(close)
            each.write()
        stopping.join(10)
        assert not stopping.is_alive()
    assert site.ends == [(1001, "")] * 2


def test_a_peer_that_does_not_answer_holds_up_the_stop_for_close_timeout_only(site):
    _, sock = site.ask("/small")
    eventually(lambda: site.plugin.connections)
    begun = time.monotonic()
    site.bus.stop()
    assert time.monotonic() - begun < 5
    assert sock.recv(4, socket.MSG_WAITALL) == b"\x88\x02\x03\xe9"
    sock.close()


def test_the_bus_can_start_again(site):
    site.bus.stop()
    site.bus.start()
    site.address = site.adapter.bind_addr
    with site.connect() as ws:
        ws.send("again")
        assert ws.recv(timeout=10) == "again"


def test_the_response_is_the_handshakes(site):
    head, sock = site.ask("/picky", Sec_WebSocket_Protocol="talk, chat", Origin="https://example.com")
    sock.close()
    fields = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if line)
    assert fields["upgrade"] == "websocket"
    assert fields["connection"] == "upgrade"
    assert fields["sec-websocket-accept"] == "s3pplmbitxaq9kygzzhzrbk+xoo="
    assert fields["sec-websocket-protocol"] == "talk"
    assert not {"content-type", "content-length", "transfer-encoding"} & fields.keys()


def test_compression_is_negotiated(site):
    with site.connect(compression="deflate") as ws:
        assert ws.protocol.extensions
        ws.send("again and again " * 1000)
        assert ws.recv(timeout=10) == "again and again " * 1000


def test_fields_that_come_twice_are_one_list(site):
    head, sock = site.ask(
        "/picky", Sec_WebSocket_Protocol="none\r\nSec-WebSocket-Protocol: chat", Origin="https://example.com"
    )
    sock.close()
    assert "Sec-Websocket-Protocol: chat\r\n" in head


def test_a_function_is_given_a_connection(site):
    with site.connect("/function") as ws:
        ws.send("abc")
        assert ws.recv(timeout=10) == "cba"


def test_the_page_handler_prepares_the_websocket(site):
    with site.connect("/room/blue?who=mary") as ws:
        assert ws.recv(timeout=10) == "mary in blue"


def test_sessions_and_their_cookies(site):
    with site.connect("/session") as ws:
        assert ws.recv(timeout=10) == "visit 1"
        assert ws.response.headers["X-Visits"] == "1"
        cookie = ws.response.headers["Set-Cookie"].partition(";")[0]
        # The session is not locked while the WebSocket is open.
        with site.connect("/session", additional_headers={"Cookie": cookie}) as other:
            assert other.recv(timeout=10) == "visit 2"


def test_basic_authentication(site):
    with pytest.raises(InvalidStatus) as refused:
        site.connect("/private")
    assert refused.value.response.status_code == 401
    assert "WWW-Authenticate" in refused.value.response.headers
    password = base64.b64encode(b"mary:secret").decode()
    with site.connect("/private", additional_headers={"Authorization": f"Basic {password}"}) as ws:
        assert ws.recv(timeout=10) == "mary"


def test_tools_that_change_the_response(site):
    with site.connect("/tooled", additional_headers={"Accept-Encoding": "gzip"}) as ws:
        assert ws.response.headers["X-Tool"] == "was here"
        assert "Content-Encoding" not in ws.response.headers
        ws.send("still")
        assert ws.recv(timeout=10) == "still"


@KINDS
@pytest.mark.parametrize(
    ("how", "status"), [("error", 403), ("redirect", 303), ("status", 409), ("crash", 500)]
)
def test_the_page_handler_may_refuse(serve, kind, how, status):
    site = serve(kind)
    head, sock = site.ask(f"/refusing/{how}", more=b"")
    assert head.startswith(f"HTTP/1.1 {status} ")
    assert site.plugin.connections == site.ends == []
    eventually(lambda: idle(site))
    sock.close()


def test_a_configuration_turns_it_on(site):
    with site.connect("/configured") as ws:
        ws.send("yes")
        assert ws.recv(timeout=10) == "yes"


BAD = [
    ({"Sec_WebSocket_Key": "short"}, 400, "Sec-WebSocket-Key is not 16 bytes in base64, once"),
    ({"Sec_WebSocket_Key": None}, 400, "Sec-WebSocket-Key is not 16 bytes in base64, once"),
    ({"Sec_WebSocket_Version": "7"}, 426, "version '7': it is 13 here"),
    ({"Upgrade": None}, 426, "this is a WebSocket: Upgrade: websocket is missing"),
    ({"Connection": None}, 400, "Connection: Upgrade is missing"),
    ({"Origin": "https://evil.example"}, 403, "the origin 'https://evil.example' is not allowed"),
    ({"method": "POST", "Content_Length": "0"}, 405, "a WebSocket begins with GET, not POST"),
    ({"version": "HTTP/1.0"}, 505, "HTTP/1.0: a WebSocket needs HTTP/1.1"),
    ({"Content_Length": "5", "more": b"12345"}, 400, "a WebSocket's request has no body"),
]


@pytest.mark.parametrize(("changes", "status", "reason"), BAD)
def test_bad_handshakes_are_a_status_and_one_line(serve, caplog, changes, status, reason):
    site = serve()
    head, sock = site.ask(**changes)
    assert head.startswith(f"HTTP/1.1 {status} ")
    assert "\r\nContent-Type: text/plain" in head
    length = int(re.search(r"Content-Length: (\d+)", head)[1])
    assert sock.recv(length, socket.MSG_WAITALL).decode() == f"{reason}\n"
    if status == 426:
        assert "\r\nUpgrade: websocket\r\n" in head
        assert "\r\nSec-Websocket-Version: 13\r\n" in head
    place = ":".join(map(str, sock.getsockname()))
    records = [record for record in caplog.records if record.name == "kirsch.websocket"]
    assert [record.getMessage() for record in records] == [f"{place}: {reason} (HTTP status {status})"]
    assert records[0].exc_info is None
    sock.close()


def test_after_a_refusal_the_connection_serves_http(site):
    head, sock = site.ask(Sec_WebSocket_Version="7")
    sock.recv(int(re.search(r"Content-Length: (\d+)", head)[1]), socket.MSG_WAITALL)
    sock.sendall(f"GET / HTTP/1.1\r\nHost: {site.host}\r\n\r\n".encode())
    assert sock.recv(15, socket.MSG_WAITALL) == b"HTTP/1.1 200 OK"
    sock.close()


def test_a_key_that_comes_twice_is_refused(site):
    head, sock = site.ask(Sec_WebSocket_Key=f"{KEY}\r\nSec-WebSocket-Key: {KEY}")
    assert head.startswith("HTTP/1.1 400 ")
    sock.close()


@pytest.mark.parametrize(
    ("path", "what"), [("/misconfigured", "there is no argument 'mesage'"), ("/without", "not NoneType")]
)
def test_a_wrong_configuration_is_logged_in_one_line(site, caplog, path, what):
    head, sock = site.ask(path)
    sock.close()
    assert head.startswith("HTTP/1.1 500 ")
    (record,) = (record for record in caplog.records if record.levelno == logging.ERROR)
    assert record.getMessage().startswith(f"tools.websocket at {path}: ")
    assert what in record.getMessage()
    assert record.exc_info is None


def test_without_the_plugin_that_is_said(site, caplog):
    site.plugin.unsubscribe()
    head, sock = site.ask()
    sock.close()
    site.plugin.subscribe()
    assert head.startswith("HTTP/1.1 500 ")
    assert "no WebSocketPlugin is subscribed to the bus" in caplog.text


@pytest.mark.parametrize(
    "options", [{"mesage": 5}, {"subprotocols": ("a b",)}, {"application": 5}, {"limits": 5}]
)
def test_a_decorator_checks_its_arguments(options):
    with pytest.raises((TypeError, ValueError)):
        WebSocketTool(Bus())(**options)


def test_a_limit_closes_with_its_code(site):
    with site.connect("/small") as ws:
        ws.send("x" * 1001)
        with pytest.raises(ConnectionClosed) as closed:
            ws.recv(timeout=10)
    assert closed.value.rcvd.code == 1009


def test_a_broadcast_on_the_bus_reaches_all(site):
    with site.connect() as one, site.connect("/room/blue") as other:
        assert other.recv(timeout=10) == "? in blue"
        eventually(lambda: len(site.plugin.connections) == 2)
        site.bus.publish("websocket-broadcast", "all of you")
        assert one.recv(timeout=10) == other.recv(timeout=10) == "all of you"


def test_under_another_server_it_is_501(site, caplog):
    from io import BytesIO

    environ = {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": "/echo",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "wsgi.url_scheme": "http",
        "wsgi.input": BytesIO(),
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
    }
    for name, value in FIELDS.items():
        environ[f"HTTP_{name.upper().replace('-', '_')}"] = value.format(host=site.host)
    said = []
    body = site.server.application(environ, lambda status, headers: said.append(status))
    text = b"".join(body).decode()
    body.close()
    assert said == ["501 Not Implemented"]
    assert text.startswith("this server does not hand over connections")
    assert text.count("\n") == 1


@KINDS
def test_nothing_is_left_of_connections_that_have_ended(serve, kind):
    site = serve(kind)
    with site.client() as ws:
        ws.send("first")
        assert ws.recv() == "first"
    eventually(lambda: not site.plugin.connections)
    before = descriptors()
    for ending in ("close", "reset", "eof"):
        sockets = [site.ask()[1] for _ in range(20)]
        eventually(lambda: len(site.plugin.connections) == 20)
        for sock in sockets:
            if ending == "close":
                sock.sendall(b"\x88\x80\x00\x00\x00\x00")
            elif ending == "reset":
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
            sock.close()
        eventually(lambda: not site.plugin.connections)
    eventually(lambda: not descriptors() - before)
    eventually(lambda: idle(site))


def hold(site, count):
    """So many idle connections, while HTTP is served; then each says something."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    need = 2 * count + 500
    if hard < need:
        pytest.skip(f"needs {need} file descriptors, {hard} are allowed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, need), hard))
    sockets = []
    try:
        for _ in range(count):
            head, sock = site.ask()
            sockets.append(sock)
            assert head.startswith("HTTP/1.1 101 ")
        eventually(lambda: len(site.plugin.connections) == count)
        eventually(lambda: idle(site))
        assert [site.get().text for _ in range(2 * THREADS)] == ["hello"] * 2 * THREADS
        for sock in sockets:
            sock.sendall(b"\x81\x85\x00\x00\x00\x00hello")
        for sock in sockets:
            assert sock.recv(7, socket.MSG_WAITALL) == b"\x81\x05hello"
    finally:
        for sock in sockets:
            sock.close()
        eventually(lambda: not site.plugin.connections, 60)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize(
    "count", [100, pytest.param(1000, marks=pytest.mark.slow), pytest.param(5000, marks=pytest.mark.soak)]
)
def test_idle_connections_with_10_threads(serve, count):
    hold(serve(), count)


def test_serve_has_every_path_be_a_websocket(certificate, tmp_path):
    class Upper(WebSocket):
        def received_message(self, message):
            self.send(message.upper())

    with serve_alone(Upper) as server, connect(f"{server.url}any/path?and=more", proxy=None) as ws:
        ws.send("hello")
        assert ws.recv(timeout=10) == "HELLO"
        assert len(server.connections) == 1
    with serve_alone({"/one": Upper}, unix=str(tmp_path / "socket")) as server:
        assert server.url == f"ws+unix://{tmp_path}/socket"
        with unix_connect(server.address, "ws://localhost/one") as ws:
            ws.send("hello")
            assert ws.recv(timeout=10) == "HELLO"
        with pytest.raises(InvalidStatus) as refused:
            unix_connect(server.address, "ws://localhost/other")
        assert refused.value.response.status_code == 404
    with serve_alone(Upper, ssl=certificate.server) as server:
        assert server.url.startswith("wss://127.0.0.1:")
        site = Site.__new__(Site)
        site.address, site.host = server.address, f"localhost:{server.address[1]}"
        site.context = certificate.client
        with site.client("/") as ws:
            ws.send("hello")
            assert ws.recv() == "HELLO"


def test_without_cherrypy_the_extra_is_named():
    program = "import sys; sys.modules['cherrypy'] = None; import kirsch.websocket.cherrypy"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    last = done.stderr.splitlines()[-1]
    assert last == f"ImportError: CherryPy is not installed: {pip_install('kirsch-websocket[cherrypy]')}"


PROGRAM = """
import cherrypy
from kirsch.bus import SERVER_DEFAULTS
from kirsch.websocket import WebSocket
from kirsch.websocket.cherrypy import WebSocketPlugin, WebSocketTool

class Echo(WebSocket):
    def received_message(self, message):
        self.send(message)

class Root:
    @cherrypy.expose
    def ws(self):
        print(type(cherrypy.request.websocket).__name__, flush=True)

WebSocketPlugin(cherrypy.engine).subscribe()
cherrypy.tools.websocket = WebSocketTool()
cherrypy.config.update(SERVER_DEFAULTS)
cherrypy.config.update({"server.socket_host": "127.0.0.1", "server.socket_port": PORT})
cherrypy.engine.subscribe("start", lambda: print("ready", flush=True), priority=100)
cherrypy.quickstart(Root(), "/", {"/ws": {"tools.websocket.on": True, "tools.websocket.application": Echo}})
"""


def test_as_users_of_ws4py_write_it_until_sigterm():
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM.replace("PORT", str(port))],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout.readline() == "ready\n"
        with connect(f"ws://127.0.0.1:{port}/ws", proxy=None) as ws:
            ws.send("hello")
            assert ws.recv(timeout=10) == "hello"
            assert process.stdout.readline() == "Echo\n"
            process.send_signal(signal.SIGTERM)
            with pytest.raises(ConnectionClosed) as closed:
                ws.recv(timeout=10)
            assert closed.value.rcvd.code == 1001
        out, err = process.communicate(timeout=20)
        assert (process.returncode, out, err) == (0, "", "")
    finally:
        process.kill()
        process.wait()


def test_a_connection_that_is_handed_over_too_late_gets_a_reason():
    plugin = WebSocketPlugin(Bus(), threads=2)
    plugin.close_arguments = (1001, "over", None)
    ours, theirs = socket.socketpair()
    with theirs:
        plugin.adopt(Echo(), ours, b"")
        assert theirs.recv(100) == b"\x88\x06\x03\xe9over"
        assert theirs.recv(100) == b""
