"""Machines that were lost so lately that what stops by itself there may not have stopped yet."""

import asyncio
from collections.abc import Callable, Iterable, Set

# Seconds after a lease has run out in which what OnPartition=stop has killed may still be there.
GRACE = 2.0


class LostMachines:
    """Since when machines are lost. `over` is called once GRACE is over for one. For one event loop."""

    def __init__(self, over: Callable[[], object]) -> None:
        self._over = over
        self._since: dict[str, float] = {}

    def lose(self, machines: Iterable[str]) -> None:
        """Note that machines were lost just now."""
        loop = asyncio.get_running_loop()
        for machine in machines:
            self._since[machine] = loop.time()
            # A timer may fire a little early, and must find the time over.
            loop.call_later(GRACE + 0.01, self._over)

    def see(self, lost: Set[str]) -> None:
        """Set the machines that are lost: those that were not before are lost since now."""
        self._since = {machine: since for machine, since in self._since.items() if machine in lost}
        self.lose(lost - self._since.keys())

    def lately(self) -> frozenset[str]:
        """Return machines whose GRACE is not over."""
        now = asyncio.get_running_loop().time()
        return frozenset(machine for machine, since in self._since.items() if now - since < GRACE)
