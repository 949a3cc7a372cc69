"""A client on a loop: with callbacks, in time, and coming back."""

import contextlib
import socket

import pytest
from tests.websocket.echoes import echo_async as echo
from tests.websocket.looped import OPTIONS, on_loops, recorder, soon

from kirsch.websocket.asyncio import connect, reconnect
from kirsch.websocket.core.application import WebSocket
from kirsch.websocket.core.backoff import Backoff
from kirsch.websocket.core.errors import HandshakeError


@on_loops
class TestClient:
    async def test_comes_back(self, serve):
        async def once(ws):
            ws.send("hello")

        seen = []
        async with serve(once) as server:
            clients = reconnect(server.url, backoff=Backoff(0.01, maximum=0.01), options=OPTIONS)
            async with contextlib.aclosing(clients):
                async for ws in clients:
                    seen += [message async for message in ws]
                    if len(seen) == 3:
                        break
        assert seen == ["hello"] * 3

    async def test_comes_back_until_its_attempts_are_over(self, serve):
        async with serve(WebSocket) as server:
            pass
        clients = reconnect(server.url, backoff=Backoff(0, attempts=3), options=OPTIONS)
        with pytest.raises(HandshakeError, match="nothing listens"):
            await anext(clients)

    async def test_does_not_come_back_to_what_is_not_there(self, serve):
        async with serve({"/": echo}) as server:
            with pytest.raises(HandshakeError) as refused:
                await anext(reconnect(f"{server.url}other", options=OPTIONS))
            assert refused.value.status == 404

    async def test_by_callbacks(self, serve):
        application, told = recorder()
        async with serve(echo) as server, connect(server.url, application, options=OPTIONS) as ws:
            assert await soon(told.get()) == ("opened", ws)
            ws.send("hello")
            assert await soon(told.get()) == ("message", "hello")
        assert await soon(told.get()) == ("closed", 1000, "")

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

    async def test_has_its_time(self):
        with socket.create_server(("127.0.0.1", 0)) as silent:
            url = "ws://{}:{}/".format(*silent.getsockname())
            with pytest.raises(HandshakeError, match=r"within 0\.05 seconds"):
                await connect(url, options=OPTIONS, timeout=0.05)
