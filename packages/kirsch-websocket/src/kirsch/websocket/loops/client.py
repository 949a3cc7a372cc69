"""Clients on asyncio's event loop: `connect` once, or `reconnect` again and again."""

import asyncio
import ssl as tls
import warnings
from collections.abc import AsyncIterator, Callable, Generator
from types import TracebackType
from typing import Any, Generic, NoReturn, TypeVar, overload

from kirsch.websocket.core.application import WebSocket, close_code
from kirsch.websocket.core.backoff import Backoff, may_succeed_later
from kirsch.websocket.core.errors import HandshakeError
from kirsch.websocket.core.opening import ClientOptions, Opened
from kirsch.websocket.core.site import check_client, client_connection
from kirsch.websocket.core.url import Url
from kirsch.websocket.loops.connection import Connection
from kirsch.websocket.loops.dial import dial
from kirsch.websocket.loops.transport_wire import TransportWire
from kirsch.websocket.loops.wire import log

W = TypeVar("W", bound=WebSocket)


class Awaited:
    """Base of `connect(...)` and `serve(...)`: explains itself when the `await` was forgotten."""

    # True until it is awaited, or was used wrongly.
    _unused = False

    def __getattr__(self, name: str) -> Any:
        self._unused = False
        called = type(self).__name__
        raise AttributeError(f"{called}(...) has no {name} before it is awaited: {_usage(called)}")

    def __enter__(self) -> NoReturn:
        self._unused = False
        raise TypeError(f"on a loop it is `async with {type(self).__name__}(...)`")

    def __exit__(self, *_: object) -> None:
        pass

    def __del__(self) -> None:
        if self._unused:
            called = type(self).__name__
            warnings.warn(f"{called}(...) was never awaited: {_usage(called)}", RuntimeWarning, 2, self)


def _usage(called: str) -> str:
    return f"`await {called}(...)`, or `async with {called}(...)`"


class connect(Awaited, Generic[W]):  # noqa: N801 - it reads as a function: awaited, or with `async with`
    """Open a connection: `async with connect(url) as ws`, or `ws = await connect(url)`.

    Args:
        url: the address; may hold user and password.
        application: a class that extends WebSocket, for callbacks; None for a Connection, to iterate over.
        options: subprotocols, compression, headers, proxy, limits.
        ssl: the context for wss; None for the system's certificates.
        timeout: seconds until it is open; None for the limits' handshake_timeout.
        stream: each message is given as a Stream, in chunks.

    Raises HandshakeError, with the reason in one line, if the connection cannot be opened.
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
        check_client(url, application, options, ssl, timeout)
        self._url = url
        self._factory = application or Connection
        self._options = options or ClientOptions()
        self._ssl = ssl
        self._timeout = timeout
        self._stream = stream
        self._wire: ClientWire
        self._unused = True

    def __await__(self) -> Generator[Any, None, W]:
        self._unused = False
        return self._open().__await__()

    async def _open(self) -> W:
        _, wire = await dial(self._url, self._options, self._made, ssl=self._ssl, timeout=self._timeout)
        self._wire = wire
        return wire.websocket  # type: ignore[return-value]

    def _made(self, opened: Opened) -> "ClientWire":
        return ClientWire(client_connection(self._factory, opened, self._options, self._stream))

    def __aiter__(self) -> NoReturn:
        self._unused = False
        raise TypeError("to connect again and again it is `async for ws in reconnect(...)`")

    async def __aenter__(self) -> W:
        return await self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        websocket = self._wire.websocket
        if kind is None and isinstance(websocket, Connection):
            await websocket.finish_sending_on(websocket.limits.close_timeout)
        websocket.close(close_code(kind))
        await self._wire.wait_closed()
        if kind is None:
            websocket.require_all_sent()


class ClientWire(TransportWire):
    """Wire of a client, which begins when it is given its transport."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.begin()


async def reconnect(
    url: Url | str, *, backoff: Backoff | None = None, **how: Any
) -> AsyncIterator[Connection]:
    """Yield connections, each when the one before has ended: `async for ws in reconnect(url)`.

    Args:
        url: the address.
        backoff: the delays between attempts; it may limit their number.
        how: the other arguments of `connect`.

    Raises:
        HandshakeError: one that will not go away by waiting (a bad URL, a status such as 404), or the last
            one when `backoff` ends.
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
            if not may_succeed_later(error):
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
