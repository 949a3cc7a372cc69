"""A lost machine's units start elsewhere within the lease + 2 s, if there is room and all else goes well."""

import asyncio
from collections.abc import Callable, Mapping

from tests.simulation.machine import SimulatedMachine
from tests.simulation.network import Weather
from tests.simulation.truth import Truth

from kirsch.cluster.engine.reconcile import Wait, reconcile
from kirsch.cluster.model import keys
from kirsch.cluster.registry.lost_machines import GRACE
from kirsch.cluster.registry.mirror import LONG_RETURN
from kirsch.unit import UnitName

# After the end of the lease. What OnPartition=stop has killed is waited for first, and what follows it comes
# then.
AFTER = 2.0
ORDER = 1.0
# So long a single message may take (Link.delay): the one that elects another leader, where that was lost too.
ELECTION = 1.01
# What was lost before is waited for so long.
UNANSWERED = 6.0
# A kirschd that began later has its own things to do.
BEGAN = 3.0


class Deadline:
    """Looks again when the time of a lost machine's units is over."""

    def __init__(
        self,
        truth: Truth,
        machines: Mapping[str, SimulatedMachine],
        loop: asyncio.AbstractEventLoop,
        broken: Callable[[str], None],
    ) -> None:
        self.truth = truth
        self.machines = machines
        self.loop = loop
        self.broken = broken
        # When something happened last that was not of the cluster's own doing.
        self.disturbed = 0.0
        self.checked = 0

    def lost(self, machine: str) -> None:
        """A machine's lease has run out."""
        cluster, began = self.truth.cluster(), self.loop.time()
        entry = self.truth.entries.get(keys.LEADER)
        if entry and not self._leads(self.machines[entry.value], entry.lease):
            # Somebody else has to be elected first, and has not even begun.
            return
        held = LONG_RETURN if any(map(self._was_apart, self.machines.values())) else 0.0
        for name, places in sorted(cluster.schedule.items()):
            unit = cluster.units.get(name)
            if unit is None or machine not in places or unit.options.sticky or unit.options.is_global:
                continue
            follows = unit.options.on_partition == "stop" or bool(unit.options.machine_of)
            until = (GRACE + ORDER if follows else AFTER) + (0.0 if entry else ELECTION) + held
            self.loop.call_later(until, self._look, name, machine, began)

    def _leads(self, machine: SimulatedMachine, lease: int) -> bool:
        """Whether a machine's kirschd is the one that was elected, and can be heard."""
        kirschd = machine.kirschd
        return kirschd is not None and kirschd.node.lease.current == lease and machine.link.up

    def _was_apart(self, machine: SimulatedMachine) -> bool:
        """Return True if a machine's kirschd, which may lead, holds lost machines for longer: the store was
        away for it until a moment ago."""
        return machine.kirschd is not None and machine.kirschd.node.lease.store_was_away

    def _look(self, name: UnitName, lost: str, began: float) -> None:
        cluster = self.truth.cluster()
        unit = cluster.units.get(name)
        wanted = unit is not None and unit.desired == "launched" and lost not in cluster.machines
        if not wanted or not self._calm(began):
            return
        self.checked += 1
        if any(self._has_it(machine, name) for machine in self.machines.values() if machine.id != lost):
            return
        places = cluster.schedule.get(name, {})
        if any((state := cluster.states.get(name, {}).get(m)) and state.message for m in places):
            return
        if not places and name in {d.unit for d in reconcile(cluster) if isinstance(d, Wait)}:
            return
        self.broken(f"{name} of {lost}, lost at {began:.3f}, was not started elsewhere")

    def _has_it(self, machine: SimulatedMachine, name: UnitName) -> bool:
        held = machine.host.units.get(name)
        return held is not None and bool(held.state.mark)

    def _calm(self, began: float) -> bool:
        """Whether nothing else was in the way, from a little before the loss until now."""
        there = self.truth.cluster().machines
        if self.disturbed > began - UNANSWERED or self.truth.value(keys.LEADER) not in there:
            return False
        for id, machine in self.machines.items():
            if id not in there and not machine.powered:
                continue
            kirschd = machine.kirschd
            if id not in there or kirschd is None or machine.link.weather != Weather():
                return False
            if kirschd.since > began - BEGAN or not machine.link.up:
                return False
            held = machine.host.units
            if any(machine.host.alive(name) and not self.truth.assignment(id, name) for name in held):
                return False
        return True
