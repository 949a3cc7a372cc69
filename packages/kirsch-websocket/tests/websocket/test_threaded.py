"""The threaded server and client: real sockets, plain, by TLS and Unix sockets."""

import contextlib
import logging
import multiprocessing
import os
import queue
import socket
import subprocess
import sys
import threading

import pytest
from tests.websocket.echoes import Echo, echo
from tests.websocket.wire import PATIENCE, REQUEST, dial

from kirsch.websocket import (
    ClientOptions,
    Close,
    Closed,
    HandshakeError,
    Limits,
    Policy,
    WebSocket,
)
from kirsch.websocket.core.backoff import Backoff
from kirsch.websocket.threaded import Connection, Stream, connect, reconnect, serve


@pytest.fixture(scope="module", autouse=True)
def _warm():
    """What all clients of a process share is there from here on."""
    with serve(Echo) as server, connect(server.url) as ws:
        ws.send("hello")
        assert ws.recv() == "hello"


@pytest.fixture(params=[Echo, echo], ids=["callbacks", "function"])
def application(request):
    return request.param


# Messages.


def test_no_message_is_sent_from_an_iterator_over_chunks_that_are_still_to_come(caplog):
    """Whoever writes would wait for them: a thread that is there for all, or forever for itself."""

    def handler(ws):
        for message in ws:
            ws.send(chunk for chunk in message)

    with serve(handler, stream=True) as server, dial(server.address) as peer:
        peer.send(b"all of it")
        assert peer.next() == b"all of it"
        peer.protocol.send(iter([b"begun", b"and more"]))
        peer.sock.sendall(b"".join(peer.protocol.take())[:11])
        assert peer.next() == Close(1011, "a message could not be read to its end")
    assert "no message is sent from an iterator over one that is still coming" in caplog.text


def test_a_stream_may_end_while_another_thread_looks_at_it():
    class Ending(Connection):
        looks = 0

        @property
        def _current(self):
            self.looks += 1
            return Stream(self, text=True) if self.looks == 1 else None

        @_current.setter
        def _current(self, current):
            pass

    assert not Ending().full


# The peer is slow.


# The end.


def test_where_no_thread_is_to_be_had_the_peer_is_told(monkeypatch, caplog):
    start = threading.Thread.start

    def refused(thread):
        if thread.name.startswith("websocket-127.0.0.1"):
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refused)
    with serve(echo) as server, connect(server.url) as ws, pytest.raises(Closed, match="1011"):
        ws.recv(PATIENCE)
    assert "can't start new thread" in caplog.text
    # And the server has closed.
    with pytest.raises(HandshakeError, match="nothing listens"):
        connect(server.url)


# While nobody reads.


def test_a_client_with_callbacks():
    told = queue.Queue()

    class Client(WebSocket):
        def opened(self):
            told.put(threading.current_thread())
            self.send("hello")

        def received_message(self, message):
            told.put(message)
            self.close(3001, "thanks")

        def closed(self, code, reason):
            told.put((code, reason))

    with serve(Echo) as server:
        client = connect(server.url, Client)
        assert isinstance(client, Client)
        assert told.get(timeout=PATIENCE) is not threading.current_thread()
        assert told.get(timeout=PATIENCE) == "hello"
        assert told.get(timeout=PATIENCE) == (3001, "thanks")


def test_a_client_with_callbacks_may_send_at_once():
    told = queue.Queue()

    class Client(WebSocket):
        def received_message(self, message):
            told.put(message)

    with serve(Echo) as server:
        for _ in range(20):
            with connect(server.url, Client) as ws:
                ws.send("hello")
                assert told.get(timeout=PATIENCE) == "hello"


# Handshakes.


def test_paths_and_subprotocols():
    def told(ws):
        ws.send(f"{ws.request.path} {ws.subprotocol} {ws.peer}")

    policy = Policy(subprotocols=("chat", "soap"))
    with serve({"/told": told, "/echo": Echo}, policy=policy) as server:
        options = ClientOptions(subprotocols=("soap",))
        with connect(f"{server.url}told?question", options=options) as ws:
            path, subprotocol, peer = ws.recv(PATIENCE).split()
            assert (path, subprotocol, ws.subprotocol) == ("/told", "soap", "soap")
            assert peer.startswith("127.0.0.1:")
        with connect(f"{server.url}echo") as ws:
            ws.send("x")
            assert ws.recv(PATIENCE) == "x"
        with pytest.raises(HandshakeError, match="status 404"):
            connect(f"{server.url}nothing")


@pytest.mark.parametrize(
    ("change", "status", "reason"),
    [
        ((b"GET / ", b"POST / "), 405, "GET"),
        ((b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Version: 7"), 426, "13"),
        ((b"Upgrade: websocket\r\n", b""), 426, "Upgrade"),
        ((b"Key: dGhl", b"Key: !"), 400, "Key"),
        ((b"Host: localhost\r\n", b"Host: localhost\r\nOrigin: http://evil.example\r\n"), 403, "evil"),
        ((b"HTTP/1.1", b"HTTP/1.0"), 505, "HTTP/1"),
        ((b"Host: localhost\r\n", b"Host: localhost\r\nX: " + b"x" * 20_000 + b"\r\n"), 431, "16384"),
        ((REQUEST, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500)), 400, "TLS"),
    ],
)
def test_bad_requests_are_answered_and_logged_in_one_line(caplog, change, status, reason):
    with serve(Echo) as server, socket.create_connection(server.address) as sock:
        sock.settimeout(PATIENCE)
        sock.sendall(REQUEST.replace(*change))
        response = b""
        while data := sock.recv(65536):
            response += data
        assert response.startswith(b"HTTP/1.1 %d " % status)
        host, port = sock.getsockname()
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 1
    assert lines[0].startswith(f"{host}:{port}: ")
    assert reason in lines[0]
    assert "Traceback" not in caplog.text


def test_who_is_too_slow_with_its_handshake_is_dropped(caplog):
    limits = Limits(handshake_timeout=0.1)
    with serve(Echo, threads=1, limits=limits) as server:
        slow = [socket.create_connection(server.address, PATIENCE) for _ in range(20)]
        for sock in slow:
            sock.sendall(REQUEST[:50])
        assert [sock.recv(100) for sock in slow] == [b""] * 20
        for sock in slow:
            sock.close()
    assert len([r for r in caplog.records if "no handshake in 0.1 s" in r.getMessage()]) == 20


def test_who_is_too_slow_with_its_handshake_keeps_nobody_waiting():
    with serve(Echo, threads=1, limits=Limits(handshake_timeout=None)) as server:
        slow = [socket.create_connection(server.address, PATIENCE) for _ in range(20)]
        for sock in slow:
            sock.sendall(REQUEST[:50])
        with connect(server.url) as ws:
            ws.send("quick")
            assert ws.recv(PATIENCE) == "quick"
        for sock in slow:
            sock.close()


def test_a_handshake_byte_by_byte(application):
    with serve(application) as server, socket.create_connection(server.address, PATIENCE) as sock:
        for byte in REQUEST:
            sock.sendall(bytes([byte]))
        assert sock.recv(12, socket.MSG_WAITALL) == b"HTTP/1.1 101"


def test_http_on_a_tls_port_and_tls_that_nobody_trusts(caplog, certificate):
    with serve(Echo, ssl=certificate.server) as server:
        with socket.create_connection(server.address, PATIENCE) as sock:
            sock.sendall(REQUEST)
            with contextlib.suppress(ConnectionResetError):
                assert not sock.recv(100).startswith(b"HTTP")
        with pytest.raises(HandshakeError, match="certificate"):
            connect(server.url)
        with connect(server.url, ssl=certificate.client) as ws:
            ws.send("fine")
            assert ws.recv(PATIENCE) == "fine"
    lines = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(lines) == 2
    assert all(line.startswith("127.0.0.1:") and ": no TLS: " in line for line in lines)


def test_a_frame_right_behind_the_request(application):
    with serve(application) as server, socket.create_connection(server.address, PATIENCE) as sock:
        sock.sendall(REQUEST + b"\x81\x85\0\0\0\0hello")
        data = b""
        while not data.endswith(b"\x81\x05hello"):
            data += sock.recv(1000)
        assert data.startswith(b"HTTP/1.1 101 ")


# The server.


def test_five_hundred_idle_connections_and_ten_threads():
    before = threading.active_count()
    with serve(Echo, threads=10) as server:
        peers = [dial(server.address) for _ in range(500)]
        assert len(server.connections) == 500
        assert threading.active_count() == before + 11
        for peer in peers[::100]:
            peer.send("hello")
            assert peer.next() == "hello"
        for peer in peers:
            peer.close()
        for peer in peers:
            assert peer.next() == Close(1000, "")
            assert peer.next() is None
            peer.sock.close()


def test_a_unix_socket_left_behind_is_taken_over_and_removed(tmp_path):
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(path)
    with serve(Echo, unix=path) as server:
        assert server.address == path
        with pytest.raises(OSError, match="in use"):
            serve(Echo, unix=path)
        with connect(server.url) as ws:
            assert ws.peer == path
            ws.send("x")
            assert ws.recv(PATIENCE) == "x"
    assert not os.path.exists(path)


# Clients that come back.


def test_reconnect_comes_back():
    calls = []

    def handler(ws):
        calls.append(1)
        ws.send(str(len(calls)))
        ws.close(4000 if len(calls) == 1 else 1000)

    waits = []
    with serve(handler) as server:
        heard = []
        for ws in reconnect(server.url, backoff=Backoff(0.5), wait=waits.append):
            try:
                while True:
                    heard.append(ws.recv(PATIENCE))
            except Closed as closed:
                heard.append(closed.code)
            if len(heard) > 3:
                break
    assert heard == ["1", 4000, "2", 1000]
    assert len(waits) == 1
    assert all(0 <= wait <= 60 for wait in waits)


# Where Python is not all there.


def test_works_without_compiled_modules_multiprocessing_and_epoll():
    """Android's Python: no multiprocessing, no ctypes, and here no epoll either."""
    program = """
import select, sys
del select.epoll
ABSENT = ("multiprocessing", "_multiprocessing", "_posixshmem", "ctypes", "_ctypes")
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ABSENT or name.startswith("kirsch.websocket.compiled"):
            raise ImportError("not here: " + name)
sys.meta_path.insert(0, Blocked())
from kirsch.websocket import WebSocket
from kirsch.websocket.core import speedups
from kirsch.websocket.threaded import connect, serve
class Echo(WebSocket):
    def received_message(self, message):
        self.send(message)
def echo(ws):
    for message in ws:
        ws.send(message)
for application in (Echo, echo):
    with serve(application) as server, connect(server.url) as ws:
        for message in ("text", b"x" * 300_000, ""):
            ws.send(message)
            assert ws.recv(10) == message
        ws.close()
        assert list(ws) == []
print(speedups.implementation, "compiled" in dir(sys.modules["kirsch.websocket"]))
"""
    result = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "KIRSCH_PURE": "1"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.stderr == ""
    assert result.stdout == "python False\n"


def _connect_anew(url):
    with connect(url) as ws:
        ws.send("from the child")
        sys.exit(0 if ws.recv(PATIENCE) == "from the child" else 1)


def test_a_forked_child_connects_anew():
    with serve(Echo) as server, connect(server.url) as ws:
        child = multiprocessing.get_context("fork").Process(target=_connect_anew, args=(server.url,))
        child.start()
        child.join(PATIENCE)
        assert child.exitcode == 0
        ws.send("from the parent")
        assert ws.recv(PATIENCE) == "from the parent"


def test_a_connection_is_a_websocket():
    with serve(Echo) as server, connect(server.url) as ws:
        assert isinstance(ws, Connection)
        assert isinstance(ws, WebSocket)
        assert ws.peer == "{}:{}".format(*server.address)
