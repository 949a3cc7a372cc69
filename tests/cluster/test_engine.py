"""The engine on a registry: one leads, writes what reconcile decides, and another takes over."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from kirsch.cluster.engine.engine import Engine
from kirsch.cluster.model import Assignment, Machine, Release, UnitRecord, keys
from kirsch.cluster.registry import Compacted, MemoryRegistry, Put, Unavailable
from kirsch.cluster.registry.base import Condition, Operation
from kirsch.cluster.registry.lease import LeasedKeys, MachineLease
from kirsch.cluster.registry.mirror import Mirror
from kirsch.cluster.registry.snapshot import Snapshots
from kirsch.cluster.registry.store import Store
from kirsch.unit import UnitFile


def run(scenario: Coroutine) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await scenario

    asyncio.run(bounded())


@dataclass
class Peer:
    """A machine of a cluster, without an agent."""

    id: str
    registry: MemoryRegistry
    mirror: Mirror
    lease: MachineLease
    tasks: list[asyncio.Task]

    def die(self) -> None:
        """Do nothing any more, as after kill -9: the lease has to run out."""
        for task in self.tasks:
            task.cancel()


@asynccontextmanager
async def cluster(
    *ids: str, ttl: float = 0.3, registry: type[MemoryRegistry] = MemoryRegistry
) -> AsyncIterator[list[Peer]]:
    """Machines that share a store."""
    store, peers = Store(), []
    for id in ids:
        client = registry(store)
        mirror, lease = Mirror(client, keys.ROOT), MachineLease(client)
        lease.TTL, lease.RENEW = ttl, ttl / 3
        leased = LeasedKeys(client, mirror, lease)
        leased.want({keys.machine(id): Machine(id, "10.0.0.1").to_json()})
        engine = Engine(client, mirror, Snapshots(mirror), lease, id)
        parts = [part.run() for part in (mirror, lease, leased, engine)]
        peers.append(Peer(id, client, mirror, lease, [asyncio.create_task(part) for part in parts]))
    try:
        yield peers
    finally:
        for peer in peers:
            peer.die()
            await asyncio.gather(*peer.tasks, return_exceptions=True)
            await peer.registry.close()


async def submit(registry: MemoryRegistry, *names: str) -> None:
    for name in names:
        file = UnitFile.parse(f"[Service]\nExecStart=sleep 1\n# {name}\n", name)
        record = UnitRecord(file.hash, "launched", 1)
        await registry.transact(
            [Put(keys.text(file.hash), file.text), Put(keys.unit(name), record.to_json())]
        )


async def scheduled(mirror: Mirror, condition) -> dict[str, str]:
    """Where each unit is, once that is as the condition wants it."""
    while True:
        pairs = (keys.pair(entry.key) for entry in mirror.below(keys.SCHEDULE))
        where = {name: machine for machine, name in pairs}
        if condition(where):
            return where
        await mirror.reached(mirror.revision + 1)


def test_what_is_wanted_is_scheduled_once_and_nothing_more_is_written():
    async def scenario() -> None:
        async with cluster("m1", "m2") as (one, two):
            for peer in (one, two):
                while len(list(peer.mirror.below(keys.MACHINES))) < 2:
                    await peer.mirror.reached(peer.mirror.revision + 1)
            await submit(one.registry, "a.service", "b.service", "c.service")
            where = await scheduled(two.mirror, lambda where: len(where) == 3)
            assert sorted(where.values()) in (["m1", "m1", "m2"], ["m1", "m2", "m2"])
            entry = next(two.mirror.below(keys.SCHEDULE))
            assert Assignment.parse(entry.value).desired == "launched"
            assert two.mirror.value(keys.LEADER) in ("m1", "m2")
            # Leases are renewed without a write: with nothing to do the store stands still.
            revision = (await one.registry.list(keys.ROOT)).revision
            await asyncio.sleep(3 * one.lease.RENEW)
            assert (await one.registry.list(keys.ROOT)).revision == revision

    run(scenario())


def test_another_takes_over_from_a_leader_that_died():
    async def scenario() -> None:
        async with cluster("m1", "m2") as peers:
            mirror = peers[0].mirror
            while mirror.value(keys.LEADER) is None or len(list(mirror.below(keys.MACHINES))) < 2:
                await mirror.reached(mirror.revision + 1)
            leader = next(peer for peer in peers if peer.id == mirror.value(keys.LEADER))
            other = next(peer for peer in peers if peer is not leader)
            leader.die()
            await submit(other.registry, "a.service", "b.service")
            where = await scheduled(
                other.mirror, lambda where: set(where.values()) == {other.id} and len(where) == 2
            )
            assert where == {"a.service": other.id, "b.service": other.id}
            assert other.mirror.value(keys.LEADER) == other.id

    run(scenario())


class Asked(MemoryRegistry):
    """A registry that counts how often its machine asks to lead."""

    asked = 0

    async def put(self, key, value, **values):
        self.asked += key == keys.LEADER
        return await super().put(key, value, **values)


def test_who_does_not_lead_asks_to_only_when_the_leader_changes():
    async def scenario() -> None:
        async with cluster("m1", "m2", ttl=10.0, registry=Asked) as peers:
            mirror = peers[0].mirror
            while mirror.value(keys.LEADER) is None or len(list(mirror.below(keys.MACHINES))) < 2:
                await mirror.reached(mirror.revision + 1)
            leader = next(peer for peer in peers if peer.id == mirror.value(keys.LEADER))
            other = next(peer for peer in peers if peer is not leader)
            for number in range(1, 21):
                await submit(other.registry, f"u{number}.service")
                await scheduled(other.mirror, lambda where, number=number: len(where) == number)
            assert other.registry.asked < 5

    run(scenario())


class Silent(MemoryRegistry):
    """A store that once does not answer a write of the schedule, which comes later. The rest is real."""

    late: tuple | None = None
    silent = False

    async def transact(self, operations, conditions=()):
        if self.silent and any(operation.key.startswith(keys.SCHEDULE) for operation in operations):
            self.silent, self.late = False, (operations, conditions)
            raise Unavailable("does not answer")
        return await super().transact(operations, conditions)


def test_what_a_leader_wrote_without_an_answer_does_not_count_in_its_next_term():
    async def scenario() -> None:
        async with cluster("m1", registry=Silent) as (one,):
            while one.mirror.value(keys.LEADER) is None:
                await one.mirror.reached(one.mirror.revision + 1)
            term = one.mirror.entries[keys.LEADER].created
            one.registry.silent = True
            await submit(one.registry, "a.service")
            await scheduled(one.mirror, lambda where: where == {"a.service": "m1"})
            assert one.mirror.entries[keys.LEADER].created > term
            assert await one.registry.transact(*one.registry.late) is None

    run(scenario())


class Forgetful(MemoryRegistry):
    """A store in which something else is wanted just before the first write of the schedule, and that has
    forgotten both when a watch asks for them. The rest is real."""

    forgets = wrote = False

    async def transact(self, operations, conditions=()):
        if not self.wrote and any(operation.key.startswith(keys.SCHEDULE) for operation in operations):
            self.wrote = self.forgets = True
            await submit(self, "b.service")
        return await super().transact(operations, conditions)

    async def watch(self, prefix, from_revision):
        async for changes in super().watch(prefix, from_revision):
            if self.forgets:
                self.forgets = False
                raise Compacted
            yield changes


def test_what_a_listing_shows_beside_a_leaders_own_write_is_decided_upon():
    async def scenario() -> None:
        async with cluster("m1", registry=Forgetful) as (one,):
            await submit(one.registry, "a.service")
            await scheduled(one.mirror, lambda where: where.keys() == {"a.service", "b.service"})
            assert not one.registry.forgets

    run(scenario())


def test_a_machine_leads_only_once_the_store_has_it_again():
    async def scenario() -> None:
        async with cluster("m1") as (one,):
            await submit(one.registry, "a.service")
            await scheduled(one.mirror, lambda where: where == {"a.service": "m1"})
            heard: list[tuple[bool, bool]] = []
            one.mirror.listen(
                lambda changed: heard.append(
                    (keys.LEADER in one.mirror.entries, keys.machine("m1") in one.mirror.entries)
                )
            )
            left = one.mirror.entries[keys.schedule("m1", "a.service")].modified
            await one.registry.revoke(await one.lease.id())
            while heard[-1:] != [(True, True)]:
                await one.mirror.reached(one.mirror.revision + 1)
            assert (True, False) not in heard
            # Nor does it take its units away from itself.
            assert one.mirror.entries[keys.schedule("m1", "a.service")].modified == left

    run(scenario())


def test_a_leader_whose_lease_was_lost_writes_nothing_more():
    async def scenario() -> None:
        async with cluster("m1") as (one,):
            await submit(one.registry, "a.service")
            await scheduled(one.mirror, lambda where: where == {"a.service": "m1"})
            term = one.mirror.entries[keys.LEADER].created
            await one.registry.revoke(await one.lease.id())
            await submit(one.registry, "b.service")
            await scheduled(one.mirror, lambda where: set(where) == {"a.service", "b.service"})
            assert one.mirror.entries[keys.LEADER].created > term

    run(scenario())


class Steered(MemoryRegistry):
    """A registry in which a person calls release 1 of b off just before release 1 of a is written."""

    called_off = False

    async def transact(self, operations: Sequence[Operation], conditions: Sequence[Condition] = ()):
        mine = any(each.key == keys.release("a", 1) for each in operations)
        if mine and not self.called_off and conditions:
            self.called_off = True
            found = await self.get(keys.release("b", 1))
            off = replace(Release.parse(found.value), aborted=True)
            await super().transact([Put(keys.release("b", 1), off.to_json())], [])
        return await super().transact(operations, conditions)


def test_a_release_that_is_called_off_while_another_is_written_stays_so():
    async def scenario() -> None:
        async with cluster("m1", registry=Steered) as (one,):
            while not list(one.mirror.below(keys.MACHINES)):
                await one.mirror.reached(one.mirror.revision + 1)
            files = {name: UnitFile.parse(f"[Service]\nExecStart=true {name}\n", name) for name in "ab"}
            opened = [
                Release(name, 1, {f"{name}.service": file.hash}, start=(f"{name}.service",))
                for name, file in files.items()
            ]
            await one.registry.transact(
                [Put(keys.text(file.hash), file.text) for file in files.values()]
                + [Put(keys.release(each.application, 1), each.to_json()) for each in opened]
            )
            while True:
                other = Release.parse(one.mirror.value(keys.release("b", 1)) or opened[1].to_json())
                if other.over:
                    break
                await one.mirror.reached(one.mirror.revision + 1)
            assert (other.state, other.advanced) == ("aborted", ())

    run(scenario())
