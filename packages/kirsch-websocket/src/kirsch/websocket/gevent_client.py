"""Clients on gevent: `connect` once, or `reconnect` for ever."""

import ssl as tls
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeVar, overload

import gevent.socket
import gevent.ssl

from kirsch.websocket.application import WebSocket
from kirsch.websocket.backoff import Backoff
from kirsch.websocket.dial import dial
from kirsch.websocket.gevent_connection import Connection
from kirsch.websocket.gevent_wire import Wire
from kirsch.websocket.opening import ClientOptions
from kirsch.websocket.reconnection import reconnection
from kirsch.websocket.site import check, joined
from kirsch.websocket.url import Url

W = TypeVar("W", bound=WebSocket)


class Context:
    """A TLS context of the standard library's, or gevent's, where gevent's sockets are to be made with it."""

    def __init__(self, context: tls.SSLContext) -> None:
        self._context = context

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def wrap_socket(self, sock: Any, **options: Any) -> Any:
        return gevent.ssl.SSLSocket(sock=sock, _context=self._context, **options)


class _Tls:
    """What `dial` takes for gevent's ssl module."""

    SSLContext = Context
    SSLSocket = gevent.ssl.SSLSocket

    @staticmethod
    def create_default_context() -> Context:
        return Context(tls.create_default_context())


_tls: Any = _Tls()


@overload
def connect(
    url: Url | str,
    application: None = None,
    *,
    options: ClientOptions | None = None,
    ssl: tls.SSLContext | None = None,
    timeout: float | None = None,
    stream: bool = False,
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
) -> W: ...


def connect(
    url: Url | str,
    application: Callable[..., WebSocket] | None = None,
    *,
    options: ClientOptions | None = None,
    ssl: tls.SSLContext | None = None,
    timeout: float | None = None,
    stream: bool = False,
) -> WebSocket:
    """Open a connection: `with connect(url) as ws`.

    Args:
        url: where; may hold user and password.
        application: a class that extends WebSocket, for its callbacks; None gives a Connection, to iterate.
        options: how to connect: subprotocols, compression, headers, proxy, limits.
        ssl: the context for wss, the standard library's or gevent's; None for the system's certificates.
        timeout: seconds until it is open; None for the limits' handshake_timeout.
        stream: each message is given as a Stream, in chunks.

    Raises HandshakeError: there is no WebSocket, in one line.
    """
    check(url, application, options, ssl, timeout)
    options = options or ClientOptions()
    context: Any = None if ssl is None else Context(ssl)
    sock, opened = dial(url, options, ssl=context, timeout=timeout, sockets=gevent.socket, tls=_tls)
    try:
        websocket = joined(application or Connection, opened, options, stream)
    except BaseException:
        sock.close()
        raise
    Wire(sock, websocket, set()).start(opened.rest)
    return websocket


def reconnect(
    url: Url | str,
    *,
    backoff: Backoff | None = None,
    wait: Callable[[float], object] = gevent.sleep,
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
