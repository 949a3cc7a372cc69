"""A record of what is done to the units of one machine: loaded, started, and what is under way."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from kirsch.cluster.agent.adoption import adopted, ending, mark
from kirsch.cluster.agent.cache import Cache, Cached
from kirsch.cluster.agent.plan import Action, Assigned, Load, Start, View
from kirsch.cluster.agent.ports import taken
from kirsch.cluster.agent.preparation import Preparation
from kirsch.cluster.model import Assignment, links
from kirsch.cluster.registry.base import RegistryError
from kirsch.cluster.runtime.base import Prepared, Runtime, RuntimeState
from kirsch.cluster.secrets import SecretError
from kirsch.unit import Options, UnitName

log = logging.getLogger(__name__)


class Work:
    """Record of units that the agent has loaded and started, and of its tasks on them. For one event loop.

    `loaded` are the options of what the runtime holds, `started` the assignment that each unit was last
    started for, `linked` the addresses that its links gave it then. `busy` are the units with a task under
    way, `starting` those of them that are being started, `problems` says why one could not be. `changed` is
    called when a task is over.
    """

    def __init__(
        self, runtime: Runtime, preparation: Preparation, cache: Cache, changed: Callable[[], None]
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

    async def unload(self, names: Sequence[UnitName]) -> None:
        """Have the runtime forget units that were stopped."""
        if not names:
            return
        await self._runtime.unload(names)
        for name in names:
            for known in (self.loaded, self.started, self.problems, self._prepared, self.linked):
                known.pop(name, None)
            self._left.discard(name)
            self._preparation.forget(name)
        self._changed()

    async def load(self, view: View, actions: Sequence[Action]) -> None:
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
                # Its next assignment may be known, and its text not here yet.
                units[name] = Cached(prepared, self.started[name], self.linked.get(name, {}))
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

    def mark(self, name: UnitName, started: Assignment) -> str:
        """Return the mark of a unit that is started for an assignment."""
        return mark(started, self.loaded[name], self.linked[name])

    def ending(self, name: UnitName, started: Assignment | None) -> str:
        """Return the mark of a unit that is being stopped; empty if it was not started here."""
        known = self.loaded.get(name, Options()), self.linked.get(name, {})
        return ending(started, *known) if started else ""

    def begin(self, name: UnitName, work: Coroutine[Any, Any, None], *, starts: bool = False) -> None:
        """Work on a unit in a task; until it is done the unit is busy."""
        (self.starting.add if starts else self.starting.discard)(name)

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
