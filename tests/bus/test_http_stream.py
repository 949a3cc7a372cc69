"""Bodies that an application reads while they come."""

import queue
import socket
import threading

import pytest
from tests.deadline import eventually

from kirsch.bus import Limits, http_server

PATIENCE = 30
HEAD = b"POST /upload HTTP/1.1\r\nHost: x\r\n"
LENGTH = HEAD + b"Content-Length: 10\r\n\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


class Upload:
    """Reads bodies in pieces, which a test sees as they come; `/early` answers without reading."""

    def __init__(self):
        self.pieces, self.entered, self.environs = queue.Queue(), threading.Semaphore(0), []

    def __call__(self, environ, start_response):
        self.environs.append(environ)
        body, read = environ["wsgi.input"], 0
        if environ["PATH_INFO"] == "/upload":
            self.entered.release()
            while piece := body.read1(4096):
                read += len(piece)
                self.pieces.put(piece)
        start_response("200 OK", [("Content-Length", "5")])
        return [b"%5d" % read]


class Careless(Upload):
    """Answers 200 whatever becomes of a body."""

    def __call__(self, environ, start_response):
        try:
            return super().__call__(environ, start_response)
        except Exception:
            start_response("200 OK", [])
            return [b"all is well"]


@pytest.fixture
def application():
    return Upload()


@pytest.fixture
def start(bus, application):
    def start(application=application, **limits):
        limits = Limits(**({"threads": 4, "timeout": PATIENCE} | limits))
        adapter = http_server(
            bus, application, port=0, limits=limits, stream=lambda method, path: method == "POST"
        )
        bus.start()
        start.server = adapter.httpserver
        return adapter.bind_addr

    return start


def connect(address, data=b""):
    sock = socket.create_connection(address, timeout=PATIENCE)
    sock.sendall(data)
    return sock


def whole(sock):
    return b"".join(iter(lambda: sock.recv(65536), b""))


def test_a_body_of_known_length_is_read_as_it_comes(start, application):
    with connect(start(), LENGTH + b"abc") as sock:
        assert application.pieces.get(timeout=PATIENCE) == b"abc"
        sock.sendall(b"def")
        assert application.pieces.get(timeout=PATIENCE) == b"def"
        sock.sendall(b"ghij" + GET)
        assert application.pieces.get(timeout=PATIENCE) == b"ghij"
        assert application.environs[0]["CONTENT_LENGTH"] == "10"
        # The connection goes on after it, with what came behind the body.
        answer = b""
        while answer.count(b"HTTP/1.1 200 OK") < 2 or not answer.endswith(b"    0"):
            answer += sock.recv(1000)
        assert b"   10" in answer
        assert b"Connection" not in answer


def test_chunks_are_read_as_they_come_and_trailers_at_the_end(start, application):
    with connect(start(), CHUNKED + b"3\r\nabc\r\n") as sock:
        assert application.pieces.get(timeout=PATIENCE) == b"abc"
        (environ,) = application.environs
        assert "CONTENT_LENGTH" not in environ
        assert environ["kirsch.trailers"] == []
        sock.sendall(b"2\r\nde\r\n0\r\nA: b\r\n\r\n")
        assert application.pieces.get(timeout=PATIENCE) == b"de"
        assert sock.recv(1000).endswith(b"    5")
        assert environ["kirsch.trailers"] == [("a", "b")]


def test_who_waits_for_continue_is_told_once_the_application_reads(start, application):
    expect = LENGTH.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n")
    address = start()
    with connect(address, expect) as sock:
        assert sock.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(b"x" * 10)
        assert sock.recv(1000).endswith(b"   10")
    with connect(address, expect.replace(b"/upload", b"/early")) as sock:
        answer = whole(sock)
        assert answer.startswith(b"HTTP/1.1 200 OK")
        assert b"\r\nConnection: close\r\n" in answer


def test_a_body_that_is_not_read_ends_the_connection(start):
    with connect(start(), LENGTH.replace(b"/upload", b"/early") + b"abc") as sock:
        answer = sock.recv(1000)
        sock.sendall(b"defghij" + GET)
        answer += whole(sock)
    assert answer.count(b"HTTP/1.1") == 1
    assert b"\r\nConnection: close\r\n" in answer


@pytest.mark.parametrize("application", [Upload(), Careless()], ids=["failing", "careless"])
@pytest.mark.parametrize(
    ("data", "limits", "status"),
    [
        (LENGTH + b"abc", {"timeout": 0.3}, b"408"),
        (CHUNKED + b"3\r\nabcde\r\n", {}, b"400"),
        (CHUNKED + b"3\r\nabc\r\nff\r\n", {"body": 100}, b"413"),
    ],
)
def test_what_does_not_come_as_a_whole_is_refused(start, application, data, limits, status):
    """Whatever the application makes of it."""
    with connect(start(application, **limits), data) as sock:
        answer = whole(sock)
    assert answer.startswith(b"HTTP/1.1 %s " % status)
    assert b"\r\nConnection: close\r\n" in answer


@pytest.mark.parametrize("application", [Upload(), Careless()], ids=["failing", "careless"])
def test_a_body_that_breaks_off_is_refused(start, application):
    with connect(start(application), LENGTH + b"abc") as sock:
        sock.shutdown(socket.SHUT_WR)
        assert whole(sock).startswith(b"HTTP/1.1 400 ")


def test_the_time_that_the_application_takes_is_not_the_clients(bus):
    """It reads late: the body, which is longer than the kernel keeps, came as fast as it was taken."""
    go_on, size = threading.Event(), 64 << 20

    def application(environ, start_response):
        assert go_on.wait(PATIENCE)
        read = 0
        while piece := environ["wsgi.input"].read(1 << 20):
            read += len(piece)
        start_response("200 OK", [("Content-Length", "8")])
        return [str(read).encode()]

    limits = Limits(threads=4, timeout=0.5, rate=1 << 30, body=0)
    adapter = http_server(bus, application, port=0, limits=limits, stream=lambda method, path: True)
    bus.start()
    with connect(adapter.bind_addr, HEAD + b"Content-Length: %d\r\n\r\n" % size) as sock:
        sender = threading.Thread(target=lambda: sock.sendall(bytes(size)))
        sender.start()
        sender.join(0.8)  # the client's time, had it been counted from the head on, is over
        assert sender.is_alive()
        go_on.set()
        assert sock.recv(1000).endswith(b"\r\n%d" % size)
        sender.join(PATIENCE)


def test_half_of_the_threads_are_at_risk_and_no_more(start, application):
    address = start()
    socks = [connect(address, LENGTH + b"a") for _ in range(20)]
    try:
        for _ in range(2):
            assert application.entered.acquire(timeout=PATIENCE)
        for _ in range(5):
            with connect(address, GET) as sock:
                assert sock.recv(1000).startswith(b"HTTP/1.1 200")
        assert not application.entered.acquire(blocking=False)
        eventually(lambda: start.server.busy == 2)
        # All others are answered too, once their bodies are whole.
        for sock in socks:
            sock.sendall(b"bcdefghij")
        for sock in socks:
            assert sock.recv(1000).endswith(b"   10")
        eventually(lambda: start.server.busy == 0)
    finally:
        for sock in socks:
            sock.close()
