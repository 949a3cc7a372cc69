"""Parts of one kirschd, put together: registry, mirror, lease, engine, agent, units. For one event loop."""

import asyncio
import json
import logging
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from kirsch.cluster.agent import Agent
from kirsch.cluster.agent.allocation import Addresses, FlatAddresses, HostAddresses, LoopbackAddresses
from kirsch.cluster.agent.cache import Cache
from kirsch.cluster.agent.preparation import Preparation
from kirsch.cluster.balancer.endpoints_server import EndpointsServer
from kirsch.cluster.engine.engine import Engine
from kirsch.cluster.engine.status import statuses
from kirsch.cluster.model import Cluster, Machine, keys
from kirsch.cluster.network import addresses
from kirsch.cluster.network.base import Network
from kirsch.cluster.network.names.server import Names
from kirsch.cluster.node.figures import INTERVAL
from kirsch.cluster.node.machines import Machines
from kirsch.cluster.node.sampler import Sampler
from kirsch.cluster.node.units import Request, Units
from kirsch.cluster.registry.base import MAX_OPERATIONS, Registry
from kirsch.cluster.registry.lease import Heard, MachineLease, boot_clock
from kirsch.cluster.registry.mirror import Mirror
from kirsch.cluster.registry.snapshot import Snapshots
from kirsch.cluster.runtime.base import Runtime
from kirsch.cluster.runtime.journal import Journal
from kirsch.cluster.secrets import Secrets

log = logging.getLogger(__name__)

# File in an application's state folder: its units as they were before they were stopped.
LAST = "last.json"


class Node:
    """One machine of a cluster: started and stopped as a whole."""

    def __init__(
        self,
        registry: Registry,
        runtime: Runtime,
        journal: Journal,
        machine: Machine,
        secrets: Callable[[Registry, Mirror], Secrets],
        endpoints: Path,
        cache: Path | None = None,
        clock: Callable[[], float] = boot_clock,
        heard: Heard | None = None,
        network: Callable[[Registry, Mirror], Network] | None = None,
        names: Path | None = None,
        last: Path | None = None,
    ) -> None:
        self.registry = registry
        self.runtime = runtime
        self.journal = journal
        self.machine = machine
        self.mirror = Mirror(registry, keys.ROOT)
        self.snapshots = Snapshots(self.mirror)
        self.secrets = secrets(registry, self.mirror)
        self.lease = MachineLease(registry, clock, heard)
        self.mirror.store_was_away = lambda: self.lease.store_was_away
        self.engine = Engine(registry, self.mirror, self.snapshots, self.lease, machine.id)
        where: Addresses = LoopbackAddresses(registry, self.mirror)
        self.network = network(registry, self.mirror) if network else None
        if self.network is not None:
            where = FlatAddresses(registry, self.mirror, self.network.subnet, machine.id, machine.address)
        elif runtime.durable:
            where = HostAddresses(machine.address)
        self.names: Names | None = None
        if self.network is not None and names is not None:
            self.names = Names(self.mirror, self.snapshots, self.network, names)
        self.agent = Agent(
            registry,
            self.mirror,
            self.snapshots,
            self.lease,
            runtime,
            machine,
            Preparation(where, self.secrets, str(endpoints), self.names),
            Cache(cache, self.secrets.seal, self.secrets.unseal),
            self.network,
            self.names,
        )
        self.endpoints = EndpointsServer(self.mirror, endpoints, shared=runtime.durable)
        self.agent.let_go = self.endpoints.let_go
        self.units = Units(registry, self.mirror, self.snapshots, runtime.check, self.secrets.stored)
        self.machines = Machines(registry, self.mirror)
        self.sampler = Sampler(runtime, machine, self.cluster, (cache or last or endpoints).parent)
        self.endpoints.report_interval, self.endpoints.on_report = INTERVAL, self.sampler.report
        self._last = last
        self._tasks: list[asyncio.Task[None]] = []

    def cluster(self) -> Cluster:
        """Everything as it is known here, now."""
        return self.snapshots.now()

    def as_of(self) -> float | None:
        """Return the time (seconds since the epoch) that the cluster is known as of; None while the store
        answers."""
        return self.lease.as_of

    async def start(self, died: Callable[[], None]) -> None:
        """Join: from now on this machine leads if it can, and runs what it is given.

        `died` is called if a part of the node ends, which no part should. Units that cannot outlive their
        runtime are of no use without a store: then Unavailable is raised where that is away. A durable
        runtime's go on, and the node joins when the store is there.
        """
        if not self.runtime.durable:
            await self.registry.put(keys.LOOPBACK, addresses.block(str(self.endpoints.path)), unchanged=0)
            await self.mirror.load()
        await self.endpoints.start()
        parts = [self.mirror.run(), self.lease.run(), self.agent.run(), self.engine.run()]
        if self.network is not None:
            parts.append(self.network.run())
        if self.names is not None:
            parts.append(self.names.run())
        if isinstance(self.agent.addresses, FlatAddresses):
            parts.append(self.agent.addresses.run())
        for part in parts:
            self._tasks.append(asyncio.create_task(self._guard(part, died)))

    async def rest(self) -> None:
        """Say of every unit that it is not wanted any more: what `kirsch down` means."""
        self._keep_last()
        wanted = [u.name for u in self.cluster().units.values() if u.desired != "inactive"]
        for start in range(0, len(wanted), MAX_OPERATIONS):
            part = wanted[start : start + MAX_OPERATIONS]
            await self.units.change([Request(name, desired="inactive") for name in part])

    async def close(self) -> None:
        """Stop all units, users of others first, and leave. A durable runtime's units stay, and this machine
        stays in the cluster until its lease runs out: the next kirschd takes both up."""
        self._keep_last()
        await self.agent.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if not self.runtime.durable:
            await self.lease.revoke()
        await self.endpoints.close()
        await self.registry.close()
        self.journal.close()

    def _keep_last(self) -> None:
        """Write down, once, how all units are before they are stopped: for who asks when nobody is here."""
        path, self._last = self._last, None
        if path is None or not self._tasks:
            return
        lines = [line.to_dict() for line in statuses(self.cluster())]
        new = path.with_name(f"{path.name}.new")
        try:
            new.write_text(json.dumps({"at": time.time(), "units": lines}))
            new.replace(path)
        except OSError as error:
            log.warning("%s: cannot be written: %s", path, error.strerror)

    async def _guard(self, part: Coroutine[Any, Any, None], died: Callable[[], None]) -> None:
        try:
            await part
        except asyncio.CancelledError:
            raise
        except BaseException:
            log.critical("a part of kirschd failed, it cannot go on", exc_info=True)
        died()
