"""Status of units: for tables, `status`, `why` and the progress of `up`. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kirsch.cluster.engine.moves import Stay
from kirsch.cluster.engine.placement import Refusal
from kirsch.cluster.engine.rebalance import CALM, Unmet, blocked, unmet
from kirsch.cluster.engine.reconcile import Wait, reconcile
from kirsch.cluster.model import Cluster, Endpoint, Unit, UnitState, finished, settled
from kirsch.cluster.model.links import targets
from kirsch.unit import UnitName


@dataclass(frozen=True, slots=True)
class UnitStatus:
    """One unit, on one machine or on none (`machine` empty).

    `state` is the current state in fleet's words, `ready` what its endpoint says, `role` the role it has
    there. `settled`: the agent has done what it was last told; `refused`: no machine can have it; `spread`: a
    Spread= that is not met would move it; `finished`: it ran to its end, as a oneshot does; `checked`: it has
    a Health=; `stays`: it is to leave its machine, and no other can have it; `bound`: no other may have it,
    whatever else changes. `reasons` say why it is not where, or as, people want it.
    """

    name: str
    description: str
    desired: str
    state: str
    machine: str
    machine_address: str
    load: str
    active: str
    sub: str
    hash: str
    fleet_hash: str
    ready: bool
    role: str
    settled: bool
    refused: bool
    finished: bool
    checked: bool
    is_global: bool
    sticky: bool
    stays: bool
    bound: bool
    spread: bool
    address: str
    ports: tuple[int, ...]
    published: tuple[int, ...]
    links: tuple[str, ...]
    result: str
    message: str
    restarts: int
    pid: int
    since: float
    reasons: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return a dictionary for JSON."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Held:
    """Units that are not placed as wanted: units that no machine can have, and why; units that are to leave
    their machine, and why no other can have them; and units that a Spread= that is not met would move."""

    waits: Mapping[UnitName, tuple[Refusal, ...]]
    stays: Mapping[UnitName, Stay]
    unmet: Mapping[UnitName, Unmet]

    @classmethod
    def of(cls, cluster: Cluster) -> "Held":
        """Return what the engine cannot do at present."""
        decisions = reconcile(cluster)
        return cls(
            {decision.unit: decision.refusals for decision in decisions if isinstance(decision, Wait)},
            {decision.unit: decision for decision in decisions if isinstance(decision, Stay)},
            {options[0].unit: options[0] for options in unmet(cluster).values()},
        )


class Overview:
    """Every unit's line, made once for each picture of the cluster, however many look."""

    def __init__(self) -> None:
        self._cluster: Cluster | None = None
        self._lines: Sequence[UnitStatus] = ()

    def of(self, cluster: Cluster) -> Sequence[UnitStatus]:
        """Return the lines that statuses() makes, kept for one snapshot."""
        if cluster is not self._cluster:
            self._cluster, self._lines = cluster, statuses(cluster)
        return self._lines


def statuses(cluster: Cluster) -> list[UnitStatus]:
    """Every unit, sorted by name; a Global one once a machine."""
    endpoints = {(endpoint.unit, endpoint.machine): endpoint for endpoint in cluster.endpoints}
    held = Held.of(cluster)
    found = []
    for name in sorted(cluster.units, key=str):
        unit = cluster.units[name]
        machines = cluster.schedule.get(name) or cluster.states.get(name) or {}
        for machine in sorted(machines) or [""]:
            endpoint = endpoints.get((name.text, machine))
            found.append(_status(unit, machine, cluster, endpoint, held))
    return found


def _status(
    unit: Unit,
    machine: str,
    cluster: Cluster,
    endpoint: Endpoint | None,
    held: Held,
) -> UnitStatus:
    state = cluster.states.get(unit.name, {}).get(machine)
    host = cluster.machines.get(machine)
    return UnitStatus(
        name=unit.name.text,
        description=unit.description,
        desired=unit.desired,
        state=current(unit, machine, cluster),
        machine=machine,
        machine_address=host.address if host else "",
        load=state.load if state else "-",
        active=state.active if state else "-",
        sub=state.sub if state else "-",
        hash=unit.record.hash,
        fleet_hash=unit.fleet_hash,
        ready=endpoint is not None and endpoint.ready,
        role=endpoint.role if endpoint else "",
        settled=settled(unit, state),
        refused=unit.name in held.waits,
        finished=finished(unit, state),
        checked=unit.options.health is not None,
        is_global=unit.options.is_global,
        sticky=unit.options.sticky,
        stays=unit.name in held.stays,
        bound=unit.name in held.stays and held.stays[unit.name].bound,
        spread=unit.name in held.unmet,
        address=endpoint.address if endpoint else "",
        ports=tuple(port.number for port in unit.options.expose),
        published=tuple(port.host for port in unit.options.published),
        links=tuple(link.text for link in unit.options.links),
        result=state.result if state else "",
        message=state.message if state else "",
        restarts=state.restarts if state else 0,
        pid=state.pid if state else 0,
        since=state.since if state else 0.0,
        reasons=reasons(unit, machine, state, endpoint, cluster, held),
    )


def current(unit: Unit, machine: str, cluster: Cluster) -> str:
    """fleet's current state: what the machine that has the unit was told; inactive if none has it."""
    assignment = cluster.schedule.get(unit.name, {}).get(machine)
    return assignment.desired if assignment else "inactive"


def _nowhere(unit: Unit, cluster: Cluster) -> tuple[str, ...]:
    """Links of a unit that waits to what nobody has submitted."""
    missing = (
        link.target
        for link in unit.options.links
        if not any(targets(link, name) for name in cluster.units if not name.is_template)
    )
    return tuple(f"there is no unit {target}" for target in missing)


def reasons(
    unit: Unit,
    machine: str,
    state: UnitState | None,
    endpoint: Endpoint | None,
    cluster: Cluster,
    held: Held,
) -> tuple[str, ...]:
    """Why a unit is not where, or as, people want it; empty when all is as it should be."""
    stay = held.stays.get(unit.name)
    found = _reasons(unit, machine, state, endpoint, cluster, held.waits.get(unit.name, ()))
    if (spread := held.unmet.get(unit.name)) is not None:
        found = (*found, _spreading(spread, cluster))
    return (*found, *_staying(stay)) if stay is not None and stay.machine == machine else found


def _spreading(spread: Unmet, cluster: Cluster) -> str:
    why = blocked(spread.unit.service, cluster)
    moves = f"with rebalance=auto it moves to machine {spread.target} once that has been calm for {CALM:g} s"
    return f"{spread.reason}; {moves}" + (f", but not yet: {why}" if why else "")


def _staying(stay: Stay) -> tuple[str, ...]:
    others = told(stay.refusals) or ("there is no other machine",)
    return (f"it is to leave machine {stay.machine}, and no other can have it", *others)


def told(refusals: Sequence[Refusal]) -> tuple[str, ...]:
    """Why machines cannot have a unit, for a person."""
    return tuple(f"machine {r.machine}: {r.reason}" if r.machine else r.reason for r in refusals)


def _reasons(
    unit: Unit,
    machine: str,
    state: UnitState | None,
    endpoint: Endpoint | None,
    cluster: Cluster,
    refusals: tuple[Refusal, ...],
) -> tuple[str, ...]:
    if unit.name.is_template:
        return ("it is a template: start an instance of it, such as " + unit.name.with_instance("1").text,)
    if unit.desired == "inactive":
        return ("nobody wants it to run: its desired state is inactive",)
    if refusals:
        return told(refusals)
    if not machine:
        return ("it was not scheduled yet",)
    if machine not in cluster.machines:
        return (f"its machine {machine} is away",)
    if state is None:
        return (f"machine {machine} has not loaded it yet",)
    if state.message:
        return (state.message, *_nowhere(unit, cluster))
    if unit.desired == "loaded":
        down = state.active in ("inactive", "failed")
        return ("it is loaded; nobody wants it to run" if down else f"it is to stop, and is {state.sub}",)
    if finished(unit, state):
        return ()
    if state.active == "failed":
        return (f"it failed: {state.result}",)
    if state.active != "active":
        return (f"it is {state.active} ({state.sub})",)
    if endpoint is not None and not endpoint.ready and unit.options.health:
        return ("it runs, but its Health= says it is not ready",)
    return ()
