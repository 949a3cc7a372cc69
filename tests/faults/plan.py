"""Plan of faults: which machine breaks, how, when and for how long. A pure function of the seed."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """Ways in which a machine breaks."""

    KILLED = "machine killed"
    PAUSED = "machine paused"
    CUT_OFF = "machine cut off"
    DEAF = "machine receives nothing"
    MUTE = "machine sends nothing"
    SLOW = "delay and loss"
    CLOCK = "kirschd's clock jumps"
    FULL = "disk full"
    ETCD = "etcd killed"
    WAL = "etcd's log damaged"
    KIRSCHD = "kirschd killed"
    HAPROXY = "HAProxy killed"
    CONTAINER = "container killed"


# These are over at once: what was killed is started again by its machine.
INSTANT = frozenset({Kind.ETCD, Kind.KIRSCHD, Kind.HAPROXY, Kind.CONTAINER})
SHORTEST, LONGEST = 2.0, 25.0
# The second fault comes at most so many seconds after the first one is over: the cluster is recovering.
RECOVERY = 6.0


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: `at` and `lasts` in seconds, from the begin of its round."""

    kind: Kind
    machine: int
    at: float
    lasts: float

    @property
    def ends(self) -> float:
        return self.at + self.lasts

    def __str__(self) -> str:
        lasts = f" for {self.lasts:.1f} s" if self.lasts else ""
        return f"{self.at:4.1f} s: n{self.machine + 1}: {self.kind}{lasts}"


@dataclass(frozen=True, slots=True)
class Round:
    """Faults between two times at which all is well."""

    number: int
    faults: tuple[Fault, ...]

    @property
    def title(self) -> str:
        """The kinds of its faults, and how they meet."""
        if len(self.faults) == 1:
            return self.faults[0].kind
        first, second = self.faults
        how = "during recovery" if second.at >= first.ends else "at once"
        return f"{first.kind} + {second.kind}, {how}"


def plan(seed: int, rounds: int, machines: int) -> tuple[Round, ...]:
    """Return the rounds of a seed. Each kind comes once in as many rounds as there are kinds."""
    return tuple(_round(seed, number, machines) for number in range(rounds))


def turns(count: int, machines: int) -> tuple[Round, ...]:
    """Return rounds in which each machine is killed in its turn, and is back before the next one."""
    return tuple(
        Round(number, (Fault(Kind.KILLED, number % machines, 0.0, 15.0),))
        for number in range(count * machines)
    )


def _round(seed: int, number: int, machines: int) -> Round:
    kinds = list(Kind)
    deck, card = divmod(number, len(kinds))
    random.Random(f"{seed} deck {deck}").shuffle(kinds)
    chance = random.Random(f"{seed} round {number}")
    first = _fault(chance, kinds[card], 0.0, range(machines))
    meets = chance.choice(("alone", "alone", "at once", "recovery"))
    if meets == "alone":
        return Round(number, (first,))
    at = (
        chance.uniform(0.0, first.lasts) if meets == "at once" else chance.uniform(0.0, RECOVERY) + first.ends
    )
    others = [machine for machine in range(machines) if machine != first.machine]
    # A second damaged log would leave etcd without a quorum for good.
    second = chance.choice([kind for kind in Kind if kind is not Kind.WAL])
    return Round(number, (first, _fault(chance, second, at, others)))


def _fault(chance: random.Random, kind: Kind, at: float, machines: Sequence[int]) -> Fault:
    lasts = 0.0 if kind in INSTANT else round(chance.uniform(SHORTEST, LONGEST), 1)
    return Fault(kind, chance.choice(machines), round(at, 1), lasts)
