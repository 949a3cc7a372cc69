"""Releases step by step: what the engine replaces, when, and what it takes back."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kirsch.cluster.engine import rollout
from kirsch.cluster.engine.reconcile import Assign, Withdraw, reconcile
from kirsch.cluster.model import (
    Assignment,
    Cluster,
    Endpoint,
    Machine,
    Release,
    Unit,
    UnitRecord,
    UnitState,
    keys,
)
from kirsch.cluster.node.releases import opened, steered
from kirsch.cluster.registry.base import Delete, Entry
from kirsch.cluster.registry.memory import MemoryRegistry
from kirsch.cluster.registry.mirror import Mirror
from kirsch.unit import Options, Policy, UnitFile, UnitName

QUICK = Policy(healthy_for=5.0, deadline=60.0)
MACHINES = tuple(Machine(f"m{n}", f"10.0.0.{n}", cpu=8.0) for n in (1, 2, 3))
GOOD, CRASHES, HANGS, LOOPS, ENDS = "good", "crashes", "hangs", "loops", "ends"


def file_of(name: str, *lines: str, version: str = "1", how: str = GOOD) -> UnitFile:
    text = f"[Service]\nExecStart=/bin/x {version}\n# {how}\n[X-Kirsch]\n" + "\n".join(lines)
    return UnitFile.parse(text, name)


def unit_of(name: str, file: UnitFile, record: UnitRecord) -> Unit:
    parsed = UnitName.parse(name)
    return Unit(parsed, file, Options() if parsed.is_template else Options.parse(file, parsed), record)


@dataclass
class World:
    """A cluster whose agents do at once what the schedule says; a unit becomes ready, crashes or hangs, as
    its text has it. `low` is how few of a service were ready at any time."""

    release: Release
    files: dict[str, UnitFile]
    cluster: Cluster = field(default_factory=Cluster)
    now: float = 0.0
    sights: rollout.Sights = field(default_factory=dict)
    touched: list[str] = field(default_factory=list)
    low: dict[str, int] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)

    def play(self, until: Callable[["World"], bool] | None = None, most: int = 400) -> Release:
        """Step until the release is over, or there is nothing to wait for."""
        for _ in range(most):
            if self.release.over or (until and until(self)):
                return self.release
            if not self.step():
                return self.release
        raise AssertionError(f"it does not end: {self.release}")

    def step(self) -> bool:
        """One round of engine and agents; False where nothing will happen any more."""
        targets = {
            UnitName.parse(name): unit_of(name, self._file(digest), UnitRecord(digest))
            for name, digest in {**self.release.units, **self.release.commands}.items()
        }
        self.release = replace(self.release, targets=targets)
        self.cluster = replace(self.cluster, active=() if self.release.over else (self.release,))
        self.sights = rollout.observe(self.release, self.cluster, self.sights, self.now, self.now)
        view = rollout.View(self.release, self.cluster, self.sights, self.now, self.now)
        done = rollout.step(view)
        changed = done.release != self.release or bool(done.records)
        self.release = done.release
        units = dict(self.cluster.units)
        for name, record in done.records.items():
            self.touched.append(name.text)
            self.log.append(f"{name} {'gone' if record is None else record.hash[:4]}")
            if record is None:
                del units[name]
            else:
                units[name] = unit_of(name.text, self._file(record.hash), record)
        self.cluster = replace(self.cluster, units=units, active=() if done.release.over else (done.release,))
        self.settle()
        if not changed:
            if done.wake is None:
                return False
            self.now = max(done.wake, self.now)
        return True

    def settle(self) -> None:
        """The schedule is as the engine wants it, and the agents follow it."""
        schedule = {name: dict(places) for name, places in self.cluster.schedule.items()}
        for decision in reconcile(self.cluster):
            match decision:
                case Assign(name, machine, assignment):
                    schedule.setdefault(name, {})[machine] = assignment
                case Withdraw(name, machine):
                    del schedule[name][machine]
        schedule = {name: places for name, places in schedule.items() if places}
        before = self.cluster.states
        states = {
            name: {
                machine: self._state(before.get(name, {}).get(machine), assignment)
                for machine, assignment in places.items()
            }
            for name, places in schedule.items()
        }
        self.cluster = replace(self.cluster, schedule=schedule, states=states)
        # What stopped does not serve: that is seen before what comes up again does.
        self._serve(states, lambda state, old: state is old)
        self._serve(states, lambda state, old: True)

    def _state(self, old: UnitState | None, assignment: Assignment) -> UnitState:
        if assignment.desired != "launched":
            return UnitState("loaded", "inactive", "dead", assignment.hash)
        if old is not None and (old.hash, old.order) == (assignment.hash, assignment.order):
            return old
        how = self._file(assignment.hash).text.split("# ")[1].split("\n")[0]
        active, sub, restarts = {
            GOOD: ("active", "running", 0),
            CRASHES: ("failed", "failed", 0),
            HANGS: ("activating", "start", 0),
            LOOPS: ("activating", "auto-restart", 3),
            ENDS: ("inactive", "dead", 0),
        }[how]
        result = "success" if how in (GOOD, ENDS) else "exit-code"
        return UnitState(
            "loaded", active, sub, assignment.hash, result, restarts=restarts, order=assignment.order
        )

    def _serve(self, states: dict, counts: Callable[[UnitState, UnitState | None], bool]) -> None:
        old = {(name, m): s for name, places in self._last.items() for m, s in places.items()}
        endpoints = tuple(
            Endpoint(name.service, name.text, "-", machine, "127.0.0.1", ready=True, **self._role(name))
            for name, places in states.items()
            for machine, state in places.items()
            if state.active == "active" and counts(state, old.get((name, machine)))
        )
        self.cluster = replace(self.cluster, endpoints=endpoints)
        for service in {name.service for name in states}:
            count = sum(e.service == service for e in endpoints)
            self.low[service] = min(self.low.get(service, 99), count)
        self._last = states

    _last: dict = field(default_factory=dict)
    # The unit that leads, where there are roles.
    leads: str = ""

    def _role(self, name: UnitName) -> dict[str, Any]:
        leads = name.text == self.leads
        return {"role": "primary" if leads else "replica", "leads": leads} if self.leads else {}

    def _file(self, digest: str) -> UnitFile:
        return self.files[digest]

    def text(self, name: str) -> str:
        """The hash of the text that a unit runs."""
        return self.cluster.units[UnitName.parse(name)].record.hash

    def ready(self) -> set[str]:
        return {endpoint.unit for endpoint in self.cluster.endpoints}


def world(
    old: dict[str, UnitFile],
    new: dict[str, UnitFile],
    policy: Policy = QUICK,
    restart: Iterable[str] = (),
    machines: Iterable[Machine] = MACHINES,
) -> World:
    """Units that run, and a release that gives them other texts."""
    files = {file.hash: file for file in (*old.values(), *new.values())}
    units = {}
    for name, file in old.items():
        desired = "inactive" if UnitName.parse(name).is_template else "launched"
        units[UnitName.parse(name)] = unit_of(name, file, UnitRecord(file.hash, desired, 1))
    made = World(
        Release(
            "app",
            7,
            {name: file.hash for name, file in new.items()},
            start=tuple(name for name in new if not UnitName.parse(name).is_template),
            restart=tuple(restart),
            gone=tuple(name for name in old if name not in new),
            whole=True,
            policy=policy,
        ),
        files,
        Cluster({m.id: m for m in machines}, units),
    )
    made.settle()
    made.low.clear()
    made.touched.clear()
    return made


def instances(count: int, *lines: str, version: str = "1", how: str = GOOD) -> dict[str, UnitFile]:
    return {
        f"web@{n}.service": file_of(f"web@{n}.service", *lines, version=version, how=how)
        for n in range(1, count + 1)
    }


def test_a_good_release_replaces_instances_one_after_another():
    new = instances(3, version="2")
    made = world(instances(3), new)
    assert made.play().state == "done"
    assert made.touched == ["web@1.service", "web@2.service", "web@3.service"]
    assert made.low == {"web": 2}
    assert all(made.text(name) == file.hash for name, file in new.items())
    # Each has been ready for five seconds.
    assert made.now == pytest.approx(15.0)


def test_the_instance_that_leads_is_replaced_last():
    made = world(instances(3), instances(3, version="2"))
    made.leads = "web@1.service"
    made.settle()
    assert made.play().state == "done"
    assert made.touched == ["web@2.service", "web@3.service", "web@1.service"]
    assert made.low == {"web": 2}


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        (CRASHES, "failed: exit-code"),
        (HANGS, "was not ready within 60 s: exit-code"),
        (LOOPS, "crashed 3 times: exit-code"),
    ],
)
def test_one_that_does_not_come_up_is_taken_back_and_others_are_never_touched(how: str, reason: str):
    old = instances(3)
    made = world(old, instances(3, version="2", how=how))
    release = made.play()
    assert release.state == "rolled-back"
    assert (release.failure.unit, release.failure.reason) == ("web@1.service", reason)
    assert set(made.touched) == {"web@1.service"}
    assert made.low == {"web": 2}
    assert all(made.text(name) == file.hash for name, file in old.items())
    assert made.ready() == old.keys()


def test_an_endpoint_of_before_its_machine_was_booted_makes_no_instance_ready():
    made = world(instances(1), instances(1, version="2", how=HANGS))
    stale = made.cluster.endpoints
    assert [endpoint.ready for endpoint in stale] == [True]
    made.play(until=lambda made: "web@1.service" in made.release.advanced)
    for _ in range(3):
        made.cluster = replace(made.cluster, endpoints=stale)
        made.sights = rollout.observe(made.release, made.cluster, made.sights, made.now, made.now)
    assert [sight.ready for sight in made.sights.values()] == [None]


def test_a_later_failure_takes_back_all_that_was_touched_and_never_has_fewer_serve():
    old = instances(3)
    new = instances(3, version="2") | {"web@3.service": file_of("x", version="2", how=CRASHES)}
    made = world(old, new)
    assert made.play().state == "rolled-back"
    assert made.low == {"web": 2}
    assert all(made.text(name) == file.hash for name, file in old.items())
    # What does not serve goes back first.
    assert made.touched[3] == "web@3.service"


def test_what_nobody_can_place_is_found_before_anything_is_touched():
    made = world(instances(2), instances(2, "MachineMetadata=disk=ssd", version="2"))
    release = made.play()
    assert release.state == "rolled-back"
    assert "cannot be scheduled" in release.failure.reason
    assert made.touched == []


def test_some_at_a_time():
    made = world(instances(5), instances(5, version="2"), replace(QUICK, at_a_time=2))
    assert made.play().state == "done"
    assert made.low == {"web": 3}
    assert made.now == pytest.approx(15.0)


def test_a_units_own_options_go_before_the_applications():
    made = world(instances(4), instances(4, "AtATime=4", "HealthyFor=1min", version="2"))
    assert made.play().state == "done"
    assert made.low == {"web": 0}
    assert made.now == pytest.approx(60.0)


def test_a_unit_says_itself_when_its_canaries_are_promoted_and_that_a_failure_is_a_pause():
    lines = ("Canary=1", "Promote=10min", "OnFailure=pause")
    made = world(instances(3), instances(3, *lines, version="2"))
    assert made.play().state == "done"
    assert made.now >= 600
    bad = world(instances(3), instances(3, *lines, version="2", how=CRASHES))
    assert bad.play().state == "paused"
    assert bad.touched == ["web@1.service"]


def test_one_that_is_down_goes_first():
    old = instances(2) | {"web@2.service": file_of("x", how=CRASHES)}
    made = world(old, instances(2, version="2"))
    assert made.play().state == "done"
    assert made.touched == ["web@2.service", "web@1.service"]


def test_unchanged_units_are_let_be_and_a_restart_replaces_them_without_delay():
    same = instances(2)
    made = world(same, same)
    assert made.play().state == "done"
    assert made.touched == []
    again = world(same, same, restart=same)
    assert again.play().state == "done"
    assert again.touched == list(same)
    assert (again.low, again.now) == ({"web": 1}, 0.0)


def test_services_go_in_the_order_of_their_links_and_sticky_ones_last():
    def units(version: str) -> dict[str, UnitFile]:
        return {
            "db.service": file_of("db.service", "Sticky=yes", version=version),
            "a.service": file_of("a.service", "Link=web", version=version),
            "web@1.service": file_of("web@1.service", "Link=db", version=version),
        }

    made = world(units("1"), units("2"))
    assert made.play().state == "done"
    assert made.touched == ["web@1.service", "a.service", "db.service"]


def test_sticky_instances_are_replaced_alone_there_and_back():
    lines = ("Sticky=yes", "AtATime=3")
    made = world(instances(3, *lines), instances(3, *lines, version="2"))
    assert made.play().state == "done"
    assert made.low == {"web": 2}
    new = instances(3, *lines, version="2") | {"web@3.service": file_of("web@3.service", *lines, how=CRASHES)}
    bad = world(instances(3, *lines), new)
    assert bad.play().state == "rolled-back"
    assert bad.low == {"web": 2}


def test_new_units_start_at_once_and_those_that_are_gone_are_destroyed_at_the_end():
    old = instances(1) | {"old.service": file_of("old.service")}
    new = instances(1, version="2") | {"new.service": file_of("new.service")}
    made = world(old, new)
    assert made.play().state == "done"
    assert made.touched == ["new.service", "web@1.service", "old.service"]
    assert UnitName.parse("old.service") not in made.cluster.units


def test_a_failed_release_leaves_no_new_unit_and_destroys_none():
    old = instances(1) | {"old.service": file_of("old.service")}
    new = instances(1, version="2") | {"new.service": file_of("new.service", how=CRASHES)}
    made = world(old, new)
    assert made.play().state == "rolled-back"
    assert {name.text for name in made.cluster.units} == old.keys()


def test_what_goes_makes_room_for_what_comes():
    old = {f"old@{n}.service": file_of("x", "CPU=8") for n in (1, 2, 3)}
    new = {f"new@{n}.service": file_of("x", "CPU=8") for n in (1, 2, 3)}
    made = world(old, new)
    assert made.play().state == "done"
    assert {name.text for name in made.cluster.units} == new.keys()


def test_a_template_gets_its_text_and_gives_it_back():
    old = {"web@.service": file_of("web@.service"), **instances(1)}
    new = {"web@.service": file_of("web@.service", version="2"), **instances(1, version="2", how=CRASHES)}
    made = world(old, new)
    made.play(until=lambda world: bool(world.touched))
    assert made.text("web@.service") == new["web@.service"].hash
    assert made.play().state == "rolled-back"
    assert made.text("web@.service") == old["web@.service"].hash


def test_a_first_release_that_fails_has_nothing_to_go_back_to():
    new = {"a.service": file_of("a.service"), "b.service": file_of("b.service", how=CRASHES)}
    made = world({}, new)
    release = made.play()
    assert (release.state, release.failure.unit) == ("failed", "b.service")
    assert made.ready() == {"a.service"}


def test_what_did_not_run_before_stays_as_it_is_if_the_release_fails():
    """As after `kirsch down`, or a first try that failed: units are known, and none of them runs."""
    old = instances(2)
    made = world(old, instances(1, version="2") | {"web@2.service": file_of("x", version="2", how=CRASHES)})
    stopped = {
        name: replace(unit, record=replace(unit.record, desired="inactive"))
        for name, unit in made.cluster.units.items()
    }
    made.cluster = replace(made.cluster, units=stopped)
    made.settle()
    release = made.play()
    assert (release.state, release.failure.unit) == ("failed", "web@2.service")
    assert made.ready() == {"web@1.service"}
    assert {unit.desired for unit in made.cluster.units.values()} == {"launched"}


def test_what_serves_now_is_not_taken_back_to_what_did_not():
    """The text before was no good either: one of its service serves with the new text, and goes on to."""
    old = instances(3, how=CRASHES) | {"db.service": file_of("db.service")}
    new = instances(2, version="2") | {"web@3.service": file_of("x", version="2", how=CRASHES)}
    made = world(old, new | {"db.service": file_of("db.service", version="2")})
    release = made.play()
    assert (release.state, release.failure.unit) == ("rolled-back", "web@3.service")
    assert {"web@1.service", "web@2.service"} <= made.ready()
    assert made.text("web@3.service") == new["web@3.service"].hash
    assert made.text("db.service") == old["db.service"].hash
    assert "db.service" in made.ready()


def test_a_service_of_which_nothing_ever_served_has_its_old_text_again():
    old = instances(2, how=CRASHES)
    made = world(old, instances(2, version="2", how=CRASHES))
    assert made.play().state == "rolled-back"
    assert all(made.text(name) == file.hash for name, file in old.items())


def test_canaries_wait_to_be_promoted_and_a_rollback_does_not():
    new = instances(3, version="2")
    made = world(instances(3), new, replace(QUICK, canary=1))
    assert made.play().state == "canary"
    assert made.touched == ["web@1.service"]
    made.release = steered(made.release, "promote", made.cluster)
    assert made.play().state == "done"
    assert made.touched == list(new)


def test_a_restart_has_no_canaries():
    same = instances(3, "Canary=1")
    made = world(same, same, replace(QUICK, canary=1), restart=same)
    assert made.play().state == "done"
    assert made.touched == list(same)


def test_what_is_promoted_from_the_beginning_has_no_canaries():
    """As a rollback is."""
    made = world(instances(3, "Canary=1"), instances(3, "Canary=1", version="2"))
    made.release = replace(made.release, promoted=True)
    assert made.play().state == "done"


def test_canaries_are_promoted_by_time_and_watched_until_then():
    made = world(instances(3), instances(3, version="2"), replace(QUICK, canary=2, promote=600.0))
    assert made.play().state == "done"
    assert made.now == pytest.approx(600 + 5 + 5, abs=6)


def test_a_canary_that_crashes_later_is_taken_back():
    made = world(instances(3), instances(3, version="2"), replace(QUICK, canary=1))
    assert made.play().state == "canary"
    one = UnitName.parse("web@1.service")
    ((machine, state),) = made.cluster.states[one].items()
    failed = replace(state, active="failed", sub="failed", result="signal")
    made.cluster = replace(made.cluster, states={**made.cluster.states, one: {machine: failed}}, endpoints=())
    assert made.play().state == "rolled-back"
    assert set(made.touched) == {"web@1.service"}


def test_a_pause_on_failure_can_be_resumed_or_called_off():
    policy = replace(QUICK, on_failure="pause")
    made = world(instances(2), instances(2, version="2", how=CRASHES), policy)
    assert made.play().state == "paused"
    paused = made.release
    # What was wrong is elsewhere, and is mended.
    new = made.files[paused.units["web@1.service"]]
    for digest in paused.units.values():
        made.files[digest] = UnitFile.parse(new.text.replace(CRASHES, GOOD), "x")
    made.release = steered(paused, "resume", made.cluster)
    assert made.play().state == "done"
    other = world(old := instances(2), instances(2, version="2", how=CRASHES), policy)
    other.play()
    other.release = steered(other.release, "abort", other.cluster)
    assert other.play().state == "aborted"
    assert all(other.text(name) == file.hash for name, file in old.items())


def test_a_global_unit_is_replaced_machine_by_machine():
    name = "lb.service"
    old, new = file_of(name, "Global=true"), file_of(name, "Global=true", version="2")
    made = world({name: old}, {name: new})
    assert made.play().state == "done"
    assert made.low == {"lb": 2}
    assert {a.hash for a in made.cluster.schedule[UnitName.parse(name)].values()} == {new.hash}
    broken = file_of(name, "Global=true", version="2", how=CRASHES)
    bad = world({name: old}, {name: broken})
    assert bad.play().state == "rolled-back"
    assert bad.low == {"lb": 2}
    assert {a.hash for a in bad.cluster.schedule[UnitName.parse(name)].values()} == {old.hash}


def test_what_a_person_does_meanwhile_stays():
    made = world(instances(3), instances(3, version="2"))
    made.play(until=lambda world: bool(world.touched))
    two = UnitName.parse("web@2.service")
    unit = made.cluster.units[two]
    stopped = replace(unit, record=replace(unit.record, desired="loaded"))
    made.cluster = replace(made.cluster, units={**made.cluster.units, two: stopped})
    made.settle()
    assert made.play().state == "done"
    assert made.touched == ["web@1.service", "web@3.service"]
    assert made.cluster.units[two].record.desired == "loaded"


def test_a_release_waits_for_the_one_before():
    made = world(instances(1), instances(1, version="2"))
    other = replace(made.release, number=6, state="running")
    made.cluster = replace(made.cluster, active=(other, made.release))
    view = rollout.View(made.release, made.cluster, {}, 0.0, 0.0)
    assert rollout.step(view).release.state == "waiting"
    elsewhere = replace(other, application="other", units={"z.service": "0"})
    alone = replace(view, cluster=replace(made.cluster, active=(elsewhere, made.release)))
    targets = {
        UnitName.parse(n): unit_of(n, made.files[h], UnitRecord(h)) for n, h in made.release.units.items()
    }
    alone = replace(alone, release=replace(made.release, targets=targets))
    assert rollout.step(alone).release.state == "running"


def taken_over(made: World, new: dict[str, UnitFile], kept: Iterable[str] = ()) -> World:
    """A release that takes the place of the one under way."""
    made.files.update((file.hash, file) for file in new.values())
    active = () if made.release.over else (made.release,)
    units = {name: file.hash for name, file in new.items()}
    after = Release(
        "app", made.release.number + 1, units, tuple(new), kept=tuple(kept), whole=True, policy=QUICK
    )
    made.release, _, _ = opened(
        after, True, replace(made.cluster, active=active), Mirror(MemoryRegistry(), keys.ROOT)
    )
    made.sights = {}
    return made


def test_what_changes_no_text_has_the_one_that_is_there_when_it_begins():
    """A scale, say, that waited for a change; its new instance has its template's text."""
    before = {"web@.service": file_of("web@.service"), **instances(3)}
    after = {"web@.service": file_of("web@.service", version="2"), **instances(2, version="2")}
    made = world(after, before)
    made.release = replace(made.release, kept=tuple(before))
    assert made.play().state == "done"
    assert made.touched == ["web@3.service"]
    assert {made.text(name) for name in before} == {after["web@.service"].hash}


def test_what_changes_no_text_does_not_bring_what_was_called_off_before_it():
    made = world(instances(1), {**instances(2), "new.service": file_of("new.service")})
    made.release = replace(made.release, start=("web@1.service", "web@2.service"), kept=("new.service",))
    assert made.play().state == "done"
    assert made.touched == ["web@2.service"]
    assert "new.service" not in made.release.units


def test_what_changes_no_text_and_takes_a_changes_place_brings_the_old_one_back():
    old = instances(2)
    made = world(old, new := instances(2, version="2"))
    made.play(until=lambda world: "web@1.service" in world.touched)
    taken_over(made, {"web@1.service": new["web@1.service"], "web@2.service": old["web@2.service"]}, kept=old)
    assert made.play().state == "done"
    assert {name: made.text(name) for name in old} == {name: file.hash for name, file in old.items()}


def test_one_that_took_anothers_place_takes_back_what_it_has_not_touched_itself():
    old = instances(2)
    made = world(old, instances(2, version="2"))
    made.play(until=lambda world: "web@1.service" in world.touched)
    # The second does not serve just now, so it is the first to be replaced.
    two = UnitName.parse("web@2.service")
    made.cluster = replace(
        made.cluster, endpoints=tuple(e for e in made.cluster.endpoints if e.unit != two.text)
    )
    taken_over(made, instances(2, version="3", how=CRASHES))
    assert made.play().state == "rolled-back"
    assert "web@1.service" not in made.touched[1:-1]
    assert {name: made.text(name) for name in old} == {name: file.hash for name, file in old.items()}
    assert made.ready() == old.keys()


def test_what_was_taken_over_is_kept_while_releases_follow_each_other_at_once():
    old = instances(2)
    made = world(old, instances(2, version="2", how=HANGS))
    made.play(until=lambda world: "web@1.service" in world.touched)
    # The next does not even begin.
    taken_over(made, instances(2, version="3"))
    taken_over(made, instances(2, version="4", how=HANGS))
    assert made.play().state == "rolled-back"
    assert {name: made.text(name) for name in old} == {name: file.hash for name, file in old.items()}
    assert made.ready() == old.keys()


def test_one_that_took_anothers_place_and_is_called_off_before_it_begins_takes_back_what_that_one_did():
    old = instances(2)
    made = world(old, instances(2, version="2", how=HANGS))
    made.play(until=lambda world: "web@1.service" in world.touched)
    taken_over(made, instances(2, version="3"))
    made.release = steered(made.release, "abort", made.cluster)
    assert made.play().state == "aborted"
    assert made.text("web@1.service") == old["web@1.service"].hash
    assert made.ready() == old.keys()


def test_what_a_release_added_and_the_next_does_not_have_is_gone_on_the_way_back():
    old = instances(1)
    made = world(old, instances(2, version="2"))
    made.play(until=lambda world: "web@2.service" in world.touched)
    taken_over(made, instances(1, version="3"))
    made.release = replace(made.release, gone=("web@2.service",), aborted=True)
    assert made.play().state == "aborted"
    assert made.ready() == old.keys()
    assert made.text("web@1.service") == old["web@1.service"].hash


def test_on_the_way_back_what_serves_waits_for_others_that_start_elsewhere():
    made = world(instances(2), instances(2, version="2"))
    made.play(until=lambda world: "web@1.service" in world.touched)
    two = UnitName.parse("web@2.service")
    before = made.cluster
    (machine,) = before.schedule[two]
    starts = replace(before.states[two][machine], active="activating", sub="start")
    made.cluster = replace(
        before,
        states={**before.states, two: {machine: starts}},
        endpoints=tuple(e for e in before.endpoints if e.unit != two.text),
    )
    made.release = steered(made.release, "abort", made.cluster)
    made.touched.clear()
    made.settle = lambda: None  # type: ignore[method-assign]
    made.step()
    made.step()
    assert (made.release.state, made.touched) == ("rolling-back", [])
    # One that does not come up in time is not waited for.
    made.now += QUICK.deadline
    made.step()
    assert made.touched == ["web@1.service"]


def leaving(name: str) -> World:
    """A release in the moment when it has replaced an instance, and its machine has not seen that yet."""
    made = world(instances(2), instances(2, version="2"))
    made.play(until=lambda world: world.now > 4)
    made.settle = lambda: None  # type: ignore[method-assign]
    made.play(until=lambda world: name in world.touched)
    assert name in made.ready()
    made.touched.clear()
    return made


def test_on_the_way_back_what_is_about_to_stop_goes_first():
    made = leaving("web@2.service")
    made.release = steered(made.release, "abort", made.cluster)
    made.step()
    made.step()
    assert made.touched == ["web@2.service"]


def test_one_that_took_anothers_place_replaces_first_what_is_about_to_stop():
    made = taken_over(leaving("web@2.service"), instances(2, version="3"))
    made.step()
    assert made.touched == ["web@2.service"]


HOW = st.sampled_from([GOOD, GOOD, GOOD, CRASHES, HANGS, LOOPS])


@given(
    hows=st.lists(HOW, min_size=1, max_size=5),
    at_a_time=st.integers(1, 3),
    canary=st.integers(0, 2),
    leaders=st.integers(4, 9),
)
def test_invariants(hows: list[str], at_a_time: int, canary: int, leaders: int):
    """Never fewer than n - at_a_time serve; it ends with the new text everywhere, or with the old."""
    old = instances(len(hows))
    new = {name: file_of(name, version="2", how=how) for name, how in zip(old, hows, strict=True)}
    made = world(old, new, Policy(at_a_time=at_a_time, canary=canary, promote=30.0))
    steps = 0
    while not made.release.over:
        assert steps < 300
        steps += 1
        if steps % leaders == 0 and leaders < 9:
            made.sights = {}  # another leader, who has seen nothing
        if not made.step():
            break
        # What is stored is all that the next leader has.
        made.release = Release.parse(made.release.to_json())
    bad = any(how != GOOD for how in hows)
    if leaders == 9:
        assert made.release.state == ("rolled-back" if bad else "done")
        assert all(made.text(name) == (old if bad else new)[name].hash for name in old)
        assert made.ready() == old.keys()
    assert made.low.get("web", len(hows)) >= len(hows) - at_a_time


COMMAND = "web-release@7.service"


def with_command(made: World, how: str, *lines: str) -> World:
    """The same with a command that ends, crashes, or goes on, as `how` has it."""
    file = file_of(COMMAND, *lines, how=how)
    made.files[file.hash] = file
    made.release = replace(made.release, commands={COMMAND: file.hash})
    return made


def test_a_command_runs_once_before_anything_that_runs_is_touched():
    template = {"web@.service": file_of("web@.service")}
    new = {"web@.service": file_of("web@.service", version="2"), **instances(2, version="2")}
    made = with_command(world(template | instances(2), new | {"new.service": file_of("n")}), ENDS)
    assert made.play().state == "done"
    assert made.touched[:2] == [COMMAND, COMMAND]
    assert made.touched.count(COMMAND) == 2
    assert UnitName.parse(COMMAND) not in made.cluster.units
    assert made.release.commanded == {COMMAND: True}
    assert made.text("web@1.service") == new["web@1.service"].hash


def test_a_command_that_fails_leaves_everything_as_it_was():
    old = {"web@.service": file_of("web@.service"), **instances(2)}
    new = {"web@.service": file_of("web@.service", version="2"), **instances(2, version="2")}
    made = with_command(world(old, new), CRASHES)
    release = made.play()
    assert release.state == "rolled-back"
    assert (release.failure.unit, release.failure.reason) == (COMMAND, "failed: exit-code")
    assert made.touched == [COMMAND, COMMAND]
    assert {name.text: unit.record.hash for name, unit in made.cluster.units.items()} == {
        name: file.hash for name, file in old.items()
    }


def test_a_command_takes_its_time_and_can_be_called_off():
    made = with_command(world(instances(2), instances(2, version="2")), HANGS)
    made.play()
    assert (made.release.state, made.touched) == ("running", [COMMAND])
    made.release = replace(made.release, aborted=True)
    assert made.play().state == "aborted"
    assert UnitName.parse(COMMAND) not in made.cluster.units


def test_what_a_command_is_linked_to_is_started_first_where_it_does_not_run():
    new = {
        "db.service": file_of("db.service"),
        "web@1.service": file_of("web@1.service", "Link=db"),
        "other.service": file_of("other.service"),
    }
    made = with_command(world({}, new), ENDS, "Link=db")
    assert made.play().state == "done"
    assert made.touched[:3] == ["db.service", COMMAND, COMMAND]
    assert set(made.touched[3:]) == {"web@1.service", "other.service"}


def test_a_command_that_failed_is_run_again_when_the_release_is_resumed():
    paused = replace(QUICK, on_failure="pause")
    made = with_command(world(instances(1), instances(1, version="2"), paused), CRASHES)
    assert made.play().state == "paused"
    made = with_command(made, ENDS)
    made.release = steered(made.release, "resume", made.cluster)
    assert made.play().state == "done"
    assert UnitName.parse(COMMAND) not in made.cluster.units


def test_a_command_that_nobody_can_place_fails_the_release():
    made = with_command(world(instances(1), instances(1, version="2")), ENDS, "MachineMetadata=disk=ssd")
    release = made.play()
    assert (release.state, release.failure.unit, made.touched) == ("rolled-back", COMMAND, [])


def test_one_that_takes_the_place_of_a_release_ends_its_commands():
    mirror = Mirror(MemoryRegistry(), keys.ROOT)
    first = Release("app", 1, {}, state="running", commands={COMMAND: "x"}, commanded={COMMAND: False})
    cluster = Cluster(releases={("app", 1): first}, active=(first,))
    mirror.entries[keys.unit(COMMAND)] = Entry(keys.unit(COMMAND), "{}", 1, 1)
    _, writes, _ = opened(Release("app", 2, {}), True, cluster, mirror)
    assert Delete(keys.unit(COMMAND)) in writes
