"""The inbox of whoever iterates on a loop: it is bounded, and `recv` takes from it."""

import asyncio
import contextlib
import os

import pytest
from tests.websocket.echoes import echo_async as echo
from tests.websocket.looped import (
    BYE,
    OPTIONS,
    PATIENCE,
    UNPACKED,
    closed,
    lines,
    masked,
    on_loops,
    soon,
    until_still,
)

from kirsch.websocket.asyncio import connect
from kirsch.websocket.core.application import WebSocket
from kirsch.websocket.core.limits import Limits


@on_loops
class TestInbox:
    async def test_reading_stops_while_it_is_full_and_goes_on(self, handled):
        go, begun = asyncio.Event(), asyncio.Event()
        seen = []
        there = []

        async def late(ws):
            there.append(ws)
            begun.set()
            await soon(go.wait())
            async for message in ws:
                seen.append(message)

        total = 2000
        async with handled(late, limits=Limits(inbox=100_000)) as raw:
            await soon(begun.wait())
            raw.writer.write(masked(bytes(10_000)) * total + BYE)
            count = await until_still(lambda: len(there[0]._inbox))
            # What is over it came with one read.
            assert 10 <= count <= 10 + (256 << 10) // 10_000 + 1
            assert raw.writer.transport.get_write_buffer_size() > 0
            go.set()
            assert (await raw.frame())[0] == 0x88
        assert seen == [bytes(10_000)] * total

    async def test_full_does_not_keep_the_answer_to_a_close_away(self, handled):
        go = asyncio.Event()

        async def close(ws):
            await soon(go.wait())
            ws.close(4000, "enough")
            assert await closed(ws) == (4000, "enough")
            done.set()

        done = asyncio.Event()
        async with handled(close, limits=Limits(inbox=100_000)) as raw:
            raw.writer.write(masked(bytes(10_000)) * 1000)
            await until_still(lambda: raw.writer.transport.get_write_buffer_size())
            go.set()
            assert await raw.frame() == (0x88, (4000).to_bytes(2) + b"enough")
            raw.writer.write(masked((4000).to_bytes(2) + b"enough", 0x88))
            async with asyncio.timeout(5):
                await raw.ended()
                await done.wait()

    async def test_full_does_not_keep_the_end_away_when_the_function_fails(self, handled, caplog):
        async def fail(ws):
            await soon(go.wait())
            for _ in range(len(ws._inbox)):
                await ws.recv()
            raise LookupError("of mine")

        go = asyncio.Event()
        async with handled(fail, limits=Limits(inbox=100_000)) as raw:
            raw.writer.write(masked(bytes(10_000)) * 1000)
            await until_still(lambda: raw.writer.transport.get_write_buffer_size())
            go.set()
            first, payload = await raw.frame()
            assert (first, payload[:2]) == (0x88, (1011).to_bytes(2))
            async with asyncio.timeout(5):
                await raw.writer.drain()
                raw.writer.write_eof()
                await raw.ended()
        assert [record.exc_info[0] for record in lines(caplog)] == [LookupError]

    @pytest.mark.parametrize("stream", [False, True], ids=["messages", "chunks"])
    async def test_what_comes_after_our_close_is_bounded(self, handled, stream):
        async def close(ws):
            ws.close()
            begun.set()
            there.append(ws)
            await soon(go.wait())

        go, begun, there = asyncio.Event(), asyncio.Event(), []
        async with handled(close, limits=Limits(inbox=100_000), stream=stream) as raw:
            await soon(begun.wait())
            raw.writer.write(masked(bytes(10_000)) * 1000 + BYE)
            assert (await raw.frame())[0] == 0x88
            assert await raw.ended()
            assert len(there[0]._inbox) <= 10 + (256 << 10) // 10_000 + 1
            go.set()

    async def test_full_of_what_came_compressed(self, serve):
        go, begun, there = asyncio.Event(), asyncio.Event(), []
        total = 300

        async def late(ws):
            there.append(ws)
            begun.set()
            await soon(go.wait())
            return [message async for message in ws]

        async with (
            serve(late, limits=Limits(inbox=100_000)) as server,
            connect(server.url, options=OPTIONS) as ws,
        ):
            await soon(begun.wait())
            for _ in range(total):
                ws.send(os.urandom(2000) * 2)
                await asyncio.sleep(0)
            assert 10 <= await until_still(lambda: len(there[0]._inbox)) < total
            go.set()
            ws.close()
            assert (await closed(ws))[0] == 1000


@on_loops
class TestRecv:
    async def test_in_time(self, serve):
        async with serve(echo) as server, connect(server.url, options=OPTIONS) as ws:
            for timeout in (0, 0.01):
                with pytest.raises(TimeoutError):
                    await ws.recv(timeout)
            ws.send("hello")
            assert await ws.recv(PATIENCE) == "hello"

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
