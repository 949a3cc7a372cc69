"""The inbox of whoever iterates on a loop: it is bounded, and `recv` takes from it."""

import asyncio
import contextlib

import pytest
from tests.websocket.echoes import echo_async as echo
from tests.websocket.looped import (
    OPTIONS,
    PATIENCE,
    UNPACKED,
    on_loops,
    soon,
)

from kirsch.websocket.asyncio import connect
from kirsch.websocket.core.application import WebSocket


@on_loops
class TestRecv:
    async def test_by_two_tasks_at_once(self, serve):
        async with serve(echo) as server, connect(server.url, options=OPTIONS) as ws:
            first = asyncio.create_task(ws.recv())
            await asyncio.sleep(0)
            with pytest.raises(RuntimeError, match="another task"):
                await ws.recv()
            ws.send("hello")
            assert await soon(first) == "hello"
            ws.send("again")
            assert await ws.recv(PATIENCE) == "again"

    async def test_cancelled_loses_nothing(self, serve):
        async with serve(echo) as server, connect(server.url, options=OPTIONS) as ws:
            seen = []
            for number in range(100):
                ws.send(str(number))
                receiving = asyncio.create_task(ws.recv())
                for _ in range(number % 7):
                    await asyncio.sleep(0)
                receiving.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    seen.append(await receiving)
            while len(seen) < 100:
                seen.append(await ws.recv(PATIENCE))
            assert seen == [str(number) for number in range(100)]

    async def test_cancelled_as_the_message_comes(self, serve):
        """The waiter is done, and its task is cancelled before it has run."""
        async with serve(WebSocket) as server, connect(server.url, options=UNPACKED) as ws:
            receiving = asyncio.create_task(ws.recv())
            await asyncio.sleep(0)
            ws._inbox.append("hello")
            ws.arrived(5)
            receiving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await receiving
            assert await ws.recv(0) == "hello"
