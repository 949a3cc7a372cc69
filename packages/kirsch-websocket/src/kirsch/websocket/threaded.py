"""WebSockets with threads: `serve` and `connect`.

A server's callbacks are called by a pool of threads, however many connections there are; a function that
iterates has a thread of its own. A client iterates in whatever thread it is.
"""

import os
import socket as sockets
import ssl as tls
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, TypeVar, overload

from kirsch.websocket import arguments
from kirsch.websocket.application import WebSocket
from kirsch.websocket.backoff import Backoff
from kirsch.websocket.connection import Connection, Stream
from kirsch.websocket.dial import dial
from kirsch.websocket.frame import GOING_AWAY
from kirsch.websocket.greeting import Listener
from kirsch.websocket.handshake import Policy
from kirsch.websocket.limits import Limits
from kirsch.websocket.listening import BACKLOG, Listening, Place, listener, unix_socket
from kirsch.websocket.opening import ClientOptions
from kirsch.websocket.pool import Pool
from kirsch.websocket.reconnection import reconnection
from kirsch.websocket.site import Factory, Site, check, joined, refuse_coroutines
from kirsch.websocket.url import Url

__all__ = ["Connection", "Pool", "Server", "Stream", "connect", "reconnect", "serve"]

Handler = Callable[[Connection], object]
Application = type[WebSocket] | Handler
W = TypeVar("W", bound=WebSocket)


class Handled(Connection):
    """A connection that a function takes care of, in a thread of its own."""

    def __init__(self, handler: Handler, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._handler = handler

    def opened(self) -> None:
        thread = threading.Thread(target=self._run, name=f"websocket-{self.peer}", daemon=True)
        self.wire.pool.handlers.add(thread)
        try:
            thread.start()
        except BaseException:
            # There may be too many: who closes the pool does not wait for this one.
            self.wire.pool.handlers.discard(thread)
            raise

    def _run(self) -> None:
        try:
            self.handle(self._handler)
        finally:
            self.wire.pool.handlers.discard(threading.current_thread())


def factory(application: Application, stream: bool = False) -> Factory:
    """What makes a connection for an application: the class itself, or one that runs the function.

    For sites whose connections a Pool serves; `stream`: a function is given each message as a Stream.
    """
    if isinstance(application, type) and issubclass(application, WebSocket):
        return application
    refuse_coroutines(application)
    made = partial(Handled, application)
    made.streaming = stream  # type: ignore[attr-defined]
    return made


class Server(Listening):
    """A listening server: `with serve(...) as server`; it serves from the start.

    Attributes:
        site: what is offered.
        address: what is listened on: (host, port), or the path of a Unix socket.
        url: where clients find it.
    """

    def __init__(self, site: Site, socket: sockets.socket, ssl: tls.SSLContext | None, pool: Pool) -> None:
        self._place = Place(socket.getsockname(), ssl is not None)
        super().__init__(self._place)
        self.site = site
        self._pool = pool
        self._closed = threading.Event()
        pool.add(socket.fileno(), Listener(pool, socket, site, ssl))

    @property
    def connections(self) -> list[WebSocket]:
        """Those that are open just now."""
        return self._pool.connections

    def close(self, code: int = GOING_AWAY, reason: str = "", timeout: float | None = None) -> None:
        self._pool.close(code, reason, self.site.limits.close_timeout if timeout is None else timeout)
        self._place.leave()
        self._closed.set()

    def _wait(self) -> None:
        self._closed.wait()


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
    threads: int = 10,
) -> Server:
    """Listen, and serve at once, in threads.

    Args:
        application: a class that extends WebSocket, or `def handler(ws: Connection)`; or a mapping of paths
            to either.
        host, port: where; None is every address of IPv4, port 0 takes a free one.
        policy: which origins, subprotocols and compression are accepted. limits: what a client may cost.
        ssl: a context, for wss.
        unix: the path of a Unix socket (its mode is 0600), in place of host and port.
        stream: functions are given each message as a Stream, in chunks.
        backlog: connections that wait to be accepted.
        threads: how many serve callbacks; each function that iterates has one more.

    Raises OSError where nothing can be listened on.
    """
    arguments.listening(host, port, ssl, unix, backlog)
    arguments.whole("threads", threads, 1)
    site = Site(application, policy or Policy(), limits or Limits(), partial(factory, stream=stream))
    if unix is None:
        socket = listener(host, port, backlog)
    else:
        socket = unix_socket(unix)
        socket.listen(backlog)
    return Server(site, socket, ssl, Pool(threads))


@overload
def connect(
    url: Url | str,
    application: None = None,
    *,
    options: ClientOptions | None = None,
    ssl: tls.SSLContext | None = None,
    timeout: float | None = None,
    stream: bool = False,
    pool: Pool | None = None,
) -> Connection: ...


@overload
def connect(
    url: Url | str,
    application: Callable[..., W],
    *,
    options: ClientOptions | None = None,
    ssl: tls.SSLContext | None = None,
    timeout: float | None = None,
    stream: bool = False,
    pool: Pool | None = None,
) -> W: ...


def connect(
    url: Url | str,
    application: Callable[..., WebSocket] | None = None,
    *,
    options: ClientOptions | None = None,
    ssl: tls.SSLContext | None = None,
    timeout: float | None = None,
    stream: bool = False,
    pool: Pool | None = None,
) -> WebSocket:
    """Open a connection: `with connect(url) as ws`.

    Args:
        url: where; may hold user and password.
        application: a class that extends WebSocket: its callbacks are called by a pool's threads. None gives
            a Connection, to iterate over.
        options: how to connect: subprotocols, compression, headers, proxy, limits.
        ssl: the context for wss; None for the system's certificates.
        timeout: seconds until it is open; None for the limits' handshake_timeout.
        stream: each message is given as a Stream, in chunks.
        pool: whose threads see to it; None for one that all clients of the process share.

    Raises:
        HandshakeError: there is no WebSocket, in one line.
    """
    check(url, application, options, ssl, timeout)
    options = options or ClientOptions()
    socket, opened = dial(url, options, ssl=ssl, timeout=timeout)
    try:
        websocket = joined(application or Connection, opened, options, stream)
        if not isinstance(websocket, Connection):
            (pool or _shared("callbacks", 10)).adopt(websocket, socket, opened.rest)
            return websocket
        pool = pool or _shared("clients", 1)
        link = pool.link(websocket, socket)
        link.initial = opened.rest
        link.own()
        pool.add(link.fd, link)
    except BaseException:
        socket.close()
        raise
    link.begin()
    link.settle(arm=False)
    return websocket


def reconnect(
    url: Url | str,
    *,
    backoff: Backoff | None = None,
    wait: Callable[[float], object] = time.sleep,
    **how: Any,
) -> Iterator[Connection]:
    """Connections, each when the one before has ended: `for ws in reconnect(url)`.

    Args:
        url: where.
        backoff: how long to wait between; its attempts in a row may be limited.
        wait: what waits between, for seconds.
        how: as for `connect`, but for an application: these connections are iterated over.

    Raises:
        HandshakeError: what time does not heal (the URL, a status as 404), or the last one when `backoff`
            ends.
    """
    return reconnection(partial(connect, url, **how), wait, backoff)


# How.

_pools: dict[str, Pool] = {}
_pools_lock = threading.Lock()


def _shared(name: str, threads: int) -> Pool:
    """A pool that all clients of the process use; it starts with the first."""
    with _pools_lock:
        if name not in _pools:
            _pools[name] = Pool(threads, f"websocket-{name}")
        return _pools[name]


def _forked() -> None:
    # No thread of the parent's is here: the child's clients have pools of their own.
    global _pools_lock
    _pools.clear()
    _pools_lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
