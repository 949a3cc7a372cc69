"""Actions on units of one machine, each in a task of its own, and a record of the last ones."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from typing import Any

from kirsch.cluster.agent.adoption import adopted, ending, mark
from kirsch.cluster.agent.cache import Cache, Cached
from kirsch.cluster.agent.plan import (
    STOPS_AT,
    Action,
    Assigned,
    Kill,
    Load,
    Start,
    Stop,
    Unload,
    View,
    misled,
)
from kirsch.cluster.agent.ports import taken
from kirsch.cluster.agent.preparation import Preparation
from kirsch.cluster.agent.report import STARTS
from kirsch.cluster.model import Assignment, keys, links
from kirsch.cluster.registry.base import LeaseLost, RegistryError, Unavailable, Unchanged
from kirsch.cluster.registry.lease import LeasedKeys, MachineLease
from kirsch.cluster.registry.mirror import Mirror
from kirsch.cluster.runtime.base import Prepared, Runtime, RuntimeState
from kirsch.cluster.secrets import SecretError
from kirsch.unit import Options, UnitName

log = logging.getLogger(__name__)

# Take a unit out of service, and return once that is seen, if there is time for that.
Leave = Callable[[UnitName, bool], Awaitable[None]]


class Claims:
    """Units that one machine, by its id, takes for its own before it starts them. For one event loop."""

    def __init__(self, machine: str, mirror: Mirror, lease: MachineLease, leased: LeasedKeys) -> None:
        self._machine = machine
        self._mirror = mirror
        self._lease = lease
        self._leased = leased

    async def make(self, name: UnitName, assignment: Assignment) -> bool:
        """Claim a unit; False if it is not this machine's to start, as far as the store knows now."""
        entry = self._mirror.entries.get(keys.schedule(self._machine, name.text))
        if entry is None or Assignment.parse(entry.value) != assignment:
            return False
        key, state = keys.state(name.text, self._machine), replace(STARTS, hash=assignment.hash)
        try:
            granted = await self._leased.claim(key, state.to_json(), Unchanged(entry.key, entry.modified))
        except (LeaseLost, Unavailable):
            return False
        while not granted and self._mirror.entries.get(entry.key) == entry:
            # Something else is in the store than was seen here: it comes.
            await self._mirror.reached(self._mirror.revision + 1)
        # By the time the store has answered it may be another machine's, which waits for this one.
        return granted and self._lease.holds and self._mirror.entries.get(entry.key) == entry


class Work:
    """Has the runtime load, start, stop and unload units. For one event loop.

    `loaded` are the options of what the runtime holds, `started` the assignment that each unit was last
    started for, `linked` the addresses that its links gave it then. `busy` are the units with an action under
    way, `starting` those of them that are being started, `problems` says why one could not be. `changed` is
    called when that is another, `leave` before a unit stops.
    """

    def __init__(
        self,
        runtime: Runtime,
        preparation: Preparation,
        cache: Cache,
        claims: Claims,
        leave: Leave,
        changed: Callable[[], None],
    ) -> None:
        self.loaded: dict[UnitName, Options] = {}
        self.started: dict[UnitName, Assignment] = {}
        self.linked: dict[UnitName, Mapping[str, str]] = {}
        self.busy: dict[UnitName, asyncio.Task[None]] = {}
        self.starting: set[UnitName] = set()
        self.problems: dict[UnitName, str] = {}
        self.cache = cache
        self._runtime = runtime
        self._preparation = preparation
        self._claims = claims
        self._leave = leave
        self._changed = changed
        # Of what is loaded, what an earlier kirschd left: most of its options is not known yet.
        self._left: set[UnitName] = set()
        self._prepared: dict[UnitName, Prepared] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def adopt(self) -> None:
        """Know what an earlier kirschd has started."""
        for name, unit in adopted(self._runtime.states()).items():
            self.started[name], self.loaded[name] = unit.assignment, unit.options
            self.linked[name] = unit.linked
            self._left.add(name)

    def take_up(self, name: UnitName, assigned: Assigned, state: RuntimeState) -> None:
        """Know the options of a unit that runs, and was not prepared by this kirschd."""
        if name in self._prepared:
            return
        same = state.hash == assigned.assignment.hash
        self.loaded[name] = assigned.options
        self._left.discard(name)
        started = assigned.assignment if same else Assignment(state.hash, "launched", -1)
        if assigned.assignment.desired == "launched":
            self.started.setdefault(name, started)

    def options(self, name: UnitName) -> Options | None:
        """A loaded unit's options; None where they are not all known."""
        return None if name in self._left else self.loaded.get(name)

    async def do(self, view: View, actions: Sequence[Action]) -> None:
        """Begin with what was decided upon a view. What is loaded and unloaded is so when this returns."""
        # Before anything is loaded: that may take long, and what has to end has little time.
        for action in actions:
            match action:
                case Stop(name):
                    if others := misled(name, view):
                        log.info("%s starts anew: %s is at another address", name, ", ".join(others))
                    self.starting.discard(name)
                    self._spawn(name, self._stop(name, patient=view.silence < STOPS_AT))
                case Kill(name):
                    await self._runtime.kill(name)
        await self._load(view, actions)
        for action in actions:
            if isinstance(action, Start) and (name := action.unit) not in self.problems:
                self.starting.add(name)
                self._spawn(name, self._start(name, claimed=name in view.assigned))
        await self._unload([action.unit for action in actions if isinstance(action, Unload)])

    async def _unload(self, names: Sequence[UnitName]) -> None:
        if not names:
            return
        await self._runtime.unload(names)
        for name in names:
            for known in (self.loaded, self.started, self.problems, self._prepared, self.linked):
                known.pop(name, None)
            self._left.discard(name)
            self._preparation.forget(name)
        self._changed()

    async def _load(self, view: View, actions: Sequence[Action]) -> None:
        """Load, all at once, what is to be loaded or started; a start counts from here, also if it fails."""
        prepared = []
        for action in actions:
            if not isinstance(action, Load | Start):
                continue
            name = action.unit
            assigned = view.assigned.get(name) or view.cached[name]
            if isinstance(action, Start) or name not in self.started:
                # What could not be started is told until it is to be started again.
                self.problems.pop(name, None)
            if isinstance(action, Start):
                self.started[name] = assigned.assignment
                self.linked[name] = self._addresses(name, assigned, view)
            try:
                prepared.append(await self._prepare(name, assigned, view, isinstance(action, Start)))
            except Exception as error:
                # Whatever it is, it is this unit's; the others are not to wait for it.
                if not isinstance(error, RegistryError | SecretError):
                    log.exception("%s", name)
                self.problems[name] = f"cannot be prepared: {error}"
                continue
            self.loaded[name] = assigned.options
            self._left.discard(name)
            if isinstance(action, Start) and (problem := self._port_taken(name, assigned.options)):
                self.problems[name] = problem
        if prepared:
            self._prepared |= {unit.name: unit for unit in prepared}
            await self._runtime.load(prepared)
        if view.known:
            self.cache.keep(self._sticky(view))

    async def _prepare(self, name: UnitName, assigned: Assigned, view: View, starts: bool) -> Prepared:
        if name in view.assigned:
            # To be known, a unit need not have its secrets.
            lacking = () if starts else view.lacking.get(name, ())
            return await self._preparation.of(name, assigned, view.endpoints, lacking)
        return self.cache.units[name].prepared

    def _addresses(self, name: UnitName, assigned: Assigned, view: View) -> Mapping[str, str]:
        if name in view.assigned:
            return links.addresses(assigned.options.links, view.endpoints)
        return self.cache.units[name].linked

    def _sticky(self, view: View) -> dict[UnitName, Cached]:
        """Return the units this machine may start when it boots and nobody answers: what it has had, for what
        is only on its way here may still be where it was."""
        units = {}
        for name, assigned in view.assigned.items():
            wanted = assigned.options.sticky and assigned.assignment.desired == "launched"
            had = name in self.started and name not in self.starting
            if wanted and had and (prepared := self._prepared.get(name)):
                units[name] = Cached(prepared, assigned.assignment, self.linked.get(name, {}))
            elif wanted and name in self.cache.units:
                units[name] = self.cache.units[name]
        return units

    def _port_taken(self, name: UnitName, options: Options) -> str | None:
        """Why a unit cannot have the ports it publishes."""
        for port in options.published:
            if who := taken(port, process=not self._runtime.durable):
                where = f"{name}:{port.entry.line}" if port.entry else name.text
                return f"port {port.host} is in use by {who}; stop that, or change PublishPort= ({where})"
        return None

    async def _start(self, name: UnitName, claimed: bool) -> None:
        """Start it, once the store has that this machine does: whoever gets it next can see that."""
        assignment = self.started[name]
        if claimed and not await self._claims.make(name, assignment):
            self.started.pop(name, None)
            return
        state = await self._runtime.start(name, mark(assignment, self.loaded[name], self.linked[name]))
        log.info("%s: %s (%s)", name, state.active, state.sub)

    async def _stop(self, name: UnitName, patient: bool) -> None:
        """Out of service first, so that balancers let go, unless nobody could see it; then stop."""
        started = self.started.pop(name, None)
        await self._leave(name, patient)
        known = self.loaded.get(name, Options()), self.linked.get(name, {})
        await self._runtime.stop(name, ending(started, *known) if started else "")
        log.info("%s: stopped", name)

    def _spawn(self, name: UnitName, work: Coroutine[Any, Any, None]) -> None:
        """Work on a unit; until it is done the unit is busy."""

        async def guarded() -> None:
            try:
                await work
            except Exception as error:
                log.exception("%s", name)
                self.problems[name] = str(error)
            finally:
                # A start that was given up ends while the stop goes on.
                if self.busy.get(name) is asyncio.current_task():
                    del self.busy[name]
                    self.starting.discard(name)
                self._changed()

        task = asyncio.create_task(guarded(), name=f"unit {name}")
        self.busy[name] = task
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
