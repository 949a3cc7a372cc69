"""A connection that leaves cheroot: ours and CherryPy's stock server, with and without TLS."""

import os
import socket
import threading

import cheroot.connections
import cheroot.makefile
import cheroot.server
import cheroot.ssl.builtin
import cheroot.workers.threadpool
import cheroot.wsgi
import pytest
from tests.source import digest

from kirsch.bus import Limits, http_server
from kirsch.bus.cheroot import Server
from kirsch.bus.upgrade import leave, present_connection

THREADS = 2
REQUEST = b"GET %s HTTP/1.1\r\nHost: localhost\r\nUpgrade: it\r\nConnection: Upgrade\r\n\r\n"


class Left(list):
    """A WSGI application that takes every connection at /it, when its response is done."""

    def __call__(self, environ, start_response):
        if environ["PATH_INFO"] != "/it":
            start_response("200 OK", [("Content-Length", "5")])
            return [b"hello"]
        start_response("101 Switching Protocols", [("Upgrade", "it"), ("Connection", "Upgrade")])
        return _Leaving(self)


class _Leaving(list):
    def __init__(self, left):
        self.left = left

    def close(self):
        self.left.append(leave(present_connection()))


class Stock(cheroot.wsgi.Server):
    """What CherryPy has: the parts that are ours are left out."""

    def error_log(self, msg="", level=20, traceback=False):
        raise AssertionError(msg)


@pytest.fixture(params=["ours", "stock"])
def server(request, bus):
    """A server that takes connections at /it, with `left`, what it took, and `secure(certificate)`."""
    left = Left()
    if request.param == "ours":
        server = Server(bus, ("127.0.0.1", 0), left, Limits(threads=THREADS))
    else:
        server = Stock(("127.0.0.1", 0), left, numthreads=THREADS)
    server.left = left
    server.thread = threading.Thread(target=lambda: server.serve())
    yield server
    server.stop()
    server.thread.join(10)
    assert not server.thread.is_alive()
    for sock, _ in left:
        sock.close()


def start(server):
    server.prepare()
    server.thread.start()
    return server.bind_addr


def ask(address, path=b"/it", more=b"", sock=None):
    sock = sock or socket.create_connection(address, timeout=10)
    sock.sendall(REQUEST % path + more)
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += sock.recv(1)
    return sock, head


def idle(server):
    """Whether no thread of the server's is at work."""
    return server.requests.idle == THREADS and server.requests.qsize == 0


def test_a_connection_leaves_and_is_forgotten(server, eventually):
    address = start(server)
    kept, head = ask(address, b"/other")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert kept.recv(5, socket.MSG_WAITALL) == b"hello"
    clients = [ask(address) for _ in range(5 * THREADS)]
    assert {head[:32] for _, head in clients} == {b"HTTP/1.1 101 Switching Protocols"}
    eventually(lambda: len(server.left) == len(clients) and idle(server))
    eventually(lambda: server._connections._num_connections == 1)  # the one that is kept alive
    by_address = {sock.getpeername(): sock for sock, received in server.left if received == b""}
    for client, _ in clients:
        sock = by_address[client.getsockname()]
        sock.sendall(b"there")
        assert client.recv(5, socket.MSG_WAITALL) == b"there"
        client.sendall(b"back")
        assert sock.recv(4, socket.MSG_WAITALL) == b"back"
    # It was not closed either, and HTTP goes on.
    assert ask(address, b"/other", sock=kept)[1].startswith(b"HTTP/1.1 200 ")


def test_one_that_was_kept_alive_before_leaves_too(server, eventually):
    address = start(server)
    client, _ = ask(address, b"/other")
    client.recv(5, socket.MSG_WAITALL)
    ask(address, sock=client)
    eventually(lambda: len(server.left) == 1 and idle(server))
    assert server._connections._num_connections == 0
    client.sendall(b"hello")
    assert server.left[0][0].recv(5, socket.MSG_WAITALL) == b"hello"


def test_the_kernel_watches_it_no_longer_for_the_server(server, eventually):
    address = start(server)
    client, _ = ask(address, b"/other")
    client.recv(5, socket.MSG_WAITALL)
    ask(address, sock=client)
    eventually(lambda: len(server.left) == 1 and idle(server))
    selector = server._connections._selector
    epoll = getattr(selector, "_epoll", None) or selector._selector
    with open(f"/proc/self/fdinfo/{epoll.fileno()}") as lines:
        watched = [int(line.split()[1]) for line in lines if line.startswith("tfd:")]
    assert watched == [server.socket.fileno()]


def test_what_was_sent_with_the_request_goes_along(server, eventually):
    address = start(server)
    ask(address, more=b"early " * 100)
    eventually(lambda: len(server.left) == 1)
    assert server.left[0][1] == b"early " * 100


def test_the_socket_blocks_without_a_limit(server, eventually):
    server.timeout = 0.1
    address = start(server)
    client, _ = ask(address)
    eventually(lambda: len(server.left) == 1)
    sock = server.left[0][0]
    assert sock.gettimeout() is None
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, 16) == bytes(16)
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, 16) == bytes(16)
    client.close()


def test_with_tls_it_is_the_same_object(server, certificate, eventually):
    server.ssl_adapter = cheroot.ssl.builtin.BuiltinSSLAdapter(str(certificate.file), str(certificate.key))
    address = start(server)
    context = certificate.client
    plain = socket.create_connection(address, timeout=10)
    client = context.wrap_socket(plain, server_hostname="localhost")
    for _ in range(2):
        assert ask(address, b"/other", sock=client)[1].startswith(b"HTTP/1.1 200 ")
        assert client.recv(5) == b"hello"
    _, head = ask(address, more=b"early" * 1000, sock=client)
    assert head.startswith(b"HTTP/1.1 101 ")
    eventually(lambda: len(server.left) == 1 and idle(server))
    sock, received = server.left[0]
    while len(received) < 5000:
        received += sock.recv(5000)
    assert received == b"early" * 1000
    sock.sendall(b"hello")
    assert client.recv(5) == b"hello"
    client.close()


def test_tls_by_a_context(bus, certificate):
    def scheme(environ, start_response):
        start_response("200 OK", [("Content-Length", "5")])
        return [environ["wsgi.url_scheme"].encode()]

    server = http_server(bus, scheme, port=0, tls=certificate.server)
    bus.start()
    client = certificate.client.wrap_socket(
        socket.create_connection(server.bind_addr, timeout=10), server_hostname="localhost"
    )
    for _ in range(2):
        assert ask(server.bind_addr, sock=client)[1].startswith(b"HTTP/1.1 200 ")
        assert client.recv(5) == b"https"
    client.close()


def test_who_does_not_begin_tls_keeps_nobody_out(bus, certificate, eventually):
    said = []
    bus.subscribe("log", lambda message, level=0: said.append((level, message)))
    server = http_server(bus, Left(), port=0, tls=certificate.server, limits=Limits(threads=THREADS))
    bus.start()
    silent = [socket.create_connection(server.bind_addr, timeout=10) for _ in range(6 * THREADS)]
    for sock in silent[: 3 * THREADS]:  # a client's hello has more than its first bytes
        sock.sendall(b"\x16\x03\x01\x02\x00\x01\x00")
    for garbage in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\x05hello"):
        with socket.create_connection(server.bind_addr, timeout=10) as sock:
            sock.sendall(garbage)
            while sock.recv(1000):
                pass
    client = certificate.client.wrap_socket(
        socket.create_connection(server.bind_addr, timeout=10), server_hostname="localhost"
    )
    assert ask(server.bind_addr, b"/other", sock=client)[1].startswith(b"HTTP/1.1 200 ")
    for sock in (*silent, client):
        sock.close()
    eventually(lambda: idle(server.httpserver))
    assert [message for level, message in said if level > 20] == []
    refused = [message.partition(": ")[2] for _, message in said if "no TLS handshake" in message]
    assert refused[0] == "no TLS handshake: it speaks HTTP without TLS"
    assert len(refused) == 2


@pytest.mark.parametrize("kept", [0, 1])
def test_it_leaves_too_where_nothing_more_is_kept_alive(server, eventually, kept):
    server.keep_alive = kept  # ours sets the limit when it prepares
    server.prepare()
    server.keep_alive_conn_limit = kept
    server.thread.start()
    clients = [ask(server.bind_addr)[0] for _ in range(3)]
    eventually(lambda: len(server.left) == 3 and idle(server))
    by_address = {sock.getpeername(): sock for sock, _ in server.left}
    for client in clients:
        by_address[client.getsockname()].sendall(b"there")
        assert client.recv(5, socket.MSG_WAITALL) == b"there"


def test_what_was_left_is_closed_by_who_has_it(server, eventually):
    before = len(os.listdir("/proc/self/fd"))
    address = start(server)
    with_server = len(os.listdir("/proc/self/fd"))
    client, _ = ask(address)
    eventually(lambda: len(server.left) == 1 and idle(server))
    server.left.pop()[0].close()
    assert client.recv(1) == b""
    client.close()
    eventually(lambda: len(os.listdir("/proc/self/fd")) == with_server)
    assert with_server > before


def test_a_stop_leaves_it_open(server, eventually):
    client, _ = ask(start(server))
    eventually(lambda: len(server.left) == 1)
    server.stop()
    server.left[0][0].sendall(b"still here")
    assert client.recv(10, socket.MSG_WAITALL) == b"still here"


def test_elsewhere_there_is_no_connection():
    assert present_connection() is None


def test_cheroot_is_the_one_that_was_read():
    """What kirsch.bus.upgrade relies on. When this fails, read the new code, then the hash."""
    read = (
        cheroot.workers.threadpool.WorkerThread,
        cheroot.server.HTTPConnection.communicate,
        cheroot.server.HTTPConnection.close,
        cheroot.server.HTTPServer.put_conn,
        cheroot.server.HTTPServer.process_conn,
        cheroot.server.HTTPServer._serve_unservicable,
        cheroot.server.HTTPRequest.simple_response,
        cheroot.server.HTTPRequest.read_request_line,
        cheroot.makefile,
        cheroot.ssl.builtin.BuiltinSSLAdapter,
    )
    assert digest(*read) == "928df8e748b6b147c362850c817abb27ac7060026c7094a70e3b5f7d39b90a2f"
