"""Comparison of what should be with what is: `reconcile(cluster) -> list[Decision]`. Pure.

Five steps, each in the order of unit names: move what is to move; take off what may not stay where it is;
put what has no place, what others are linked to before those; bring what stays up to date; say why of what
must wait. Doing what it decides leaves nothing to decide, but that moves are over.
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from operator import attrgetter

from kirsch.cluster.engine.moves import Arrive, Begin, Leave, Stay, move_on
from kirsch.cluster.engine.placement import NO_MACHINE, Occupancy, Refusal, matches, place, refusal
from kirsch.cluster.model import Assignment, Cluster, Unit, links
from kirsch.unit import UnitName


@dataclass(frozen=True, slots=True)
class Assign:
    """Put a unit on a machine, or change what that machine does with it. `home`: it is to stay there."""

    unit: UnitName
    machine: str
    assignment: Assignment
    home: bool = False


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Take a unit off a machine."""

    unit: UnitName
    machine: str
    reason: str


@dataclass(frozen=True, slots=True)
class Wait:
    """A unit that no machine can have now, and why each refuses it."""

    unit: UnitName
    refusals: tuple[Refusal, ...]


@dataclass(frozen=True, slots=True)
class GiveBack:
    """The address of a destroyed unit's slot is anybody's again."""

    unit: UnitName
    slot: str


TEXT = attrgetter("name.text")

Decision = Assign | Withdraw | Begin | Arrive | GiveBack | Wait | Stay


def reconcile(cluster: Cluster) -> list[Decision]:
    """Return decisions that make the schedule what people want."""
    occupancy = Occupancy.of(cluster)
    withdrawn: dict[tuple[UnitName, str], str] = dict(_orphans(cluster))
    waits: dict[UnitName, tuple[Refusal, ...]] = {}
    steps = move_on(occupancy)
    withdrawn |= {(step.unit, step.machine): step.reason for step in steps if isinstance(step, Leave)}

    # A unit that moves can take its peers along, and one that replaces sends others away: so until
    # nothing moves. Bounded, for two units can be made to chase each other around.
    units = sorted(cluster.units.values(), key=TEXT)
    wanted = [unit for unit in units if unit.record.desired != "inactive" and not unit.name.is_template]
    settling = links.used_first(wanted)
    followers = [unit for unit in wanted if unit.options.machine_of]
    suspects = units
    for _ in range(2 * len(cluster.units) + 1):
        occupancy.disturbed.clear()
        moved = _evict(suspects, occupancy, withdrawn)
        waits = {}
        for unit in settling:
            if not occupancy.machines_of(unit.name) or unit.options.is_global:
                moved |= _settle(unit, occupancy, waits)
        if not moved:
            break
        # Whoever was put somewhere can be there, and those who were there can stay, unless it replaces them.
        replaced = {name: u for id in occupancy.disturbed for name, u in occupancy.held[id].units.items()}
        suspects = sorted((replaced | {unit.name: unit for unit in followers}).values(), key=TEXT)

    # That a unit moves is written first: whoever goes on from half of this still knows where from.
    decisions: list[Decision] = [step for step in steps if isinstance(step, Begin | Arrive)]
    decisions += [
        Withdraw(name, machine, reason)
        for (name, machine), reason in sorted(withdrawn.items())
        if machine in cluster.schedule.get(name, {}) and machine not in occupancy.machines_of(name)
    ]
    decisions += _assignments(units, occupancy)
    decisions += _addresses(cluster)
    decisions += [Wait(name, refusals) for name, refusals in sorted(waits.items())]
    decisions += [step for step in steps if isinstance(step, Stay)]
    return decisions


def _orphans(cluster: Cluster) -> Iterator[tuple[tuple[UnitName, str], str]]:
    """Yield units that are scheduled though nobody wants them."""
    for name, machines in cluster.schedule.items():
        if name not in cluster.units:
            yield from (((name, machine), "it was destroyed") for machine in machines)


def _addresses(cluster: Cluster) -> Iterator[GiveBack]:
    """Addresses of units that are no more: nobody is to start such a unit, and none runs that is known of."""
    gone = cluster.addresses.keys() - cluster.units.keys() - cluster.schedule.keys() - cluster.states.keys()
    for name in sorted(gone, key=str):
        yield from (GiveBack(name, slot) for slot in sorted(cluster.addresses[name]))


def _evict(
    suspects: Iterable[Unit], occupancy: Occupancy, withdrawn: dict[tuple[UnitName, str], str]
) -> bool:
    """Take off what may not stay where it is, one by one, so that of two in conflict one stays."""
    moved = False
    for unit in suspects:
        places = occupancy.machines_of(unit.name)
        for machine in sorted(places):
            if reason := _why_leave(unit, machine, places, occupancy):
                occupancy.take(unit.name, machine)
                withdrawn.setdefault((unit.name, machine), reason)
                moved = True
    return moved


def _why_leave(unit: Unit, machine: str, places: Collection[str], occupancy: Occupancy) -> str | None:
    cluster, options = occupancy.cluster, unit.options
    if unit.record.desired == "inactive":
        return "it was unloaded"
    if options.sticky:
        return None
    if machine not in cluster.machines:
        # On a machine that is cut off it stops by itself, and may not have yet.
        stops = options.on_partition == "stop" and machine in cluster.lapsed
        return None if stops else f"machine {machine} is lost"
    if len(places) > 1 and not options.is_global:
        keep = min(places)
        return f"it is on {keep} already" if machine != keep else None
    for other in occupancy.choosy(unit, machine):
        if matches(other.options.replaces, unit.name):
            return f"{other.name} replaces it"
    return refusal(unit, cluster.machines[machine], occupancy)


def _settle(unit: Unit, occupancy: Occupancy, waits: dict[UnitName, tuple[Refusal, ...]]) -> bool:
    """Put a unit where it can be, or note why it must wait; True if it was put anywhere."""
    if unit.options.is_global:
        return _settle_everywhere(unit, occupancy, waits)
    machine = place(unit, occupancy)
    if isinstance(machine, str):
        occupancy.put(unit, machine)
        return True
    waits[unit.name] = machine
    return False


def _settle_everywhere(unit: Unit, occupancy: Occupancy, waits: dict[UnitName, tuple[Refusal, ...]]) -> bool:
    """Put a Global unit on every machine that can have it."""
    missing = sorted(occupancy.cluster.machines.keys() - occupancy.machines_of(unit.name))
    refused = {m: refusal(unit, occupancy.cluster.machines[m], occupancy) for m in missing}
    possible = [machine for machine, reason in refused.items() if reason is None]
    for machine in possible:
        occupancy.put(unit, machine)
    if not occupancy.machines_of(unit.name):
        reasons = tuple(Refusal(machine, reason) for machine, reason in refused.items() if reason)
        waits[unit.name] = reasons or (NO_MACHINE,)
    return bool(possible)


def _assignments(units: Iterable[Unit], occupancy: Occupancy) -> Iterator[Assign]:
    """Everything whose place or orders differ from the schedule's."""
    schedule, homes = occupancy.cluster.schedule, occupancy.cluster.homes
    for unit in units:
        places = occupancy.machines_of(unit.name)
        scheduled = schedule.get(unit.name, {}) if places else {}
        for machine in sorted(places):
            new_home = unit.options.sticky and homes.get(unit.name) != machine
            held = machine in scheduled and any(r.holds(unit.name, machine) for r in occupancy.cluster.active)
            if new_home or not (held or _is_as_wanted(scheduled.get(machine), unit)):
                wanted = Assignment(unit.record.hash, unit.desired, unit.record.order)
                yield Assign(unit.name, machine, wanted, home=new_home)


def _is_as_wanted(assignment: Assignment | None, unit: Unit) -> bool:
    record = unit.record
    return (
        assignment is not None
        and assignment.hash == record.hash
        and assignment.desired == record.desired
        and assignment.order == record.order
    )
