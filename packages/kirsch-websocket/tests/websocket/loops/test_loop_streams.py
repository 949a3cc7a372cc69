"""Messages in chunks on a loop, both ways."""

import io

from tests.websocket.looped import (
    LARGE,
    OPTIONS,
    PATIENCE,
    on_loops,
)

from kirsch.websocket.asyncio import connect
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
