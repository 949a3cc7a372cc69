"""WebSockets of ASGI applications on uvicorn: `uvicorn --ws kirsch.websocket.uvicorn:Protocol app:app`.

uvicorn reads a request, and hands the connection over if it asks for a WebSocket. The application accepts or
refuses it; once accepted, the connection is on a wire of asyncio like any other. Beside an ASGI application
WebSockets has paths of its own, with callbacks and functions.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from functools import partial
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote, unquote

from kirsch.websocket.asyncio import Application, factory
from kirsch.websocket.core.application import WebSocket
from kirsch.websocket.core.deflate import Deflate
from kirsch.websocket.core.errors import Closed, HandshakeError, ProtocolError, Slow
from kirsch.websocket.core.frame import ABNORMAL, GOING_AWAY, INTERNAL, NORMAL
from kirsch.websocket.core.handshake import Policy, accept, content, phrase, refusal
from kirsch.websocket.core.headers import HeadReader, Request
from kirsch.websocket.core.limits import Limits
from kirsch.websocket.core.message import Message
from kirsch.websocket.core.protocol import OPEN
from kirsch.websocket.core.site import Site
from kirsch.websocket.listening import peer_name
from kirsch.websocket.loops.connection import Connection
from kirsch.websocket.loops.transport_wire import TransportWire, end_writing
from kirsch.websocket.loops.wire import Connections

__all__ = ["Disconnected", "Protocol", "WebSockets"]

# Close code of a server that restarts (IANA's registry).
RESTART: Final = 1012
# Bytes that are kept of a client that sends before it was accepted.
EARLY: Final = 64 << 10

# Name of our extension of ASGI, by which WebSockets takes a connection.
EXTENSION: Final = "kirsch.websocket"

Event = dict[str, Any]
Fields = list[tuple[bytes, bytes]]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
ASGIApplication = Callable[[Event, Receive, Send], Awaitable[object]]

log = logging.getLogger("uvicorn.error")


class Disconnected(OSError):
    """Nothing can be sent: the client is gone, or the connection is closing (ASGI's `send` raises it)."""


class Client(Connection):
    """Connection of an ASGI application, which takes its messages by `receive`."""

    def __init__(self, protocol: "Protocol", **arguments: Any) -> None:
        super().__init__(**arguments)
        self._protocol = protocol

    async def message(self) -> Message:
        """Return the next message. Raises Closed."""
        inbox = self._inbox
        while not inbox:
            await self.more()
        message: Message = inbox.popleft()
        return message

    def unanswered(self) -> None:
        self.fail(ProtocolError(INTERNAL, "keepalive ping timeout"))

    def fail(self, error: ProtocolError) -> None:
        super().fail(error)
        # Not at once: the application must not run in the middle of what was read.
        self.wire.loop.call_soon(self._tell, error.code, error.reason)

    def closed(self, code: int, reason: str) -> None:
        self._tell(code, reason)
        self._protocol.ended()

    def _tell(self, code: int, reason: str) -> None:
        """Tell the application of the end, once; after an error the client may take long to end its side."""
        if self._closed is None:
            super().closed(code, reason)


class WebSockets:
    """ASGI application with WebSockets at paths of its own, which passes all else to another application.

    Args:
        websockets: a class that extends WebSocket, or `async def handler(ws: Connection)`, for every path; or
            a mapping of paths to these.
        application: answers all other requests; without it they get 404 and 426.
        policy: the accepted origins, subprotocols and compression.
        limits: the limits of each connection; uvicorn's options are for the application's.
        stream: True to give functions each message as a Stream, in chunks.
    """

    def __init__(
        self,
        websockets: Application | Mapping[str, Application],
        application: ASGIApplication | None = None,
        *,
        policy: Policy | None = None,
        limits: Limits | None = None,
        stream: bool = False,
    ) -> None:
        self.site = Site(websockets, policy or Policy(), limits or Limits(), partial(factory, stream=stream))
        self.application = application
        self._connections = Connections()

    async def __call__(self, scope: Event, receive: Receive, send: Send) -> None:
        """Answer a request (ASGI 3)."""
        if scope["type"] == "lifespan":
            if self.application is not None:
                await self.application(scope, receive, send)
            return
        path = _path(scope)
        route = self.site.route(path)
        if self.application is not None and (scope["type"] != "websocket" or route is None):
            await self.application(scope, receive, send)
        elif scope["type"] == "websocket":
            taken = scope.get("extensions", {}).get(EXTENSION)
            if taken is None:
                raise RuntimeError("run it by uvicorn --ws kirsch.websocket.uvicorn:Protocol")
            taken["take"](self.site, path, self._connections)
        else:
            await _refuse(HandshakeError(404 if route is None else 426, "there are WebSockets only"), send)

    @property
    def connections(self) -> list[WebSocket]:
        """List of the open connections; those of the application are not among them."""
        return self._connections.open

    async def close(self, code: int = GOING_AWAY, reason: str = "", timeout: float | None = None) -> None:
        """Close every connection; abort those that do not answer within `timeout` or `close_timeout`."""
        timeout = self.site.limits.close_timeout if timeout is None else timeout
        await self._connections.close(code, reason, timeout)


class Taken(TransportWire):
    """Wire of a connection of WebSockets, whose end uvicorn is told of too."""

    def __init__(self, websocket: WebSocket, connections: Connections, protocol: "Protocol") -> None:
        super().__init__(websocket, connections)
        self._protocol = protocol

    def run(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return self._protocol.track(super().run(work))

    def lost(self) -> None:
        super().lost()
        self._protocol.ended()


class Protocol(asyncio.Protocol):
    """Connection that uvicorn hands over: its request, the application, and the WebSocket once accepted.

    uvicorn's options hold: `--ws-max-size`, `--ws-ping-interval`, `--ws-ping-timeout`,
    `--ws-per-message-deflate`. Every other limit is the default of Limits.
    """

    def __init__(
        self,
        config: Any,
        server_state: Any,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        if not config.loaded:
            config.load()
        self._config = config
        self._state = server_state
        self._app_state = app_state
        self._limits = Limits(
            message=config.ws_max_size,
            ping_interval=config.ws_ping_interval or None,
            ping_timeout=config.ws_ping_timeout or None,
        )
        self._deflate = Deflate() if config.ws_per_message_deflate else None
        self._loop = _loop or asyncio.get_running_loop()
        self._transport: Any = None
        self._head = HeadReader(self._limits, client=False)
        self._request: Request | None = None
        # Bytes that came before the connection was accepted.
        self._early = b""
        self._connect_received = False
        # Set once the application has accepted or refused the connection, or it is gone.
        self._decided = asyncio.Event()
        self._client: Client | None = None
        # A connection that WebSockets took from the application.
        self._taken: WebSocket | None = None
        # Status and fields of a refusal whose head was not written yet.
        self._refusal: tuple[int, Fields] | None = None
        # True while a refusal's body is still to come; True once nothing can be sent any more.
        self._refusing = self._over = False
        # True once this side began to close the connection.
        self._closing = False
        self._timer: asyncio.TimerHandle | None = None

    # Called by uvicorn and the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._state.connections.add(self)

    def data_received(self, data: bytes) -> None:
        if self._over:
            return
        if self._request is not None:
            self._early += data
            if len(self._early) > EARLY:
                self._transport.pause_reading()
            return
        try:
            request = self._head.feed(data)
            if request is None:
                return
            assert isinstance(request, Request)
            accept(request, self._policy())
        except HandshakeError as error:
            log.log(error.level, "%s: %s", self._peer, error)
            self._transport.write(refusal(error))
            self._finish()
            return
        self._request, self._early = request, self._head.rest
        self.track(self._loop.create_task(self._run(request)))

    def track(self, task: asyncio.Task[None]) -> asyncio.Task[None]:
        """Have uvicorn wait for a task when it stops."""
        self._state.tasks.add(task)
        task.add_done_callback(self._state.tasks.discard)
        return task

    def connection_lost(self, error: Exception | None) -> None:
        """See the end of a connection that was not accepted; the others' wire sees theirs."""
        self.ended()

    def shutdown(self) -> None:
        """End the connection, since uvicorn stops."""
        if self._client is not None:
            self._close(self._client, RESTART, "")
        elif self._taken is not None:
            self._taken.close(RESTART)
        elif self._request is None or self._decided.is_set() or (self._refusing and self._refusal is None):
            # A refusal whose head is out is cut short: a second response would be read as its body.
            self._transport.close()
        else:
            self._respond(HTTPStatus.SERVICE_UNAVAILABLE)

    # The application's side (ASGI).

    async def receive(self) -> Event:
        """Return the application's next event."""
        if not self._connect_received:
            self._connect_received = True
            return {"type": "websocket.connect"}
        await self._decided.wait()
        client = self._client
        if client is None:
            return {"type": "websocket.disconnect", "code": ABNORMAL}
        try:
            message = await client.message()
        except Closed as closed:
            event: Event = {"type": "websocket.disconnect", "code": closed.code}
            if closed.reason or not (self._closing or closed.code == ABNORMAL):
                event["reason"] = closed.reason
            return event
        if isinstance(message, str):
            return {"type": "websocket.receive", "text": message}
        return {"type": "websocket.receive", "bytes": bytes(message)}

    async def send(self, event: Event) -> None:
        """Do what the application says.

        Raises Disconnected where nothing can be sent any more, RuntimeError for an event out of its turn, and
        ValueError for what a handshake or a close frame cannot carry.
        """
        kind = event["type"]
        client = self._client
        if client is not None:
            if kind == "websocket.send":
                await self._send(client, event)
            elif kind == "websocket.close":
                self._close(client, event.get("code") or NORMAL, event.get("reason") or "")
            else:
                raise _unexpected(kind, "websocket.send", "websocket.close")
        elif self._refusing:
            if kind != "websocket.http.response.body":
                raise _unexpected(kind, "websocket.http.response.body")
            self._send_body(event.get("body", b""), event.get("more_body", False))
        elif self._over:
            raise Disconnected("the connection is closed")
        elif kind == "websocket.accept":
            self._accept(event)
        elif kind == "websocket.close":
            self._respond(HTTPStatus.FORBIDDEN, b"")
        elif kind == "websocket.http.response.start":
            self._refusal = _checked(event["status"], list(event.get("headers", ())))
            self._refusing = True
            self._log(event["status"])
        else:
            raise _unexpected(kind, "websocket.accept", "websocket.close", "websocket.http.response.start")

    async def _run(self, request: Request) -> None:
        try:
            result = await self._config.loaded_app(self._scope(request), self.receive, self.send)
        except Disconnected:
            self._leave(NORMAL)
        except Exception:
            log.exception("%s: the ASGI application failed", self._peer)
            self._leave(INTERNAL, "the application failed")
        except BaseException:
            self._leave(RESTART)
            raise
        else:
            if result is not None:
                log.error("%s: an ASGI application returns None, not %.40r", self._peer, result)
            if not (self._decided.is_set() or self._refusing):
                log.error("%s: the ASGI application returned before it accepted or closed", self._peer)
            self._leave(NORMAL)

    def _take(self, site: Site, path: str, connections: Connections) -> None:
        """Answer the request in the application's place, and serve the WebSocket."""
        request = self._request
        assert request is not None
        if self._over or self._refusing or self._decided.is_set():
            return
        try:
            websocket, response = site.open(request, self._peer, path)
        except HandshakeError as error:
            log.log(error.level, "%s: %s", self._peer, error)
            self._transport.write(refusal(error))
            self._finish()
            return
        self._taken = websocket
        self._log("accepted")
        self._begin(Taken(websocket, connections, self), response)

    def _begin(self, wire: TransportWire, response: bytes) -> None:
        self._decided.set()
        self._transport.write(response)
        self._transport.set_protocol(wire)
        self._transport.resume_reading()
        wire.attach(self._transport, self._early)

    def _scope(self, request: Request) -> Event:
        root: str = self._config.root_path
        peer, local = (self._transport.get_extra_info(name) for name in ("peername", "sockname"))
        # A Unix socket has a path, and its clients have no name.
        unix = (local, None) if local else None
        return {
            "type": "websocket",
            "asgi": {"version": self._config.asgi_version, "spec_version": "2.4"},
            "http_version": "1.1",
            "scheme": "wss" if self._transport.get_extra_info("sslcontext") else "ws",
            "server": tuple(local[:2]) if isinstance(local, tuple | list) else unix,
            "client": tuple(peer[:2]) if isinstance(peer, tuple | list) else None,
            "root_path": root,
            "path": root + unquote(request.path),
            "raw_path": (root + request.path).encode("latin-1"),
            "query_string": request.query.encode("latin-1"),
            "headers": [
                (name.lower().encode("latin-1"), value.encode("latin-1"))
                for name, value in request.headers.items()
            ],
            "subprotocols": request.headers.tokens("Sec-WebSocket-Protocol"),
            "state": self._app_state.copy(),
            "extensions": {"websocket.http.response": {}, EXTENSION: {"take": self._take}},
        }

    # The WebSocket.

    def _policy(self, fields: Fields | None = None) -> Policy:
        """Return what is accepted: pages of any origin, since that is the application's to decide here."""
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in fields or ()]
        return Policy(origins="*", deflate=self._deflate, headers=tuple(headers))

    def _accept(self, event: Event) -> None:
        request = self._request
        assert request is not None
        fields = [*self._state.default_headers, *event.get("headers", ())]
        accepted = accept(request, self._policy(fields), event.get("subprotocol"))
        codec = accepted.deflate and accepted.deflate.codec(client=False, limits=self._limits)
        client = self._client = Client(self, limits=self._limits, codec=codec)
        client.request, client.subprotocol, client.peer = request, accepted.subprotocol, self._peer
        self._log("accepted")
        self._begin(TransportWire(client), accepted.response)

    async def _send(self, client: Client, event: Event) -> None:
        data = event.get("bytes")
        if data is None:
            data = event["text"]
        try:
            while True:
                try:
                    client.send(data)
                    return
                except Slow:
                    await client.drain()
                    # The other connections get a turn, however fast this one is read.
                    await asyncio.sleep(0)
        except Closed as closed:
            raise Disconnected(str(closed)) from None

    def _close(self, client: Client, code: int, reason: str) -> None:
        if client.state == OPEN:
            client.close(code, reason)
            self._closing = True

    def _leave(self, code: int, reason: str = "") -> None:
        """End what the application has not ended itself."""
        if self._client is not None:
            self._close(self._client, code, reason)
            # Nobody takes them.
            self._client.dismiss()
        elif self._taken is not None:
            return
        elif self._refusing:
            # The response is cut short, which a client sees by its length.
            self._send_head(())
            self._finish()
        elif not self._over:
            self._respond(HTTPStatus.INTERNAL_SERVER_ERROR)

    def ended(self) -> None:
        """Note that the connection is gone."""
        self._over, self._refusing = True, False
        self._decided.set()
        self._state.connections.discard(self)
        if self._timer is not None:
            self._timer.cancel()

    # Refusals.

    def _respond(self, status: HTTPStatus, body: bytes | None = None) -> None:
        """Refuse the connection with a response of our own; its body is the status's phrase."""
        self._refusal = status, [(b"content-type", b"text/plain; charset=utf-8")]
        self._log(status)
        self._send_body(status.phrase.encode() if body is None else body, False)

    def _send_body(self, body: bytes, more: bool) -> None:
        self._send_head(() if more else ((b"content-length", b"%d" % len(body)),))
        self._transport.write(body)
        if not more:
            self._finish()

    def _send_head(self, fields: tuple[tuple[bytes, bytes], ...]) -> None:
        """Write a refusal's head, if that was not done; `fields` are those that it gets where it has none."""
        if self._refusal is None:
            return
        status, own = self._refusal
        self._refusal = None
        names = {name.lower() for name, _ in own}
        if b"transfer-encoding" in names:
            fields = ()
        every = [
            *self._state.default_headers,
            *((name, value) for name, value in own if name.lower() != b"connection"),
            *((name, value) for name, value in fields if name not in names),
            (b"connection", b"close"),
        ]
        lines = [
            b"HTTP/1.1 %d %s" % (status, phrase(status).encode()),
            *(b"%s: %s" % field for field in every),
        ]
        self._transport.write(b"\r\n".join([*lines, b"", b""]))

    def _finish(self) -> None:
        """End our side after the last byte; the client may still be sending, and has close_timeout to end."""
        self._over, self._refusing = True, False
        self._decided.set()
        if not self._transport.is_closing():
            self._timer = self._loop.call_later(self._limits.close_timeout, self._transport.abort)
            end_writing(self._transport)

    @property
    def _peer(self) -> str:
        return peer_name(self._transport.get_extra_info("peername"))

    def _log(self, what: object) -> None:
        target = self._request.target if self._request is not None else ""
        log.info('%s - "WebSocket %s" %s', self._peer, target, what)


def _checked(status: int, fields: Fields) -> tuple[int, Fields]:
    """Return status and fields of a refusal. Raises RuntimeError for what no response can have."""
    if not 200 <= status < 600:
        raise RuntimeError(f"{status} is no status of a response")
    for name, value in fields:
        if any(byte in name + value for byte in b"\r\n\0"):
            raise RuntimeError(f"{name!r} has a line break in its value")
    return status, fields


def _path(scope: Event) -> str:
    """Return the path as it stands in the request, below the application's root."""
    raw = scope.get("raw_path")
    path: str = quote(scope["path"]) if raw is None else raw.decode("latin-1")
    root: str = scope.get("root_path", "")
    rest = path.removeprefix(root)
    return rest if rest in ("", path) or rest.startswith("/") else path


async def _refuse(error: HandshakeError, send: Send) -> None:
    fields, body = content(error)
    headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in fields]
    headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _unexpected(kind: str, *expected: str) -> RuntimeError:
    return RuntimeError(f"the ASGI application sent {kind!r}; its turn is {' or '.join(expected)}")
