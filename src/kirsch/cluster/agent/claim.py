"""A unit is this machine's to start once the store has that it is: whoever gets it next can see that."""

from dataclasses import replace

from kirsch.cluster.agent.report import STARTS
from kirsch.cluster.model import Assignment, keys
from kirsch.cluster.registry.base import LeaseLost, Unavailable, Unchanged
from kirsch.cluster.registry.lease import LeasedKeys, MachineLease
from kirsch.cluster.registry.mirror import Mirror
from kirsch.unit import UnitName


class Claims:
    """What one machine claims, by its id. For one event loop."""

    def __init__(self, machine: str, mirror: Mirror, lease: MachineLease, leased: LeasedKeys) -> None:
        self._machine = machine
        self._mirror = mirror
        self._lease = lease
        self._leased = leased

    async def make(self, name: UnitName, assignment: Assignment) -> bool:
        """Whether the unit is this machine's to start, as far as the store knows now."""
        entry = self._mirror.entries.get(keys.schedule(self._machine, name.text))
        if entry is None or Assignment.parse(entry.value) != assignment:
            return False
        key, state = keys.state(name.text, self._machine), replace(STARTS, hash=assignment.hash)
        try:
            granted = await self._leased.claim(key, state.to_json(), Unchanged(entry.key, entry.modified))
        except (LeaseLost, Unavailable):
            return False
        while not granted and self._mirror.entries.get(entry.key) == entry:
            # Something else is in the store than was seen here: it comes.
            await self._mirror.reached(self._mirror.revision + 1)
        # By the time the store has answered it may be another machine's, which waits for this one.
        return granted and self._lease.holds and self._mirror.entries.get(entry.key) == entry
