"""WebSockets on a CherryPy application's own port, at any of its paths: a plugin for its engine, and a tool.

    WebSocketPlugin(cherrypy.engine).subscribe()
    cherrypy.tools.websocket = WebSocketTool()

    class Root:
        @cherrypy.expose
        @cherrypy.tools.websocket(application=Chat, subprotocols=("chat",))
        def chat(self, room="lobby"):
            cherrypy.request.websocket.room = room

The page handler runs before the handshake is answered. It may refuse by HTTPError, HTTPRedirect or a status
of its own; its return value is dropped. Tools that run before it (authentication, sessions) work as ever, and
the header fields that they set, cookies too, are part of the response. Then the connection leaves the HTTP
server, and the thread that answered is free.
"""

import logging
import socket
import ssl as tls
from collections.abc import Mapping
from dataclasses import fields, replace
from functools import partial
from typing import Any

try:
    import cherrypy
except ModuleNotFoundError:
    from kirsch.install import pip_install

    raise ImportError(f"CherryPy is not installed: {pip_install('kirsch-websocket[cherrypy]')}") from None

from cherrypy.process.plugins import SimplePlugin
from cherrypy.process.wspbus import Bus

from kirsch.websocket.core import arguments
from kirsch.websocket.core.application import WebSocket
from kirsch.websocket.core.errors import Closed, HandshakeError, Slow
from kirsch.websocket.core.frame import GOING_AWAY
from kirsch.websocket.core.handshake import Accepted, Policy, content, phrase, request_from_environ
from kirsch.websocket.core.limits import Limits
from kirsch.websocket.core.message import Close, check_close
from kirsch.websocket.core.site import Site
from kirsch.websocket.listening import Listening, Place, http_server, peer_name
from kirsch.websocket.threaded import Application, factory
from kirsch.websocket.threads.pool import Pool, turn_away

__all__ = ["Server", "WebSocketPlugin", "WebSocketTool", "serve"]

log = logging.getLogger("kirsch.websocket")

CHANNEL = "handle-websocket"
_POLICY = frozenset(each.name for each in fields(Policy))
_LIMITS = frozenset(each.name for each in fields(Limits))
# Fields of a response with a body, which the 101 has not.
_BODY = ("Content-Type", "Content-Length", "Content-Encoding", "Transfer-Encoding")
_UNSUPPORTED = (
    "this server does not hand over connections: kirsch.websocket.cherrypy needs environ['kirsch.upgrade'], "
    "as kirsch.bus.http_server and cherrypy.server with SERVER_DEFAULTS of kirsch.bus give it"
)


class WebSocketPlugin(SimplePlugin):
    """Serves the engine's WebSockets while the bus runs, in threads of its own, few for any number.

    When the bus stops, each is closed with 1001, after the HTTP server has stopped. To send a message to all:
    `cherrypy.engine.publish("websocket-broadcast", message)`; connections that are behind do not get it.
    """

    def __init__(self, bus: Any, threads: int = 10) -> None:
        super().__init__(bus)
        arguments.whole("threads", threads, 1)
        self.threads = threads
        # Arguments of Pool.close, for the end.
        self.close_arguments: tuple[int, str, float | None] = (GOING_AWAY, "", None)
        self._pool: Pool | None = None

    @property
    def connections(self) -> list[WebSocket]:
        """List of the open connections."""
        return [] if self._pool is None else self._pool.connections

    def subscribe(self) -> None:
        super().subscribe()
        self.bus.subscribe(CHANNEL, self.adopt)
        self.bus.subscribe("websocket-broadcast", self.broadcast)

    def unsubscribe(self) -> None:
        super().unsubscribe()
        self.bus.unsubscribe(CHANNEL, self.adopt)
        self.bus.unsubscribe("websocket-broadcast", self.broadcast)

    def start(self) -> None:
        if self._pool is None:
            self._pool = Pool(self.threads)

    start.priority = 70  # type: ignore[attr-defined] # before the HTTP server's

    def stop(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.close(*self.close_arguments)

    stop.priority = 30  # type: ignore[attr-defined] # after the HTTP server's

    def adopt(self, websocket: WebSocket, sock: socket.socket, received: bytes) -> None:
        """Serve a WebSocket on a connection that the HTTP server has handed over."""
        try:
            if self._pool is None:
                raise RuntimeError("the bus does not run")
            self._pool.adopt(websocket, sock, received)
        except (OSError, RuntimeError) as error:
            log.info("%s: %s", websocket.peer, error)
            turn_away(sock, Close(*self.close_arguments[:2]))

    def broadcast(self, message: Any) -> None:
        """Send a message to all connections; those that are slow or closing do not get it."""
        for websocket in self.connections:
            try:
                websocket.send(message)
            except (Closed, Slow) as error:
                log.info("%s: %s", websocket.peer, error)


class WebSocketTool(cherrypy.Tool):
    """`cherrypy.tools.websocket`: makes its path a WebSocket.

    Its arguments, of the decorator or in a configuration (`tools.websocket.on = True` there):

    - application: a class that extends WebSocket, or a function that gets a connection to iterate over
    - subprotocols, origins, deflate, headers: those of Policy; pages of the same host by default
    - message, queue, ping_interval, …: those of Limits
    - policy, limits: a Policy and a Limits, instead
    - stream: True to give the function each message as a Stream, in chunks

    The page handler finds the WebSocket in `cherrypy.request.websocket`; it cannot send yet.
    """

    def __init__(self, bus: Any = None) -> None:
        """`bus` is the plugin's bus, cherrypy.engine by default."""
        self.bus = cherrypy.engine if bus is None else bus
        # After the tools that authenticate, and that lock sessions.
        super().__init__("before_handler", self.begin, "websocket", priority=60)

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Decorate a page handler. Raises TypeError and ValueError for wrong options."""
        _site(**{name: value for name, value in options.items() if name not in ("on", "priority")})
        return super().__call__(*args, **options)

    def begin(self, **options: Any) -> None:
        """Check the request, and prepare the response. Raises _Refused."""
        request = cherrypy.serving.request
        name = peer_name((request.remote.ip, request.remote.port) if request.remote.ip else None)
        try:
            site = self._site(options)
            websocket, response = site.open(request_from_environ(request.wsgi_environ), name)
            upgrade = request.wsgi_environ.get("kirsch.upgrade")
            if upgrade is None:
                raise HandshakeError(501, _UNSUPPORTED)
        except HandshakeError as error:
            log.log(error.level, "%s: %s", name, error)
            raise _Refused(error) from None
        request.websocket = websocket
        answer = Accepted(response, websocket.subprotocol, None).headers
        request.hooks.attach("before_finalize", _switch, priority=99, answer=answer)
        # The server calls this once a 101 has been sent, and not after another answer.
        upgrade(partial(self.bus.publish, CHANNEL, websocket))

    def _site(self, options: dict[str, Any]) -> Site:
        try:
            if not self.bus.listeners.get(CHANNEL):
                raise ValueError("no WebSocketPlugin is subscribed to the bus")
            site = _site(**options)
            if site.application is None:
                raise ValueError("it has no application")
            return site
        except (TypeError, ValueError) as error:
            log.error("tools.websocket at %s: %s", cherrypy.serving.request.path_info, error)
            raise HandshakeError(500, "the WebSocket here is not set up as it should be") from None


class Server(Listening):
    """Server with a bus of its own, which serves as soon as it is made: `with serve(...) as server`.

    Attributes:
        address: (host, port), or the path of a Unix socket.
        url: the URL for clients.
    """

    def __init__(self, bus: Any, adapter: Any, plugin: WebSocketPlugin, secure: bool) -> None:
        super().__init__(Place(adapter.bind_addr, secure))
        self._bus = bus
        self._plugin = plugin

    @property
    def connections(self) -> list[WebSocket]:
        """List of the open connections."""
        return self._plugin.connections

    def close(self, code: int = GOING_AWAY, reason: str = "", timeout: float | None = None) -> None:
        check_close(code, reason)
        self._plugin.close_arguments = (code, reason, timeout)
        if self._bus.state is self._bus.states.STARTED:
            self._bus.stop()

    def _wait(self) -> None:
        self._bus.wait((self._bus.states.STOPPING, self._bus.states.STOPPED))


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
    """Listen, and serve a CherryPy application that has nothing but WebSockets.

    Args:
        application: a class that extends WebSocket, or `def handler(ws: Connection)`; or a mapping of paths
            to these.
        host, port: None is every address of IPv4, port 0 takes a free one.
        policy: the accepted origins, subprotocols and compression.
        limits: the limits of each connection.
        ssl: the TLS context, for wss.
        unix: the path of a Unix socket (mode 0600), in place of host and port.
        stream: True to give functions each message as a Stream, in chunks.
        threads: the number of threads for handshakes, and of those for callbacks.

    Raises ServerError, in one line, if it cannot listen.
    """
    arguments.listening(host, port, ssl, unix)
    limits = limits or Limits()
    _site(application, policy, limits, stream)
    bus = Bus()
    options = {"application": application, "policy": policy, "limits": limits, "stream": stream}
    begin: Any = partial(WebSocketTool(bus).begin, **options)
    begin.priority = 60  # CherryPy's order of hooks
    pages = cherrypy.Application(_Nothing(), "", {"/": {"hooks.before_handler": begin}})
    pages.log.access = _no_access_log
    plugin = WebSocketPlugin(bus, threads)
    plugin.subscribe()
    host = host or "0.0.0.0"  # noqa: S104 - it was asked for
    http, server_limits = http_server(limits, threads)
    adapter = http.http_server(bus, pages, host=host, port=port, path=unix, limits=server_limits, tls=ssl)
    adapter.bind()
    # As Bus.start does, but nothing is stopped, with a warning, when the interpreter ends.
    bus.state = bus.states.STARTING
    bus.publish("start")
    bus.state = bus.states.STARTED
    return Server(bus, adapter, plugin, ssl is not None)


def _no_access_log() -> None:
    """Replace cherrypy.log.access, which formats a line whether or not anybody reads it."""


class _Nothing:
    """Root object of an application whose paths are all WebSockets."""

    def default(self, *path: str, **query: str) -> None:
        pass

    default.exposed = True  # type: ignore[attr-defined]


class _Refused(cherrypy.HTTPError):
    """Handshake that failed: its response is a line of text, where CherryPy's errors are pages."""

    def __init__(self, error: HandshakeError) -> None:
        # CherryPy's errors begin at 400.
        super().__init__(max(error.status, 400), error.reason)
        self.code = self.status = error.status
        self._fields, self._body = content(error)

    def set_response(self) -> None:
        response = cherrypy.serving.response
        for name in _BODY:
            response.headers.pop(name, None)
        response.status = f"{self.code} {phrase(self.code)}"
        for name, value in self._fields:
            response.headers[name] = value
        if "Upgrade" in response.headers:
            response.headers["Connection"] = "Upgrade"
        response.body = self._body


def _site(
    application: Any = None, policy: Any = None, limits: Any = None, stream: bool = False, **options: Any
) -> Site:
    """Return the Site of a tool's arguments. Raises TypeError, ValueError."""
    if application is not None and not callable(application) and not hasattr(application, "get"):
        raise TypeError(f"an application is a class or a function, not {application!r}")
    arguments.kind("policy", policy, Policy | None, "a kirsch.websocket.Policy")
    arguments.kind("limits", limits, Limits | None, "a kirsch.websocket.Limits")
    accepted = {name: options.pop(name) for name in _POLICY & options.keys()}
    if strange := sorted(options.keys() - _LIMITS):
        raise TypeError(
            f"there is no argument {strange[0]!r}: only application, policy, limits, stream, and those of a "
            "Policy and of Limits"
        )
    return Site(
        application,
        replace(Policy() if policy is None else policy, **accepted),
        replace(Limits() if limits is None else limits, **options),
        partial(factory, stream=stream),
    )


def _switch(answer: list[tuple[str, str]]) -> None:
    """Make the response the handshake's, unless the page handler has set a status."""
    response = cherrypy.serving.response
    if response.status is not None:
        return
    for name in _BODY:
        response.headers.pop(name, None)
    for name, value in answer:
        response.headers[name] = value
    response.status = "101 Switching Protocols"
    response.stream = False
    response.body = b""
