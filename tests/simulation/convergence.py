"""State of a cluster once nothing goes wrong any more: all is as people want it, or has a reason why not."""

from collections.abc import Iterator, Mapping

from tests.simulation.host import HANGS
from tests.simulation.machine import SimulatedMachine
from tests.simulation.truth import Truth

from kirsch.cluster.agent.adoption import adopted
from kirsch.cluster.agent.plan import alive
from kirsch.cluster.engine.moves import Stay
from kirsch.cluster.engine.rebalance import rebalance
from kirsch.cluster.engine.reconcile import Wait, reconcile
from kirsch.cluster.model import Cluster, Release, keys
from kirsch.unit import UnitName


def unfinished(truth: Truth, machines: Mapping[str, SimulatedMachine], calm: float) -> Iterator[str]:
    """Yield a line for each thing that is not yet as it has to be; nothing has gone wrong since `calm`."""
    cluster = truth.cluster()
    leader = truth.entries.get(keys.LEADER)
    there = truth.entries.get(keys.machine(leader.value)) if leader else None
    if leader is None or there is None or leader.lease != there.lease:
        # The key of a kirschd that was killed stays until its lease runs out, or the next one takes it.
        yield "nobody leads"
    for machine in machines.values():
        if machine.powered and machine.id not in cluster.machines:
            yield f"{machine.id} is not in the cluster"
        if machine.powered and keys.mesh(machine.id) not in truth.entries:
            yield f"{machine.id} is not in the flat network"
        if machine.kirschd and (machine.kirschd.registry.heard or 0.0) < calm:
            yield f"{machine.id} has not renewed its lease"
    yield from _released(cluster)
    for release in cluster.active:
        if release.state != "paused":
            yield f"release {release.number} of {release.application} is {release.state}"
    yield from (
        f"{name} is left" for name in cluster.units if "-release@" in name.text and not cluster.active
    )
    decisions = reconcile(cluster)
    yield from (f"to be done: {d}" for d in decisions if not isinstance(d, Wait | Stay))
    yield from (
        f"to be moved: {d}" for d in rebalance(cluster, dict.fromkeys(cluster.machines, 0.0), 0.0).decisions
    )
    waiting = {d.unit for d in decisions if isinstance(d, Wait) and d.refusals}
    for name, unit in sorted(cluster.units.items()):
        if unit.desired != "inactive" and not cluster.schedule.get(name) and name not in waiting:
            yield f"{name} is nowhere, without a reason"
    for machine in machines.values():
        if machine.powered:
            yield from _of_machine(machine, cluster)
    yield from _strays(truth, machines)


def _released(cluster: Cluster) -> Iterator[str]:
    """A release that is over has left the new text everywhere, or the old."""
    for application in {name for name, _ in cluster.releases}:
        mine = [release for (name, _), release in cluster.releases.items() if name == application]
        last = max(mine, key=lambda release: release.number)
        # One that is called off and had nothing to go back to leaves what it started.
        before = map(last.before, (*last.units, *last.gone, *last.inherited))
        back = last.state == "rolled-back" or (last.state == "aborted" and any(before))
        if not last.whole or not (back or last.state == "done"):
            continue
        yield from _scaled(last, cluster)
        for name in last.units:
            unit, old = cluster.units.get(UnitName.parse(name)), last.before(name)
            wanted = last.units[name] if last.state == "done" else old and old.hash
            if (unit.record.hash if unit else None) != wanted:
                yield f"release {last.number} of {application} is {last.state}, and {name} has another text"


def _scaled(last: Release, cluster: Cluster) -> Iterator[str]:
    """A release that is done has left as many instances as people asked for, and nothing that is gone."""
    if last.state != "done":
        return
    yield from (f"{name} is left" for name in last.gone if UnitName.parse(name) in cluster.units)
    for template, count in (last.scale or {}).items():
        there = [name for name in cluster.units if name.template == UnitName.parse(template)]
        if len(there) != count:
            yield f"{template} has {len(there)} instances, not {count}"


def _of_machine(machine: SimulatedMachine, cluster: Cluster) -> Iterator[str]:
    states = {name: held.state for name, held in machine.host.units.items()}
    marks = adopted(states)
    for name, places in sorted(cluster.schedule.items()):
        assignment, state = places.get(machine.id), states.get(name)
        if assignment is None:
            continue
        if state is None:
            yield f"{name} is not loaded on {machine.id}"
        elif assignment.desired == "loaded" and alive(state):
            yield f"{name} runs on {machine.id} and should not"
        elif assignment.desired == "launched":
            mark = marks.get(name)
            if state.load != "loaded" and state.message:
                continue
            if mark is None or mark.assignment != assignment:
                if not _held(name, machine.id, cluster):
                    yield f"{name} was not started on {machine.id}"
            elif not alive(state) and _order(name, machine.id, cluster) != assignment.order:
                yield f"{name} is to start again on {machine.id}"
            elif state.active in ("activating", "deactivating"):
                if _hangs(name, machine, cluster):
                    continue
                yield f"{name} is {state.active} on {machine.id}"
            elif state.active == "active" and not _ready(name, machine.id, cluster):
                yield f"{name} on {machine.id} has no endpoint that is ready"
            elif (
                state.active == "active"
                and name in cluster.moves
                and machine.id != cluster.moves[name].source
            ):
                yield f"{name} has moved, and its move is not over"
    for name, state in states.items():
        if machine.id not in cluster.schedule.get(name, {}):
            yield f"{name} is {state.active} on {machine.id} and not its own"


def _hangs(name: UnitName, machine: SimulatedMachine, cluster: Cluster) -> bool:
    """Tell whether a unit never comes up with its text, and no release has another for it: one failed or was
    called off, for there was none to go back to, or another took its place and failed before it replaced the
    unit, by its command, say. What a later one goes back to may be that."""
    held = machine.host.units[name]
    ends = ("failed", "aborted", "superseded")
    said = (r for r in cluster.releases.values() if r.state in ends and name.text in r.units)
    return HANGS in held.prepared.file.text and any(r.units[name.text] == held.state.hash for r in said)


def _held(name: UnitName, machine: str, cluster: Cluster) -> bool:
    """True if a unit waits for another to be ready, and says so."""
    state = cluster.states.get(name, {}).get(machine)
    return state is not None and state.message.startswith("waits for ")


def _order(name: UnitName, machine: str, cluster: Cluster) -> int | None:
    """The order that a unit was started for, as the store has it."""
    state = cluster.states.get(name, {}).get(machine)
    return state.order if state else None


def _ready(name: UnitName, machine: str, cluster: Cluster) -> bool:
    return any(e.ready for e in cluster.endpoints if (e.unit, e.machine) == (name.text, machine))


def _strays(truth: Truth, machines: Mapping[str, SimulatedMachine]) -> Iterator[str]:
    """Yield where the store differs from what units do."""
    cluster = truth.cluster()
    said = {(name, id): s.active for name, on in cluster.states.items() for id, s in on.items()}
    for machine in machines.values():
        for name, held in machine.host.units.items():
            known = said.pop((name, machine.id), None)
            active = held.state.active if held.state.load == "loaded" else "failed"
            if known != active:
                yield f"{name} is {active} on {machine.id}, the store says {known}"
    for (name, id), active in sorted(said.items()):
        yield f"the store says that {name} is {active} on {id}, which does not have it"
    for endpoint in cluster.endpoints:
        machine = machines[endpoint.machine]
        if not machine.host.alive(UnitName.parse(endpoint.unit)):
            yield f"an endpoint of {endpoint.unit} on {machine.id} is left"
