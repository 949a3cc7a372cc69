"""Machines that were lost a moment ago: which they are, for how long, and that somebody is told."""

import asyncio

from tests.simulation.loop import VirtualLoop

from kirsch.cluster.registry.lost_machines import GRACE, LostMachines


def in_virtual_time(work) -> None:
    loop = VirtualLoop()
    try:
        loop.run_until_complete(work)
    finally:
        loop.close()


def test_a_machine_is_lost_lately_until_its_time_is_over_and_then_that_is_told():
    async def go() -> None:
        told = asyncio.Event()
        lost_machines = LostMachines(told.set)
        lost_machines.lose(["a"])
        await asyncio.sleep(GRACE / 2)
        lost_machines.lose(["b"])
        assert lost_machines.lately() == {"a", "b"}
        assert not told.is_set()
        await told.wait()
        assert lost_machines.lately() == {"b"}
        told.clear()
        # Lost again: its time begins anew.
        lost_machines.lose(["a"])
        await told.wait()
        assert lost_machines.lately() == {"a"}

    in_virtual_time(go())


def test_what_is_seen_lost_is_so_since_it_was_first_seen():
    async def go() -> None:
        told = asyncio.Event()
        lost_machines = LostMachines(told.set)
        lost_machines.see({"a", "b"})
        await asyncio.sleep(GRACE / 2)
        lost_machines.see({"a"})
        assert lost_machines.lately() == {"a"}
        # It was back meanwhile: for it the time begins anew.
        lost_machines.see({"a", "b"})
        await asyncio.sleep(GRACE / 2 + 0.01)
        lost_machines.see({"a", "b"})
        assert lost_machines.lately() == {"b"}
        # And nobody waits for what is away for good.
        await asyncio.sleep(GRACE)
        lost_machines.see({"a", "b"})
        assert lost_machines.lately() == frozenset()

    in_virtual_time(go())
