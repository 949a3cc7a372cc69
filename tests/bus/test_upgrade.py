"""A connection that leaves the server after a 101 (RFC 9110, 7.8): environ["kirsch.upgrade"]."""

import gc
import os
import socket

import pytest

from kirsch.bus import Limits, http_server

THREADS = 2
REQUEST = b"GET %s HTTP/1.1\r\nHost: localhost\r\nUpgrade: it\r\nConnection: Upgrade\r\n\r\n"


class Left(list):
    """A WSGI application that takes every connection at /it, when its answer is sent."""

    def __call__(self, environ, start_response):
        path = environ["PATH_INFO"]
        if path in ("/it", "/no"):
            environ["kirsch.upgrade"](lambda sock, received: self.append((sock, received)))
        if path == "/failing":
            environ["kirsch.upgrade"](lambda sock, received: 1 / 0)
        if path in ("/it", "/nobody", "/failing"):
            start_response("101 Switching Protocols", [("Upgrade", "it"), ("Connection", "Upgrade")])
            return []
        start_response("200 OK", [("Content-Length", "5")])
        return [environ["wsgi.url_scheme"].encode().ljust(5)]


@pytest.fixture
def left():
    left = Left()
    yield left
    for sock, _ in left:
        sock.close()


@pytest.fixture
def start(bus, left):
    """start(**options): a server of that application that runs."""

    def start(limits=None, **options):
        adapter = http_server(bus, left, port=0, limits=limits or Limits(threads=THREADS), **options)
        bus.start()
        return adapter

    return start


def ask(address, path=b"/it", more=b"", sock=None):
    sock = sock or socket.create_connection(address, timeout=10)
    sock.sendall(REQUEST % path + more)
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = sock.recv(1)
        assert byte, head
        head += byte
    return sock, head


def test_a_connection_leaves_and_is_forgotten(start, left, eventually):
    adapter = start()
    address, server = adapter.bind_addr, adapter.httpserver
    kept, head = ask(address, b"/other")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert kept.recv(5, socket.MSG_WAITALL) == b"http "
    clients = [ask(address) for _ in range(5 * THREADS)]
    assert {head[:32] for _, head in clients} == {b"HTTP/1.1 101 Switching Protocols"}
    assert {head.count(b"Connection: ") for _, head in clients} == {1}
    eventually(lambda: len(left) == len(clients) and server.busy == 0)
    assert server.open == 1  # the one that is kept alive
    by_address = {sock.getpeername(): sock for sock, received in left if received == b""}
    for client, _ in clients:
        sock = by_address[client.getsockname()]
        sock.sendall(b"there")
        assert client.recv(5, socket.MSG_WAITALL) == b"there"
        client.sendall(b"back")
        assert sock.recv(4, socket.MSG_WAITALL) == b"back"
    # It was not closed either, and HTTP goes on.
    assert ask(address, b"/other", sock=kept)[1].startswith(b"HTTP/1.1 200 ")


def test_one_that_was_kept_alive_before_leaves_too(start, left, eventually):
    adapter = start()
    client, _ = ask(adapter.bind_addr, b"/other")
    client.recv(5, socket.MSG_WAITALL)
    ask(adapter.bind_addr, sock=client)
    eventually(lambda: len(left) == 1 and adapter.httpserver.open == 0)
    client.sendall(b"hello")
    assert left[0][0].recv(5, socket.MSG_WAITALL) == b"hello"


def watched():
    """The descriptors that each of this process's descriptors for epoll(7) watches."""
    found = {}
    for number in os.listdir("/proc/self/fd"):
        try:
            with open(f"/proc/self/fdinfo/{number}") as lines:
                found[number] = {int(line.split()[1]) for line in lines if line.startswith("tfd:")}
        except FileNotFoundError:
            pass
    return found


def test_the_kernel_watches_it_no_longer_for_the_server(start, left, eventually):
    # Event loops that other tests left are closed now, not while this one looks.
    gc.collect()
    before = watched()

    def new():
        return [watches for number, watches in watched().items() if watches != before.get(number, set())]

    adapter = start()
    client, _ = ask(adapter.bind_addr, b"/other")
    client.recv(5, socket.MSG_WAITALL)
    # It, the listening socket, and the one that wakes.
    eventually(lambda: [len(watches) for watches in new()] == [3])
    [its] = new()
    ask(adapter.bind_addr, sock=client)
    eventually(lambda: len(left) == 1)
    fd = left[0][0].fileno()
    assert fd in its
    assert not any(fd in watches for watches in new())


def test_what_was_sent_with_the_request_goes_along(start, left, eventually):
    ask(start().bind_addr, more=b"early " * 100)
    eventually(lambda: len(left) == 1)
    assert left[0][1] == b"early " * 100


def test_the_socket_blocks_without_a_limit(start, left, eventually):
    client, _ = ask(start(Limits(threads=THREADS, timeout=0.1)).bind_addr)
    eventually(lambda: len(left) == 1)
    assert left[0][0].gettimeout() is None
    client.close()


def test_with_another_answer_nothing_leaves(start, left):
    client, head = ask(start().bind_addr, b"/no")
    assert head.startswith(b"HTTP/1.1 200 ")
    client.recv(5, socket.MSG_WAITALL)
    assert ask(None, b"/other", sock=client)[1].startswith(b"HTTP/1.1 200 ")
    assert left == []


@pytest.mark.slow
@pytest.mark.parametrize("path", [b"/nobody", b"/failing"])
def test_what_nobody_takes_is_closed(start, eventually, path):
    adapter = start()
    client, head = ask(adapter.bind_addr, path)
    assert head.startswith(b"HTTP/1.1 101 ")
    assert client.recv(1) == b""
    eventually(lambda: adapter.httpserver.open == 0)


def test_with_tls_it_is_an_ssl_socket(start, left, certificate, eventually):
    adapter = start(tls=certificate.server)
    plain = socket.create_connection(adapter.bind_addr, timeout=10)
    client = certificate.client.wrap_socket(plain, server_hostname="localhost")
    for _ in range(2):
        assert ask(None, b"/other", sock=client)[1].startswith(b"HTTP/1.1 200 ")
        assert client.recv(5) == b"https"
    _, head = ask(None, more=b"early" * 1000, sock=client)
    assert head.startswith(b"HTTP/1.1 101 ")
    eventually(lambda: len(left) == 1 and adapter.httpserver.busy == 0)
    sock, received = left[0]
    while len(received) < 5000:
        received += sock.recv(5000)
    assert received == b"early" * 1000
    sock.sendall(b"hello")
    assert client.recv(5) == b"hello"
    client.close()


@pytest.mark.parametrize("kept", [0, 1])
def test_it_leaves_too_where_nothing_more_is_kept_alive(start, left, eventually, kept):
    address = start(Limits(threads=THREADS, keep_alive=kept)).bind_addr
    clients = [ask(address)[0] for _ in range(3)]
    eventually(lambda: len(left) == 3)
    by_address = {sock.getpeername(): sock for sock, _ in left}
    for client in clients:
        by_address[client.getsockname()].sendall(b"there")
        assert client.recv(5, socket.MSG_WAITALL) == b"there"


def test_what_was_left_is_closed_by_who_has_it(start, left, eventually):
    address = start().bind_addr
    before = len(os.listdir("/proc/self/fd"))
    client, _ = ask(address)
    eventually(lambda: len(left) == 1)
    left.pop()[0].close()
    assert client.recv(1) == b""
    client.close()
    eventually(lambda: len(os.listdir("/proc/self/fd")) == before)


def test_a_stop_leaves_it_open(bus, start, left, eventually):
    client, _ = ask(start().bind_addr)
    eventually(lambda: len(left) == 1)
    bus.stop()
    left[0][0].sendall(b"still here")
    assert client.recv(10, socket.MSG_WAITALL) == b"still here"
