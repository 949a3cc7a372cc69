"""Clients that never come to an end keep nobody waiting, before HAProxy and behind it, with WebSockets too.

They dribble on until others have been answered: a server whose threads they hold would answer nobody, however
long one waits.
"""

import contextlib
import http.client
import socket

import pytest
from tests.deadline import eventually

from kirsch.bus import Limits, http_server

THREADS = 2
ROUNDS = 10
PATIENCE = 60
POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n"
HEAD = b"GET / HTTP/1.1\r\nHost: x\r\n"
HANDSHAKE = HEAD + b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"


def application(environ, start_response):
    body = environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Length", "5")])
    return [b"%5d" % len(body)]


@pytest.fixture
def server(bus):
    adapter = http_server(bus, application, port=0, limits=Limits(threads=THREADS, timeout=PATIENCE))
    bus.start()
    return adapter.httpserver


def ask(address, method="GET", body=None):
    connection = http.client.HTTPConnection(*address, timeout=PATIENCE)
    connection.request(method, "/", body)
    with contextlib.closing(connection), connection.getresponse() as answer:
        return answer.status, answer.read()


class Crowd:
    """Clients that have sent the beginning of a request, and send one byte more each round."""

    def __init__(self, stack, address, count, beginning):
        self.socks = []
        for _ in range(count):
            sock = stack.enter_context(socket.create_connection(address, timeout=PATIENCE))
            sock.sendall(beginning)
            self.socks.append(sock)

    def dribble(self, byte=b"x"):
        for sock in self.socks:
            sock.sendall(byte)

    def end(self, rest):
        """Send the rest, and return the beginnings of the answers."""
        for sock in self.socks:
            sock.sendall(rest)
        return [sock.recv(1000) for sock in self.socks]


@pytest.mark.services
@pytest.mark.parametrize("option", [None, "option http-buffer-request", "no option http-buffer-request"])
@pytest.mark.parametrize(("count", "beginning", "length"), [(24, POST, 100), (12, HEAD + b"A: ", None)])
def test_who_dribbles_keeps_nobody_waiting(server, haproxy, option, count, beginning, length):
    address = server.address if option is None else haproxy(server.address, option, "60s", "60s")
    with contextlib.ExitStack() as stack:
        crowd = Crowd(stack, address, count, beginning)
        for _ in range(ROUNDS):
            crowd.dribble()
            assert ask(address) == (200, b"    0")
            assert ask(address, "POST", b"x" * 7) == (200, b"    7")
            eventually(lambda: server.busy == 0)
        # They are not refused either.
        answers = crowd.end(b"\r\n\r\n" if length is None else b"x" * (length - ROUNDS))
        assert [answer[:12] for answer in answers] == [b"HTTP/1.1 200"] * count


def echo(ws):
    for message in ws:
        ws.send(message)


@pytest.fixture(params=["cherrypy", "wsgi", "wsgi.serve"])
def websockets(request, bus):
    """The address of an echo server with few threads."""
    from kirsch.websocket import cherrypy, wsgi

    if request.param == "wsgi":
        application = wsgi.WebSockets(echo, threads=THREADS)
        limits = Limits(threads=THREADS, timeout=PATIENCE)
        adapter = http_server(bus, application, port=0, limits=limits)
        bus.start()
        yield adapter.bind_addr
        application.close()
    else:
        module = cherrypy if request.param == "cherrypy" else wsgi
        with module.serve(echo, threads=THREADS) as server:
            yield server.address[:2]


def test_half_handshakes_keep_no_websocket_waiting(websockets):
    from kirsch.websocket.threaded import connect

    host, port = websockets
    with contextlib.ExitStack() as stack:
        crowd = Crowd(stack, websockets, 24, HANDSHAKE + b"Sec-WebSocket-Key: ")
        for number in range(ROUNDS):
            crowd.dribble()
            with connect(f"ws://{host}:{port}/") as ws:
                ws.send(f"hello {number}")
                assert ws.recv(PATIENCE) == f"hello {number}"
