"""Health of the store: its members, its leader, its alarms, and a sentence with what to do. Pure."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class StoreMember:
    """One member of the store, as it answers for itself."""

    url: str
    role: str = ""  # leader, follower or learner; empty for a member that does not answer
    version: str = ""
    size: int = 0  # of its database, bytes
    # etcd's own words: alarms (NOSPACE, CORRUPT), or that it knows no leader.
    errors: tuple[str, ...] = ()
    silence: str = ""  # reason why it does not answer


@dataclass(frozen=True, slots=True)
class Voter:
    """One member as all of them list it: its name and `url` for clients are empty until it has started."""

    id: int
    name: str
    peer: str  # URL for the other members
    url: str
    learner: bool
    answers: bool


@dataclass(frozen=True, slots=True)
class StoreHealth:
    """All members of the store."""

    members: tuple[StoreMember, ...]

    @property
    def answering(self) -> tuple[StoreMember, ...]:
        """Members that answer for themselves."""
        return tuple(member for member in self.members if member.role)

    @property
    def leader(self) -> str:
        """URL of the leader; empty if there is none, or if the others are away: it leads nobody then."""
        if len(self.answering) <= len(self.members) // 2:
            return ""
        return next((member.url for member in self.members if member.role == "leader"), "")

    @property
    def quorum(self) -> bool:
        """True while enough members answer, under a leader, for anything to be written."""
        return bool(self.leader)

    def role(self, member: StoreMember) -> str:
        """Return a member's role; one that has just lost the others still says that it leads."""
        return "follower" if member.role == "leader" and not self.quorum else member.role

    @property
    def size(self) -> int:
        """Size of the largest member's database, in bytes."""
        return max((member.size for member in self.members), default=0)

    @property
    def alarms(self) -> tuple[str, ...]:
        """Alarms that members have raised, each once."""
        found = (error for member in self.members for error in member.errors if "alarm" in error)
        return tuple(dict.fromkeys(error.rpartition("alarm:")[2].strip() for error in found))

    def problem(self, names: Mapping[str, str], switch_on: str = "", replace: str = "") -> str:
        """Return one sentence that says what is wrong and what to do; empty if all is well.

        `names` are the members' machines by URL; `switch_on` is a command that starts machines,
        `replace` the beginning of one that has another take a machine's place.
        """
        missing = [names.get(member.url, member.url) for member in self.members if not member.role]
        advice = f"switch {'it' if len(missing) == 1 else 'them'} on"
        advice += f" (`{switch_on} {' '.join(missing)}`)" if switch_on else ""
        if not self.quorum:
            there = f"{len(self.answering)} of {len(self.members)} members"
            answer = "answers" if len(self.answering) == 1 else "answer"
            return f"etcd has no quorum: {there} {answer}; units run on, but nothing can be changed: " + (
                advice if missing else "wait for an election, or read `journalctl -u etcd` on the members"
            )
        if "CORRUPT" in self.alarms:
            return "etcd has raised the alarm CORRUPT: a member's data differs; replace that member"
        if self.alarms:
            return (
                f"etcd has raised the alarm {', '.join(self.alarms)} and takes no changes: make room on the "
                "members' disks, then `etcdctl defrag` and `etcdctl alarm disarm` there"
            )
        if missing:
            spare = len(self.answering) - len(self.members) // 2 - 1
            after = "the next loss stops all changes" if not spare else f"{spare} more may be lost"
            does = "do" if len(missing) > 1 else "does"
            for_good = f", or replace it if it is lost for good (`{replace} {missing[0]}`)" if replace else ""
            return f"etcd's {' and '.join(missing)} {does} not answer, and {after}: {advice}{for_good}"
        return ""

    def successor(self, here: str, hosts: Collection[str]) -> str:
        """Return the URL of the follower that is to lead if the leader is on `here`, one of `hosts`; else "".

        There is none where all followers are on them, and while one member less would be no quorum.
        """
        if (
            here not in hosts
            or _host(self.leader) != here
            or len(self.answering) - 1 <= len(self.members) // 2
        ):
            return ""
        well = (member for member in self.members if member.role == "follower" and not member.errors)
        return next((member.url for member in well if _host(member.url) not in hosts), "")

    def to_dict(self) -> dict[str, Any]:
        """Return the health for JSON."""
        return {
            "members": [asdict(member) | {"errors": list(member.errors)} for member in self.members],
            "leader": self.leader,
            "quorum": self.quorum,
            "size": self.size,
            "alarms": list(self.alarms),
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "StoreHealth":
        """Read what `to_dict` wrote. Raises KeyError, TypeError."""
        members: Sequence[Mapping[str, Any]] = value["members"]
        return cls(tuple(StoreMember(**{**member, "errors": tuple(member["errors"])}) for member in members))


def _host(url: str) -> str:
    return urlsplit(url).hostname or ""
