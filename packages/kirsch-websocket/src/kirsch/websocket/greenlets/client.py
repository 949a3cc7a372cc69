"""Clients on gevent: `connect` once, or `reconnect` again and again."""

import ssl as tls
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeVar, overload

import gevent.socket
import gevent.ssl

from kirsch.websocket.core.application import WebSocket
from kirsch.websocket.core.backoff import Backoff
from kirsch.websocket.core.opening import ClientOptions
from kirsch.websocket.core.site import check_client, client_connection
from kirsch.websocket.core.url import Url
from kirsch.websocket.dial import dial, reconnections
from kirsch.websocket.greenlets.connection import Connection
from kirsch.websocket.greenlets.wire import Wire

W = TypeVar("W", bound=WebSocket)


class Context:
    """TLS context, of the standard library or of gevent, that makes sockets of gevent."""

    def __init__(self, context: tls.SSLContext) -> None:
        self._context = context

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def wrap_socket(self, sock: Any, **options: Any) -> Any:
        return gevent.ssl.SSLSocket(sock=sock, _context=self._context, **options)


class _Tls:
    """Stand-in for gevent's ssl module, as `dial` uses it."""

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
        url: the address; may hold user and password.
        application: a class that extends WebSocket, for callbacks; None for a Connection, to iterate over.
        options: subprotocols, compression, headers, proxy, limits.
        ssl: the context for wss, the standard library's or gevent's; None for the system's certificates.
        timeout: seconds until it is open; None for the limits' handshake_timeout.
        stream: each message is given as a Stream, in chunks.

    Raises HandshakeError, with the reason in one line, if the connection cannot be opened.
    """
    check_client(url, application, options, ssl, timeout)
    options = options or ClientOptions()
    context: Any = None if ssl is None else Context(ssl)
    sock, opened = dial(url, options, ssl=context, timeout=timeout, sockets=gevent.socket, tls=_tls)
    try:
        websocket = client_connection(application or Connection, opened, options, stream)
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
