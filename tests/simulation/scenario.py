"""What happens in a simulated cluster: machines, units, and acts at their times. Pure."""

from dataclasses import dataclass, field, replace
from random import Random

from tests.simulation.host import Manner
from tests.simulation.network import Weather

from kirsch.cluster.model import Machine

GIB = 1 << 30
# All faults are over by then, in seconds.
OVER = 40.0
TTL = 10.0


@dataclass(frozen=True, slots=True)
class Act:
    """One thing that happens, `at` seconds after the beginning. By verb, with subject and argument:

    people: release SERVICE HOW (all its instances get another text, which runs, crashes or hangs; with a
    number only that instance does, and the others run; with NAME=VALUE the policy has that); steer SERVICE
    VERB (the release under way: pause, resume, promote, abort; `settle` ends all that wait for a person);
    scale SERVICE NUMBER; rollback SERVICE; submit,
    start, restart, load, unload, destroy UNIT; change UNIT (another text); move UNIT MACHINE (or to any);
    drain, cordon, uncordon MACHINE; set MACHINE KEY=VALUE. Faults: crash, boot, cut, mend
    MACHINE; kill MACHINE SECONDS (kirschd, which comes back after those), renew MACHINE SECONDS (kirschd too,
    but it is asked to go), killleader SECONDS, crashleader;
    revoke MACHINE (the store ends its lease, though it was renewed);
    full, empty MACHINE (where units' files go); away, back (the store), wake (it was paused, and ends
    every lease that was not renewed meanwhile); die UNIT RESULT; calm (the network
    loses nothing any more).
    """

    at: float
    verb: str
    subject: str = ""
    argument: str = ""

    def __str__(self) -> str:
        return f"{self.at:9.3f} {' '.join(word for word in (self.verb, self.subject, self.argument) if word)}"


@dataclass(frozen=True, slots=True)
class Scenario:
    """All of one simulation. `units` are names and the lines of their [X-Kirsch]; `remembers` is how many
    revisions the store has a history of; `calm` is the seconds until instances are moved to a machine for
    the sake of Spread=, None where only people move them."""

    name: str
    seed: int
    machines: tuple[Machine, ...]
    units: tuple[tuple[str, tuple[str, ...]], ...]
    acts: tuple[Act, ...]
    weather: Weather = field(default_factory=Weather)
    manner: Manner = field(default_factory=Manner)
    remembers: int = 10_000
    calm: float | None = 3.0

    def describe(self) -> list[str]:
        """For people, a line each."""
        lines = [
            f"{self.name}: {self.weather}, {self.manner}, the store remembers {self.remembers} revisions"
        ]
        for m in self.machines:
            lines.append(f"machine {m.id}: {m.cpu:g} cores, {m.memory // GIB} GiB, {dict(m.metadata)}")
        lines += [f"unit {name}: {' '.join(options) or '-'}" for name, options in self.units]
        return lines + [str(act) for act in self.acts]


KINDS: tuple[tuple[str, ...], ...] = (
    (),
    (),
    ("OnPartition=stop",),
    ("OnPartition=stop",),
    ("Sticky=yes",),
    ("Global=true",),
    ("CPU=2",),
    ("Memory=3G",),
    ("Spread=zone",),
    ("MachineMetadata=zone=a",),
    ("MachineMetadata=zone=b", "OnPartition=stop"),
    ("Sticky=yes", "CPU=1"),
)


APPLICATIONS: tuple[tuple[str, ...], ...] = ((), ("Spread=zone",), ("OnPartition=stop",))
HOWS = ("runs", "runs", "crashes", "hangs")


# Containers are in the flat network.
TYPES = ("service", "container")


ORDERS = (
    *("start", "restart", "load", "unload", "destroy", "change", "move", "move"),
    *("drain", "cordon", "uncordon", "set"),
)


FAULTS = (
    *("crash", "crash", "kill", "kill", "renew", "cut", "cut", "away", "leader", "die"),
    *("reboot", "reboot"),
)


def random_scenario(seed: int, steered: bool = True) -> Scenario:
    """The scenario of a seed; `steered` has people steer releases and scale their service, too."""
    random = Random(seed)
    machines = tuple(
        Machine(
            f"m{number}",
            f"10.0.0.{number}",
            {"zone": random.choice("ab")},
            runs=TYPES,
            cpu=random.choice((2.0, 4.0)),
            memory=random.choice((4, 8)) * GIB,
        )
        for number in range(1, random.choice((2, 3, 3, 3, 4)) + 1)
    )
    units = _units(random)
    ids, names = [machine.id for machine in machines], [name for name, _ in units]
    acts = [Act(random.uniform(0, 1.5), "boot", id) for id in ids]
    acts += [Act(random.uniform(1, 6), "start", name) for name in names]
    for _ in range(random.randint(2, 6)):
        acts += _fault(random, ids, names)
    for _ in range(random.randint(0, 6)):
        acts.append(_order(random, ids, names))
    if random.random() < 0.5:
        units += tuple(
            (f"w@{n}.service", random.choice(APPLICATIONS)) for n in range(1, random.randint(2, 4))
        )
        acts += [Act(4, "release", "w", "runs")]
        for _ in range(random.randint(1, 3)):
            acts.append(Act(random.uniform(8, OVER), "release", "w", random.choice(HOWS)))
        if steered:
            more = Random(f"{seed} releases")
            # Instances that people add have their template's options.
            options = units[-1][1]
            units = tuple((name, options if name.startswith("w@") else own) for name, own in units)
            units += (("w@.service", options),)
            acts = [replace(act, argument=_policy(more, act)) for act in acts] + _steered(more)
    acts += _healed(ids)
    return Scenario(
        f"seed {seed}",
        seed,
        machines,
        units,
        tuple(sorted(acts, key=lambda act: act.at)),
        random.choice((Weather(), Weather(0.1), Weather(0.05, 0.01), Weather(0.02, 0.003, 0.01))),
        random.choice((Manner(), Manner(), Manner(2.0, 2.0, 0.2), Manner(0.1, 0.1, 0.0, 0.1))),
        random.choice((10_000, 10_000, 5)),
    )


def _units(random: Random) -> tuple[tuple[str, tuple[str, ...]], ...]:
    units: list[tuple[str, tuple[str, ...]]] = []
    for number in range(random.randint(2, 6)):
        units.append((f"u{number}.{random.choice(TYPES)}", random.choice(KINDS)))
    match random.randrange(5):
        case 0:
            units += [(f"c@{i}.service", ("Conflicts=c@*.service",)) for i in (1, 2)]
        case 1:
            units.append(("peer.service", (f"MachineOf={units[0][0]}",)))
        case 2:
            units.append(("user.service", ("Link=u0",)))
        case 3:
            units.append(("new.service", (f"Replaces={units[0][0]}",)))
    return tuple(units)


def _fault(random: Random, ids: list[str], names: list[str]) -> list[Act]:
    """One thing that goes wrong, and its end where it has one."""
    at, machine = random.uniform(4, 30), random.choice(ids)
    long = min(random.choice((1.0, 4.0, 9.0, 12.0, 30.0)) * random.uniform(0.5, 1.2), OVER - at)
    match random.choice(FAULTS):
        case "crash":
            return [Act(at, "crash", machine), Act(at + long, "boot", machine)]
        case "reboot":
            # While the store cannot be reached, or just before it can.
            fault, end = random.choice((("cut", "mend"), ("away", "back")))
            subject = machine if fault == "cut" else ""
            return [
                Act(at, fault, subject),
                Act(at + 0.3 * long, "crash", machine),
                Act(at + 0.5 * long, "boot", machine),
                Act(at + long, end, subject),
            ]
        case "kill" | "renew" as verb:
            seconds = random.choice((1.5, 1.5, 1.5, 20.0)) * random.uniform(0.1, 1)
            return [Act(at, verb, machine, f"{min(seconds, OVER - at):.3f}")]
        case "cut":
            return [Act(at, "cut", machine), Act(at + long, "mend", machine)]
        case "away":
            return [Act(at, "away"), Act(at + long, "back")]
        case "leader":
            strike = random.choice(("killleader", "crashleader"))
            return [Act(at, strike, "", f"{random.uniform(0.1, 1.5):.3f}")]
        case _:
            return [Act(at, "die", random.choice(names), random.choice(("success", "exit-code")))]


def _order(random: Random, ids: list[str], names: list[str]) -> Act:
    """One thing that somebody wants."""
    at, machine, name = random.uniform(5, OVER), random.choice(ids), random.choice(names)
    verb = random.choice(ORDERS)
    match verb:
        case "move":
            return Act(at, verb, name, random.choice((machine, "")))
        case "drain" | "cordon" | "uncordon":
            return Act(at, verb, machine)
        case "set":
            return Act(at, verb, machine, f"zone={random.choice('ab')}")
        case _:
            return Act(at, verb, name)


def _policy(random: Random, act: Act) -> str:
    """The argument of a release, with more of its policy."""
    if act.verb != "release":
        return act.argument
    names = ("at_a_time=2", "canary=1", "canary=1 promote=3", "on_failure=pause")
    return " ".join((act.argument, *(name for name in names if random.random() < 0.2)))


def _steered(random: Random) -> list[Act]:
    """People steer releases, and in the end leave none that waits for them."""
    acts = [Act(OVER + 0.1, "steer", "w", "settle")]
    for _ in range(random.randint(1, 5)):
        verb = random.choice(("pause", "resume", "resume", "promote", "abort", "scale", "scale", "rollback"))
        at = random.uniform(8, OVER)
        match verb:
            case "scale":
                acts.append(Act(at, verb, "w", str(random.randint(1, 4))))
            case "rollback":
                acts.append(Act(at, verb, "w"))
            case _:
                acts.append(Act(at, "steer", "w", verb))
    return acts


def _healed(ids: list[str]) -> list[Act]:
    """The end of all faults."""
    end = [Act(OVER, "calm"), Act(OVER, "back")]
    return end + [Act(OVER, verb, id) for id in ids for verb in ("mend", "boot")]
