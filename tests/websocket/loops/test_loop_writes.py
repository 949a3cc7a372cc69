"""When what is sent on a loop goes out."""

import asyncio

from tests.websocket.looped import OPTIONS, PATIENCE, PLAIN, Echo, Raw, masked, on_loops, soon

from kirsch.websocket.asyncio import connect


@on_loops
class TestWrites:
    async def test_from_outside_go_out_though_nobody_iterates(self, serve, certificate):
        async def sleep(ws):
            there.put_nowait(ws)
            await soon(done.wait())

        for mine, theirs in ((None, None), (certificate.server, certificate.client)):
            there, done = asyncio.Queue(), asyncio.Event()
            async with (
                serve(sleep, ssl=mine, policy=PLAIN) as server,
                connect(server.url, options=OPTIONS, ssl=theirs) as ws,
            ):
                other = await soon(there.get())
                asyncio.get_running_loop().call_later(0.01, other.send, "by a timer")
                assert await ws.recv(PATIENCE) == "by a timer"
                await asyncio.create_task(self.say(other, "by a task"))
                assert await ws.recv(PATIENCE) == "by a task"
                asyncio.get_running_loop().call_soon(ws.send, "to the server")
                assert await other.recv(PATIENCE) == "to the server"
                done.set()

    async def say(self, ws, message):
        ws.send(message)

    async def test_many_are_gathered(self, serve):
        """A thousand messages of a task, or of one read, are one write."""

        async def burst(ws):
            async for _ in ws:
                for _ in range(1000):
                    ws.send(b"x" * 10)

        async with serve(burst, policy=PLAIN) as server, Raw(server) as raw:
            await raw.head()
            reads = await self.reads(raw, masked(b"go"), 12_000)
            # A lone answer is written at once, the others together.
            assert reads <= 4
        async with serve(Echo, policy=PLAIN) as server, Raw(server) as raw:
            await raw.head()
            assert await self.reads(raw, masked(b"x" * 10) * 1000, 12_000) <= 4

    async def reads(self, raw, request, size):
        raw.writer.write(request)
        count = 0
        while size:
            size -= len(await soon(raw.reader.read(1 << 18)))
            assert size >= 0
            count += 1
        return count

    async def test_a_lone_answer_goes_out_at_once(self, handled):
        """It is with the peer before the function waits again."""

        async def answer(ws):
            async for message in ws:
                ws.send(message)
                seen.append(ws.buffered)

        seen = []
        async with handled(answer) as raw:
            for _ in range(3):
                raw.writer.write(masked(b"hello"))
                assert await raw.frame() == (0x82, b"hello")
        assert seen == [0, 0, 0]
