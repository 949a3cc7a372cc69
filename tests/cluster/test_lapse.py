"""Machines that were lost a moment ago: which they are, for how long, and that somebody is told."""

import asyncio

from kirsch.cluster.lapse import GRACE, Lapses
from kirsch.cluster.simulation.loop import VirtualLoop


def in_virtual_time(work) -> None:
    loop = VirtualLoop()
    try:
        loop.run_until_complete(work)
    finally:
        loop.close()


def test_a_machine_is_lost_lately_until_its_time_is_over_and_then_that_is_told():
    async def go() -> None:
        told = asyncio.Event()
        lapses = Lapses(told.set)
        lapses.lose(["a"])
        await asyncio.sleep(GRACE / 2)
        lapses.lose(["b"])
        assert lapses.lately() == {"a", "b"}
        assert not told.is_set()
        await told.wait()
        assert lapses.lately() == {"b"}
        told.clear()
        # Lost again: its time begins anew.
        lapses.lose(["a"])
        await told.wait()
        assert lapses.lately() == {"a"}

    in_virtual_time(go())


def test_what_is_seen_lost_is_so_since_it_was_first_seen():
    async def go() -> None:
        told = asyncio.Event()
        lapses = Lapses(told.set)
        lapses.see({"a", "b"})
        await asyncio.sleep(GRACE / 2)
        lapses.see({"a"})
        assert lapses.lately() == {"a"}
        # It was back meanwhile: for it the time begins anew.
        lapses.see({"a", "b"})
        await asyncio.sleep(GRACE / 2 + 0.01)
        lapses.see({"a", "b"})
        assert lapses.lately() == {"b"}
        # And nobody waits for what is away for good.
        await asyncio.sleep(GRACE)
        lapses.see({"a", "b"})
        assert lapses.lately() == frozenset()

    in_virtual_time(go())
