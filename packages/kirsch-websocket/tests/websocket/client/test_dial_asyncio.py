"""asyncio: the application's protocol takes over."""

import asyncio
import gc
import socket
import ssl
import threading
import types
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from tests.certificate import Certificate
from tests.websocket.client.network import Handler, echo, listen, read_head, wait
from tests.websocket.client.talk import (
    PATIENCE,
    BufferedCollector,
    Collector,
)

from kirsch.websocket.core.handshake import Policy, accept
from kirsch.websocket.core.opening import Opened
from kirsch.websocket.loops import dial as dial_asyncio

# An unclosed socket or transport is a leak.
pytestmark = pytest.mark.filterwarnings("error::ResourceWarning")


def served(handler: Handler, run: Callable[[str], Any], tls: ssl.SSLContext | None = None) -> Any:
    with listen(handler, tls) as listener:
        result = asyncio.run(run(f"{'wss' if tls else 'ws'}://localhost:{listener.port}/"))
        gc.collect()
        return result


@types.coroutine
def slowly(coroutine: Coroutine[Any, Any, Any], before: Callable[[], Coroutine[Any, Any, None]]) -> Any:
    """Run it, but before it goes on after it waited for something wait for something else too."""
    while True:
        try:
            future = coroutine.send(None)
        except StopIteration as stop:
            return stop.value
        yield future
        yield from before().__await__()


@pytest.mark.parametrize("protocol", [Collector, BufferedCollector])
@pytest.mark.parametrize("secure", [False, True], ids=["ws", "wss"])
@pytest.mark.parametrize("slow", [False, True], ids=["soon", "late"])
def test_a_peer_that_is_gone_already(
    protocol: type[Collector], secure: bool, slow: bool, certificate: Certificate
) -> None:
    """It answers, says hello, hello again and hangs up, before the protocol is there."""
    heard, answered, gone = threading.Event(), threading.Event(), threading.Event()

    def greet(sock: socket.socket) -> None:
        head, _ = read_head(sock)
        heard.set()
        sock.sendall(accept(head, Policy()).response + b"hello")
        if slow:
            answered.wait(PATIENCE)
        sock.sendall(b", hello")
        if isinstance(sock, ssl.SSLSocket):
            sock.unwrap().shutdown(socket.SHUT_RDWR)
        else:
            sock.shutdown(socket.SHUT_RDWR)
        gone.set()

    async def before() -> None:
        """Once the answer is there, wait until the peer is gone and everybody else noticed."""
        if heard.is_set():
            answered.set()
            await asyncio.to_thread(gone.wait, PATIENCE)
            for _ in range(20):
                await asyncio.sleep(0)

    async def run(url: str) -> Collector:
        dialling = dial_asyncio.dial(url, None, protocol, ssl=certificate.client if secure else None)
        _, collector = await (slowly(dialling, before) if slow else dialling)
        if slow:
            # All of it went through the reader, nothing came since.
            assert collector.events[-1] == "lost"
        await collector.until(lambda: "lost" in collector.events)
        return collector

    collector = served(greet, run, certificate.server if secure else None)
    assert collector.received == b"hello, hello"
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
