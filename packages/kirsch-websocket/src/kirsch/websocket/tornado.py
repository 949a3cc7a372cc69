"""WebSockets on Tornado: `handler` for your own application, `serve` for a server of its own, `connect`.

Tornado reads the request and writes the response, so cookies, `prepare` and the access log work as in any
handler. Then the socket leaves Tornado's stream, and asyncio's loop, on which Tornado runs, serves the
connection as `kirsch.websocket.asyncio` does.
"""

import asyncio
import functools
from collections.abc import Mapping
from socket import gaierror
from typing import Any, ClassVar

try:
    import tornado  # noqa: F401 - for a clear error where it is missing
except ModuleNotFoundError:
    from kirsch.install import pip_install

    raise ImportError(f"Tornado is not installed: {pip_install('kirsch-websocket[tornado]')}") from None

from tornado.httpserver import HTTPServer
from tornado.iostream import IOStream, StreamClosedError
from tornado.netutil import bind_sockets
from tornado.web import Application as TornadoApplication
from tornado.web import RequestHandler

from kirsch.websocket import asyncio as loops
from kirsch.websocket.asyncio import Application, Connection, Stream, connect, factory, reconnect
from kirsch.websocket.core.application import WebSocket
from kirsch.websocket.core.errors import HandshakeError
from kirsch.websocket.core.frame import GOING_AWAY
from kirsch.websocket.core.handshake import Policy, content, phrase
from kirsch.websocket.core.headers import Headers, Request
from kirsch.websocket.core.limits import Limits
from kirsch.websocket.core.message import check_close
from kirsch.websocket.core.site import Site
from kirsch.websocket.listening import no_such_host, peer_name, unix_socket
from kirsch.websocket.loops.server_handshake import Listener, log
from kirsch.websocket.loops.socket_wire import wire_on
from kirsch.websocket.loops.wire import Connections

__all__ = ["Connection", "Handler", "Server", "Stream", "connect", "handler", "reconnect", "serve"]

# More than Tornado reads at a time, so that all bytes that came with the request's head are returned.
AHEAD = 1 << 20


class Handler(RequestHandler):
    """Base of the classes that `handler()` makes; extend such a class for `prepare`, cookies and the like.

    Attributes:
        site: the applications.
        connections: the open connections.
    """

    site: ClassVar[Site]
    connections: ClassVar[Connections]

    @classmethod
    async def close_connections(
        cls,
        code: int = GOING_AWAY,
        reason: str = "",
        timeout: float | None = None,
    ) -> None:
        """Close every connection; abort those that do not answer within `timeout` or `close_timeout`."""
        timeout = cls.site.limits.close_timeout if timeout is None else timeout
        await cls.connections.close(code, reason, timeout)

    async def get(self, *args: str, **kwargs: str) -> None:
        """Answer the handshake, and take the socket over."""
        try:
            websocket, response = self._open()
        except HandshakeError as error:
            log.log(error.level, "%s: %s", self._peer(), error)
            self._refuse(error)
            return
        self.set_status(101)
        for line in response[:-4].decode("latin-1").split("\r\n")[1:]:
            name, _, value = line.partition(": ")
            self.add_header(name, value)
        written = self.finish()
        stream = self.detach()
        try:
            await written
            rest = _ahead(stream)
        except StreamClosedError:
            log.info("%s: gone before the handshake was answered", websocket.peer)
            return
        sock: Any = stream.socket
        stream.io_loop.remove_handler(sock)
        wire_on(websocket, sock, self.connections).begin(rest)

    # Other methods are refused with a reason, which is logged.
    head = post = put = patch = delete = options = get

    def _open(self) -> tuple[WebSocket, bytes]:
        asked = self.request
        if asked.version == "HTTP/1.0":
            raise HandshakeError(505, "HTTP/1.0: a WebSocket needs HTTP/1.1")
        fields = list(asked.headers.get_all())
        size = sum(len(name) + len(value) + 4 for name, value in fields) + len(asked.uri or "")
        if size > self.site.limits.handshake:
            raise HandshakeError(431, f"a head of more than {self.site.limits.handshake} bytes")
        request = Request(asked.method or "", asked.uri or "", Headers(fields))
        return self.site.open(request, self._peer())

    def _refuse(self, error: HandshakeError) -> None:
        self.clear()
        self.clear_header("Content-Type")
        self.set_status(error.status, phrase(error.status))
        fields, body = content(error)
        for name, value in fields:
            self.add_header(name, value)
        self.finish(body)

    def _peer(self) -> str:
        """Return the peer as the application sees it: with `xheaders`, the client behind a proxy."""
        context: Any = getattr(self.request.connection, "context", None)
        address = getattr(context, "address", None) or "unix"
        host = self.request.remote_ip
        return peer_name(address) if isinstance(address, str) or host == address[0] else str(host)


def handler(
    application: Application | Mapping[str, Application],
    *,
    policy: Policy | None = None,
    limits: Limits | None = None,
    stream: bool = False,
) -> type[Handler]:
    """Return a class for the rules of a `tornado.web.Application`: `[("/", Page), ("/chat", handler(Chat))]`.

    Args:
        application: a class that extends WebSocket, or `async def chat(ws: Connection)`; or a mapping of
            paths to these.
        policy: the accepted origins, subprotocols and compression.
        limits: the limits of each connection.
        stream: True to give functions each message as a Stream, in chunks.
    """
    wrap = functools.partial(factory, stream=stream)
    return _handler(Site(application, policy or Policy(), limits or Limits(), wrap))


class Server(loops.Server):
    """Tornado HTTP server with nothing but WebSockets: `async with serve(...) as server`."""

    def __init__(self, site: Site, listener: "_Listener", secure: bool) -> None:
        super().__init__(site, listener, secure)
        self._http = listener.http

    async def close(self, code: int = GOING_AWAY, reason: str = "", timeout: float | None = None) -> None:
        check_close(code, reason)
        self._http.stop()
        await self._http.close_all_connections()
        await super().close(code, reason, timeout)


class serve(loops.serve):  # noqa: N801 - the base class reads as a function too
    """Listen on the running IOLoop: `server = await serve(...)`, or `async with serve(...) as server`.

    The arguments are those of `kirsch.websocket.asyncio.serve`. To serve pages too, put `handler` into a
    Tornado application.
    """

    async def _listen(self) -> Server:
        site, limits = self._site, self._site.limits
        made = _handler(site)
        http = HTTPServer(
            TornadoApplication([(".*", made)], log_function=_unlogged),
            ssl_options=self._context,
            # Tornado drops without an answer what exceeds this; the handler refuses less.
            max_header_size=4 * limits.handshake,
            idle_connection_timeout=limits.handshake_timeout,
            # A handshake has no body, and Tornado would take 100 MiB before it calls the handler.
            max_body_size=limits.handshake,
            body_timeout=limits.handshake_timeout,
        )
        if self._socket is None and self._unix is None:
            host, port = self._place
            try:
                sockets = bind_sockets(port, host, backlog=self._backlog)
            except gaierror as error:
                raise no_such_host(host, error) from None
        else:
            sock = self._socket or unix_socket(str(self._unix))
            sock.setblocking(False)
            sock.listen(self._backlog)
            sockets = [sock]
        http.add_sockets(sockets)
        self._server = Server(site, _Listener(made, http, sockets), self._context is not None)
        return self._server


class _Listener(Listener):
    """Listener whose sockets are Tornado's."""

    def __init__(self, handler: type[Handler], http: HTTPServer, sockets: list[Any]) -> None:
        super().__init__(handler.site, None)
        self.connections, self.sockets, self.http = handler.connections, sockets, http

    def close(self) -> None:
        self.http.stop()


def _handler(site: Site) -> type[Handler]:
    return type("WebSocketHandler", (Handler,), {"site": site, "connections": Connections()})


def _ahead(stream: IOStream) -> bytes:
    """Return the bytes that came right behind the request. Raises StreamClosedError if the client is gone."""
    read = asyncio.ensure_future(stream.read_bytes(AHEAD, partial=True))
    return read.result() if read.done() else b""


def _unlogged(handler: RequestHandler) -> None:
    """Log nothing: the provider's own log has the failures."""
