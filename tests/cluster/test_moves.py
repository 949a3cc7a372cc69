"""Units on their way: by a person's order, or because a machine is drained."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from kirsch.cluster.engine.moves import Arrive, Begin, Stay
from kirsch.cluster.engine.placement import Occupancy, refusal
from kirsch.cluster.engine.reconcile import Assign, Decision, Wait, Withdraw, reconcile
from kirsch.cluster.model import Assignment, Cluster, Endpoint, Machine, Move, Unit, UnitRecord, UnitState
from kirsch.unit import Options, UnitFile, UnitName

A, B, DATA = (UnitName.parse(f"{name}.service") for name in ("a", "b", "data"))


def machine(id: str, **values) -> Machine:
    return Machine(id, "10.0.0.1", **({"cpu": 4.0, "memory": 4 << 30} | values))


def unit(name: UnitName, *options: str, desired: str = "launched") -> Unit:
    file = UnitFile.parse("[Service]\nExecStart=/bin/x\n[X-Kirsch]\n" + "\n".join(options), name.text)
    return Unit(name, file, Options.parse(file, name), UnitRecord(file.hash, desired, 1))


def cluster(machines: Iterable[Machine], units: Sequence[tuple[Unit, str]], **more) -> Cluster:
    """Units on machines, or on none where that is empty."""
    schedule = {unit.name: {where: assignment(unit)} for unit, where in units if where}
    return Cluster({m.id: m for m in machines}, {unit.name: unit for unit, _ in units}, schedule, **more)


def assignment(unit: Unit) -> Assignment:
    return Assignment(unit.record.hash, unit.desired, unit.record.order)


def runs(unit: Unit, machine: str, active: str = "active") -> dict:
    return {unit.name: {machine: UnitState("loaded", active, "running", unit.record.hash, order=1)}}


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


ONE, TWO, THREE = machine("m1"), machine("m2"), machine("m3")
a, b, data = unit(A), unit(B), unit(DATA, "Sticky=yes")


def test_a_move_takes_a_unit_from_its_machine_to_the_one_named():
    state = cluster([ONE, TWO, THREE], [(a, "m1")], moves={A: Move("m1", "m3")})
    assert reconcile(state) == [
        Withdraw(A, "m1", "it is to move"),
        Assign(A, "m3", assignment(a)),
    ]


def test_without_a_machine_named_it_goes_to_the_best_of_the_others():
    state = cluster([ONE, TWO, THREE], [(a, "m1"), (b, "m2")], moves={A: Move("m1")})
    assert Assign(A, "m3", assignment(a)) in reconcile(state)


def test_a_unit_that_no_other_machine_can_have_stays_and_says_why():
    state = cluster([ONE, machine("m2", cordoned=True)], [(a, "m1")], moves={A: Move("m1")})
    (stay,) = reconcile(state)
    assert isinstance(stay, Stay)
    assert [(r.machine, r.reason) for r in stay.refusals] == [("m2", "it is cordoned")]


def test_a_unit_is_bound_to_its_machine_by_its_own_words_not_by_want_of_room():
    for options, other, bound in (
        ("MachineID=m1", TWO, True),
        ("MachineMetadata=disk=ssd", TWO, True),
        ("", machine("m2", cordoned=True), False),
        ("CPU=64", TWO, False),
    ):
        one = (
            machine("m1", metadata={"disk": "ssd"}, cpu=64.0)
            if "CPU" not in options
            else machine("m1", cpu=64.0)
        )
        (stay,) = reconcile(cluster([one, other], [(unit(A, options), "m1")], moves={A: Move("m1")}))
        assert isinstance(stay, Stay)
        assert stay.bound is bound, options


def test_on_the_only_machine_a_unit_stays():
    (stay,) = reconcile(cluster([ONE], [(a, "m1")], moves={A: Move("m1")}))
    assert isinstance(stay, Stay)
    assert stay.refusals == ()


def test_a_sticky_unit_moves_by_order_and_has_another_home_then():
    state = cluster([ONE, TWO], [(data, "m1")], moves={DATA: Move("m1", "m2")}, homes={DATA: "m1"})
    after = apply(state, reconcile(state))
    assert (set(after.schedule[DATA]), after.homes) == ({"m2"}, {DATA: "m2"})


def test_a_move_is_over_once_its_unit_is_ready_where_it_went():
    moving = cluster([ONE, TWO], [(a, "m2")], moves={A: Move("m1")})
    assert reconcile(moving) == []
    assert reconcile(replace(moving, states=runs(a, "m2", "activating"))) == []
    assert reconcile(replace(moving, states=runs(a, "m2"))) == [Arrive(A)]


def test_a_unit_that_fails_where_it_went_keeps_no_other_waiting():
    drained = machine("m1", cordoned=True, drained=True)
    moving = cluster([drained, TWO], [(a, "m2"), (b, "m1")], moves={A: Move("m1")})
    assert reconcile(replace(moving, states=runs(a, "m2", "activating"))) == []
    after = reconcile(replace(moving, states=runs(a, "m2", "failed")))
    assert after[0] == Arrive(A)
    assert Begin(B, Move("m1")) in after


def test_a_unit_with_a_health_check_is_ready_when_that_says_so():
    checked = unit(A, "Health=tcp://:5432")
    moving = cluster([ONE, TWO], [(checked, "m2")], moves={A: Move("m1")}, states=runs(checked, "m2"))
    assert reconcile(moving) == []
    endpoint = Endpoint("a", "a.service", "-", "m2", "10.0.0.1", (), ready=True)
    assert reconcile(replace(moving, endpoints=(endpoint,))) == [Arrive(A)]


def test_a_move_of_what_is_gone_or_global_or_not_wanted_is_over():
    everywhere = unit(B, "Global=true")
    state = cluster(
        [ONE],
        [(unit(A, desired="inactive"), ""), (everywhere, "m1")],
        moves={A: Move("m1"), B: Move("m1"), DATA: Move("m1")},
    )
    assert reconcile(state) == [Arrive(A), Arrive(B), Arrive(DATA)]


def test_a_move_is_over_if_the_machine_it_went_to_is_lost():
    state = cluster([ONE, THREE], [(a, "m2")], moves={A: Move("m1", "m2")})
    assert reconcile(state) == [
        Arrive(A),
        Withdraw(A, "m2", "machine m2 is lost"),
        Assign(A, "m1", assignment(a)),
    ]


def test_a_drained_machines_units_leave_one_after_another():
    drained = machine("m1", cordoned=True, drained=True)
    state = cluster([drained, TWO], [(a, "m1"), (b, "m1")])
    first = reconcile(state)
    assert first == [
        Begin(A, Move("m1")),
        Withdraw(A, "m1", "machine m1 is drained"),
        Assign(A, "m2", assignment(a)),
    ]
    moving = apply(state, first)
    assert reconcile(moving) == []
    arrived = replace(moving, states=runs(a, "m2"))
    assert reconcile(arrived) == [
        Arrive(A),
        Begin(B, Move("m1")),
        Withdraw(B, "m1", "machine m1 is drained"),
        Assign(B, "m2", assignment(b)),
    ]


def test_a_unit_that_has_arrived_on_a_drained_machine_goes_on():
    drained = machine("m2", cordoned=True, drained=True)
    state = cluster([drained, THREE], [(a, "m2")], moves={A: Move("m1", "m2")}, states=runs(a, "m2"))
    assert reconcile(state) == [
        Begin(A, Move("m2")),
        Withdraw(A, "m2", "machine m2 is drained"),
        Assign(A, "m3", assignment(a)),
    ]


def test_a_drain_goes_on_with_the_next_where_one_cannot_leave():
    drained = machine("m1", cordoned=True, drained=True)
    bound = unit(A, "MachineID=m1")
    decisions = reconcile(cluster([drained, TWO], [(bound, "m1"), (b, "m1")]))
    assert [d.unit for d in decisions if isinstance(d, Stay)] == [A]
    assert Assign(B, "m2", assignment(b)) in decisions


def test_what_is_sticky_or_global_stays_on_a_drained_machine():
    drained, everywhere = machine("m1", cordoned=True, drained=True), unit(B, "Global=true")
    state = cluster([drained], [(data, "m1"), (everywhere, "m1")], homes={DATA: "m1"})
    assert reconcile(state) == []


def test_what_stops_by_itself_is_waited_for_while_its_machine_has_only_just_lapsed():
    stops = unit(A, "OnPartition=stop")
    state = cluster([TWO], [(stops, "m1"), (b, "m1")], lapsed=frozenset({"m1"}))
    assert reconcile(state) == [Withdraw(B, "m1", "machine m1 is lost"), Assign(B, "m2", assignment(b))]
    later = apply(state, reconcile(state))
    assert Assign(A, "m2", assignment(stops)) in reconcile(replace(later, lapsed=frozenset()))


IDS = ("m1", "m2", "m3")
OPTIONS = st.sampled_from([(), (), ("Sticky=yes",), ("Global=true",), ("CPU=2",), ("OnPartition=stop",)])


@st.composite
def clusters(draw) -> Cluster:
    marks = {id: draw(st.sampled_from(["", "", "cordoned", "drained", "gone"])) for id in IDS}
    machines = [
        machine(id, cpu=draw(st.sampled_from([2.0, 4.0])), cordoned=bool(mark), drained=mark == "drained")
        for id, mark in marks.items()
        if mark != "gone"
    ]
    units, states, moves, homes = [], {}, {}, {}
    for name in (UnitName.parse(f"{letter}.service") for letter in "abcde"):
        where = draw(st.sampled_from([*IDS, ""]))
        each = unit(name, *draw(OPTIONS))
        units.append((each, where))
        if where and each.options.sticky:
            homes[name] = where
        if where and draw(st.booleans()):
            states |= runs(each, where, draw(st.sampled_from(["active", "activating", "failed"])))
        if draw(st.integers(0, 3)) == 0:
            moves[name] = Move(draw(st.sampled_from(IDS)), draw(st.sampled_from([*IDS, ""])))
    lapsed = frozenset(id for id, mark in marks.items() if mark == "gone" and draw(st.booleans()))
    return cluster(machines, units, states=states, moves=moves, homes=homes, lapsed=lapsed)


@given(clusters())
def test_moves_in_any_cluster(state: Cluster):
    decisions = reconcile(state)
    after = apply(state, decisions)
    occupancy = Occupancy.of(after)
    for name, places in after.schedule.items():
        each = after.units[name]
        assert len(places) == 1 or each.options.is_global
        for id in places:
            there = id in after.machines
            # A sticky unit leaves its home only by a person's order, and what stops by itself is waited for.
            assert there or each.options.sticky or id in state.lapsed
            if there and not each.options.sticky and id not in state.schedule.get(name, {}):
                assert refusal(each, after.machines[id], occupancy) is None
        if each.options.sticky and state.homes.get(name) not in (None, *places):
            assert state.moves[name].source == state.homes[name]
    # Of a drained machine one leaves at a time, by a move that is written down.
    for begin in (d for d in decisions if isinstance(d, Begin)):
        source = begin.move.source
        assert state.machines[source].drained
        assert sum(1 for d in decisions if isinstance(d, Begin) and d.move.source == source) == 1
        on_their_way = [n for n, move in after.moves.items() if move.source == source]
        assert on_their_way == [begin.unit]
    # Whoever is nowhere says why.
    waits = {d.unit: d.refusals for d in decisions if isinstance(d, Wait)}
    assert all(waits.values())
    nowhere = {name for name, each in after.units.items() if not after.schedule.get(name)}
    assert nowhere <= waits.keys()
    # A move that is over may let others begin; it comes to an end.
    rounds = 0
    while left := [d for d in reconcile(after) if not isinstance(d, Wait | Stay)]:
        assert any(isinstance(d, Arrive | Begin) for d in left)
        after, rounds = apply(after, left), rounds + 1
        assert rounds <= len(after.units)
