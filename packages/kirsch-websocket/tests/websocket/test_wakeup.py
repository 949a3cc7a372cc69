"""A task that iterates goes on where its messages come from: it is asyncio's task all the same."""

import asyncio
import contextlib
import contextvars

import pytest
from tests.websocket import wire
from tests.websocket.test_alike import PATIENCE

from kirsch.websocket import Closed
from kirsch.websocket.asyncio import connect, serve
from kirsch.websocket.loops.connection import Wakeup


def loops():
    yield "asyncio", asyncio.new_event_loop
    try:
        import uvloop
    except ImportError:
        return
    yield "uvloop", uvloop.new_event_loop


@pytest.fixture(params=[factory for _, factory in loops()], ids=[name for name, _ in loops()])
def run(request):
    """Runs a coroutine; in debug mode, and what nobody awaited or took an exception from fails."""

    def run(main):
        wrong = []
        with asyncio.Runner(debug=True, loop_factory=request.param) as runner:
            runner.get_loop().set_exception_handler(lambda loop, context: wrong.append(context))
            result = runner.run(asyncio.wait_for(main(), 3 * PATIENCE))
        assert wrong == []
        return result

    return run


async def connected(handler):
    """A server of `handler`, and a client of it: a socket, and what writes frames."""
    server = await serve(handler)
    reader, writer = await asyncio.open_connection(*server.address)
    writer.write(wire.REQUEST)
    await reader.readuntil(b"\r\n\r\n")
    return server, reader, writer


def masked(payload):
    return bytes((0x82, 0x80 | len(payload))) + bytes(4) + payload


def test_several_tasks_do_not_wait_at_once(run):
    async def main():
        async def handler(ws):
            first = asyncio.ensure_future(ws.recv())
            await asyncio.sleep(0)
            with pytest.raises(RuntimeError, match="another task waits"):
                await ws.recv()
            ws.send(await first)

        async with serve(handler) as server, connect(server.url) as ws:
            ws.send("one")
            assert await ws.recv(PATIENCE) == "one"

    run(main)


def test_waits_that_were_given_up_leave_nothing_behind(run):
    async def main():
        async def handler(ws):
            for _ in range(3):
                with pytest.raises(TimeoutError):
                    await ws.recv(0.001)
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(anext(ws), 0.001)
                waiting = asyncio.ensure_future(ws.recv())
                await asyncio.sleep(0)
                waiting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await waiting
            # Cancelled before it has begun to wait.
            waiting = asyncio.ensure_future(ws.recv())
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            ws.send("ready")
            async for message in ws:
                ws.send(message)

        async with serve(handler) as server, connect(server.url) as ws:
            assert await ws.recv(PATIENCE) == "ready"
            ws.send("one")
            assert await ws.recv(PATIENCE) == "one"

    run(main)


def test_a_message_and_a_cancellation_at_once(run):
    """Whichever is first: no message is lost, and the task ends."""

    async def main():
        async def handler(ws):
            got = []
            while len(got) < 20:
                waiting = asyncio.ensure_future(ws.recv())
                await asyncio.sleep(0.001 * (len(got) % 3))
                waiting.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    got.append(await waiting)
            ws.send(b"".join(got))

        async with serve(handler) as server, connect(server.url) as ws:
            for number in range(20):
                ws.send(bytes((number,)))
                await asyncio.sleep(0.001)
            assert await ws.recv(PATIENCE) == bytes(range(20))

    run(main)


def test_it_is_the_same_task_in_its_own_context(run):
    variable = contextvars.ContextVar("variable", default="nobody's")

    async def main():
        async def handler(ws):
            task = asyncio.current_task()
            variable.set("its own")
            async for _ in ws:
                assert asyncio.current_task() is task
                ws.send(variable.get())
                async with asyncio.TaskGroup() as group:
                    group.create_task(asyncio.sleep(0))

        async with serve(handler) as server, connect(server.url) as ws:
            for _ in range(3):
                ws.send("who?")
                assert await ws.recv(PATIENCE) == "its own"
            assert variable.get() == "nobody's"

    run(main)


def test_where_its_context_is_entered_already(run):
    async def main():
        context = contextvars.copy_context()
        ends = []

        async def wait(arrival):
            arrival.awaited = True
            await arrival
            ends.append(asyncio.current_task())

        arrival = Wakeup()
        task = asyncio.get_running_loop().create_task(wait(arrival), context=context)
        await asyncio.sleep(0)
        assert task._fut_waiter is arrival
        asyncio.get_running_loop().call_soon(arrival.wake, context=context)
        await task
        assert ends == [task]

    run(main)


def test_a_function_that_ends_the_connection_it_is_woken_by(run):
    async def main():
        ended = asyncio.Queue()

        async def handler(ws):
            async for _ in ws:
                ws.wire.abort()
            ended.put_nowait("never")

        async def told(ws):
            try:
                await handler(ws)
            except Closed as closed:
                ended.put_nowait(closed.code)

        server, reader, writer = await connected(told)
        writer.write(masked(b"one") + masked(b"two"))
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        async with asyncio.timeout(PATIENCE):
            assert await ended.get() == 1006
        writer.close()
        await server.close()

    run(main)
