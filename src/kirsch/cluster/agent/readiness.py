"""Which of a machine's units serve, and which of those are ready."""

import asyncio
from collections.abc import Callable, Sequence

from kirsch.cluster.agent import health
from kirsch.cluster.runtime.base import Runtime
from kirsch.unit import Options, UnitName


class Readiness:
    """Asks each serving unit's Health= in a task of its own."""

    def __init__(self, runtime: Runtime, changed: Callable[[], None]) -> None:
        self.runtime = runtime
        self.changed = changed
        self._tasks: dict[UnitName, asyncio.Task[None]] = {}
        self._ready: dict[UnitName, bool] = {}

    def serves(self, name: UnitName) -> bool:
        """Whether the unit is active, and not on its way out."""
        return name in self._tasks

    def ready(self, name: UnitName) -> bool:
        """Whether the unit's health check said so last."""
        return self._ready.get(name, False)

    def enter(self, name: UnitName, options: Options, address: str, ready: bool = False) -> None:
        """The unit became active, or is found so and was `ready`: ask after its health from now on."""
        if name not in self._tasks:
            self._ready[name] = ready
            self._tasks[name] = asyncio.create_task(
                self._follow(name, options, address), name=f"health {name}"
            )

    def leave(self, name: UnitName) -> None:
        """The unit is no longer active, or is about to stop."""
        self._ready.pop(name, None)
        if task := self._tasks.pop(name, None):
            task.cancel()

    async def _follow(self, name: UnitName, options: Options, address: str) -> None:
        async def run(command: Sequence[str], timeout: float) -> int:
            return await self.runtime.run(name, command, timeout)

        def tell(ready: bool) -> None:
            self._ready[name] = ready
            self.changed()

        asked = options.health
        boxed = self.runtime.durable and name.type == "container"
        costly = boxed and asked is not None and asked.kind == "command"
        pace = health.IN_CONTAINER if costly else health.PACE
        await health.follow(asked, address, run, tell, pace, self.ready(name))
