"""How connections on a loop end, and who is told what."""

import asyncio
import contextlib

import pytest
from tests.websocket.looped import OPTIONS, Raw, closed, lines, masked, on_loops, recorder, soon

from kirsch.websocket.asyncio import connect
from kirsch.websocket.core.errors import Closed


@on_loops
class TestEnd:
    async def test_by_the_client(self, serve):
        application, told = recorder()
        async with serve(application) as server, connect(server.url, options=OPTIONS) as ws:
            there = (await soon(told.get()))[1]
            ws.close(4000, "enough")
            with pytest.raises(Closed):
                ws.send("more")
            assert await soon(told.get()) == ("closed", 4000, "enough")
            assert await closed(ws) == (4000, "enough")
            for send in (ws.send, there.send):
                with pytest.raises(Closed) as closing:
                    send("more")
                assert (closing.value.code, closing.value.reason) == (4000, "enough")
            with pytest.raises(Closed):
                await ws.drain()

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

    async def test_by_the_server(self, serve, certificate):
        for ssl in ((None, None), (certificate.server, certificate.client)):
            application, told = recorder(opened=lambda self: self.close(4001, "go"))
            async with (
                serve(application, ssl=ssl[0]) as server,
                connect(server.url, options=OPTIONS, ssl=ssl[1]) as ws,
            ):
                assert await closed(ws) == (4001, "go")
                assert await soon(told.get()) == ("closed", 4001, "go")

    async def test_of_a_function(self, serve):
        async def bye(ws):
            ws.send("bye")

        async with serve(bye) as server, connect(server.url, options=OPTIONS) as ws:
            assert [message async for message in ws] == ["bye"]

    async def test_of_a_function_that_is_cancelled(self, serve):
        async def stop(ws):
            asyncio.current_task().cancel()
            await asyncio.sleep(0)

        async with serve(stop) as server, connect(server.url, options=OPTIONS) as ws:
            assert (await closed(ws))[0] == 1000

    @pytest.mark.parametrize("code", [1000, 1001, None, 1008, 3000])
    async def test_of_an_iteration(self, handled, code):
        ends = asyncio.Queue()

        async def read(ws):
            try:
                async for message in ws:
                    ends.put_nowait(message)
                ends.put_nowait("normal")
            except Closed as closed:
                ends.put_nowait((closed.code, closed.reason))

        async with handled(read) as raw:
            payload = b"" if code is None else code.to_bytes(2) + b"why"
            raw.writer.write(masked(b"last") + masked(payload, 0x88))
            assert await raw.frame() == (0x88, payload)
            assert await soon(ends.get()) == b"last"
            assert await soon(ends.get()) == ("normal" if code in (1000, 1001, None) else (code, "why"))

    async def test_by_reset(self, serve, certificate):
        for ssl in ((None, None), (certificate.server, certificate.client)):
            application, told = recorder()
            async with serve(application, ssl=ssl[0]) as server, Raw(server, ssl=ssl[1]) as raw:
                await raw.head()
                await soon(told.get())
                raw.reset()
                assert await soon(told.get()) == ("closed", 1006, "")

    async def test_by_reset_at_once(self, serve):
        """The client is gone before the response, or just after it."""
        application, told = recorder()
        async with serve(application) as server:
            for _ in range(20):
                async with Raw(server) as raw:
                    await raw.writer.drain()
                    raw.reset()
            async with Raw(server) as raw:
                await raw.head()
        events = [told.get_nowait() for _ in range(told.qsize())]
        assert [event[0] for event in events].count("opened") == [event[0] for event in events].count(
            "closed"
        )

    @pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
    async def test_after_an_error_what_is_written_arrives(self, serve, secure, certificate):
        """The peer is still sending: the answer would be lost if the socket was closed at once."""
        application, told = recorder()
        async with serve(application, ssl=certificate.server if secure else None) as server:
            async with Raw(server, ssl=certificate.client if secure else None) as raw:
                await raw.head()
                raw.writer.write(b"\x82\x01x" + bytes(1 << 20))
                first, payload = await raw.frame()
                assert (first, payload[:2]) == (0x88, (1002).to_bytes(2))
                assert await raw.ended()
            await soon(told.get())
            assert (await soon(told.get()))[:2] == ("closed", 1002)

    @pytest.mark.parametrize("name", ["opened", "received_message"])
    async def test_by_an_exception(self, serve, caplog, name):
        def fail(self, *arguments):
            raise LookupError("of mine")

        application, _ = recorder(**{name: fail})
        async with serve(application) as server, connect(server.url, options=OPTIONS) as ws:
            with contextlib.suppress(Closed):
                ws.send("hello")
            assert (await closed(ws))[0] == 1011
        assert [record.exc_info[0] for record in lines(caplog)] == [LookupError]

    @pytest.mark.parametrize("first", [False, True], ids=["at once", "answered"])
    async def test_by_an_exception_of_a_function(self, serve, caplog, first):
        async def fail(ws):
            if first:
                ws.send(await ws.recv())
            raise LookupError("of mine")

        async with serve(fail) as server, connect(server.url, options=OPTIONS) as ws:
            with contextlib.suppress(Closed):
                ws.send("hello")
            assert (await closed(ws))[0] == 1011
        (record,) = lines(caplog)
        assert record.exc_info[0] is LookupError
        assert record.exc_info[2].tb_next is not None

    async def test_a_functions_own_error_after_the_peers_is_told(self, handled, caplog):
        async def fail(ws):
            with contextlib.suppress(Closed):
                await ws.recv()
            raise LookupError("of mine")

        async with handled(fail) as raw:
            raw.writer.write(b"\xff\xff" + bytes(12))
            assert (await raw.frame())[1][:2] == (1002).to_bytes(2)
        assert [record.exc_info and record.exc_info[0] for record in lines(caplog)] == [None, LookupError]

    async def test_an_exception_in_closed_is_logged(self, serve, caplog):
        def fail(self, code, reason):
            raise LookupError("of mine")

        application, _ = recorder(closed=fail)
        async with serve(application) as server, connect(server.url, options=OPTIONS):
            pass
        assert [record.exc_info[0] for record in lines(caplog)] == [LookupError]
