"""Who reads slowly, or not at all, on a loop: its sender is told, and can wait."""

import asyncio

import pytest
from tests.websocket.looped import (
    PATIENCE,
    PLAIN,
    Raw,
    masked,
    on_loops,
    recorder,
    soon,
    until_slow,
    until_still,
)

from kirsch.websocket.core.application import WebSocket
from kirsch.websocket.core.errors import Closed, Slow
from kirsch.websocket.core.limits import Limits


@on_loops
class TestSlowReader:
    async def test_who_waits_is_told_of_the_end(self, serve, ssl):
        application, told = recorder()
        async with (
            serve(application, limits=Limits(queue=100_000), policy=PLAIN, ssl=ssl[0]) as server,
            Raw(server, ssl=ssl[1]) as raw,
        ):
            await raw.head()
            there = (await soon(told.get()))[1]
            raw.writer.transport.pause_reading()
            await until_slow(there)
            waiting = asyncio.create_task(there.drain())
            await asyncio.sleep(0)
            raw.reset()
            with pytest.raises(Closed):
                await soon(waiting)
            assert await soon(told.get()) == ("closed", 1006, "")

    async def test_is_not_read_and_can_close(self, serve, ssl):
        total = 3000
        ended = asyncio.Event()

        class Loud(WebSocket):
            count = most = 0
            slow = False

            def received_message(self, message):
                Loud.count += 1
                try:
                    self.send(bytes(10_000))
                except Slow:
                    Loud.slow = True
                Loud.most = max(Loud.most, self.buffered)

            def closed(self, code, reason):
                Loud.end = (code, reason)
                ended.set()

        limits = Limits(queue=1 << 20, ping_interval=None)
        async with (
            serve(Loud, limits=limits, policy=PLAIN, ssl=ssl[0]) as server,
            Raw(server, ssl=ssl[1]) as raw,
        ):
            await raw.head()
            raw.writer.write(masked(bytes(10_000)) * total + masked((4000).to_bytes(2) + b"bye", 0x88))
            # The server does not read it all, as nobody reads the answers.
            assert await until_still(lambda: Loud.count) < total
            for _ in range(total):
                assert await raw.frame() == (0x82, bytes(10_000))
            assert Loud.count == total
            assert not Loud.slow
            assert 0 < Loud.most <= limits.queue
            assert await raw.frame() == (0x88, (4000).to_bytes(2) + b"bye")
            await soon(ended.wait())
            assert Loud.end == (4000, "bye")

    async def test_is_closed_by_the_server_and_its_answer_is_read(self, serve, ssl):
        """The server had stopped to read; it must not take close_timeout."""
        application, told = recorder(received_message=lambda self, _: self.send(bytes(100_000)))
        async with (
            serve(application, limits=Limits(queue=1 << 20), policy=PLAIN, ssl=ssl[0]) as server,
            Raw(server, ssl=ssl[1]) as raw,
        ):
            await raw.head()
            there = (await soon(told.get()))[1]
            raw.writer.transport.pause_reading()
            size = 0
            while there.wire._reading:
                raw.writer.write(masked(b"x"))
                size += 1
                await asyncio.sleep(0)
            there.close(4000)
            raw.writer.transport.resume_reading()
            async with asyncio.timeout(PATIENCE):
                while (frame := await raw.frame())[0] != 0x88:
                    assert frame == (0x82, bytes(100_000))
            raw.writer.write(masked((4000).to_bytes(2), 0x88))
            async with asyncio.timeout(5):
                assert (await told.get()) == ("closed", 4000, "")
