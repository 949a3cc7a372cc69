"""The runtime of a simulated machine: one kirschd's hold on its host, durable."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence

from tests.simulation.host import Host

from kirsch.bus.process.command import Command
from kirsch.cluster.runtime.base import Prepared, RuntimeState, StateListener
from kirsch.unit import UnitFile, UnitName


class SimulatedRuntime:
    """A Runtime (see base). `ordered` is told of each order to start, stop or kill before it is followed."""

    durable = True

    def __init__(self, host: Host, ordered: Callable[[str, UnitName], None]) -> None:
        self.host = host
        self.ordered = ordered
        self.detached = False
        self._listeners: list[StateListener] = []
        host.listener = self._tell

    def check(self, name: UnitName, file: UnitFile) -> list[str]:
        """Everything runs."""
        return []

    def listen(self, listener: StateListener) -> None:
        """Call `listener` at each change of a unit's state."""
        self._listeners.append(listener)

    def states(self) -> Mapping[UnitName, RuntimeState]:
        """Every unit that is loaded."""
        return {name: held.state for name, held in self.host.units.items()}

    async def load(self, units: Sequence[Prepared]) -> None:
        """Make units known."""
        await self._attached(0.02)
        self.host.load(units)

    async def start(self, name: UnitName, mark: str = "") -> RuntimeState:
        """Start a loaded unit; returns when its job is done."""
        if self.detached:
            await self._attached(0)
        self.ordered("start", name)
        await self.host.start(name, mark)
        return self._state(name)

    async def stop(self, name: UnitName, mark: str = "") -> RuntimeState:
        """Stop a unit; returns when no process is left."""
        if self.detached:
            await self._attached(0)
        self.ordered("stop", name)
        await self.host.stop(name, mark)
        return self._state(name)

    async def kill(self, name: UnitName) -> None:
        """SIGKILL."""
        if self.detached:
            await self._attached(0)
        self.ordered("kill", name)
        self.host.kill(name)

    async def unload(self, names: Iterable[UnitName]) -> None:
        """Forget stopped units."""
        await self._attached(0.02)
        self.host.unload(names)

    async def reload(self, name: UnitName) -> RuntimeState:
        """Nothing here reads its configuration anew."""
        return self._state(name)

    async def run(self, name: UnitName, argv: Sequence[str], timeout: float) -> int:
        """A health check: 0 while the unit is active."""
        await self._attached(0.1)
        return 0 if self._state(name).active == "active" else 1

    async def context(self, unit: UnitName | Prepared) -> Command | None:
        """No process has any."""
        return None

    async def container_arguments(self, prepared: Prepared) -> tuple[str, ...]:
        """No unit is a container."""
        return ()

    async def close(self) -> None:
        """Let go of the units."""
        self.detach()

    def detach(self) -> None:
        """kirschd has ended: what it still asks for is not done."""
        if not self.detached:
            self.detached = True
            self.host.listener = lambda name, state: None

    async def _attached(self, seconds: float) -> None:
        """What the service manager takes for an answer, which a kirschd that has ended does not get."""
        if seconds:
            await asyncio.sleep(seconds * self.host.random.random())
        if self.detached:
            await asyncio.get_running_loop().create_future()

    def _state(self, name: UnitName) -> RuntimeState:
        held = self.host.units.get(name)
        return held.state if held else RuntimeState(load="not-found", message=f"{name} is not loaded")

    def _tell(self, name: UnitName, state: RuntimeState | None) -> None:
        for listener in self._listeners:
            listener(name, state)
