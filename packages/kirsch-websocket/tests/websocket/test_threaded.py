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
from tests.process import Before
from tests.websocket.echoes import Echo, echo
from tests.websocket.wire import PATIENCE, REQUEST, dial

from kirsch.websocket import (
    ClientOptions,
    Close,
    Closed,
    Deflate,
    HandshakeError,
    Limits,
    Policy,
    Slow,
    WebSocket,
)
from kirsch.websocket.core.backoff import Backoff
from kirsch.websocket.threaded import Connection, Stream, connect, reconnect, serve

LARGE = Limits(message=32 << 20, queue=32 << 20)


@pytest.fixture(scope="module", autouse=True)
def _warm():
    """What all clients of a process share is there from here on."""
    with serve(Echo) as server, connect(server.url) as ws:
        ws.send("hello")
        assert ws.recv() == "hello"


@pytest.fixture(params=[Echo, echo], ids=["callbacks", "function"])
def application(request):
    return request.param


@pytest.fixture(params=["tcp", "tls", "unix"])
def way(request, certificate, tmp_path):
    """How the server is served and the client connects: arguments of both."""
    if request.param == "tls":
        return {"ssl": certificate.server}, {"ssl": certificate.client}
    if request.param == "unix":
        return {"unix": str(tmp_path / "socket")}, {}
    return {}, {}


def collect():
    """A function for a server that tells a queue what it is given, and how that ended."""
    told = queue.Queue()

    def handler(ws):
        try:
            for message in ws:
                told.put(message)
            told.put("end")
        except Closed as closed:
            told.put(closed)
            raise

    return handler, told


# Messages.


def test_echoes_every_size_up_to_16_mib(application, way):
    serving, connecting = way
    options = ClientOptions(limits=LARGE, deflate=None)
    with (
        serve(application, limits=LARGE, **serving) as server,
        connect(server.url, options=options, **connecting) as ws,
    ):
        for size in (0, 1, 125, 126, 65535, 65536, 1 << 20, 16 << 20):
            data = os.urandom(size)
            ws.send(data)
            received = ws.recv(PATIENCE)
            assert received == data
            assert type(received) is bytes
        ws.send("žluťoučký kůň " * 10_000)
        assert ws.recv(PATIENCE) == "žluťoučký kůň " * 10_000


def test_many_in_flight_come_back_in_order(application, way):
    serving, connecting = way
    with serve(application, **serving) as server, connect(server.url, **connecting) as ws:

        def send():
            for number in range(5000):
                ws.send(f"message {number}")
                if not number % 500:
                    ws.drain(PATIENCE)

        sender = threading.Thread(target=send)
        sender.start()
        assert [ws.recv(PATIENCE) for _ in range(5000)] == [f"message {number}" for number in range(5000)]
        sender.join()


def test_large_messages_both_ways_at_once(application, way):
    serving, connecting = way
    options = ClientOptions(limits=LARGE, deflate=None)
    data = [os.urandom(1 << 20) for _ in range(20)]
    with (
        serve(application, limits=Limits(message=4 << 20), **serving) as server,
        connect(server.url, options=options, **connecting) as ws,
    ):
        # Far more than sockets hold: whoever only wrote would never end.
        for message in data:
            ws.send(message)
        for message in data:
            assert ws.recv(PATIENCE) == message


def test_many_large_messages_in_flight_are_not_slow(application):
    """A server that echoes waits for who reads slowly, before it takes the next message."""
    options = ClientOptions(limits=LARGE, deflate=None)
    data = os.urandom(1 << 16)
    with serve(application) as server, connect(server.url, options=options) as ws:
        for _ in range(300):
            ws.send(data)
        for _ in range(300):
            assert ws.recv(PATIENCE) == data


def test_fragments_are_one_message(application):
    with serve(application) as server, connect(server.url) as ws:
        ws.send(iter(["one ", "two ", "three"]))
        assert ws.recv(PATIENCE) == "one two three"
        ws.send(iter([b"x" * 50_000] * 20))
        assert ws.recv(PATIENCE) == b"x" * 1_000_000


def test_compressed(application):
    text = "again and again " * 10_000
    with serve(application) as server, connect(server.url, options=ClientOptions(deflate=Deflate())) as ws:
        for _ in range(3):
            ws.send(text)
            assert ws.recv(PATIENCE) == text


@pytest.mark.parametrize("kind", ["text", "binary"])
def test_streamed_messages_are_never_held(kind):
    sizes = queue.Queue()

    def handler(ws):
        for message in ws:
            assert isinstance(message, Stream)
            assert message.text is (kind == "text")
            total = 0
            for chunk in message:
                assert isinstance(chunk, str if message.text else bytes)
                assert len(chunk) <= 1 << 18
                total += len(chunk)
            sizes.put(total)
            ws.send(iter(["done ", str(total)]))

    one = "x" if kind == "text" else b"x"
    limits = Limits(message=None)
    with serve(handler, limits=limits, stream=True) as server, connect(server.url, stream=True) as ws:
        for size in (0, 10, 3_000_000):
            ws.send(iter([one * 100_000] * (size // 100_000)) if size > 100_000 else one * size)
            assert "".join(next(ws)) == f"done {size}"
            assert sizes.get(timeout=PATIENCE) == size


def test_what_is_left_of_a_streamed_message_is_skipped():
    def handler(ws):
        for message in ws:
            ws.send(next(message)[:5])

    with serve(handler, limits=Limits(message=None), stream=True) as server, connect(server.url) as ws:
        ws.send(iter([b"first" + bytes(100_000), bytes(3_000_000)]))
        ws.send(b"second")
        assert ws.recv(PATIENCE) == b"first"
        assert ws.recv(PATIENCE) == b"secon"


def test_what_was_skipped_has_no_end():
    begun = threading.Event()

    def handler(ws):
        first = next(ws)
        begun.set()
        assert list(next(ws)) == [b"second"]
        with pytest.raises(RuntimeError, match="was dropped when the next one was asked for"):
            list(first)
        ws.send("told")

    with serve(handler, stream=True) as server, dial(server.address) as peer:
        peer.protocol.send(iter([b"first", b"and more"]))
        peer.protocol.send(b"second")
        said = b"".join(peer.protocol.take())
        peer.sock.sendall(said[:11])
        assert begun.wait(PATIENCE)
        peer.sock.sendall(said[11:])
        assert peer.next() == "told"


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


def test_a_streamed_message_that_never_ends_is_an_error():
    told = queue.Queue()

    def handler(ws):
        with pytest.raises(Closed) as raised:
            list(next(ws))
        told.put(raised.value.code)

    with serve(handler, stream=True) as server, dial(server.address) as peer:
        peer.protocol.send(iter([b"begun", b"gone on"]))
        peer.sock.sendall(b"".join(peer.protocol.take())[:20])
        peer.sock.close()
        assert told.get(timeout=PATIENCE) == 1006


def test_recv_gives_up_in_time():
    with serve(echo) as server, connect(server.url) as ws:
        with pytest.raises(TimeoutError, match="no message came in time"):
            ws.recv(0.01)
        with pytest.raises(TimeoutError, match="no message came in time"):
            ws.recv(0)
        ws.send("now")
        assert ws.recv(PATIENCE) == "now"


def test_answers_to_what_came_together_do_not_wait_for_a_slow_function():
    free = threading.Event()

    def handler(ws):
        for message in ws:
            ws.send(message)
            if message == "block":
                assert free.wait(PATIENCE)

    with serve(handler) as server, dial(server.address) as peer:
        peer.send("one", "block", "two")
        assert [peer.next(), peer.next()] == ["one", "block"]
        free.set()
        assert peer.next() == "two"


# The peer is slow.


def test_a_function_that_sends_more_than_is_read_is_told():
    told = queue.Queue()

    def handler(ws):
        sent = 0
        while True:
            try:
                ws.send(bytes(10_000))
                sent += 1
            except Slow as slow:
                told.put((slow.buffered, ws.buffered))
                break
        ws.drain()
        ws.send("drained")
        told.put(sent)

    with serve(handler, limits=Limits(queue=100_000)) as server, dial(server.address) as peer:
        buffered, still = told.get(timeout=PATIENCE)
        assert 80_000 < buffered <= 200_000
        assert still <= 200_000
        messages = 0
        while (event := peer.next()) != "drained":
            assert event == bytes(10_000)
            messages += 1
        assert told.get(timeout=PATIENCE) == messages


def test_a_function_that_does_not_take_messages_is_not_read_for():
    go, taken = threading.Event(), queue.Queue()

    def handler(ws):
        assert next(ws) == b"first"
        assert go.wait(PATIENCE)
        for message in ws:
            taken.put(len(message))
            ws.send("taken")

    limits = Limits(inbox=100_000, message=1 << 20)
    with serve(handler, limits=limits) as server, dial(server.address) as peer:
        peer.send(b"first")
        sender = threading.Thread(target=peer.send, args=[bytes(100_000)] * 100)
        sender.start()
        [ws] = server.connections
        # The pool reads while the function does not, and stops.
        assert ws.wire.wait(lambda: ws.full, PATIENCE)
        go.set()
        for _ in range(100):
            assert taken.get(timeout=PATIENCE) == 100_000
        sender.join()
        while peer.next() != "taken":
            pass


def test_who_is_not_read_is_not_taken_for_dead():
    go = threading.Event()
    begun = queue.Queue()

    def handler(ws):
        begun.put(ws)
        go.wait(PATIENCE)

    limits = Limits(inbox=1000, ping_interval=0.1, ping_timeout=0.1)
    # Messages right behind the request: nobody has the time to be silent.
    messages = (b"\x82\xfe\x03\xe8" + bytes(4) + bytes(1000)) * 3
    with serve(handler, limits=limits) as server, dial(server.address, REQUEST + messages):
        ws = begun.get(timeout=PATIENCE)
        assert ws.wire.wait(lambda: ws.full, PATIENCE)
        # The clock has ticked often enough.
        assert not ws.wire.wait(lambda: ws.wire.gone, 0.6)
        go.set()


def test_a_full_inbox_does_not_keep_the_answer_to_a_close_away():
    go, over, ends = threading.Event(), threading.Event(), queue.Queue()

    def handler(ws):
        assert go.wait(PATIENCE)
        ws.close(4000, "enough")
        # It takes no message for as long as that takes, and what has come afterwards.
        assert over.wait(PATIENCE)
        taken = 0
        try:
            while True:
                taken += len(ws.recv())
        except Closed as closed:
            ends.put((closed.code, taken))

    limits = Limits(inbox=100_000, close_timeout=10 * PATIENCE)
    with serve(handler, limits=limits) as server, dial(server.address) as peer:
        much = []
        for _ in range(3000):
            peer.protocol.send(bytes(10_000))
            much += peer.protocol.take()
        sender = threading.Thread(target=peer.sock.sendall, args=[b"".join(much)])
        sender.start()
        [ws] = server.connections
        assert ws.wire.wait(lambda: ws.full, PATIENCE)
        go.set()
        assert peer.next() == Close(4000, "enough")
        sender.join(PATIENCE)
        assert not sender.is_alive()
        peer.close(4000, "enough")
        assert peer.next() is None
        over.set()
        code, taken = ends.get(timeout=PATIENCE)
        assert code == 4000
        # Some reads more may have been on their way.
        assert 100_000 < taken < 3_000_000


# The end.


@pytest.mark.parametrize("code", [1000, 1001, 3000, 4999])
def test_the_client_closes(code):
    handler, told = collect()
    with serve(handler) as server:
        with connect(server.url) as ws:
            ws.send("last")
            ws.close(code, "because")
            with pytest.raises(Closed) as raised:
                ws.recv(PATIENCE)
            assert (raised.value.code, raised.value.reason) == (code, "because")
            with pytest.raises(Closed):
                ws.send("more")
        assert told.get(timeout=PATIENCE) == "last"
        end = told.get(timeout=PATIENCE)
        if code < 3000:
            assert end == "end"
        else:
            assert (end.code, end.reason) == (code, "because")


@pytest.mark.parametrize("code", [1000, 1001, 3000, 4999])
def test_the_server_closes(code):
    def handler(ws):
        ws.send("last")
        ws.close(code, "because")

    with serve(handler) as server, connect(server.url) as ws:
        assert ws.recv(PATIENCE) == "last"
        if code < 3000:
            assert list(ws) == []
        else:
            with pytest.raises(Closed, match=f"{code} because"):
                next(ws)
        with pytest.raises(Closed) as raised:
            ws.recv()
        assert (raised.value.code, raised.value.reason) == (code, "because")


def test_a_function_that_returns_closes_with_1000():
    with serve(lambda ws: ws.send("all")) as server, connect(server.url) as ws:
        assert list(ws) == ["all"]
        assert ws.close_received == Close(1000, "")


def test_a_function_that_raises_closes_with_1011(caplog):
    def handler(ws):
        raise LookupError("as told")

    closed = pytest.raises(Closed, match="1011 the application failed")
    with serve(handler) as server, connect(server.url) as ws, closed:
        next(ws)
    record, *others = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert not others
    assert record.getMessage().endswith(": the application failed (close code 1011)")
    assert record.getMessage().startswith("127.0.0.1:")
    assert "LookupError: as told" in caplog.text


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


def test_a_function_whose_peer_is_gone_ends_quietly(caplog):
    ended = threading.Event()

    def handler(ws):
        try:
            while True:
                ws.send("anyone?")
                ws.recv(0.01)
        except TimeoutError:
            for _ in ws:
                pass
        finally:
            ended.set()

    with serve(handler) as server:
        with dial(server.address):
            pass
        assert ended.wait(PATIENCE)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_close_without_a_code_is_a_normal_end():
    handler, told = collect()
    with serve(handler) as server, dial(server.address) as peer:
        # As browsers do for `close()`: masked, and empty.
        peer.sock.sendall(b"\x88\x80abcd")
        assert peer.next() == Close(1005, "")
        assert told.get(timeout=PATIENCE) == "end"


def test_an_exception_under_with_is_told_to_the_server():
    handler, told = collect()
    with serve(handler) as server:
        with pytest.raises(LookupError), connect(server.url):
            raise LookupError
        assert told.get(timeout=PATIENCE).code == 1011


def test_a_server_that_never_ends_is_left_in_time():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        kept = []
        thread = threading.Thread(target=lambda: kept.append(rude(listener)))
        thread.start()
        options = ClientOptions(limits=Limits(close_timeout=0.1))
        with connect(f"ws://127.0.0.1:{listener.getsockname()[1]}/", options=options) as ws:
            pass
        assert ws.wait_closed(0)
        with pytest.raises(Closed, match="1006"):
            ws.recv()
        thread.join()
        kept[0].close()


def rude(listener):
    """Accept a client, and say nothing more."""
    from kirsch.websocket.core.handshake import accept
    from kirsch.websocket.core.headers import HeadReader

    sock = listener.accept()[0]
    sock.sendall(accept(HeadReader(Limits(), client=False).feed(sock.recv(65536)), Policy()).response)
    return sock


# While nobody reads.


def test_a_client_answers_pings_while_its_user_is_busy():
    ponged = queue.Queue()

    class Asks(WebSocket):
        def opened(self):
            self.ping(b"there?")

        def ponged(self, data):
            ponged.put(data)

    with serve(Asks) as server, connect(server.url):
        assert ponged.get(timeout=PATIENCE) == b"there?"


def test_a_client_finds_the_end_while_its_user_is_busy():
    with serve(lambda ws: ws.send("bye")) as server, connect(server.url) as ws:
        assert ws.wire.wait(lambda: ws.wire.gone, PATIENCE)
        assert ws.recv() == "bye"
        assert list(ws) == []


def test_a_client_gives_up_a_silent_server():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        kept = []
        thread = threading.Thread(target=lambda: kept.append(rude(listener)))
        thread.start()
        options = ClientOptions(limits=Limits(ping_interval=0.1, ping_timeout=0.1))
        url = f"ws://127.0.0.1:{listener.getsockname()[1]}/"
        with connect(url, options=options) as ws, pytest.raises(Closed, match="1006"):
            ws.recv(PATIENCE)
        thread.join()
        kept[0].close()


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


@pytest.mark.parametrize(("raised", "code"), [(None, 1000), (LookupError, 1011), (KeyboardInterrupt, 1001)])
def test_a_client_with_callbacks_is_closed_by_with(raised, code):
    told, ends = queue.Queue(), queue.Queue()

    class Client(WebSocket):
        def received_message(self, message):
            told.put(message)

    class Server(Echo):
        def closed(self, code, reason):
            ends.put(code)

    with serve(Server) as server:
        with contextlib.suppress(*(() if raised is None else (raised,))), connect(server.url, Client) as ws:
            assert isinstance(ws, Client)
            ws.send("hello")
            assert told.get(timeout=PATIENCE) == "hello"
            if raised is not None:
                raise raised
        # It has waited for the end.
        assert ws.wait_closed(0)
        assert ends.get(timeout=PATIENCE) == code


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


def test_closing_ends_all_and_leaves_nothing(application):
    before = Before()
    server = serve(application, limits=Limits(close_timeout=5))
    clients = [connect(server.url) for _ in range(20)]
    with socket.create_connection(server.address) as silent:
        closer = threading.Thread(target=server.close)
        closer.start()
        for client in clients:
            with client:
                assert list(client) == []
                assert client.close_received == Close(1001, "")
        closer.join(PATIENCE)
        assert not closer.is_alive()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(server.address)
        # Reset if it was still in the backlog.
        with contextlib.suppress(ConnectionResetError):
            assert silent.recv(1) == b""
    assert before.more() == []


def test_serve_forever_ends_when_another_thread_closes():
    server = serve(Echo)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    server.close()
    thread.join(PATIENCE)
    assert not thread.is_alive()


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


def test_a_conversation_that_breaks_off_at_any_byte_leaves_nothing(application):
    before = Before()
    told = REQUEST + b"\x81\x85\0\0\0\0hello\x01\x81\0\0\0\0a\x80\x81\0\0\0\0b\x88\x82\0\0\0\0\x03\xe8"
    with serve(application) as server:
        for length in range(len(told)):
            with socket.create_connection(server.address, PATIENCE) as sock:
                sock.sendall(told[:length])
                sock.shutdown(socket.SHUT_WR)
                while sock.recv(1000):
                    pass
        assert server.connections == []
    assert before.more() == []


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


def test_reconnect_gives_up_where_it_is_told_to():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"ws://127.0.0.1:{listener.getsockname()[1]}/"
    waits = []
    with pytest.raises(HandshakeError, match="nothing listens on"):
        next(reconnect(url, backoff=Backoff(attempts=3), wait=waits.append))
    assert len(waits) == 3


def test_reconnect_raises_what_time_does_not_heal():
    with serve({"/": Echo}) as server, pytest.raises(HandshakeError, match="404"):
        next(reconnect(f"{server.url}nothing"))
    with pytest.raises(HandshakeError):
        next(reconnect("http://not a url"))


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
