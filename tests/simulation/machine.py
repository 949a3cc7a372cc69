"""A simulated machine: its power, its kirschd, its link to the store, and a disk that outlives all three."""

import asyncio
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from pathlib import Path
from random import Random

from tests.simulation.client import SimulatedRegistry
from tests.simulation.flat import SimulatedNetwork
from tests.simulation.host import Host, Manner
from tests.simulation.network import Link
from tests.simulation.runtime import SimulatedRuntime
from tests.simulation.store import SimulatedStore

from kirsch.cluster.agent.cache import Cache
from kirsch.cluster.balancer.endpoints_server import EndpointsServer
from kirsch.cluster.model import Machine
from kirsch.cluster.node.node import Node
from kirsch.cluster.registry.lease import Heard
from kirsch.cluster.runtime.journal import Journal
from kirsch.cluster.secrets import FileSecrets
from kirsch.unit import UnitName

# Within so many seconds a service manager starts kirschd anew.
PROMPT = 2.0
NOWHERE = Path("/nonexistent")
# The kirschd that a task is of; tasks that it makes are its own too.
OWNER: ContextVar["Kirschd | None"] = ContextVar("OWNER", default=None)


class NoJournal(Journal):
    """Nobody prints anything."""

    def __init__(self) -> None: ...

    def close(self) -> None: ...


class NoSecrets(FileSecrets):
    """There are none."""

    def __init__(self, *store: object) -> None: ...

    def stored(self) -> Mapping[str, float]:
        return {}

    def version(self, name: str) -> float:
        return 0.0


class NoSocket(EndpointsServer):
    """Nobody asks."""

    async def start(self) -> None: ...

    async def close(self) -> None: ...


class DiskCache(Cache):
    """The cached schedule, on a simulated disk."""

    def __init__(self, disk: dict[str, str]) -> None:
        self.disk = disk
        super().__init__(NOWHERE)

    def read(self) -> str:
        if "cache" not in self.disk:
            raise FileNotFoundError
        return self.disk["cache"]

    def write(self, text: str) -> None:
        self.disk["cache"] = text


class HostHeard(Heard):
    """When the store was heard last, in this boot of a simulated machine."""

    def __init__(self, host: Host) -> None:
        self.host = host

    def read(self) -> float | None:
        return self.host.heard

    def write(self, at: float) -> None:
        self.host.heard = at


class Kirschd:
    """One run of kirschd, from its start to its end by kill -9."""

    def __init__(self, machine: "SimulatedMachine") -> None:
        self.machine = machine
        self.dead = False
        self.since = machine.loop.time()
        self.registry = SimulatedRegistry(machine.store, machine.link)
        self.runtime = SimulatedRuntime(machine.host, self._ordered)
        self.node = Node(
            self.registry,
            self.runtime,
            NoJournal(),
            machine.machine,
            NoSecrets,
            NOWHERE,
            clock=machine.loop.time,
            heard=HostHeard(machine.host),
            network=lambda registry, mirror: SimulatedNetwork(registry, mirror, machine.id, machine.host),
        )
        self.node.endpoints = NoSocket(self.node.mirror, NOWHERE)
        self.node.agent.work.cache = DiskCache(machine.disk)
        self.node.engine.wall = self.node.units.wall = machine.loop.time
        self.node.engine.calm = machine.calm
        self.tasks: dict[asyncio.Task[object], None] = {}

    def start(self) -> None:
        """Join the cluster."""
        token = OWNER.set(self)
        try:
            self.machine.loop.create_task(self.node.start(self._died))
        finally:
            OWNER.reset(token)

    def kill(self) -> None:
        """As kill -9: nothing it is about to do is done."""
        self.dead = True
        self.registry.die()
        self.runtime.detach()
        for task in list(self.tasks):
            task.cancel()

    def _ordered(self, verb: str, name: UnitName) -> None:
        self.machine.ordered(self.machine, verb, name)

    def _died(self) -> None:
        if not self.dead:
            self.machine.trouble(f"a part of kirschd ended on {self.machine.id}")


def own_tasks(loop: asyncio.AbstractEventLoop, coro: object, **values: object) -> "asyncio.Task[object]":
    """A task factory that notes whose each task is."""
    task: asyncio.Task[object] = asyncio.Task(coro, loop=loop, **values)  # type: ignore[arg-type]
    owner = OWNER.get()
    if owner is not None:
        owner.tasks[task] = None
        task.add_done_callback(lambda task: owner.tasks.pop(task, None))
    return task


class SimulatedMachine:
    """One machine of the cluster. `ordered` is told what its kirschd orders its host to do."""

    def __init__(
        self,
        machine: Machine,
        store: SimulatedStore,
        link: Link,
        random: Random,
        manner: Manner,
        calm: float | None,
    ) -> None:
        self.machine = machine
        self.store = store
        self.loop = store.loop
        self.link = link
        self.random = random
        self.manner = manner
        self.calm = calm
        self.disk: dict[str, str] = {}
        self.host = Host(self.loop, random, manner)
        self.kirschd: Kirschd | None = None
        self.powered = False
        # Since when no kirschd runs; and when one began last that had been missing for long.
        self._absent = 0.0
        self.neglected = float("-inf")
        self.ordered: Callable[[SimulatedMachine, str, UnitName], None] = lambda machine, verb, name: None
        self.trouble: Callable[[str], None] = lambda text: None

    @property
    def id(self) -> str:
        """Its machine id."""
        return self.machine.id

    def boot(self) -> None:
        """Switch it on: an empty host, and kirschd."""
        self.powered = True
        observer = self.host.observer
        self.host = Host(self.loop, self.random, self.manner)
        self.host.observer = observer
        self.start_kirschd()

    def crash(self) -> None:
        """Power off: all that runs on it is gone, its disk is not."""
        self.kill_kirschd()
        self.powered = False
        self.host.crash()

    def start_kirschd(self) -> None:
        """Start kirschd, if the machine is there and none runs."""
        if self.powered and self.kirschd is None:
            if self.loop.time() - self._absent > PROMPT:
                self.neglected = self.loop.time()
            self.kirschd = Kirschd(self)
            self.kirschd.start()

    def kill_kirschd(self) -> None:
        """kill -9; what runs on the machine runs on."""
        if self.kirschd is not None:
            self._absent = self.loop.time()
            self.kirschd.kill()
            self.kirschd = None

    async def renew_kirschd(self, seconds: float) -> None:
        """SIGTERM, and another one some seconds later."""
        if (kirschd := self.kirschd) is not None:
            await kirschd.node.close()
            if self.kirschd is kirschd:
                self.kill_kirschd()
                self.loop.call_later(seconds, self.start_kirschd)
