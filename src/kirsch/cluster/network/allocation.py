"""Numbers of machines and addresses of units: asked of the registry, or given and written there.

Whoever gives one writes `keys.GIVEN` too, on condition that nobody did since he saw what is taken: so no two
machines give the same.
"""

import asyncio
from collections.abc import Callable

from kirsch.cluster.model import keys
from kirsch.cluster.network.subnet import Subnet, free_address, free_number
from kirsch.cluster.registry.base import Put, Registry, Unchanged
from kirsch.cluster.registry.mirror import Mirror


class Allocator:
    """Allocator of a cluster's machine numbers and unit addresses, on one machine. For one event loop."""

    def __init__(self, registry: Registry, mirror: Mirror, subnet: Subnet) -> None:
        self.registry = registry
        self.mirror = mirror
        self.subnet = subnet
        self._one_by_one = asyncio.Lock()

    async def number(self, machine: str) -> int:
        """A machine's number, for as long as it is one of the cluster. Raises RegistryError, SubnetError."""
        return int(await self._give(keys.machine_number(machine), self._free_number))

    async def address(self, name: str, slot: str) -> str:
        """The address of a unit's slot, for life. Raises RegistryError, SubnetError."""
        return await self._give(keys.address(name, slot), lambda: self._free(f"{name}/{slot}"))

    def _free_number(self) -> str:
        taken = {int(entry.value) for entry in self.mirror.below(keys.MACHINE_NUMBERS)}
        return str(free_number(self.subnet, taken))

    def _free(self, whose: str) -> str:
        return free_address(self.subnet, whose, {entry.value for entry in self.mirror.below(keys.ADDRESSES)})

    async def _give(self, key: str, free: Callable[[], str]) -> str:
        async with self._one_by_one:
            while True:
                known = self.mirror.revision
                if value := self.mirror.value(key):
                    return value
                if entry := await self.registry.get(key):
                    return entry.value
                given = self.mirror.entries.get(keys.GIVEN)
                value = free()
                revision = await self.registry.transact(
                    [Put(key, value), Put(keys.GIVEN, value)],
                    [Unchanged(key, 0), Unchanged(keys.GIVEN, given.modified if given else 0)],
                )
                # Also what it gave itself it must have seen before it gives another.
                await self.mirror.reached(revision if revision is not None else known + 1)
                if revision is not None:
                    return value
