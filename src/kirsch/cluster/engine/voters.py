"""Successor of a lost voter: another machine takes its place among those that keep the registry. Pure.

A machine that has just been switched off looks the same as one that is lost for good, so a voter has to be
away for a while, its kirschd too. Who is lost leaves etcd first: it counts for the quorum until then, and
etcd takes no new member while one is away. The other joins as a learner and is promoted once it has all
data. No step takes a vote from a member that answers, or makes the loss of one more worse than it was.
"""

import ipaddress
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Self
from urllib.parse import urlsplit, urlunsplit

from kirsch.cluster.model import Machine, to_json
from kirsch.cluster.model.cluster import bracketed
from kirsch.cluster.model.unit import known_fields
from kirsch.cluster.registry.health import Voter

ZONE = "zone"


@dataclass(frozen=True, slots=True)
class Succession:
    """Content of `keys.VOTERS`: the URLs of etcd, empty until a succession has ended; how many voters there
    were before one was lost; and, during a succession, the machine that takes a lost one's place."""

    urls: tuple[str, ...] = ()
    size: int = 0
    machine: str = ""
    peer: str = ""  # the machine's URL for etcd's other members
    member: int = 0  # its id, once etcd has it
    peers: str = ""  # NAME=URL of all members, as etcd's --initial-cluster has it

    def to_json(self) -> str:
        """Return the value in the registry."""
        return to_json(asdict(self))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a value of the registry."""
        values = known_fields(cls, json.loads(text))
        return cls(**{**values, "urls": tuple(values.get("urls", ()))})


@dataclass(frozen=True, slots=True)
class View:
    """Etcd's members and the machines as the leader sees them; `away` are members that have not answered for
    long enough. `stuck` is True once a succession has taken too long."""

    voters: Sequence[Voter]
    machines: Mapping[str, Machine]
    away: frozenset[int] = frozenset()
    plan: Succession = Succession()
    stuck: bool = False


@dataclass(frozen=True, slots=True)
class Write:
    """Write the plan to the registry."""

    plan: Succession


@dataclass(frozen=True, slots=True)
class Remove:
    """Remove a member from etcd."""

    member: Voter


@dataclass(frozen=True, slots=True)
class Add:
    """Add a machine to etcd, as a learner."""

    peer: str


@dataclass(frozen=True, slots=True)
class Promote:
    """Give a learner a vote; etcd refuses while it lacks data."""

    member: Voter


Action = Write | Remove | Add | Promote


def step(view: View) -> Action | None:
    """Return what is to be done next; None if nothing is."""
    voting = [voter for voter in view.voters if not voter.learner]
    if 2 * sum(voter.answers for voter in voting) <= len(voting):
        return None  # without a quorum nothing can be changed
    return _go_on(view, voting) if view.plan.machine else _begin(view, voting)


def _begin(view: View, voting: Sequence[Voter]) -> Action | None:
    if len(voting) < len(view.voters):
        return None  # a person is at it
    size = max(view.plan.size, len(voting))
    if len(voting) == size and not _lost(view):
        return None
    machine = successor(view)
    return Write(_planned(view, size, machine)) if machine else None


def _go_on(view: View, voting: Sequence[Voter]) -> Action | None:
    plan, lost, untouched = view.plan, _lost(view), len(voting) == view.plan.size
    machine = view.machines.get(plan.machine)
    mine = [voter for voter in view.voters if voter.peer == plan.peer]
    if mine and not mine[0].learner:
        urls = tuple(voter.url for voter in voting if voter.url and voter not in lost)
        return Write(Succession(urls, plan.size))
    if machine is None or view.stuck:
        if mine:
            return Remove(mine[0])
        other = successor(view, but=plan.machine)
        if other and not untouched:
            return Write(_planned(view, plan.size, other))
    if untouched and (machine is None or not lost):
        return Write(Succession(plan.urls, plan.size))  # nothing has been done yet
    if lost:
        return Remove(lost[0])
    if machine is None:
        return None
    if not mine:
        return Add(plan.peer)
    told = replace(plan, member=mine[0].id, peers=_peers(view, mine[0], machine))
    return Write(told) if plan.member != told.member else Promote(mine[0])


def _planned(view: View, size: int, machine: Machine) -> Succession:
    return Succession(view.plan.urls, size, machine.id, _peer_of(machine, view))


def successor(view: View, but: str = "") -> Machine | None:
    """Return the machine that is to take a lost one's place, from a zone that has fewest other voters; None
    if none can."""
    lost = _lost(view)
    others = [voter for voter in view.voters if voter not in lost]
    keep = [machine for machine in view.machines.values() if any(_at(voter, machine) for voter in others)]
    if any(voter.answers and not any(_at(voter, machine) for machine in keep) for voter in others):
        return None  # an etcd of somebody else's
    zones = Counter(_zone(machine) for machine in keep)
    able = [
        machine
        for machine in view.machines.values()
        if machine.etcd and not machine.cordoned and machine not in keep and machine.id != but
    ]
    return min(able, key=lambda machine: (zones[_zone(machine)], machine.id), default=None)


def _lost(view: View) -> list[Voter]:
    """Return the voters that are away for long enough, and whose machines' kirschd is too."""
    there = view.machines.values()
    return [
        voter
        for voter in view.voters
        if voter.id in view.away
        and not voter.answers
        and not voter.learner
        and not any(_at(voter, machine) for machine in there)
    ]


def _at(voter: Voter, machine: Machine) -> bool:
    host = urlsplit(voter.peer).hostname or ""
    try:
        return ipaddress.ip_address(host) == ipaddress.ip_address(machine.address)
    except ValueError:
        return host == machine.address


def _zone(machine: Machine) -> str:
    """Return a machine's zone; one without is a zone of its own."""
    return machine.metadata.get(ZONE, f"/{machine.id}")


def _peer_of(machine: Machine, view: View) -> str:
    """Return a machine's URL for peers: as the others' are, at its own address."""
    like = urlsplit(view.voters[0].peer)
    return urlunsplit((like.scheme, f"{bracketed(machine.address)}:{like.port}", "", "", ""))


def _peers(view: View, mine: Voter, machine: Machine | None) -> str:
    """Return all members as --initial-cluster has them; one that has not started has no name yet."""
    name = machine.metadata.get("hostname", machine.id) if machine else ""
    return ",".join(f"{name if each is mine else each.name}={each.peer}" for each in view.voters)
