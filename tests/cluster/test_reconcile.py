"""The engine's decisions: fleet's rules one by one, and what must hold for any cluster (hypothesis)."""

from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kirsch.cluster.engine.placement import Occupancy, matches, place, refusal
from kirsch.cluster.engine.reconcile import Assign, Decision, Wait, Withdraw, reconcile
from kirsch.cluster.model import Assignment, Cluster, Machine, Unit, UnitRecord
from kirsch.unit import Options, UnitFile, UnitName


def machine(name: str, **values) -> Machine:
    return Machine(name, f"10.0.0.{len(name)}", **({"cpu": 4.0, "memory": 4 << 30} | values))


def unit(name: str, *options: str, desired: str = "launched") -> Unit:
    text = "[Service]\nExecStart=/bin/sleep 1\n[X-Kirsch]\n" + "\n".join(options)
    parsed, file = UnitName.parse(name), UnitFile.parse(text, name)
    return Unit(parsed, file, Options.parse(file, parsed), UnitRecord(file.hash, desired, 1))


def cluster(
    machines: Iterable[Machine], units: Iterable[Unit], placed: dict[str, str] | None = None, **more
) -> Cluster:
    by_name = {unit.name: unit for unit in units}
    schedule = {}
    for name, where in (placed or {}).items():
        parsed = UnitName.parse(name)
        record = by_name[parsed].record if parsed in by_name else UnitRecord("0" * 64, "launched", 1)
        schedule[parsed] = {where: Assignment(record.hash, record.desired, record.order)}
    return Cluster({m.id: m for m in machines}, by_name, schedule, **more)


def apply(state: Cluster, decisions: Iterable[Decision]) -> Cluster:
    """What the cluster is once the decisions are written down."""
    schedule = {name: dict(where) for name, where in state.schedule.items()}
    homes = dict(state.homes)
    for decision in decisions:
        match decision:
            case Assign(name, where, assignment, home):
                schedule.setdefault(name, {})[where] = assignment
                if home:
                    homes[name] = where
            case Withdraw(name, where):
                del schedule[name][where]
    return replace(state, schedule={n: w for n, w in schedule.items() if w}, homes=homes)


def places(state: Cluster) -> dict[str, set[str]]:
    """Where each unit is after a reconcile."""
    done = apply(state, reconcile(state))
    return {name.text: set(where) for name, where in done.schedule.items()}


def reasons(state: Cluster, name: str) -> list[str]:
    """Why each machine refuses a unit that waits."""
    wait = next(d for d in reconcile(state) if isinstance(d, Wait) and d.unit.text == name)
    return [refused.reason for refused in wait.refusals]


ONE, TWO, THREE = machine("m1", metadata={"zone": "a"}), machine("m2", metadata={"zone": "b"}), machine("m3")


def test_fewest_units_first_then_the_machines_id():
    state = cluster([TWO, ONE], [unit("a.service"), unit("b.service"), unit("c.service")])
    assert places(state) == {"a.service": {"m1"}, "b.service": {"m2"}, "c.service": {"m1"}}


def test_what_is_inactive_or_a_template_is_not_put_anywhere():
    state = cluster([ONE], [unit("a.service", desired="inactive"), unit("t@.service", desired="inactive")])
    assert reconcile(state) == []


def test_what_is_unloaded_or_destroyed_is_withdrawn_with_the_reason():
    state = cluster([ONE], [unit("a.service", desired="inactive")], {"a.service": "m1", "gone.service": "m1"})
    assert [(d.unit.text, d.reason) for d in reconcile(state)] == [
        ("a.service", "it was unloaded"),
        ("gone.service", "it was destroyed"),
    ]


def test_a_stop_leaves_the_unit_where_it_is():
    state = cluster([ONE, TWO], [unit("a.service", desired="loaded")], {"a.service": "m2"})
    state = replace(state, schedule={UnitName.parse("a.service"): {"m2": Assignment("old", "launched", 0)}})
    (decision,) = reconcile(state)
    assert isinstance(decision, Assign)
    assert (decision.machine, decision.assignment.desired) == ("m2", "loaded")


def test_machine_id_and_metadata():
    state = cluster(
        [ONE, TWO, THREE],
        [unit("a.service", "MachineID=m2"), unit("b.service", 'MachineMetadata="zone=a" "zone=b"')],
    )
    assert places(state)["a.service"] == {"m2"}
    assert places(state)["b.service"] <= {"m1", "m2"}
    state = cluster(
        [ONE, THREE], [unit("a.service", "MachineID=m2"), unit("b.service", "MachineMetadata=zone=c")]
    )
    assert reasons(state, "a.service") == ["MachineID=m2 names another machine"] * 2
    assert reasons(state, "b.service") == [
        "MachineMetadata wants zone=c, it has zone=a",
        "MachineMetadata wants zone=c, it has no zone",
    ]


def test_machine_of_follows_its_target():
    peers = [unit("a.service", "MachineOf=z.service"), unit("z.service", "MachineID=m2")]
    assert places(cluster([ONE, TWO], peers)) == {"a.service": {"m2"}, "z.service": {"m2"}}
    moved = cluster([ONE, TWO], peers, {"a.service": "m1", "z.service": "m1"})
    assert places(moved) == {"a.service": {"m2"}, "z.service": {"m2"}}
    assert reasons(cluster([ONE], peers[:1]), "a.service") == [
        "MachineOf=z.service is not scheduled anywhere"
    ]


def test_conflicts_go_both_ways():
    units = [unit("a@1.service", "Conflicts=a@*.service"), unit("a@2.service", "Conflicts=a@*.service")]
    assert places(cluster([ONE, TWO], units)) == {"a@1.service": {"m1"}, "a@2.service": {"m2"}}
    one_sided = [unit("a.service", "Conflicts=b*"), unit("b.service")]
    assert reasons(cluster([ONE], one_sided), "b.service") == [
        "a.service is there and its Conflicts=b* forbids this unit"
    ]
    # Of two that were put together only one has to go.
    both = cluster([ONE, TWO], units, {"a@1.service": "m1", "a@2.service": "m1"})
    assert sorted(places(both).values(), key=sorted) == [{"m1"}, {"m2"}]


def test_replaces_moves_the_other_away():
    units = [unit("new.service", "Replaces=old.service"), unit("old.service")]
    assert places(cluster([ONE, TWO], units, {"old.service": "m2"})) == {
        "new.service": {"m2"},
        "old.service": {"m1"},
    }
    assert reasons(cluster([ONE], units, {"old.service": "m1"}), "old.service") == [
        "new.service is there and its Replaces=old.service moved this unit away"
    ]


def test_of_two_that_replace_each_other_one_runs():
    units = [unit("a.service", "Replaces=b.service"), unit("b.service", "Replaces=a.service")]
    state = cluster([ONE, TWO], units, {"b.service": "m2"})
    assert places(state) == {"b.service": {"m2"}}
    assert set(reasons(state, "a.service")) == {
        "b.service and this unit replace each other, and b.service is scheduled"
    }
    # Of two that ran when they were made to replace each other one goes, on one machine or two.
    for where in ("m1", "m2"):
        assert len(places(cluster([ONE, TWO], units, {"a.service": "m1", "b.service": where}))) == 1
    assert places(cluster([ONE, TWO], units)) in ({"a.service": {"m1"}}, {"b.service": {"m1"}})


def test_a_unit_of_several_others_is_where_all_of_them_are():
    others = [unit("a.service"), unit("b.service")]
    follower = unit("f.service", "MachineOf=a.service b.service")
    together = cluster([ONE, TWO], [*others, follower], {"a.service": "m2", "b.service": "m2"})
    assert places(together)["f.service"] == {"m2"}
    apart = cluster([ONE, TWO], [*others, follower], {"a.service": "m1", "b.service": "m2"})
    assert reasons(apart, "f.service") == [
        "MachineOf=b.service is on another machine",
        "MachineOf=a.service is on another machine",
    ]


def test_a_global_unit_is_on_every_machine_that_can_have_it():
    state = cluster(
        [ONE, TWO, THREE], [unit("g.service", "Global=true", 'MachineMetadata="zone=a" "zone=b"')]
    )
    assert places(state) == {"g.service": {"m1", "m2"}}


def test_a_lost_machines_units_start_elsewhere_but_sticky_ones_wait():
    units = [unit("a.service"), unit("s.service", "Sticky=yes")]
    state = cluster(
        [TWO], units, {"a.service": "m1", "s.service": "m1"}, homes={UnitName.parse("s.service"): "m1"}
    )
    decisions = reconcile(state)
    assert Withdraw(UnitName.parse("a.service"), "m1", "machine m1 is lost") in decisions
    assert places(state) == {"a.service": {"m2"}, "s.service": {"m1"}}


def test_a_sticky_unit_goes_home():
    state = cluster([ONE, TWO], [unit("s.service", "Sticky=yes")], homes={UnitName.parse("s.service"): "m2"})
    assert places(state) == {"s.service": {"m2"}}
    away = cluster([ONE], [unit("s.service", "Sticky=yes")], homes={UnitName.parse("s.service"): "m2"})
    assert reasons(away, "s.service") == ["it is sticky and its home is m2; a person can move it"]
    first = cluster([ONE], [unit("s.service", "Sticky=yes")])
    assert [(d.machine, d.home) for d in reconcile(first)] == [("m1", True)]


def test_no_machine_is_over_reserved():
    small = machine("m1", cpu=1.0, memory=1 << 30)
    state = cluster([small], [unit(f"{n}.service", "CPU=0.1") for n in "abcdefghijk"])
    assert len(places(state)) == 10
    assert reasons(state, "k.service") == ["CPU=0.1 wanted, 0 free"]
    big = cluster([small], [unit("a.service", "Memory=2G")])
    assert reasons(big, "a.service") == ["Memory=2048M wanted, 1024M free"]


def test_spread_prefers_the_value_with_fewest_instances():
    machines = [machine(f"m{i}", metadata={"zone": "a" if i < 3 else "b"}) for i in range(1, 4)]
    state = cluster(machines, [unit(f"w@{i}.service", "Spread=zone") for i in range(1, 5)])
    counts = {"a": 0, "b": 0}
    for where in places(state).values():
        for name in where:
            counts[state.machines[name].metadata["zone"]] += 1
    assert counts == {"a": 2, "b": 2}


def test_what_others_are_linked_to_is_put_first():
    units = [unit("a.service", "Link=b"), unit("b.service", "Link=c"), unit("c.service"), unit("d.service")]
    state = cluster([ONE, TWO, THREE], units)
    assert places(state) == {
        "c.service": {"m1"}, "d.service": {"m2"}, "b.service": {"m3"}, "a.service": {"m1"},
    }  # fmt: skip
    apart = [
        unit("b.service"),
        unit("w@1.service", "Link=z", "Conflicts=z.service"),
        unit("z.service", "Conflicts=b.service"),
    ]
    assert places(cluster([ONE, TWO], apart)) == {
        "b.service": {"m1"}, "z.service": {"m2"}, "w@1.service": {"m1"},
    }  # fmt: skip


def test_units_in_a_circle_of_links_are_put_somewhere():
    state = cluster([ONE], [unit("a.service", "Link=b"), unit("b.service", "Link=a")])
    assert places(state) == {"a.service": {"m1"}, "b.service": {"m1"}}


def test_a_published_port_is_given_once_a_machine():
    taken = publishing("8091:8091", "8091:80")
    assert reasons(taken, "b.container") == ["a.container publishes port 8091/tcp there"]
    assert reasons(publishing("8091:80", "127.0.0.1:8091:80"), "b.container") == [
        "a.container publishes port 8091/tcp there"
    ]


@pytest.mark.parametrize(
    ("one", "other"), [("80", "80"), ("127.0.0.1:80:80", "10.0.0.1:80:80"), ("80:80", "80:80/udp")]
)
def test_published_ports_that_do_not_meet_stand_beside_each_other(one: str, other: str):
    assert len(places(publishing(one, other))) == 2


def publishing(*ports: str) -> Cluster:
    """One machine, and units a, b, … that publish a port each."""
    units = []
    for letter, port in zip("abc", ports, strict=False):
        name = f"{letter}.container"
        parsed = UnitName.parse(name)
        file = UnitFile.parse(f"[Container]\nImage=x\nPublishPort={port}\n", name)
        units.append(Unit(parsed, file, Options.parse(file, parsed), UnitRecord(file.hash, "launched")))
    return cluster([machine("m1", runs=("container",))], units)


def test_what_a_machine_cannot_run_and_a_cordon_are_reasons():
    state = cluster([machine("m1", cordoned=True)], [unit("a.service"), unit("a.timer")])
    assert reasons(state, "a.service") == ["it is cordoned"]
    assert reasons(state, "a.timer") == ["its systemd runtime runs no .timer units"]
    stays = cluster([machine("m1", cordoned=True)], [unit("a.service")], {"a.service": "m1"})
    assert reconcile(stays) == []


def test_without_machines_a_unit_waits_for_one():
    assert reasons(cluster([], [unit("a.service")]), "a.service") == ["there is no machine"]


NAMES = [f"{name}.service" for name in ("a", "b", "c@1", "c@2", "d", "e")]
OPTIONS = st.one_of(
    st.just(()),
    st.sampled_from(["m1", "m2", "m3"]).map(lambda m: (f"MachineID={m}",)),
    st.sampled_from(["zone=a", "zone=b"]).map(lambda m: (f"MachineMetadata={m}",)),
    st.sampled_from(NAMES).map(lambda n: (f"MachineOf={n}",)),
    st.sampled_from(["a*", "b*", "c@*", "d*"]).map(lambda g: (f"Conflicts={g}",)),
    st.sampled_from(NAMES).map(lambda n: (f"Replaces={n}",)),
    st.just(("Global=true",)),
    st.just(("Sticky=yes",)),
    st.just(("Spread=zone",)),
    st.sampled_from(["CPU=1", "CPU=2", "Memory=3G"]).map(lambda r: (r,)),
)
DESIRED = st.sampled_from(["launched", "launched", "loaded", "inactive"])


@st.composite
def clusters(draw):
    zones = draw(st.lists(st.sampled_from(["a", "b", None]), min_size=0, max_size=3))
    machines = [
        machine(f"m{i}", metadata={"zone": zone} if zone else {}, cpu=draw(st.sampled_from([1.0, 3.0])))
        for i, zone in enumerate(zones, 1)
    ]
    names = draw(st.lists(st.sampled_from(NAMES), unique=True))
    units = []
    for name in names:
        options = tuple(o for o in draw(OPTIONS) if o != f"MachineOf={name}")
        units.append(unit(name, *options, desired=draw(DESIRED)))
    # A schedule as a leader before us left it: any unit, any machine, some of them gone.
    old = draw(
        st.dictionaries(st.sampled_from([*NAMES, "x.service"]), st.sampled_from(["m1", "m2", "m3", "m9"]))
    )
    return cluster(machines, units, old)


@given(clusters())
def test_for_any_cluster(state: Cluster):
    decisions = reconcile(state)
    after = apply(state, decisions)
    occupancy = Occupancy.of(after)
    waiting = {d.unit: d.refusals for d in decisions if isinstance(d, Wait)}

    for name, where in after.schedule.items():
        unit = after.units[name]
        assert unit.desired != "inactive"
        assert len(where) == 1 or unit.options.is_global
        for id, assignment in where.items():
            assert assignment == Assignment(unit.record.hash, unit.desired, unit.record.order)
            if unit.options.sticky:
                continue
            # No constraint is broken, and nobody is where another one replaces it.
            assert refusal(unit, after.machines[id], occupancy) is None
            assert not any(matches(o.options.replaces, name) for o in occupancy.others(unit, id))

    # Who is nowhere though wanted has a reason from every machine.
    for name, unit in after.units.items():
        if unit.desired != "inactive" and name not in after.schedule:
            assert {r.machine for r in waiting[name]} == (after.machines.keys() or {""})
            assert all(r.reason for r in waiting[name])

    # Nothing changes when nothing changed.
    assert [d for d in reconcile(after) if not isinstance(d, Wait)] == []


def best(unit: Unit, occupancy: Occupancy) -> str | None:
    """The machine for a unit, by asking each."""
    ranks = []
    for id, machine in occupancy.cluster.machines.items():
        if refusal(unit, machine, occupancy) is not None:
            continue
        held = occupancy.held[id].units
        alike = {
            other.id
            for other in occupancy.cluster.machines.values()
            if other.metadata.get(unit.options.spread) == machine.metadata.get(unit.options.spread)
        }
        near = [
            id
            for name, places in occupancy.places.items()
            for id in places & alike
            if name.service == unit.name.service and unit.options.spread
        ]
        replaces = any(matches(unit.options.replaces, name) for name in held)
        ranks.append((not replaces, len(near), len(held), id))
    return min(ranks)[-1] if ranks else None


@given(clusters())
def test_a_unit_goes_to_the_best_of_all_machines_that_can_have_it(state: Cluster):
    occupancy = Occupancy.of(state)
    for name, unit in state.units.items():
        if unit.options.is_global or name in state.schedule:
            continue
        found, wanted = place(unit, occupancy), best(unit, occupancy)
        assert found == wanted if wanted else isinstance(found, tuple)
        if wanted:
            # What is kept at hand is true again after each.
            occupancy.put(unit, wanted)
    for name, places in list(occupancy.places.items()):
        for where in list(places)[:1]:
            occupancy.take(name, where)
    assert [m.id for m in occupancy.by_load()] == sorted(
        state.machines, key=lambda id: (len(occupancy.held[id].units), id)
    )


@given(clusters(), st.randoms())
@settings(max_examples=50, deadline=None)
def test_the_order_of_the_registry_does_not_matter(state: Cluster, random):
    def shuffled(mapping):
        items = list(mapping.items())
        random.shuffle(items)
        return dict(items)

    other = replace(
        state,
        machines=shuffled(state.machines),
        units=shuffled(state.units),
        schedule=shuffled(state.schedule),
    )
    assert reconcile(other) == reconcile(state)


@pytest.mark.parametrize("count", [200])
def test_many_units_take_no_more_than_linear_rounds(count: int):
    state = cluster([ONE, TWO, THREE], [unit(f"u@{i}.service") for i in range(count)])
    after = apply(state, reconcile(state))
    assert len(after.schedule) == count
    loads = [sum(1 for where in after.schedule.values() if m in where) for m in ("m1", "m2", "m3")]
    assert max(loads) - min(loads) <= 1
