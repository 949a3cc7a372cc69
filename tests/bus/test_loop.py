import asyncio
import concurrent.futures
import threading

import pytest

from kirsch.bus import AsyncioPlugin


@pytest.fixture
def loop(bus) -> AsyncioPlugin:
    plugin = AsyncioPlugin(bus)
    plugin.subscribe()
    bus.start()
    return plugin


async def double(number: int) -> int:
    await asyncio.sleep(0)
    return 2 * number


def test_run_gives_the_result(loop):
    assert loop.run(double(21)) == 42


def test_run_raises_the_coroutines_exception(loop):
    async def fail() -> None:
        raise KeyError("lost")

    with pytest.raises(KeyError, match="lost"):
        loop.run(fail())


def test_a_timeout_cancels(loop):
    cancelled = threading.Event()

    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    with pytest.raises(TimeoutError, match=r"within 0\.05 s"):
        loop.run(wait(), timeout=0.05)
    assert cancelled.wait(10)


def test_a_timeout_of_the_coroutine_is_its_own(loop):
    async def late() -> None:
        raise TimeoutError("mine")

    with pytest.raises(TimeoutError, match="mine"):
        loop.run(late(), timeout=10)


def test_submit_gives_a_future(loop):
    assert loop.submit(double(4)).result(10) == 8


def test_many_threads_share_the_loop(loop):
    with concurrent.futures.ThreadPoolExecutor(10) as pool:
        assert list(pool.map(lambda number: loop.run(double(number)), range(100))) == list(range(0, 200, 2))


def test_run_in_the_loops_own_thread_says_what_to_do(loop):
    async def outer() -> None:
        loop.run(double(1))

    with pytest.raises(RuntimeError, match="await instead"):
        loop.run(outer())


def test_before_the_start_there_is_no_loop(bus):
    with pytest.raises(RuntimeError, match="start the bus first"):
        AsyncioPlugin(bus).run(double(1))


def test_stop_cancels_tasks_closes_generators_and_the_loop(bus, loop):
    ended = []

    async def generate():
        try:
            yield 1
        finally:
            ended.append("generator")

    async def task() -> None:
        generator = generate()
        await anext(generator)
        loop.kept = generator
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("task")

    future = loop.submit(task())
    inner = loop.loop
    bus.stop()
    assert inner.is_closed()
    assert sorted(ended) == ["generator", "task"]
    with pytest.raises(concurrent.futures.CancelledError):
        future.result(1)
    with pytest.raises(RuntimeError, match="start the bus first"):
        loop.submit(double(1))


def test_other_plugins_have_the_loop_from_their_start_to_their_stop(bus):
    plugin = AsyncioPlugin(bus)
    plugin.subscribe()
    results = []
    bus.subscribe("start", lambda: results.append(plugin.run(double(1))))
    bus.subscribe("stop", lambda: results.append(plugin.run(double(2))))
    bus.start()
    bus.stop()
    assert results == [2, 4]


def test_the_bus_can_start_again(bus, loop):
    bus.stop()
    bus.start()
    assert loop.run(double(3)) == 6


def test_no_submission_is_left_waiting_by_a_stop(bus, loop):
    futures = []
    submitting = threading.Event()

    def submit() -> None:
        try:
            while True:
                futures.append(loop.submit(double(1)))
                submitting.set()
        except RuntimeError:
            pass

    thread = threading.Thread(target=submit)
    thread.start()
    submitting.wait(10)
    bus.stop()
    thread.join(10)
    assert not concurrent.futures.wait(futures, 10).not_done
