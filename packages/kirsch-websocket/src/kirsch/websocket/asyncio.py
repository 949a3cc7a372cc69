"""WebSockets on asyncio's event loop, uvloop's too: `serve` and `connect`.

No task and no queue stands between the socket and a class that extends WebSocket. A Connection, to iterate
over, has an inbox; it is not read while the inbox is full.
"""

import asyncio
import functools
import socket
import ssl as tls
from collections.abc import Awaitable, Callable, Generator, Mapping
from typing import Any, Self

from kirsch.websocket.core import arguments
from kirsch.websocket.core.application import WebSocket
from kirsch.websocket.core.frame import GOING_AWAY
from kirsch.websocket.core.handshake import Policy
from kirsch.websocket.core.limits import Limits
from kirsch.websocket.core.message import check_close
from kirsch.websocket.core.site import Site
from kirsch.websocket.listening import BACKLOG, Place, unix_socket
from kirsch.websocket.loops.client import Awaited, connect, reconnect
from kirsch.websocket.loops.connection import Connection, Stream
from kirsch.websocket.loops.server_handshake import Listener, bound

__all__ = ["Connection", "Server", "Stream", "connect", "reconnect", "serve"]

Handler = Callable[[Connection], Awaitable[object]]
Application = type[WebSocket] | Handler


class Handled(Connection):
    """Connection that a coroutine function runs on; it is closed when the function returns."""

    def __init__(self, handler: Handler, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._handler = handler

    def opened(self) -> None:
        self._task = self.wire.run(self.handle(self._handler))


def factory(application: Application, stream: bool = False) -> Callable[..., WebSocket]:
    """Return a Factory for an application: the class itself, or one that runs the function.

    `stream` gives the function each message as a Stream.
    """
    if isinstance(application, type):
        return application
    made = functools.partial(Handled, application)
    made.streaming = stream  # type: ignore[attr-defined]
    return made


class Server:
    """Server that listens: `async with serve(...) as server`.

    Attributes:
        sockets: the listening sockets.
    """

    def __init__(self, site: Site, listener: Listener, secure: bool) -> None:
        self._limits = site.limits
        self._listener = listener
        self.sockets = tuple(listener.sockets)
        self._place = Place(self.sockets[0].getsockname(), secure)

    @property
    def address(self) -> Any:
        """First address: (host, port), or a path."""
        return self._place.address

    @property
    def url(self) -> str:
        """URL that clients connect to."""
        return self._place.url

    @property
    def connections(self) -> list[WebSocket]:
        """List of the open connections."""
        return self._listener.connections.open

    async def serve_forever(self) -> None:
        """Serve until cancelled; then close."""
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await self.close()

    async def close(self, code: int = GOING_AWAY, reason: str = "", timeout: float | None = None) -> None:
        """Stop listening, close every connection, and wait for their end.

        Args:
            code, reason: for the peers.
            timeout: seconds to wait for the peers before they are aborted, and then for functions that go
                on before they are cancelled; None for `limits.close_timeout`.

        Raises ValueError for what a close frame cannot carry; nothing is closed then.
        """
        check_close(code, reason)
        timeout = self._limits.close_timeout if timeout is None else timeout
        self._listener.close()
        await self._listener.connections.close(code, reason, timeout)
        self._place.remove()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()


class serve(Awaited):  # noqa: N801 - it reads as a function: awaited, or with `async with`
    """Listen: `server = await serve(...)`, or `async with serve(...) as server`.

    Args:
        application: a class that extends WebSocket, or `async def handler(ws: Connection)`; or a mapping of
            paths to these.
        host, port: None is every address, port 0 takes a free one.
        policy: the accepted origins, subprotocols and compression.
        limits: the limits of each connection.
        ssl: the TLS context, for wss.
        unix: the path of a Unix socket (mode 0600), in place of host and port.
        sock: a bound socket, in place of both.
        stream: True to give functions each message as a Stream, in chunks.
        backlog: the number of connections that may wait to be accepted.

    Raises OSError if it cannot listen.
    """

    def __init__(
        self,
        application: Application | Mapping[str, Application],
        host: str | None = "127.0.0.1",
        port: int = 0,
        *,
        policy: Policy | None = None,
        limits: Limits | None = None,
        ssl: tls.SSLContext | None = None,
        unix: str | None = None,
        sock: socket.socket | None = None,
        stream: bool = False,
        backlog: int = BACKLOG,
    ) -> None:
        arguments.listening(host, port, ssl, unix, backlog)
        self._site = Site(
            application, policy or Policy(), limits or Limits(), functools.partial(factory, stream=stream)
        )
        self._place = (host, port)
        self._unix = unix
        self._socket = sock
        self._context = ssl
        self._backlog = backlog
        self._server: Server
        self._unused = True

    def __await__(self) -> Generator[Any, None, Server]:
        self._unused = False
        return self._listen().__await__()

    async def _listen(self) -> Server:
        if self._socket is not None:
            sockets = [self._socket]
        elif self._unix is not None:
            sockets = [unix_socket(self._unix)]
        else:
            sockets = await bound(*self._place)
        listener = Listener(self._site, self._context)
        try:
            for sock in sockets:
                listener.listen(sock, self._backlog)
        except OSError:
            listener.close()
            for sock in sockets:
                sock.close()
            raise
        self._server = Server(self._site, listener, self._context is not None)
        return self._server

    async def __aenter__(self) -> Server:
        return await self

    async def __aexit__(self, *error: object) -> None:
        await self._server.close()
