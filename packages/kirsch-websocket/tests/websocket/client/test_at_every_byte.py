"""Our clients, with a server that is gone at any byte of what it says: a line tells, and nothing is left."""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import pytest
from tests.process import Before

from kirsch.websocket import ClientOptions, Closed, HandshakeError, Limits, Policy
from kirsch.websocket.core.handshake import accept
from kirsch.websocket.core.headers import HeadReader, Request

PATIENCE = 20.0
OPTIONS = ClientOptions(proxy=None, deflate=None, limits=Limits(close_timeout=5))
# hello; a ping; "ab" in two fragments, a ping between them; goodbye.
SAID = b"\x81\x05hello\x89\x02hi\x01\x01a\x89\x00\x80\x01b\x88\x02\x03\xe8"
HELLO, BOTH = SAID.index(b"\x89\x02"), SAID.index(b"\x88\x02")
# As long as every response is.
HEAD = len(
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)

Heard = tuple[list[Any], int]
End = Callable[[socket.socket], None]


def shut(sock: socket.socket) -> None:
    """It says no more, and waits for the client to see that."""
    sock.shutdown(socket.SHUT_WR)
    with contextlib.suppress(ConnectionResetError):
        while sock.recv(1000):
            pass


def close(sock: socket.socket) -> None:
    """It is gone."""


def reset(sock: socket.socket) -> None:
    """It is gone, and so is what was on its way."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@contextlib.contextmanager
def server(sizes: range, end: End) -> Iterator[str]:
    """Says so many bytes to one client after the other."""

    def run() -> None:
        for size in sizes:
            sock, _ = listener.accept()
            with sock:
                sock.settimeout(PATIENCE)
                reader = HeadReader(Limits(), client=False)
                while not isinstance(request := reader.feed(sock.recv(65536)), Request):
                    pass
                response = accept(request, Policy(deflate=None)).response
                assert len(response) == HEAD
                with contextlib.suppress(ConnectionError):
                    sock.sendall((response + SAID)[:size])
                    end(sock)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=run)
        thread.start()
        yield f"ws://127.0.0.1:{listener.getsockname()[1]}/"
        thread.join(PATIENCE)
        assert not thread.is_alive()


def heard_blocking(connect: Any, url: str) -> Heard | HandshakeError:
    messages: list[Any] = []
    try:
        with connect(url, options=OPTIONS) as ws:
            try:
                messages.extend(ws)
            except Closed as closed:
                return messages, closed.code
    except HandshakeError as error:
        return error
    return messages, 1000


async def heard(connect: Any, url: str) -> Heard | HandshakeError:
    messages: list[Any] = []
    try:
        async with connect(url, options=OPTIONS) as ws:
            try:
                async for message in ws:
                    messages.append(message)
            except Closed as closed:
                return messages, closed.code
    except HandshakeError as error:
        return error
    return messages, 1000


def every(name: str, url: str, sizes: range) -> list[Heard | HandshakeError]:
    """What a client of each size hears."""
    connect = import_module(f"kirsch.websocket.{name}").connect
    if name != "asyncio":
        return [heard_blocking(connect, url) for _ in sizes]

    async def run() -> list[Heard | HandshakeError]:
        return [await heard(connect, url) for _ in sizes]

    return asyncio.run(run())


@pytest.mark.parametrize("name", ["threaded", "asyncio", "gevent"])
@pytest.mark.parametrize("end", [shut, close, reset])
def test_a_server_may_end(name: str, end: End, caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip({"threaded": "threading"}.get(name, name))
    sizes = range(HEAD + len(SAID) + 1)
    with server(range(HEAD + len(SAID), HEAD + len(SAID) + 1), shut) as url:
        # What all clients of a process share is there from here on.
        assert every(name, url, range(1)) == [(["hello", "ab"], 1000)]
    before = Before()
    with server(sizes, end) as url:
        found = every(name, url, sizes)
    before.assert_nothing_more()
    for size, came in zip(sizes, found, strict=True):
        said = size - HEAD
        if isinstance(came, HandshakeError):
            assert "\n" not in str(came)
            # What a server that resets has said may never come.
            assert said < 0 or end is reset
            continue
        messages, code = came
        expected = [] if said < HELLO else ["hello"] if said < BOTH else ["hello", "ab"]
        assert said >= 0
        if end is shut:
            assert messages == expected
            assert code == (1000 if said == len(SAID) else 1006)
        else:
            assert messages == expected[: len(messages)]
            assert code in (1000, 1006)
    assert [record.getMessage() for record in caplog.records if record.exc_info] == []
