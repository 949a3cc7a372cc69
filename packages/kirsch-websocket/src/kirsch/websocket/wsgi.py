"""WSGI middleware: WebSockets beside a WSGI application, on servers that hand over a connection.

    application = WebSockets({"/chat": Chat}, application)

kirsch's HTTP server does so by environ["kirsch.upgrade"], with TLS too. gunicorn (its sync and gthread
workers) and Werkzeug's server put the socket into the environ, and any other server may, as
environ["kirsch.socket"]. After the handshake the connection has left the server, whose thread is free. Other
servers answer 501. Except with kirsch's server the 101 response is written here: header fields that outer
middleware adds to responses are not in it.
"""

import atexit
import logging
import os
import socket
import ssl as tls
import threading
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Final

from kirsch.websocket.core import arguments
from kirsch.websocket.core.application import WebSocket
from kirsch.websocket.core.errors import HandshakeError
from kirsch.websocket.core.frame import GOING_AWAY
from kirsch.websocket.core.handshake import (
    Accepted,
    Policy,
    content,
    phrase,
    quote_path,
    request_from_environ,
)
from kirsch.websocket.core.limits import Limits
from kirsch.websocket.core.message import check_close
from kirsch.websocket.core.site import Site
from kirsch.websocket.listening import Listening, Place, http_server, peer_name, wait_for
from kirsch.websocket.threaded import Application, factory
from kirsch.websocket.threads.pool import Pool, turn_away

__all__ = ["Server", "WebSockets", "serve"]

log = logging.getLogger("kirsch.websocket")

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
WSGIApplication = Callable[[Environ, StartResponse], Iterable[bytes]]

_SOCKETS: Final = ("kirsch.socket", "gunicorn.socket", "werkzeug.socket")
_UNSUPPORTED: Final = (
    "this WSGI server does not hand over connections: use kirsch's, gunicorn or Werkzeug, or the provider "
    "cherrypy, gevent, tornado, asyncio or threaded of kirsch.websocket"
)


class WebSockets:
    """WSGI application that answers WebSocket handshakes, and passes all other requests to another.

    Args:
        websockets: a class that extends WebSocket, or `def handler(ws: Connection)`, for every path; or a
            mapping of paths (PATH_INFO) to these.
        application: answers all other requests, also plain ones for those paths; without it they get 404
            and 426.
        policy: the accepted origins, subprotocols and compression.
        limits: the limits of each connection.
        stream: True to give functions each message as a Stream, in chunks.
        threads: the number of threads for callbacks, in each process; each function that iterates has one
            more.
    """

    def __init__(
        self,
        websockets: Application | Mapping[str, Application],
        application: WSGIApplication | None = None,
        *,
        policy: Policy | None = None,
        limits: Limits | None = None,
        stream: bool = False,
        threads: int = 10,
    ) -> None:
        self.site = Site(websockets, policy or Policy(), limits or Limits(), partial(factory, stream=stream))
        self.application = application
        arguments.whole("threads", threads, 1)
        self.threads = threads
        self._lock = threading.Lock()
        self._pool: Pool | None = None
        self._process = 0

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request (PEP 3333)."""
        handshake = "websocket" in str(environ.get("HTTP_UPGRADE", "")).lower()
        path = quote_path(str(environ.get("PATH_INFO", "")))
        if self.application is not None and (not handshake or self.site.route(path) is None):
            return self.application(environ, start_response)
        name = _peer(environ)
        try:
            websocket, response = self.site.open(request_from_environ(environ), name, path)
            upgrade = environ.get("kirsch.upgrade")
            taken = Taken(environ) if upgrade is None else None
        except HandshakeError as error:
            log.log(error.level, "%s: %s", name, error)
            return _refuse(error, environ, start_response)
        if taken is None:
            assert upgrade is not None
            upgrade(partial(self._adopt, websocket))
            answer = Accepted(response, websocket.subprotocol, None).headers
            start_response("101 Switching Protocols", answer)
            return []
        try:
            self.pool.adopt(websocket, taken.socket, taken.received, response)
        except (OSError, RuntimeError) as error:
            log.info("%s: %s", name, error)
            taken.socket.close()
        start_response("101 Switching Protocols", [])
        return taken

    def _adopt(self, websocket: WebSocket, sock: socket.socket, received: bytes) -> None:
        """Serve a WebSocket on a connection that its server has handed over."""
        pool = self.pool
        try:
            pool.adopt(websocket, sock, received)
        except (OSError, RuntimeError) as error:
            log.info("%s: %s", websocket.peer, error)
            turn_away(sock, pool.close_frame)

    @property
    def pool(self) -> Pool:
        """Pool of this process, made at its first connection, since servers fork before that."""
        with self._lock:
            if self._pool is None or self._process != os.getpid():
                self._pool, self._process = Pool(self.threads), os.getpid()
                atexit.register(self._pool.close)
            return self._pool

    @property
    def connections(self) -> list[WebSocket]:
        """List of the open connections of this process."""
        pool = self._pool
        return [] if pool is None or self._process != os.getpid() else pool.connections

    def close(self, code: int = GOING_AWAY, reason: str = "", timeout: float | None = None) -> None:
        """Close every connection, as the end of the process does; the arguments are those of Server.close."""
        check_close(code, reason)
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None and self._process == os.getpid():
            atexit.unregister(pool.close)
            pool.close(code, reason, timeout)


class Taken(list[bytes]):
    """Connection taken from its server, which keeps a descriptor of an ended connection in its place.

    The server's writes to that go nowhere, and it reads nothing. This object is also the response's (empty)
    body, so that the server calls `close` when it has written everything.

    Attributes:
        socket: the connection.
        received: bytes that the server had received after the request.
    """

    def __init__(self, environ: Environ) -> None:
        """Raise HandshakeError 501 where the server does not hand the connection over."""
        super().__init__()
        given = next((environ[key] for key in _SOCKETS if environ.get(key) is not None), None)
        if given is None:
            raise HandshakeError(501, _UNSUPPORTED)
        if type(given).__module__.startswith(("gevent", "eventlet")):
            raise HandshakeError(501, "this server's sockets are gevent's: take kirsch.websocket.gevent")
        if isinstance(given, tls.SSLSocket) or not isinstance(given, socket.socket):
            raise HandshakeError(501, "this server speaks TLS itself: with WSGI let a proxy before it do so")
        self.socket = given.dup()
        ended, self._end = socket.socketpair()
        self._end.shutdown(socket.SHUT_WR)
        os.dup2(ended.fileno(), given.fileno(), inheritable=False)
        ended.close()
        self.received = _received(environ)

    def close(self) -> None:
        """Free the server's descriptor, once the server has written its response."""
        self._end.close()


class Server(Listening):
    """kirsch's HTTP server with WebSockets, and the WSGI application beside them.

    Attributes:
        address: (host, port), or the path of a Unix socket.
        url: the URL for clients.
    """

    def __init__(
        self,
        websockets: WebSockets,
        host: str | None = "127.0.0.1",
        port: int = 0,
        *,
        ssl: tls.SSLContext | None = None,
        unix: str | None = None,
    ) -> None:
        """Listen, and serve. Raises ServerError, in one line, if it cannot listen."""
        http, limits = http_server(websockets.site.limits, websockets.threads)
        if ssl is not None:
            ssl.set_alpn_protocols(["http/1.1"])
        address = unix if unix is not None else (host or "0.0.0.0", port)  # noqa: S104 - it was asked for
        self._websockets = websockets
        self._server = http.Server(address, websockets, limits, tls=ssl)
        self._server.serve()
        super().__init__(Place(self._server.address, ssl is not None))
        self._closed = threading.Event()

    @property
    def connections(self) -> list[WebSocket]:
        """List of the open connections."""
        return self._websockets.connections

    def close(self, code: int = GOING_AWAY, reason: str = "", timeout: float | None = None) -> None:
        check_close(code, reason)
        self._server.stop()
        self._websockets.close(code, reason, timeout)
        self._closed.set()

    def _wait(self) -> None:
        wait_for(self._closed)


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
    threads: int = 10,
) -> Server:
    """Listen, and serve behind kirsch's HTTP server: host, port, ssl and unix are those of Server.

    The other arguments are those of WebSockets. Raises ServerError, in one line, if it cannot listen.
    """
    arguments.listening(host, port, ssl, unix)
    websockets = WebSockets(application, policy=policy, limits=limits, stream=stream, threads=threads)
    return Server(websockets, host, port, ssl=ssl, unix=unix)


def _peer(environ: Environ) -> str:
    address, port = environ.get("REMOTE_ADDR"), environ.get("REMOTE_PORT")
    if not address:
        return "unix"
    return peer_name((address, port)) if port else str(address)


def _received(environ: Environ) -> bytes:
    """Return the bytes that the server read after the request. Nothing blocks, since its connection ended."""
    body = environ["wsgi.input"]
    received: bytes = body.read()
    # gunicorn's body ends where the request ends, and keeps the bytes behind it in its unreader.
    unreader: Any = getattr(getattr(body, "reader", None), "unreader", None)
    return received + unreader.take_buffered() if hasattr(unreader, "take_buffered") else received


def _refuse(error: HandshakeError, environ: Environ, start_response: StartResponse) -> list[bytes]:
    fields, body = content(error)
    if not str(environ.get("SERVER_SOFTWARE", "")).startswith(("gunicorn", "kirsch", "Werkzeug")):
        # Other servers refuse hop-by-hop fields from an application (PEP 3333).
        fields = [(name, value) for name, value in fields if name.lower() != "upgrade"]
    fields.append(("Content-Length", str(len(body))))
    start_response(f"{error.status} {phrase(error.status)}", fields)
    return [body]
