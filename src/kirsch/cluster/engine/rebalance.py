"""Rebalance: instances moved to where Spread= wants them, once machines are calm. Pure.

A placement is not looked at again while it is allowed, so a machine that returns or joins stays empty. Here
one instance at a time is moved to it, by a move as a person orders it: only while all instances of its
service are ready, and only where at least two instances fewer are, so that each move makes the spread better
and moves come to an end.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from kirsch.cluster.engine.moves import Begin
from kirsch.cluster.engine.placement import Occupancy, candidates, refusal
from kirsch.cluster.engine.reconcile import Assign, Decision, Withdraw, reconcile
from kirsch.cluster.engine.rollout import Instance, is_up
from kirsch.cluster.model import Cluster, Move, Unit
from kirsch.unit import UnitName

# Seconds for which a machine has to be there without a change before instances are moved to it.
CALM = 60.0


@dataclass(frozen=True, slots=True)
class Sight:
    """A leader's observation of one machine: its record, and since when that has not changed."""

    record: object
    since: float


@dataclass(frozen=True, slots=True)
class Unmet:
    """A Spread= that is not met, and the move that would make it better. `here` and `there` are the values of
    the key on both sides, `counts` the service's instances there."""

    unit: UnitName
    source: str
    target: str
    key: str
    here: str | None
    there: str | None
    counts: tuple[int, int]

    @property
    def gain(self) -> int:
        """Difference of instances between both sides."""
        return self.counts[0] - self.counts[1]

    @property
    def reason(self) -> str:
        """Line for a person."""
        here, there = (
            f"{self.key} {value}" if value else f"no {self.key}" for value in (self.here, self.there)
        )
        more, fewer = self.counts
        return f"Spread={self.key} is not met: {more} instances in {here}, {fewer or 'none'} in {there}"


@dataclass(frozen=True, slots=True)
class Plan:
    """Decisions that make one move, none if there is none now; for each service whose Spread= is not met why
    it is not moved; and when to look again though nothing changes."""

    decisions: Sequence[Decision] = ()
    refusals: Mapping[str, str] | None = None
    wake: float | None = None


def observe(records: Mapping[str, object], seen: Mapping[str, Sight], now: float) -> dict[str, Sight]:
    """Return since when each machine's record is as it is, after another look."""
    before = {id: seen.get(id) for id in records}
    return {
        id: sight if (sight := before[id]) is not None and sight.record == record else Sight(record, now)
        for id, record in records.items()
    }


def rebalance(cluster: Cluster, calm_from: Mapping[str, float], now: float) -> Plan:
    """Return the next move, if there is one. `calm_from` is when each machine is calm."""
    refusals: dict[str, str] = {}
    wakes: list[float] = []
    for options in unmet(cluster).values():
        service = options[0].unit.service
        if why := blocked(service, cluster):
            refusals[service] = why
            continue
        for option in options:
            due = calm_from.get(option.target)
            if due is None or due > now:
                refusals.setdefault(service, f"machine {option.target} is not calm yet")
                wakes += [due] if due is not None else []
            elif failed := _failed(option.target, cluster):
                refusals.setdefault(service, f"{failed} has failed on machine {option.target}")
            elif decisions := _moved(option, cluster):
                return Plan(decisions)
            else:
                refusals.setdefault(service, f"other units would move with {option.unit}")
    return Plan((), refusals, min(wakes, default=None))


def planned(cluster: Cluster) -> tuple[list[Unmet], Mapping[str, str]]:
    """Return the moves that would be made one after another if all machines were calm, and for each service
    that stays as it is why."""
    found: list[Unmet] = []
    while True:
        plan = rebalance(cluster, dict.fromkeys(cluster.machines, 0.0), 0.0)
        begin = next((decision for decision in plan.decisions if isinstance(decision, Begin)), None)
        if begin is None:
            return found, plan.refusals or {}
        options = unmet(cluster)[begin.unit.service]
        option = next(o for o in options if (o.unit, o.target) == (begin.unit, begin.move.target))
        found.append(option)
        cluster = _arrived(option, cluster)


def _arrived(option: Unmet, cluster: Cluster) -> Cluster:
    """Return the cluster once a unit is ready where it moves to."""
    unit, source, target = option.unit, option.source, option.target
    states = cluster.states.get(unit, {})
    return replace(
        cluster,
        schedule={**cluster.schedule, unit: {target: cluster.schedule[unit][source]}},
        states={**cluster.states, unit: {target: states[source]} if source in states else {}},
        endpoints=tuple(
            replace(each, machine=target) if (each.unit, each.machine) == (unit.text, source) else each
            for each in cluster.endpoints
        ),
    )


def unmet(cluster: Cluster) -> dict[str, list[Unmet]]:
    """Return for each service whose Spread= can be met better the moves that do, the best first."""
    services: dict[str, list[Unit]] = {}
    spread = (unit for unit in cluster.units.values() if unit.options.spread is not None)
    for unit in sorted(spread, key=lambda unit: unit.name):
        if not unit.name.is_template:
            services.setdefault(unit.name.service, []).append(unit)
    if not services:
        return {}
    occupancy = Occupancy.of(cluster)
    peers = {peer for unit in cluster.units.values() for peer in unit.options.machine_of}
    found = {}
    for service, units in services.items():
        if len({unit.options.spread for unit in units}) > 1:
            continue  # What is better for one key could be worse for another, without an end.
        movable = (unit for unit in units if _is_movable(unit) and unit.name.text not in peers)
        options = [option for unit in movable for option in _options(unit, occupancy)]
        if options:
            found[service] = sorted(options, key=lambda option: -option.gain)
    return found


def _is_movable(unit: Unit) -> bool:
    """True for what may move by itself, and sends no other unit away where it goes."""
    options = unit.options
    return unit.desired == "launched" and not (options.sticky or options.is_global or options.replaces)


def _options(unit: Unit, occupancy: Occupancy) -> Iterator[Unmet]:
    """Yield the machines that are better for an instance and can have it, the best first."""
    machines, key = occupancy.cluster.machines, unit.options.spread or ""
    places = occupancy.machines_of(unit.name)
    if len(places) != 1 or not places <= machines.keys():
        return
    (source,) = places
    counts, here = occupancy.instances(unit.name.service, key), machines[source].metadata.get(key)
    for machine in candidates(unit, occupancy):
        there = machine.metadata.get(key)
        if counts[here] - counts[there] < 2 or refusal(unit, machine, occupancy):
            continue
        yield Unmet(unit.name, source, machine.id, key, here, there, (counts[here], counts[there]))


def blocked(service: str, cluster: Cluster) -> str | None:
    """Return why no instance of a service may be moved now."""
    if cluster.moves:
        return f"{min(cluster.moves)} is on its way"
    mine = [name for name in cluster.units if name.service == service and not name.is_template]
    for release in cluster.active:
        if any(name.text in release.units or name.text in release.gone for name in mine):
            return f"release {release.number} of {release.application} is not over"
    for name in sorted(mine):
        if not is_up(Instance(name), cluster):
            return f"{name} is not ready"
    return None


def _failed(machine: str, cluster: Cluster) -> UnitName | None:
    """Return a unit like those that are moved here and has failed on a machine: no other one follows it."""
    for name, places in sorted(cluster.schedule.items()):
        unit, state = cluster.units.get(name), cluster.states.get(name, {}).get(machine)
        if machine not in places or unit is None or state is None or unit.options.spread is None:
            continue
        if _is_movable(unit) and state.active == "failed":
            return name
    return None


def _moved(option: Unmet, cluster: Cluster) -> list[Decision]:
    """Return the decisions of a move; none if it would move anything else too."""
    move = Move(option.source, option.target)
    decisions = reconcile(replace(cluster, moves={option.unit: move}))
    done = [(type(d), d.unit, d.machine) for d in decisions if isinstance(d, Withdraw | Assign)]
    if done != [(Withdraw, option.unit, option.source), (Assign, option.unit, option.target)]:
        return []
    return [Begin(option.unit, move), *decisions]
