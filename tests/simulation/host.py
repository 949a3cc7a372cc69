"""What runs on a simulated machine: processes that take their time, and live on when kirschd does not."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from random import Random

from kirsch.cluster.agent.plan import alive
from kirsch.cluster.runtime.base import Prepared, RuntimeState
from kirsch.unit import UnitName

# What a text has in it whose processes end at their start, or never come up.
CRASHES, HANGS = "# crashes", "# hangs"
# What a text has in it whose processes end well as soon as they have started.
ONCE = "Type=oneshot"
FULL = "its file cannot be written: No space left on device"

Listener = Callable[[UnitName, RuntimeState | None], None]
# What is told of each change: the unit, and what it was and is.
Observer = Callable[[UnitName, RuntimeState | None, RuntimeState | None], None]


@dataclass(frozen=True, slots=True)
class Manner:
    """How units behave on a host: the seconds that starts and stops take at most, the chance of one to take
    much longer, and of a start to fail."""

    start: float = 1.0
    stop: float = 1.0
    long: float = 0.05
    fails: float = 0.02


@dataclass(slots=True)
class Held:
    """A unit that the host has loaded. `starts` and `stops` are who waits for a job, `queued` the mark of a
    start that comes after the stop."""

    prepared: Prepared
    state: RuntimeState
    timer: asyncio.TimerHandle | None = None
    starts: list[asyncio.Future[None]] = field(default_factory=list)
    stops: list[asyncio.Future[None]] = field(default_factory=list)
    queued: str | None = None


class Host:
    """The service manager of one machine, from its boot to its end."""

    def __init__(self, loop: asyncio.AbstractEventLoop, random: Random, manner: Manner) -> None:
        self.loop = loop
        self.random = random
        self.manner = manner
        self.units: dict[UnitName, Held] = {}
        # kirschd, while there is one.
        self.listener: Listener = lambda name, state: None
        self.observer: Observer = lambda name, before, after: None
        # What kirschd keeps on what a boot makes empty.
        self.heard: float | None = None
        # No room where units' files go.
        self.full = False
        # It is in the flat network.
        self.joined = False
        # How often kirschd took it out of the flat network.
        self.partings = 0
        self._pid = 0

    def alive(self, name: UnitName) -> bool:
        """Whether the unit has processes."""
        held = self.units.get(name)
        return held is not None and alive(held.state)

    def serves(self, name: UnitName) -> bool:
        """True while the unit is up."""
        held = self.units.get(name)
        return held is not None and held.state.active == "active"

    def stopping(self, name: UnitName) -> bool:
        """Whether the unit is on its way out."""
        held = self.units.get(name)
        return held is not None and held.state.active == "deactivating"

    def address(self, name: UnitName) -> str:
        """Where the unit's processes are in the flat network; empty if it has none, or none in it."""
        held = self.units.get(name)
        return held.prepared.address if held is not None and alive(held.state) else ""

    def load(self, units: Iterable[Prepared]) -> None:
        """Make units known, or known anew."""
        for prepared in units:
            held = self.units.get(prepared.name)
            if held is None:
                state = RuntimeState(hash=prepared.file.hash, since=self.loop.time())
                if self.full:
                    state = replace(state, load="error", message=FULL)
                self.units[prepared.name] = Held(prepared, state)
                self.observer(prepared.name, None, state)
                self.listener(prepared.name, state)
                continue
            held.prepared = prepared
            if not alive(held.state):
                load, message = ("error", FULL) if self.full else ("loaded", "")
                self._become(held, hash=prepared.file.hash, load=load, message=message)

    def start(self, name: UnitName, mark: str) -> asyncio.Future[None]:
        """A start job: done when the unit is active, or will not be."""
        job: asyncio.Future[None] = self.loop.create_future()
        held = self.units.get(name)
        if held is None or held.state.load != "loaded":
            job.set_result(None)
            return job
        held.starts.append(job)
        match held.state.active:
            case "active":
                self._done(held.starts)
            case "activating":
                pass
            case "deactivating":
                held.queued = mark
            case _:
                self._begin(held, mark)
        return job

    def stop(self, name: UnitName, mark: str) -> asyncio.Future[None]:
        """A stop job: done when no process is left. The mark stays, as if kirschd ended before it could take
        it away."""
        job: asyncio.Future[None] = self.loop.create_future()
        held = self.units.get(name)
        if held is None or not alive(held.state):
            job.set_result(None)
            return job
        held.stops.append(job)
        held.queued = None
        if held.state.active != "deactivating":
            self._become(held, active="deactivating", sub="stop-sigterm", mark=mark)
            self._done(held.starts)
            self._later(held, self.manner.stop, lambda: self._end(held, "success"))
        return job

    def kill(self, name: UnitName) -> None:
        """SIGKILL: gone in some milliseconds, or, where a process waits for its disk, in a second."""
        held = self.units.get(name)
        if held is None or not alive(held.state):
            return
        stopped = held.state.active == "deactivating"
        random = self.random.random
        self._set_timer(
            held,
            0.002 + (1.0 if random() < self.manner.long else 0.01) * random(),
            lambda: self._end(held, "success" if stopped else "signal"),
        )

    def die(self, name: UnitName, result: str) -> None:
        """A unit ends by itself: with `success`, or as a failure."""
        held = self.units.get(name)
        if held is not None and held.state.active == "active":
            self._end(held, result)

    def unload(self, names: Iterable[UnitName]) -> None:
        """Forget stopped units."""
        for name in names:
            held = self.units.get(name)
            if held is not None and not alive(held.state):
                del self.units[name]
                self.observer(name, held.state, None)
                self.listener(name, None)

    def crash(self) -> None:
        """The machine's end: nothing is left, and nobody is told."""
        self.listener = lambda name, state: None
        units, self.units = self.units, {}
        for name, held in units.items():
            if held.timer is not None:
                held.timer.cancel()
            self.observer(name, held.state, None)

    def _begin(self, held: Held, mark: str) -> None:
        self._pid += 1
        held.queued = None
        self._become(
            held,
            active="activating",
            sub="start",
            result="success",
            hash=held.prepared.file.hash,
            pid=self._pid,
            mark=mark,
        )
        text = held.prepared.file.text
        if HANGS in text:
            return
        fails = CRASHES in text or self.random.random() < self.manner.fails
        self._later(held, self.manner.start, lambda: self._started(held, fails))

    def _started(self, held: Held, fails: bool) -> None:
        if fails:
            self._end(held, "exit-code")
            return
        if ONCE in held.prepared.file.text:
            self._end(held, "success")
            return
        self._become(held, active="active", sub="running")
        self._done(held.starts)

    def _end(self, held: Held, result: str) -> None:
        if held.timer is not None:
            held.timer.cancel()
            held.timer = None
        failed = result != "success"
        state = "failed" if failed else "inactive"
        self._become(held, active=state, sub="failed" if failed else "dead", result=result, pid=0)
        self._done(held.stops)
        if held.queued is not None:
            self._begin(held, held.queued)
        else:
            self._done(held.starts)

    def _later(self, held: Held, most: float, then: Callable[[], None]) -> None:
        random = self.random.random
        seconds = 5.0 + 4.0 * random() if random() < self.manner.long else most * random()
        self._set_timer(held, seconds, then)

    def _set_timer(self, held: Held, seconds: float, then: Callable[[], None]) -> None:
        if held.timer is not None:
            held.timer.cancel()
        held.timer = self.loop.call_later(seconds, then)

    def _become(self, held: Held, **changes: str | int) -> None:
        before = held.state
        active = changes.get("active", before.active)
        since = self.loop.time() if active != before.active else before.since
        held.state = replace(before, since=since, **changes)  # type: ignore[arg-type]
        name = held.prepared.name
        self.observer(name, before, held.state)
        self.listener(name, held.state)

    def _done(self, jobs: list[asyncio.Future[None]]) -> None:
        for job in jobs:
            if not job.done():
                job.set_result(None)
        jobs.clear()
