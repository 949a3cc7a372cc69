"""Which address each unit has: asked of the registry, or given and written there, for life."""

import asyncio
import logging
from collections.abc import Iterable
from typing import Protocol

from kirsch.cluster.model import keys
from kirsch.cluster.network import addresses
from kirsch.cluster.network.allocation import Allocator
from kirsch.cluster.network.subnet import Subnet, SubnetError
from kirsch.cluster.registry.base import Registry, Unavailable
from kirsch.cluster.registry.mirror import Mirror
from kirsch.unit import Options, UnitName

log = logging.getLogger(__name__)

# Seconds after which the store is asked again for what it could not give.
RETRY = 1.0


class Addresses(Protocol):
    """Says where a machine's units listen and are reached."""

    def known(self, name: UnitName, options: Options) -> str:
        """The address at which a unit is reached; empty if it has none yet."""

    async def of(self, name: UnitName, options: Options) -> str:
        """The address that a unit is to bind. Raises RegistryError."""

    def flat(self, name: UnitName, options: Options) -> str | None:
        """A unit's own address in the flat network; empty if it is to be in none, None if it has none yet."""

    def want(self, units: Iterable[tuple[UnitName, Options]]) -> None:
        """Have these units given an address each; the mirror tells when they are."""


class HostAddresses:
    """Units that share their machine's address, and listen on all of its interfaces."""

    def __init__(self, address: str) -> None:
        self.address = address

    def known(self, name: UnitName, options: Options) -> str:
        """Return the machine's own address, whichever the unit."""
        return self.address

    async def of(self, name: UnitName, options: Options) -> str:
        """Return the address of every interface."""
        return "0.0.0.0"  # noqa: S104 - a unit on a machine of its own is to be reached

    def flat(self, name: UnitName, options: Options) -> str | None:
        """None in any: the cluster has no flat network."""
        return ""

    def want(self, units: Iterable[tuple[UnitName, Options]]) -> None:
        """Do nothing: no address is given here."""


class FlatAddresses(HostAddresses):
    """The same on a machine whose cluster has a flat network: containers have addresses of their own in it,
    for life. `machine` is its id."""

    def __init__(
        self, registry: Registry, mirror: Mirror, subnet: Subnet, machine: str, address: str
    ) -> None:
        super().__init__(address)
        self.machine = machine
        self.mirror = mirror
        self._giver = Allocator(registry, mirror, subnet)
        self._wanted: frozenset[tuple[str, str]] = frozenset()
        self._asked = asyncio.Event()

    def known(self, name: UnitName, options: Options) -> str:
        """The unit's own address, or its machine's."""
        return (self.flat(name, options) or "") if options.flat else self.address

    def flat(self, name: UnitName, options: Options) -> str | None:
        """The unit's own, as far as is known here."""
        return self.mirror.value(keys.address(name.text, self._slot(options))) if options.flat else ""

    def want(self, units: Iterable[tuple[UnitName, Options]]) -> None:
        """Have these units given an address each, as soon as the store takes it."""
        wanted = frozenset((name.text, self._slot(options)) for name, options in units)
        if wanted != self._wanted:
            self._wanted = wanted
            self._asked.set()

    async def run(self) -> None:
        """Give what is wanted, until cancelled."""
        problem = ""
        while True:
            await self._asked.wait()
            self._asked.clear()
            try:
                for name, slot in sorted(self._wanted):
                    await self._giver.address(name, slot)
                problem = ""
            except (Unavailable, SubnetError) as error:
                if isinstance(error, SubnetError) and problem != str(error):
                    log.error("%s", error)
                problem = str(error)
                self._asked.set()
                await asyncio.sleep(RETRY)

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
        """A unit's address: 127.0.0.1 for a process that publishes ports, else one of its own. Raises
        RegistryError."""
        if options.published and not options.boxed:
            self._known[name] = addresses.PUBLISHED
        else:
            async with self._one_by_one:
                self._known[name] = await self._own(name)
        return self._known[name]

    def flat(self, name: UnitName, options: Options) -> str | None:
        """None in any: on one machine the loopback network is flat enough."""
        return ""

    def want(self, units: Iterable[tuple[UnitName, Options]]) -> None:
        """Do nothing: no address is given here."""

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
