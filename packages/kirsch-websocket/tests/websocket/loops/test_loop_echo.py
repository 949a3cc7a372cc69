"""What goes to a server on a loop comes back: every size, many at once, both ways, pings."""

import asyncio
import contextlib
import os

import pytest
from tests.websocket.echoes import Echo
from tests.websocket.echoes import echo_async as echo
from tests.websocket.looped import (
    LARGE,
    LIMITS,
    OPTIONS,
    PATIENCE,
    PLAIN,
    SIZES,
    UNPACKED,
    Raw,
    masked,
    on_loops,
    soon,
)

from kirsch.websocket.asyncio import Connection, connect

of_sizes = pytest.mark.parametrize("sizes", [SIZES, pytest.param([LARGE], marks=pytest.mark.slow)], ids=len)


@on_loops
class TestEcho:
    @pytest.mark.parametrize("application", [Echo, echo], ids=["callbacks", "iteration"])
    @of_sizes
    async def test_of_every_size(self, serve, options, application, sizes):
        mine, theirs = options
        async with (
            serve(application, limits=LIMITS, **mine) as server,
            connect(server.url, options=UNPACKED, **theirs) as ws,
        ):
            for size in sizes:
                text, binary = "é" * (size // 2), os.urandom(size)
                ws.send(text)
                ws.send(binary)
                assert await ws.recv(PATIENCE) == text
                assert bytes(await ws.recv(PATIENCE)) == binary

    @pytest.mark.parametrize("application", [Echo, echo], ids=["callbacks", "iteration"])
    @of_sizes
    async def test_of_every_size_compressed(self, serve, application, sizes):
        async with (
            serve(application, limits=LIMITS) as server,
            connect(server.url, options=OPTIONS) as ws,
        ):
            for size in sizes:
                # It compresses well, and not beyond the limit.
                text = ("".join(f"{number:07x}" for number in range(512)) * (size // 3584 + 1))[:size]
                ws.send(text)
                ws.send(text.encode())
                assert await ws.recv(PATIENCE) == text
                assert bytes(await ws.recv(PATIENCE)) == text.encode()

    @pytest.mark.parametrize("application", [Echo, echo], ids=["callbacks", "iteration"])
    async def test_of_many_at_once(self, serve, options, application):
        mine, theirs = options
        async with (
            serve(application, **mine) as server,
            connect(server.url, options=UNPACKED, **theirs) as ws,
        ):
            numbers = [str(number) for number in range(3000)]
            for number in numbers:
                ws.send(number)
            assert [await ws.recv(PATIENCE) for _ in numbers] == numbers

    async def test_in_both_directions_at_once(self, serve, options):
        """Neither waits for the other: more than all buffers hold is on its way, both ways."""
        mine, theirs = options
        async with (
            serve(Echo, limits=LIMITS, policy=PLAIN, **mine) as server,
            connect(server.url, options=OPTIONS, **theirs) as ws,
        ):
            data = [os.urandom(2 << 20) for _ in range(7)]
            for message in data:
                ws.send(message)
            for message in data:
                assert bytes(await ws.recv(PATIENCE)) == message

    async def test_of_several_clients(self, serve):
        async with serve(echo) as server, contextlib.AsyncExitStack() as stack:
            opening = [connect(server.url, options=OPTIONS) for _ in range(50)]
            clients = [await stack.enter_async_context(client) for client in opening]
            for number, ws in enumerate(clients):
                ws.send(f"{number}" * 1000)
            for number, ws in enumerate(clients):
                assert await ws.recv(PATIENCE) == f"{number}" * 1000


@on_loops
class TestPing:
    async def test_is_answered_with_what_it_carried(self, serve):
        class Asking(Connection):
            def ponged(self, data):
                told.put_nowait(data)

        told = asyncio.Queue()
        async with serve(echo) as server, connect(server.url, Asking, options=OPTIONS) as ws:
            for data in (b"", b"x" * 125):
                ws.ping(data)
                assert await soon(told.get()) == data
            with pytest.raises(ValueError, match="125"):
                ws.ping(bytes(126))

    async def test_between_fragments(self, serve):
        async with serve(Echo) as server, Raw(server) as raw:
            await raw.head()
            raw.writer.write(masked(b"one", 0x02) + masked(b"there?", 0x89) + masked(b"two", 0x80))
            assert await raw.frame() == (0x8A, b"there?")
            assert await raw.frame() == (0x82, b"onetwo")
