"""Callbacks, functions, an ASGI and a WSGI application in one process and on one port, by uvicorn."""

import contextlib
import socket
import threading
import urllib.error
import urllib.request

import pytest
import uvicorn
from a2wsgi import WSGIMiddleware
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from django.conf import settings
from django.urls import path
from fastapi import FastAPI
from fastapi import WebSocket as Accepted
from starlette.applications import Starlette
from starlette.routing import Mount
from tests.deadline import eventually

from kirsch.websocket import ClientOptions, Closed, HandshakeError, Limits, Policy, WebSocket
from kirsch.websocket.threaded import connect
from kirsch.websocket.uvicorn import WebSockets

PATIENCE = 20
LARGE = bytes(range(256)) * (8 << 12)
ended: list[tuple[int, str]] = []


class Shout(WebSocket):
    def received_message(self, message):
        self.send(message.upper())

    def closed(self, code, reason):
        ended.append((code, reason))


async def room(ws):
    async for message in ws:
        ws.send(f"{ws.path_params['room']}: {message}")


def old_pages(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"WSGI {environ['PATH_INFO']}".encode()]


def fastapi():
    app = FastAPI()

    @app.get("/")
    def page():
        return "FastAPI"

    @app.websocket("/fast")
    async def fast(websocket: Accepted):
        await websocket.accept()
        await websocket.send_text(f"FastAPI {await websocket.receive_text()}")

    app.mount("/old", WSGIMiddleware(old_pages))
    return app


@contextlib.contextmanager
def serving(app, ws="kirsch.websocket.uvicorn:Protocol", **options):
    server = uvicorn.Server(uvicorn.Config(app, ws=ws, log_config=None, **options))
    with socket.create_server(("127.0.0.1", 0)) as sock:
        server.place = f"127.0.0.1:{sock.getsockname()[1]}"
        thread = threading.Thread(target=server.run, args=([sock],))
        thread.start()
        try:
            yield server
        finally:
            server.should_exit = True
            thread.join(PATIENCE)
            assert not thread.is_alive()


def dial(server, path, **options):
    options |= {"proxy": None, "limits": Limits(message=None, queue=1 << 28)}
    return connect(f"ws://{server.place}{path}", options=ClientOptions(**options))


def get(server, path):
    try:
        with urllib.request.urlopen(f"http://{server.place}{path}", timeout=PATIENCE) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


class TestOneProcess:
    @pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
    def test_four_kinds_on_one_port(self, loop):
        app = WebSockets({"/shout": Shout, "/rooms/{room}": room}, fastapi(), limits=Limits(message=None))
        with serving(app, loop=loop) as server:
            with dial(server, "/shout") as shout, dial(server, "/rooms/bl%C3%BCe?x=1") as blue:
                eventually(lambda: len(app.connections) == 2)
                for message in ("hello", "x" * 70_000):
                    shout.send(message)
                    assert shout.recv(PATIENCE) == message.upper()
                shout.send(LARGE)
                assert shout.recv(PATIENCE) == LARGE.upper()
                blue.send("hello")
                assert blue.recv(PATIENCE) == "blüe: hello"
                with dial(server, "/fast") as fast:
                    fast.send("hello")
                    assert fast.recv(PATIENCE) == "FastAPI hello"
            assert get(server, "/") == (200, b'"FastAPI"')
            assert get(server, "/old/page") == (200, b"WSGI /page")
            eventually(lambda: not app.connections)

    def test_below_a_mount(self):
        inner = WebSockets({"/shout": Shout})
        with serving(Starlette(routes=[Mount("/api", inner)])) as server:
            with dial(server, "/api/shout") as ws:
                ws.send("x")
                assert ws.recv(PATIENCE) == "X"
            assert get(server, "/api/shout") == (426, b"there are WebSockets only\n")
            assert get(server, "/api/other")[0] == 404
            with pytest.raises(HandshakeError) as error:
                dial(server, "/api/other")
            assert error.value.status == 404

    def test_lifespan_is_the_applications(self):
        began = []

        @contextlib.asynccontextmanager
        async def lifespan(app):
            began.append("began")
            yield
            began.append("ended")

        with serving(WebSockets(Shout, FastAPI(lifespan=lifespan)), lifespan="on") as server:
            eventually(lambda: server.started)
            assert began == ["began"]
        assert began == ["began", "ended"]


class TestPolicy:
    def test_is_the_librarys(self):
        """Pages of other hosts are refused, unlike those of the application's own WebSockets."""
        with serving(WebSockets({"/shout": Shout}, fastapi())) as server:
            with pytest.raises(HandshakeError) as error:
                dial(server, "/shout", origin="https://evil.example")
            assert error.value.status == 403
            dial(server, "/fast", origin="https://evil.example").close()

    def test_subprotocols_and_limits(self):
        app = WebSockets(Shout, policy=Policy(subprotocols=("chat",)), limits=Limits(message=10))
        with serving(app) as server, dial(server, "/", subprotocols=("other", "chat")) as ws:
            assert ws.subprotocol == "chat"
            ws.send("x" * 11)
            with pytest.raises(Closed) as closed:
                ws.recv(PATIENCE)
            assert closed.value.code == 1009


class TestEnds:
    @pytest.mark.parametrize("path", ["/shout", "/rooms/blue"])
    def test_when_uvicorn_stops(self, path):
        ended.clear()
        app = WebSockets({"/shout": Shout, "/rooms/{room}": room})
        with serving(app) as server, dial(server, path) as ws:
            ws.send("there")
            assert "there" in ws.recv(PATIENCE).lower()
            server.should_exit = True
            with pytest.raises(Closed) as closed:
                ws.recv(PATIENCE)
            assert closed.value.code == 1012
        assert ended == ([(1012, "")] if path == "/shout" else [])

    def test_by_a_function_that_fails(self, caplog):
        async def fail(ws):
            raise LookupError("of mine")

        with serving(WebSockets(fail)) as server, dial(server, "/") as ws:
            with pytest.raises(Closed) as closed:
                ws.recv(PATIENCE)
            assert closed.value.code == 1011
        assert "LookupError" in caplog.text


def test_a_consumer_of_django_channels():
    if not settings.configured:
        settings.configure(SECRET_KEY="of a test", ALLOWED_HOSTS=["*"])

    class Echo(AsyncWebsocketConsumer):
        async def connect(self):
            name = self.scope["url_route"]["kwargs"]["name"]
            if name == "nobody":
                await self.close()
            else:
                await self.accept("chat")
                await self.send(f"hello {name}")

        async def receive(self, text_data=None, bytes_data=None):
            await self.send(text_data=text_data, bytes_data=bytes_data)

        async def disconnect(self, code):
            ended.append((code, "Channels"))

    ended.clear()
    router = URLRouter([path("echo/<str:name>", Echo.as_asgi())])
    app = WebSockets({"/shout": Shout}, ProtocolTypeRouter({"websocket": router}))
    with serving(app, lifespan="off") as server:
        with dial(server, "/echo/mary", subprotocols=("chat",)) as ws:
            assert ws.subprotocol == "chat"
            assert ws.recv(PATIENCE) == "hello mary"
            for message in ("hällo", b"binary", LARGE):
                ws.send(message)
                assert ws.recv(PATIENCE) == message
            ws.close(3001)
            eventually(lambda: ended == [(3001, "Channels")])
        with pytest.raises(HandshakeError) as error:
            dial(server, "/echo/nobody")
        assert error.value.status == 403


def test_another_protocol_of_uvicorns_is_named(caplog):
    with serving(WebSockets(Shout), ws="websockets-sansio") as server, pytest.raises(HandshakeError):
        dial(server, "/")
    assert "uvicorn --ws kirsch.websocket.uvicorn:Protocol" in caplog.text
