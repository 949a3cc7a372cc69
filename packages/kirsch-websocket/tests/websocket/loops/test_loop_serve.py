"""A server on a loop: where it listens, what it serves, how it is closed."""

import asyncio
import contextlib
import gc
import os
import socket
import stat
import weakref

import pytest
from tests.websocket.echoes import Echo
from tests.websocket.echoes import echo_async as echo
from tests.websocket.looped import (
    OPTIONS,
    PATIENCE,
    Raw,
    closed,
    files,
    lines,
    on_loops,
    recorder,
    sockets,
    soon,
)

from kirsch.websocket.asyncio import connect
from kirsch.websocket.core.errors import HandshakeError
from kirsch.websocket.core.handshake import Policy
from kirsch.websocket.core.limits import Limits
from kirsch.websocket.core.opening import ClientOptions


@on_loops
class TestServe:
    async def test_by_path(self, serve, caplog):
        async with serve({"/class": Echo, "/function": echo}) as server:
            for path in ("class", "function"):
                async with connect(f"{server.url}{path}?query", options=OPTIONS) as ws:
                    ws.send("hello")
                    assert await ws.recv(PATIENCE) == "hello"
            with pytest.raises(HandshakeError) as refused:
                await connect(f"{server.url}other", options=OPTIONS)
            assert refused.value.status == 404
        assert len(lines(caplog)) == 1

    async def test_subprotocol_and_request(self, serve):
        application, told = recorder()
        options = ClientOptions(subprotocols=("one", "two"), proxy=None)
        async with (
            serve(application, policy=Policy(subprotocols=("two",))) as server,
            connect(f"{server.url}path?a=b", options=options) as ws,
        ):
            assert ws.subprotocol == "two"
            there = (await soon(told.get()))[1]
            assert there.subprotocol == "two"
            assert (there.request.path, there.request.query) == ("/path", "a=b")
            assert there.peer.startswith("127.0.0.1:")

    @pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", None, ""])
    async def test_hosts(self, serve, host):
        if host == "::1" and not socket.has_ipv6:
            pytest.skip("there is no IPv6")
        try:
            server = await serve(Echo, host)
        except OSError as error:
            assert host == "::1"
            pytest.skip(f"there is no IPv6: {error}")
        async with server:
            port = server.address[1]
            assert port
            assert {sock.getsockname()[1] for sock in server.sockets} == {port}
            for sock in server.sockets:
                there = sock.getsockname()[0]
                there = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(there, there)
                url = f"ws://[{there}]:{port}/" if ":" in there else f"ws://{there}:{port}/"
                async with connect(url, options=OPTIONS) as ws:
                    ws.send("hello")
                    assert await ws.recv(PATIENCE) == "hello"
            assert server.url == ("ws://[::1]:{}/" if host == "::1" else server.url).format(port)

    async def test_a_socket_that_is_bound(self, serve):
        sock = socket.socket()
        sock.bind(("127.0.0.1", 0))
        async with serve(Echo, sock=sock) as server:
            assert server.address == sock.getsockname()
            async with connect(server.url, options=OPTIONS) as ws:
                ws.send("hello")
                assert await ws.recv(PATIENCE) == "hello"
        assert sock.fileno() == -1

    async def test_where_one_listens_already(self, serve):
        async with serve(Echo) as server:
            before = files()
            with pytest.raises(OSError, match="in use"):
                await serve(Echo, port=server.address[1])
            assert files() == before

    async def test_a_unix_socket(self, serve, tmp_path):
        path = str(tmp_path / "socket")
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(path)
        # Nobody listens there any more.
        async with serve(Echo, unix=path) as server:
            assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
            assert server.address == path
            with pytest.raises(OSError, match="in use"):
                await serve(Echo, unix=path)
            async with connect(server.url, options=OPTIONS) as ws:
                ws.send("hello")
                assert await ws.recv(PATIENCE) == "hello"
        assert os.listdir(tmp_path) == []

    async def test_serve_forever_until_cancelled(self, serve):
        server = await serve(Echo)
        serving = asyncio.create_task(server.serve_forever())
        async with connect(server.url, options=OPTIONS) as ws:
            ws.send("hello")
            assert await ws.recv(PATIENCE) == "hello"
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
        with pytest.raises(HandshakeError, match="nothing listens"):
            await connect(server.url, options=OPTIONS)


@on_loops
class TestServerClose:
    async def test_ends_whatever_there_is(self, serve, ssl):
        application, told = recorder()
        before = sockets()
        async with serve(application, limits=Limits(close_timeout=0.2), ssl=ssl[0]) as server:
            async with (
                connect(server.url, options=OPTIONS, ssl=ssl[1]) as ws,
                Raw(server, ssl=ssl[1]) as raw,
            ):
                # One has not said all it has to, one nothing.
                reader, writer = await asyncio.open_connection(*server.address, ssl=ssl[1])
                writer.write(b"GET / HTTP/1.1\r\n")
                silent, other = await asyncio.open_connection(*server.address)
                await raw.head()
                for _ in range(2):
                    await soon(told.get())
                closing = asyncio.create_task(server.close(1001, "over"))
                assert await closed(ws) == (1001, "over")
                # This one does not answer.
                assert (await raw.frame())[0] == 0x88
                assert await raw.ended()
                await soon(closing)
                for end in (reader, silent):
                    with contextlib.suppress(ConnectionResetError):
                        assert await soon(end.read()) == b""
                for end in (writer, other):
                    end.close()
                    with contextlib.suppress(OSError):
                        await end.wait_closed()
                assert sorted([(await soon(told.get()))[1] for _ in range(2)]) == [1001, 1006]
                with pytest.raises(HandshakeError):
                    await connect(server.url, options=OPTIONS)
            assert sockets() == before

    async def test_waits_for_functions(self, serve):
        """Those that end when the connection has, and those that do not."""
        ended = []

        async def careful(ws):
            async for _ in ws:
                pass
            for _ in range(20):
                await asyncio.sleep(0)
            ended.append("careful")

        async def deaf(ws):
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                ended.append("deaf")

        paths = {"/careful": careful, "/deaf": deaf}
        async with (
            serve(paths, limits=Limits(close_timeout=0.1)) as server,
            contextlib.AsyncExitStack() as stack,
        ):
            for path in ("careful", "deaf"):
                await stack.enter_async_context(connect(f"{server.url}{path}", options=OPTIONS))
            tasks = asyncio.all_tasks()
            await soon(server.close())
            assert ended == ["careful", "deaf"]
            assert len(asyncio.all_tasks()) == len(tasks) - 2

    async def test_by_one_of_its_functions(self, serve):
        async def stop(ws):
            await ws.recv()
            await server.close()
            done.set()

        done = asyncio.Event()
        async with serve(stop) as server, connect(server.url, options=OPTIONS) as ws:
            ws.send("stop")
            assert (await closed(ws))[0] == 1001
            await soon(done.wait())


# Tornado keeps the last loop itself, until it makes another.
@pytest.mark.parametrize("provider", ["asyncio", "uvloop"], indirect=True)
def test_a_loop_that_is_done_with_is_kept_by_nothing(loop_factory, serve):
    async def run():
        async with serve(echo) as server, connect(server.url, options=OPTIONS) as ws:
            ws.send("hello")
            assert await ws.recv(PATIENCE) == "hello"

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        loop = weakref.ref(runner.get_loop())
        runner.run(run())
    del runner
    gc.collect()
    assert loop() is None
