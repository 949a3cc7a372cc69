"""The faults that a cluster has to live through, each as a scenario of its own. Pure.

A seed still says how long messages, starts and stops take.
"""

from collections.abc import Callable
from dataclasses import replace
from random import Random

from tests.simulation.host import Manner
from tests.simulation.network import Weather
from tests.simulation.scenario import GIB, TYPES, Act, Scenario

from kirsch.cluster.model import Machine

# What no start fails of and no stop takes long for.
STEADY = Manner(start=0.3, stop=0.3, long=0.0, fails=0.0)


def store_away(seed: int) -> Scenario:
    """The store is away for 60 s; meanwhile a person wants something, which nobody takes."""
    units = [*_units(12), ("data.service", ("Sticky=yes",)), ("stops.service", ("OnPartition=stop",))]
    acts = [Act(20, "away"), Act(30, "start", "late.service"), Act(80, "back")]
    return _scenario("store-away", seed, 3, [*units, ("late.service", ())], acts, start=units)


def store_paused(seed: int) -> Scenario:
    """The store is paused for longer than leases live, three times, and ends them all as it wakes up."""
    units: Units = [*_units(9), *((f"c{number}.container", ()) for number in range(6))]
    units += [("data.service", ("Sticky=yes",)), ("stops.service", ("OnPartition=stop",))]
    acts = [Act(at + paused, verb) for at in (20, 50, 80) for paused, verb in ((0, "away"), (15, "wake"))]
    return _scenario("store-paused", seed, 3, units, acts)


def member_lost(seed: int) -> Scenario:
    """A member of the store is lost: for an election's time it does not answer."""
    return _scenario("member-lost", seed, 3, _units(12), [Act(20, "away"), Act(21.5, "back")])


def machine_lost(seed: int) -> Scenario:
    """A machine with a third of a hundred units is lost, and one of them is sticky."""
    units = [*_units(99), ("data.service", ("Sticky=yes",))]
    return _scenario("machine-lost", seed, 3, units, [Act(20, "crash", "m2")])


def machine_returns(seed: int) -> Scenario:
    """A machine that was lost was only cut off: it comes back with units that are elsewhere by now."""
    units = [*_units(20), ("data.service", ("Sticky=yes",))]
    acts = [Act(20, "cut", "m2"), Act(45, "mend", "m2"), Act(45.1, "start", "more.service")]
    return _scenario("machine-returns", seed, 3, [*units, ("more.service", ())], acts, start=units)


def cut_off(seed: int) -> Scenario:
    """A machine is cut off for 30 s; some of its units stop then."""
    units = [*_units(6), *_units(6, "s", "OnPartition=stop")]
    return _scenario("cut-off", seed, 3, units, [Act(20, "cut", "m1"), Act(50, "mend", "m1")])


def leader_killed(seed: int) -> Scenario:
    """The leader's kirschd is killed twenty times while units start."""
    random = Random(seed)
    units = _units(40)
    acts = [Act(random.uniform(3, 40), "start", name) for name, _ in units]
    acts += [
        Act(random.uniform(3, 42), "killleader", "", f"{random.uniform(0.1, 1.5):.3f}") for _ in range(20)
    ]
    return _scenario("leader-killed", seed, 3, units, acts, start=[])


def kirschd_killed(seed: int) -> Scenario:
    """The kirschd of one machine is killed; its lease holds until the next one is there."""
    return _scenario("kirschd-killed", seed, 3, _units(12), [Act(20, "kill", "m1", "3"), Act(40, "calm")])


def disk_full(seed: int) -> Scenario:
    """One machine's /run is full while units start, and is emptied later."""
    units = _units(9)
    acts = [Act(2, "full", "m1"), Act(30, "empty", "m1")]
    return _scenario("disk-full", seed, 3, units, acts)


def addresses_moved(seed: int) -> Scenario:
    """A machine with containers is cut off and comes back: their addresses are elsewhere by then, and others
    were destroyed meanwhile, whose addresses new units can have."""
    units: Units = [(f"u{number}.container", ()) for number in range(12)]
    more: Units = [(f"more{number}.container", ()) for number in range(12)]
    acts = [Act(20, "cut", "m1"), Act(60, "mend", "m1")]
    acts += [Act(25 + number / 10, "destroy", f"u{number}.container") for number in range(0, 12, 2)]
    acts += [Act(40, "start", name) for name, _ in more]
    return _scenario("addresses-moved", seed, 3, units + more, acts, start=units)


def moved_at_once(seed: int) -> Scenario:
    """Units are moved while machines still wait for the store's word that they may start them."""
    random = Random(seed)
    units: Units = [(f"data{number}.service", ("Sticky=yes",)) for number in range(40)]
    starts = [Act(random.uniform(4, 20), "start", name) for name, _ in units]
    acts = [Act(start.at + random.uniform(0.2, 1.5), "move", start.subject) for start in starts]
    scenario = _scenario("moved-at-once", seed, 3, units, [*starts, *acts], start=[])
    return replace(scenario, weather=Weather(slow=0.3))


def addresses_moved_back(seed: int) -> Scenario:
    """A machine with containers is cut off and comes back, and these are moved back to it, with their
    addresses, before it has stopped those that it still runs."""
    random = Random(seed)
    units: Units = [(f"u{number}.container", ()) for number in range(6)]
    acts = [Act(20, "cut", "m1"), Act(45, "mend", "m1")]
    acts += [Act(random.uniform(45, 48), "move", name, "m1") for name, _ in units]
    scenario = _scenario("addresses-moved-back", seed, 3, units, acts)
    return replace(scenario, manner=replace(STEADY, stop=4.0))


def stopped_then_started(seed: int) -> Scenario:
    """Units that were stopped are started again while the kirschd of their machine is away."""
    units = _units(12)
    random = Random(seed)
    acts = [Act(random.uniform(10, 12), "load", name) for name, _ in units]
    acts += [Act(random.uniform(11.5, 13), "kill", f"m{n}", f"{random.uniform(1, 3):.3f}") for n in (1, 2)]
    acts += [Act(random.uniform(13, 14), "start", name) for name, _ in units]
    scenario = _scenario("stopped-then-started", seed, 3, units, acts)
    return replace(scenario, manner=replace(STEADY, stop=1.5))


def lease_revoked(seed: int) -> Scenario:
    """A leader of the store's that was paused ends leases that live: one, all at once, one that is new."""
    units: Units = [*_units(9), *((f"c{number}.container", ()) for number in range(6))]
    units += [("data.service", ("Sticky=yes",)), ("stops.service", ("OnPartition=stop",))]
    acts = [Act(20, "revoke", "m2"), *(Act(25, "revoke", f"m{number}") for number in (1, 2, 3))]
    acts += [Act(30, "revoke", "m1"), Act(30.3, "revoke", "m1"), Act(30.6, "revoke", "m1")]
    return _scenario("lease-revoked", seed, 3, units, acts)


def lease_revoked_while_cut_off(seed: int) -> Scenario:
    """Two faults at once: a machine is cut off, and a leader that was paused ends its lease, which lives."""
    units = [*_units(3), *_units(6, "s", "OnPartition=stop")]
    acts = [Act(20, "cut", "m1"), Act(20.05, "revoke", "m1"), Act(50, "mend", "m1")]
    return _scenario("lease-revoked-while-cut-off", seed, 3, units, acts)


def leases_revoked(seed: int) -> Scenario:
    """Leases that live are ended again and again while units start, move, stop and are destroyed."""
    random = Random(seed)
    units: Units = [*_units(6), *((f"c{number}.container", ()) for number in range(6))]
    units += _units(3, "d", "Sticky=yes") + _units(3, "s", "OnPartition=stop") + _units(1, "g", "Global=true")
    acts = [Act(random.uniform(4, 15), "start", name) for name, _ in units]
    for name, _ in units:
        verb = random.choice(("move", "move", "restart", "change", "load", "destroy"))
        acts.append(Act(random.uniform(15, 40), verb, name))
    acts += [Act(random.uniform(5, 42), "revoke", f"m{random.randint(1, 3)}") for _ in range(12)]
    acts += [Act(43, "revoke", f"m{number}") for number in (1, 2, 3)]
    return _scenario("leases-revoked", seed, 3, units, acts, start=[])


def stopped_then_released(seed: int) -> Scenario:
    """A service is stopped, and started by a release of which one instance crashes."""
    units: Units = [(f"w@{number}.service", ()) for number in (1, 2, 3)]
    acts = [Act(4, "release", "w", "runs"), Act(25, "release", "w", "crashes 2")]
    acts += [Act(20, "load", name) for name, _ in units]
    return _scenario("stopped-then-released", seed, 3, units, acts, start=[])


def spread_again(seed: int) -> Scenario:
    """A machine with a third of two services is lost and comes back; once calm, they are spread again."""
    spread: Units = [(f"{service}@{n}.service", ("Spread=zone",)) for service in "pq" for n in (1, 2, 3)]
    units = [*spread, *_units(6), ("data@1.service", ("Sticky=yes", "Spread=zone"))]
    acts = [Act(20, "crash", "m2"), Act(50, "boot", "m2"), Act(130, "calm")]
    scenario = _scenario("spread-again", seed, 3, units, acts)
    machines = tuple(replace(machine, metadata={"zone": machine.id}) for machine in scenario.machines)
    return replace(scenario, machines=machines, calm=60.0)


def spread_to_and_fro(seed: int) -> Scenario:
    """A machine leaves and returns again and again, too soon for anything to be moved to it but at last."""
    units: Units = [(f"p@{number}.service", ("Spread=zone",)) for number in (1, 2, 3, 4)]
    acts = [Act(20 + 30 * n, "crash", "m2") for n in range(4)]
    acts += [Act(32 + 30 * n, "boot", "m2") for n in range(4)]
    acts += [Act(200, "calm")]
    scenario = _scenario("spread-to-and-fro", seed, 2, units, acts)
    machines = tuple(replace(machine, metadata={"zone": machine.id}) for machine in scenario.machines)
    return replace(scenario, machines=machines, calm=60.0)


NAMED: dict[str, Callable[[int], Scenario]] = {
    "store-away": store_away,
    "store-paused": store_paused,
    "member-lost": member_lost,
    "machine-lost": machine_lost,
    "machine-returns": machine_returns,
    "cut-off": cut_off,
    "lease-revoked": lease_revoked,
    "leases-revoked": leases_revoked,
    "leader-killed": leader_killed,
    "kirschd-killed": kirschd_killed,
    "disk-full": disk_full,
    "addresses-moved": addresses_moved,
    "addresses-moved-back": addresses_moved_back,
    "moved-at-once": moved_at_once,
    "stopped-then-started": stopped_then_started,
    "stopped-then-released": stopped_then_released,
    "spread-again": spread_again,
    "spread-to-and-fro": spread_to_and_fro,
}

Units = list[tuple[str, tuple[str, ...]]]


def _units(count: int, prefix: str = "u", *options: str) -> Units:
    return [(f"{prefix}{number}.service", options) for number in range(count)]


def _scenario(
    name: str, seed: int, machines: int, units: Units, acts: list[Act], start: Units | None = None
) -> Scenario:
    begin = [Act(0.1 * number, "boot", f"m{number}") for number in range(1, machines + 1)]
    begin += [Act(3, "start", unit) for unit, _ in (units if start is None else start)]
    return Scenario(
        name,
        seed,
        tuple(
            Machine(f"m{n}", f"10.0.0.{n}", runs=TYPES, cpu=8.0, memory=8 * GIB)
            for n in range(1, machines + 1)
        ),
        tuple(units),
        tuple(sorted([*begin, *acts], key=lambda act: act.at)),
        manner=STEADY,
    )
