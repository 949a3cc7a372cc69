"""What is the same whichever provider it is."""

import asyncio
import contextlib
import logging
import os
import re
import socket
import stat
import threading

import pytest
from tests.certificate import certify
from tests.deadline import eventually
from tests.process import Before
from tests.websocket import wire
from tests.websocket.serving import BLOCKING, LOOPED, serving

from kirsch.websocket import (
    ClientOptions,
    Closed,
    HandshakeError,
    Headers,
    Limits,
    Policy,
    Response,
    State,
    WebSocket,
)
from kirsch.websocket.threaded import connect

PATIENCE = 20
SERVERS = (*BLOCKING, *LOOPED, "wsgi")


@pytest.mark.parametrize("name", SERVERS)
def test_a_unix_socket_is_its_owners(name, tmp_path):
    path = str(tmp_path / "socket")
    with serving(name, WebSocket, unix=path):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        with wire.dial(path) as peer:
            peer.close()
    assert not os.path.exists(path)


@pytest.mark.parametrize("name", ["threaded", "asyncio", "gevent"])
def test_who_does_not_speak_tls_is_named(name, tmp_path, caplog):
    context = certify(tmp_path, "IP:127.0.0.1").server
    with (
        caplog.at_level(logging.WARNING, "kirsch.websocket"),
        serving(name, WebSocket, ssl=context) as server,
        socket.create_connection(server.address) as sock,
    ):
        sock.sendall(wire.REQUEST)
        sock.settimeout(PATIENCE)
        with contextlib.suppress(ConnectionError):
            while sock.recv(4096):
                pass
        host, port = sock.getsockname()
    assert [message for message in caplog.messages if message.startswith(f"{host}:{port}: ")]


@pytest.mark.parametrize("name", ["threaded", "asyncio", "gevent"])
def test_who_does_not_speak_tls_does_not_stop_the_clock(name, tmp_path):
    certificate = certify(tmp_path, "IP:127.0.0.1")
    limits = Limits(handshake_timeout=0.2)
    with serving(name, WebSocket, ssl=certificate.server, limits=limits) as server:
        for _ in range(20):
            with socket.create_connection(server.address) as sock:
                sock.sendall(wire.REQUEST)
        with socket.create_connection(server.address) as sock:
            slow = certificate.client.wrap_socket(sock, server_hostname="127.0.0.1")
            slow.settimeout(PATIENCE)
            # It says nothing, and is dropped.
            try:
                assert slow.recv(1) == b""
            except TimeoutError:
                raise
            except OSError:
                pass


class Talking(WebSocket):
    """Says more than any socket holds, and waits until it is read; `ends` is what it waited for."""

    def opened(self):
        self.send(b"x" * (64 << 20))
        self.begin()

    def wait(self):
        try:
            self.drain()
        except Closed as closed:
            self.ends.append(closed.code)
        finally:
            self.told.set()

    async def wait_async(self):
        try:
            await self.drain()
        except Closed as closed:
            self.ends.append(closed.code)
        finally:
            self.told.set()

    # Where it waits: in a thread, greenlet or task of its own, or in the callback.

    def in_a_thread(self):
        threading.Thread(target=self.wait).start()

    def in_a_greenlet(self):
        import gevent

        gevent.spawn(self.wait)

    def in_a_task(self):
        self.task = asyncio.get_running_loop().create_task(self.wait_async())


@pytest.mark.parametrize(
    ("name", "begin"),
    [
        ("threaded", Talking.in_a_thread),
        ("threaded", Talking.wait),
        ("gevent", Talking.in_a_greenlet),
        ("gevent", Talking.wait),
        ("asyncio", Talking.in_a_task),
        ("tornado", Talking.in_a_task),
    ],
)
def test_drain_raises_closed_when_the_peer_goes(name, begin, caplog):
    told, ends = threading.Event(), []
    application = type("Talking", (Talking,), {"begin": begin, "told": told, "ends": ends})
    with serving(name, application, limits=Limits(close_timeout=0.2)) as server:
        with wire.dial(server.address) as peer:
            peer.sock.recv(1)
        assert told.wait(PATIENCE)
        assert ends == [1006]
    assert not caplog.records


class Echo(WebSocket):
    def received_message(self, message):
        self.send(message)


# Of asyncio and threaded test_robust tells more.
@pytest.mark.parametrize("name", ["tornado", "gevent", "cherrypy", "wsgi"])
def test_a_conversation_that_breaks_off_at_any_byte_leaves_nothing(name, caplog):
    told = wire.REQUEST + b"\x81\x85\0\0\0\0hello\x01\x81\0\0\0\0a\x80\x81\0\0\0\0b\x88\x82\0\0\0\0\x03\xe8"
    with serving(name, Echo) as server:

        def say(length):
            with socket.create_connection(server.address, PATIENCE) as sock:
                sock.sendall(told[:length])
                sock.shutdown(socket.SHUT_WR)
                said = b""
                with contextlib.suppress(ConnectionResetError):
                    while data := sock.recv(1000):
                        said += data
                return said

        assert say(len(told)).endswith(b"\x81\x05hello\x81\x02ab\x88\x02\x03\xe8")
        if name in ("cherrypy", "wsgi"):
            # The last of the threads that the first connection begins.
            eventually(lambda: "websocket-housekeeper" in [thread.name for thread in threading.enumerate()])
        before = Before()
        for length in range(len(told)):
            say(length)
        before.assert_nothing_more()
        assert say(len(told)).endswith(b"\x81\x05hello\x81\x02ab\x88\x02\x03\xe8")
    assert [record.getMessage() for record in caplog.records if record.exc_info] == []


@pytest.mark.parametrize("name", ["threaded", "cherrypy", "wsgi", "gevent"])
def test_functions_are_given_messages_in_chunks(name):
    def kinds(ws):
        for message in ws:
            ws.send(f"{message.text} {sum(map(len, message))}")

    with serving(name, kinds, stream=True) as server, wire.dial(server.address) as peer:
        peer.send("text", b"x" * 100_000)
        assert [peer.next(), peer.next()] == ["True 4", "False 100000"]


@pytest.mark.parametrize("name", SERVERS)
def test_no_host_is_every_address(name):
    with serving(name, WebSocket, None) as server:
        port = server.address[1]
        assert server.url.endswith(f":{port}/")
        with wire.dial(("127.0.0.2", port)) as peer:
            peer.close()


@pytest.mark.soak
@pytest.mark.slow
@pytest.mark.parametrize("name", ["threaded", "asyncio", "gevent"])
def test_what_was_sent_before_the_end_is_delivered_to_who_reads_slowly(name, caplog):
    """It takes longer than close_timeout, which is for peers that read nothing."""
    message = bytes(range(256)) * (8 << 12)

    class Once(WebSocket):
        def opened(self):
            self.send(message)
            self.close()

    limits = Limits(message=None, close_timeout=1.5)
    with serving(name, Once, limits=limits) as server, socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
        sock.settimeout(PATIENCE)
        sock.connect(server.address)
        sock.sendall(wire.REQUEST)
        said = b""
        while b"\r\n\r\n" not in said:
            said += sock.recv(1000)
        said, pause = said.partition(b"\r\n\r\n")[2], threading.Event()
        parts, size = [said], len(said)
        while size < len(message) + 14:
            parts.append(sock.recv(1 << 20, socket.MSG_WAITALL if size + (1 << 20) < len(message) else 0))
            assert parts[-1], f"it ended after {size} of {len(message)} bytes"
            size += len(parts[-1])
            pause.wait(0.3)
        sock.sendall(b"\x88\x82\0\0\0\0\x03\xe8")
    # A frame's head of ten bytes, the message, the close frame.
    assert b"".join(parts)[10:-4] == message
    assert not caplog.records


def exchange(address, request):
    """The response to a request: its head, and a body as long as that says."""
    with socket.create_connection(address, PATIENCE) as sock:
        sock.sendall(request)
        said = b""
        while b"\r\n\r\n" not in said:
            data = sock.recv(1 << 16)
            assert data, said
            said += data
        head, _, body = said.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        while length is not None and len(body) < int(length[1]):
            body += sock.recv(1 << 16)
        return head + b"\r\n\r\n" + body


def status(said):
    return int(said.split(b" ", 2)[1])


@pytest.mark.parametrize("name", SERVERS)
def test_heads_that_are_no_http_are_refused(name):
    fields = {
        b"X-A: a\r\n b": 400,  # obs-fold (RFC 9112, 5.2)
        b"X-A: a\0b": 400,
        b"X-A : a": 400,
        b": a": 400,
        b"X-A: a\rb": 400,
        b"Host: other": 400,
        b"X-A: " + b"a" * 20_000: 431,
    }
    with serving(name, Echo) as server:
        for field, refused in fields.items():
            said = exchange(server.address, wire.REQUEST[:-2] + field + b"\r\n\r\n")
            assert status(said) == refused, field
        assert status(exchange(server.address, wire.REQUEST)) == 101


@pytest.mark.parametrize("name", SERVERS)
def test_a_head_that_does_not_come_is_not_waited_for(name):
    with (
        serving(name, Echo, limits=Limits(handshake_timeout=0.2)) as server,
        socket.create_connection(server.address, PATIENCE) as sock,
    ):
        sock.sendall(wire.REQUEST[:-2])
        # It is dropped, or told why.
        with contextlib.suppress(ConnectionResetError):
            while sock.recv(4096):
                pass


@pytest.mark.parametrize("name", SERVERS)
class TestPolicy:
    def test_requests_are_answered_in_place_of_a_handshake(self, name, caplog):
        def process(request):
            match request.path:
                case "/health":
                    return Response(200, "OK", Headers({"Content-Type": "text/x-health"}), b"fine")
                case "/login":
                    return Response(401, headers=Headers({"WWW-Authenticate": "Basic"}), body=b"who?")
                case "/old":
                    return Response(302, headers=Headers({"Location": "/new"}))
                case "/refused":
                    raise HandshakeError(403, "not you", (("X-Y", "z"),))
                case "/failed":
                    raise LookupError("of mine")
            return None

        with serving(name, Echo, policy=Policy(process_request=process)) as server:

            def ask(path, request=b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"):
                head, _, body = exchange(
                    server.address, request.replace(b" / ", f" {path} ".encode())
                ).partition(b"\r\n\r\n")
                return status(head), head.lower().split(b"\r\n"), body

            code, head, body = ask("/health")
            assert (code, body) == (200, b"fine")
            assert b"content-type: text/x-health" in head
            assert b"content-length: 4" in head
            code, head, body = ask("/login", wire.REQUEST)
            assert (code, body) == (401, b"who?")
            assert b"www-authenticate: basic" in head
            code, head, _ = ask("/old", wire.REQUEST)
            assert code == 302
            assert any(line.startswith(b"location:") and line.endswith(b"/new") for line in head)
            code, head, body = ask("/refused", wire.REQUEST)
            assert (code, body) == (403, b"not you\n")
            assert b"x-y: z" in head
            code, _, body = ask("/failed", wire.REQUEST)
            assert (code, body) == (500, b"the application failed\n")
            assert ask("/", wire.REQUEST)[0] == 101
        failures = [record for record in caplog.records if record.exc_info]
        assert [str(record.exc_info[1]) for record in failures] == ["of mine"]
        # A health page is asked for again and again.
        assert not [record for record in caplog.records if "(HTTP status 200)" in record.getMessage()]

    def test_subprotocols_and_fields_are_chosen_for_each_request(self, name):
        def choose(request, offered):
            if request.query == "none":
                return None
            if not offered:
                raise HandshakeError(400, "say what you speak")
            return offered[-1]

        policy = Policy(subprotocols=choose, headers=lambda request: {"Set-Cookie": f"query={request.query}"})
        with serving(name, Echo, policy=policy) as server:

            def ask(query, *subprotocols):
                options = ClientOptions(subprotocols=subprotocols, proxy=None)
                return connect(f"{server.url}?{query}", options=options)

            with ask("x", "a", "b") as ws:
                assert ws.subprotocol == "b"
                assert ws.response.status == 101
                assert ws.response.headers.get("set-cookie") == "query=x"
            with ask("none", "a") as ws:
                assert ws.subprotocol is None
            with pytest.raises(HandshakeError, match="400"):
                ask("y")


class Where(WebSocket):
    def opened(self):
        self.send(f"{self.request.path} {dict(self.path_params)}")


@pytest.mark.parametrize("name", SERVERS)
def test_routes(name):
    routes = {
        "/rooms/lobby": Echo,
        "/rooms/{room}": Where,
        "/rooms/{room}/users/{user}": Where,
        "/käse": Where,
    }
    with serving(name, routes) as server:

        def first(path):
            with wire.dial(server.address, wire.REQUEST.replace(b" / ", f" {path} ".encode())) as peer:
                return peer.next()

        assert first("/rooms/a%20b?x=1") == "/rooms/a%20b {'room': 'a b'}"
        assert first("/rooms/1/users/2") == "/rooms/1/users/2 {'room': '1', 'user': '2'}"
        assert first("/k%C3%A4se").endswith(" {}")
        with wire.dial(server.address, wire.REQUEST.replace(b" / ", b" /rooms/lobby ")) as peer:
            peer.send("exact")
            assert peer.next() == "exact"
        for path in (b"/rooms/", b"/rooms", b"/rooms/1/users", b"/rooms/1/users/2/3"):
            assert status(exchange(server.address, wire.REQUEST.replace(b" / ", b" " + path + b" "))) == 404


@pytest.mark.parametrize("name", SERVERS)
def test_servers_know_their_connections(name):
    with serving(name, Echo) as server:
        with wire.dial(server.address) as peer:
            peer.send("there")
            assert peer.next() == "there"
            (websocket,) = server.connections
            assert isinstance(websocket, Echo)
            assert websocket.state == State.OPEN
            peer.close()
            assert peer.next().code == 1000
            assert peer.next() is None
        eventually(lambda: server.connections == [])
        eventually(lambda: websocket.state == State.CLOSED)


@pytest.mark.parametrize("name", SERVERS)
def test_round_trips(name):
    """With the peer that answers, and with one that does not; `latency` is the last one's."""
    seen, done = [], threading.Event()

    def function(ws):
        seen.append(ws.latency)
        seen.append(ws.round_trip(PATIENCE))
        seen.append(ws.latency)
        try:
            ws.round_trip()
        except Closed as closed:
            seen.append(closed.code)
        done.set()

    async def coroutine(ws):
        seen.append(ws.latency)
        seen.append(await ws.round_trip(PATIENCE))
        seen.append(ws.latency)
        try:
            await ws.round_trip()
        except Closed as closed:
            seen.append(closed.code)
        done.set()

    with (
        serving(name, coroutine if name in LOOPED else function) as server,
        wire.dial(server.address) as peer,
    ):
        ping = peer.next()
        peer.protocol.answer(ping)
        peer.flush()
        assert peer.next().data != ping.data
        peer.close(3000)
        assert done.wait(PATIENCE)
    before, seconds, latency, code = seen
    assert before is None
    assert 0 < seconds == latency < PATIENCE
    assert code == 3000


@pytest.mark.parametrize("name", LOOPED)
def test_send_may_be_awaited_and_then_waits_for_the_peer(name):
    """What is sent in this way, as with websockets, meets no Slow however slowly it is read."""
    size, count = 100_000, 200

    async def handler(ws):
        for number in range(count):
            await ws.send(number.to_bytes(4) * (size // 4))
        await ws.send("end")

    limits = Limits(queue=200_000)
    with (
        serving(name, handler, policy=Policy(deflate=None), limits=limits) as server,
        wire.dial(server.address) as peer,
    ):
        for number in range(count):
            assert peer.next() == number.to_bytes(4) * (size // 4)
        assert peer.next() == "end"
        assert peer.next().code == 1000


@pytest.mark.parametrize("name", SERVERS)
def test_the_kind_of_a_message_may_be_said(name):
    class Kinds(WebSocket):
        def opened(self):
            self.send("hällo".encode(), text=True)
            self.send("hällo", text=False)
            self.send("hällo", text=True)
            with pytest.raises(UnicodeDecodeError):
                self.send(b"\xff", text=True)
            with pytest.raises(TypeError, match="text= is for str and bytes, not list"):
                self.send(["a"], text=True)
            self.close()

    with serving(name, Kinds) as server, wire.dial(server.address) as peer:
        assert [peer.next() for _ in range(3)] == ["hällo", "hällo".encode(), "hällo"]
        assert peer.next().code == 1000


class Views(WebSocket):
    views = True

    def received_message(self, message):
        self.send(f"{type(message).__name__} {len(message)}")


class Bytes(Views):
    views = False


@pytest.mark.parametrize("name", SERVERS)
def test_binary_messages_are_bytes_and_views_for_who_asks_for_them(name):
    with serving(name, {"/views": Views, "/bytes": Bytes}) as server:
        for path, kind in (("/views", "memoryview"), ("/bytes", "bytes")):
            with wire.dial(server.address, wire.REQUEST.replace(b" / ", f" {path} ".encode())) as peer:
                for size in (0, 10, 70_000, 1 << 20):
                    peer.send(bytes(size))
                    assert peer.next() == f"{kind} {size}"
