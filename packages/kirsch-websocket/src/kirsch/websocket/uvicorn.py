"""WebSockets of ASGI applications on uvicorn: `uvicorn --ws kirsch.websocket.uvicorn:Protocol app:app`.

uvicorn reads a request, and hands the connection over if it asks for a WebSocket. The application accepts or
refuses it; once accepted, the connection is on a wire of asyncio like any other.
"""

import asyncio
import logging
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import unquote

from kirsch.websocket.core.deflate import Deflate
from kirsch.websocket.core.errors import Closed, HandshakeError, ProtocolError, Slow
from kirsch.websocket.core.frame import ABNORMAL, INTERNAL, NORMAL
from kirsch.websocket.core.handshake import Policy, accept, phrase, refusal
from kirsch.websocket.core.headers import HeadReader, Request
from kirsch.websocket.core.limits import Limits
from kirsch.websocket.core.message import Message
from kirsch.websocket.core.protocol import OPEN
from kirsch.websocket.listening import peer_name
from kirsch.websocket.loops.connection import Connection
from kirsch.websocket.loops.transport_wire import TransportWire, end_writing

__all__ = ["Disconnected", "Protocol"]

# Close code of a server that restarts (IANA's registry).
RESTART: Final = 1012
# Bytes that are kept of a client that sends before it was accepted.
EARLY: Final = 64 << 10

Event = dict[str, Any]
Fields = list[tuple[bytes, bytes]]

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
        task = self._loop.create_task(self._run(request))
        self._state.tasks.add(task)
        task.add_done_callback(self._state.tasks.discard)

    def connection_lost(self, error: Exception | None) -> None:
        """See the end of a connection that was not accepted; the others' wire sees theirs."""
        self.ended()

    def shutdown(self) -> None:
        """End the connection, since uvicorn stops."""
        if self._client is not None:
            self._close(self._client, RESTART, "")
        elif not self._decided.is_set() and self._request is not None:
            self._respond(HTTPStatus.SERVICE_UNAVAILABLE)
        else:
            self._transport.close()

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
            "extensions": {"websocket.http.response": {}},
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
        self._decided.set()
        self._log("accepted")
        self._transport.write(accepted.response)
        wire = TransportWire(client)
        self._transport.set_protocol(wire)
        self._transport.resume_reading()
        wire.attach(self._transport, self._early)

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


def _unexpected(kind: str, *expected: str) -> RuntimeError:
    return RuntimeError(f"the ASGI application sent {kind!r}; its turn is {' or '.join(expected)}")
