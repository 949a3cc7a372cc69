"""One simulation, from a scenario to its outcome."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from tests.simulation.convergence import unfinished
from tests.simulation.deadline import Deadline
from tests.simulation.invariants import Invariants
from tests.simulation.loop import VirtualLoop
from tests.simulation.machine import OWNER, SimulatedMachine, own_tasks
from tests.simulation.network import Link, Weather
from tests.simulation.people import VERBS, People
from tests.simulation.scenario import Act, Scenario
from tests.simulation.store import SimulatedStore
from tests.simulation.truth import Truth

from kirsch.cluster.model import Move, keys
from kirsch.cluster.registry.base import Change
from kirsch.cluster.runtime.base import RuntimeState
from kirsch.unit import Options, UnitFile, UnitName

# Seconds after the last act, or the last step of a release, in which all must be as it has to; after the last
# act in any case, for releases wait for each other; and after that, in which nothing may change.
SETTLES = 45.0
LONGEST = 300.0
STILL = 7.0
# Seconds more for each unit that is rebalanced meanwhile: a stop and a start, each of which may take long.
MOVE = 20.0
# What is on its way at the first look has arrived at the last of so many, a second apart.
AGREED = 3
# What was lost is noticed, and what comes late has come, after so many seconds.
LATEST = 10.0


@dataclass(slots=True)
class Outcome:
    """How a simulation ended: what was broken first, empty if nothing was; when all was settled, in seconds;
    what kirschd had the machines do (when, which, what, of which unit); how often each machine left the flat
    network, since it was booted last; and, where it was asked for, what
    happened."""

    scenario: Scenario
    broken: str = ""
    settled: float = 0.0
    orders: list[tuple[float, str, str, str]] = field(default_factory=list)
    partings: dict[str, int] = field(default_factory=dict)
    trace: list[str] = field(default_factory=list)


class Broken(Exception):
    """An invariant does not hold."""


def simulate(scenario: Scenario, trace: bool = False) -> Outcome:
    """Play a scenario to its end, or until something is broken."""
    loop = VirtualLoop()
    loop.set_task_factory(own_tasks)  # type: ignore[arg-type]
    simulation = Simulation(scenario, loop, trace)
    log = logging.getLogger("kirsch.cluster")
    log.addHandler(simulation.complaints)
    level, propagate = log.level, log.propagate
    log.setLevel(logging.INFO if trace else logging.ERROR)
    log.propagate = False
    try:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(simulation.run())
    finally:
        log.removeHandler(simulation.complaints)
        log.setLevel(level)
        log.propagate = propagate
        asyncio.set_event_loop(None)
        loop.close()
    return simulation.outcome


class Simulation:
    """The parts of one, put together."""

    def __init__(self, scenario: Scenario, loop: VirtualLoop, trace: bool) -> None:
        self.scenario = scenario
        self.loop = loop
        self.outcome = Outcome(scenario)
        self.complaints = Complaints(self)
        self.tracing = trace
        self.store = SimulatedStore(loop, scenario.remembers)
        self.truth = Truth()
        self.machines = {
            machine.id: SimulatedMachine(
                machine,
                self.store,
                Link(self._random(f"link {machine.id}"), scenario.weather),
                self._random(f"host {machine.id}"),
                scenario.manner,
                scenario.calm,
            )
            for machine in scenario.machines
        }
        texts = {name: unit_text(name, options) for name, options in scenario.units}
        names = {UnitName.parse(name): text for name, text in texts.items()}
        options = Known({name: options_of(name, text) for name, text in names.items()})
        self.people = People(self.machines, texts, self.truth, self._random("people"), self.note)
        self.deadline = Deadline(self.truth, self.machines, loop, self.broken)
        self.invariants = Invariants(
            self.truth, self.machines, options, loop.time, self.broken, self.deadline.lost
        )
        self.store.watchers.append(self._committed)
        for machine in self.machines.values():
            machine.ordered, machine.trouble = self._ordered, self.broken
            self._observe(machine)
        self._broken: asyncio.Future[None] = loop.create_future()
        self._orders: list[asyncio.Task[None]] = []
        # Units that began to move to a certain machine.
        self._moves = 0
        # The key of the last change.
        self._written = ""

    async def run(self) -> None:
        """Play it."""
        play = asyncio.create_task(self._play())
        await asyncio.wait((play, self._broken), return_when=asyncio.FIRST_COMPLETED)
        for machine in self.machines.values():
            self.outcome.partings[machine.id] = machine.host.partings
            machine.kill_kirschd()
        for task in (play, *self._orders):
            task.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        if play.done() and not play.cancelled() and (error := play.exception()):
            raise error

    def broken(self, text: str) -> None:
        """An invariant does not hold: the end."""
        if not self.outcome.broken:
            self.outcome.broken = f"at {self.loop.time():.3f}: {text}"
            self.note("BROKEN", text)
            if not self._broken.done():
                self._broken.set_result(None)

    def note(self, who: str, what: str) -> None:
        """A line of the trace."""
        if self.tracing:
            self.outcome.trace.append(f"{self.loop.time():10.6f} {who:7} {what}")

    def _releases(self) -> list[str]:
        """All releases, as far as they are."""
        return [entry.value for entry in self.truth.below(keys.RELEASES)]

    async def _play(self) -> None:
        for act in self.scenario.acts:
            if (wait := act.at - self.loop.time()) > 0:
                await asyncio.sleep(wait)
            self._do(act)
        calm = self.loop.time()
        until, moves, releases = calm + SETTLES, self._moves, self._releases()
        await asyncio.gather(*self._orders)
        if self.scenario.weather.lost or self.scenario.weather.late:
            await asyncio.sleep(LATEST)
        agreed = 0
        while agreed < AGREED:
            left = next(unfinished(self.truth, self.machines, calm), None)
            agreed = 0 if left else agreed + 1
            moved = self._moves - moves
            if moved > len(self.scenario.units):
                return self.broken(f"{moved} moves after all faults")
            before, releases = releases, self._releases()
            if releases != before:
                until = min(self.loop.time() + SETTLES, calm + LONGEST)
            if self.loop.time() >= until + MOVE * moved:
                return self.broken(f"{self.loop.time() - calm:g} s after all faults: {left}")
            await asyncio.sleep(1)
        self.outcome.settled = self.loop.time()
        revision = self.store.revision
        await asyncio.sleep(STILL)
        if self.store.revision != revision:
            self.broken(f"all was settled, and {self._written} was written")
        if left := next(unfinished(self.truth, self.machines, calm), None):
            self.broken(f"all was settled, and then: {left}")
        return None

    def _do(self, act: Act) -> None:
        if act.verb in VERBS:
            self._orders.append(asyncio.create_task(self.people.want(act)))
            return
        self.deadline.disturbed = self.loop.time()
        self.note("fate", f"{act.verb} {act.subject} {act.argument}".strip())
        machine = self.machines.get(act.subject)
        match act.verb:
            case "away":
                self.store.go()
            case "back" if self.store.away:
                self.store.come_back()
            case "wake" if self.store.away:
                self.store.come_back(renewed=False)
            case "calm":
                for each in self.machines.values():
                    each.link.weather = Weather()
            case "killleader" | "crashleader":
                self._strike_leader(act)
            case "die":
                for each in self.machines.values():
                    each.host.die(UnitName.parse(act.subject), act.argument)
        if machine is None:
            return
        match act.verb:
            case "boot" if not machine.powered:
                machine.boot()
            case "crash" if machine.powered:
                machine.crash()
            case "cut" if machine.link.up:
                machine.link.cut()
            case "mend" if not machine.link.up:
                machine.link.mend()
            case "revoke":
                self.store.revoke(keys.machine(machine.id))
            case "full" | "empty":
                machine.host.full = act.verb == "full"
            case "renew":
                self._orders.append(asyncio.create_task(machine.renew_kirschd(float(act.argument))))
            case "kill" if machine.kirschd:
                machine.kill_kirschd()
                self.loop.call_later(float(act.argument), machine.start_kirschd)

    def _strike_leader(self, act: Act) -> None:
        leader = self.machines.get(self.truth.value(keys.LEADER) or "")
        if leader is None:
            return
        if act.verb == "killleader":
            leader.kill_kirschd()
            self.loop.call_later(float(act.argument), leader.start_kirschd)
        elif leader.powered:
            leader.crash()

    def _committed(self, changes: Sequence[tuple[Change, ...]]) -> None:
        if self.tracing:
            for revision in changes:
                for change in revision:
                    what = f"= {change.entry.value}" if change.entry else "is gone"
                    self.note("store", f"{change.revision} {change.key.removeprefix(keys.ROOT)} {what}")
        for change in (change for revision in changes for change in revision):
            if change.entry is not None and change.key.startswith(keys.MOVES):
                # A drain names no target.
                self._moves += bool(Move.parse(change.entry.value).target)
        self._written = changes[-1][0].key
        self.invariants.committed(changes)

    def _ordered(self, machine: SimulatedMachine, verb: str, name: UnitName) -> None:
        self.note(machine.id, f"{verb} {name}")
        self.outcome.orders.append((self.loop.time(), machine.id, verb, name.text))
        self.invariants.ordered(machine, verb, name)

    def _observe(self, machine: SimulatedMachine) -> None:
        def observer(name: UnitName, before: RuntimeState | None, after: RuntimeState | None) -> None:
            was, now = (f"{state.active}" if state else "-" for state in (before, after))
            if was != now:
                self.note(machine.id, f"{name}: {was} -> {now}")
            self.invariants.process(machine, name, before, after)

        machine.host.observer = observer

    def _random(self, what: str) -> Random:
        return Random(f"{self.scenario.seed} {what}")


class Known(dict[UnitName, Options]):
    """Options of units; those that no scenario names are instances of its templates, and commands of
    releases."""

    def __missing__(self, name: UnitName) -> Options:
        if name.template in self:
            return self[name.template]
        assert "-release@" in name.text, name
        return Options(link_update="ignore")


class Complaints(logging.Handler):
    """What kirschd logs goes into the trace; an error that it did not expect is the end."""

    def __init__(self, simulation: Simulation) -> None:
        super().__init__()
        self.simulation = simulation

    def emit(self, record: logging.LogRecord) -> None:
        owner = OWNER.get()
        if owner is not None and owner.dead:
            return
        text = record.getMessage()
        self.simulation.note(owner.machine.id if owner else "-", text)
        if record.levelno >= logging.ERROR:
            error = record.exc_info[1] if record.exc_info else None
            self.simulation.broken(f"logged: {text}: {error!r}")


def options_of(name: UnitName, text: str) -> Options:
    """The options of a unit; a template's are those of its instances."""
    name = name.with_instance("1") if name.is_template else name
    return Options.parse(UnitFile.parse(text, name.text), name)


def unit_text(name: str, options: tuple[str, ...]) -> str:
    """The file of a unit."""
    body = (
        ["[Container]", "Image=run"] if name.endswith(".container") else ["[Service]", "ExecStart=/bin/run"]
    )
    lines = [*body, "[X-Kirsch]", "HealthyFor=1s", "Deadline=12s", *options]
    return "\n".join(lines) + "\n"
