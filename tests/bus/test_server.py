import http.client
import os
import select
import socket
import stat
import subprocess
import sys
import threading
import time
from email.utils import parsedate_to_datetime
from pathlib import Path

import cherrypy
import pytest

from kirsch.bus import SERVER_DEFAULTS, HTTPAdapter, Limits, ServerError, http_server


def hello(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
    return [b"hello"]


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=10)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(10)
        self.sock.connect(self.path)


def get(connection: http.client.HTTPConnection, path: str = "/") -> http.client.HTTPResponse:
    connection.request("GET", path)
    response = connection.getresponse()
    response.body = response.read()
    return response


def connect(server: HTTPAdapter) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(*server.bind_addr, timeout=10)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "kirsch.sock")


def test_an_application_is_served_on_a_free_port(bus):
    server = http_server(bus, hello, port=0)
    bus.start()
    assert server.bind_addr[1] != 0
    assert get(connect(server)).body == b"hello"


def test_answers_have_the_date(bus):
    """The server's, in RFC 9110's form, also where it refuses; the application's where it has one."""

    def application(environ, start_response):
        own = [("Date", "Sun, 06 Nov 1994 08:49:37 GMT")] if environ["PATH_INFO"] == "/own" else []
        start_response("200 OK", [("Content-Length", "0"), *own])
        return []

    server = http_server(bus, application, port=0, limits=Limits(body=1))
    bus.start()
    connection = connect(server)
    assert get(connection, "/own").headers.get_all("Date") == ["Sun, 06 Nov 1994 08:49:37 GMT"]
    before = int(time.time())
    answers = [get(connection)]
    connection.request("POST", "/", b"too long")
    answers.append(connection.getresponse())
    for answer in answers:
        (date,) = answer.headers.get_all("Date")
        assert before <= parsedate_to_datetime(date).timestamp() <= time.time()
        assert date.endswith(" GMT")
    assert [answer.status for answer in answers] == [200, 413]


def test_without_an_application_it_is_cherrypys_tree(bus):
    server = http_server(bus, port=0)
    bus.start()
    assert get(connect(server), "/nowhere").status == 404


def test_a_port_in_use_is_one_clear_line(bus):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ServerError) as caught:
            http_server(bus, hello, port=port).bind()
    assert str(caught.value) == f"cannot listen on 127.0.0.1:{port}: Address already in use"


def test_an_address_that_is_not_ours_is_one_clear_line(bus):
    with pytest.raises(ServerError) as caught:
        http_server(bus, hello, host="192.0.2.1", port=8080).bind()
    assert str(caught.value) == "cannot listen on 192.0.2.1:8080: Cannot assign requested address"


def test_requests_wait_between_bind_and_start(bus):
    server = http_server(bus, hello, port=0)
    server.bind()
    connection = connect(server)
    connection.request("GET", "/")
    bus.start()
    assert connection.getresponse().read() == b"hello"


def test_the_bus_can_stop_and_start_a_server(bus, path):
    http_server(bus, hello, path=path)
    for _ in range(2):
        bus.start()
        assert get(UnixConnection(path)).body == b"hello"
        bus.stop()
        assert not os.path.exists(path)


def test_the_sockets_mode_is_0600_whatever_the_umask(bus, path):
    old = os.umask(0)
    try:
        http_server(bus, hello, path=path)
        bus.start()
    finally:
        os.umask(old)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert get(UnixConnection(path)).body == b"hello"


def test_the_socket_has_its_mode_from_the_first_moment(tmp_path, path):
    """Seen by the kernel's own account: no chmod(2) of the path follows the bind."""
    program = (
        "import os, sys\n"
        "from kirsch.bus import http_server\n"
        "from cherrypy.process.wspbus import Bus\n"
        "def hook(event, args):\n"
        "    if event == 'socket.bind': os.umask(0o777)  # a chmod after bind would still make it 0600\n"
        "    if event == 'os.chmod' and not isinstance(args[0], int): os._exit(9)\n"
        "sys.addaudithook(hook)\n"
        "os.umask(0)\n"
        "server = http_server(Bus(), path=sys.argv[1])\n"
        "server.bind()\n"
        "print(oct(os.stat(sys.argv[1]).st_mode & 0o777))\n"
        "server.stop()\n"
    )
    done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "0o0\n"), done.stderr  # 0600 less the umask of bind(2)


def test_the_socket_of_a_dead_server_is_replaced(bus, path):
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
        dead.listen()
    http_server(bus, hello, path=path)
    bus.start()
    assert get(UnixConnection(path)).body == b"hello"


def test_the_socket_of_a_live_server_is_refused(bus, path):
    http_server(bus, hello, path=path)
    bus.start()
    with pytest.raises(ServerError) as caught:
        http_server(bus, hello, path=path).bind()
    assert str(caught.value) == f"cannot listen on {path}: another server does"
    assert get(UnixConnection(path)).body == b"hello"


def test_a_file_that_is_no_socket_is_left_alone(bus, path):
    Path(path).write_text("mine")
    with pytest.raises(ServerError, match="a file that is no socket"):
        http_server(bus, hello, path=path).bind()
    assert Path(path).read_text() == "mine"


def test_a_folder_that_is_not_there_is_one_clear_line(bus, path):
    with pytest.raises(ServerError) as caught:
        http_server(bus, hello, path=path + "/deeper").bind()
    assert str(caught.value) == f"cannot listen on {path}/deeper: No such file or directory"


@pytest.mark.parametrize(("length", "allowed"), [(107, True), (108, False)])
def test_a_path_too_long_for_a_socket(bus, tmp_path, monkeypatch, length, allowed):
    monkeypatch.chdir(tmp_path)
    path = "s" * length
    server = http_server(bus, hello, path=path)
    if allowed:
        server.bind()
        server.stop()
    else:
        with pytest.raises(ServerError, match=r"108 bytes, 107 are allowed: sss"):
            server.bind()


def test_a_stop_does_not_remove_the_socket_of_another(bus, path):
    server = http_server(bus, hello, path=path)
    bus.start()
    os.rename(path, path + ".old")
    Path(path).write_text("another's")
    server.stop()
    assert Path(path).exists()


def test_many_connections_are_kept_alive(bus):
    server = http_server(bus, hello, port=0)
    bus.start()
    connections = [connect(server) for _ in range(40)]
    assert [get(connection).getheader("Connection") for connection in connections] == [None] * 40
    assert [get(connection).body for connection in connections] == [b"hello"] * 40


def test_keep_alive_has_a_limit(bus):
    server = http_server(bus, hello, port=0, limits=Limits(keep_alive=2))
    bus.start()
    connections = [connect(server) for _ in range(4)]
    kept = [get(connection).getheader("Connection") for connection in connections]
    assert kept.count("close") >= 1


def test_while_the_bus_drains_connections_close_after_their_response(bus):
    server = http_server(bus, hello, port=0)
    bus.start()
    connection = connect(server)
    assert get(connection).getheader("Connection") is None
    bus.publish("drain")
    assert get(connection).getheader("Connection") == "close"


def test_a_body_over_the_limit_is_413(bus):
    server = http_server(bus, hello, port=0, limits=Limits(body=100))
    bus.start()
    connection = connect(server)
    connection.request("POST", "/", body=b"x" * 101)
    assert connection.getresponse().status == 413


def test_a_body_that_trickles_is_given_up(bus):
    """A byte now and then keeps a thread for about the timeout, not for ever."""

    def reads(environ, start_response):
        environ["wsgi.input"].read()
        return hello(environ, start_response)

    server = http_server(bus, reads, port=0, limits=Limits(body=1 << 20, timeout=0.5))
    bus.start()
    with socket.create_connection(server.bind_addr, timeout=20) as trickling:
        trickling.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n")
        trickling.setblocking(False)
        sent = 0
        while not select.select([trickling], [], [], 0.1)[0]:
            sent += trickling.send(b"x")
        assert sent < 200
        trickling.setblocking(True)
        assert trickling.recv(100).startswith(b"HTTP/1.1 408")


def test_a_stop_waits_for_requests_in_flight(bus):
    entered, go_on = threading.Event(), threading.Event()

    def slow(environ, start_response):
        entered.set()
        go_on.wait(10)
        return hello(environ, start_response)

    server = http_server(bus, slow, port=0)
    bus.start()
    connection = connect(server)
    connection.request("GET", "/")
    assert entered.wait(10)
    stopping = threading.Thread(target=bus.stop)
    stopping.start()
    go_on.set()
    assert connection.getresponse().read() == b"hello"
    stopping.join(10)
    assert not stopping.is_alive()


APPLICATION = """
import sys, cherrypy
from kirsch.bus import SERVER_DEFAULTS
class Root:
    def index(self): return "hello"
    index.exposed = True
cherrypy.config.update(SERVER_DEFAULTS)
cherrypy.config.update({"server.socket_file": sys.argv[1]})
cherrypy.tree.mount(Root())
cherrypy.engine.signals.subscribe()
cherrypy.engine.start()
server = cherrypy.server.httpserver
numbers = (server.limits.backlog, server.limits.keep_alive, server.limits.threads)
print(type(server).__name__, *numbers, flush=True)
cherrypy.engine.block()
"""


def test_the_defaults_reach_cherrypys_own_server(path):
    process = subprocess.Popen(
        [sys.executable, "-c", APPLICATION, path], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        limits = Limits()
        expected = f"ApplicationServer {limits.backlog} {limits.keep_alive} {limits.threads}\n"
        assert process.stdout.readline() == expected
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        assert get(UnixConnection(path)).body == b"hello"
    finally:
        process.terminate()
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (0, "", "")


@pytest.mark.parametrize("served", ["another application", "the tree", "itself", "with its own class"])
def test_a_server_changes_the_error_pages_of_what_it_serves_alone(bus, served):
    """Of CherryPy's applications; CherryPy's own tests, in test_upstream, want CherryPy's pages."""
    application = cherrypy.tree.mount(None, "/pages")
    if served == "with its own class":
        application.request_class = type("Own", (application.request_class,), {})
    before = application.request_class
    applications = {"another application": hello, "itself": application}
    http_server(bus, applications.get(served), port=0)
    try:
        bus.start()
        assert (application.request_class is not before) == (served in ("the tree", "itself"))
        assert cherrypy.Application.request_class is cherrypy.Application(None).request_class
    finally:
        del cherrypy.tree.apps["/pages"]


def test_the_defaults_name_nothing_that_cherrypy_does_not_know():
    for name in SERVER_DEFAULTS:
        space, _, attribute = name.partition(".")
        if space == "server":
            assert hasattr(cherrypy.server, attribute)
