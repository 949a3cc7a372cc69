"""Placement of units: filters that each give their reason, and an order among what is left. Pure.

fleet's rules (MachineID, MachineMetadata, MachineOf, Conflicts, Replaces; fewest units first, then the
machine's id), and kirsch's own: capabilities, reservations, published ports, homes, spread.
"""

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from kirsch.cluster.model import Cluster, Machine, Move, Unit
from kirsch.unit import Options, Published, UnitName
from kirsch.unit import matches as glob_matches


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why one machine cannot have a unit; `machine` is empty when no machine was asked."""

    machine: str
    reason: str
    # By the unit's own words, or what the machine is: neither room nor other units would change it.
    lasting: bool = False


# MachineMetadata=: for each key the values that it may have.
Demand = tuple[tuple[str, frozenset[str]], ...]

NO_MACHINE = Refusal("", "there is no machine")
# Addresses that stand for all of a machine's.
ANYWHERE: frozenset[str | None] = frozenset({None, "0.0.0.0", "::"})  # noqa: S104 - they are compared


@dataclass(slots=True)
class Held:
    """Units on one machine; what is asked of it for each unit anew is kept at hand.

    `choosy` are those of its `units` whose options can shut others out; `cpu` and `memory` are reserved.
    """

    units: dict[UnitName, Unit] = field(default_factory=dict)
    choosy: dict[UnitName, Unit] = field(default_factory=dict)
    cpu: float = 0.0
    memory: int = 0

    def put(self, unit: Unit) -> None:
        """Hold a unit that is not held yet."""
        options = unit.options
        self.units[unit.name] = unit
        if options.conflicts or options.replaces or options.published:
            self.choosy[unit.name] = unit
        self.cpu += options.cpu
        self.memory += options.memory

    def take(self, name: UnitName) -> None:
        """Hold a unit no more."""
        unit = self.units.pop(name)
        self.choosy.pop(name, None)
        self.cpu -= unit.options.cpu
        self.memory -= unit.options.memory


@dataclass(slots=True)
class Occupancy:
    """Places of units while a reconcile goes on: what each machine holds, changed by put() and take().
    `moves` are the units on their way, `disturbed` the machines that were given a unit which can send others
    away.

    Kept at hand besides: the machines that are there in the order of how many units they hold, and how often
    each service is where a key of the metadata has a value, for the keys that were asked for.
    """

    cluster: Cluster
    held: dict[str, Held] = field(default_factory=dict)
    places: dict[UnitName, set[str]] = field(default_factory=dict)
    moves: dict[UnitName, Move] = field(default_factory=dict)
    disturbed: set[str] = field(default_factory=set)
    _order: list[tuple[int, str]] = field(default_factory=list)
    _having: dict[Demand, frozenset[str]] = field(default_factory=dict)
    _values: dict[str, dict[str, str | None]] = field(default_factory=dict)
    _spread: dict[str, dict[str, dict[str | None, int]]] = field(default_factory=dict)

    @classmethod
    def of(cls, cluster: Cluster) -> "Occupancy":
        """Return the places that the schedule says, for units that still exist."""
        held = {machine: Held() for machine in cluster.machines}
        occupancy = cls(cluster, held, moves=dict(cluster.moves))
        for name, machines in cluster.schedule.items():
            if unit := cluster.units.get(name):
                for machine in machines:
                    held.setdefault(machine, Held()).put(unit)
                occupancy.places[name] = set(machines)
        occupancy._order = sorted((len(held[machine].units), machine) for machine in cluster.machines)
        return occupancy

    def put(self, unit: Unit, machine: str) -> None:
        """Put a unit on a machine that is there."""
        self.held[machine].put(unit)
        self.places.setdefault(unit.name, set()).add(machine)
        if unit.options.replaces:
            self.disturbed.add(machine)
        self._count(unit.name, machine, 1)

    def take(self, name: UnitName, machine: str) -> None:
        """Take a unit off a machine."""
        self.held[machine].take(name)
        self.places[name].discard(machine)
        if machine in self.cluster.machines:
            self._count(name, machine, -1)

    def by_load(self) -> Iterator[Machine]:
        """The machines that are there, those with fewest units first, then by their ids."""
        return (self.cluster.machines[machine] for _, machine in self._order)

    def having(self, demand: Demand) -> frozenset[str]:
        """The machines whose metadata is as MachineMetadata= wants it."""
        if demand not in self._having:
            machines = self.cluster.machines.values()
            self._having[demand] = frozenset(
                machine.id
                for machine in machines
                if all(machine.metadata.get(key) in values for key, values in demand)
            )
        return self._having[demand]

    def instances(self, service: str, key: str) -> Mapping[str | None, int]:
        """Count the instances of a service where the metadata's key has each of its values."""
        if key not in self._values:
            self._values[key] = {id: m.metadata.get(key) for id, m in self.cluster.machines.items()}
            self._spread[key] = {}
            for name, places in self.places.items():
                for machine in places & self.cluster.machines.keys():
                    self._count_value(key, name.service, machine, 1)
        return self._spread[key].get(service) or dict.fromkeys(self._values[key].values(), 0)

    def _count_value(self, key: str, service: str, machine: str, by: int) -> None:
        counts = self._spread[key].get(service)
        if counts is None:
            counts = self._spread[key][service] = dict.fromkeys(self._values[key].values(), 0)
        counts[self._values[key][machine]] += by

    def _count(self, name: UnitName, machine: str, by: int) -> None:
        now = len(self.held[machine].units)
        del self._order[bisect_left(self._order, (now - by, machine))]
        insort(self._order, (now, machine))
        for key in self._values:
            self._count_value(key, name.service, machine, by)

    def others(self, unit: Unit, machine: str) -> Iterable[Unit]:
        """The units that a machine holds beside this one."""
        return [held for name, held in self.held[machine].units.items() if name != unit.name]

    def choosy(self, unit: Unit, machine: str) -> Iterable[Unit]:
        """Return units there whose options can shut this one out."""
        if not self.held[machine].choosy:
            return ()
        return [held for name, held in self.held[machine].choosy.items() if name != unit.name]

    def replacing(self, unit: Unit) -> Iterator[Unit]:
        """Yield units that are on any machine and replace this one."""
        for name, machines in self.places.items():
            other = self.cluster.units.get(name)
            if machines and other and name != unit.name and matches(other.options.replaces, unit.name):
                yield other

    def free(self, unit: Unit, machine: Machine) -> tuple[float, int]:
        """The cores and bytes of a machine that nobody but this unit has reserved."""
        held = self.held[machine.id]
        own = unit.options if unit.name in held.units else Options()
        return machine.cpu - held.cpu + own.cpu, machine.memory - held.memory + own.memory

    def leaves(self, name: UnitName) -> Move | None:
        """The move of a unit that is still where it is to leave from."""
        move = self.moves.get(name)
        return move if move and move.source in self.machines_of(name) else None

    def machines_of(self, name: UnitName) -> set[str]:
        """The machines that hold a unit."""
        return self.places.get(name) or set()


Filter = Callable[[Unit, Machine, Occupancy], str | None]


def matches(globs: Iterable[str], name: UnitName) -> str | None:
    """The first of the globs that a unit's name matches."""
    return next((glob for glob in globs if glob_matches(glob, name.text)), None)


def capable(unit: Unit, machine: Machine, occupancy: Occupancy) -> str | None:
    """The machine's runtime runs units of this type."""
    if unit.name.type in machine.runs:
        return None
    return f"its {machine.runtime} runtime runs no .{unit.name.type} units"


def flat(unit: Unit, machine: Machine, occupancy: Occupancy) -> str | None:
    """A container that names no other network is in the flat one."""
    return machine.apart or None if unit.options.flat else None


def cordoned(unit: Unit, machine: Machine, occupancy: Occupancy) -> str | None:
    """Nobody has closed the machine to new units."""
    if not machine.cordoned or machine.id in occupancy.machines_of(unit.name):
        return None
    return "it is cordoned"


def machine_id(unit: Unit, machine: Machine, occupancy: Occupancy) -> str | None:
    """The unit is bound to this machine by MachineID=."""
    wanted = unit.options.machine_id
    return f"MachineID={wanted} names another machine" if wanted not in (None, machine.id) else None


def metadata(unit: Unit, machine: Machine, occupancy: Occupancy) -> str | None:
    """MachineMetadata=: any value of one key, all keys."""
    for key, values in unit.options.machine_metadata:
        has = machine.metadata.get(key)
        if has not in values:
            wanted = " or ".join(f"{key}={value}" for value in sorted(values))
            return f"MachineMetadata wants {wanted}, it has {f'{key}={has}' if has else f'no {key}'}"
    return None


def machine_of(unit: Unit, machine: Machine, occupancy: Occupancy) -> str | None:
    """MachineOf=: only where all its peers are."""
    for peer in unit.options.machine_of:
        places = occupancy.machines_of(UnitName.parse(peer))
        if not places:
            return f"MachineOf={peer} is not scheduled anywhere"
        if machine.id not in places:
            return f"MachineOf={peer} is on another machine"
    return None


def conflicts(unit: Unit, machine: Machine, occupancy: Occupancy) -> str | None:
    """Conflicts=, in both directions."""
    for other in occupancy.others(unit, machine.id) if unit.options.conflicts else ():
        if glob := matches(unit.options.conflicts, other.name):
            return f"{other.name} is there and Conflicts={glob} forbids it"
    for other in occupancy.choosy(unit, machine.id):
        if glob := matches(other.options.conflicts, unit.name):
            return f"{other.name} is there and its Conflicts={glob} forbids this unit"
    return None


def replaced(unit: Unit, machine: Machine, occupancy: Occupancy) -> str | None:
    """A unit does not go back to where another one replaces it; of two that replace each other one runs."""
    for other in occupancy.replacing(unit) if unit.options.replaces else ():
        if matches(unit.options.replaces, other.name):
            return f"{other.name} and this unit replace each other, and {other.name} is scheduled"
    for other in occupancy.choosy(unit, machine.id):
        if glob := matches(other.options.replaces, unit.name):
            return f"{other.name} is there and its Replaces={glob} moved this unit away"
    return None


def home(unit: Unit, machine: Machine, occupancy: Occupancy) -> str | None:
    """Sticky=: only where its data is."""
    where = occupancy.cluster.homes.get(unit.name)
    if not unit.options.sticky or where in (None, machine.id) or occupancy.leaves(unit.name):
        return None
    return f"it is sticky and its home is {where}; a person can move it"


def ports(unit: Unit, machine: Machine, occupancy: Occupancy) -> str | None:
    """PublishPort=: a port of a machine is given once."""
    for other in occupancy.choosy(unit, machine.id) if unit.options.published else ():
        for port in other.options.published:
            if any(meet(port, wanted) for wanted in unit.options.published):
                return f"{other.name} publishes port {port.host}/{port.protocol} there"
    return None


def meet(one: Published, other: Published) -> bool:
    """True if two published ports cannot be had together; 0 is any that is free."""
    alike = (one.host, one.protocol) == (other.host, other.protocol) and one.host != 0
    return alike and (one.host_ip == other.host_ip or ANYWHERE & {one.host_ip, other.host_ip} != set())


def cpu(unit: Unit, machine: Machine, occupancy: Occupancy) -> str | None:
    """CPU=: no machine is over-reserved."""
    if not unit.options.cpu:
        return None
    free, _ = occupancy.free(unit, machine)
    # Cores are decimal fractions; a rounding error must not refuse the last one.
    return (
        None
        if unit.options.cpu <= free + 1e-9
        else f"CPU={unit.options.cpu:g} wanted, {round(free, 3):g} free"
    )


def memory(unit: Unit, machine: Machine, occupancy: Occupancy) -> str | None:
    """Memory=: no machine is over-reserved."""
    if not unit.options.memory:
        return None
    _, free = occupancy.free(unit, machine)
    mib = 1 << 20
    return (
        None
        if unit.options.memory <= free
        else f"Memory={unit.options.memory // mib}M wanted, {max(free, 0) // mib}M free"
    )


FILTERS: tuple[Filter, ...] = (
    capable,
    flat,
    cordoned,
    machine_id,
    metadata,
    machine_of,
    home,
    conflicts,
    replaced,
    ports,
    cpu,
    memory,
)


# Those that a unit's own words, or what a machine is, decide alone.
LASTING: tuple[Filter, ...] = (capable, flat, machine_id, metadata, machine_of, home)
# What most units are asked, on most machines.
OF_ANY: tuple[Filter, ...] = (capable, flat, cordoned)


def refusal(unit: Unit, machine: Machine, occupancy: Occupancy) -> str | None:
    """Why this machine cannot have the unit; None if it can."""
    alone = unit.undemanding and not occupancy.held[machine.id].choosy
    for check in OF_ANY if alone else FILTERS:
        if reason := check(unit, machine, occupancy):
            return reason
    return None


def destination(unit: Unit, machine: Machine, occupancy: Occupancy) -> str | None:
    """A unit that moves goes where it is sent."""
    move = occupancy.leaves(unit.name)
    if move is None:
        return None
    if machine.id == move.source:
        return "it is to leave this machine"
    return f"it is to move to {move.target}" if move.target not in ("", machine.id) else None


def place(unit: Unit, occupancy: Occupancy) -> str | tuple[Refusal, ...]:
    """The machine that a unit goes to, or why each machine refuses it."""
    machines = occupancy.cluster.machines
    if not machines:
        return (NO_MACHINE,)
    for machine in candidates(unit, occupancy):
        if not (destination(unit, machine, occupancy) or refusal(unit, machine, occupancy)):
            return machine.id
    found = (
        (id, destination(unit, m, occupancy) or refusal(unit, m, occupancy)) for id, m in machines.items()
    )
    return tuple(
        Refusal(id, reason, any(check(unit, machines[id], occupancy) for check in LASTING))
        for id, reason in sorted(found)
        if reason
    )


def candidates(unit: Unit, occupancy: Occupancy) -> Iterable[Machine]:
    """The machines that may be able to have a unit, best first: where what it Replaces is; the value of its
    Spread= key with fewest instances; fewest units; the machine's id. Of those left out it is known that they
    cannot."""
    options, machines = unit.options, occupancy.cluster.machines
    if options.machine_id is not None:
        return (machines[id] for id in (options.machine_id,) if id in machines)
    if options.machine_of:
        places = set.intersection(*(occupancy.machines_of(UnitName.parse(n)) for n in options.machine_of))
        return [machine for machine in occupancy.by_load() if machine.id in places]
    order = occupancy.by_load()
    if options.spread is not None:
        order = _by_spread(options.spread, unit.name.service, occupancy)
    if options.machine_metadata:
        having = occupancy.having(options.machine_metadata)
        order = (machine for machine in order if machine.id in having)
    if options.replaces:
        order = iter(sorted(order, key=lambda machine: not _replaces(unit, machine, occupancy)))
    return order


def _by_spread(key: str, service: str, occupancy: Occupancy) -> Iterator[Machine]:
    """Machines where the key's value has fewest instances first; found out as far as somebody asks."""
    counts = occupancy.instances(service, key)
    for level in sorted(set(counts.values())):
        for machine in occupancy.by_load():
            if counts[machine.metadata.get(key)] == level:
                yield machine


def _replaces(unit: Unit, machine: Machine, occupancy: Occupancy) -> bool:
    """True if a machine has what the unit Replaces."""
    return any(matches(unit.options.replaces, name) for name in occupancy.held[machine.id].units)
