"""Instances moved to where Spread= wants them: which, when, and that it ends."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kirsch.cluster.engine.moves import Begin
from kirsch.cluster.engine.rebalance import Sight, observe, planned, rebalance, unmet
from kirsch.cluster.engine.reconcile import Arrive, Assign, Decision, Stay, Wait, Withdraw, reconcile
from kirsch.cluster.engine.status import statuses
from kirsch.cluster.model import (
    Assignment,
    Cluster,
    Endpoint,
    Machine,
    Move,
    Release,
    Unit,
    UnitRecord,
    UnitState,
    keys,
)
from kirsch.cluster.node import orders
from kirsch.cluster.registry.base import Delete
from kirsch.cluster.registry.memory import MemoryRegistry
from kirsch.cluster.registry.mirror import Mirror
from kirsch.cluster.registry.snapshot import Snapshots
from kirsch.unit import Options, UnitFile, UnitName

SPREAD = "Spread=zone"


def machine(id: str, zone: str | None = None, **values) -> Machine:
    return Machine(id, "10.0.0.1", {"zone": zone or id}, **({"cpu": 4.0, "memory": 4 << 30} | values))


def unit(name: str, *options: str, desired: str = "launched") -> Unit:
    parsed = UnitName.parse(f"{name}.service")
    file = UnitFile.parse("[Service]\nExecStart=/bin/x\n[X-Kirsch]\n" + "\n".join(options), parsed.text)
    return Unit(parsed, file, Options.parse(file, parsed), UnitRecord(file.hash, desired, 1))


def cluster(machines: Iterable[Machine], units: Sequence[tuple[Unit, str]], **more) -> Cluster:
    """Units that run and are ready on machines, or are on none where that is empty."""
    schedule = {
        unit.name: {where: Assignment(unit.record.hash, unit.desired, unit.record.order)}
        for unit, where in units
        if where
    }
    there = Cluster({m.id: m for m in machines}, {unit.name: unit for unit, _ in units}, schedule)
    return replace(ready(there), **more)


def ready(state: Cluster, *, but: Mapping[str, str] | None = None) -> Cluster:
    """The cluster once each unit runs where it is put; `but` names those that do something else."""
    states, endpoints = {}, []
    for name, places in state.schedule.items():
        each = state.units[name]
        active = (but or {}).get(name.text, "active")
        states[name] = {
            id: UnitState("loaded", active, "running", each.record.hash, order=each.record.order)
            for id in places
        }
        endpoints += [
            Endpoint(name.service, name.text, "-", id, "10.0.0.1", (), ready=active == "active")
            for id in places
        ]
    return replace(state, states=states, endpoints=tuple(endpoints))


def apply(state: Cluster, decisions: Iterable[Decision]) -> Cluster:
    """What the cluster is once the decisions are written down."""
    schedule = {name: dict(where) for name, where in state.schedule.items()}
    homes, moves = dict(state.homes), dict(state.moves)
    for decision in decisions:
        match decision:
            case Assign(name, where, what, home):
                schedule.setdefault(name, {})[where] = what
                if home:
                    homes[name] = where
            case Withdraw(name, where):
                del schedule[name][where]
            case Begin(name, move):
                moves[name] = move
            case Arrive(name):
                del moves[name]
    placed = {name: where for name, where in schedule.items() if where}
    return replace(state, schedule=placed, homes=homes, moves=moves)


def calm(state: Cluster) -> dict[str, float]:
    return dict.fromkeys(state.machines, 0.0)


def moved(state: Cluster) -> list[tuple[str, str, str]]:
    """The move that is made in a cluster whose machines are all calm."""
    decisions = rebalance(state, calm(state), 0.0).decisions
    return [(d.unit.text, d.move.source, d.move.target) for d in decisions if isinstance(d, Begin)]


def refused(state: Cluster) -> dict[str, str]:
    plan = rebalance(state, calm(state), 0.0)
    assert not plan.decisions
    return dict(plan.refusals or {})


ONE, TWO, THREE = machine("m1"), machine("m2"), machine("m3")
W1, W2, W3 = (unit(f"w@{number}", SPREAD) for number in (1, 2, 3))
TWICE = cluster([ONE, TWO], [(W1, "m1"), (W2, "m1")])


def test_an_instance_moves_to_where_its_spread_wants_it():
    plan = rebalance(TWICE, calm(TWICE), 0.0)
    assert plan.decisions == [
        Begin(W1.name, Move("m1", "m2")),
        Withdraw(W1.name, "m1", "it is to move"),
        Assign(W1.name, "m2", Assignment(W1.record.hash, "launched", 1)),
    ]
    after = ready(apply(TWICE, plan.decisions))
    assert reconcile(after) == [Arrive(W1.name)]
    assert moved(apply(after, [Arrive(W1.name)])) == []


@pytest.mark.parametrize(
    ("what", "units", "machines"),
    [
        ("without Spread=", [(unit("w@1"), "m1"), (unit("w@2"), "m1")], [ONE, TWO]),
        (
            "sticky",
            [(unit("w@1", SPREAD, "Sticky=yes"), "m1"), (unit("w@2", SPREAD, "Sticky=yes"), "m1")],
            [ONE, TWO],
        ),
        ("one more is no more than fair", [(W1, "m1"), (W2, "m1"), (W3, "m2")], [ONE, TWO]),
        ("a single instance", [(W1, "m1")], [ONE, TWO]),
        ("of two services one each", [(W1, "m1"), (unit("v@1", SPREAD), "m1")], [ONE, TWO]),
        ("the other machine is of the same zone", [(W1, "m1"), (W2, "m1")], [ONE, machine("m2", "m1")]),
        ("cordoned", [(W1, "m1"), (W2, "m1")], [ONE, machine("m2", cordoned=True)]),
        ("no room", [(unit(f"w@{n}", SPREAD, "CPU=2"), "m1") for n in (1, 2)], [ONE, machine("m2", cpu=1.0)]),
        (
            "it may not be there",
            [(unit(f"w@{n}", SPREAD, "MachineMetadata=zone=m1"), "m1") for n in (1, 2)],
            [ONE, TWO],
        ),
        (
            "stopped",
            [(unit(f"w@{n}", SPREAD, desired="loaded"), "m1") for n in (1, 2)],
            [ONE, TWO],
        ),
        ("it sends others away", [(unit(f"w@{n}", SPREAD, "Replaces=v"), "m1") for n in (1, 2)], [ONE, TWO]),
        (
            "what is better for one key is worse for another",
            [(W1, "m1"), (W2, "m1"), (unit("w@3", "Spread=rack"), "m1")],
            [ONE, TWO],
        ),
    ],
)
def test_nothing_moves(what: str, units: list[tuple[Unit, str]], machines: list[Machine]):
    assert moved(cluster(machines, units)) == []


def test_a_peer_that_others_follow_stays_and_another_instance_moves():
    follower = unit("x", "MachineOf=w@1.service")
    state = cluster([ONE, TWO], [(W1, "m1"), (W2, "m1"), (follower, "m1")])
    assert moved(state) == [("w@2.service", "m1", "m2")]


def test_it_moves_only_to_a_machine_that_is_calm_and_says_when_to_look_again():
    plan = rebalance(TWICE, {"m1": 0.0, "m2": 70.0}, 10.0)
    assert (list(plan.decisions), plan.wake) == ([], 70.0)
    assert plan.refusals == {"w": "machine m2 is not calm yet"}
    assert rebalance(TWICE, {"m1": 0.0, "m2": 70.0}, 70.0).decisions


def test_a_calm_machine_is_taken_while_a_better_one_is_not():
    state = cluster([ONE, TWO, THREE], [(W1, "m1"), (W2, "m1")])
    (begin, *_) = rebalance(state, {"m1": 0.0, "m2": 70.0, "m3": 5.0}, 10.0).decisions
    assert begin == Begin(W1.name, Move("m1", "m3"))


def test_a_machine_is_calm_since_its_record_is_as_it_is():
    first = observe({"m1": (ONE, 1), "m2": (TWO, 1)}, {}, 10.0)
    assert first == {"m1": Sight((ONE, 1), 10.0), "m2": Sight((TWO, 1), 10.0)}
    # m1 was cordoned, m2 has come back without anybody seeing it leave, m3 is new.
    cordoned = replace(ONE, cordoned=True)
    later = observe({"m1": (cordoned, 1), "m2": (TWO, 7), "m3": (THREE, 9)}, first, 20.0)
    assert {id: sight.since for id, sight in later.items()} == {"m1": 20.0, "m2": 20.0, "m3": 20.0}
    assert observe({"m2": (TWO, 7)}, later, 30.0) == {"m2": Sight((TWO, 7), 20.0)}


def test_nothing_moves_while_an_instance_of_the_service_is_not_ready():
    for state in ("failed", "activating", "deactivating"):
        assert refused(ready(TWICE, but={"w@2.service": state})) == {"w": "w@2.service is not ready"}
    nowhere = cluster([ONE, TWO], [(W1, "m1"), (W2, "m1"), (W3, "")])
    assert refused(nowhere) == {"w": "w@3.service is not ready"}


def test_what_another_service_lacks_does_not_matter():
    other = unit("x")
    state = cluster([ONE, TWO], [(W1, "m1"), (W2, "m1"), (other, "m2")])
    assert moved(ready(state, but={"x.service": "failed"}))


def test_nothing_follows_to_a_machine_where_the_last_that_came_has_failed():
    other = unit("v@1", SPREAD)
    state = cluster([ONE, TWO], [(W1, "m1"), (W2, "m1"), (other, "m2")])
    assert refused(ready(state, but={"v@1.service": "failed"})) == {
        "w": "v@1.service has failed on machine m2"
    }


def test_one_move_at_a_time_in_the_whole_cluster():
    other = unit("x")
    state = cluster([ONE, TWO], [(W1, "m1"), (W2, "m1"), (other, "m2")], moves={other.name: Move("m1")})
    assert refused(state) == {"w": "x.service is on its way"}


def test_nothing_moves_while_a_release_of_the_service_is_not_over():
    release = Release("shop", 4, {"w@1.service": W1.record.hash}, state="running")
    assert refused(replace(TWICE, active=(release,))) == {"w": "release 4 of shop is not over"}
    other = replace(release, units={"x.service": "0"})
    assert moved(replace(TWICE, active=(other,)))


def test_a_unit_says_that_its_spread_is_not_met_and_what_would_meet_it():
    reasons = {line.name: line.reasons for line in statuses(TWICE)}
    assert reasons == {
        "w@1.service": (
            "Spread=zone is not met: 2 instances in zone m1, none in zone m2; with rebalance=auto it moves "
            "to machine m2 once that has been calm for 60 s",
        ),
        "w@2.service": (),
    }
    (reason,) = statuses(ready(TWICE, but={"w@2.service": "activating"}))[0].reasons
    assert reason.endswith("calm for 60 s, but not yet: w@2.service is not ready")


def test_a_unit_that_its_spread_would_move_is_marked():
    assert {line.name: line.spread for line in statuses(TWICE)} == {"w@1.service": True, "w@2.service": False}


def test_all_moves_are_told_beforehand_and_what_stays_with_its_reason():
    units = [(unit(f"w@{n}", SPREAD), "m1") for n in range(1, 6)]
    state = cluster([ONE, TWO], [*units, (unit("v@1", SPREAD), "m2"), (unit("v@2", SPREAD), "m2")])
    moves, stays = planned(state)
    assert [(each.unit.text, each.source, each.target) for each in moves] == [
        ("v@1.service", "m2", "m1"),
        ("w@1.service", "m1", "m2"),
        ("w@2.service", "m1", "m2"),
    ]
    assert stays == {}
    moves, stays = planned(ready(state, but={"w@3.service": "activating"}))
    assert [each.unit.text for each in moves] == ["v@1.service"]
    assert stays == {"w": "w@3.service is not ready"}


async def _ordered() -> None:
    registry = MemoryRegistry()
    mirror = Mirror(registry, keys.ROOT)
    for each in (ONE, TWO):
        await registry.put(keys.machine(each.id), each.to_json())
    for each in (W1, W2):
        await registry.put(keys.text(each.record.hash), each.file.text)
        await registry.put(keys.unit(each.name.text), each.record.to_json())
        assignment = Assignment(each.record.hash, "launched", 1)
        await registry.put(keys.schedule("m1", each.name.text), assignment.to_json())
        state = UnitState("loaded", "active", "running", each.record.hash, order=1)
        await registry.put(keys.state(each.name.text, "m1"), state.to_json())
        endpoint = Endpoint("w", each.name.text, "-", "m1", "10.0.0.1", ready=True)
        await registry.put(keys.endpoint("w", each.name.text, "-"), endpoint.to_json())
    following = asyncio.create_task(mirror.run())
    await mirror.reached(1)
    snapshots = Snapshots(mirror)
    made, stays = await orders.rebalance(registry, mirror, snapshots)
    assert made is not None
    assert (made.unit, made.target, stays) == (W1.name, "m2", {})
    assert snapshots.now().moves == {W1.name: Move("m1", "m2")}
    # The next one waits until that is over.
    waiting = asyncio.create_task(orders.rebalance(registry, mirror, snapshots))
    over = [Delete(keys.move(W1.name.text)), Delete(keys.schedule("m1", W1.name.text))]
    await registry.transact(over)
    assert await waiting == (None, {})
    following.cancel()


def test_a_person_orders_the_next_move():
    asyncio.run(_ordered())


IDS = ("m1", "m2", "m3", "m4")
KINDS = st.sampled_from([(SPREAD,), (SPREAD,), (SPREAD,), (SPREAD, "Sticky=yes"), (), (SPREAD, "CPU=1")])


def spread_of(state: Cluster) -> int:
    """How badly instances are spread: the less, the better."""
    counts = Counter(
        (name.service, state.machines[id].metadata["zone"])
        for name, places in state.schedule.items()
        for id in places
        if id in state.machines
    )
    return sum(count * count for count in counts.values())


def settle(state: Cluster) -> Cluster:
    """Carry out what has to be, until nothing is left but what waits."""
    state = ready(state)
    while decisions := [d for d in reconcile(state) if not isinstance(d, Wait | Stay)]:
        state = ready(apply(state, decisions))
    return state


def run_down(state: Cluster) -> tuple[Cluster, list[str]]:
    """Make one move after another, until no more is made; return the units that moved."""
    names = []
    while decisions := rebalance(state, calm(state), 0.0).decisions:
        before = spread_of(state)
        (begin,) = (d for d in decisions if isinstance(d, Begin))
        assert len(decisions) == 3
        names.append(begin.unit.text)
        state = settle(apply(state, decisions))
        assert not state.moves
        assert spread_of(state) < before
    return state, names


@st.composite
def clusters(draw, kinds=KINDS) -> Cluster:
    machines = [
        machine(id, draw(st.sampled_from("ab") | st.just(id)), cpu=draw(st.sampled_from([2.0, 8.0])))
        for id in IDS[: draw(st.integers(2, 4))]
    ]
    units, homes = [], {}
    for service in "pq":
        for number in range(draw(st.integers(0, 5))):
            each = unit(f"{service}@{number}", *draw(kinds))
            where = draw(st.sampled_from(machines)).id
            units.append((each, where))
            if each.options.sticky:
                homes[each.name] = where
    return settle(cluster(machines, units, homes=homes))


@given(clusters())
def test_moves_make_the_spread_better_come_to_an_end_and_take_nothing_sticky(state: Cluster):
    after, names = run_down(state)
    for name, each in state.units.items():
        if each.options.sticky or each.options.spread is None:
            assert after.schedule.get(name) == state.schedule.get(name)
            assert name.text not in names
    assert not unmet(after)
    assert run_down(after) == (after, [])


@given(clusters(kinds=st.just((SPREAD,))))
def test_no_more_moves_than_instances(state: Cluster):
    _, names = run_down(state)
    assert len(names) == len(set(names)) <= len(state.units)


@given(clusters(), st.lists(st.sampled_from(IDS), max_size=6))
@settings(max_examples=75, deadline=None)
def test_no_flapping_when_machines_come_and_go(state: Cluster, changes: list[str]):
    all_machines = dict(state.machines)
    for id in changes:
        there = dict(state.machines)
        if id in there and len(there) > 1:
            del there[id]
        elif id in all_machines:
            there[id] = all_machines[id]
        # What ran on a machine that was lost does not count there any more.
        state, names = run_down(settle(replace(state, machines=there)))
        # Only a machine that came has a reason to be moved to, and each service moves at most its share.
        assert len(names) <= len(state.units)
        assert run_down(state) == (state, [])
