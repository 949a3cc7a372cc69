"""Where a unit can be put: filters that each give their reason, and an order among what is left. Pure.

fleet's rules (MachineID, MachineMetadata, MachineOf, Conflicts, Replaces; fewest units first, then the
machine's id), and kirsch's own: capabilities, reservations, published ports, homes, spread.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from kirsch.cluster.model import Cluster, Machine, Move, Unit
from kirsch.unit import Options, UnitName
from kirsch.unit import matches as glob_matches


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why one machine cannot have a unit; `machine` is empty when no machine was asked."""

    machine: str
    reason: str


NO_MACHINE = Refusal("", "there is no machine")


@dataclass(slots=True)
class Held:
    """What one machine holds; what is asked of it for each unit anew is kept at hand.

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
    """Who is where while a reconcile goes on: what each machine holds, changed by put() and take(). `moves`
    are the units on their way."""

    cluster: Cluster
    held: dict[str, Held] = field(default_factory=dict)
    places: dict[UnitName, set[str]] = field(default_factory=dict)
    moves: dict[UnitName, Move] = field(default_factory=dict)

    @classmethod
    def of(cls, cluster: Cluster) -> "Occupancy":
        """As the schedule stands, for units that still exist."""
        held = {machine: Held() for machine in cluster.machines}
        occupancy = cls(cluster, held, moves=dict(cluster.moves))
        for name, machines in cluster.schedule.items():
            if unit := cluster.units.get(name):
                for machine in machines:
                    occupancy.put(unit, machine)
        return occupancy

    def put(self, unit: Unit, machine: str) -> None:
        """Put a unit on a machine."""
        self.held.setdefault(machine, Held()).put(unit)
        self.places.setdefault(unit.name, set()).add(machine)

    def take(self, name: UnitName, machine: str) -> None:
        """Take a unit off a machine."""
        self.held[machine].take(name)
        self.places[name].discard(machine)

    def others(self, unit: Unit, machine: str) -> Iterable[Unit]:
        """The units that a machine holds beside this one."""
        return [held for name, held in self.held[machine].units.items() if name != unit.name]

    def choosy(self, unit: Unit, machine: str) -> Iterable[Unit]:
        """Those of them whose options can shut this one out."""
        return [held for name, held in self.held[machine].choosy.items() if name != unit.name]

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
        return self.places.get(name, set())


Filter = Callable[[Unit, Machine, Occupancy], str | None]


def matches(globs: Iterable[str], name: UnitName) -> str | None:
    """The first of the globs that a unit's name matches."""
    return next((glob for glob in globs if glob_matches(glob, name.text)), None)


def capable(unit: Unit, machine: Machine, occupancy: Occupancy) -> str | None:
    """The machine's runtime runs units of this type."""
    if unit.name.type in machine.runs:
        return None
    return f"its {machine.runtime} runtime runs no .{unit.name.type} units"


def cordoned(unit: Unit, machine: Machine, occupancy: Occupancy) -> str | None:
    """Nobody has closed the machine to new units."""
    holds = machine.id in occupancy.machines_of(unit.name)
    return "it is cordoned" if machine.cordoned and not holds else None


def machine_id(unit: Unit, machine: Machine, occupancy: Occupancy) -> str | None:
    """MachineID=."""
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
    """MachineOf=: only where its peer is."""
    peer = unit.options.machine_of
    if peer is None:
        return None
    places = occupancy.machines_of(UnitName.parse(peer))
    if not places:
        return f"MachineOf={peer} is not scheduled anywhere"
    return None if machine.id in places else f"MachineOf={peer} is on another machine"


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
    """A unit does not go back to where another one replaces it."""
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
    wanted = {(port.host, port.protocol): port for port in unit.options.published}
    if not wanted:
        return None
    for other in occupancy.choosy(unit, machine.id):
        for port in other.options.published:
            if (port.host, port.protocol) in wanted:
                return f"{other.name} publishes port {port.host}/{port.protocol} there"
    return None


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


def refusal(unit: Unit, machine: Machine, occupancy: Occupancy) -> str | None:
    """Why this machine cannot have the unit; None if it can."""
    return next((reason for check in FILTERS if (reason := check(unit, machine, occupancy))), None)


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
    machines = occupancy.cluster.machines.values()
    if not machines:
        return (NO_MACHINE,)
    refused = {m.id: destination(unit, m, occupancy) or refusal(unit, m, occupancy) for m in machines}
    possible = [machine for machine in machines if refused[machine.id] is None]
    if not possible:
        return tuple(Refusal(machine, reason) for machine, reason in sorted(refused.items()) if reason)
    return min(possible, key=lambda machine: rank(unit, machine, occupancy)).id


def rank(unit: Unit, machine: Machine, occupancy: Occupancy) -> tuple[int, int, int, str]:
    """The order among machines that can have a unit, best first: where what it Replaces is; the value of
    its Spread= key with fewest instances; fewest units; the machine's id."""
    held = occupancy.held[machine.id].units
    replaces = bool(unit.options.replaces) and any(matches(unit.options.replaces, name) for name in held)
    return (0 if replaces else 1, spread(unit, machine, occupancy), len(held), machine.id)


def spread(unit: Unit, machine: Machine, occupancy: Occupancy) -> int:
    """How many instances of the unit's service share this machine's value of its Spread= key."""
    key = unit.options.spread
    if key is None:
        return 0
    value = machine.metadata.get(key)
    alike = {other.id for other in occupancy.cluster.machines.values() if other.metadata.get(key) == value}
    return sum(
        len(places & alike) for name, places in occupancy.places.items() if name.service == unit.name.service
    )
