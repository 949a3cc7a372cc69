"""asyncio: the application's protocol takes over."""

import asyncio
import gc
import socket
import ssl
import threading
from collections.abc import Callable
from typing import Any

import pytest
from tests.websocket.client.network import Certificate, Handler, echo, listen, read_head, wait
from tests.websocket.client.talk import (
    PATIENCE,
    BufferedCollector,
    Collector,
)

from kirsch.websocket import dial_asyncio
from kirsch.websocket.handshake import Policy, accept
from kirsch.websocket.opening import Opened

# An unclosed socket or transport is a leak.
pytestmark = pytest.mark.filterwarnings("error::ResourceWarning")


def served(handler: Handler, run: Callable[[str], Any], tls: ssl.SSLContext | None = None) -> Any:
    with listen(handler, tls) as listener:
        result = asyncio.run(run(f"{'wss' if tls else 'ws'}://localhost:{listener.port}/"))
        gc.collect()
        return result


@pytest.mark.parametrize("protocol", [Collector, BufferedCollector])
@pytest.mark.parametrize("secure", [False, True])
def test_a_peer_that_is_gone_already(
    protocol: type[Collector], secure: bool, certificate: Certificate
) -> None:
    """It answers, says hello and hangs up, all before the protocol is there."""

    def greet(sock: socket.socket) -> None:
        sock.sendall(accept(read_head(sock)[0], Policy()).response + b"hello")

    async def run(url: str) -> Collector:
        _, collector = await dial_asyncio.dial(
            url, None, protocol, ssl=certificate.client if secure else None
        )
        await collector.until(lambda: "lost" in collector.events)
        return collector

    collector = served(greet, run, certificate.server if secure else None)
    assert collector.received == b"hello"
    assert collector.events[0] == "made"
    assert collector.events[-2:] == ["eof", "lost"]
    assert collector.events.count("lost") == 1


def test_a_factory_that_fails_leaves_nothing_behind(certificate: Certificate) -> None:
    gone = threading.Event()

    def serve(sock: socket.socket) -> None:
        echo(sock)
        gone.set()

    def fail(opened: Opened) -> Collector:
        raise OSError("the application's own")

    async def run(url: str) -> None:
        await dial_asyncio.dial(url, None, fail)

    with pytest.raises(OSError, match=r"^the application's own$"):
        served(serve, run)
    assert gone.wait(PATIENCE)


def test_a_cancelled_one_leaves_nothing_behind() -> None:
    connected, gone = threading.Event(), threading.Event()

    def serve(sock: socket.socket) -> None:
        read_head(sock)
        connected.set()
        try:
            wait(sock)
        finally:
            gone.set()

    async def run(url: str) -> None:
        task = asyncio.create_task(dial_asyncio.dial(url, None, Collector))
        await asyncio.to_thread(connected.wait, PATIENCE)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(gone.wait, PATIENCE)

    served(serve, run)
