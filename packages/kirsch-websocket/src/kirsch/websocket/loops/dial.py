"""Client connections on an asyncio event loop."""

import asyncio
import socket
import ssl as _ssl
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from kirsch.websocket.core.errors import HandshakeError
from kirsch.websocket.core.opening import (
    ClientOptions,
    Connect,
    ConnectSocks,
    ConnectUnix,
    Disconnect,
    Opened,
    Receive,
    Send,
    StartTLS,
    Step,
    opening,
)
from kirsch.websocket.core.url import Proxy, Url
from kirsch.websocket.dial import (
    default_context,
    environment,
    failure,
    socks_address,
    socks_client,
    socks_failure,
)

_P = TypeVar("_P", bound=asyncio.BaseProtocol)


async def dial(
    url: Url | str,
    options: ClientOptions | None,
    factory: Callable[[Opened], _P],
    *,
    ssl: _ssl.SSLContext | None = None,
    proxy_ssl: _ssl.SSLContext | None = None,
    timeout: float | None = None,
) -> tuple[asyncio.Transport, _P]:
    """Open a WebSocket, and give its transport the protocol that `factory` makes.

    The protocol's `connection_made` is called, then it is given the bytes that came after the handshake
    (`opened.rest`), a BufferedProtocol in its buffer, and last the end if the peer is gone already.

    Args:
        url: the address; may hold user and password.
        options: None for the defaults.
        factory: makes an asyncio Protocol or BufferedProtocol.
        ssl: the context for wss; None for the system's certificates.
        proxy_ssl: the context for a https:// proxy; None for the system's certificates.
        timeout: seconds for everything together; None for the limits' handshake_timeout.

    Raises:
        HandshakeError: the connection failed, with the reason in one line; `__cause__` is the OSError if any.
    """
    options = options or ClientOptions()
    if timeout is None:
        timeout = options.limits.handshake_timeout
    connection = _Connection(ssl, proxy_ssl, timeout)
    try:
        try:
            async with asyncio.timeout(timeout):
                opened = await connection.open(url, options)
        except (OSError, UnicodeError) as error:
            assert connection.step is not None
            raise failure(connection.step, error, timeout) from error
        return connection.hand_over(opened, factory)
    finally:
        connection.abort()


class _Reader(asyncio.Protocol):
    """Protocol of the transport during the handshake: keeps the bytes that come until they are read."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.eof = False
        self.lost = False
        self.error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None

    def data_received(self, data: bytes) -> None:
        self.data += data
        self._wake()

    def eof_received(self) -> None:
        self.eof = True
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost, self.error = True, exc
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def read(self) -> bytes:
        """Return the bytes that came; none at the end of the stream."""
        if not (self.data or self.eof or self.lost):
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        if self.error is not None and not self.data:
            raise self.error
        data = bytes(self.data)
        self.data.clear()
        return data


class _Connection:
    """Driver of the opening steps: uses one transport after the other, until the last is handed over."""

    def __init__(
        self, ssl: _ssl.SSLContext | None, proxy_ssl: _ssl.SSLContext | None, timeout: float | None
    ) -> None:
        self._ssl = ssl
        self._proxy_ssl = proxy_ssl
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._reader = _Reader()
        self._timeout = timeout
        self._end = None if timeout is None else self._loop.time() + timeout
        self.step: Step | None = None

    async def open(self, url: Url | str, options: ClientOptions) -> Opened:
        """Carry out the opening steps."""
        steps = opening(url, options, environment(options))
        answer: bytes | None = None
        try:
            while True:
                try:
                    self.step = steps.send(answer)
                except StopIteration as stop:
                    opened: Opened = stop.value
                    return opened
                answer = await self._do(self.step)
        finally:
            steps.close()

    async def _do(self, step: Step) -> bytes | None:
        match step:
            case Connect(host, port):
                await self._use(await self._connect(host, port))
            case ConnectUnix(path):
                await self._use(await self._connected(socket.socket(socket.AF_UNIX), path))
            case ConnectSocks(proxy, host, port):
                await self._use(await self._connect_socks(proxy, host, port))
            case StartTLS(hostname, of_proxy):
                await self._start_tls(hostname, self._proxy_ssl if of_proxy else self._ssl)
            case Send(data):
                assert self._transport is not None
                self._transport.write(data)
            case Receive():
                return await self._reader.read()
            case Disconnect():
                self.abort()
        return None

    def hand_over(self, opened: Opened, factory: Callable[[Opened], _P]) -> tuple[asyncio.Transport, _P]:
        """Give the transport its protocol. Nothing was awaited since the last read, so no byte is lost."""
        transport, reader = self._transport, self._reader
        assert transport is not None
        assert not reader.data
        protocol = factory(opened)
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        if opened.rest:
            _feed(protocol, opened.rest)
        if reader.eof and isinstance(protocol, asyncio.Protocol | asyncio.BufferedProtocol):
            protocol.eof_received()
        if reader.lost:
            protocol.connection_lost(reader.error)
        self._transport = None
        return transport, protocol

    def abort(self) -> None:
        """Close the transport, unless it was handed over."""
        if self._transport is not None:
            self._transport.abort()
            self._transport = None

    async def _use(self, sock: socket.socket) -> None:
        self._reader = reader = _Reader()
        try:
            self._transport, _ = await self._loop.create_connection(lambda: reader, sock=sock)
        except BaseException:
            sock.close()
            raise

    async def _start_tls(self, hostname: str, context: _ssl.SSLContext | None) -> None:
        transport, self._transport = self._transport, None
        assert transport is not None
        # Bytes sent in the clear must not count as protected by TLS: `opening` was given them, and refused.
        assert not self._reader.data
        try:
            self._transport = await self._loop.start_tls(
                transport, self._reader, context or default_context(), server_hostname=hostname
            )
        finally:
            if self._transport is None:
                transport.abort()
        if self._transport is None:
            raise ConnectionResetError

    async def _connect(self, host: str, port: int) -> socket.socket:
        """Connect to the first of the host's addresses that accepts, each in its share of the time."""
        found = await self._resolve(host, port)
        first: OSError | None = None
        for index, (family, kind, protocol, _, address) in enumerate(found):
            try:
                async with asyncio.timeout(self._left(len(found) - index)):
                    return await self._connected(socket.socket(family, kind, protocol), address)
            except OSError as error:
                first = first or error
        assert first is not None
        raise first

    async def _connect_socks(self, proxy: Proxy, host: str, port: int) -> socket.socket:
        if not proxy.resolves:
            family = socket.AF_INET if proxy.scheme == "socks4" else socket.AF_UNSPEC
            try:
                host = socks_address(await self._resolve(host, port, family))
            except OSError as error:
                raise failure(Connect(host, port), error, self._timeout) from error
        route = _Route(self._connect)
        try:
            # Otherwise python-socks has a limit of a minute; ours applies.
            sock: socket.socket = await socks_client(proxy, route, asyncio=True).connect(
                host, port, timeout=1e6
            )
        except (OSError, HandshakeError):
            raise
        except Exception as error:
            # python-socks raises errors of its own, and others where the proxy answers nonsense.
            raise socks_failure(proxy, host, error) from error
        return sock

    async def _connected(self, sock: socket.socket, address: Any) -> socket.socket:
        try:
            sock.setblocking(False)
            await self._loop.sock_connect(sock, address)
        except BaseException:
            sock.close()
            raise
        return sock

    async def _resolve(self, host: str, port: int, family: int = 0) -> list[Any]:
        try:
            # An IP address needs no resolver thread.
            return socket.getaddrinfo(host, port, family, socket.SOCK_STREAM, 0, socket.AI_NUMERICHOST)
        except socket.gaierror:
            return await self._loop.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)

    def _left(self, shares: int) -> float | None:
        return None if self._end is None else (self._end - self._loop.time()) / shares


class _Route:
    """Connection to a SOCKS proxy in the form that python-socks asks for: a proxy before the proxy."""

    def __init__(self, connect: Callable[[str, int], Awaitable[socket.socket]]) -> None:
        self._connect = connect

    async def connect(self, dest_host: str, dest_port: int, timeout: float | None = None) -> socket.socket:
        return await self._connect(dest_host, dest_port)


def _feed(protocol: asyncio.BaseProtocol, data: bytes) -> None:
    """Give bytes to a protocol as a transport would."""
    if isinstance(protocol, asyncio.BufferedProtocol):
        rest = memoryview(data)
        while rest:
            buffer = memoryview(protocol.get_buffer(len(rest))).cast("B")
            size = min(len(buffer), len(rest))
            if not size:
                raise RuntimeError("get_buffer() returned an empty buffer")
            buffer[:size] = rest[:size]
            protocol.buffer_updated(size)
            rest = rest[size:]
    elif isinstance(protocol, asyncio.Protocol):
        protocol.data_received(data)
