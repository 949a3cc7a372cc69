"""A voter of etcd that is lost for good has a successor: decided, and done with a real etcd."""

import asyncio
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.cluster.etcd_server import EtcdServer, Member, free_ports, needs_etcd

from kirsch.cluster.daemon.voters import Voters
from kirsch.cluster.engine.voters import (
    Action,
    Add,
    Promote,
    Remove,
    Succession,
    View,
    Write,
    step,
)
from kirsch.cluster.model import Machine, keys
from kirsch.cluster.node.settings import Settings, SettingsError
from kirsch.cluster.provision.join import environment, settings_with
from kirsch.cluster.registry.base import Unavailable
from kirsch.cluster.registry.etcd import EtcdRegistry
from kirsch.cluster.registry.health import Voter
from kirsch.cluster.registry.mirror import Mirror


def machine(number: int, zone: str = "", **values: Any) -> Machine:
    metadata = {"hostname": f"n{number}", **({"zone": zone} if zone else {})}
    return Machine(f"{number}" * 32, f"10.0.0.{number}", metadata, **{"etcd": True, **values})


def voter(number: int, answers: bool = True, learner: bool = False) -> Voter:
    at = f"https://10.0.0.{number}"
    return Voter(number, f"n{number}", f"{at}:2380", f"{at}:2379", learner, answers)


NONE = Succession()
PEER = "https://10.0.0.{}:2380"


def view(voters: list[Voter], machines: list[Machine], plan: Succession = NONE, **more: Any) -> View:
    away = frozenset(each.id for each in voters if not each.answers)
    return View(voters, {each.id: each for each in machines}, **{"away": away, "plan": plan, **more})


THREE = [voter(1), voter(2), voter(3, answers=False)]


def begun(now: View) -> str:
    """Return the number of the machine that is chosen; empty if nothing is done."""
    action = step(now)
    return action.plan.machine[0] if isinstance(action, Write) else ""


def test_a_machine_with_etcd_takes_the_place_of_a_voter_that_is_away_for_long():
    there = [machine(1), machine(2), machine(4), machine(5)]
    assert begun(view(THREE, there)) == "4"
    assert begun(view(THREE, there, away=frozenset())) == ""
    assert begun(view(THREE, [*there, machine(3)])) == ""
    assert begun(view([voter(1), voter(2), voter(3)], there)) == ""


@pytest.mark.parametrize(
    ("able", "chosen"),
    [
        ([machine(4, etcd=False), machine(5)], "5"),
        ([machine(4, cordoned=True), machine(5)], "5"),
        ([machine(4, "a"), machine(5, "c")], "5"),
        ([machine(4, "b"), machine(5, "a")], "4"),
        ([], ""),
    ],
)
def test_the_successor_is_able_and_of_a_zone_that_has_fewest(able: list[Machine], chosen: str):
    there = [machine(1, "a"), machine(2, "b" if chosen != "4" else "a"), *able]
    assert begun(view(THREE, there)) == chosen


def test_nothing_is_done_without_a_quorum_while_a_person_is_at_it_or_with_somebody_else_s_etcd():
    there = [machine(1), machine(2), machine(4)]
    alone = [voter(1), voter(2, answers=False), voter(3, answers=False)]
    assert step(view(alone, there)) is None
    assert step(view([*THREE, voter(6, learner=True)], there)) is None
    assert step(view(THREE, [machine(1), machine(4)])) is None


def test_who_comes_back_before_anything_was_done_keeps_its_place():
    there, plan = (
        [machine(1), machine(2), machine(3), machine(4)],
        Succession((), 3, "4" * 32, PEER.format(4)),
    )
    assert step(view(THREE, there, plan)) == Write(Succession((), 3))
    assert step(view([voter(1), voter(2), voter(3)], there[:2], plan)) == Write(Succession((), 3))


def test_a_successor_that_does_not_come_up_gives_way_to_another():
    plan = Succession((), 3, "4" * 32, PEER.format(4), 4, "told")
    now = [voter(1), voter(2), voter(4, answers=False, learner=True)]
    there = [machine(1), machine(2), machine(4), machine(5)]
    assert step(view(now, there, plan)) == Promote(now[2])
    assert step(view(now, there, plan, stuck=True)) == Remove(now[2])
    assert step(view(now[:2], there, plan, stuck=True)) == Write(Succession((), 3, "5" * 32, PEER.format(5)))


@dataclass
class World:
    """Etcd's rules for its members, and machines that die and return."""

    machines: dict[int, Machine]
    voters: dict[int, Voter]
    up: set[int]
    plan: Succession = NONE
    log: list[str] = field(default_factory=list)

    def view(self, stuck: bool = False) -> View:
        voters = [replace(each, answers=number in self.up) for number, each in self.voters.items()]
        there = {each.id: each for number, each in self.machines.items() if number in self.up}
        away = frozenset(each.id for each in voters if not each.answers)
        return View(voters, there, away, self.plan, stuck)

    @property
    def answering(self) -> set[int]:
        return {number for number, each in self.voters.items() if not each.learner} & self.up

    def do(self, action: Action | None) -> None:
        voting = {number for number, each in self.voters.items() if not each.learner}
        match action:
            case Write(plan):
                self.plan = plan
            case Remove(member):
                assert member.learner or member.id not in self.up
                del self.voters[member.id]
            case Add(peer):
                number = int(peer.removesuffix(":2380")[-1])
                assert peer == PEER.format(number)
                if voting <= self.up:  # else etcd refuses
                    self.voters[number] = replace(voter(number), learner=True)
            case Promote(member):
                if member.id in self.up:
                    self.voters[member.id] = replace(self.voters[member.id], learner=False)
        self.log.append(repr(action))


@given(
    st.integers(4, 8),
    st.sampled_from((1, 3, 5)),
    st.lists(st.tuples(st.integers(1, 8), st.booleans(), st.integers(1, 3)), max_size=12),
)
def test_whatever_dies_and_returns_no_vote_of_a_machine_that_lives_is_lost(count, size, course):
    size = min(size, count - 1 + count % 2)
    there = range(1, count + 1)
    world = World(
        {number: machine(number) for number in there},
        {number: voter(number) for number in range(1, size + 1)},
        set(there),
    )
    for number, returns, steps in course:
        after = world.up | {number} if returns else world.up - {number}
        after &= set(there)
        voting = {each.id for each in world.voters.values() if not each.learner}
        if 2 * len(voting & after) <= len(voting):
            continue  # then etcd itself is lost
        world.up = after
        for _ in range(steps):
            before = world.answering
            world.do(step(world.view()))
            assert before <= world.answering, world.log
            assert sum(each.learner for each in world.voters.values()) <= 1
            assert 2 * len(world.answering) > sum(not each.learner for each in world.voters.values())
    for at in range(60):
        world.do(step(world.view(stuck=at == 30)))
    keeping = {number for number, each in world.voters.items() if not each.learner}
    if len(world.up) >= size:
        assert len(keeping) == size, world.log
        assert keeping <= world.up, world.log
        assert not world.plan.machine, world.log


def test_two_that_are_lost_at_once_leave_together_and_are_replaced_one_after_another():
    five = [voter(number, answers=number > 2) for number in range(1, 6)]
    there = [machine(number) for number in range(3, 8)]
    now = view(five, there)
    plan = step(now)
    assert isinstance(plan, Write)
    assert plan.plan.machine == "6" * 32
    assert step(replace(now, plan=plan.plan)) == Remove(five[0])
    assert step(replace(now, plan=plan.plan, voters=five[1:])) == Remove(five[1])
    assert step(replace(now, plan=plan.plan, voters=five[2:])) == Add(PEER.format(6))
    more = step(view([*five[2:], voter(6)], there, Succession((), 5)))
    assert isinstance(more, Write)
    assert more.plan.machine == "7" * 32


def test_the_plan_is_kept_as_json_that_a_later_kirsch_may_add_to():
    plan = Succession(("https://a:1",), 3, "4" * 32, "u", 4, "n4=x")
    assert Succession.parse(plan.to_json()) == plan
    assert Succession.parse(json.dumps({**json.loads(plan.to_json()), "more": 1})) == plan


def test_a_machine_s_settings_and_etcd_s_for_a_new_member():
    before = 'cluster = "c"\netcd = ["https://10.0.0.1:2379"]\n\n[metadata]\n'
    assert settings_with(before, ["https://10.0.0.2:2379"]) == before.replace("0.1:", "0.2:")
    text = environment(
        {"name": "n4", "address": "10.0.0.4", "cluster": "c", "peers": "n4=https://x", "member": "ff"}
    )
    assert text.startswith("# member ff\n")
    assert "ETCD_INITIAL_CLUSTER_STATE=existing\n" in text
    assert "ETCD_INITIAL_CLUSTER=n4=https://x\n" in text


def test_how_long_a_voter_is_away_is_a_setting():
    base = 'cluster = "c"\nname = "n1"\naddress = "10.0.0.1"\netcd = ["http://10.0.0.1:2379"]\n'
    assert Settings.parse(base).replace_voters == 900
    assert Settings.parse(f"{base}replace-voters = 0").replace_voters == 0
    with pytest.raises(SettingsError, match="replace-voters is to be a number of seconds, 0 for never"):
        Settings.parse(f'{base}replace-voters = "15min"')


@needs_etcd
@pytest.mark.services
@pytest.mark.slow
def test_a_real_etcd_has_another_member_in_place_of_one_that_died(tmp_path):
    server = EtcdServer.__new__(EtcdServer)
    server.certificates = None
    server.members = [Member(tmp_path, f"m{number}", None, []) for number in range(4)]
    [port] = free_ports("127.0.0.1", 1)
    for member in server.members:
        member.peer = f"http://{member.address}:{port}"
    *first, last = server.members
    server.members = first
    machines = {
        name: Machine(name, member.address, {"hostname": name}, etcd=True)
        for name, member in ((each.name, each) for each in (*first, last))
    }
    joined: list[Mapping[str, Any]] = []

    async def change(given: Mapping[str, Any]) -> None:
        joined.append(given)
        if "etcd" not in given:
            last.options = ["--initial-cluster-state=existing"]
            last.spawn(given["peers"]).close()

    async def nothing() -> None:
        pass

    async def play() -> None:
        registry = await EtcdRegistry.open([member.endpoint for member in first])
        mirror = Mirror(registry, keys.ROOT)
        running = asyncio.create_task(mirror.run())
        parts = [
            Voters(registry, mirror, machines[name], lambda: machines, "c", 0.01, nothing, change)
            for name in ("m0", "m3")
        ]
        try:
            await registry.put(keys.LEADER, "m0")
            await mirror.reached(1)
            first[2].kill()
            del machines["m2"]
            async with asyncio.timeout(60):
                while not parts[0].plan.urls:
                    with suppress(Unavailable):
                        await parts[0].act()
                    for part in parts:
                        await part.take_part()
            now = await registry.voters()
            assert {each.name for each in now} == {"m0", "m1", "m3"}
            assert all(each.answers and not each.learner for each in now)
            assert set(registry.urls) == {each.endpoint for each in (*first[:2], last)}
            assert [sorted(given) for given in joined] == [
                ["address", "cluster", "member", "name", "peers"],
                ["etcd"],
            ]
            # The next loss is survived, which it would not have been.
            first[1].kill()
            await registry.put(keys.ROOT + "moves/x", "y")
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await registry.close()

    try:
        server.start(*first)
        asyncio.run(play())
    finally:
        for member in (*first, last):
            member.kill()
