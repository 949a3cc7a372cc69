"""One lease a machine: what hangs on it comes back when the lease was lost."""

import asyncio
from collections.abc import Coroutine

from kirsch.cluster.lease import LeasedKeys, MachineLease
from kirsch.cluster.mirror import Mirror
from kirsch.cluster.registry import MemoryRegistry


def run(scenario: Coroutine) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(10):
            await scenario

    asyncio.run(bounded())


async def until(mirror: Mirror, values: dict[str, str]) -> None:
    """Wait until the registry holds just that, as a watch tells it."""
    while {key: entry.value for key, entry in mirror.entries.items()} != values:
        await mirror.reached(mirror.revision + 1)


def test_keys_are_what_is_wanted_and_come_back_after_a_lost_lease():
    async def scenario() -> None:
        registry = MemoryRegistry()
        mirror, lease = Mirror(registry, "/"), MachineLease(registry)
        lease.RENEW = 0.05
        keys = LeasedKeys(registry, mirror, lease)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(part.run()) for part in (mirror, lease, keys)]
            keys.want({"/a": "1", "/b": "2"})
            await keys.settled()
            await until(mirror, {"/a": "1", "/b": "2"})
            keys.want({"/b": "3"})
            await until(mirror, {"/b": "3"})

            lost = await lease.id()
            await registry.revoke(lost)
            await until(mirror, {})
            await until(mirror, {"/b": "3"})
            assert await lease.id() != lost
            for task in tasks:
                task.cancel()
        await lease.revoke()
        assert (await registry.list("/")).entries == ()

    run(scenario())


def test_a_mirror_lists_anew_what_the_store_has_forgotten():
    async def scenario() -> None:
        registry = MemoryRegistry()
        mirror = Mirror(registry, "/x/")
        heard: list[frozenset[str]] = []
        mirror.listen(heard.append)
        await registry.put("/x/a", "1")
        await registry.put("/y/other", "1")
        await mirror.load()
        # More than the store remembers happens before the watch begins.
        for number in range(12_000):
            await registry.put("/x/n", str(number))
        await registry.delete("/x/a")
        task = asyncio.create_task(mirror.run())
        await until(mirror, {"/x/n": "11999"})
        assert heard[-1] == {"/x/a", "/x/n"}
        task.cancel()

    run(scenario())
