"""Clients that dribble, stop, or do not read hold descriptors, not threads; and what each limit answers."""

import contextlib
import http.client
import os
import select
import socket
import threading
from functools import cached_property
from pathlib import Path

import pytest

from kirsch.bus import Limits, http_server
from kirsch.bus.http.limits import Phase

THREADS = 2
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
HALVES = [
    b"",
    b"GET / HT",
    b"GET / HTTP/1.1\r\nHost: x\r\nA: ",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc",
    b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n64\r\nabc",
]
# More than the kernel keeps of an answer that nobody reads.
LARGE = 12 << 20


class Application:
    """Answers at once, with what its path names; `/wait` waits until the test says so."""

    def __init__(self, folder) -> None:
        self.entered = threading.Semaphore(0)
        self.go_on = threading.Event()
        self.folder = folder
        self.closed = threading.Semaphore(0)

    @cached_property
    def file(self):
        file = self.folder / "large"
        file.write_bytes(os.urandom(1 << 20) * (LARGE >> 20))
        return file

    def __call__(self, environ, start_response):
        path = environ["PATH_INFO"]
        if path == "/wait":
            self.entered.release()
            assert self.go_on.wait(60)
        if path == "/file":
            start_response("200 OK", [])
            return environ["wsgi.file_wrapper"](self.file.open("rb"))
        if path == "/pieces":
            start_response("200 OK", [])
            return self.pieces()
        if path == "/empty":
            (self.folder / "empty").touch()
            start_response("200 OK", [])
            return environ["wsgi.file_wrapper"]((self.folder / "empty").open("rb"))
        if path == "/text":
            start_response("200 OK", [])
            return ["text"]
        if path == "/short":
            start_response("200 OK", [("Content-Length", "10")])
            return [b"hello"]
        start_response("200 OK", [("Content-Length", "5")])
        return [b"hello"]

    def pieces(self):
        try:
            with self.file.open("rb") as file:
                while piece := file.read(1 << 18):
                    yield piece
        finally:
            self.closed.release()


@pytest.fixture
def application(tmp_path):
    application = Application(tmp_path)
    yield application
    application.go_on.set()


@pytest.fixture
def start(bus, application):
    """start(**limits): the address of a running server with few threads."""

    def start(**limits):
        adapter = http_server(bus, application, port=0, limits=Limits(**({"threads": THREADS} | limits)))
        bus.start()
        start.server = adapter.httpserver
        return adapter.bind_addr

    return start


def connect(address):
    return socket.create_connection(address, timeout=30)


def read_all(sock):
    return b"".join(iter(lambda: sock.recv(1 << 20), b""))


def get(address, path="/"):
    connection = http.client.HTTPConnection(*address, timeout=30)
    connection.request("GET", path)
    answer = connection.getresponse()
    answer.body = answer.read()
    connection.close()
    return answer


@pytest.mark.parametrize("half", HALVES, ids=repr)
def test_half_requests_hold_no_thread(start, eventually, half):
    address = start()
    with contextlib.ExitStack() as stack:
        for _ in range(20 * THREADS):
            stack.enter_context(connect(address)).sendall(half)
        for _ in range(10):
            assert get(address).body == b"hello"
        eventually(lambda: start.server.busy == 0)


@pytest.mark.parametrize("half", HALVES, ids=repr)
def test_half_requests_have_their_time_and_are_told(start, half):
    address = start(timeout=0.3)
    with connect(address) as sock:
        sock.sendall(half)
        answer = read_all(sock)
    assert answer.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    assert b"Connection: close\r\n" in answer


def test_an_idle_connection_is_closed_without_a_word(start):
    address = start(idle=0.3)
    with connect(address) as sock:
        sock.sendall(GET)
        answer = read_all(sock)
    assert answer.count(b"HTTP/1.1") == 1
    assert answer.endswith(b"hello")


def test_a_body_may_take_as_long_as_it_comes_fast_enough():
    limits = Limits(timeout=15, rate=500, idle=60)
    assert limits.deadline(Phase.HEAD, 100.0, 10**6) == 115
    assert limits.deadline(Phase.SILENT, 100.0) == 115
    assert limits.deadline(Phase.HANDSHAKE, 100.0) == 115
    assert limits.deadline(Phase.BODY, 100.0, 500_000) == 100 + 15 + 1000
    assert limits.deadline(Phase.ANSWER, 100.0, 5000) == 100 + 15 + 10
    assert limits.deadline(Phase.IDLE, 100.0, 5000) == 160
    assert limits.deadline(Phase.CLOSING, 100.0) == 102


@pytest.mark.parametrize("path", [b"/file", b"/pieces"])
def test_who_does_not_read_an_answer_holds_no_thread(start, application, eventually, path):
    address = start()
    with contextlib.ExitStack() as stack:
        expected = application.file.read_bytes()
        slow = [stack.enter_context(connect(address)) for _ in range(4 * THREADS)]
        for sock in slow:
            sock.sendall(GET.replace(b"/ ", path + b" ", 1))
        if path == b"/pieces":
            for _ in slow:
                assert application.closed.acquire(timeout=60)
        for _ in range(10):
            assert get(address).body == b"hello"
        eventually(lambda: start.server.busy == 0)
        # And each gets all of it, once it reads.
        for sock in slow[:2]:
            sock.sendall(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
            answer = read_all(sock)
            first = answer.partition(b"\r\n\r\n")[2]
            if path == b"/pieces":
                assert b"Transfer-Encoding: chunked" in answer[:300]
                first = dechunk(first)
            assert first[: len(expected)] == expected
            assert answer.endswith(b"hello")


def dechunk(data):
    body = b""
    while True:
        size, _, data = data.partition(b"\r\n")
        if not int(size, 16):
            return body
        body, data = body + data[: int(size, 16)], data[int(size, 16) + 2 :]


def test_who_takes_an_answer_too_slowly_is_closed(start, eventually):
    address = start(timeout=0.5)
    with connect(address) as sock:
        sock.sendall(GET.replace(b"/ ", b"/file ", 1))
        eventually(lambda: start.server.open == 1)
        eventually(lambda: start.server.open == 0)
        with contextlib.suppress(ConnectionResetError):
            assert len(read_all(sock)) < LARGE


def test_an_answer_beyond_its_limit_waits_for_its_reader(start, application, eventually):
    """The application's thread does then, so that no answer without an end fills the disk."""
    address = start(answer=1 << 20, spool=2 << 20)
    before = removed_files()
    with connect(address) as sock, connect(address) as other:
        sock.sendall(GET.replace(b"/ ", b"/pieces ", 1))
        eventually(lambda: [file for file in removed_files() - before if file.stat().st_size > 2 << 20])
        assert get(address).body == b"hello"
        # Half of the threads may wait, which is one; another such client is sent away.
        other.sendall(GET.replace(b"/ ", b"/pieces ", 1))
        assert application.closed.acquire(timeout=60)
        assert get(address).body == b"hello"
        eventually(lambda: start.server.busy == 1)
        received = 0
        while received < LARGE:
            piece = sock.recv(1 << 20)
            assert piece
            received += len(piece)
        eventually(lambda: start.server.busy == 0)
        with contextlib.suppress(ConnectionResetError):
            assert len(read_all(other)) < LARGE


def test_an_answer_has_as_much_room_as_others_leave(start, application, eventually):
    """An answer of any length holds no thread, and its file goes with it."""
    before = removed_files()
    address = start(answer=1 << 20)
    with contextlib.ExitStack() as stack:
        for _ in range(2 * THREADS):
            stack.enter_context(connect(address)).sendall(GET.replace(b"/ ", b"/pieces ", 1))
        for _ in range(2 * THREADS):
            assert application.closed.acquire(timeout=60)
        eventually(lambda: start.server.busy == 0)
        assert get(address).body == b"hello"
    eventually(lambda: removed_files() <= before)


def removed_files() -> set[Path]:
    """Descriptors of files that have no name any more."""
    found = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            if descriptor.readlink().name.endswith("(deleted)"):
                found.add(descriptor)
    return found


def test_a_file_is_sent_by_the_kernel(start, application, monkeypatch):
    """os.sendfile() is called as ever, and tells what it has sent."""
    sent = []
    sendfile = os.sendfile

    def told(*arguments):
        sent.append(sendfile(*arguments))
        return sent[-1]

    monkeypatch.setattr(os, "sendfile", told)
    assert get(start(), "/file").body == application.file.read_bytes()
    assert sum(sent) == LARGE


def test_an_empty_file_is_answered_and_so_is_the_request_after_it(start):
    with connect(start()) as sock:
        sock.sendall(
            GET.replace(b"/ ", b"/empty ", 1) + GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
        )
        answer = read_all(sock)
    assert answer.count(b"HTTP/1.1 200 OK\r\n") == 2
    assert b"Content-Length: 0\r\n" in answer
    assert answer.endswith(b"hello")


def test_a_large_answer_of_the_only_thread_waits_for_its_client(start, application):
    assert (
        get(start(threads=1, spool=1 << 18, answer=1 << 18), "/pieces").body == application.file.read_bytes()
    )


def test_a_body_of_text_instead_of_bytes_is_500(start):
    assert get(start(), "/text").status == 500


def test_busy_threads_keep_others_waiting_and_then_away(start, application):
    address = start(queue=3)
    with contextlib.ExitStack() as stack:

        def ask():
            sock = stack.enter_context(connect(address))
            sock.sendall(GET.replace(b"/ ", b"/wait ", 1))
            return sock

        running = [ask() for _ in range(THREADS)]
        for _ in running:
            assert application.entered.acquire(timeout=20)
        waiting = [ask() for _ in range(3)]
        with connect(address) as half:  # it is heard too, while all threads are busy
            half.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert half.recv(100).startswith(b"HTTP/1.1 400 ")
        # Which three of the five wait is the kernel's to say; two too many are refused.
        refused = get(address)
        while start.server.busy < THREADS + 3:
            refused = get(address)
        refused = get(address)
        assert (refused.status, refused.getheader("Retry-After")) == (503, "1")
        application.go_on.set()
        for sock in running + waiting:
            assert sock.recv(100).startswith(b"HTTP/1.1 200 ")


def test_connections_of_an_address_have_a_limit(start, eventually):
    address = start(per_address=3)
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(connect(address)) for _ in range(3)]
        eventually(lambda: start.server.open == 3)
        with connect(address) as another:
            refused = read_all(another)
        assert refused.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nRetry-After: 1\r\n" in refused
        socks[0].close()
        eventually(lambda: start.server.open == 2)
        assert get(address).body == b"hello"


def test_the_longest_idle_makes_room(start, eventually):
    address = start(connections=3)
    with contextlib.ExitStack() as stack:
        idle = [stack.enter_context(connect(address)) for _ in range(3)]
        for sock in idle:
            sock.sendall(GET)
            assert sock.recv(1000).endswith(b"hello")
        assert get(address).body == b"hello"
        ended, _, _ = select.select(idle, [], [], 20)  # which was idle first is told by the server's clock
        assert [sock.recv(1) for sock in ended] == [b""]
        assert start.server.open <= 3


def test_where_nobody_is_idle_there_is_no_room(start, eventually):
    address = start(connections=3)
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(connect(address)).sendall(b"GET /")
        eventually(lambda: start.server.open == 3)
        with connect(address) as another:
            assert b"HTTP/1.1 503 " in another.recv(1000)


def test_a_body_shorter_than_it_says_ends_the_connection(start, bus):
    said = []
    bus.subscribe("log", lambda message, level=0: said.append((level, message)))
    address = start()
    with connect(address) as sock:
        sock.sendall(GET.replace(b"/ ", b"/short ", 1))
        assert read_all(sock).endswith(b"\r\n\r\nhello")
    assert [message for level, message in said if level >= 40] == [
        "GET /short failed: the body is 5 bytes shorter than its Content-Length"
    ]


def test_a_client_waits_for_continue(start):
    address = start()
    with connect(address) as sock:
        sock.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        assert sock.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(b"abc")
        assert sock.recv(1000).startswith(b"HTTP/1.1 200 ")


def test_requests_in_one_piece_are_answered_in_order(start):
    address = start()
    with connect(address) as sock:
        sock.sendall(GET * 50 + GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        assert read_all(sock).count(b"HTTP/1.1 200 OK") == 51


def test_http_1_0_is_kept_alive_where_it_asks(start):
    address = start()
    with connect(address) as sock:
        sock.sendall(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        assert b"\r\nConnection: Keep-Alive\r\nKeep-Alive: timeout=3600\r\n" in sock.recv(1000)
        sock.sendall(b"GET /pieces HTTP/1.0\r\n\r\n")
        answer = read_all(sock)
        assert b"Transfer-Encoding" not in answer[:300]
        assert len(answer.partition(b"\r\n\r\n")[2]) == LARGE


def test_head_has_a_length_and_no_body(start):
    address = start()
    for path in ("/", "/file"):
        connection = http.client.HTTPConnection(*address, timeout=30)
        for _ in range(2):
            connection.request("HEAD", path)
            answer = connection.getresponse()
            assert answer.getheader("Content-Length") == str(5 if path == "/" else LARGE)
            assert answer.read() == b""
        connection.close()


def test_several_servers_share_a_port(bus, eventually):
    """And the kernel spreads connections among them."""

    def named(name):
        def application(environ, start_response):
            start_response("200 OK", [("Content-Length", "1")])
            return [name]

        return application

    first = http_server(bus, named(b"1"), port=0, reuse_port=True)
    first.bind()
    second = http_server(bus, named(b"2"), port=first.bind_addr[1], reuse_port=True)
    second.bind()
    bus.start()
    seen = set()
    eventually(lambda: seen.add(get(first.bind_addr).body) or seen == {b"1", b"2"})


def test_descriptors_that_run_out_are_survived(start, eventually):
    import resource

    address = start()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = len(os.listdir("/proc/self/fd"))
    socks = [socket.socket() for _ in range(10)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (taken + 12, hard))
    try:
        for sock in socks:
            sock.settimeout(30)
            sock.connect(address)
        socks[0].sendall(GET)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert socks[0].recv(1000).endswith(b"hello")
        for sock in socks[1:]:
            sock.sendall(GET)
            assert sock.recv(1000).endswith(b"hello")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for sock in socks:
            sock.close()


@pytest.mark.parametrize(
    ("more", "status"),
    [(100, b"408 Request Timeout"), (100_000, b"503 Service Unavailable")],
    ids=["what waits to be written when it closes", "a write"],
)
def test_a_body_whose_file_cannot_be_written_ends_its_connection_alone(start, eventually, more, status):
    import resource

    address = start(timeout=0.3, rate=1 << 20, memory=1000)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    try:
        with connect(address) as sock:
            sock.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 199_950)
            sock.sendall(b"y" * more)
            assert sock.recv(1000).startswith(b"HTTP/1.1 " + status)
            eventually(lambda: not start.server.open)  # it is the server that closes it
        assert get(address).body == b"hello"
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
