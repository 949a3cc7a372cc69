"""How connections on a loop end, and who is told what."""

import asyncio

import pytest
from tests.websocket.looped import OPTIONS, closed, on_loops, recorder, soon

from kirsch.websocket.asyncio import connect


@on_loops
class TestEnd:
    async def test_by_an_exception_under_with(self, serve):
        async def fail():
            async with connect(server.url, options=OPTIONS):
                raise LookupError

        async def stay():
            async with connect(server.url, options=OPTIONS) as ws:
                there.set()
                await ws.recv()

        there = asyncio.Event()
        application, told = recorder()
        async with serve(application) as server:
            with pytest.raises(LookupError):
                await fail()
            staying = asyncio.create_task(stay())
            assert (await soon(told.get()))[0] == "opened"
            assert await soon(told.get()) == ("closed", 1011, "")
            assert (await soon(told.get()))[0] == "opened"
            await soon(there.wait())
            staying.cancel()
            assert await soon(told.get()) == ("closed", 1001, "")

    async def test_by_a_function_that_is_not_async(self, serve, caplog):
        def plain(ws):
            pass

        async with serve(plain) as server, connect(server.url, options=OPTIONS) as ws:
            assert (await closed(ws))[0] == 1011
        assert "on a loop the function is an `async def`" in caplog.text

    async def test_of_a_function_that_is_cancelled(self, serve):
        async def stop(ws):
            asyncio.current_task().cancel()
            await asyncio.sleep(0)

        async with serve(stop) as server, connect(server.url, options=OPTIONS) as ws:
            assert (await closed(ws))[0] == 1000
