"""A simulated machine's part of the flat network: it stands at once, and is in when the store says so."""

import asyncio
from collections.abc import Callable

from tests.simulation.host import Host

from kirsch.cluster.model import keys
from kirsch.cluster.network.allocation import Allocator
from kirsch.cluster.network.subnet import Subnet
from kirsch.cluster.registry.base import Registry, Unavailable
from kirsch.cluster.registry.mirror import Mirror

# Small, so that addresses are soon given again.
SUBNET = Subnet.parse("192.168.7.0/24")
RETRY = 0.5


class SimulatedNetwork:
    """A Network (see network.base); what it is made of is the host's, and outlives kirschd."""

    subnet = SUBNET
    unwatched = ""

    def __init__(self, registry: Registry, mirror: Mirror, machine: str, host: Host) -> None:
        self.mirror = mirror
        self.may_stay: Callable[[], bool] = lambda: False
        self.machine = machine
        self.host = host
        self.stands = False
        self.gateway = ""
        self._giver = Allocator(registry, mirror, SUBNET)
        self._listeners: list[Callable[[], None]] = []
        mirror.listen(self._take_notice)

    @property
    def apart(self) -> str:
        """Why no unit can be started in it; empty if one can."""
        return "" if self.stands and self.host.joined else "until its machine is in the flat network"

    def listen(self, listener: Callable[[], None]) -> None:
        """Call `listener` when `stands` or `apart` has changed."""
        self._listeners.append(listener)

    def announce(self, address: str) -> None:
        """Nobody remembers anything."""

    async def run(self) -> None:
        """Take a number."""
        await self.mirror.reached(1)
        while not self.gateway:
            try:
                self.gateway = SUBNET.gateway(await self._giver.number(self.machine))
            except Unavailable:
                await asyncio.sleep(RETRY)
        self.stands = True
        self._tell()
        await asyncio.get_running_loop().create_future()

    def _take_notice(self, changed: frozenset[str]) -> None:
        if keys.mesh(self.machine) in changed or keys.mesh(self.machine) in self.mirror.vanished:
            self._tell()

    def _tell(self) -> None:
        own = keys.mesh(self.machine)
        joined = own in self.mirror.entries or (own in self.mirror.vanished and self.may_stay())
        if self.host.joined and not joined:
            self.host.partings += 1
        self.host.joined = joined
        for listener in self._listeners:
            listener()
