"""Clients, and those that come back: the same with every provider that has one."""

import contextlib
import os
import socket
import threading

import pytest
from tests.websocket import serving, wire
from tests.websocket.contract import LIMITS, PLAIN, Told, of_sizes, recorder
from tests.websocket.echoes import Echo, echo
from tests.websocket.serving import CLIENTS, PATIENCE

from kirsch.websocket import (
    Backoff,
    ClientOptions,
    Close,
    Closed,
    HandshakeError,
    Limits,
    Policy,
    WebSocket,
)
from kirsch.websocket.core.handshake import accept
from kirsch.websocket.core.headers import HeadReader
from kirsch.websocket.threaded import serve

OPTIONS = ClientOptions(limits=LIMITS, proxy=None)
UNPACKED = ClientOptions(limits=LIMITS, proxy=None, deflate=None)


@pytest.fixture(params=CLIENTS)
def name(request):
    return request.param


@pytest.fixture
def client(name):
    return serving.Client(name)


def on(client, *arguments, **options):
    """A test's coroutine runs with a connection."""

    def run(coroutine):
        async def connected():
            async with client.connect(*arguments, **options) as ws:
                return await coroutine(ws)

        return client.run(connected())

    return run


async def opened(client, *arguments, **options):
    return await client.connect(*arguments, **options)


@contextlib.contextmanager
def rude():
    """The URL of a server that accepts a client, and says nothing more."""
    kept = []

    def run():
        sock = listener.accept()[0]
        kept.append(sock)
        sock.sendall(accept(HeadReader(Limits(), client=False).feed(sock.recv(65536)), Policy()).response)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=run)
        thread.start()
        yield "ws://{}:{}/".format(*listener.getsockname())
        thread.join(PATIENCE)
        kept[0].close()


class TestMessages:
    @of_sizes
    def test_of_every_size_and_many_both_ways_at_once(self, client, way, sizes):
        mine, theirs = way

        async def talk(ws):
            for size in sizes:
                for message in ("é" * (size // 2), os.urandom(size)):
                    ws.send(message)
                    received = await ws.recv(PATIENCE)
                    assert received == message
                    assert type(received) is type(message)
            # Far more than sockets hold: whoever only wrote would never end.
            data = [os.urandom(1 << 20) for _ in range(12)]
            for message in data:
                ws.send(message)
            for message in data:
                assert await ws.recv(PATIENCE) == message
            numbers = [f"message {number}" for number in range(3000)]
            for number in numbers:
                ws.send(number)
                if number.endswith("999"):
                    await ws.drain(PATIENCE)
            assert [await ws.recv(PATIENCE) for _ in numbers] == numbers

        with serve(Echo, limits=LIMITS, policy=PLAIN, **mine) as server:
            on(client, server.url, options=UNPACKED, **theirs)(talk)

    def test_compressed_and_fragments(self, client):
        async def talk(ws):
            text = "again and again " * 10_000
            for _ in range(3):
                ws.send(text)
                assert await ws.recv(PATIENCE) == text
            ws.send(iter(["one ", "two ", "three"]))
            assert await ws.recv(PATIENCE) == "one two three"
            ws.send(iter([b"x" * 50_000] * 20))
            assert await ws.recv(PATIENCE) == b"x" * 1_000_000

        with serve(Echo) as server:
            on(client, server.url, options=OPTIONS)(talk)

    def test_in_chunks(self, client):
        async def talk(ws):
            for message in ("x" * 1_000_000, b"x" * 1_000_000, "é"):
                ws.send(message)
                received = await ws.recv(PATIENCE)
                assert received.text is isinstance(message, str)
                assert message[:0].join([chunk async for chunk in received]) == message

        with serve(Echo) as server:
            on(client, server.url, options=OPTIONS, stream=True)(talk)

    def test_recv_gives_up_in_time(self, client):
        async def talk(ws):
            for timeout in (0.01, 0):
                with pytest.raises(
                    TimeoutError, match=None if serving.on_a_loop(client.name) else "no message"
                ):
                    await ws.recv(timeout)
            ws.send("now")
            assert await ws.recv(PATIENCE) == "now"

        with serve(echo) as server:
            on(client, server.url, options=OPTIONS)(talk)

    def test_pings_are_answered_while_the_user_is_busy(self, client):
        application, told = recorder(opened=lambda self: self.ping(b"there?"))
        application.ponged = lambda self, data: told.put(data)

        async def talk(ws):
            assert await serving.elsewhere(client.name, told.next) == b"there?"

        with serve(application) as server:
            on(client, server.url, options=OPTIONS)(talk)

    def test_pings_carry_what_they_are_given(self, client):
        told = Told()

        class Asking(WebSocket):
            def ponged(self, data):
                told.put(data)

        async def talk(ws):
            for data in (b"", b"x" * 125):
                ws.ping(data)
                assert await serving.elsewhere(client.name, told.next) == data
            with pytest.raises(ValueError, match="125"):
                ws.ping(bytes(126))

        with serve(echo) as server:
            on(client, server.url, Asking, options=OPTIONS)(talk)


class TestEnd:
    @pytest.mark.parametrize("code", [1000, 1001, 3000, 4999])
    def test_by_the_client(self, client, code):
        application, told = recorder()

        async def talk(ws):
            ws.send("last")
            ws.close(code, "because")
            with pytest.raises(Closed):
                ws.send("more")
            with pytest.raises(Closed) as closed:
                await ws.recv(PATIENCE)
            assert (closed.value.code, closed.value.reason) == (code, "because")
            with pytest.raises(Closed) as closed:
                ws.send("more")
            assert (closed.value.code, closed.value.reason) == (code, "because")
            if client.name != "threaded":
                with pytest.raises(Closed):
                    await ws.drain()

        with serve(application) as server:
            on(client, server.url, options=OPTIONS)(talk)
            _, there = told.next()
            assert told.next() == ("message", "last")
            assert told.next() == ("closed", code, "because")
            with pytest.raises(Closed) as closed:
                there.send("more")
            assert (closed.value.code, closed.value.reason) == (code, "because")

    @pytest.mark.parametrize("code", [1000, 1001, 3000, 4999])
    def test_by_the_server(self, client, code):
        def handler(ws):
            ws.send("last")
            ws.close(code, "because")

        async def talk(ws):
            assert await ws.recv(PATIENCE) == "last"
            if code < 3000:
                assert [message async for message in ws] == []
            else:
                with pytest.raises(Closed, match=f"{code} because"):
                    await anext(aiter(ws))
            with pytest.raises(Closed) as closed:
                await ws.recv()
            assert (closed.value.code, closed.value.reason) == (code, "because")
            assert ws.close_received == Close(code, "because")

        with serve(handler) as server:
            on(client, server.url, options=OPTIONS)(talk)

    @pytest.mark.parametrize(("raised", "code"), [(LookupError, 1011), (KeyboardInterrupt, 1001)])
    @pytest.mark.parametrize("form", ["callbacks", "iteration"])
    def test_by_an_exception_under_with(self, client, form, raised, code):
        application, told = recorder()

        async def talk(ws):
            raise raised

        with serve(application) as server:
            arguments = (WebSocket,) if form == "callbacks" else ()
            with pytest.raises(raised):
                on(client, server.url, *arguments, options=OPTIONS)(talk)
            assert told.next()[0] == "opened"
            assert told.next()[:2] == ("closed", code)

    def test_is_found_while_the_user_is_busy(self, client):
        gone = threading.Event()

        class Bye(WebSocket):
            def opened(self):
                self.send("bye")
                self.close()

            def closed(self, code, reason):
                gone.set()

        async def talk(ws):
            assert await serving.elsewhere(client.name, gone.wait, PATIENCE)
            assert [message async for message in ws] == ["bye"]

        with serve(Bye) as server:
            on(client, server.url, options=OPTIONS)(talk)

    def test_of_a_server_that_never_ends_is_not_waited_for(self, client):
        async def talk(ws):
            return ws

        options = ClientOptions(limits=Limits(close_timeout=0.1), proxy=None)
        with rude() as url:
            ws = on(client, url, options=options)(talk)
        assert ws.state == 3

    def test_of_a_silent_server_is_its_own(self, client):
        async def talk(ws):
            with pytest.raises(Closed, match="1006"):
                await ws.recv(PATIENCE)

        options = ClientOptions(limits=Limits(ping_interval=0.05, ping_timeout=0.05), proxy=None)
        with rude() as url:
            on(client, url, options=options)(talk)


class TestCallbacks:
    def test_are_called_and_the_connection_is_closed_by_with(self, client):
        application, told = recorder()

        async def talk(ws):
            assert isinstance(serving.inner(ws), application)
            kind, opened = await serving.elsewhere(client.name, told.next)
            assert (kind, opened) == ("opened", serving.inner(ws))
            ws.send("hello")
            assert await serving.elsewhere(client.name, told.next) == ("message", "hello")

        with serve(Echo) as server:
            on(client, server.url, application, options=OPTIONS)(talk)
            # It has waited for the end.
            assert told.get_nowait() == ("closed", 1000, "")

    def test_may_close(self, client):
        def close(self, message):
            self.close(3001, "thanks")

        application, told = recorder(received_message=close)

        async def talk(ws):
            ws.send("hello")
            assert await ws.wait_closed(PATIENCE)

        with serve(Echo) as server:
            on(client, server.url, application, options=OPTIONS)(talk)
        told.next()
        assert told.next() == ("closed", 3001, "thanks")


class TestHandshake:
    def test_nobody_there(self, client):
        with pytest.raises(HandshakeError, match="nothing listens"):
            client.run(opened(client, "ws://127.0.0.1:1/", options=OPTIONS))

    def test_has_its_time(self, client):
        with socket.create_server(("127.0.0.1", 0)) as silent:
            url = "ws://{}:{}/".format(*silent.getsockname())
            with pytest.raises(HandshakeError, match=r"within 0\.05 seconds"):
                client.run(opened(client, url, options=OPTIONS, timeout=0.05))

    def test_a_certificate_that_is_not_trusted(self, client, certificate):
        with (
            serve(Echo, ssl=certificate.server) as server,
            pytest.raises(HandshakeError, match="certificate"),
        ):
            client.run(opened(client, server.url, options=OPTIONS))

    def test_subprotocol(self, client):
        async def talk(ws):
            assert ws.subprotocol == "two"
            assert await ws.recv(PATIENCE) == "two /path a=b"

        class Where(WebSocket):
            def opened(self):
                self.send(f"{self.subprotocol} {self.request.path} {self.request.query}")

        options = ClientOptions(subprotocols=("one", "two"), proxy=None)
        with serve(Where, policy=Policy(subprotocols=("two",))) as server:
            on(client, f"{server.url}path?a=b", options=options)(talk)


class TestReconnect:
    def test_comes_back(self, client):
        calls, heard = [], []

        def handler(ws):
            calls.append(1)
            ws.send(str(len(calls)))
            ws.close(4000 if len(calls) == 1 else 1000)

        async def talk():
            connections = client.reconnect(server.url, backoff=Backoff(0.01, maximum=0.01), options=OPTIONS)
            async with contextlib.aclosing(connections):
                async for ws in connections:
                    with contextlib.suppress(Closed):
                        while True:
                            heard.append(await ws.recv(PATIENCE))
                    heard.append(ws.close_received.code)
                    if len(heard) > 5:
                        break

        with serve(handler) as server:
            client.run(talk())
        assert heard == ["1", 4000, "2", 1000, "3", 1000]

    def test_gives_up_when_its_attempts_are_over(self, client):
        async def talk():
            with pytest.raises(HandshakeError, match="nothing listens"):
                await anext(client.reconnect(url, backoff=Backoff(0, attempts=3), options=OPTIONS))

        with socket.create_server(("127.0.0.1", 0)) as listener:
            url = "ws://{}:{}/".format(*listener.getsockname())
        client.run(talk())

    def test_raises_what_time_does_not_heal(self, client):
        async def talk():
            with pytest.raises(HandshakeError, match="404"):
                await anext(client.reconnect(f"{server.url}nothing", options=OPTIONS))
            with pytest.raises(HandshakeError):
                await anext(client.reconnect("http://not a url", options=OPTIONS))

        with serve({"/": Echo}) as server:
            client.run(talk())

    def test_says_why_there_is_no_connection(self, client, caplog):
        async def talk():
            with pytest.raises(HandshakeError, match="404"):
                await anext(client.reconnect(url, backoff=Backoff(start=0), options=OPTIONS))

        caplog.set_level("INFO", "kirsch.websocket")
        with answering(503, 429, 501, 404) as url:
            client.run(talk())
        assert caplog.messages == [
            f"the server refuses: {status} 'So' (HTTP status {status}): trying again in 0.0 s"
            for status in (503, 429, 501)
        ]


@contextlib.contextmanager
def answering(*statuses):
    """A server that answers each connection with one of these, in turn."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def run():
            for status in statuses:
                sock, _ = listener.accept()
                with sock:
                    sock.settimeout(PATIENCE)
                    wire.head(sock)
                    sock.sendall(f"HTTP/1.1 {status} So\r\nContent-Length: 0\r\n\r\n".encode())

        thread = threading.Thread(target=run)
        thread.start()
        yield "ws://{}:{}/".format(*listener.getsockname())
        thread.join(PATIENCE)
        assert not thread.is_alive()
