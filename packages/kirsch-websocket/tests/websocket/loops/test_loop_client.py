"""A client on a loop: with callbacks, in time, and coming back."""

import pytest
from tests.websocket.echoes import echo_async as echo
from tests.websocket.looped import OPTIONS, on_loops

from kirsch.websocket.asyncio import connect
from kirsch.websocket.core.application import WebSocket


@on_loops
class TestClient:
    async def test_is_none_for_a_with_that_does_not_wait(self, serve):
        async with serve(echo) as server:
            ws = await connect(server.url, WebSocket, options=OPTIONS)
            with pytest.raises(TypeError, match="async with"), ws:
                pass
            ws.close()
            assert await ws.wait_closed(20)

    async def test_is_no_iterator(self):
        with pytest.raises(TypeError, match="async for ws in reconnect"):
            async for _ in connect("ws://127.0.0.1:1/", options=OPTIONS):
                pass
