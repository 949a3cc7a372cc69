"""WebSockets on gevent: real sockets, server and client in greenlets of one thread."""

import contextlib
import gc
import logging
import os
import struct

import pytest
from tests.websocket.echoes import Echo, echo, recording
from tests.websocket.wire import masked

from kirsch.websocket.core.errors import Closed, HandshakeError, Slow
from kirsch.websocket.core.handshake import Policy
from kirsch.websocket.core.limits import Limits
from kirsch.websocket.core.opening import ClientOptions
from kirsch.websocket.core.room import Room

pytest.importorskip("gevent")

import gevent
import gevent.event
import gevent.pywsgi
import gevent.queue
import gevent.socket
import greenlet

from kirsch.websocket.gevent import connect, handler_class, serve

LARGE = 16 << 20
LIMITS = Limits(message=2 * LARGE, queue=2 * LARGE)
OPTIONS = ClientOptions(limits=LIMITS, proxy=None)
PATIENCE = 20.0
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
FIELDS = {
    "Host": "127.0.0.1",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": KEY,
    "Sec-WebSocket-Version": "13",
}


def page(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"page {environ['PATH_INFO']}".encode()]


def recorder(**more):
    """An application class that tells a queue what happens to it."""
    told = gevent.queue.Queue()
    return recording(told.put, more), told


def living():
    gc.collect()
    return {found for found in gc.get_objects() if isinstance(found, gevent.Greenlet) and not found.dead}


def files():
    return set(os.listdir("/proc/self/fd"))


@pytest.fixture(autouse=True)
def _nothing_left():
    """When all is closed no greenlet and no file is left; what hangs fails."""
    gevent.socket.getaddrinfo("127.0.0.1", 0)
    greenlets, open_files = living(), files()
    with gevent.Timeout(3 * PATIENCE):
        yield
        gevent.joinall(living() - greenlets, timeout=PATIENCE)
    assert living() - greenlets == set()
    assert len(files()) <= len(open_files)


class Raw:
    """A client that says what it likes."""

    def __init__(self, server, *fields, path="/", more=b"", without=(), line=None, **other):
        self.sock = gevent.socket.create_connection(server.address)
        self.sock.settimeout(PATIENCE)
        changed = {name.replace("_", "-"): value for name, value in other.items()}
        pairs = [item for item in (FIELDS | changed).items() if item[0] not in without]
        lines = [line or f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in [*pairs, *fields])]
        self.data = b""
        self.sock.sendall("\r\n".join([*lines, "", ""]).encode() + more)

    def head(self):
        while b"\r\n\r\n" not in self.data:
            self.more()
        head, _, self.data = self.data.partition(b"\r\n\r\n")
        return head.decode()

    def more(self):
        data = self.sock.recv(1 << 20)
        if not data:
            raise EOFError
        self.data += data

    def frame(self):
        """First byte and payload of the next frame."""
        while True:
            if len(self.data) >= 2:
                length, at = self.data[1], 2
                if length == 126:
                    length, at = int.from_bytes(self.data[2:4]), 4
                elif length == 127:
                    length, at = int.from_bytes(self.data[2:10]), 10
                if len(self.data) >= at + length:
                    first, payload = self.data[0], self.data[at : at + length]
                    self.data = self.data[at + length :]
                    return first, payload
            self.more()

    def send(self, payload, first=0x82):
        self.sock.sendall(masked(payload, first))

    def ended(self):
        """Whether the server has ended the connection, after all that is there."""
        try:
            while self.sock.recv(1 << 20):
                pass
        except ConnectionResetError:
            pass
        return True

    def reset(self):
        self.sock.setsockopt(gevent.socket.SOL_SOCKET, gevent.socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.sock.close()


def until_slow(ws):
    """Send until there is no room; how many messages were sent."""
    for sent in range(10_000):
        try:
            ws.send(bytes(50_000))
        except Slow:
            return sent
        gevent.sleep(0)
    raise AssertionError("there is no limit")


class TestOneServerForAll:
    def test_pages_and_sockets_by_their_paths(self):
        with serve({"/echo": Echo, "/chat": echo}, wsgi=page, log=None) as server:
            host, port = server.address
            for path in ("/", "/other"):
                with gevent.socket.create_connection(server.address) as sock:
                    # One connection, two requests.
                    for _ in range(2):
                        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
                        answer = b""
                        while not answer.endswith(f"page {path}".encode()):
                            answer += sock.recv(10_000)
                        assert answer.startswith(b"HTTP/1.1 200 OK")
            for path in ("echo", "chat"):
                with connect(f"{server.url}{path}", options=OPTIONS) as ws:
                    ws.send("hello")
                    assert ws.recv(PATIENCE) == "hello"

    def test_a_page_where_no_websocket_is_asked_for(self):
        with serve(Echo, wsgi=page, log=None) as server:
            with Raw(server, without=("Upgrade",), Connection="close", path="/x") as raw:
                assert "200 OK" in raw.head()
            with connect(f"{server.url}any/path", options=OPTIONS) as ws:
                ws.send("hello")
                assert ws.recv(PATIENCE) == "hello"

    def test_a_socket_where_a_page_is_asked_for(self):
        with (
            serve({"/echo": Echo}, wsgi=page, log=None) as server,
            Raw(server, path="/echo", without=("Upgrade",)) as raw,
        ):
            assert "426 " in raw.head()
            assert raw.ended()

    def test_a_pywsgi_server_that_is_there(self):
        handler = handler_class({"/echo": Echo})
        there = gevent.pywsgi.WSGIServer(("127.0.0.1", 0), page, handler_class=handler, log=None)
        there.start()
        url = f"ws://127.0.0.1:{there.server_port}/echo"
        ws = connect(url, options=OPTIONS)
        ws.send("hello")
        assert ws.recv(PATIENCE) == "hello"
        assert len(handler.wires) == 1
        there.stop()
        handler.close_connections(1001, "bye")
        with pytest.raises(Closed) as closed:
            ws.recv(PATIENCE)
        assert (closed.value.code, closed.value.reason) == (1001, "bye")
        assert handler.wires == set()

    def test_the_access_log_has_both(self):
        lines = []
        with serve({"/echo": Echo}, wsgi=page, log=_Log(lines)) as server:
            with Raw(server, path="/echo") as raw:
                assert "101 " in raw.head()
            with Raw(server, path="/x", without=("Upgrade",), Connection="close") as raw:
                assert "200 " in raw.head()
                assert raw.ended()
        assert any('"GET /echo HTTP/1.1" 101' in line for line in lines)
        assert any('"GET /x HTTP/1.1" 200' in line for line in lines)

    def test_other_paths_are_not_found_without_pages(self):
        with serve({"/echo": Echo}) as server, Raw(server, path="/other") as raw:
            assert "404 " in raw.head()


class _Log:
    def __init__(self, lines):
        self.write = lines.append


@pytest.fixture(params=[None, page], ids=["alone", "wsgi"])
def wsgi(request):
    """Both ways a connection comes to be."""
    return {} if request.param is None else {"wsgi": request.param, "log": None}


class TestHandshake:
    @pytest.mark.parametrize(
        ("asked", "status"),
        [
            ({"Sec_WebSocket_Key": "short"}, 400),
            ({"Sec_WebSocket_Version": "7"}, 426),
            ({"Connection": "keep-alive"}, 400),
            ({"Origin": "http://elsewhere.example"}, 403),
            ({"line": "POST / HTTP/1.1"}, 405),
            ({"line": "GET / HTTP/1.0"}, 505),
        ],
    )
    def test_refused(self, wsgi, caplog, asked, status):
        with serve(Echo, **wsgi) as server, caplog.at_level(logging.INFO, "kirsch.websocket"):
            with Raw(server, **asked) as raw:
                port = raw.sock.getsockname()[1]
                head = raw.head()
                assert head.startswith(f"HTTP/1.1 {status} ")
                assert raw.ended()
            (record,) = caplog.records
            assert record.getMessage().startswith(f"127.0.0.1:{port}: ")
            assert record.exc_info is None
            assert len(record.getMessage().splitlines()) == 1

    def test_no_http_at_all(self, caplog):
        with serve(Echo) as server, Raw(server, line="\x16\x03\x01 hello") as raw:
            assert raw.head().startswith("HTTP/1.1 400 ")
            assert raw.ended()
        assert [record.exc_info for record in caplog.records] == [None]

    def test_too_much_of_a_head_is_told_so(self):
        with serve(Echo) as server, Raw(server, ("X-Long", "x" * 200_000)) as raw:
            assert raw.head().startswith("HTTP/1.1 431 ")

    def test_no_handshake_in_time(self, caplog):
        with (
            serve(Echo, limits=Limits(handshake_timeout=0.05)) as server,
            gevent.socket.create_connection(server.address) as sock,
        ):
            sock.sendall(b"GET / HT")
            sock.settimeout(PATIENCE)
            assert sock.recv(1) == b""
        (record,) = caplog.records
        assert "no handshake in 0.05 s" in record.getMessage()

    @pytest.mark.parametrize("said", [b"", b"GET / HT", b"GET /x HTTP/1.1\r\nHost: a\r\nX-A: "])
    def test_no_head_in_time(self, said, caplog):
        """Of pywsgi, which waits for ever: for a WebSocket's as for a page's."""
        with (
            serve(Echo, limits=Limits(handshake_timeout=0.05), wsgi=page, log=None) as server,
            gevent.socket.create_connection(server.address) as sock,
        ):
            sock.sendall(said)
            sock.settimeout(PATIENCE)
            assert sock.recv(1) == b""
            host, port = sock.getsockname()
        (record,) = caplog.records
        assert record.getMessage() == f"{host}:{port}: no request in 0.05 s"
        assert record.exc_info is None

    def test_a_head_that_drips_is_not_waited_for(self, caplog):
        with (
            serve(Echo, limits=Limits(handshake_timeout=0.2), wsgi=page, log=None) as server,
            gevent.socket.create_connection(server.address) as sock,
            contextlib.suppress(ConnectionError),
        ):
            while "no request" not in caplog.text:
                sock.sendall(b"G")
                gevent.sleep(0.01)
        assert "no request in 0.2 s" in caplog.text

    def test_who_asks_for_nothing_more_is_not_waited_for(self, caplog):
        with (
            serve(Echo, limits=Limits(handshake_timeout=0.2), wsgi=page, log=None) as server,
            gevent.socket.create_connection(server.address) as sock,
        ):
            sock.settimeout(PATIENCE)
            sock.sendall(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n")
            answer = b""
            while data := sock.recv(10_000):
                answer += data
            assert answer.endswith(b"page /x")
        assert caplog.records == []

    def test_pages_and_sockets_have_their_time(self):
        """The limit is the head's alone."""

        def slow(environ, start_response):
            start_response("200 OK", [])
            gevent.sleep(0.3)
            return [b"at last"]

        with serve({"/echo": Echo}, limits=Limits(handshake_timeout=0.2), wsgi=slow, log=None) as server:
            with Raw(server, without=("Upgrade",), Connection="close", path="/x") as raw:
                raw.head()
                while b"at last" not in raw.data:
                    raw.more()
            with connect(f"{server.url}echo", options=OPTIONS) as ws:
                gevent.sleep(0.3)
                ws.send("hello")
                assert ws.recv(PATIENCE) == "hello"

    def test_no_tls_where_there_should_be(self, wsgi, certificate, caplog):
        with (
            serve(Echo, ssl=certificate.server, **wsgi) as server,
            caplog.at_level(logging.INFO, "kirsch.websocket"),
        ):
            with Raw(server) as raw:
                assert raw.ended()
            with connect(server.url, options=OPTIONS, ssl=certificate.client) as ws:
                ws.send("hello")
                assert ws.recv(PATIENCE) == "hello"
        (record,) = caplog.records
        assert record.exc_info is None

    def test_frames_right_behind_the_head(self, wsgi):
        frames = masked(b"one") + masked(b"two")
        for cut in (0, 1, 9, len(frames)):
            with serve(Echo, **wsgi) as server, Raw(server, more=frames[:cut]) as raw:
                assert raw.head().startswith("HTTP/1.1 101 ")
                raw.sock.sendall(frames[cut:])
                assert [raw.frame(), raw.frame()] == [(0x82, b"one"), (0x82, b"two")]

    def test_a_large_message_right_behind_the_head(self, wsgi):
        with serve(Echo, **wsgi) as server, Raw(server, more=masked(b"x" * 100_000)) as raw:
            raw.head()
            assert raw.frame() == (0x82, b"x" * 100_000)

    def test_subprotocol_and_request(self, wsgi):
        application, told = recorder()
        options = ClientOptions(subprotocols=("one", "two"), proxy=None)
        with (
            serve(application, policy=Policy(subprotocols=("two",)), **wsgi) as server,
            connect(f"{server.url}path?a=b", options=options) as ws,
        ):
            assert ws.subprotocol == "two"
            there = told.get(timeout=PATIENCE)[1]
            assert there.subprotocol == "two"
            assert there.request.path == "/path"
            assert there.request.query == "a=b"
            assert there.peer.startswith("127.0.0.1:")

    def test_where_one_listens_already(self, tmp_path):
        with serve(Echo) as server, pytest.raises(OSError, match="in use"):
            serve(Echo, port=server.address[1])
        path = str(tmp_path / "socket")
        with serve(Echo, unix=path):
            with pytest.raises(OSError, match="in use"):
                serve(Echo, unix=path)
            # It is still the first one's.
            assert os.path.exists(path)
        assert not os.path.exists(path)

    def test_no_host_is_every_address_of_ipv4(self, wsgi):
        """As with threads; gevent's own way is IPv6's, which not every system has."""
        with serve(Echo, None, **wsgi) as server:
            assert server.address[0] == "0.0.0.0"
            url = f"ws://127.0.0.2:{server.address[1]}/"
            with connect(url, options=OPTIONS) as ws:
                ws.send("hello")
                assert ws.recv(PATIENCE) == "hello"

    def test_a_unix_socket_left_by_a_crash(self, tmp_path):
        path = str(tmp_path / "socket")
        with gevent.socket.socket(gevent.socket.AF_UNIX) as crashed:
            crashed.bind(path)
        with serve(Echo, unix=path) as server, connect(server.url, options=OPTIONS) as ws:
            ws.send("hello")
            assert ws.recv(PATIENCE) == "hello"


class TestSlowReader:
    def test_who_waits_is_told_of_the_end(self, wsgi):
        application, told = recorder()
        with serve(application, limits=Limits(queue=100_000), **wsgi) as server:
            with Raw(server) as raw:
                raw.head()
                there = told.get(timeout=PATIENCE)[1]
                until_slow(there)
                waiting = gevent.spawn(there.drain)
                gevent.sleep(0)
                raw.reset()
            with pytest.raises(Closed):
                waiting.get(timeout=PATIENCE)
            assert told.get(timeout=PATIENCE) == ("closed", 1006, "")


class TestServerClose:
    def test_ends_whatever_there_is(self, wsgi):
        forever = gevent.event.Event()
        application, told = recorder(received_message=lambda self, message: forever.wait())
        with serve(application, limits=Limits(close_timeout=0.2), **wsgi) as server:
            clients = [connect(server.url, options=OPTIONS) for _ in range(3)]
            clients[0].send("block")
            with gevent.socket.create_connection(server.address) as opening, Raw(server) as raw:
                opening.sendall(b"GET / HTTP/1.1\r\n")
                raw.head()
                for _ in range(4):
                    told.get(timeout=PATIENCE)
                server.close(1001, "over")
                codes = []
                for ws in clients[1:]:
                    with pytest.raises(Closed) as closed:
                        ws.recv(PATIENCE)
                    codes.append((closed.value.code, closed.value.reason))
                assert codes == [(1001, "over")] * 2
                # This one did not answer.
                assert raw.frame()[0] == 0x88
                assert raw.ended()
                opening.settimeout(PATIENCE)
                try:
                    assert opening.recv(1) == b""
                except ConnectionResetError:
                    pass
            # And this one's application was at it.
            with pytest.raises(Closed):
                clients[0].recv(PATIENCE)
            closed = sorted(told.get(timeout=PATIENCE)[1] for _ in range(4))
            assert closed == [1001, 1001, 1006, 1006]
            with pytest.raises(HandshakeError):
                connect(server.url, options=OPTIONS)

    def test_ends_serve_forever(self):
        server = serve(Echo)
        serving = gevent.spawn(server.serve_forever)
        with connect(server.url, options=OPTIONS) as ws:
            ws.send("hello")
            assert ws.recv(PATIENCE) == "hello"
        server.close()
        serving.get(timeout=PATIENCE)


class TestBlocking:
    def test_what_a_callback_sent_goes_out_though_it_blocks(self, wsgi):
        go = gevent.event.Event()

        def block(self, message):
            self.send(b"before " + message)
            go.wait()
            self.send(b"after " + message)
            go.clear()

        application, _ = recorder(received_message=block)
        policy = Policy(deflate=None)
        with serve(application, policy=policy, **wsgi) as server, Raw(server) as raw:
            raw.head()
            # Both in one read: their answers would go together.
            raw.sock.sendall(masked(b"1") + masked(b"2"))
            for name in (b"1", b"2"):
                assert raw.frame() == (0x82, b"before " + name)
                go.set()
                assert raw.frame() == (0x82, b"after " + name)

    def test_a_peer_is_read_again_once_the_hub_has_written_all(self, wsgi):
        """Its greenlet had found more than half a queue waiting."""
        application, told = recorder()
        given = {"policy": Policy(deflate=None), "limits": Limits(queue=1 << 16)}
        with serve(application, **given, **wsgi) as server, connect(server.url, options=OPTIONS) as ws:
            there = told.get(timeout=PATIENCE)[1]
            there.wire.hold(True)
            ws.send("read at once")
            assert told.get(timeout=PATIENCE)[0] == "message"
            there.wire.hold(False)
            there.send(bytes(40_000))
            assert len(ws.recv(PATIENCE)) == 40_000
            ws.send("read again")
            assert told.get(timeout=PATIENCE)[0] == "message"

    def test_others_go_on_while_a_callback_blocks(self, wsgi):
        """They share the buffer that is read into."""
        go = gevent.event.Event()

        def block(self, message):
            if message == "block":
                go.wait()
            self.send(message)

        application, _ = recorder(received_message=block)
        with (
            serve(application, **wsgi) as server,
            connect(server.url, options=OPTIONS) as one,
            connect(server.url, options=OPTIONS) as two,
        ):
            one.send("block")
            one.send("then")
            two.send("hello")
            assert two.recv(PATIENCE) == "hello"
            go.set()
            assert [one.recv(PATIENCE), one.recv(PATIENCE)] == ["block", "then"]

    def test_others_are_told_by_another_greenlet(self, wsgi):
        application, told = recorder()
        with serve(application, **wsgi) as server, connect(server.url, options=OPTIONS) as ws:
            there = told.get(timeout=PATIENCE)[1]
            gevent.spawn(there.send, "news").get()
            assert ws.recv(PATIENCE) == "news"
            asked, go = gevent.event.Event(), gevent.event.Event()

            def parts():
                yield "more "
                asked.set()
                go.wait()
                yield "news"

            # The hub cannot wait for the second part.
            there.send("before")
            there.send(parts())
            assert asked.wait(PATIENCE)
            go.set()
            assert [ws.recv(PATIENCE), ws.recv(PATIENCE)] == ["before", "more news"]

    def test_a_room_is_told_without_a_greenlet_for_each_member(self, wsgi):
        """Which would take most of the time."""
        room, crowd = Room(), 30
        application, _ = recorder(opened=lambda self: room.add(self))
        switched = set()
        with serve(application, **wsgi) as server, contextlib.ExitStack() as stack:
            clients = [stack.enter_context(Raw(server)) for _ in range(crowd)]
            for raw in clients:
                raw.head()
            with gevent.Timeout(PATIENCE):
                while len(room) < crowd:
                    gevent.sleep(0)
            before = greenlet.settrace(lambda event, ends: switched.add(ends[1]))
            try:
                room.send("news")
                assert [raw.frame()[1] for raw in clients] == [b"news"] * crowd
            finally:
                greenlet.settrace(before)
        assert len(switched) < crowd


class TestStreams:
    def test_a_message_is_taken_in_chunks_and_sent_from_them(self):
        def back(ws):
            for message in ws:
                assert not message.text
                ws.send(bytes(chunk) for chunk in message)

        limits = Limits(message=None, inbox=1 << 20)
        plain = ClientOptions(deflate=None, proxy=None, limits=Limits(message=None, queue=64 << 20))
        with serve(back, limits=limits, stream=True) as server, connect(server.url, options=plain) as ws:
            for size in (10, LARGE, 10):
                data = os.urandom(size)
                ws.send(data)
                assert bytes(ws.recv(PATIENCE)) == data


def test_a_bomb_does_not_fill_the_inbox():
    """What waits is counted as it is, not as it came."""
    go = gevent.event.Event()
    most = []

    def slow(ws):
        go.wait()
        most.append(sum(map(len, ws._inbox)))
        for message in ws:
            ws.send(str(len(message)))

    limits = Limits(inbox=1 << 20, message=1 << 20, ratio=None)
    with serve(slow, limits=limits) as server, connect(server.url, options=OPTIONS) as ws:
        # A thousandth of it goes over the wire.
        for _ in range(64):
            ws.send("x" * (1 << 20))
            gevent.sleep(0.001)
        go.set()
        for _ in range(64):
            assert ws.recv(PATIENCE) == str(1 << 20)
    # One read may bring many messages; here one write was one.
    assert most[0] < 64 << 20
