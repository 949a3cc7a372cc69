"""Addresses and numbers are given once, whoever gives them at the same time; and come back."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from kirsch.cluster.agent.allocation import FlatAddresses
from kirsch.cluster.agent.plan import Assigned
from kirsch.cluster.agent.preparation import Preparation
from kirsch.cluster.engine.reconcile import GiveBack, reconcile
from kirsch.cluster.model import Assignment, Cluster, UnitState, keys
from kirsch.cluster.network.allocation import Allocator
from kirsch.cluster.network.subnet import Subnet, SubnetError
from kirsch.cluster.registry.memory import MemoryRegistry
from kirsch.cluster.registry.mirror import Mirror
from kirsch.cluster.registry.snapshot import Snapshots
from kirsch.cluster.secrets import FileSecrets
from kirsch.unit import Options, UnitFile, UnitName

SUBNET = Subnet.parse("192.168.7.0/24")
FLAT = Options(flat=True)


def run(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(work(), 20))


@asynccontextmanager
async def machines(count: int) -> AsyncIterator[tuple[MemoryRegistry, list[Mirror]]]:
    """One store, and each machine's picture of it."""
    registry = MemoryRegistry()
    mirrors = [Mirror(registry, keys.ROOT) for _ in range(count)]
    following = [asyncio.create_task(mirror.run()) for mirror in mirrors]
    await registry.put(keys.ROOT + "begun", "")
    for mirror in mirrors:
        await mirror.reached(1)
    try:
        yield registry, mirrors
    finally:
        for task in following:
            task.cancel()
        await asyncio.gather(*following, return_exceptions=True)
        await registry.close()


def test_machines_that_give_at_once_give_no_address_twice():
    async def work() -> None:
        async with machines(4) as (registry, mirrors):
            givers = [Allocator(registry, mirror, SUBNET) for mirror in mirrors]
            names = [f"u{number}.container" for number in range(60)]
            given = await asyncio.gather(
                *(givers[number % 4].address(name, "-") for number, name in enumerate(names)),
                *(givers[(number + 1) % 4].address(name, "-") for number, name in enumerate(names)),
            )
            assert given[:60] == given[60:]
            assert len(set(given)) == 60
            stored = await registry.list(keys.ADDRESSES)
            assert {entry.value for entry in stored.entries} == set(given)

    run(work)


def test_machines_that_come_at_once_have_different_numbers_and_keep_them():
    async def work() -> None:
        async with machines(5) as (registry, mirrors):
            givers = [Allocator(registry, mirror, SUBNET) for mirror in mirrors]
            numbers = await asyncio.gather(*(g.number(f"m{n}") for n, g in enumerate(givers)))
            assert sorted(numbers) == [1, 2, 3, 4, 5]
            assert await givers[0].number("m3") == numbers[3]
            for number in range(2):
                await givers[0].number(f"more{number}")
            with pytest.raises(SubnetError, match="room for 7 machines"):
                await givers[0].number("one too many")

    run(work)


def test_a_unit_is_known_by_its_machines_address_unless_it_is_in_the_flat_network():
    async def work() -> None:
        async with machines(1) as (registry, (mirror,)):
            addresses = FlatAddresses(registry, mirror, SUBNET, "m1", "10.0.0.1")
            running = asyncio.create_task(addresses.run())
            web, everywhere = UnitName.parse("web.container"), UnitName.parse("lb.container")
            plain = UnitName.parse("plain.service")
            assert (addresses.known(plain, Options()), addresses.flat(plain, Options())) == ("10.0.0.1", "")
            assert (addresses.known(web, FLAT), addresses.flat(web, FLAT)) == ("", None)
            of_all = Options(flat=True, is_global=True)
            addresses.want([(web, FLAT), (everywhere, of_all)])
            while addresses.flat(web, FLAT) is None or addresses.flat(everywhere, of_all) is None:
                await mirror.reached(mirror.revision + 1)
            assert addresses.known(web, FLAT) == mirror.value(keys.address("web.container", "-"))
            # A Global unit has one on each machine.
            assert addresses.known(everywhere, of_all) == mirror.value(keys.address("lb.container", "m1"))
            assert await addresses.of(web, FLAT) == "0.0.0.0"
            running.cancel()

    run(work)


def test_what_was_loaded_before_it_had_an_address_is_loaded_again_with_it(tmp_path: Path):
    async def work() -> None:
        async with machines(1) as (registry, (mirror,)):
            addresses = FlatAddresses(registry, mirror, SUBNET, "m1", "10.0.0.1")
            preparation = Preparation(addresses, FileSecrets(tmp_path), "")
            name, file = UnitName.parse("web.container"), UnitFile.parse("[Container]\nImage=x\n")
            assigned = {name: Assigned(file, Options.parse(file, name), Assignment(file.hash, "loaded"))}
            assert preparation.unaddressed(assigned) == {name}
            # A timer can start what is only loaded.
            assert (await preparation.of(name, assigned[name], (), ())).address == ""
            assert preparation.outdated(assigned, ()) == set()
            given = await Allocator(registry, mirror, SUBNET).address(name.text, "-")
            assert preparation.unaddressed(assigned) == set()
            assert preparation.outdated(assigned, ()) == {name}
            assert (await preparation.of(name, assigned[name], (), ())).address == given
            assert preparation.outdated(assigned, ()) == set()

    run(work)


def test_the_addresses_of_units_are_seen_in_the_cluster():
    async def work() -> None:
        async with machines(1) as (registry, (mirror,)):
            snapshots, name = Snapshots(mirror), UnitName.parse("web.container")
            for slot in ("m1", "m2"):
                await registry.put(keys.address(name.text, slot), f"192.168.7.{len(slot)}")
            revision = await registry.put(keys.ROOT + "other", "")
            assert revision
            await mirror.reached(revision)
            assert snapshots.now().addresses == {name: frozenset({"m1", "m2"})}
            await registry.delete(keys.address(name.text, "m1"))
            await mirror.reached(revision + 1)
            assert snapshots.now().addresses == {name: frozenset({"m2"})}
            await registry.delete(keys.address(name.text, "m2"))
            await mirror.reached(revision + 2)
            assert snapshots.now().addresses == {}

    run(work)


def test_an_address_comes_back_when_its_unit_is_destroyed_and_nothing_of_it_is_left():
    name = UnitName.parse("web.container")
    addresses = {name: frozenset({"m2", "m1"})}
    state = {name: {"m1": UnitState("loaded", "deactivating", "stop-sigterm", "")}}
    schedule = {name: {"m1": Assignment("", "launched")}}
    gone = [GiveBack(name, "m1"), GiveBack(name, "m2")]
    assert reconcile(Cluster(addresses=addresses)) == gone
    assert reconcile(Cluster(addresses=addresses, states=state)) == []
    assert not [d for d in reconcile(Cluster(addresses=addresses, schedule=schedule)) if d in gone]
