"""Units on their way from one machine to another: by a person's order, or because a machine is drained. Pure.

A unit leaves only for a machine that can have it. Of a drained machine one leaves at a time, the next once
the last is ready elsewhere; what is sticky stays, and so does what is Global.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from kirsch.cluster.engine.placement import Occupancy, Refusal, place
from kirsch.cluster.model import Cluster, Move, Unit, finished, settled
from kirsch.unit import UnitName


@dataclass(frozen=True, slots=True)
class Begin:
    """A unit starts to move."""

    unit: UnitName
    move: Move


@dataclass(frozen=True, slots=True)
class Arrive:
    """A unit has moved, or need not any more."""

    unit: UnitName


@dataclass(frozen=True, slots=True)
class Stay:
    """A unit that is to leave its machine, and why no other can have it; empty if there is no other."""

    unit: UnitName
    machine: str
    refusals: tuple[Refusal, ...]

    @property
    def bound(self) -> bool:
        """True if no other machine may have it, whatever else changes."""
        return bool(self.refusals) and all(refusal.lasting for refusal in self.refusals)


@dataclass(frozen=True, slots=True)
class Leave:
    """A unit was taken off its machine and put on another."""

    unit: UnitName
    machine: str
    reason: str


Step = Begin | Arrive | Stay | Leave


def move_on(occupancy: Occupancy) -> list[Step]:
    """Take all moves as far as possible; `occupancy` is as it is afterwards."""
    steps = [*_ordered(occupancy), *_drained(occupancy)]
    begun = {step.unit for step in steps if isinstance(step, Begin)}
    # One that has arrived where it is to leave again goes on: its next move takes the place of the last.
    return [step for step in steps if not (isinstance(step, Arrive) and step.unit in begun)]


def _ordered(occupancy: Occupancy) -> Iterator[Step]:
    for name, move in sorted(occupancy.cluster.moves.items()):
        unit = occupancy.cluster.units.get(name)
        if unit is None or _is_over(unit, move, occupancy.cluster):
            del occupancy.moves[name]
            yield Arrive(name)
        elif move.source in occupancy.machines_of(name):
            yield _depart(unit, move.source, "it is to move", occupancy)


def _drained(occupancy: Occupancy) -> Iterator[Step]:
    for machine in sorted(m.id for m in occupancy.cluster.machines.values() if m.drained):
        on_their_way = {move.source for move in occupancy.moves.values()}
        for unit in () if machine in on_their_way else _movable(machine, occupancy):
            occupancy.moves[unit.name] = Move(machine)
            step = _depart(unit, machine, f"machine {machine} is drained", occupancy)
            if isinstance(step, Leave):
                yield Begin(unit.name, Move(machine))
                yield step
                break
            del occupancy.moves[unit.name]
            yield step


def _movable(machine: str, occupancy: Occupancy) -> list[Unit]:
    units = occupancy.held[machine].units.values()
    movable = [
        u for u in units if u.desired != "inactive" and not u.options.sticky and not u.options.is_global
    ]
    return sorted(movable, key=lambda unit: unit.name.text)


def _depart(unit: Unit, machine: str, reason: str, occupancy: Occupancy) -> Leave | Stay:
    target = place(unit, occupancy)
    if not isinstance(target, str):
        return Stay(unit.name, machine, tuple(refusal for refusal in target if refusal.machine != machine))
    occupancy.take(unit.name, machine)
    occupancy.put(unit, target)
    return Leave(unit.name, machine, reason)


def _is_over(unit: Unit, move: Move, cluster: Cluster) -> bool:
    if unit.options.is_global:
        return True
    machines = cluster.schedule.get(unit.name, {})
    if move.source in machines:
        return False
    # Where the machine it went to is lost there is nothing left of the move: it is put anywhere then.
    there = [machine for machine in machines if machine in cluster.machines]
    return not there or all(_has_arrived(unit, machine, cluster) for machine in machines)


def _has_arrived(unit: Unit, machine: str, cluster: Cluster) -> bool:
    """True if a unit does on a machine what it is there for, or has failed at it: others are not to wait."""
    state = cluster.states.get(unit.name, {}).get(machine)
    if state is None or not settled(unit, state):
        return False
    if unit.desired == "loaded" or finished(unit, state) or state.active == "failed":
        return True
    if unit.options.health is None:
        return state.active == "active"
    return any(e.ready for e in cluster.endpoints if (e.unit, e.machine) == (unit.name.text, machine))
