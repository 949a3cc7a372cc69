"""Clients on asyncio's event loop: `connect` once, or `reconnect` for ever."""

import asyncio
import contextlib
import ssl as tls
from collections.abc import AsyncIterator, Callable, Generator
from types import TracebackType
from typing import Any, Generic, NoReturn, TypeVar, overload

from kirsch.websocket.application import WebSocket, farewell
from kirsch.websocket.async_connection import Connection
from kirsch.websocket.async_transport import TransportWire
from kirsch.websocket.async_wire import log
from kirsch.websocket.awaited import Awaited
from kirsch.websocket.backoff import Backoff, passes
from kirsch.websocket.dial_asyncio import dial
from kirsch.websocket.errors import HandshakeError
from kirsch.websocket.opening import ClientOptions, Opened
from kirsch.websocket.site import check, joined
from kirsch.websocket.url import Url

W = TypeVar("W", bound=WebSocket)


class connect(Awaited, Generic[W]):  # noqa: N801 - it reads as a function: awaited, or with `async with`
    """Open a connection: `async with connect(url) as ws`, or `ws = await connect(url)`.

    Args:
        url: where; may hold user and password.
        application: a class that extends WebSocket, for its callbacks; None gives a Connection, to iterate.
        options: how to connect: subprotocols, compression, headers, proxy, limits.
        ssl: the context for wss; None for the system's certificates.
        timeout: seconds until it is open; None for the limits' handshake_timeout.
        stream: each message is given as a Stream, in chunks.

    Raises HandshakeError: there is no WebSocket, in one line.
    """

    @overload
    def __init__(
        self: "connect[Connection]",
        url: Url | str,
        application: None = None,
        *,
        options: ClientOptions | None = None,
        ssl: tls.SSLContext | None = None,
        timeout: float | None = None,
        stream: bool = False,
    ) -> None: ...

    @overload
    def __init__(
        self: "connect[W]",
        url: Url | str,
        application: Callable[..., W],
        *,
        options: ClientOptions | None = None,
        ssl: tls.SSLContext | None = None,
        timeout: float | None = None,
        stream: bool = False,
    ) -> None: ...

    def __init__(
        self,
        url: Url | str,
        application: Any = None,
        *,
        options: ClientOptions | None = None,
        ssl: tls.SSLContext | None = None,
        timeout: float | None = None,
        stream: bool = False,
    ) -> None:
        check(url, application, options, ssl, timeout)
        self._url = url
        self._factory = application or Connection
        self._options = options or ClientOptions()
        self._ssl = ssl
        self._timeout = timeout
        self._stream = stream
        self._wire: ClientWire
        self._due = True

    def __await__(self) -> Generator[Any, None, W]:
        self._due = False
        return self._open().__await__()

    async def _open(self) -> W:
        _, wire = await dial(self._url, self._options, self._joined, ssl=self._ssl, timeout=self._timeout)
        self._wire = wire
        return wire.websocket  # type: ignore[return-value]

    def _joined(self, opened: Opened) -> "ClientWire":
        return ClientWire(joined(self._factory, opened, self._options, self._stream))

    def __aiter__(self) -> NoReturn:
        self._due = False
        raise TypeError("to connect again and again it is `async for ws in reconnect(...)`")

    async def __aenter__(self) -> W:
        return await self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        websocket = self._wire.websocket
        if kind is None and isinstance(websocket, Connection):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(websocket.limits.close_timeout):
                    await websocket.pass_on()
        await self._wire.closed(farewell(kind))


class ClientWire(TransportWire):
    """A client's: it begins when it is given its transport, and waits for its end."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.begin()

    async def closed(self, code: int) -> None:
        """Close, and wait until the connection is gone: `close_timeout` at most."""
        self.websocket.close(code)
        await self.wait_closed()


async def reconnect(
    url: Url | str, *, backoff: Backoff | None = None, **how: Any
) -> AsyncIterator[Connection]:
    """Connections, each when the one before has ended: `async for ws in reconnect(url)`.

    Args:
        url: where.
        backoff: how long to wait between; its attempts in a row may be limited.
        how: as for `connect`.

    Raises:
        HandshakeError: what time does not heal (the URL, a status as 404), or the last one when `backoff`
            ends.
    """
    backoff = backoff or Backoff()
    loop = asyncio.get_running_loop()
    failed: HandshakeError | None = None
    while True:
        try:
            async with connect(url, **how) as websocket:
                failed, since = None, loop.time()
                yield websocket
            backoff.lasted(loop.time() - since)
        except HandshakeError as error:
            if not passes(error):
                raise
            failed = error
        delay = next(backoff, None)
        if delay is None:
            if failed is not None:
                raise failed
            return
        if failed is not None:
            log.info("%s: trying again in %.1f s", failed, delay)
        await asyncio.sleep(delay)
