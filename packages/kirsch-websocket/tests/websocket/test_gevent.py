"""WebSockets on gevent: real sockets, server and client in greenlets of one thread."""

import contextlib
import gc
import logging
import os
import struct
from collections import deque

import pytest
from tests.websocket.echoes import Echo, echo

from kirsch.websocket.core.application import WebSocket
from kirsch.websocket.core.backoff import Backoff
from kirsch.websocket.core.errors import Closed, HandshakeError, Slow
from kirsch.websocket.core.frame import header, mask
from kirsch.websocket.core.handshake import Policy
from kirsch.websocket.core.limits import Limits
from kirsch.websocket.core.opening import ClientOptions

pytest.importorskip("gevent")

import gevent
import gevent.event
import gevent.pywsgi
import gevent.queue
import gevent.socket

from kirsch.websocket.gevent import connect, handler_class, reconnect, serve

LARGE = 16 << 20
LIMITS = Limits(message=2 * LARGE, queue=2 * LARGE)
OPTIONS = ClientOptions(limits=LIMITS, proxy=None)
SIZES = [0, 1, 125, 126, 65535, 65536, 1 << 20]
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

    class Recorder(WebSocket):
        def opened(self):
            told.put(("opened", self))

        def received_message(self, message):
            told.put(("message", message))

        def closed(self, code, reason):
            told.put(("closed", code, reason))

    for name, method in more.items():
        setattr(Recorder, name, method)
    return Recorder, told


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


def masked(payload, first=0x82):
    return header(first, len(payload), True) + b"abcd" + mask(payload, b"abcd")


BYE = masked((1000).to_bytes(2), 0x88)


def until_slow(ws):
    """Send until there is no room; how many messages were sent."""
    for sent in range(10_000):
        try:
            ws.send(bytes(50_000))
        except Slow:
            return sent
        gevent.sleep(0)
    raise AssertionError("there is no limit")


class TestEcho:
    @pytest.fixture(params=["plain", "wsgi", "tls", "wsgi-tls", "unix"])
    def options(self, request, certificate, tmp_path):
        """A server's, and a client's."""
        kinds, mine, theirs = request.param.split("-"), {}, {}
        if "wsgi" in kinds:
            mine["wsgi"] = page
        if "tls" in kinds:
            mine["ssl"], theirs["ssl"] = certificate.server, certificate.client
        if "unix" in kinds:
            mine["unix"] = str(tmp_path / "socket")
        return mine, theirs

    @pytest.mark.parametrize("application", [Echo, echo], ids=["callbacks", "iteration"])
    @pytest.mark.parametrize("sizes", [SIZES, pytest.param([LARGE], marks=pytest.mark.slow)], ids=len)
    def test_of_every_size(self, options, application, sizes):
        mine, theirs = options
        with (
            serve(application, limits=LIMITS, **mine) as server,
            connect(server.url, options=OPTIONS, **theirs) as ws,
        ):
            for size in sizes:
                text, binary = "é" * (size // 2), os.urandom(size)
                ws.send(text)
                ws.send(binary)
                assert ws.recv(PATIENCE) == text
                assert bytes(ws.recv(PATIENCE)) == binary

    @pytest.mark.parametrize("application", [Echo, echo], ids=["callbacks", "iteration"])
    def test_of_many_at_once(self, application):
        with serve(application) as server, connect(server.url, options=OPTIONS) as ws:
            for number in range(10_000):
                ws.send(str(number))
            assert [ws.recv(PATIENCE) for _ in range(10_000)] == [str(number) for number in range(10_000)]

    def test_without_compression_and_of_several_clients(self):
        plain = ClientOptions(deflate=None, proxy=None)
        with serve(echo) as server:
            clients = [connect(server.url, options=plain) for _ in range(50)]
            for number, ws in enumerate(clients):
                ws.send(f"{number}" * 1000)
            for number, ws in enumerate(clients):
                assert ws.recv(PATIENCE) == f"{number}" * 1000
            for ws in clients:
                with ws:
                    pass


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

    def test_a_certificate_that_is_not_trusted(self, certificate):
        with (
            serve(Echo, ssl=certificate.server) as server,
            pytest.raises(HandshakeError, match="certificate"),
        ):
            connect(server.url, options=OPTIONS)

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

    def test_nobody_there(self):
        with pytest.raises(HandshakeError, match="nothing listens"):
            connect("ws://127.0.0.1:1/", options=OPTIONS)

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
    def test_the_sender_is_told_and_can_wait(self, wsgi):
        application, told = recorder()
        limits = Limits(queue=1 << 20)
        with (
            serve(application, limits=limits, policy=Policy(deflate=None), **wsgi) as server,
            Raw(server) as raw,
        ):
            raw.head()
            there = told.get(timeout=PATIENCE)[1]
            sent = until_slow(there)
            assert there.buffered <= limits.queue + 110_000
            with pytest.raises(TimeoutError):
                there.wire.drain(0.01)
            waiting = gevent.spawn(there.drain)
            for _ in range(sent):
                assert raw.frame() == (0x82, bytes(50_000))
            waiting.get(timeout=PATIENCE)
            assert there.buffered == 0

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

    def test_who_does_not_read_is_not_read(self, wsgi):
        class Loud(WebSocket):
            most = 0

            def received_message(self, message):
                try:
                    self.send(bytes(10_000))
                except Slow:
                    Loud.most = -1
                Loud.most = max(Loud.most, self.buffered)

        limits = Limits(queue=1 << 20, ping_interval=None)
        with (
            serve(Loud, limits=limits, policy=Policy(deflate=None), **wsgi) as server,
            Raw(server) as raw,
        ):
            raw.head()
            asked = masked(b"x" * 10_000)
            total = 3000
            sending = gevent.spawn(raw.sock.sendall, asked * total)
            # It cannot end: the server does not read it all, as nobody reads the answers.
            sending.join(timeout=0.5)
            assert not sending.dead
            for _ in range(total):
                assert raw.frame() == (0x82, bytes(10_000))
            sending.get(timeout=PATIENCE)
            assert 0 < Loud.most <= limits.queue + 20_000

    def test_messages_nobody_takes_stay_with_the_sender(self, wsgi):
        go, done = gevent.event.Event(), gevent.event.Event()
        taken = deque()

        def slow(ws):
            go.wait()
            for message in ws:
                taken.append(len(message))
            done.set()

        with serve(slow, limits=Limits(inbox=100_000), **wsgi) as server, Raw(server) as raw:
            raw.head()
            sending = gevent.spawn(raw.sock.sendall, masked(b"x" * 10_000) * 3000 + BYE)
            sending.join(timeout=0.5)
            assert not sending.dead
            go.set()
            sending.get(timeout=PATIENCE)
            assert raw.frame()[0] == 0x88
            assert done.wait(PATIENCE)
            assert taken == deque([10_000] * 3000)

    def test_a_full_inbox_does_not_keep_the_answer_to_a_close_away(self):
        go, over, ends = gevent.event.Event(), gevent.event.Event(), gevent.queue.Queue()

        def close(ws):
            go.wait()
            ws.close(4000, "enough")
            over.wait()
            taken = 0
            try:
                while True:
                    taken += len(ws.recv())
            except Closed as closed:
                ends.put((closed.code, taken))

        limits = Limits(inbox=100_000, close_timeout=10 * PATIENCE)
        with serve(close, limits=limits) as server, Raw(server) as raw:
            raw.head()
            sending = gevent.spawn(raw.sock.sendall, masked(bytes(10_000)) * 3000)
            sending.join(timeout=0.5)
            assert not sending.dead
            go.set()
            assert raw.frame() == (0x88, (4000).to_bytes(2) + b"enough")
            sending.get(timeout=PATIENCE)
            raw.send((4000).to_bytes(2), 0x88)
            assert raw.ended()
            over.set()
            code, taken = ends.get(timeout=PATIENCE)
            assert code == 4000
            assert 100_000 < taken < 3_000_000

    def test_who_is_behind_is_not_taken_for_dead(self):
        """Who is not read cannot answer a ping, be it that the inbox is full or that a callback blocks."""
        go = gevent.event.Event()

        def behind(ws):
            go.wait()
            for message in ws:
                ws.send(str(len(message)))

        def block(self, message):
            go.wait()
            self.send("done")

        def nothing_comes(raw):
            raw.sock.settimeout(1)
            with pytest.raises(TimeoutError):
                raw.more()
            raw.sock.settimeout(PATIENCE)

        paths = {"/function": behind, "/class": recorder(received_message=block)[0]}
        limits = Limits(inbox=1000, ping_interval=0.1, ping_timeout=0.1)
        with (
            serve(paths, limits=limits) as server,
            Raw(server, path="/function") as one,
            Raw(server, path="/class") as other,
        ):
            for raw in (one, other):
                raw.head()
                raw.send(bytes(2000))
            waiting = [gevent.spawn(nothing_comes, raw) for raw in (one, other)]
            gevent.joinall(waiting, raise_error=True)
            go.set()
            assert one.frame() == (0x81, b"2000")
            assert other.frame() == (0x81, b"done")


class TestEnd:
    def test_where_messages_are_left(self, wsgi):
        """Neither side takes them; both come to their end at once."""

        def ignorant(ws):
            ws.send("x" * 2_000_000)

        server = serve(ignorant, **wsgi)
        with connect(server.url, options=OPTIONS) as ws:
            ws.send("x" * 2_000_000)
            gevent.sleep(0)
        assert ws.close_received.code == 1000
        server.close()

    def test_by_an_exception_of_the_client(self, wsgi):
        application, told = recorder()
        with serve(application, **wsgi) as server:
            with pytest.raises(LookupError), connect(server.url, options=OPTIONS):
                raise LookupError
            told.get(timeout=PATIENCE)
            assert told.get(timeout=PATIENCE) == ("closed", 1011, "")

    def test_by_the_client(self, wsgi):
        application, told = recorder()
        with serve(application, **wsgi) as server:
            ws = connect(server.url, options=OPTIONS)
            told.get(timeout=PATIENCE)
            ws.close(4000, "enough")
            assert told.get(timeout=PATIENCE) == ("closed", 4000, "enough")
            with pytest.raises(Closed) as closed:
                ws.recv(PATIENCE)
            assert closed.value.code == 4000

    def test_by_the_server(self, wsgi):
        application, told = recorder(opened=lambda self: self.close(4001, "go"))
        with serve(application, **wsgi) as server, connect(server.url, options=OPTIONS) as ws:
            with pytest.raises(Closed) as closed:
                ws.recv(PATIENCE)
            assert (closed.value.code, closed.value.reason) == (4001, "go")
            assert told.get(timeout=PATIENCE) == ("closed", 4001, "go")

    def test_of_a_function(self, wsgi):
        with serve(lambda ws: ws.send("bye"), **wsgi) as server, connect(server.url, options=OPTIONS) as ws:
            assert list(ws) == ["bye"]

    def test_by_reset(self, wsgi):
        application, told = recorder()
        with serve(application, **wsgi) as server:
            with Raw(server) as raw:
                raw.head()
                told.get(timeout=PATIENCE)
                raw.reset()
            assert told.get(timeout=PATIENCE) == ("closed", 1006, "")

    def test_after_an_error_what_is_written_arrives(self, wsgi):
        """The peer is still sending: the answer would be lost if the socket was closed at once."""
        application, told = recorder()
        with serve(application, **wsgi) as server, Raw(server) as raw:
            raw.head()
            raw.sock.sendall(b"\x82\x01x" + bytes(1 << 20))
            first, payload = raw.frame()
            assert (first, payload[:2]) == (0x88, (1002).to_bytes(2))
            assert raw.ended()
            raw.sock.close()
            told.get(timeout=PATIENCE)
            assert told.get(timeout=PATIENCE)[:2] == ("closed", 1002)

    def test_of_a_peer_that_does_not_close(self, wsgi):
        """It has close_timeout to do so."""
        application, told = recorder(opened=lambda self: self.close())
        with serve(application, limits=Limits(close_timeout=0.1), **wsgi) as server, Raw(server) as raw:
            raw.head()
            assert raw.frame()[0] == 0x88
            assert raw.ended()
            assert told.get(timeout=PATIENCE) == ("closed", 1006, "")

    def test_of_a_peer_that_is_silent(self, wsgi):
        application, told = recorder()
        limits = Limits(ping_interval=0.1, ping_timeout=0.1)
        with serve(application, limits=limits, **wsgi) as server, Raw(server) as raw:
            raw.head()
            assert raw.frame()[0] == 0x89
            assert raw.ended()
            told.get(timeout=PATIENCE)
            assert told.get(timeout=PATIENCE) == ("closed", 1006, "")

    def test_a_clock_that_fails_stops_no_other(self, caplog):
        def fail(self, now):
            raise LookupError("of mine")

        broken, _ = recorder(tick=fail)
        limits = Limits(ping_interval=0.1, ping_timeout=None)
        with (
            serve({"/broken": broken, "/": Echo}, limits=limits) as server,
            Raw(server, path="/broken") as other,
            Raw(server) as raw,
        ):
            other.head()
            raw.head()
            assert raw.frame()[0] == 0x89
        assert "the clock goes on" in caplog.messages

    @pytest.mark.parametrize("name", ["opened", "received_message"])
    def test_by_an_exception(self, wsgi, caplog, name):
        def fail(self, *arguments):
            raise LookupError("of mine")

        application, _ = recorder(**{name: fail})
        with serve(application, **wsgi) as server, connect(server.url, options=OPTIONS) as ws:
            ws.send("hello")
            with pytest.raises(Closed) as closed:
                ws.recv(PATIENCE)
            assert closed.value.code == 1011
        assert [record.exc_info[0] for record in caplog.records] == [LookupError]

    def test_by_an_exception_of_a_function(self, wsgi, caplog):
        def fail(ws):
            raise LookupError("of mine")

        with serve(fail, **wsgi) as server, connect(server.url, options=OPTIONS) as ws:
            with pytest.raises(Closed) as closed:
                next(ws)
            assert closed.value.code == 1011
        assert [record.exc_info[0] for record in caplog.records] == [LookupError]

    def test_an_exception_in_closed_is_logged(self, wsgi, caplog):
        def fail(self, code, reason):
            raise LookupError("of mine")

        application, _ = recorder(closed=fail)
        with serve(application, **wsgi) as server, connect(server.url, options=OPTIONS):
            pass
        assert [record.exc_info[0] for record in caplog.records] == [LookupError]


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

    def test_not_with_what_cannot_be_said(self, wsgi):
        with serve(Echo, **wsgi) as server, connect(server.url, options=OPTIONS) as ws:
            for code, reason in ((1006, ""), (1001, "x" * 124)):
                with pytest.raises(ValueError, match="close"):
                    server.close(code, reason)
            ws.send("still")
            assert ws.recv(PATIENCE) == "still"
            with connect(server.url, options=OPTIONS):
                pass

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

    def test_recv_has_a_timeout(self, wsgi):
        with serve(echo, **wsgi) as server, connect(server.url, options=OPTIONS) as ws:
            with pytest.raises(TimeoutError, match="no message in 0"):
                ws.recv(0.01)
            ws.send("hello")
            assert ws.recv(PATIENCE) == "hello"


class TestWith:
    def test_closes_a_client_with_callbacks(self):
        application, told = recorder()
        with serve(application) as server:
            with connect(server.url, Echo, options=OPTIONS) as ws:
                told.get(timeout=PATIENCE)[1].send("hello")
                assert told.get(timeout=PATIENCE) == ("message", "hello")
            assert ws.wait_closed(0)
            assert told.get(timeout=PATIENCE) == ("closed", 1000, "")


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

    def test_what_is_not_read_is_left_out(self):
        def first(ws):
            for message in ws:
                for chunk in message:
                    ws.send(chunk[:1])
                    break

        with serve(first, stream=True) as server, connect(server.url, options=OPTIONS) as ws:
            for data in ("a" * 3_000_000, "b", "c" * 3_000_000):
                ws.send(data)
                assert ws.recv(PATIENCE) == data[0]

    def test_what_was_skipped_has_no_end(self):
        def read(ws):
            first = next(ws)
            ws.send("begun")
            next(ws)
            try:
                ws.send("".join(first))
            except RuntimeError as error:
                ws.send(str(error))

        with serve(read, stream=True) as server, Raw(server) as raw:
            raw.head()
            raw.send(b"one", 0x01)
            assert raw.frame() == (0x81, b"begun")
            raw.sock.sendall(masked(b"more", 0x80) + masked(b"two"))
            assert b"was dropped when the next one was asked for" in raw.frame()[1]

    def test_a_client_takes_chunks_too(self):
        with serve(Echo) as server, connect(server.url, options=OPTIONS, stream=True) as ws:
            ws.send("x" * 1_000_000)
            message = ws.recv(PATIENCE)
            assert message.text
            assert "".join(message) == "x" * 1_000_000


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


def test_a_client_comes_back():
    seen = []

    def once(ws):
        ws.send("hello")

    with serve(once) as server:
        clients = reconnect(server.url, backoff=Backoff(0.01, maximum=0.01), options=OPTIONS)
        for ws in clients:
            seen.extend(ws)
            if len(seen) == 3:
                break
        clients.close()
    assert seen == ["hello"] * 3


def test_a_client_gives_up_when_the_delays_end():
    with pytest.raises(HandshakeError, match="nothing listens"):
        list(reconnect("ws://127.0.0.1:1/", backoff=Backoff(0, attempts=2), options=OPTIONS))


def test_a_client_does_not_come_back_where_it_is_not_wanted():
    with serve({"/": Echo}) as server, pytest.raises(HandshakeError, match="404"):
        list(reconnect(f"{server.url}other", options=OPTIONS))
