"""WSGI middleware: WebSockets beside a WSGI application, where its server lets a connection go.

    application = WebSockets({"/chat": Chat}, application)

kirsch's HTTP server does (environ["kirsch.upgrade"], kirsch.bus.http), with TLS too. gunicorn does (its sync
and gthread workers), and Werkzeug's server: they give the socket in the environ. So does any server that is
taught to, as environ["kirsch.socket"]. After the handshake the connection has left the server: its thread is
free. With other servers the answer is 501. But for kirsch's server, the 101 is ours: header fields that
middleware around this one adds to responses are not in it.
"""

import atexit
import logging
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from http import HTTPStatus
from socketserver import ThreadingMixIn
from typing import Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from kirsch.websocket import arguments
from kirsch.websocket.application import WebSocket
from kirsch.websocket.errors import HandshakeError
from kirsch.websocket.frame import GOING_AWAY
from kirsch.websocket.handshake import Accepted, Policy, request_from_environ
from kirsch.websocket.limits import Limits
from kirsch.websocket.listening import BACKLOG, Listening, Place, peer, unknown
from kirsch.websocket.message import check_close
from kirsch.websocket.pool import Pool
from kirsch.websocket.site import Site
from kirsch.websocket.threaded import Application, factory

__all__ = ["Server", "WebSockets", "serve"]

log = logging.getLogger("kirsch.websocket")

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
WSGIApplication = Callable[[Environ, StartResponse], Iterable[bytes]]

_SOCKETS: Final = ("kirsch.socket", "gunicorn.socket", "werkzeug.socket")
_KEPT: Final = (
    "this WSGI server keeps its connections: kirsch's, gunicorn's and Werkzeug's do not; or take the "
    "providers cherrypy, gevent, tornado, asyncio or threaded of kirsch.websocket"
)


class WebSockets:
    """A WSGI application that answers WebSockets' handshakes, and has another answer everything else.

    Args:
        websockets: a class that extends WebSocket, or `def handler(ws: Connection)`, for every path; or a
            mapping of paths (PATH_INFO) to either.
        application: answers all other requests, also plain ones for those paths; without one they are 404
            and 426.
        policy: which origins, subprotocols and compression are accepted. limits: what a client may cost.
        stream: functions are given each message as a Stream, in chunks.
        threads: how many serve callbacks, in each process; each function that iterates has one more.
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
        # So that what cannot be offered is told of here.
        Site(websockets, policy or Policy(), limits or Limits(), partial(factory, stream=stream))
        self.websockets = websockets
        self.application = application
        self.policy = policy or Policy()
        self.limits = limits or Limits()
        self.stream = stream
        arguments.whole("threads", threads, 1)
        self.threads = threads
        self._lock = threading.Lock()
        self._pool: Pool | None = None
        self._process = 0

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request (PEP 3333)."""
        handshake = "websocket" in str(environ.get("HTTP_UPGRADE", "")).lower()
        found = self.websockets
        if isinstance(found, Mapping):
            found = found.get(environ.get("PATH_INFO", ""))  # type: ignore[assignment]
        if self.application is not None and (found is None or not handshake):
            return self.application(environ, start_response)
        name = _peer(environ)
        try:
            if found is None:
                raise HandshakeError(404, "there is no WebSocket at this path")
            site = Site(found, self.policy, self.limits, partial(factory, stream=self.stream))
            websocket, response = site.open(request_from_environ(environ), name)
            upgrade = environ.get("kirsch.upgrade")
            taken = Taken(environ) if upgrade is None else None
        except HandshakeError as error:
            log.warning("%s: %s", name, error)
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
        """Serve a WebSocket on a connection that its server has given away."""
        try:
            self.pool.adopt(websocket, sock, received)
        except (OSError, RuntimeError) as error:
            log.info("%s: %s", websocket.peer, error)
            sock.close()

    @property
    def pool(self) -> Pool:
        """This process's: servers that fork do so before the first connection."""
        with self._lock:
            if self._pool is None or self._process != os.getpid():
                self._pool, self._process = Pool(self.threads), os.getpid()
                atexit.register(self._pool.close)
            return self._pool

    def close(self, code: int = GOING_AWAY, reason: str = "", timeout: float | None = None) -> None:
        """Close every connection, as the end of the process does; arguments are as Server.close's."""
        check_close(code, reason)
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None and self._process == os.getpid():
            atexit.unregister(pool.close)
            pool.close(code, reason, timeout)


class Taken(list[bytes]):
    """A connection that has left its server: the server is left with one that has ended.

    It goes on with that as it likes: what it writes goes nowhere, and there is nothing to read. As the
    response's (empty) body, it is told when the server has written all.

    Attributes:
        socket: the connection.
        received: what the server had received of it after the request.
    """

    def __init__(self, environ: Environ) -> None:
        """Raises HandshakeError 501 where the server does not let it go."""
        super().__init__()
        given = next((environ[key] for key in _SOCKETS if environ.get(key) is not None), None)
        if given is None:
            raise HandshakeError(501, _KEPT)
        if type(given).__module__.startswith(("gevent", "eventlet")):
            raise HandshakeError(501, "this server's sockets are gevent's: take kirsch.websocket.gevent")
        if isinstance(given, ssl.SSLSocket) or not isinstance(given, socket.socket):
            raise HandshakeError(501, "this server speaks TLS itself: with WSGI let a proxy before it do so")
        self.socket = given.dup()
        ended, self._end = socket.socketpair()
        self._end.shutdown(socket.SHUT_WR)
        os.dup2(ended.fileno(), given.fileno(), inheritable=False)
        ended.close()
        self.received = _received(environ)

    def close(self) -> None:
        """The server has written its response."""
        self._end.close()


class Server(Listening):
    """A listening server, for development: Python's own WSGI server, with a thread for each handshake.

    Attributes:
        address: (host, port). url: where clients find it.
    """

    def __init__(self, websockets: WebSockets, host: str | None, port: int) -> None:
        self._websockets = websockets
        try:
            timeout = {"timeout": websockets.limits.handshake_timeout}
            self._server = _Server((host or "", port), type("_Handler", (_Handler,), timeout))
        except socket.gaierror as error:
            raise unknown(host, error) from None
        self._server.set_app(websockets)
        super().__init__(Place(self._server.socket.getsockname(), secure=False))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True)
        self._thread.start()

    def close(self, code: int = GOING_AWAY, reason: str = "", timeout: float | None = None) -> None:
        check_close(code, reason)
        self._server.shutdown()
        self._server.server_close()
        self._websockets.close(code, reason, timeout)

    def _wait(self) -> None:
        self._thread.join()


def serve(
    application: Application | Mapping[str, Application],
    host: str | None = "127.0.0.1",
    port: int = 0,
    *,
    policy: Policy | None = None,
    limits: Limits | None = None,
    stream: bool = False,
    threads: int = 10,
) -> Server:
    """Listen, and serve at once, behind Python's own WSGI server. Arguments are as WebSockets has them.

    Raises OSError where nothing can be listened on.
    """
    arguments.listening(host, port)
    websockets = WebSockets(application, policy=policy, limits=limits, stream=stream, threads=threads)
    return Server(websockets, host, port)


class _Server(ThreadingMixIn, WSGIServer):
    request_queue_size = BACKLOG
    daemon_threads = True

    def server_bind(self) -> None:
        # Without asking for the host's name, which may take its time.
        socket.socket.bind(self.socket, self.server_address)
        self.server_name, self.server_port = "localhost", self.socket.getsockname()[1]
        self.setup_environ()

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.debug("%s: the handshake broke off", client_address, exc_info=True)


class _Handler(WSGIRequestHandler):
    def get_environ(self) -> Environ:
        return {
            **super().get_environ(),
            "SERVER_PROTOCOL": self.request_version,
            "REMOTE_PORT": str(self.client_address[1]),
            "kirsch.socket": self.connection,
        }

    def log_message(self, format: str, *arguments: Any) -> None:
        log.debug(format, *arguments)


def _peer(environ: Environ) -> str:
    address, port = environ.get("REMOTE_ADDR"), environ.get("REMOTE_PORT")
    if not address:
        return "unix"
    return peer((address, port)) if port else str(address)


def _received(environ: Environ) -> bytes:
    """What the server holds after the request; as its connection has ended nothing blocks here."""
    body = environ["wsgi.input"]
    received: bytes = body.read()
    # gunicorn's ends where the request ends, and what follows is behind it.
    unreader: Any = getattr(getattr(body, "reader", None), "unreader", None)
    return received + unreader.take_buffered() if hasattr(unreader, "take_buffered") else received


def _refuse(error: HandshakeError, environ: Environ, start_response: StartResponse) -> list[bytes]:
    body = f"{error.reason}\n".encode("utf-8", "backslashreplace")
    fields = list(error.headers)
    if not str(environ.get("SERVER_SOFTWARE", "")).startswith(("gunicorn", "kirsch", "Werkzeug")):
        # Other servers do not take it from an application (PEP 3333).
        fields = [(name, value) for name, value in fields if name.lower() != "upgrade"]
    fields += [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))]
    start_response(f"{error.status} {HTTPStatus(error.status).phrase}", fields)
    return [body]
