"""WebSockets on gevent: `serve`, `handler_class` for your own pywsgi server, `connect`.

No monkey-patching is needed. Each connection has a greenlet that reads and calls the application; a callback
may block as gevent does. A function that iterates over a connection has one more greenlet.
"""

import contextlib
import functools
import io
import logging
import socket
import ssl as tls
import time
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

try:
    import gevent
except ModuleNotFoundError:
    from kirsch.install import pip_install

    raise ImportError(f"gevent is not installed: {pip_install('kirsch-websocket[gevent]')}") from None

import gevent.socket
from gevent.pool import Pool
from gevent.pywsgi import WSGIHandler, WSGIServer
from gevent.server import StreamServer

from kirsch.websocket.core import arguments
from kirsch.websocket.core.application import WebSocket
from kirsch.websocket.core.errors import HandshakeError
from kirsch.websocket.core.frame import GOING_AWAY
from kirsch.websocket.core.handshake import Policy, refusal
from kirsch.websocket.core.headers import Headers, HeadReader, Request
from kirsch.websocket.core.limits import Limits
from kirsch.websocket.core.message import check_close
from kirsch.websocket.core.site import Site, refuse_coroutines
from kirsch.websocket.greenlets.client import Context, connect, reconnect
from kirsch.websocket.greenlets.connection import Connection, Handled, Stream
from kirsch.websocket.greenlets.wire import Wire
from kirsch.websocket.listening import BACKLOG, Listening, Place, listener, peer_name, unix_socket

__all__ = ["Connection", "Handler", "Server", "Stream", "connect", "handler_class", "reconnect", "serve"]

log = logging.getLogger("kirsch.websocket")

Application = type[WebSocket] | Callable[[Connection], object]
# Bytes of a request's head read at a time.
HEAD = 16 << 10


def factory(application: Application, stream: bool = False) -> Callable[..., WebSocket]:
    """Return a Factory for an application: the class itself, or one that runs the function.

    `stream` gives the function each message as a Stream.
    """
    if isinstance(application, type) and issubclass(application, WebSocket):
        return application
    refuse_coroutines(application)
    made = functools.partial(Handled, application)
    made.streaming = stream  # type: ignore[attr-defined]
    return made


class Handler(WSGIHandler):
    """Base of the classes that `handler_class()` makes.

    Attributes:
        site: the applications.
        wires: the open connections.
    """

    site: ClassVar[Site]
    wires: ClassVar[set[Wire]]
    rfile: Any
    requestline: str | None
    # Time limit for a request's head.
    _head: gevent.Timeout

    @classmethod
    def close_connections(
        cls, code: int = GOING_AWAY, reason: str = "", timeout: float | None = None
    ) -> None:
        """Close every connection; abort those that do not answer within `timeout` or `close_timeout`."""
        _close(cls.wires, code, reason, cls.site.limits.close_timeout if timeout is None else timeout)

    def handle_one_request(self) -> Any:
        """Handle one request; its head has to come within the handshake's time limit."""
        limit = self.site.limits.handshake_timeout
        again, self.requestline = self.requestline is not None, None
        self._head = gevent.Timeout.start_new(limit)
        try:
            return super().handle_one_request()
        except gevent.Timeout as timeout:
            if timeout is not self._head:
                raise
            # A kept-alive connection that stays silent is no failure: all its requests were answered.
            level = logging.DEBUG if again and self.requestline is None else logging.WARNING
            log.log(level, "%s: no request in %s s", peer_name(self.client_address), limit)
            return None
        finally:
            self._head.close()

    def handle_one_response(self) -> None:
        """Open a WebSocket, or pass the request to the WSGI application."""
        self._head.close()
        if not self._wanted():
            super().handle_one_response()
            return
        self.close_connection = True
        name = peer_name(self.client_address)
        try:
            websocket, response = self._open(name)
        except HandshakeError as error:
            log.log(error.level, "%s: %s", name, error)
            self._say(str(error.status), refusal(error))
            return
        try:
            rest = self._read_ahead()
            self._say("101", response)
        except OSError as error:
            log.info("%s: gone before the handshake was answered: %s", name, error)
            return
        Wire(self.socket, websocket, self.wires).run(rest)

    def _wanted(self) -> bool:
        if isinstance(self.site.application, Mapping):
            return self.site.route(self.path.partition("?")[0]) is not None
        return "websocket" in self.headers.get("Upgrade", "").lower()

    def _open(self, name: str) -> tuple[WebSocket, bytes]:
        if self.request_version != "HTTP/1.1":
            raise HandshakeError(505, f"{self.request_version}: a WebSocket needs HTTP/1.1")
        return self.site.open(Request(self.command, self.path, Headers(self.headers.items())), name)

    def _read_ahead(self) -> bytes:
        """Return the bytes that came right behind the request, which pywsgi has read."""
        timeout = self.socket.gettimeout()
        self.socket.settimeout(0.0)
        try:
            ahead: bytes = self.rfile.peek()
        except (tls.SSLWantReadError, BlockingIOError):
            ahead = b""
        self.socket.settimeout(timeout)
        # The socket is not closed while a file object refers to it.
        self.rfile.close()
        self.rfile = io.BytesIO()
        return ahead

    def _say(self, status: str, response: bytes) -> None:
        """Write the response, and a line in the access log."""
        self.status = status
        self.time_start = time.time()
        self.socket.sendall(response)
        self.response_length = len(response)
        self.time_finish = time.time()
        self.log_request()


def handler_class(
    application: Application | Mapping[str, Application],
    *,
    policy: Policy | None = None,
    limits: Limits | None = None,
    stream: bool = False,
) -> type[Handler]:
    """Return a class for a pywsgi server.

    `WSGIServer(address, wsgi, handler_class=handler_class({"/chat": Chat}))` uses it.

    Args:
        application: a mapping of paths to applications, each a class that extends WebSocket, or
            `def chat(ws: Connection)`; the WSGI application gets requests for other paths. Or one
            application, for every request for a WebSocket.
        policy: the accepted origins, subprotocols and compression.
        limits: the limits of each connection.
        stream: True to give functions each message as a Stream, in chunks.
    """
    site = _site(application, policy, limits, stream)
    return type("WebSocketHandler", (Handler,), {"site": site, "wires": set()})


class _Pages(WSGIServer):
    """Server of pywsgi that logs a failed TLS handshake in one line."""

    context: tls.SSLContext | None = None
    timeout: float | None = None

    def handle(self, sock: Any, address: Any) -> None:
        if self.context is not None:
            try:
                with gevent.Timeout(self.timeout, TimeoutError(f"no TLS in {self.timeout} s")):
                    sock = _start_tls(sock, self.context)
            except OSError as error:
                log.warning("%s: %s", peer_name(address), error)
                sock.close()
                return
        super().handle(sock, address)


class Server(Listening):
    """Server that serves as soon as it is made: `with serve(...) as server`.

    Attributes:
        site: the applications.
        address: (host, port), or the path of a Unix socket.
        url: the URL for clients.
    """

    def __init__(
        self, site: Site, listening: socket.socket, ssl: tls.SSLContext | None, wsgi: Any, log: Any
    ) -> None:
        self.site = site
        self._ssl = ssl
        self._place = Place(listening.getsockname(), ssl is not None)
        self._wires: set[Wire] = set()
        # A socket of gevent from here on.
        sock = gevent.socket.socket(listening.family, listening.type, fileno=listening.detach())
        if wsgi is None:
            self._server = StreamServer(sock, self._handle, spawn=Pool())
        else:
            made = type("WebSocketHandler", (Handler,), {"site": site, "wires": self._wires})
            self._server = _Pages(sock, wsgi, spawn=Pool(), handler_class=made, log=log)
            self._server.context, self._server.timeout = ssl, site.limits.handshake_timeout
            self._server.environ["wsgi.url_scheme"] = "http" if ssl is None else "https"
        self._server.start()
        super().__init__(self._place)

    @property
    def connections(self) -> list[WebSocket]:
        """List of the open connections."""
        return [wire.websocket for wire in self._wires]

    def close(self, code: int = GOING_AWAY, reason: str = "", timeout: float | None = None) -> None:
        check_close(code, reason)
        self._server.close()
        self._place.remove()
        _close(self._wires, code, reason, self.site.limits.close_timeout if timeout is None else timeout)
        # Ends handshakes, HTTP connections and callbacks that block.
        self._server.stop(timeout=0)

    def _wait(self) -> None:
        self._server.serve_forever()

    def _handle(self, sock: Any, address: Any) -> None:
        name = peer_name(address)
        limit = self.site.limits.handshake_timeout
        opened = None
        try:
            with gevent.Timeout(limit, TimeoutError(f"no handshake in {limit} s")):
                if self._ssl is not None:
                    sock = _start_tls(sock, self._ssl)
                opened = self._shake_hands(sock, name)
        except OSError as error:
            log.warning("%s: %s", name, error)
        if opened is None:
            sock.close()
        else:
            Wire(sock, opened[0], self._wires).run(opened[1])

    def _shake_hands(self, sock: Any, name: str) -> tuple[WebSocket, bytes] | None:
        """Return the connection and the bytes that came after the request, or None if it was refused."""
        reader = HeadReader(self.site.limits, client=False)
        try:
            request: Any = None
            while request is None:
                data = sock.recv(HEAD)
                if not data:
                    return None
                request = reader.feed(data)
            websocket, response = self.site.open(request, name)
        except HandshakeError as error:
            log.log(error.level, "%s: %s", name, error)
            with contextlib.suppress(OSError):
                sock.sendall(refusal(error))
                # If bytes came after the socket is closed, the system would drop the answer.
                sock.shutdown(gevent.socket.SHUT_WR)
                while sock.recv(HEAD):
                    pass
            return None
        sock.sendall(response)
        return websocket, reader.rest


def serve(
    application: Application | Mapping[str, Application],
    host: str | None = "127.0.0.1",
    port: int = 0,
    *,
    policy: Policy | None = None,
    limits: Limits | None = None,
    ssl: tls.SSLContext | None = None,
    unix: str | None = None,
    stream: bool = False,
    backlog: int = BACKLOG,
    wsgi: Callable[..., Any] | None = None,
    log: Any = None,
) -> Server:
    """Listen, and serve in greenlets from then on.

    Args:
        application: a class that extends WebSocket, or `def handler(ws: Connection)`; or a mapping of paths
            to these.
        host, port: None is every address of IPv4, port 0 takes a free one.
        policy: the accepted origins, subprotocols and compression.
        limits: the limits of each connection.
        ssl: the TLS context, for wss.
        unix: the path of a Unix socket (mode 0600), in place of host and port.
        stream: True to give functions each message as a Stream, in chunks.
        backlog: the number of connections that may wait to be accepted.
        wsgi: a WSGI application for all other requests, as with `handler_class`; pywsgi then reads the
            requests, with its own limits.
        log: the access log of pywsgi.

    Raises OSError if it cannot listen.
    """
    arguments.listening(host, port, ssl, unix, backlog)
    site = _site(application, policy, limits, stream)
    if unix is None:
        listening = listener(host, port, backlog)
    else:
        listening = unix_socket(unix)
        listening.listen(backlog)
    return Server(site, listening, ssl, wsgi, log)


def _start_tls(sock: Any, context: tls.SSLContext) -> Any:
    """Do the server's TLS handshake, and return the secure socket. Raises OSError."""
    return Context(context).wrap_socket(sock, server_side=True)


def _site(application: Any, policy: Policy | None, limits: Limits | None, stream: bool) -> Site:
    wrap = functools.partial(factory, stream=stream)
    return Site(application, policy or Policy(), limits or Limits(), wrap)


def _close(wires: set[Wire], code: int, reason: str, timeout: float) -> None:
    """Close connections; abort those that are left after `timeout` seconds, also if a callback blocks.

    Raises ValueError for what a close frame cannot carry.
    """
    check_close(code, reason)
    closing = list(wires)
    for wire in closing:
        wire.websocket.close(code, reason)
    gevent.wait([wire.gone for wire in closing], timeout)
    for wire in closing:
        wire.abort()
    gevent.wait([wire.gone for wire in closing], 0.1)
    gevent.killall([wire.greenlet for wire in closing if wire.greenlet is not None])
