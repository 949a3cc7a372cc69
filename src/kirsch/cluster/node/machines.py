"""Settings that people make on machines: metadata, over what a machine says of itself, and its marks.

It is kept under machine-settings/ID, apart from the machine, so that it outlasts the machine's absence.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from kirsch.cluster.model import NAME, Cluster, Machine, keys, to_json
from kirsch.cluster.model.certificates import Issued, revoked_machines
from kirsch.cluster.node.units import TRIES, Refused
from kirsch.cluster.registry.base import MAX_OPERATIONS, Delete, Put, Registry, Unchanged
from kirsch.cluster.registry.mirror import Mirror

THERE = (
    "machine {} is there, and uses its number: stop kirschd on it, or have it join again "
    "(`kirsch cluster add`) and leave"
)
MACHINE_ID = re.compile("[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class SettingsChange:
    """Change of one machine: metadata by key, where None takes it away, and its marks, where None
    leaves them. A drained machine is cordoned; one that is not cordoned any more is not drained either."""

    metadata: Mapping[str, str | None] = field(default_factory=dict)
    cordoned: bool | None = None
    drained: bool | None = None


def with_change(settings: str | None, change: SettingsChange) -> str:
    """machine-settings/ID as it is after a change. None stays in its metadata: it hides what the machine says
    of itself. Raises Refused (400) for the name that people know it by."""
    if NAME in change.metadata:
        raise Refused(400, f"{NAME} is what the machine is called, and cannot be set")
    values = json.loads(settings) if settings else {}
    if change.metadata:
        values["metadata"] = values.get("metadata", {}) | dict(change.metadata)
    if change.drained is not None:
        values["drained"] = change.drained
    if change.cordoned is not None:
        values["cordoned"] = change.cordoned
    if change.drained:
        values["cordoned"] = True
    elif change.cordoned is False:
        values["drained"] = False
    return to_json(values)


def find(name: str, cluster: Cluster) -> Machine:
    """The machine that a person means: by its id, what that begins with, its host's name, or its address.

    Raises Refused (404, 409). Pure."""
    machines = cluster.machines
    if name in machines:
        return machines[name]
    named = [m for m in machines.values() if name in (m.metadata.get(NAME), m.address)]
    found = named or [m for m in machines.values() if name and m.id.startswith(name)]
    if len(found) > 1:
        ids = ", ".join(sorted(m.id for m in found))
        raise Refused(409, f"{name} is more than one machine: {ids}; say which")
    if not found:
        raise Refused(404, f"there is no machine {name}; `kirsch list-machines` names those that are there")
    return found[0]


def known(name: str, cluster: Cluster, mirror: Mirror) -> str:
    """The id of the machine that a person means; of one that is away nothing else is known, so that is meant
    by its id, or what that begins with. Raises Refused (404, 409). Pure."""
    try:
        return find(name, cluster).id
    except Refused as error:
        if error.status != 404:
            raise
        if MACHINE_ID.fullmatch(name):
            return name
        kinds = (keys.MACHINE_SETTINGS, keys.MACHINE_NUMBERS)
        ids = {keys.last(entry.key) for kind in kinds for entry in mirror.below(kind)}
        found = [id for id in ids if name and id.startswith(name)]
        if len(found) != 1:
            raise
        return found[0]


class Machines:
    """The machines of a cluster, as people change them. For one event loop."""

    def __init__(self, registry: Registry, mirror: Mirror) -> None:
        self.registry = registry
        self.mirror = mirror

    async def change(self, changes: Mapping[str, SettingsChange]) -> None:
        """Do all of it or nothing, by machine id, also to machines that are away. Raises Refused,
        RegistryError."""
        if len(changes) > MAX_OPERATIONS:
            raise Refused(400, f"more than {MAX_OPERATIONS} machines at once: change them in parts")
        if not changes:
            return
        for _ in range(TRIES):
            puts, conditions = [], []
            for machine, change in changes.items():
                key = keys.machine_settings(machine)
                entry = self.mirror.entries.get(key)
                puts.append(Put(key, with_change(entry.value if entry else None, change)))
                conditions.append(Unchanged(key, entry.modified if entry else 0))
            known = self.mirror.revision
            revision = await self.registry.transact(puts, conditions)
            if revision is not None:
                await self.mirror.reached(revision)
                return
            await self.mirror.reached(known + 1)
        raise Refused(409, "others change the same machines at the same time; try again")

    async def forget(self, machine: str) -> None:
        """Give back what a machine had in the flat network, by its id: its number, and the addresses of
        Global units there. One that is there takes another number when its kirschd starts. Raises
        RegistryError, and Refused (409) for one that was removed and runs on."""
        issued = [Issued.parse(entry.value) for entry in self.mirror.below(keys.CERTIFICATES)]
        if machine in revoked_machines(issued) and keys.machine(machine) in self.mirror.entries:
            raise Refused(409, THERE.format(machine))
        gone = [keys.machine_number(machine)]
        gone += [e.key for e in self.mirror.below(keys.ADDRESSES) if keys.last(e.key) == machine]
        for start in range(0, len(gone), MAX_OPERATIONS):
            part = gone[start : start + MAX_OPERATIONS]
            revision = await self.registry.transact([Delete(key) for key in part])
            await self.mirror.reached(revision or 0)
