"""When what is sent on a loop goes out."""

import asyncio
from contextvars import ContextVar

from tests.websocket.echoes import Echo
from tests.websocket.looped import OPTIONS, PATIENCE, PLAIN, Raw, masked, on_loops, soon

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

    async def test_answers_go_out_when_the_function_waits(self, handled):
        """For whatever it waits."""

        async def answer(ws):
            async for message in ws:
                ws.send(message)
                await soon(go.acquire())

        go = asyncio.Semaphore(0)
        async with handled(answer) as raw:
            for _ in range(3):
                raw.writer.write(masked(b"hello"))
                assert await raw.frame() == (0x82, b"hello")
                go.release()

    async def test_it_goes_on_where_it_stands(self, handled):
        """In its own task and context, whoever it is that reads."""

        async def answer(ws):
            task = asyncio.current_task()
            variable.set("its own")
            async for _message in ws:
                assert asyncio.current_task() is task
                ws.send(variable.get())

        variable = ContextVar("variable")
        async with handled(answer) as raw:
            raw.writer.write(masked(b"hello"))
            assert await raw.frame() == (0x81, b"its own")

    async def test_a_function_that_is_cancelled_while_it_waits(self, handled):
        async def answer(ws):
            task = asyncio.current_task()
            async for message in ws:
                ws.send(message)
                asyncio.get_running_loop().call_soon(task.cancel)

        async with handled(answer) as raw:
            raw.writer.write(masked(b"hello"))
            assert await raw.frame() == (0x82, b"hello")
            assert (await raw.frame())[0] == 0x88
