"""Health of etcd in words, and as a real one tells it when members die and when its space runs out."""

import asyncio
from urllib.parse import urlsplit

import pytest
from tests.cluster.etcd_server import etcd, needs_etcd
from tests.deadline import eventually

from kirsch.cluster.daemon.machine import keep_apart
from kirsch.cluster.model import Cluster, Endpoint, Machine
from kirsch.cluster.registry import Put, RegistryError, Unavailable
from kirsch.cluster.registry.etcd import EtcdRegistry
from kirsch.cluster.registry.etcd.members import Members
from kirsch.cluster.registry.health import StoreHealth, StoreMember

NAMES = {f"https://{number}": f"n{number}" for number in range(1, 6)}


def health(*roles: str, errors: tuple[str, ...] = ()) -> StoreHealth:
    """A store of members with these roles, the first of which has raised the errors."""
    members = [StoreMember(f"https://{number}", role) for number, role in enumerate(roles, 1)]
    return StoreHealth((StoreMember("https://1", roles[0], errors=errors), *members[1:]))


@pytest.mark.parametrize(
    ("store", "problem"),
    [
        (health("leader"), ""),
        (health("leader", "follower", "follower"), ""),
        (
            health("leader", "follower", ""),
            "etcd's n3 does not answer, and the next loss stops all changes: switch it on (`start n3`)",
        ),
        (
            health("leader", "follower", "follower", "", "follower"),
            "etcd's n4 does not answer, and 1 more may be lost: switch it on (`start n4`)",
        ),
        (
            health("follower", "", ""),
            "etcd has no quorum: 1 of 3 members answers; units run on, but nothing can be changed: "
            "switch them on (`start n2 n3`)",
        ),
        (
            health("follower", "follower", "follower"),
            "etcd has no quorum: 3 of 3 members answer; units run on, but nothing can be changed: "
            "wait for an election, or read `journalctl -u etcd` on the members",
        ),
        (
            health("leader", errors=("memberID:7 alarm:NOSPACE ",)),
            "etcd has raised the alarm NOSPACE and takes no changes: make room on the members' disks, then "
            "`etcdctl defrag` and `etcdctl alarm disarm` there",
        ),
    ],
)
def test_one_sentence_says_what_is_wrong_and_what_to_do(store, problem):
    assert store.problem(NAMES, "start") == problem
    assert StoreHealth.from_dict(store.to_dict()) == store


def test_a_member_that_is_lost_for_good_can_be_replaced():
    problem = health("leader", "follower", "").problem(NAMES, "start", "etcd --replace")
    assert problem.endswith("(`start n3`), or replace it if it is lost for good (`etcd --replace n3`)")


def test_who_has_just_lost_the_others_leads_nobody():
    store = health("leader", "", "")
    assert (store.leader, store.quorum) == ("", False)
    assert [store.role(member) for member in store.members] == ["follower", "", ""]
    store = health("leader", "follower", "")
    assert (store.leader, [store.role(member) for member in store.members]) == (
        "https://1", ["leader", "follower", ""],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("roles", "occupied", "successor"),
    [
        (("leader", "follower", "follower"), "1", "2"),
        (("leader", "follower", "follower"), "12", "3"),
        (("follower", "leader", "follower"), "2", "1"),
        # Nothing of it leads a service, all of them do, or one member less is no quorum.
        (("leader", "follower", "follower"), "23", ""),
        (("leader", "follower", "follower"), "123", ""),
        (("leader", "follower", ""), "1", ""),
        (("leader", "follower", "", "follower", "follower"), "12", "4"),
        (("leader", "learner", "follower", "follower"), "1", "3"),
        (("leader",), "1", ""),
        (("follower", "follower", "follower"), "1", ""),
    ],
)
def test_the_leader_goes_where_nothing_leads_a_service(roles, occupied, successor):
    here = str(roles.index("leader") + 1) if "leader" in roles else "1"
    assert health(*roles).successor(here, set(occupied)) == (f"https://{successor}" if successor else "")


def test_a_member_that_raises_an_alarm_does_not_become_the_leader():
    full, well = (
        StoreMember("https://2", "follower", errors=("alarm:NOSPACE",)),
        StoreMember("https://3", "follower"),
    )
    store = StoreHealth((StoreMember("https://1", "leader"), full, well))
    assert store.successor("1", {"1"}) == "https://3"


class Telling(EtcdRegistry):
    """Tells when etcd's leader has handed over."""

    def __init__(self, members: Members) -> None:
        super().__init__(members)
        self.handed_over = asyncio.Event()

    async def hand_over(self, leader: str, successor: str) -> None:
        await super().hand_over(leader, successor)
        self.handed_over.set()


@pytest.mark.slow
@needs_etcd
@pytest.mark.services
def test_etcd_is_led_elsewhere_than_a_service(tmp_path):
    async def led(server) -> tuple[str, str]:
        registry = await Telling.open(server.endpoints)
        try:
            before = (await registry.health()).leader
            here = Machine("here", urlsplit(before).hostname)
            with pytest.raises(Unavailable, match="no member"):
                await registry.hand_over(before, "http://127.0.0.1:1")
            leads = Endpoint(
                "webdb", "webdb@1.container", "1", "here", "10.0.0.1", ready=True, role="primary"
            )
            cluster = Cluster(machines={"here": here}, endpoints=(leads,))
            duty = asyncio.create_task(keep_apart(registry, here, lambda: cluster, 0.05))
            await asyncio.wait_for(registry.handed_over.wait(), 30)
            duty.cancel()
            return before, (await registry.health()).leader
        finally:
            await registry.close()

    with etcd(tmp_path / "etcd", members=3) as server:
        before, after = asyncio.run(led(server))
        assert {before, after} < set(server.endpoints)


async def told(server) -> StoreHealth:
    registry = await EtcdRegistry.open(server.endpoints, server.certificates)
    try:
        return await registry.health()
    finally:
        await registry.close()


def roles(server) -> list[str]:
    return sorted(member.role for member in asyncio.run(told(server)).members)


@pytest.mark.slow
@needs_etcd
@pytest.mark.services
def test_members_that_die_and_come_back(tmp_path):
    with etcd(tmp_path / "etcd", members=3) as server:
        assert eventually(lambda: roles(server) == ["follower", "follower", "leader"] or None)
        found = asyncio.run(told(server))
        assert (found.quorum, len(found.answering), found.alarms) == (True, 3, ())
        assert all(member.size > 0 and member.version for member in found.members)
        server.members[0].kill()
        assert eventually(lambda: roles(server) == ["", "follower", "leader"] or None)
        assert asyncio.run(told(server)).quorum
        server.members[1].kill()
        lost = eventually(lambda: ((h := asyncio.run(told(server))) and not h.quorum and h) or None)
        assert [bool(member.silence) for member in lost.members] == [True, True, False]


@needs_etcd
@pytest.mark.services
def test_an_alarm_is_told(tmp_path):
    async def fill(server):
        registry = await EtcdRegistry.open(server.endpoints, server.certificates)
        try:
            for number in range(100):
                await registry.transact([Put(f"/kirsch/v1/x{number}", "x" * 1_000_000)])
        except RegistryError:
            pass  # there is no space any more
        finally:
            await registry.close()

    with etcd(tmp_path / "etcd", options=["--quota-backend-bytes=8000000"]) as server:
        asyncio.run(fill(server))
        assert asyncio.run(told(server)).alarms == ("NOSPACE",)
