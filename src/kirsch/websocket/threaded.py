"""WebSockets with threads: `serve` and `connect`.

A server's callbacks are called by a pool of threads, however many connections there are; a function that
iterates has a thread of its own. A client iterates in whatever thread it is.
"""

import os
import socket as sockets
import ssl as tls
import stat
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Final, Self, TypeVar, overload

from kirsch.websocket.application import WebSocket
from kirsch.websocket.backoff import Backoff
from kirsch.websocket.connection import Connection, Stream
from kirsch.websocket.dial import dial
from kirsch.websocket.errors import HandshakeError
from kirsch.websocket.greeting import Listener
from kirsch.websocket.handshake import Policy
from kirsch.websocket.limits import Limits
from kirsch.websocket.opening import ClientOptions, Opened
from kirsch.websocket.pool import Pool
from kirsch.websocket.site import Factory, Site
from kirsch.websocket.url import BadUrl, Url

__all__ = ["Connection", "Pool", "Server", "Stream", "connect", "reconnect", "serve"]

Handler = Callable[[Connection], object]
Application = type[WebSocket] | Handler
W = TypeVar("W", bound=WebSocket)

BACKLOG: Final = 1024
# What a server answers that may be well again later (RFC 9110, 15.5 and 15.6).
_PASSING: Final = frozenset((0, 408, 425, 429, 500, 502, 503, 504))


class Handled(Connection):
    """A connection that a function takes care of, in a thread of its own."""

    def __init__(self, handler: Handler, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._handler = handler

    def opened(self) -> None:
        thread = threading.Thread(target=self._run, name=f"websocket-{self.peer}", daemon=True)
        self.wire.pool.handlers.add(thread)
        thread.start()

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
    made = partial(Handled, application)
    made.streaming = stream  # type: ignore[attr-defined]
    return made


class Server:
    """A listening server: `with serve(...) as server`; it serves from the start.

    Attributes:
        site: what is offered.
        address: what is listened on: (host, port), or the path of a Unix socket.
        url: where clients find it.
    """

    def __init__(self, site: Site, socket: sockets.socket, ssl: tls.SSLContext | None, pool: Pool) -> None:
        self.site = site
        self._pool = pool
        self._closed = threading.Event()
        name = socket.getsockname()
        self.address: Any = name[:2] if isinstance(name, tuple) else name
        self.url = _url(self.address, ssl is not None)
        self._inode = os.stat(name).st_ino if isinstance(name, str) else 0
        pool.add(socket.fileno(), Listener(pool, socket, site, ssl))

    @property
    def connections(self) -> list[WebSocket]:
        """Those that are open just now."""
        return self._pool.connections

    def serve_forever(self) -> None:
        """Serve until another thread calls `close()`, or an exception comes (KeyboardInterrupt)."""
        try:
            self._closed.wait()
        finally:
            self.close()

    def close(self, timeout: float | None = None) -> None:
        """Listen no more, close every connection with 1001, and end all threads.

        Args:
            timeout: how long to wait for the peers, and then for applications that still run; None is
                `limits.close_timeout`.
        """
        self._pool.close(self.site.limits.close_timeout if timeout is None else timeout)
        if isinstance(self.address, str):
            try:
                if os.stat(self.address).st_ino == self._inode:
                    os.unlink(self.address)
            except FileNotFoundError:
                pass
        self._closed.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def serve(
    application: Application | Mapping[str, Application],
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    policy: Policy | None = None,
    limits: Limits | None = None,
    ssl: tls.SSLContext | None = None,
    unix: str | None = None,
    threads: int = 10,
    stream: bool = False,
) -> Server:
    """Listen, and serve at once, in threads.

    Args:
        application: a class that extends WebSocket, or `def handler(ws: Connection)`; or a mapping of paths
            to either.
        host, port: where; port 0 takes a free one, host "" all addresses.
        policy: which origins, subprotocols and compression are accepted. limits: what a client may cost.
        ssl: a context, for wss.
        unix: the path of a Unix socket, in place of host and port.
        threads: how many serve callbacks; each function that iterates has one more.
        stream: functions are given each message as a Stream, in chunks.

    Raises:
        OSError: nothing can be listened on there.
    """
    site = Site(application, policy or Policy(), limits or Limits(), partial(factory, stream=stream))
    socket = _listen(host, port) if unix is None else _listen_unix(unix)
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
    options = options or ClientOptions()
    socket, opened = dial(url, options, ssl=ssl, timeout=timeout)
    try:
        websocket = _open(application or Connection, opened, options, stream)
        websocket.peer = _peer(socket, opened)
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
    """Connections, one after another, each when the one before has ended: `for ws in reconnect(url)`.

    Args:
        url: where.
        backoff: how long to wait between; its attempts in a row may be limited.
        wait: what waits; the time in seconds.
        how: as for `connect`.

    Raises:
        HandshakeError: what time does not heal (the URL, a status as 404), or the last one when `backoff`
            ends.
    """
    backoff = backoff or Backoff()
    error: HandshakeError | None = None
    while True:
        try:
            connection = connect(url, **how)
        except BadUrl:
            raise
        except HandshakeError as failure:
            if failure.status not in _PASSING:
                raise
            error = failure
        else:
            error = None
            since = time.monotonic()
            with connection:
                yield connection
            backoff.lasted(time.monotonic() - since)
        delay = next(backoff, None)
        if delay is None:
            if error is not None:
                raise error
            return
        wait(delay)


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


def _open(
    factory: Callable[..., WebSocket], opened: Opened, options: ClientOptions, stream: bool
) -> WebSocket:
    agreed = opened.agreed
    codec = agreed.deflate and agreed.deflate.codec(client=True, limits=options.limits)
    stream = stream or getattr(factory, "streaming", False)
    websocket = factory(client=True, limits=options.limits, codec=codec, stream=stream)
    websocket.subprotocol = agreed.subprotocol
    return websocket


def _peer(socket: sockets.socket, opened: Opened) -> str:
    if socket.family == getattr(sockets, "AF_UNIX", None):
        return "unix"
    return opened.url.place


def _url(address: Any, secure: bool) -> str:
    scheme = "wss" if secure else "ws"
    if isinstance(address, str):
        return f"{scheme}+unix://{address}"
    host, port = address
    return f"{scheme}://[{host}]:{port}/" if ":" in host else f"{scheme}://{host}:{port}/"


def _listen(host: str, port: int) -> sockets.socket:
    family = sockets.AF_INET
    if host:
        family = sockets.getaddrinfo(host, port, type=sockets.SOCK_STREAM, flags=sockets.AI_PASSIVE)[0][0]
    return sockets.create_server((host, port), family=family, backlog=BACKLOG)


def _listen_unix(path: str) -> sockets.socket:
    socket = sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM)
    try:
        if _left_behind(path):
            os.unlink(path)
        socket.bind(path)
        socket.listen(BACKLOG)
    except BaseException:
        socket.close()
        raise
    return socket


def _left_behind(path: str) -> bool:
    """Whether it is a socket on which nobody listens any more."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return False
    except FileNotFoundError:
        return False
    with sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return True
    return False
