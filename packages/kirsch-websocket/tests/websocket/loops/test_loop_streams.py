"""Messages in chunks on a loop, both ways."""

import asyncio
import io

from tests.websocket.looped import (
    BYE,
    LARGE,
    OPTIONS,
    PATIENCE,
    closed,
    lines,
    masked,
    on_loops,
    soon,
    until_still,
)

from kirsch.websocket.asyncio import connect
from kirsch.websocket.core.errors import Closed
from kirsch.websocket.core.limits import Limits


@on_loops
class TestStreams:
    async def test_both_ways(self, serve):
        async def back(ws):
            async for message in ws:
                pieces = [piece async for piece in message]
                ws.send(iter(pieces) if message.text else io.BytesIO(b"".join(pieces)))

        limits = Limits(message=None)
        async with (
            serve(back, stream=True, limits=limits) as server,
            connect(server.url, options=OPTIONS, stream=True) as ws,
        ):
            for size in (0, 10, 200_000, LARGE // 4):
                text = "é" * size
                ws.send(text)
                message = await ws.recv(PATIENCE)
                # Of no item at all nobody knows which kind it is.
                assert message.text is bool(size)
                assert (b"" if not size else "").join([chunk async for chunk in message]) == (text or b"")
                ws.send(text.encode())
                message = await ws.recv(PATIENCE)
                assert not message.text
                assert b"".join([chunk async for chunk in message]) == text.encode()

    async def test_chunks_come_before_the_message_is_whole(self, handled):
        async def first(ws):
            async for message in ws:
                async for chunk in message:
                    ws.send(chunk)
                    break

        async with handled(first, stream=True) as raw:
            raw.writer.write(masked(b"one", 0x02))
            assert await raw.frame() == (0x82, b"one")
            # The rest of it is skipped.
            raw.writer.write(masked(b"two", 0x00) + masked(b"three", 0x80) + masked(b"four"))
            assert await raw.frame() == (0x82, b"four")

    async def test_much_is_skipped(self, handled):
        async def sizes(ws):
            async for message in ws:
                async for chunk in message:
                    ws.send(str(len(chunk)))
                    break

        limits = Limits(message=None, inbox=10_000)
        async with handled(sizes, stream=True, limits=limits) as raw:
            raw.writer.write(masked(b"x", 0x02) + masked(bytes(3_000_000), 0x80) + masked(b"four"))
            assert await raw.frame() == (0x81, b"1")
            assert await raw.frame() == (0x81, b"4")

    async def test_what_was_skipped_has_no_end(self, handled):
        async def read(ws):
            first = await ws.recv()
            ws.send("begun")
            await ws.recv()
            try:
                ws.send("".join([chunk async for chunk in first]))
            except RuntimeError as error:
                ws.send(str(error))

        async with handled(read, stream=True) as raw:
            raw.writer.write(masked(b"one", 0x01))
            assert await raw.frame() == (0x81, b"begun")
            raw.writer.write(masked(b"more", 0x80) + masked(b"two"))
            assert b"was dropped when the next one was asked for" in (await raw.frame())[1]

    async def test_of_a_message_that_does_not_end(self, handled):
        ends = asyncio.Queue()

        async def read(ws):
            async for message in ws:
                try:
                    async for chunk in message:
                        ends.put_nowait(chunk)
                except Closed as closed:
                    ends.put_nowait(closed.code)
                    raise

        async with handled(read, stream=True) as raw:
            raw.writer.write(masked(b"one", 0x02) + BYE)
            assert await soon(ends.get()) == b"one"
            assert await soon(ends.get()) == 1000

    async def test_reading_stops_while_nobody_takes_chunks(self, handled):
        go, there, begun = asyncio.Event(), [], asyncio.Event()

        async def late(ws):
            async for message in ws:
                there.append(message)
                begun.set()
                await soon(go.wait())
                ws.send(str(sum([len(chunk) async for chunk in message])))

        async with handled(late, stream=True, limits=Limits(message=None, inbox=100_000)) as raw:
            raw.writer.write(masked(bytes(LARGE)))
            await soon(begun.wait())
            waiting = await until_still(lambda: sum(map(len, there[0]._chunks)))
            assert waiting <= 100_000 + (256 << 10)
            go.set()
            assert await raw.frame() == (0x81, str(LARGE).encode())

    async def test_an_iterator_is_asked_as_there_is_room(self, handled):
        asked = 0

        def pieces():
            nonlocal asked
            while asked < 300:
                asked += 1
                yield bytes(100_000)

        async def send(ws):
            ws.send(pieces())
            ws.send("behind it")
            async for _ in ws:
                pass

        async with handled(send) as raw:
            raw.writer.transport.pause_reading()
            assert await until_still(lambda: asked) < 300
            raw.writer.transport.resume_reading()
            size, first = 0, 0
            while not first & 0x80:
                first, payload = await raw.frame()
                assert first & 0x0F == (0 if size else 2)
                size += len(payload)
            assert size == 30_000_000
            assert await raw.frame() == (0x81, b"behind it")

    async def test_an_iterator_that_fails(self, serve, caplog):
        def pieces():
            yield "one"
            yield "two"
            raise LookupError("of mine")

        async def send(ws):
            ws.send(pieces())
            async for _ in ws:
                pass

        async with serve(send) as server, connect(server.url, options=OPTIONS) as ws:
            assert (await closed(ws))[0] == 1011
        assert [record.exc_info[0] for record in lines(caplog) if record.exc_info] == [LookupError]
