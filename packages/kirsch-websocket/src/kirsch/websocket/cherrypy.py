"""WebSockets on a CherryPy application's own port, at any of its paths: a plugin for its engine, and a tool.

    WebSocketPlugin(cherrypy.engine).subscribe()
    cherrypy.tools.websocket = WebSocketTool()

    class Root:
        @cherrypy.expose
        @cherrypy.tools.websocket(application=Chat, subprotocols=("chat",))
        def chat(self, room="lobby"):
            cherrypy.request.websocket.room = room

The page handler runs before the handshake is answered. It may refuse by HTTPError, HTTPRedirect or a status
of its own; what it returns is dropped. Tools that come before it (authentication, sessions) do their work,
and what they put into the response's header goes out with it, cookies too. Then the connection leaves
CherryPy, and the thread that answered is free.
"""

import atexit
import logging
import socket
import ssl as tls
from collections.abc import Mapping
from dataclasses import fields, replace
from functools import partial
from http import HTTPStatus
from typing import Any

try:
    import cherrypy
except ModuleNotFoundError:
    raise ImportError("CherryPy is not installed: pip install 'kirsch-websocket[cherrypy]'") from None

from cherrypy._cprequest import Hook
from cherrypy.process.plugins import SimplePlugin
from cherrypy.process.wspbus import Bus

from kirsch.websocket import arguments
from kirsch.websocket.application import WebSocket
from kirsch.websocket.errors import Closed, HandshakeError, Slow
from kirsch.websocket.frame import GOING_AWAY
from kirsch.websocket.handshake import Accepted, Policy, request_from_environ
from kirsch.websocket.limits import Limits
from kirsch.websocket.listening import Listening, Place, peer
from kirsch.websocket.message import check_close
from kirsch.websocket.pool import Pool
from kirsch.websocket.site import Site
from kirsch.websocket.threaded import Application, factory

__all__ = ["Server", "WebSocketPlugin", "WebSocketTool", "serve"]

log = logging.getLogger("kirsch.websocket")

CHANNEL = "handle-websocket"
_POLICY = frozenset(each.name for each in fields(Policy))
_LIMITS = frozenset(each.name for each in fields(Limits))
# Of a response with a body, which this is not any more.
_BODY = ("Content-Type", "Content-Length", "Content-Encoding", "Transfer-Encoding")
_ELSEWHERE = (
    "this server keeps its connections: kirsch.websocket.cherrypy needs one that gives "
    "environ['kirsch.upgrade'], as kirsch.bus.http_server and cherrypy.server with SERVER_DEFAULTS of "
    "kirsch.bus do"
)
# How long a handshake may take where no limit is set, in seconds.
LONG = 3600.0


class WebSocketPlugin(SimplePlugin):
    """Serves the engine's WebSockets while the bus runs, in threads of its own, few for any number.

    When the bus stops, each is closed with 1001, after the HTTP server has stopped. To send a message to all:
    `cherrypy.engine.publish("websocket-broadcast", message)`; connections that are behind do not get it.
    """

    def __init__(self, bus: Any, threads: int = 10) -> None:
        super().__init__(bus)
        arguments.whole("threads", threads, 1)
        self.threads = threads
        # What the peers are told in the end, and how long they are waited for.
        self.farewell: tuple[int, str, float | None] = (GOING_AWAY, "", None)
        self._pool: Pool | None = None

    @property
    def connections(self) -> list[WebSocket]:
        """Those that are open just now."""
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
            pool.close(*self.farewell)

    stop.priority = 30  # type: ignore[attr-defined] # after the HTTP server's

    def adopt(self, websocket: WebSocket, sock: socket.socket, received: bytes) -> None:
        """Serve a WebSocket on a connection that has left its server."""
        try:
            if self._pool is None:
                raise RuntimeError("the bus does not run")
            self._pool.adopt(websocket, sock, received)
        except (OSError, RuntimeError) as error:
            log.info("%s: %s", websocket.peer, error)
            sock.close()

    def broadcast(self, message: Any) -> None:
        """Send to all."""
        for websocket in self.connections:
            try:
                websocket.send(message)
            except (Closed, Slow) as error:
                log.info("%s: %s", websocket.peer, error)


class WebSocketTool(cherrypy.Tool):
    """`cherrypy.tools.websocket`: the path it is on is a WebSocket.

    Its arguments, of the decorator or in a configuration (`tools.websocket.on = True` there):

    - application: a class that extends WebSocket, or a function that is given a connection to iterate over
    - subprotocols, origins, deflate, headers: as Policy has them; pages of the same host by default
    - message, queue, ping_interval, …: as Limits has them
    - policy, limits: a Policy and a Limits, where those are at hand
    - stream: the function is given each message as a Stream, in chunks

    The page handler finds the WebSocket in `cherrypy.request.websocket`; nothing can be sent yet.
    """

    def __init__(self, bus: Any = None) -> None:
        """`bus` is that of the plugin: cherrypy.engine unless given."""
        self.bus = cherrypy.engine if bus is None else bus
        # After the tools that say who may, and that lock sessions.
        super().__init__("before_handler", self.begin, "websocket", priority=60)

    def __call__(self, *args: Any, **options: Any) -> Any:
        """The decorator. Raises TypeError and ValueError for options that are none."""
        _site(**{name: value for name, value in options.items() if name not in ("on", "priority")})
        return super().__call__(*args, **options)

    def begin(self, **options: Any) -> None:
        """Check the request; raises _Refused."""
        request = cherrypy.serving.request
        name = peer((request.remote.ip, request.remote.port) if request.remote.ip else None)
        try:
            site = self._site(options)
            websocket, response = site.open(request_from_environ(request.wsgi_environ), name)
            upgrade = request.wsgi_environ.get("kirsch.upgrade")
            if upgrade is None:
                raise HandshakeError(501, _ELSEWHERE)
        except HandshakeError as error:
            log.warning("%s: %s", name, error)
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
    """A listening server with a bus of its own: `with serve(...) as server`; it serves from the start.

    Attributes:
        address: (host, port), or the path of a Unix socket. url: where clients find it.
    """

    def __init__(self, bus: Any, adapter: Any, plugin: WebSocketPlugin, secure: bool) -> None:
        super().__init__(Place(adapter.bind_addr, secure))
        self._bus = bus
        self._plugin = plugin

    @property
    def connections(self) -> list[WebSocket]:
        """Those that are open just now."""
        return self._plugin.connections

    def close(self, code: int = GOING_AWAY, reason: str = "", timeout: float | None = None) -> None:
        check_close(code, reason)
        self._plugin.farewell = (code, reason, timeout)
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
    """Listen, and serve at once: a CherryPy application that has nothing but WebSockets.

    Args:
        application: a class that extends WebSocket, or `def handler(ws: Connection)`; or a mapping of paths
            to either.
        host, port: where; None is every address of IPv4, port 0 takes a free one.
        policy: which origins, subprotocols and compression are accepted. limits: what a client may cost.
        ssl: a context, for wss.
        unix: the path of a Unix socket (its mode is 0600), in place of host and port.
        stream: functions are given each message as a Stream, in chunks.
        threads: how many answer handshakes, and as many serve callbacks.

    Raises ServerError, in one line, where nothing can be listened on.
    """
    from kirsch.bus import Limits as ServerLimits
    from kirsch.bus import http_server

    arguments.listening(host, port, ssl, unix)
    limits = limits or Limits()
    _site(application, policy, limits, stream)
    bus = Bus()
    begin = WebSocketTool(bus).begin
    options = {"application": application, "policy": policy, "limits": limits, "stream": stream}
    hook = Hook(begin, priority=60, **options)
    pages = cherrypy.Application(_Nothing(), "", {"/": {"hooks.before_handler": hook}})
    pages.log.access = _no_access_log
    plugin = WebSocketPlugin(bus, threads)
    plugin.subscribe()
    # Nothing else is served here: what a handshake may take is what a request may.
    take_on = ServerLimits(
        threads=threads,
        timeout=limits.handshake_timeout or LONG,
        shutdown=limits.close_timeout,
        header=limits.handshake,
        body=limits.handshake,
    )
    host = host or "0.0.0.0"  # noqa: S104 - it was asked for
    adapter = http_server(bus, pages, host=host, port=port, path=unix, limits=take_on, tls=ssl)
    adapter.bind()
    bus.start()
    atexit.unregister(bus._clean_exit)
    return Server(bus, adapter, plugin, ssl is not None)


def _no_access_log() -> None:
    """Replace cherrypy.log.access, which formats a line whether or not anybody reads it."""


class _Nothing:
    """What is left where every path is a WebSocket."""

    def default(self, *path: str, **query: str) -> None:
        pass

    default.exposed = True  # type: ignore[attr-defined]


class _Refused(cherrypy.HTTPError):
    """A handshake that failed: one line of text, where CherryPy's errors are pages."""

    def __init__(self, error: HandshakeError) -> None:
        super().__init__(error.status, error.reason)
        self._headers = error.headers

    def set_response(self) -> None:
        response = cherrypy.serving.response
        for name in _BODY:
            response.headers.pop(name, None)
        response.status = f"{self.code} {HTTPStatus(self.code).phrase}"
        response.headers["Content-Type"] = "text/plain; charset=utf-8"
        for name, value in self._headers:
            response.headers[name] = value
        if "Upgrade" in response.headers:
            response.headers["Connection"] = "Upgrade"
        response.body = f"{self._message}\n".encode("utf-8", "backslashreplace")


def _site(
    application: Any = None, policy: Any = None, limits: Any = None, stream: bool = False, **options: Any
) -> Site:
    """What a tool's arguments ask for. Raises TypeError, ValueError."""
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
    """Make the response the handshake's, unless somebody has said something else."""
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
