"""Which address each unit has: asked of the registry, or given and written there, for life."""

import asyncio
from typing import Protocol

from kirsch.cluster import addresses, keys
from kirsch.cluster.mirror import Mirror
from kirsch.cluster.network.giving import Giver
from kirsch.cluster.network.subnet import Subnet
from kirsch.cluster.registry.base import Registry
from kirsch.unit import Options, UnitName


class Addresses(Protocol):
    """Says where a machine's units listen and are reached."""

    def known(self, name: UnitName, options: Options) -> str:
        """The address at which a unit is reached; empty if it has none yet."""

    async def of(self, name: UnitName, options: Options) -> str:
        """The address that a unit is to bind. Raises RegistryError."""

    async def flat(self, name: UnitName, options: Options) -> str:
        """A unit's own address in the flat network; empty if it is not to be in one. Raises RegistryError,
        SubnetError."""


class HostAddresses:
    """Units that share their machine's address, and listen on all of its interfaces."""

    def __init__(self, address: str) -> None:
        self.address = address

    def known(self, name: UnitName, options: Options) -> str:
        """The machine's address."""
        return self.address

    async def of(self, name: UnitName, options: Options) -> str:
        """Every interface."""
        return "0.0.0.0"  # noqa: S104 - a unit on a machine of its own is to be reached

    async def flat(self, name: UnitName, options: Options) -> str:
        """None: the cluster has no flat network."""
        return ""


class FlatAddresses(HostAddresses):
    """The same on a machine whose cluster has a flat network: containers have addresses of their own in it,
    for life. `machine` is its id."""

    def __init__(
        self, registry: Registry, mirror: Mirror, subnet: Subnet, machine: str, address: str
    ) -> None:
        super().__init__(address)
        self.machine = machine
        self.mirror = mirror
        self._giver = Giver(registry, mirror, subnet)

    def known(self, name: UnitName, options: Options) -> str:
        """The unit's own address, or its machine's."""
        if not options.flat:
            return self.address
        return self.mirror.value(keys.address(name.text, self._slot(options))) or ""

    async def flat(self, name: UnitName, options: Options) -> str:
        """The unit's own, which it is given if it has none yet."""
        return await self._giver.address(name.text, self._slot(options)) if options.flat else ""

    def _slot(self, options: Options) -> str:
        return self.machine if options.is_global else keys.NO_SLOT


class LoopbackAddresses:
    """The loopback addresses of one machine's units."""

    def __init__(self, registry: Registry, mirror: Mirror) -> None:
        self.registry = registry
        self.mirror = mirror
        self._known: dict[UnitName, str] = {}
        self._one_by_one = asyncio.Lock()

    def known(self, name: UnitName, options: Options) -> str:
        """The address that was given last; empty if none was."""
        return self._known.get(name, "")

    async def of(self, name: UnitName, options: Options) -> str:
        """A unit's address: 127.0.0.1 if it publishes ports, else one of its own. Raises RegistryError."""
        if options.published:
            self._known[name] = addresses.PUBLISHED
        else:
            async with self._one_by_one:
                self._known[name] = await self._own(name)
        return self._known[name]

    async def flat(self, name: UnitName, options: Options) -> str:
        """None: on one machine the loopback network is flat enough."""
        return ""

    async def _own(self, name: UnitName) -> str:
        key = keys.address(name.text, keys.NO_SLOT)
        if entry := await self.registry.get(key):
            return entry.value
        first = await self.registry.get(keys.LOOPBACK)
        given = await self.registry.list(keys.ADDRESSES)
        taken = {entry.value for entry in given.entries}
        address = addresses.allocate(first.value if first else addresses.block(name.text), taken)
        await self.registry.put(key, address)
        return address
