"""ASGI applications on uvicorn with our protocol: of Starlette, of FastAPI, and some that send anything."""

import asyncio
import contextlib
import logging
import queue
import socket
import threading
import urllib.request

import pytest
import uvicorn
from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import WebSocketRoute
from tests.deadline import eventually
from tests.websocket import wire

from kirsch.websocket import ClientOptions, Closed, HandshakeError, Limits
from kirsch.websocket.core.message import Close, Ping
from kirsch.websocket.threaded import connect
from kirsch.websocket.uvicorn import WebSockets

PATIENCE = 20
OPTIONS = ClientOptions(proxy=None, limits=Limits(message=None, queue=1 << 28))
LARGE = bytes(range(256)) * (8 << 12)


@pytest.fixture(params=["asyncio-h11", "uvloop-httptools"])
def serve(request):
    """Runs an application on uvicorn, in a thread."""
    loop, http = request.param.split("-")
    pytest.importorskip(loop)
    pytest.importorskip(http)

    @contextlib.contextmanager
    def serve(app, **options):
        config = uvicorn.Config(
            app, ws="kirsch.websocket.uvicorn:Protocol", loop=loop, http=http, log_config=None, **options
        )
        server = uvicorn.Server(config)
        with socket.create_server(("127.0.0.1", 0)) as sock:
            server.address = sock.getsockname()
            server.url = f"{'wss' if 'ssl_certfile' in options else 'ws'}://127.0.0.1:{server.address[1]}/"
            thread = threading.Thread(target=server.run, args=([sock],))
            thread.start()
            try:
                yield server
            finally:
                server.should_exit = True
                thread.join(PATIENCE)
                assert not thread.is_alive()

    return serve


class App:
    """An application that is a coroutine function, and what it is told."""

    def __init__(self, talk):
        self.talk = talk
        self.told = queue.Queue()
        self.scope = None

    async def __call__(self, scope, receive, send):
        if scope["type"] == "lifespan":
            return
        self.scope = scope

        async def received():
            event = await receive()
            self.told.put(event)
            return event

        assert await receive() == {"type": "websocket.connect"}
        try:
            await self.talk(received, send)
        except OSError as error:
            self.told.put(type(error).__name__)
            raise

    def next(self):
        return self.told.get(timeout=PATIENCE)


async def echo(receive, send):
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        await send(event | {"type": "websocket.send"})


def talk_to(ws):
    for message in ("hällo", "", b"", b"binary", "x" * 70_000, LARGE):
        ws.send(message)
        assert ws.recv(PATIENCE) == message


def refused(url, **options):
    with pytest.raises(HandshakeError) as error:
        connect(url, options=ClientOptions(proxy=None, **options))
    return error.value


class TestFrameworks:
    def test_fastapi(self, serve):
        app = FastAPI()
        ends = queue.Queue()

        @app.websocket("/rooms/{room}")
        async def chat(websocket: WebSocket, room: str):
            await websocket.accept(subprotocol="chat", headers=[(b"x-room", room.encode())])
            try:
                async for text in websocket.iter_text():
                    await websocket.send_json(
                        {"room": room, "text": text, "who": websocket.query_params["who"]}
                    )
            except WebSocketDisconnect as end:
                ends.put(end.code)
            ends.put("over")

        @app.get("/")
        def page():
            return "a page"

        with serve(app) as server:
            url = f"{server.url}rooms/blue?who=mary"
            with connect(url, options=ClientOptions(proxy=None, subprotocols=("other", "chat"))) as ws:
                assert ws.subprotocol == "chat"
                ws.send("hi")
                assert ws.recv(PATIENCE) == '{"room":"blue","text":"hi","who":"mary"}'
            assert ends.get(timeout=PATIENCE) == "over"
            with urllib.request.urlopen(server.url.replace("ws", "http", 1), timeout=PATIENCE) as response:
                assert response.read() == b'"a page"'

    def test_starlette_refuses_in_its_own_words(self, serve):
        async def cookies(websocket):
            raise HTTPException(401, "who are you?", headers={"WWW-Authenticate": "Basic realm=x"})

        async def page(websocket):
            await websocket.send_denial_response(PlainTextResponse("not now", 409, headers={"x-y": "z"}))

        async def parts(websocket):
            response = StreamingResponse((str(part) * 3 for part in range(3)), 404)
            await websocket.send_denial_response(response)

        async def close(websocket):
            await websocket.close()

        async def fail(websocket):
            raise LookupError("of mine")

        async def nothing(websocket):
            pass

        handlers = {"cookies": cookies, "page": page, "parts": parts, "close": close, "fail": fail}
        handlers["nothing"] = nothing
        routes = [WebSocketRoute(f"/{name}", handler) for name, handler in handlers.items()]
        with serve(Starlette(routes=routes)) as server:
            error = refused(f"{server.url}cookies")
            assert (error.status, dict(error.headers)["www-authenticate"]) == (401, "Basic realm=x")
            error = refused(f"{server.url}page")
            assert (error.status, dict(error.headers)["x-y"]) == (409, "z")
            assert self.body(server, "/page") == (409, b"not now")
            assert self.body(server, "/parts") == (404, b"000111222")
            assert self.body(server, "/close") == (403, b"")
            assert self.body(server, "/fail") == (500, b"Internal Server Error")
            assert self.body(server, "/nothing") == (500, b"Internal Server Error")
            assert self.body(server, "/no-such-route") == (403, b"")

    def body(self, server, path):
        request = wire.REQUEST.replace(b"GET / ", f"GET {path} ".encode())
        with socket.create_connection(server.address, PATIENCE) as sock:
            sock.sendall(request)
            said = b""
            while data := sock.recv(4096):
                said += data
        head, _, body = said.partition(b"\r\n\r\n")
        if b"transfer-encoding" in head.lower():
            body = b"".join(body.split(b"\r\n")[1::2])
        return int(head.split()[1]), body


class TestEcho:
    def test_of_everything(self, serve):
        app = App(echo)
        with serve(app) as server, connect(server.url, options=OPTIONS) as ws:
            talk_to(ws)
        assert app.scope["scheme"] == "ws"

    def test_with_tls(self, serve, certificate, tmp_path):
        app = App(echo)
        with (
            serve(app, ssl_certfile=certificate.file, ssl_keyfile=certificate.key) as server,
            connect(server.url, options=OPTIONS, ssl=certificate.client) as ws,
        ):
            talk_to(ws)
        assert app.scope["scheme"] == "wss"

    @pytest.mark.parametrize("compressed", [True, False])
    def test_is_compressed_as_uvicorn_is_told(self, serve, compressed):
        request = wire.REQUEST[:-2] + b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
        with serve(App(echo), ws_per_message_deflate=compressed) as server, socket.socket() as sock:
            sock.settimeout(PATIENCE)
            sock.connect(server.address)
            sock.sendall(request)
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += sock.recv(1)
        assert (b"permessage-deflate" in head) is compressed

    def test_scope(self, serve):
        app = App(echo)
        with serve(app, root_path="/root") as server:
            options = ClientOptions(proxy=None, subprotocols=("a", "b"), headers={"X-Name": "ä"})
            with connect(f"{server.url}one%2Ftwo?x=%20y", options=options):
                pass
        scope = app.scope
        assert scope["path"] == "/root/one/two"
        assert scope["raw_path"] == b"/root/one%2Ftwo"
        assert scope["query_string"] == b"x=%20y"
        assert scope["subprotocols"] == ["a", "b"]
        assert scope["server"] == server.address
        assert scope["client"][0] == "127.0.0.1"
        assert (b"x-name", b"\xe4") in scope["headers"]
        assert scope["extensions"].keys() == {"websocket.http.response", "kirsch.websocket"}


@pytest.mark.parametrize(
    ("root", "path", "status"),
    [
        ("", "/chat", 426),
        ("/app", "/app/chat", 426),
        ("/app", "/application", 426),
        ("/app", "/app/none", 404),
    ],
)
def test_a_path_is_below_the_root_or_is_whole(root, path, status):
    async def handler(ws):
        """Never called: the request is no WebSocket's."""

    app = WebSockets({"/chat": handler, "/application": handler})
    sent = []

    async def send(event):
        sent.append(event)

    scope = {"type": "http", "path": path, "raw_path": path.encode(), "root_path": root}
    asyncio.run(app(scope, None, send))
    assert sent[0]["status"] == status


class TestEnds:
    """Each side is told how, and the close frame comes before the end."""

    def test_by_the_client(self, serve):
        app = App(echo)
        with serve(app) as server, connect(server.url, options=OPTIONS) as ws:
            ws.close(3001, "thanks")
            assert app.next() == {"type": "websocket.disconnect", "code": 3001, "reason": "thanks"}

    def test_by_the_application(self, serve):
        async def talk(receive, send):
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.send", "text": "before"})
            await send({"type": "websocket.close", "code": 4000, "reason": "enough"})
            await receive()
            await send({"type": "websocket.send", "text": "after"})

        app = App(talk)
        with serve(app) as server, wire.dial(server.address) as peer:
            assert peer.next() == "before"
            assert peer.next() == Close(4000, "enough")
            peer.close(4000)
            assert app.next() == {"type": "websocket.disconnect", "code": 4000}
            assert app.next() == "Disconnected"

    def test_by_a_reset(self, serve):
        app = App(echo)
        with serve(app) as server:
            with wire.dial(server.address) as peer:
                peer.send("there")
                assert peer.next() == "there"
            assert app.next()["type"] == "websocket.receive"
            assert app.next() == {"type": "websocket.disconnect", "code": 1006}

    def test_before_the_application_has_decided(self, serve):
        async def talk(receive, send):
            await receive()

        app = App(talk)
        with serve(app) as server:
            with socket.create_connection(server.address, PATIENCE) as sock:
                sock.sendall(wire.REQUEST)
                eventually(lambda: app.scope)
            assert app.next() == {"type": "websocket.disconnect", "code": 1006}

    @pytest.mark.parametrize("size", [1001, 16 << 20])
    def test_by_a_message_that_is_too_large(self, serve, size):
        """The frame with 1009 comes, though the server does not read what the client still sends."""
        app = App(echo)
        with serve(app, ws_max_size=1000) as server, wire.dial(server.address) as peer:
            sending = threading.Thread(target=peer.send, args=(bytes(size),))
            sending.start()
            assert peer.next().code == 1009
            sending.join(PATIENCE)
            assert app.next()["code"] == 1009

    def test_by_a_client_that_breaks_the_protocol(self, serve):
        app = App(echo)
        with serve(app) as server, wire.dial(server.address) as peer:
            peer.sock.sendall(b"\x81\x01x")
            assert peer.next() == Close(1002, "a frame without a mask")
            assert peer.next() is None
            assert app.next()["code"] == 1002

    def test_by_an_application_that_fails(self, serve, caplog):
        async def talk(receive, send):
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.send", "text": "before"})
            raise LookupError("of mine")

        with serve(App(talk)) as server, wire.dial(server.address) as peer:
            assert peer.next() == "before"
            assert peer.next() == Close(1011, "the application failed")
            peer.close(1011)
            assert peer.next() is None
        assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [LookupError]

    def test_by_an_application_that_returns(self, serve):
        async def talk(receive, send):
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.send", "bytes": LARGE})

        with serve(App(talk)) as server, connect(server.url, options=OPTIONS) as ws:
            assert list(ws) == [LARGE]
            assert ws.close_received == Close(1000, "")

    def test_by_a_client_that_is_silent(self, serve):
        app = App(echo)
        with (
            serve(app, ws_ping_interval=0.1, ws_ping_timeout=0.1) as server,
            wire.dial(server.address) as peer,
        ):
            assert peer.next() == Ping(b"")
            assert peer.next() == Close(1011, "keepalive ping timeout")
            assert app.next()["code"] == 1011

    def test_by_uvicorn_that_stops(self, serve):
        app = App(echo)
        with serve(app) as server, connect(server.url, options=OPTIONS) as ws:
            ws.send("there")
            assert ws.recv(PATIENCE) == "there"
            assert app.next()["type"] == "websocket.receive"
            server.should_exit = True
            with pytest.raises(Closed) as closed:
                ws.recv(PATIENCE)
            assert closed.value.code == 1012
            assert app.next() == {"type": "websocket.disconnect", "code": 1012}

    def test_by_uvicorn_that_stops_in_the_middle_of_a_refusal(self, serve):
        async def talk(receive, send):
            await send({"type": "websocket.http.response.start", "status": 401, "headers": []})
            await send({"type": "websocket.http.response.body", "body": b"den", "more_body": True})
            await receive()

        app = App(talk)
        with serve(app) as server, socket.create_connection(server.address, PATIENCE) as sock:
            sock.sendall(wire.REQUEST)
            said = b""
            while not said.endswith(b"den"):
                said += sock.recv(1000)
            server.should_exit = True
            assert sock.recv(1000) == b""
            assert app.next() == {"type": "websocket.disconnect", "code": 1006}


class TestTurns:
    """What is out of its turn is an exception in the application, and a close or a 500 for the client."""

    @pytest.mark.parametrize(
        ("event", "text"),
        [
            ({"type": "websocket.send", "text": "x"}, "its turn is websocket.accept or websocket.close"),
            ({"type": "websocket.accept", "subprotocol": "other"}, "did not offer the subprotocol 'other'"),
            ({"type": "websocket.accept", "headers": [(b"upgrade", b"x")]}, "upgrade is the handshake's own"),
            ({"type": "websocket.accept", "headers": [(b"x", b"a\r\nb: c")]}, "cannot stand in a header"),
            ({"type": "websocket.http.response.start", "status": 700}, "700 is no status"),
            (
                {"type": "websocket.http.response.start", "status": 403, "headers": [(b"x", b"a\nb: c")]},
                "line break",
            ),
        ],
    )
    def test_before_accept(self, serve, caplog, event, text):
        async def talk(receive, send):
            await send(event)

        with serve(App(talk)) as server:
            assert refused(server.url, subprotocols=("chat",)).status == 500
        assert text in caplog.text

    def test_behind_accept(self, serve, caplog):
        async def talk(receive, send):
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.accept"})

        with serve(App(talk)) as server, wire.dial(server.address) as peer:
            assert peer.next() == Close(1011, "the application failed")
            peer.close(1011)
        assert "its turn is websocket.send or websocket.close" in caplog.text

    def test_behind_a_refusal(self, serve, caplog):
        async def talk(receive, send):
            await send({"type": "websocket.close"})
            assert await receive() == {"type": "websocket.disconnect", "code": 1006}
            await send({"type": "websocket.accept"})

        app = App(talk)
        with serve(app) as server:
            assert refused(server.url).status == 403
            assert app.next()["type"] == "websocket.disconnect"
            assert app.next() == "Disconnected"


def test_a_client_that_does_not_read_holds_the_application_up(serve):
    """`send` waits where more than the limit is queued, and goes on when it is read."""
    sent = []

    async def talk(receive, send):
        await send({"type": "websocket.accept"})
        for number in range(300):
            await send({"type": "websocket.send", "bytes": bytes(100_000)})
            sent.append(number)
        sent.append("all")

    with serve(App(talk)) as server, wire.dial(server.address) as peer:
        while True:
            before = len(sent)
            threading.Event().wait(0.05)
            if before and len(sent) == before:
                break
        assert sent[-1] != "all"
        for _ in range(300):
            assert peer.next() == bytes(100_000)
        assert peer.next() == Close(1000, "")


def test_an_application_that_does_not_take_messages_is_not_sent_more(serve):
    go = threading.Event()

    async def talk(receive, send):
        await send({"type": "websocket.accept"})
        await asyncio.to_thread(go.wait, PATIENCE)
        await echo_all(receive, send)

    async def echo_all(receive, send):
        while (event := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": str(len(event["bytes"]))})

    with serve(App(talk)) as server, wire.dial(server.address) as peer:
        peer.sock.settimeout(0.5)
        encoder = wire.Protocol(client=True)
        encoder.send(bytes(100_000))
        frame, sent = b"".join(encoder.take()), 0
        with contextlib.suppress(TimeoutError):
            while sent < 1000:
                peer.sock.sendall(frame)
                sent += 1
        assert sent < 1000
        peer.sock.settimeout(PATIENCE)
        go.set()
        for _ in range(sent):
            assert peer.next() == "100000"


def test_who_does_not_ask_rightly_is_refused(serve, caplog):
    caplog.set_level(logging.WARNING)
    app = App(echo)
    with serve(app) as server, socket.create_connection(server.address, PATIENCE) as sock:
        sock.sendall(wire.REQUEST.replace(b"Version: 13", b"Version: 7"))
        assert sock.recv(4096).startswith(b"HTTP/1.1 426 ")
    assert app.scope is None
    assert "version '7': it is 13 here" in caplog.text
