"""WebSockets in a Tornado application: pages beside them, and its own answers to what is refused."""

import logging
import socket

import pytest
from tests.websocket.echoes import Echo
from tests.websocket.echoes import echo_async as echo
from tests.websocket.looped import (
    LARGE,
    OPTIONS,
    PATIENCE,
    Raw,
    all_looped,
    masked,
    recorder,
    soon,
)

from kirsch.websocket.core.errors import Closed
from kirsch.websocket.core.handshake import Policy
from kirsch.websocket.core.limits import Limits

pytest.importorskip("tornado")

from tornado.httpclient import AsyncHTTPClient
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, HTTPError, RequestHandler

from kirsch.websocket.tornado import connect, handler, serve


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

    async def test_what_is_small_does_not_wait_for_the_peer_to_acknowledge(self):
        rule = handler(Echo)
        async with Tornado(("/echo", rule)) as server, connect(f"{server.url}echo", options=OPTIONS) as ws:
            ws.send("hello")
            assert await ws.recv(PATIENCE) == "hello"
            (wire,) = rule.connections._all
            assert wire._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

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

    async def test_a_body_is_not_taken(self):
        """Tornado would gather all of it before it asks who handles the request."""
        length = ("Content-Length", str(50 << 20))
        async with serve(Echo) as server, Raw(server, length, line="POST / HTTP/1.1") as raw:
            assert (await raw.head()).startswith("HTTP/1.1 400 ")
            assert await raw.ended()

    async def test_no_tls_where_there_should_be(self, certificate, caplog):
        async with serve(Echo, ssl=certificate.server) as server:
            async with Raw(server) as raw:
                assert await raw.ended()
            async with connect(server.url, options=OPTIONS, ssl=certificate.client) as ws:
                ws.send("hello")
                assert await ws.recv(PATIENCE) == "hello"
        assert all(record.exc_info is None for record in caplog.records)
