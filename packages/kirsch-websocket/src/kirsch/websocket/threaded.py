"""WebSockets with threads: `serve` and `connect`.

A pool of threads calls a server's callbacks, for any number of connections; a function that iterates has a
thread of its own. A client iterates in the thread of its caller.
"""

import os
import socket as sockets
import ssl as tls
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, TypeVar, overload

from kirsch.websocket.core import arguments
from kirsch.websocket.core.application import WebSocket
from kirsch.websocket.core.backoff import Backoff
from kirsch.websocket.core.frame import GOING_AWAY
from kirsch.websocket.core.handshake import Policy
from kirsch.websocket.core.limits import Limits
from kirsch.websocket.core.opening import ClientOptions
from kirsch.websocket.core.site import Factory, Site, check_client, client_connection, refuse_coroutines
from kirsch.websocket.core.url import Url
from kirsch.websocket.dial import dial, reconnections
from kirsch.websocket.listening import BACKLOG, Listening, Place, listener, unix_socket, wait_for
from kirsch.websocket.threads.connection import Connection, Stream
from kirsch.websocket.threads.pool import Pool
from kirsch.websocket.threads.server_handshake import Listener

__all__ = ["Connection", "Pool", "Server", "Stream", "connect", "reconnect", "serve"]

Handler = Callable[[Connection], object]
Application = type[WebSocket] | Handler
W = TypeVar("W", bound=WebSocket)


class Handled(Connection):
    """Connection that a function runs on, in a thread of its own."""

    def __init__(self, handler: Handler, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._handler = handler

    def opened(self) -> None:
        thread = threading.Thread(target=self._run, name=f"websocket-{self.peer}", daemon=True)
        self.wire.pool.handlers.add(thread)
        try:
            thread.start()
        except BaseException:
            # There are too many threads; `Pool.close` must not wait for this one.
            self.wire.pool.handlers.discard(thread)
            raise

    def _run(self) -> None:
        try:
            self.handle(self._handler)
        finally:
            self.wire.pool.handlers.discard(threading.current_thread())


def factory(application: Application, stream: bool = False) -> Factory:
    """Return a Factory for an application: the class itself, or one that runs the function.

    For sites whose connections a Pool serves. `stream` gives a function each message as a Stream.
    """
    if isinstance(application, type) and issubclass(application, WebSocket):
        return application
    refuse_coroutines(application)
    made = partial(Handled, application)
    made.streaming = stream  # type: ignore[attr-defined]
    return made


class Server(Listening):
    """Server that serves as soon as it is made: `with serve(...) as server`.

    Attributes:
        site: the applications.
        address: (host, port), or the path of a Unix socket.
        url: the URL for clients.
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
        """List of the open connections."""
        return self._pool.connections

    def close(self, code: int = GOING_AWAY, reason: str = "", timeout: float | None = None) -> None:
        self._pool.close(code, reason, self.site.limits.close_timeout if timeout is None else timeout)
        self._place.remove()
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
    backlog: int = BACKLOG,
    threads: int = 10,
) -> Server:
    """Listen, and serve in threads from then on.

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
        threads: the number of threads for callbacks; each function that iterates has one more.

    Raises OSError if it cannot listen.
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
        url: the address; may hold user and password.
        application: a class that extends WebSocket, whose callbacks a pool's threads call; None for a
            Connection, to iterate over.
        options: subprotocols, compression, headers, proxy, limits.
        ssl: the context for wss; None for the system's certificates.
        timeout: seconds until it is open; None for the limits' handshake_timeout.
        stream: each message is given as a Stream, in chunks.
        pool: the pool that serves it; None for one that all clients of the process share.

    Raises:
        HandshakeError: the connection cannot be opened, with the reason in one line.
    """
    check_client(url, application, options, ssl, timeout)
    options = options or ClientOptions()
    socket, opened = dial(url, options, ssl=ssl, timeout=timeout)
    try:
        websocket = client_connection(application or Connection, opened, options, stream)
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
    """Yield connections, each when the one before has ended: `for ws in reconnect(url)`.

    Args:
        url: the address.
        backoff: the delays between attempts; it may limit their number.
        wait: called with the seconds to wait between two attempts.
        how: the other arguments of `connect`, without an application: these connections are iterated over.

    Raises:
        HandshakeError: one that will not go away by waiting (a bad URL, a status such as 404), or the last
            one when `backoff` ends.
    """
    return reconnections(partial(connect, url, **how), wait, backoff)


_pools: dict[str, Pool] = {}
_pools_lock = threading.Lock()


def _shared(name: str, threads: int) -> Pool:
    """Return a pool that all clients of the process share."""
    with _pools_lock:
        if name not in _pools:
            _pools[name] = Pool(threads, f"websocket-{name}")
        return _pools[name]


def _forked() -> None:
    # The parent's threads do not exist in the child, whose clients get pools of their own.
    global _pools_lock
    _pools.clear()
    _pools_lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
