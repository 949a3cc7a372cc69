"""Bytes on a connection, and where one request ends and the next begins."""

import contextlib
import http.client
import socket
import subprocess
import sys

import cherrypy
import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kirsch.bus import Limits, http_server
from kirsch.bus.http.request import Reader, Refused

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
NEXT = b"GET /next HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


class Application:
    """Answers its path; reads the body where that says so."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.trailers: list[tuple[str, str]] = []

    def __call__(self, environ, start_response):
        path = environ["PATH_INFO"]
        self.asked.append(path)
        body = environ["wsgi.input"]
        if "read" in path:
            path += " " + body.read().decode()
        if "some" in path:
            body.read(3)
        self.trailers += environ["kirsch.trailers"]
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
        (["Transfer-Encoding: chunked"], chunked(b"some", trailer=b"X-Sum: 1\r\n" + SMUGGLED[24:-2])),
        ([f"Content-Length: {len(SMUGGLED)}"], SMUGGLED),
    ):
        application.asked.clear()
        answers = talk(post(path, *fields, body=body) + NEXT)
        assert answers.count(b"HTTP/1.1 200 OK") == 2
        assert application.asked == [path, "/next"]


def test_a_request_in_the_trailer_section_is_refused(talk, application):
    """A request line is no field; cheroot handed it to the application."""
    body = chunked(b"some", trailer=b"X-Sum: 1\r\n" + SMUGGLED[:-2])
    assert talk(post("/read", "Transfer-Encoding: chunked", body=body) + NEXT).startswith(b"HTTP/1.1 400 ")
    assert application.asked == []


def test_trailers_are_the_applications(talk, application):
    body = chunked(b"some", trailer=b"X-Sum: 1\r\n")
    assert b"/next" in talk(post("/read/trailers", "Transfer-Encoding: chunked", body=body) + NEXT)
    assert application.trailers == [("x-sum", "1")]


@pytest.mark.parametrize("path", ["/left", "/some"])
@pytest.mark.parametrize(
    "body",
    [
        b"zz\r\n" + SMUGGLED,
        b"-1\r\n\r\n" + SMUGGLED,
        b"0x4\r\nsome\r\n0\r\n\r\n" + SMUGGLED,
        b"4\nsome\r\n0\r\n\r\n" + SMUGGLED,
        b"3\r\nsome\r\n0\r\n\r\n" + SMUGGLED,
        b"4;" + b"x" * 5000 + b"\r\nsome\r\n0\r\n\r\n" + SMUGGLED,
        b"4\r\nsome\r\n0\r\nX: 1\n" + SMUGGLED,
        b"4\r\nso",
    ],
    ids=lambda body: repr(body[:16]),
)
def test_chunks_that_cannot_be_told_apart_end_the_connection(talk, application, path, body):
    answer = talk(post(path, "Transfer-Encoding: chunked", body=body))
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"Connection: close" in answer
    assert answer.count(b"HTTP/1.1") == 1
    assert application.asked == []


def test_a_chunk_that_claims_gigabytes_ends_the_connection(talk, application):
    answer = talk(post("/left", "Transfer-Encoding: chunked", body=b"fffffff\r\n" + SMUGGLED))
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"Connection: close" in answer
    assert application.asked == []


@pytest.mark.parametrize("path", ["/left", "/some"])
def test_more_chunks_than_allowed_end_the_connection(bus, application, path):
    server = http_server(bus, application, port=0, limits=Limits(body=1000))
    bus.start()
    body = chunked(b"x" * 600, b"x" * 600) + SMUGGLED
    with socket.create_connection(server.bind_addr, timeout=20) as connection:
        connection.sendall(post(path, "Transfer-Encoding: chunked", body=body))
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"Connection: close" in answer
    assert application.asked == []


def test_a_body_that_breaks_off_ends_the_connection(talk, application):
    answer = talk(post("/left", "Content-Length: 1000", body=SMUGGLED))
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"Connection: close" in answer
    assert application.asked == []


@pytest.mark.parametrize("fields", [["Transfer-Encoding: chunked"], ["Content-Length: 1000"]])
def test_a_body_that_does_not_come_is_waited_for_so_long_and_no_longer(bus, application, fields):
    server = http_server(bus, application, port=0, limits=Limits(timeout=0.2))
    bus.start()
    with socket.create_connection(server.bind_addr, timeout=20) as connection:
        connection.sendall(post("/left", *fields))
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"Connection: close" in answer


@pytest.mark.parametrize("coding", [True, False])
def test_a_body_too_long_ends_the_connection(bus, application, coding):
    server = http_server(bus, application, port=0, limits=Limits(body=1 << 20))
    bus.start()
    size = (8 << 20) + 1
    connection = http.client.HTTPConnection(*server.bind_addr, timeout=20)
    body = (b"x" * (1 << 16) for _ in range(size // (1 << 16) + 1)) if coding else b"x" * size
    # The server may be done with us before all is sent; its answer is there all the same.
    with contextlib.suppress(BrokenPipeError):
        connection.request("POST", "/left", body, encode_chunked=coding, headers={})
    answer = connection.getresponse()
    assert (answer.status, answer.getheader("Connection")) == (413, "close")
    assert application.asked == []


@pytest.mark.parametrize("fields", [["Transfer-Encoding: chunked"], ["Content-Length: 600000"]])
def test_a_client_sees_an_answer_that_says_no(talk, fields):
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
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"Connection: Keep-Alive" not in answer
    assert application.asked == []


def test_answers_name_no_version(talk):
    assert b"\r\nServer: kirsch\r\n" in talk(NEXT)


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
        (b"GET /site/ HTTP/1.1\r\nHost: x\r\nCookie: \x01=\r\n\r\n", b"400"),
        (b"GET /site/ HTTP/1.1\r\nHost: x\r\nCookie: \xe9\xff==;=;\r\n\r\n", b""),
        (b"GET /site/ HTTP/1.1\r\nHost: x\r\nX: =?nowhere?q?x?=\r\n\r\n", b""),
        (b"GET /site/%ff HTTP/1.1\r\nHost: x\r\n\r\n", b"404"),
        (b"GET /site/?%ff HTTP/1.1\r\nHost: x\r\n\r\n", b"404"),
        (b"GET /site/fault HTTP/1.1\r\nHost: x\r\n\r\n", b"500"),
        (b"GET /site/nowhere HTTP/1.1\r\nHost: x\r\n\r\n", b"404"),
        (b"GET /elsewhere HTTP/1.1\r\nHost: x\r\n\r\n", b"404"),
        (b"GET /site/ HTTP/1.1\r\nHost: x\r\n\r\n", b"200"),
        (b"POST /site/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", b"400"),
    ],
)
def test_no_answer_has_a_traceback_or_a_version(site, data, status):
    answer = site(data)
    assert answer.startswith(b"HTTP/1.1 " + status)
    server = b"kirsch" if status == b"400" or b"/elsewhere" in data else b"CherryPy"
    assert answer.count(b"Server: " + server + b"\r\n") == answer.count(b"Server: ") == 1
    assert b"Traceback" not in answer
    assert cherrypy.__version__.encode() not in answer
    assert b"cheroot" not in answer.lower()


def test_no_body_is_left_for_the_next_request_to_cherrypy(site):
    data = post("/site/", "Transfer-Encoding: chunked", body=chunked(SMUGGLED))
    assert site(data + NEXT).count(b"HTTP/1.1") == 2


# The reader alone: no sockets.

HEAD = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


def read(data, sizes=(), limits=None):
    """The requests in `data`, fed in pieces, each with its body; and what was refused."""
    reader, found = Reader(limits or Limits()), []
    sizes = iter(sizes)
    try:
        while data:
            size = next(sizes, len(data))
            reader.feed(data[:size])
            data = data[size:]
            while request := reader.take():
                found.append((request, request.body.read() if request.body else b""))
        reader.end()
    except Refused as refused:
        return found, refused.status
    return found, None


SIZES = st.lists(st.integers(1, 40))


@given(st.lists(st.binary(min_size=1, max_size=300)), SIZES, st.integers(0, 400))
def test_chunks_are_read_as_they_were_written(chunks, sizes, memory):
    limits = Limits(memory=memory)
    found, refused = read(HEAD + chunked(*chunks, trailer=b"A: b\r\n") + NEXT, sizes, limits)
    assert refused is None
    (first, body), (second, nothing) = found
    assert body == b"".join(chunks)
    assert first.length == len(body)
    assert first.trailers == [("a", "b")]
    assert (second.target, nothing) == ("/next", b"")


class Oracle:
    """What httptools makes of a request."""

    def __init__(self, data: bytes) -> None:
        self.body, self.done = b"", False
        self.parser = httptools.HttpRequestParser(self)
        self.parser.feed_data(data)

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.done = True


PIECES = st.sampled_from(
    [b"0", b"1", b"3", b"A", b";", b"=x", b"\r\n", b"\n", b"\r", b" ", b"abc", b"X: y", b"\t", b"\x00", b":"]
)


@given(st.lists(PIECES, max_size=14).map(b"".join) | st.binary(max_size=40), SIZES)
def test_chunks_that_are_taken_are_read_as_httptools_reads_them(data, sizes):
    """Two readers that are apart: what one takes for the end of a request so does the other."""
    reader = Reader(Limits())
    try:
        reader.feed(HEAD + data)
        request = reader.take()
    except Refused:
        return
    if request is None:
        return
    rest = reader.rest()
    oracle = Oracle(HEAD + data[: len(data) - len(rest)])
    assert oracle.done
    assert oracle.body == (request.body.read() if request.body else b"")


@given(st.binary(min_size=1, max_size=100), st.data())
def test_a_body_cut_short_is_refused(content, data):
    whole = chunked(content)
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    assert read(HEAD + cut)[1] == 400


LINES = st.lists(
    st.sampled_from(
        b"""GET / HTTP/1.1|POST /a HTTP/1.1|OPTIONS * HTTP/1.1|BREW /pot HTTP/1.1|get / HTTP/1.1|\
GET /  HTTP/1.1|\
 GET / HTTP/1.1|GET http://x/ HTTP/1.1|GET http://y/ HTTP/1.1|GET / HTTP/1.0|GET / HTTP/2.0|GET /|Host: x|\
Host: y|Host : x| Host: x|Host:x|Content-Length: 3|Content-Length: 4|Transfer-Encoding: chunked|\
Transfer-Encoding: \x0bchunked|transfer-encoding: chunked, chunked|Connection: close|Connection: upgrade|\
Upgrade: x|Expect: 100-continue|A: \x00|A: b\rc|: b|3|0|abc|""".split(b"|")
    ),
    max_size=9,
)


@given(LINES, st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r"]), SIZES)
def test_a_request_is_read_alike_however_its_bytes_come(lines, end, sizes):
    data = end.join([*lines, b""])
    at_once, pieces = read(data), read(data, sizes)
    assert [(*vars_of(request), body) for request, body in at_once[0]] == [
        (*vars_of(request), body) for request, body in pieces[0]
    ]
    assert (at_once[1] is None) == (pieces[1] is None)


def vars_of(request):
    return (request.method, request.target, request.version, tuple(request.fields.items()), request.length)


@given(st.binary(max_size=200), SIZES)
def test_any_bytes_are_requests_or_refused(data, sizes):
    _, refused = read(data, sizes)
    assert refused in (None, 400, 413, 414, 417, 431, 501, 505)


def test_a_head_that_dribbles_costs_what_its_bytes_cost():
    reader = Reader(Limits())
    fields = b"".join(b"Field-%d: value\r\n" % number for number in range(2000))
    for byte in b"GET / HTTP/1.1\r\nHost: x\r\n" + fields + b"\r\n":
        reader.feed(bytes((byte,)))
    assert len(reader.take().fields) == 2001


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET /" + b"a" * 17_000, 414),
        (b"GET /" + b"a" * 17_000 + b" HTTP/1.1\r\n", 414),
        (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 66_000, 431),
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 11_000, 431),
        (HEAD + b"0\r\n" + b"A: b\r\n" * 11_000, 431),
        (HEAD + b"1;" + b"a" * 4000 + b"\r\na\r\n", None),
        (HEAD + (b"1;" + b"a" * 4000 + b"\r\na\r\n") * 17, 400),
    ],
)
def test_heads_and_trailers_have_limits(data, status):
    found, refused = read(data)
    assert (found, refused) == ([], status if status else 400)  # cut off, where nothing else is wrong


def test_a_large_body_lies_in_a_file():
    found, _ = read(post("/", "Content-Length: 100000", body=b"x" * 100_000), limits=Limits(memory=1000))
    ((request, body),) = found
    assert body == b"x" * 100_000
    assert request.body.fileno() > 0
    request.body.close()


def test_a_client_that_asks_is_told_to_continue():
    reader = Reader(Limits())
    reader.feed(post("/", "Content-Length: 5", "Expect: 100-Continue"))
    assert reader.continues
    reader = Reader(Limits())
    reader.feed(post("/", "Content-Length: 5", "Expect: 100-Continue", body=b"x"))
    assert not reader.continues  # it did not wait


class TestWithoutHttptools:
    """Phones have nothing compiled."""

    @pytest.fixture(autouse=True)
    def plain(self, monkeypatch):
        monkeypatch.setattr("kirsch.bus.http.request.httptools", None)

    def test_a_head_is_read_in_whatever_pieces_it_comes(self):
        head = b"PUT /x?y HTTP/1.1\r\nHost: a\r\nX-One:  1 \r\ncontent-length: 2\r\n\r\nhi"
        for cut in range(1, len(head)):
            reader = Reader(Limits())
            reader.feed(head[:cut])
            reader.feed(head[cut:])
            request = reader.take()
            assert request is not None
            assert (request.method, request.target, request.fields["x-one"]) == ("PUT", "/x?y", "1")
            assert request.body is not None
            assert request.body.read() == b"hi"

    @pytest.mark.parametrize(
        "lines",
        [
            b" Host: a",
            b"Host : a",
            b"Host: a\r\n folded",
            b"Host: a\nX: b",
            b"Host: a\0b",
            b"Host: a\rb",
            b"Host",
        ],
    )
    def test_a_field_that_two_servers_could_read_differently_is_refused(self, lines):
        with pytest.raises(Refused) as refused:
            Reader(Limits()).feed(b"GET / HTTP/1.1\r\n" + lines + b"\r\n\r\n")
        assert refused.value.status == 400
