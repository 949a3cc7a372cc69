"""What the simulated store holds, seen at once and by nobody in the cluster."""

from collections.abc import Sequence

from kirsch.cluster.model import Assignment, Cluster, keys
from kirsch.cluster.registry.base import Change
from kirsch.cluster.registry.memory import MemoryRegistry
from kirsch.cluster.registry.mirror import Mirror
from kirsch.cluster.registry.snapshot import Snapshots
from kirsch.unit import UnitName


class Truth(Mirror):
    """A mirror that the store itself feeds."""

    def __init__(self) -> None:
        super().__init__(MemoryRegistry(), keys.ROOT)
        self._snapshots = Snapshots(self)

    def feed(self, changes: Sequence[Change]) -> None:
        """Take in one commit."""
        for change in changes:
            self._take_in(change)
        self.revision = changes[0].revision
        changed = frozenset(change.key for change in changes)
        for listener in self._listeners:
            listener(changed)

    def cluster(self) -> Cluster:
        """Everything, now."""
        return self._snapshots.now()

    def there(self, machine: str) -> bool:
        """Whether the store has a machine."""
        return keys.machine(machine) in self.entries

    def assignment(self, machine: str, name: UnitName) -> Assignment | None:
        """What the schedule has of a unit on a machine."""
        value = self.value(keys.schedule(machine, name.text))
        return Assignment.parse(value) if value is not None else None
