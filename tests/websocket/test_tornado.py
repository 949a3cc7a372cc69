"""WebSockets on Tornado: real sockets, server and client on one IOLoop."""

import asyncio
import contextlib
import logging
import os

import pytest
from tests.websocket.looped import (
    LARGE,
    LIMITS,
    OPTIONS,
    PATIENCE,
    PLAIN,
    SIZES,
    Echo,
    Raw,
    all_looped,
    echo,
    masked,
    recorder,
    soon,
    until_slow,
)

from kirsch.websocket.application import WebSocket
from kirsch.websocket.backoff import Backoff
from kirsch.websocket.errors import Closed, HandshakeError, Slow
from kirsch.websocket.handshake import Policy
from kirsch.websocket.limits import Limits
from kirsch.websocket.opening import ClientOptions

pytest.importorskip("tornado")

from tornado.httpclient import AsyncHTTPClient
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, HTTPError, RequestHandler

from kirsch.websocket.tornado import connect, handler, reconnect, serve


class Page(RequestHandler):
    def get(self):
        self.write(f"page {self.request.path}")


class Tornado:
    """An application with pages, and a server for it."""

    def __init__(self, *rules, ssl=None):
        self.http = HTTPServer(
            Application([*rules, ("/.*", Page)], log_function=lambda _: None), ssl_options=ssl
        )
        sockets = bind_sockets(0, "127.0.0.1")
        self.http.add_sockets(sockets)
        self.handlers = [rule[1] for rule in rules]
        self.address = sockets[0].getsockname()
        self.place = "{}:{}".format(*self.address)
        self.url = f"{'wss' if ssl else 'ws'}://{self.place}/"

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        self.http.stop()
        await self.http.close_all_connections()
        for made in self.handlers:
            await made.close_connections()


@all_looped
class TestEcho:
    @pytest.fixture(params=["plain", "tls", "unix"])
    def options(self, request, certificate, tmp_path):
        """A server's, and a client's."""
        match request.param:
            case "tls":
                return {"ssl": certificate.server}, {"ssl": certificate.client}
            case "unix":
                return {"unix": str(tmp_path / "socket")}, {}
        return {}, {}

    @pytest.mark.parametrize("application", [Echo, echo], ids=["callbacks", "iteration"])
    async def test_of_every_size(self, options, application):
        mine, theirs = options
        async with (
            serve(application, limits=LIMITS, **mine) as server,
            connect(server.url, options=OPTIONS, **theirs) as ws,
        ):
            for size in SIZES:
                text, binary = "é" * (size // 2), os.urandom(size)
                ws.send(text)
                ws.send(binary)
                assert await ws.recv(PATIENCE) == text
                assert bytes(await ws.recv(PATIENCE)) == binary

    @pytest.mark.parametrize("application", [Echo, echo], ids=["callbacks", "iteration"])
    async def test_of_many_at_once(self, options, application):
        mine, theirs = options
        async with (
            serve(application, **mine) as server,
            connect(server.url, options=OPTIONS, **theirs) as ws,
        ):
            for number in range(10_000):
                ws.send(str(number))
            assert [await ws.recv(PATIENCE) for _ in range(10_000)] == [
                str(number) for number in range(10_000)
            ]

    async def test_of_several_clients(self):
        async with serve(echo) as server, contextlib.AsyncExitStack() as stack:
            opening = [connect(server.url, options=OPTIONS) for _ in range(50)]
            clients = [await stack.enter_async_context(client) for client in opening]
            for number, ws in enumerate(clients):
                ws.send(f"{number}" * 1000)
            for number, ws in enumerate(clients):
                assert await ws.recv(PATIENCE) == f"{number}" * 1000

    async def test_in_both_directions_at_once_by_tls(self, certificate):
        """Neither waits for the other: more than all buffers hold is on its way, both ways."""
        async with (
            serve(Echo, limits=LIMITS, policy=PLAIN, ssl=certificate.server) as server,
            connect(server.url, options=OPTIONS, ssl=certificate.client) as ws,
        ):
            data = [os.urandom(4 << 20) for _ in range(7)]
            for message in data:
                ws.send(message)
            for message in data:
                assert bytes(await ws.recv(PATIENCE)) == message


@all_looped
class TestOneServerForAll:
    async def test_pages_and_sockets_by_their_paths(self):
        rules = ("/echo", handler(Echo)), ("/chat/(.*)", handler(echo))
        async with Tornado(*rules) as server:
            for path in ("/", "/other"):
                answer = await AsyncHTTPClient().fetch(f"http://{server.place}{path}")
                assert answer.body.decode() == f"page {path}"
            for path in ("echo", "chat/room"):
                async with connect(f"{server.url}{path}", options=OPTIONS) as ws:
                    ws.send("hello")
                    assert await ws.recv(PATIENCE) == "hello"

    async def test_by_tls(self, certificate):
        async with Tornado(("/echo", handler(Echo)), ssl=certificate.server) as server:
            answer = await AsyncHTTPClient().fetch(
                f"https://{server.place}/x", ca_certs=str(certificate.file)
            )
            assert answer.body == b"page /x"
            async with connect(f"{server.url}echo", options=OPTIONS, ssl=certificate.client) as ws:
                ws.send("hello")
                assert await ws.recv(PATIENCE) == "hello"

    async def test_a_page_first_on_the_same_connection(self):
        async with (
            Tornado(("/echo", handler(Echo))) as server,
            Raw(server, path="/x", without=("Upgrade", "Connection")) as raw,
        ):
            assert "200 OK" in await raw.head()
            assert await soon(raw.reader.readexactly(7)) == b"page /x"
            raw.writer.write(Raw(server, path="/echo", more=masked(b"hello")).request)
            assert "101 " in await raw.head()
            assert await raw.frame() == (0x82, b"hello")

    async def test_a_socket_where_a_page_is_asked_for(self):
        async with (
            Tornado(("/echo", handler(Echo))) as server,
            Raw(server, path="/echo", without=("Upgrade",)) as raw,
        ):
            assert (await raw.head()).startswith("HTTP/1.1 426 ")

    async def test_prepare_cookies_and_headers_are_the_applications(self):
        class Ours(handler(Echo, policy=Policy(headers=(("X-Policy", "yes"),)))):
            def prepare(self):
                if self.get_argument("user", None) != "me":
                    raise HTTPError(403)
                self.set_cookie("seen", "yes")

        async with Tornado(("/echo", Ours)) as server:
            async with Raw(server, path="/echo") as raw:
                assert (await raw.head()).startswith("HTTP/1.1 403 ")
            async with Raw(server, path="/echo?user=me", more=masked(b"hello")) as raw:
                head = await raw.head()
                assert head.startswith("HTTP/1.1 101 Switching Protocols\r\n")
                assert "Set-Cookie: seen=yes; Path=/\r\n" in head
                assert "X-Policy: yes\r\n" in head
                assert "Sec-Websocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in head
                assert "Content-Type" not in head
                assert await raw.frame() == (0x82, b"hello")

    async def test_connections_outlive_the_servers_stop_and_are_closed_apart(self):
        made = handler(Echo)
        async with Tornado(("/echo", made)) as server, connect(f"{server.url}echo", options=OPTIONS) as ws:
            server.http.stop()
            await server.http.close_all_connections()
            ws.send("hello")
            assert await ws.recv(PATIENCE) == "hello"
            await made.close_connections(1001, "bye")
            with pytest.raises(Closed) as closed:
                await ws.recv(PATIENCE)
            assert (closed.value.code, closed.value.reason) == (1001, "bye")

    async def test_paths_of_a_server_alone(self):
        async with serve({"/echo": Echo}) as server:
            async with connect(f"{server.url}echo", options=OPTIONS) as ws:
                ws.send("hello")
                assert await ws.recv(PATIENCE) == "hello"
            async with Raw(server, path="/other") as raw:
                assert (await raw.head()).startswith("HTTP/1.1 404 ")

    async def test_the_peer_is_who_a_proxy_says(self):
        application, told = recorder()
        async with Tornado(("/ws", handler(application))) as server:
            server.http.xheaders = True
            async with Raw(server, ("X-Real-Ip", "192.0.2.7"), path="/ws") as raw:
                await raw.head()
                assert (await soon(told.get()))[1].peer == "192.0.2.7"


@all_looped
class TestHandshake:
    @pytest.mark.parametrize(
        ("asked", "status"),
        [
            ({"Sec_WebSocket_Key": "short"}, 400),
            ({"Sec_WebSocket_Version": "7"}, 426),
            ({"Connection": "keep-alive"}, 400),
            ({"Origin": "http://elsewhere.example"}, 403),
            ({"line": "GET / HTTP/1.0"}, 505),
        ],
    )
    async def test_refused(self, caplog, asked, status):
        async with serve(Echo) as server:
            with caplog.at_level(logging.INFO):
                async with Raw(server, **asked) as raw:
                    port = raw.writer.get_extra_info("sockname")[1]
                    assert f" {status} " in (await raw.head()).partition("\r\n")[0]
        (record,) = [record for record in caplog.records if record.levelno >= logging.INFO]
        assert record.name == "kirsch.websocket"
        assert record.getMessage().startswith(f"127.0.0.1:{port}: ")
        assert record.exc_info is None
        assert len(record.getMessage().splitlines()) == 1

    async def test_refused_by_method(self):
        async with serve(Echo) as server, Raw(server, line="POST / HTTP/1.1") as raw:
            assert (await raw.head()).startswith("HTTP/1.1 405 ")

    async def test_too_much_of_a_head(self):
        async with serve(Echo) as server, Raw(server, ("X-Long", "x" * 200_000)) as raw:
            assert await raw.ended()

    async def test_no_handshake_in_time(self):
        async with serve(Echo, limits=Limits(handshake_timeout=0.05)) as server, Raw(server) as raw:
            await raw.head()
            # This one has done it, and stays.
            reader, writer = await asyncio.open_connection(*server.address)
            writer.write(b"GET / HT")
            assert await soon(reader.read()) == b""
            writer.close()
            raw.writer.write(masked(b"hello"))
            assert await raw.frame() == (0x82, b"hello")

    async def test_no_tls_where_there_should_be(self, certificate, caplog):
        async with serve(Echo, ssl=certificate.server) as server:
            async with Raw(server) as raw:
                assert await raw.ended()
            async with connect(server.url, options=OPTIONS, ssl=certificate.client) as ws:
                ws.send("hello")
                assert await ws.recv(PATIENCE) == "hello"
        assert all(record.exc_info is None for record in caplog.records)

    async def test_frames_right_behind_the_head(self):
        frames = masked(b"one") + masked(b"two")
        for cut in (0, 1, 9, len(frames)):
            async with serve(Echo) as server, Raw(server, more=frames[:cut]) as raw:
                assert (await raw.head()).startswith("HTTP/1.1 101 ")
                raw.writer.write(frames[cut:])
                assert [await raw.frame(), await raw.frame()] == [(0x82, b"one"), (0x82, b"two")]

    async def test_a_large_message_right_behind_the_head(self):
        async with serve(Echo) as server, Raw(server, more=masked(b"x" * 3_000_000)) as raw:
            await raw.head()
            assert await raw.frame() == (0x82, b"x" * 3_000_000)

    async def test_subprotocol_and_request(self):
        application, told = recorder()
        options = ClientOptions(subprotocols=("one", "two"), proxy=None)
        async with (
            serve(application, policy=Policy(subprotocols=("two",))) as server,
            connect(f"{server.url}path?a=b", options=options) as ws,
        ):
            assert ws.subprotocol == "two"
            there = (await soon(told.get()))[1]
            assert there.subprotocol == "two"
            assert there.request.path == "/path"
            assert there.request.query == "a=b"
            assert there.peer.startswith("127.0.0.1:")

    async def test_where_one_listens_already(self, tmp_path):
        async with serve(Echo) as server:
            with pytest.raises(OSError, match="in use"):
                await serve(Echo, port=server.address[1])
        path = str(tmp_path / "socket")
        async with serve(Echo, unix=path):
            with pytest.raises(OSError, match="in use"):
                await serve(Echo, unix=path)
            assert "socket" in os.listdir(tmp_path)
        assert os.listdir(tmp_path) == []


@all_looped
class TestSlowReader:
    @pytest.fixture(params=["plain", "tls"])
    def ssl(self, request, certificate):
        """What the server and a client have."""
        return (certificate.server, certificate.client) if request.param == "tls" else (None, None)

    async def test_the_sender_is_told_and_can_wait(self, ssl):
        application, told = recorder()
        limits = Limits(queue=1 << 20)
        async with (
            serve(application, limits=limits, policy=PLAIN, ssl=ssl[0]) as server,
            Raw(server, ssl=ssl[1]) as raw,
        ):
            await raw.head()
            there = (await soon(told.get()))[1]
            sent = await until_slow(there)
            assert there.buffered <= limits.queue + 60_000
            waiting = asyncio.create_task(there.drain())
            for _ in range(sent):
                assert await raw.frame() == (0x82, bytes(50_000))
            await soon(waiting)
            assert there.buffered <= limits.queue // 4

    async def test_who_waits_is_told_of_the_end(self):
        application, told = recorder()
        async with serve(application, limits=Limits(queue=100_000)) as server, Raw(server) as raw:
            await raw.head()
            there = (await soon(told.get()))[1]
            raw.writer.transport.pause_reading()
            await until_slow(there)
            waiting = asyncio.create_task(there.drain())
            await asyncio.sleep(0)
            raw.reset()
            await asyncio.wait([waiting], timeout=PATIENCE)
            assert waiting.done()
            # It may raise Closed; that it ends is what counts.
            waiting.exception()
            assert await soon(told.get()) == ("closed", 1006, "")

    async def test_who_does_not_read_is_not_read(self, ssl):
        total = 3000
        everything = asyncio.Event()

        class Loud(WebSocket):
            count = most = 0
            slow = False

            def received_message(self, message):
                Loud.count += 1
                if Loud.count == total:
                    everything.set()
                try:
                    self.send(bytes(10_000))
                except Slow:
                    Loud.slow = True
                Loud.most = max(Loud.most, self.buffered)

        limits = Limits(queue=1 << 20, ping_interval=None)
        async with (
            serve(Loud, limits=limits, policy=PLAIN, ssl=ssl[0]) as server,
            Raw(server, ssl=ssl[1]) as raw,
        ):
            await raw.head()
            raw.writer.write(masked(bytes(10_000)) * total)
            # The server does not read it all, as nobody reads the answers.
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(everything.wait(), 0.5)
            for _ in range(total):
                assert await raw.frame() == (0x82, bytes(10_000))
            assert everything.is_set()
            assert not Loud.slow
            assert 0 < Loud.most <= limits.queue


@all_looped
class TestEnd:
    async def test_by_the_client(self):
        application, told = recorder()
        async with serve(application) as server, connect(server.url, options=OPTIONS) as ws:
            await soon(told.get())
            ws.close(4000, "enough")
            assert await soon(told.get()) == ("closed", 4000, "enough")
            with pytest.raises(Closed) as closed:
                await ws.recv(PATIENCE)
            assert closed.value.code == 4000

    async def test_by_the_server(self, certificate):
        for ssl in ((None, None), (certificate.server, certificate.client)):
            application, told = recorder(opened=lambda self: self.close(4001, "go"))
            async with (
                serve(application, ssl=ssl[0]) as server,
                connect(server.url, options=OPTIONS, ssl=ssl[1]) as ws,
            ):
                with pytest.raises(Closed) as closed:
                    await ws.recv(PATIENCE)
                assert (closed.value.code, closed.value.reason) == (4001, "go")
                assert await soon(told.get()) == ("closed", 4001, "go")

    async def test_of_a_function(self):
        async def bye(ws):
            ws.send("bye")

        async with serve(bye) as server, connect(server.url, options=OPTIONS) as ws:
            assert [message async for message in ws] == ["bye"]

    async def test_by_reset(self):
        application, told = recorder()
        async with serve(application) as server, Raw(server) as raw:
            await raw.head()
            await soon(told.get())
            raw.reset()
            assert await soon(told.get()) == ("closed", 1006, "")

    async def test_by_reset_at_once(self):
        """The client is gone before the response, or just after it."""
        application, told = recorder()
        async with serve(application) as server:
            for _ in range(20):
                async with Raw(server) as raw:
                    await raw.writer.drain()
                    raw.reset()
            async with Raw(server) as raw:
                await raw.head()
        while not told.empty():
            told.get_nowait()

    @pytest.mark.parametrize("tls", [False, True])
    async def test_after_an_error_what_is_written_arrives(self, tls, certificate):
        """The peer is still sending: the answer would be lost if the socket was closed at once."""
        application, told = recorder()
        async with serve(application, ssl=certificate.server if tls else None) as server:
            async with Raw(server, ssl=certificate.client if tls else None) as raw:
                await raw.head()
                raw.writer.write(b"\x82\x01x" + bytes(1 << 20))
                first, payload = await raw.frame()
                assert (first, payload[:2]) == (0x88, (1002).to_bytes(2))
                assert await raw.ended()
            await soon(told.get())
            assert (await soon(told.get()))[:2] == ("closed", 1002)

    async def test_of_a_peer_that_does_not_close(self):
        """It has close_timeout to do so; the clock ticks once a second."""
        application, told = recorder(opened=lambda self: self.close())
        async with serve(application, limits=Limits(close_timeout=0.1)) as server, Raw(server) as raw:
            await raw.head()
            assert (await raw.frame())[0] == 0x88
            assert await raw.ended()
            assert await soon(told.get()) == ("closed", 1006, "")

    async def test_of_a_peer_that_is_silent(self):
        application, told = recorder()
        limits = Limits(ping_interval=0.1, ping_timeout=0.1)
        async with serve(application, limits=limits) as server, Raw(server) as raw:
            await raw.head()
            assert (await raw.frame())[0] == 0x89
            assert await raw.ended()
            await soon(told.get())
            assert await soon(told.get()) == ("closed", 1006, "")

    @pytest.mark.parametrize("name", ["opened", "received_message"])
    async def test_by_an_exception(self, caplog, name):
        def fail(self, *arguments):
            raise LookupError("of mine")

        application, _ = recorder(**{name: fail})
        async with serve(application) as server, connect(server.url, options=OPTIONS) as ws:
            with contextlib.suppress(Closed):
                ws.send("hello")
            with pytest.raises(Closed) as closed:
                await ws.recv(PATIENCE)
            assert closed.value.code == 1011
        assert [record.exc_info[0] for record in caplog.records] == [LookupError]

    async def test_by_an_exception_of_a_function(self, caplog):
        async def fail(ws):
            raise LookupError("of mine")

        async with serve(fail) as server, connect(server.url, options=OPTIONS) as ws:
            with pytest.raises(Closed) as closed:
                await ws.recv(PATIENCE)
            assert closed.value.code == 1011
        assert [record.exc_info[0] for record in caplog.records] == [LookupError]

    async def test_an_exception_in_closed_is_logged(self, caplog):
        def fail(self, code, reason):
            raise LookupError("of mine")

        application, _ = recorder(closed=fail)
        async with serve(application) as server, connect(server.url, options=OPTIONS):
            pass
        assert [record.exc_info[0] for record in caplog.records] == [LookupError]


@all_looped
class TestServerClose:
    async def test_ends_whatever_there_is(self):
        application, told = recorder()
        async with (
            serve(application, limits=Limits(close_timeout=0.2)) as server,
            connect(server.url, options=OPTIONS) as ws,
            Raw(server) as raw,
        ):
            reader, writer = await asyncio.open_connection(*server.address)
            writer.write(b"GET / HTTP/1.1\r\n")
            await raw.head()
            for _ in range(2):
                await soon(told.get())
            closing = asyncio.create_task(server.close(1001, "over"))
            with pytest.raises(Closed) as closed:
                await ws.recv(PATIENCE)
            assert (closed.value.code, closed.value.reason) == (1001, "over")
            # This one does not answer.
            assert (await raw.frame())[0] == 0x88
            assert await raw.ended()
            await soon(closing)
            assert await soon(reader.read()) == b""
            writer.close()
            assert sorted([(await soon(told.get()))[1] for _ in range(2)]) == [1001, 1006]
            with pytest.raises(HandshakeError):
                await connect(server.url, options=OPTIONS)

    async def test_serve_forever_until_cancelled(self):
        server = await serve(Echo)
        serving = asyncio.create_task(server.serve_forever())
        async with connect(server.url, options=OPTIONS) as ws:
            ws.send("hello")
            assert await ws.recv(PATIENCE) == "hello"
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
        with pytest.raises(HandshakeError):
            await connect(server.url, options=OPTIONS)


@all_looped
class TestClient:
    async def test_comes_back(self):
        async def once(ws):
            ws.send("hello")

        seen = []
        async with serve(once) as server:
            clients = reconnect(server.url, backoff=Backoff(0.01, maximum=0.01), options=OPTIONS)
            async with contextlib.aclosing(clients):
                async for ws in clients:
                    seen += [message async for message in ws]
                    if len(seen) == 3:
                        break
        assert seen == ["hello"] * 3

    async def test_takes_chunks(self):
        async with serve(Echo) as server, connect(server.url, options=OPTIONS, stream=True) as ws:
            ws.send("x" * 1_000_000)
            message = await ws.recv(PATIENCE)
            assert message.text
            assert "".join([chunk async for chunk in message]) == "x" * 1_000_000


@all_looped
class TestStreams:
    async def test_a_handlers_function_takes_chunks(self):
        async def sizes(ws):
            async for message in ws:
                ws.send(str(sum([len(chunk) async for chunk in message])))

        async with (
            Tornado(("/sizes", handler(sizes, stream=True, limits=Limits(message=None)))) as server,
            connect(f"{server.url}sizes", options=OPTIONS) as ws,
        ):
            for size in (10, LARGE, 0):
                ws.send(bytes(size))
                assert await ws.recv(PATIENCE) == str(size)
