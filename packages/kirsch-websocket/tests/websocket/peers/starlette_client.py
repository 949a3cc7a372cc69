"""Starlette's test client, as far as its tests of WebSockets need it, on real connections to uvicorn.

uvicorn has our protocol. This runs beside Starlette's tests, where ours cannot be imported.
"""

import contextlib
import http.client
import json
import queue
import socket
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
import uvicorn
from starlette.testclient import WebSocketDenialResponse
from starlette.websockets import WebSocketDisconnect

from kirsch.websocket import ClientOptions, Closed, HandshakeError
from kirsch.websocket.threaded import connect

PATIENCE = 20


class Guarded:
    """An application, what it raised, and the code it closed a connection with that it had not accepted."""

    def __init__(self, app):
        self.app = app
        self.raised = queue.SimpleQueue()
        self.code = None

    async def __call__(self, scope, receive, send):
        async def sent(event):
            if event["type"] == "websocket.close":
                self.code = event.get("code", 1000)
            await send(event)

        try:
            await self.app(scope, receive, sent)
        except WebSocketDisconnect:
            # The client that leaves while the application waits.
            raise
        except BaseException as error:
            self.raised.put(error)
            raise


@contextlib.contextmanager
def serving(guarded: Guarded) -> Iterator[str]:
    """Serve an application in a thread; yield HOST:PORT. What the application raises is raised at the end."""

    config = uvicorn.Config(
        guarded,
        ws="kirsch.websocket.uvicorn:Protocol",
        lifespan="off",
        log_config=None,
        timeout_graceful_shutdown=PATIENCE,
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as sock:
        thread = threading.Thread(target=server.run, args=([sock],))
        thread.start()
        try:
            yield f"127.0.0.1:{sock.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(PATIENCE)
            assert not thread.is_alive()
            if not guarded.raised.empty():
                raise guarded.raised.get()


def denial(address: str, target: str) -> WebSocketDenialResponse:
    """Ask once more, for a refusal has a body too."""
    host, port = address.split(":")
    fields = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
    connection = http.client.HTTPConnection(host, int(port), timeout=PATIENCE)
    with contextlib.closing(connection):
        connection.request("GET", target, headers=fields | {"Sec-WebSocket-Key": "A" * 22 + "=="})
        answer = connection.getresponse()
        return WebSocketDenialResponse(
            status_code=answer.status,
            headers=[(name, value) for name, value in answer.getheaders() if name != "transfer-encoding"],
            content=answer.read(),
        )


class Session:
    """The part the tests take of Starlette's WebSocketTestSession."""

    def __init__(self, ws):
        self._ws = ws
        self.accepted_subprotocol = ws.subprotocol
        known = {"upgrade", "connection", "sec-websocket-accept", "sec-websocket-protocol", "date", "server"}
        known.add("sec-websocket-extensions")
        self.extra_headers = [
            (name.encode(), value.encode())
            for name, value in ws.response.headers.items()
            if name.lower() not in known
        ]

    def _received(self):
        try:
            return self._ws.recv(PATIENCE)
        except Closed as closed:
            raise WebSocketDisconnect(closed.code, closed.reason) from None

    def receive(self):
        message = self._received()
        return {"type": "websocket.send", "text" if isinstance(message, str) else "bytes": message}

    def receive_text(self):
        message = self._received()
        assert isinstance(message, str)
        return message

    def receive_bytes(self):
        message = self._received()
        assert isinstance(message, bytes)
        return message

    def receive_json(self, mode="text"):
        return json.loads(self.receive_text() if mode == "text" else self.receive_bytes())

    def send_text(self, data):
        self._ws.send(data)

    send_bytes = send_text

    def send_json(self, data, mode="text"):
        text = json.dumps(data, separators=(",", ":"), ensure_ascii=False)
        self._ws.send(text if mode == "text" else text.encode())

    def close(self, code=1000, reason=""):
        self._ws.close(code, reason or "")
        assert self._ws.wait_closed(PATIENCE)


class Client:
    """The part the tests take of Starlette's TestClient."""

    def __init__(self, app, **options):
        self.app = app

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    @contextlib.contextmanager
    def websocket_connect(self, url, subprotocols=(), headers=None):
        parts = urlsplit(url)
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        options = ClientOptions(proxy=None, subprotocols=tuple(subprotocols), headers=dict(headers or {}))
        guarded = Guarded(self.app)
        with serving(guarded) as address:
            try:
                ws = connect(f"ws://{address}{target}", options=options)
            except HandshakeError:
                if guarded.code is not None:
                    # No close frame goes with it, so only the application knows its code.
                    raise WebSocketDisconnect(guarded.code) from None
                raise denial(address, target) from None
            with ws:
                yield Session(ws)


@pytest.fixture
def test_client_factory():
    return Client
