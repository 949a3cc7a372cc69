"""The drivers under test, each as one function that behaves like the others."""

import asyncio
import ssl
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from kirsch.websocket.core.errors import HandshakeError
from kirsch.websocket.core.opening import ClientOptions, Opened
from kirsch.websocket.dial import dial
from kirsch.websocket.loops import dial as dial_asyncio

PATIENCE = 20.0
Talk = Callable[..., tuple[Opened, bytes]]


def talk_blocking(
    url: str, data: bytes = b"", options: ClientOptions | None = None, timeout: float = PATIENCE, **more: Any
) -> tuple[Opened, bytes]:
    """Open, send, and read until the end of what the echo server says."""
    sock, opened = dial(url, options, timeout=timeout, **more)
    with sock:
        assert sock.gettimeout() is None
        sock.settimeout(PATIENCE)
        sock.sendall(data)
        received = opened.rest
        while len(received) < len(b"hello " + data):
            received += sock.recv(1000)
    return opened, received


class Collector(asyncio.Protocol):
    """Keeps what happens to it."""

    def __init__(self, opened: Opened) -> None:
        self.opened = opened
        self.events: list[object] = []
        self.received = bytearray()
        self.changed = asyncio.Event()
        self.transport: Any = None

    def _note(self, event: object) -> None:
        self.events.append(event)
        self.changed.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self._note("made")

    def data_received(self, data: bytes) -> None:
        self.received += data
        self._note("data")

    def eof_received(self) -> None:
        self._note("eof")

    def connection_lost(self, exc: Exception | None) -> None:
        self._note("lost")

    async def until(self, true: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not true():
                self.changed.clear()
                await self.changed.wait()


class BufferedCollector(Collector, asyncio.BufferedProtocol):  # type: ignore[misc]
    """The same, given its bytes by a small buffer of its own."""

    def get_buffer(self, sizehint: int) -> bytearray:
        self.buffer = bytearray(4)
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.received += self.buffer[:nbytes]
        self._note("data")


async def _talk(
    protocol: type[Collector],
    url: str,
    data: bytes,
    options: ClientOptions | None,
    timeout: float,
    **more: Any,
) -> tuple[Opened, bytes]:
    transport, collector = await dial_asyncio.dial(url, options, protocol, timeout=timeout, **more)
    try:
        assert collector.transport is transport
        assert transport.get_protocol() is collector
        transport.write(data)
        await collector.until(lambda: len(collector.received) >= len(b"hello " + data))
    finally:
        transport.close()
        await collector.until(lambda: "lost" in collector.events)
    return collector.opened, bytes(collector.received)


def talk_asyncio(
    url: str,
    data: bytes = b"",
    options: ClientOptions | None = None,
    timeout: float = PATIENCE,
    protocol: type[Collector] = Collector,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
    **more: Any,
) -> tuple[Opened, bytes]:
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        return runner.run(_talk(protocol, url, data, options, timeout, **more))


def talk_uvloop(*arguments: Any, **more: Any) -> tuple[Opened, bytes]:
    uvloop = pytest.importorskip("uvloop")
    return talk_asyncio(*arguments, loop_factory=uvloop.new_event_loop, **more)


def talk_gevent(*arguments: Any, **more: Any) -> tuple[Opened, bytes]:
    pytest.importorskip("gevent")
    import gevent.socket
    import gevent.ssl

    def own(context: ssl.SSLContext | None) -> Any:
        """The same context, of gevent's."""
        if context is None:
            return None
        other = gevent.ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        for certificate in context.get_ca_certs(binary_form=True):
            other.load_verify_locations(cadata=certificate)
        return other

    for name in ("ssl", "proxy_ssl"):
        more[name] = own(more.get(name))
    return gevent.spawn(
        partial(talk_blocking, *arguments, sockets=gevent.socket, tls=gevent.ssl, **more)
    ).get(timeout=PATIENCE * 2)


DRIVERS: dict[str, Talk] = {
    "blocking": talk_blocking,
    "asyncio": talk_asyncio,
    "buffered": partial(talk_asyncio, protocol=BufferedCollector),
    "uvloop": talk_uvloop,
    "gevent": talk_gevent,
}


def refused(talk: Talk, *arguments: Any, **more: Any) -> HandshakeError:
    with pytest.raises(HandshakeError) as caught:
        talk(*arguments, **more)
    assert len(str(caught.value).splitlines()) == 1
    return caught.value
