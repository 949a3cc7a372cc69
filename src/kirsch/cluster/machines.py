"""What people set on machines, written down: metadata, over what a machine says of itself.

It is kept under machine-settings/ID, apart from the machine, so that it outlasts the machine's absence.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from kirsch.cluster import keys
from kirsch.cluster.mirror import Mirror
from kirsch.cluster.model import to_json
from kirsch.cluster.registry.base import MAX_OPERATIONS, Put, Registry, Unchanged
from kirsch.cluster.units import TRIES, Refused


@dataclass(frozen=True, slots=True)
class MetadataChange:
    """One key of one machine's metadata; a value of None takes it away."""

    machine: str
    key: str
    value: str | None


def with_metadata(settings: str | None, changes: Sequence[MetadataChange]) -> str:
    """machine-settings/ID as it is after changes, in their order. None stays in it: it hides what the
    machine says of itself."""
    values = json.loads(settings) if settings else {}
    values["metadata"] = values.get("metadata", {}) | {change.key: change.value for change in changes}
    return to_json(values)


class Machines:
    """The machines of a cluster, as people change them. For one event loop."""

    def __init__(self, registry: Registry, mirror: Mirror) -> None:
        self.registry = registry
        self.mirror = mirror

    async def change(self, changes: Sequence[MetadataChange]) -> None:
        """Do all of it or nothing, also to machines that are away. Raises Refused, RegistryError."""
        by_machine: dict[str, list[MetadataChange]] = {}
        for change in changes:
            by_machine.setdefault(change.machine, []).append(change)
        if len(by_machine) > MAX_OPERATIONS:
            raise Refused(400, f"more than {MAX_OPERATIONS} machines at once: change them in parts")
        if not by_machine:
            return
        for _ in range(TRIES):
            puts, conditions = [], []
            for machine, theirs in by_machine.items():
                key = keys.machine_settings(machine)
                entry = self.mirror.entries.get(key)
                puts.append(Put(key, with_metadata(entry.value if entry else None, theirs)))
                conditions.append(Unchanged(key, entry.modified if entry else 0))
            known = self.mirror.revision
            revision = await self.registry.transact(puts, conditions)
            if revision is not None:
                await self.mirror.reached(revision)
                return
            await self.mirror.reached(known + 1)
        raise Refused(409, "others change the same machines at the same time; try again")
