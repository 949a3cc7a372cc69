"""One machine's part of the cluster, as its mirror has it: what is its own, what of others' matters to it."""

from dataclasses import replace

from kirsch.cluster.agent.plan import Assigned
from kirsch.cluster.model import keys, links
from kirsch.cluster.registry.lease import MachineLease
from kirsch.cluster.registry.lost_machines import LostMachines
from kirsch.cluster.registry.mirror import Mirror
from kirsch.cluster.registry.snapshot import Snapshots, read_name, read_unit
from kirsch.unit import UnitName


class Assignments:
    """One machine's part of the schedule. `lost_machines` are the machines that it sees lost."""

    def __init__(
        self,
        machine: str,
        mirror: Mirror,
        snapshots: Snapshots,
        lease: MachineLease,
        lost_machines: LostMachines,
    ) -> None:
        self.machine = machine
        self.mirror = mirror
        self.snapshots = snapshots
        self.lease = lease
        self.lost_machines = lost_machines
        self._read: dict[UnitName, Assigned] = {}
        self._read_at = -1

    @property
    def connected(self) -> bool:
        """True if the store has this machine, and this machine all that the store held when it took it in:
        what was decided while it was away is known."""
        entry = self.mirror.entries.get(keys.machine(self.machine))
        return entry is not None and entry.lease == self.lease.current and self.lease.holds

    def assigned(self) -> dict[UnitName, Assigned]:
        """This machine's part of the schedule. A text is gone as soon as nobody wants the unit like that any
        more, which is not for an agent to act upon: until the schedule says so the unit is what it was."""
        if self._read_at == self.mirror.revision:
            return self._read
        assigned, schedule = {}, self.snapshots.now().schedule
        for name in self._scheduled():
            assignment, known = schedule[name][self.machine], self._read.get(name)
            if (text := self.mirror.value(keys.text(assignment.hash))) is not None:
                assigned[name] = Assigned(*read_unit(name, text), assignment)
            elif known is not None and known.assignment.hash == assignment.hash:
                assigned[name] = replace(known, assignment=assignment)
        self._read, self._read_at = assigned, self.mirror.revision
        return assigned

    def unread(self) -> frozenset[UnitName]:
        """Return units that the schedule has here and of which the store has no text."""
        return frozenset(self._scheduled()) - self.assigned().keys()

    def elsewhere(self) -> dict[UnitName, str]:
        """Units of this machine that another one still has; where that is gone its lease took them along."""
        states = self.snapshots.now().states
        others = {name: states.get(name, {}).keys() - {self.machine} for name in self.assigned()}
        return {name: min(machines) for name, machines in others.items() if machines}

    def lose(self, changed: frozenset[str]) -> None:
        """Know of machines that were lost by these changes."""
        gone = (key for key in changed if key.startswith(keys.MACHINES) and key not in self.mirror.entries)
        self.lost_machines.lose(keys.last(key) for key in gone)

    def lapsed(self) -> str:
        """A machine that was lost a moment ago; empty for none."""
        return min(self.lost_machines.lately(), default="")

    def matters(self, key: str) -> bool:
        """True if a change has to do with this machine's units: most of what a large cluster does has not."""
        match keys.kind(key):
            case keys.SCHEDULE:
                return keys.pair(key).first == self.machine
            case keys.MACHINES:
                return keys.last(key) == self.machine
            case keys.SECRETS:
                used = (secret.name for unit in self._read.values() for secret in unit.options.secrets)
                return keys.last(key) in used
            case keys.MESH:
                return keys.last(key) == self.machine
            case keys.STATES | keys.ADDRESSES:
                return read_name(keys.pair(key).first) in self._read
            case keys.ENDPOINTS:
                name = read_name(keys.pair(key).first)
                linked = (link for unit in self._read.values() for link in unit.options.links)
                return name in self._read or any(links.targets(link, name) for link in linked)
        return False

    def _scheduled(self) -> list[UnitName]:
        entries = self.mirror.below(keys.schedule(self.machine, ""))
        return [read_name(keys.last(entry.key)) for entry in entries]
