"""Bytes on a connection, and where one request ends and the next begins."""

import contextlib
import http.client
import io
import socket
import subprocess
import sys

import cherrypy
import pytest
from cheroot.errors import MaxSizeExceeded
from hypothesis import given
from hypothesis import strategies as st

from kirsch.bus import Limits, http_server
from kirsch.bus.request import LEFTOVER, ChunkedBody

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
NEXT = b"GET /next HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


class Application:
    """Answers its path; reads the body where that says so."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.trailers: list[bytes] = []

    def __call__(self, environ, start_response):
        path = environ["PATH_INFO"]
        self.asked.append(path)
        body = environ["wsgi.input"]
        if "read" in path:
            path += " " + body.read().decode()
        if "trailers" in path:
            self.trailers.extend(body.read_trailer_lines())
        if "some" in path:
            with contextlib.suppress(ValueError, MaxSizeExceeded):
                body.read(3)
        status = "413 Content Too Large" if "large" in path else "200 OK"
        start_response(status, [("Content-Length", str(len(path)))])
        return [path.encode()]


@pytest.fixture
def application() -> Application:
    return Application()


@pytest.fixture
def talk(bus, application):
    """talk(bytes): what is answered until the connection closes."""
    server = http_server(bus, application, port=0, limits=Limits(timeout=2, body=1 << 20))
    bus.start()

    def send(data: bytes) -> bytes:
        with socket.create_connection(server.bind_addr, timeout=20) as connection:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: connection.recv(65536), b""))

    return send


def post(path: str, *fields: str, body: bytes = b"", version: str = "1.1") -> bytes:
    return "\r\n".join([f"POST {path} HTTP/{version}", "Host: x", *fields, "", ""]).encode() + body


def chunked(*chunks: bytes, trailer: bytes = b"") -> bytes:
    return (
        b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in (*chunks,)) + b"0\r\n" + trailer + b"\r\n"
    )


@pytest.mark.parametrize("path", ["/left", "/some", "/read"])
def test_a_body_is_not_the_next_request(talk, application, path):
    for fields, body in (
        (["Transfer-Encoding: chunked"], chunked(SMUGGLED, SMUGGLED)),
        (["Transfer-Encoding: chunked"], chunked(b"some", trailer=b"X-Sum: 1\r\n" + SMUGGLED[:-2])),
        ([f"Content-Length: {len(SMUGGLED)}"], SMUGGLED),
    ):
        application.asked.clear()
        answers = talk(post(path, *fields, body=body) + NEXT)
        assert answers.count(b"HTTP/1.1 200 OK") == 2
        assert application.asked == [path, "/next"]


def test_trailers_are_the_applications(talk, application):
    body = chunked(b"some", trailer=b"X-Sum: 1\r\n")
    assert b"/next" in talk(post("/read/trailers", "Transfer-Encoding: chunked", body=body) + NEXT)
    assert application.trailers == [b"X-Sum: 1\r\n"]


@pytest.mark.parametrize("path", ["/left", "/some"])
@pytest.mark.parametrize(
    "body",
    [
        b"zz\r\n" + SMUGGLED,
        b"-1\r\n\r\n" + SMUGGLED,
        b"0x4\r\nsome\r\n0\r\n\r\n" + SMUGGLED,
        b"4\nsome\r\n0\r\n\r\n" + SMUGGLED,
        b"3\r\nsome\r\n0\r\n\r\n" + SMUGGLED,
        b"fffffff\r\n" + SMUGGLED,
        b"4;" + b"x" * 5000 + b"\r\nsome\r\n0\r\n\r\n" + SMUGGLED,
        b"4\r\nsome\r\n0\r\nX: 1\n" + SMUGGLED,
        b"4\r\nso",
    ],
    ids=lambda body: repr(body[:16]),
)
def test_chunks_that_cannot_be_told_apart_end_the_connection(talk, application, path, body):
    answer = talk(post(path, "Transfer-Encoding: chunked", body=body))
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert b"Connection: close" in answer
    assert application.asked == [path]


@pytest.mark.parametrize("path", ["/left", "/some"])
def test_more_chunks_than_allowed_end_the_connection(bus, application, path):
    server = http_server(bus, application, port=0, limits=Limits(body=1000))
    bus.start()
    body = chunked(b"x" * 600, b"x" * 600) + SMUGGLED
    with socket.create_connection(server.bind_addr, timeout=20) as connection:
        connection.sendall(post(path, "Transfer-Encoding: chunked", body=body))
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert b"Connection: close" in answer
    assert application.asked == [path]


def test_a_body_that_breaks_off_ends_the_connection(talk, application):
    answer = talk(post("/left", "Content-Length: 1000", body=SMUGGLED))
    assert b"Connection: close" in answer
    assert application.asked == ["/left"]


@pytest.mark.parametrize("fields", [["Transfer-Encoding: chunked"], ["Content-Length: 1000"]])
def test_a_body_that_does_not_come_is_waited_for_so_long_and_no_longer(bus, application, fields):
    server = http_server(bus, application, port=0, limits=Limits(timeout=0.2))
    bus.start()
    with socket.create_connection(server.bind_addr, timeout=20) as connection:
        connection.sendall(post("/left", *fields))
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert b"Connection: close" in answer


@pytest.mark.parametrize("coding", [True, False])
def test_a_body_too_long_to_be_left_ends_the_connection(bus, application, coding):
    server = http_server(bus, application, port=0, limits=Limits(body=0))
    bus.start()
    size = LEFTOVER + 1
    connection = http.client.HTTPConnection(*server.bind_addr, timeout=20)
    body = (b"x" * (1 << 16) for _ in range(size // (1 << 16) + 1)) if coding else b"x" * size
    # The server may be done with us before all is sent; its answer is there all the same.
    with contextlib.suppress(BrokenPipeError):
        connection.request("POST", "/left", body, encode_chunked=coding, headers={})
    assert connection.getresponse().getheader("Connection") == "close"
    assert application.asked == ["/left"]


@pytest.mark.parametrize("fields", [["Transfer-Encoding: chunked"], ["Content-Length: 600000"]])
def test_a_client_sees_an_answer_that_came_early(talk, fields):
    """Not a reset: what it sent is read, though the connection closes."""
    size = 600_000
    body = chunked(b"x" * size) if "chunked" in fields[0] else b"x" * size
    assert talk(post("/large", *fields, "Connection: close", body=body)).startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize(
    "head",
    [
        post("/x", "Content-Length: 0", "Content-Length: 5"),
        post("/x", "Content-Length: -5"),
        post("/x", "Content-Length: +5"),
        post("/x", "Content-Length: 1_0"),
        post("/x", "Content-Length: 5, 5"),
        post("/x", "Content-Length : 5"),
        post("/x", "Host: y"),
    ],
)
def test_a_head_with_two_readings_is_400(talk, application, head):
    answer = talk(head + b"12345" + SMUGGLED)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1") == 1
    assert application.asked == []


@pytest.mark.parametrize(
    ("fields", "version"),
    [
        (["Transfer-Encoding: chunked", "Content-Length: 5"], "1.1"),
        (["Transfer-Encoding: chunked", "Connection: Keep-Alive"], "1.0"),
        (["Transfer-Encoding: ", "Connection: keep-alive"], "1.1"),
    ],
)
def test_two_ways_to_tell_the_length_end_the_connection(talk, application, fields, version):
    answer = talk(post("/x", *fields, body=chunked(b"some") + SMUGGLED, version=version))
    assert b"Connection: Keep-Alive" not in answer
    assert application.asked == ["/x"]


def test_answers_name_no_version(talk):
    assert b"\r\nServer: CherryPy\r\n" in talk(NEXT)


def test_an_application_may_name_itself(bus):
    def named(environ, start_response):
        start_response("204 No Content", [("SERVER", "notes")])
        return []

    server = http_server(bus, named, port=0)
    bus.start()
    connection = http.client.HTTPConnection(*server.bind_addr, timeout=10)
    connection.request("GET", "/")
    assert connection.getresponse().headers.get_all("Server") == ["notes"]


SITE = """
import sys, cherrypy
from kirsch.bus import SERVER_DEFAULTS, ExitPlugin, http_server
class Root:
    def index(self): return "hello"
    index.exposed = True
    def fault(self): raise RuntimeError("fault")
    fault.exposed = True
kind, path = sys.argv[1:]
if kind == "own":
    cherrypy.config.update({"log.screen": False, "engine.autoreload.on": False})
    cherrypy.server.unsubscribe()
    http_server(cherrypy.engine, path=path)
else:
    cherrypy.config.update(SERVER_DEFAULTS)
    cherrypy.config.update({"server.socket_file": path})
cherrypy.tree.mount(Root(), "/site")
ExitPlugin(cherrypy.engine).subscribe()
cherrypy.engine.start()
print("ready", flush=True)
cherrypy.engine.block()
"""


@pytest.fixture(scope="module", params=["own", "cherrypys"])
def site(request, tmp_path_factory):
    """Bytes to CherryPy's tree, and the answer; by http_server() and by cherrypy.server."""
    path = str(tmp_path_factory.mktemp("site") / "socket")
    argv = [sys.executable, "-c", SITE, request.param, path]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)

    def send(data: bytes) -> bytes:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(20)
            connection.connect(path)
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: connection.recv(65536), b""))

    try:
        assert process.stdout.readline() == "ready\n"
        yield send
    finally:
        process.terminate()
        process.communicate(timeout=20)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET /site/ HTTP/1.1\r\n\r\n", b"400"),
        (b"GET /site/ HTTP/1.1\r\nHost: x\r\nCookie: \x01=\r\n\r\n", b""),
        (b"GET /site/ HTTP/1.1\r\nHost: x\r\nX: =?nowhere?q?x?=\r\n\r\n", b""),
        (b"GET /site/%ff HTTP/1.1\r\nHost: x\r\n\r\n", b"404"),
        (b"GET /site/?%ff HTTP/1.1\r\nHost: x\r\n\r\n", b"404"),
        (b"GET /site/fault HTTP/1.1\r\nHost: x\r\n\r\n", b"500"),
        (b"GET /site/nowhere HTTP/1.1\r\nHost: x\r\n\r\n", b"404"),
        (b"GET /elsewhere HTTP/1.1\r\nHost: x\r\n\r\n", b"404"),
        (b"GET /site/ HTTP/1.1\r\nHost: x\r\n\r\n", b"200"),
        (b"POST /site/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", b""),
    ],
)
def test_no_answer_has_a_traceback_or_a_version(site, data, status):
    answer = site(data)
    assert answer.startswith(b"HTTP/1.1 " + status)
    assert answer.count(b"Server: CherryPy\r\n") == 1
    assert b"Traceback" not in answer
    assert cherrypy.__version__.encode() not in answer
    assert b"cheroot" not in answer.lower()


def test_no_body_is_left_for_the_next_request_to_cherrypy(site):
    data = post("/site/", "Transfer-Encoding: chunked", body=chunked(SMUGGLED))
    assert site(data + NEXT).count(b"HTTP/1.1") == 2


@given(st.lists(st.binary(min_size=1, max_size=300)), st.integers(1, 400), st.binary(max_size=20))
def test_chunks_are_read_as_they_were_written(chunks, size, after):
    stream = io.BufferedReader(io.BytesIO(chunked(*chunks, trailer=b"A: b\r\n") + after))
    body = ChunkedBody(stream, 0)
    assert b"".join(iter(lambda: body.read(size), b"")) == b"".join(chunks)
    assert list(body.read_trailer_lines()) == [b"A: b\r\n"]
    assert stream.read() == after


@given(st.binary(max_size=40))
def test_any_bytes_are_chunks_or_refused(data):
    body = ChunkedBody(io.BufferedReader(io.BytesIO(data)), 1000)
    try:
        body.read()
    except (ValueError, MaxSizeExceeded):
        assert not body.whole
    else:
        assert body.whole


@given(st.binary(min_size=1, max_size=100), st.data())
def test_a_body_cut_short_is_refused(content, data):
    whole = chunked(content)
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    with pytest.raises(ValueError, match=r"\S"):
        ChunkedBody(io.BufferedReader(io.BytesIO(cut)), 0).read()
