"""The agent's edge: sees through the mirror and the runtime, lets `plan` decide, acts, and says what is."""

import asyncio
import logging
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import replace
from typing import Any

from kirsch.cluster import links
from kirsch.cluster.agent.adoption import adopted, ending, mark
from kirsch.cluster.agent.cache import Cache, Cached
from kirsch.cluster.agent.claim import Claims
from kirsch.cluster.agent.membership import Membership
from kirsch.cluster.agent.plan import (
    STOPS_AT,
    Action,
    Assigned,
    Hold,
    Kill,
    Load,
    Start,
    Stop,
    Unload,
    View,
    alive,
    misled,
    plan,
    replaced,
)
from kirsch.cluster.agent.ports import taken
from kirsch.cluster.agent.preparation import Preparation
from kirsch.cluster.agent.readiness import Readiness
from kirsch.cluster.agent.report import STARTS, Report, unit_state
from kirsch.cluster.agent.share import Share
from kirsch.cluster.lapse import Lapses
from kirsch.cluster.lease import LeasedKeys, MachineLease
from kirsch.cluster.mirror import Mirror
from kirsch.cluster.model import Assignment, Machine, UnitState
from kirsch.cluster.names.server import Names
from kirsch.cluster.network.base import Network
from kirsch.cluster.registry.base import Registry, RegistryError
from kirsch.cluster.runtime.base import Prepared, Runtime, RuntimeState
from kirsch.cluster.secrets import SecretError
from kirsch.cluster.snapshot import Snapshots
from kirsch.unit import Options, UnitName

log = logging.getLogger(__name__)

SERVES = ("active", "reloading")


class Agent:
    """Runs what the schedule puts on one machine. For one event loop."""

    def __init__(
        self,
        registry: Registry,
        mirror: Mirror,
        snapshots: Snapshots,
        lease: MachineLease,
        runtime: Runtime,
        machine: Machine,
        preparation: Preparation,
        cache: Cache,
        network: Network | None = None,
        names: Names | None = None,
    ) -> None:
        self.mirror = mirror
        self.snapshots = snapshots
        self.lease = lease
        self.runtime = runtime
        self.machine = machine
        self.preparation = preparation
        self.addresses = preparation.addresses
        self.cache = cache
        self.network = network
        self.names = names
        self.membership = Membership(machine.id, network, mirror, lease)
        self.share = Share(machine.id, mirror, snapshots, lease, Lapses(self._changed))
        self.report = Report(machine)
        self.leased = LeasedKeys(registry, mirror, lease)
        self.claims = Claims(machine.id, mirror, lease, self.leased)
        self.readiness = Readiness(runtime, self._changed)
        self._loaded: dict[UnitName, Options] = {}
        # Of those, what an earlier kirschd left: most of their options is not known yet.
        self._left: set[UnitName] = set()
        self._started: dict[UnitName, Assignment] = {}
        self._prepared: dict[UnitName, Prepared] = {}
        # The addresses that each unit's links gave it at its start.
        self._linked: dict[UnitName, Mapping[str, str]] = {}
        self._busy: dict[UnitName, asyncio.Task[None]] = {}
        self._starting: set[UnitName] = set()
        self._problems: dict[UnitName, str] = {}
        self._holds: dict[UnitName, str] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._timers: list[asyncio.TimerHandle] = []
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._closing = False
        self._running = False
        self._joining = True
        mirror.listen(self._take_notice)
        runtime.listen(self._state_changed)
        lease.listen(self._lease_changed)
        if network is not None:
            network.listen(self._networked)
        if names is not None:
            self._named()
            names.listen(self._named)

    async def run(self) -> None:
        """Follow the schedule until cancelled."""
        self._running = True
        for name, unit in adopted(self.runtime.states()).items():
            self._started[name], self._loaded[name] = unit.assignment, unit.options
            self._linked[name] = unit.linked
            self._left.add(name)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.leased.run())
                # What an earlier kirschd has heard of the store may be long ago.
                self._lease_changed()
                while True:
                    await self._wake.wait()
                    self._wake.clear()
                    await self._step()
        finally:
            self._running = False
            self._idle.set()
            for timer in self._timers:
                timer.cancel()

    async def close(self) -> None:
        """Let go of the units. Where they cannot go on without the runtime stop everything, whoever uses
        others first, and return once nothing is left."""
        self._closing = True
        if self._running and not self.runtime.durable:
            self._idle.clear()
            self._changed()
            await self._idle.wait()
        await self.runtime.close()

    async def _step(self) -> None:
        view = self.view()
        if view.known and not self._closing:
            self._welcome(view)
        if view.connected and not view.joining:
            self.membership.enter()
        self.addresses.want((name, view.assigned[name].options) for name in view.unaddressed)
        actions = plan(view)
        self._holds = {action.unit: action.reason for action in actions if isinstance(action, Hold)}
        await self._act(view, actions)
        self._publish()

    def view(self) -> View:
        """What `plan` decides upon, now."""
        known = self.mirror.revision > 0
        assigned, running = {} if self._closing else self.share.assigned(), dict(self.runtime.states())
        connected, elsewhere = self.share.connected, {} if self._closing else self.share.elsewhere()
        endpoints = self.snapshots.now().endpoints
        # What was moved back here before it was stopped is not this machine's alone yet.
        own = {name for name, unit in assigned.items() if unit.options.is_global or name not in elsewhere}
        if not connected:
            self._joining = True
        elif not any(alive(state) for name, state in running.items() if name not in own):
            self._joining = False
        view = View(
            assigned=assigned,
            running=running,
            loaded=dict(self._loaded),
            started=dict(self._started),
            busy=frozenset(self._busy),
            starting=frozenset(self._starting),
            elsewhere=elsewhere,
            unread=frozenset() if self._closing else self.share.unread(),
            linked=self._linked,
            lacking=self.preparation.lacking(assigned),
            outdated=self.preparation.outdated(
                {name: unit for name, unit in assigned.items() if not alive(running.get(name))}, endpoints
            ),
            endpoints=endpoints,
            machine=self.machine.id,
            known=known or self._closing,
            connected=connected,
            joining=self._joining,
            silence=self.lease.silence / self.lease.TTL,
            lapsed=self.share.lapsed(),
            apart=self.membership.apart,
            unaddressed=self.preparation.unaddressed(assigned),
            cached={} if known else {name: unit.assigned for name, unit in self.cache.units.items()},
        )
        return replace(view, siblings=self.share.siblings(replaced(view)))

    def _welcome(self, view: View) -> None:
        """Take up units that ran before this agent did: their options, and their health."""
        for name, state in view.running.items():
            if name not in view.assigned or name in view.busy or not alive(state):
                continue
            if name not in self._prepared:
                assigned = view.assigned[name]
                same = state.hash == assigned.assignment.hash
                self._loaded[name] = assigned.options
                self._left.discard(name)
                started = assigned.assignment if same else Assignment(state.hash, "launched", -1)
                if assigned.assignment.desired == "launched":
                    self._started.setdefault(name, started)
            if state.active in SERVES and not self.readiness.serves(name):
                self._state_changed(name, state, ready=self._was_ready(name, view))

    def _was_ready(self, name: UnitName, view: View) -> bool:
        """Whether an earlier kirschd has said so of a unit that runs: what uses it is not to lose it."""
        address = self.addresses.known(name, view.assigned[name].options)
        here = (e for e in view.endpoints if (e.unit, e.machine) == (name.text, self.machine.id))
        return any(endpoint.ready and endpoint.address == address for endpoint in here)

    async def _act(self, view: View, actions: Sequence[Action]) -> None:
        # Before anything is loaded: that may take long, and what has to end has little time.
        for action in actions:
            match action:
                case Stop(name):
                    if others := misled(name, view):
                        log.info("%s starts anew: %s is at another address", name, ", ".join(others))
                    self._starting.discard(name)
                    self._spawn(name, self._stop(name, patient=view.silence < STOPS_AT))
                case Kill(name):
                    await self.runtime.kill(name)
        await self._load(view, actions)
        for action in actions:
            if isinstance(action, Start) and (name := action.unit) not in self._problems:
                self._starting.add(name)
                self._spawn(name, self._start(name, claimed=name in view.assigned))
        unload = [action.unit for action in actions if isinstance(action, Unload)]
        if unload:
            await self.runtime.unload(unload)
            for name in unload:
                for known in (self._loaded, self._started, self._problems, self._prepared, self._linked):
                    known.pop(name, None)
                self._left.discard(name)
                self.preparation.forget(name)
                self.report.forget(name)
            self._changed()
        if self._closing and not self._busy and not self.runtime.states():
            self._idle.set()

    async def _load(self, view: View, actions: Sequence[Action]) -> None:
        """Load, all at once, what is to be loaded or started; a start counts from here, also if it fails."""
        prepared = []
        for action in actions:
            if not isinstance(action, Load | Start):
                continue
            name = action.unit
            assigned = view.assigned.get(name) or view.cached[name]
            if isinstance(action, Start) or name not in self._started:
                # What could not be started is told until it is to be started again.
                self._problems.pop(name, None)
            if isinstance(action, Start):
                self._started[name] = assigned.assignment
                self._linked[name] = self._addresses(name, assigned, view)
            try:
                prepared.append(await self._prepare(name, assigned, view, isinstance(action, Start)))
            except Exception as error:
                # Whatever it is, it is this unit's; the others are not to wait for it.
                if not isinstance(error, RegistryError | SecretError):
                    log.exception("%s", name)
                self._problems[name] = f"cannot be prepared: {error}"
                continue
            self._loaded[name] = assigned.options
            self._left.discard(name)
            if isinstance(action, Start) and (problem := self._port_taken(name, assigned.options)):
                self._problems[name] = problem
        if prepared:
            self._prepared |= {unit.name: unit for unit in prepared}
            await self.runtime.load(prepared)
        if view.known:
            self.cache.keep(self._sticky(view))

    async def _prepare(self, name: UnitName, assigned: Assigned, view: View, starts: bool) -> Prepared:
        if name in view.assigned:
            # To be known, a unit need not have its secrets.
            lacking = () if starts else view.lacking.get(name, ())
            return await self.preparation.of(name, assigned, view.endpoints, lacking)
        return self.cache.units[name].prepared

    def _addresses(self, name: UnitName, assigned: Assigned, view: View) -> Mapping[str, str]:
        if name in view.assigned:
            return links.addresses(assigned.options.links, view.endpoints)
        return self.cache.units[name].linked

    def _sticky(self, view: View) -> dict[UnitName, Cached]:
        """What this machine may start when it boots and nobody answers: what it has had, for what is only on
        its way here may still be where it was."""
        units = {}
        for name, assigned in view.assigned.items():
            wanted = assigned.options.sticky and assigned.assignment.desired == "launched"
            had = name in self._started and name not in self._starting
            if wanted and had and (prepared := self._prepared.get(name)):
                units[name] = Cached(prepared, assigned.assignment, self._linked.get(name, {}))
            elif wanted and name in self.cache.units:
                units[name] = self.cache.units[name]
        return units

    def _port_taken(self, name: UnitName, options: Options) -> str | None:
        """Why a unit cannot have the ports it publishes."""
        for port in options.published:
            if who := taken(port, process=not self.runtime.durable):
                where = f"{name}:{port.entry.line}" if port.entry else name.text
                return f"port {port.host} is in use by {who}; stop that, or change PublishPort= ({where})"
        return None

    async def _start(self, name: UnitName, claimed: bool) -> None:
        """Start it, once the store has that this machine does: whoever gets it next can see that."""
        assignment = self._started[name]
        if claimed and not await self.claims.make(name, assignment):
            self._started.pop(name, None)
            return
        state = await self.runtime.start(name, mark(assignment, self._loaded[name], self._linked[name]))
        log.info("%s: %s (%s)", name, state.active, state.sub)

    async def _stop(self, name: UnitName, patient: bool) -> None:
        """Out of the endpoints first, so that balancers let go, unless nobody could see it; then stop."""
        started = self._started.pop(name, None)
        self.readiness.leave(name)
        self._publish()
        if patient:
            await self._seen()
        known = self._loaded.get(name, Options()), self._linked.get(name, {})
        await self.runtime.stop(name, ending(started, *known) if started else "")
        log.info("%s: stopped", name)

    async def _seen(self) -> None:
        """Return once the store has what was said last, or is not to be waited for any longer."""
        try:
            async with asyncio.timeout(STOPS_AT * self.lease.TTL - self.lease.silence):
                await self.leased.settled()
        except TimeoutError:
            log.warning("the store does not take what this machine says: units stop without")

    def _spawn(self, name: UnitName, work: Coroutine[Any, Any, None]) -> None:
        """Work on a unit; until it is done the unit is busy."""

        async def guarded() -> None:
            try:
                await work
            except Exception as error:
                log.exception("%s", name)
                self._problems[name] = str(error)
            finally:
                # A start that was given up ends while the stop goes on.
                if self._busy.get(name) is asyncio.current_task():
                    del self._busy[name]
                    self._starting.discard(name)
                self._changed()

        task = asyncio.create_task(guarded(), name=f"unit {name}")
        self._busy[name] = task
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _state_changed(self, name: UnitName, state: RuntimeState | None, ready: bool = False) -> None:
        options = None if name in self._left else self._loaded.get(name)
        serves = state is not None and state.active in SERVES and options is not None
        if serves and options is not None and (name not in self._busy or name in self._started):
            address = self.addresses.known(name, options)
            if self.network is not None and options.flat and address and not self.readiness.serves(name):
                self.network.announce(address)
            self.readiness.enter(name, options, address, ready)
        elif not serves:
            self.readiness.leave(name)
        self._changed()

    def _take_notice(self, changed: frozenset[str]) -> None:
        self.share.lose(changed)
        if any(self.share.matters(key) for key in changed):
            self._wake.set()

    def _named(self) -> None:
        """Say whether names are answered here."""
        assert self.names is not None
        self.report.become(replace(self.report.machine, nameless=self.names.problem))
        self._changed()

    def _networked(self) -> None:
        """Say whether the flat network is watched here."""
        assert self.network is not None
        self.report.become(replace(self.report.machine, unwatched=self.network.unwatched))
        self._changed()

    def _changed(self) -> None:
        self._wake.set()

    def _lease_changed(self) -> None:
        """Look now, and when the time is up for what stops by itself should nothing be heard until then."""
        if self.membership.lapse():
            # All else that the machine says is written under the new lease at once.
            self._publish()
        self._changed()
        for timer in self._timers:
            timer.cancel()
        loop, ttl = asyncio.get_running_loop(), self.lease.TTL
        left = [part * ttl - self.lease.silence for part in (STOPS_AT, 1.0)]
        # A timer may fire a little early, and must find the time over.
        self._timers = [loop.call_later(after + 0.01, self._changed) for after in left if after > 0]

    def _publish(self) -> None:
        """Say what is: this machine, the states of its units, and where they serve."""
        report, assigned = self.report, self.share.assigned()
        report.begin()
        # A unit that could not even be loaded is this machine's all the same, and says why.
        unloaded = {
            name: RuntimeState(load="error", hash=assigned[name].assignment.hash)
            for name in self._problems
            if name in assigned
        }
        for name, state in (unloaded | dict(self.runtime.states())).items():
            report.state(name, self._state(name, state))
            if self.readiness.serves(name) and name in assigned:
                ready = self.readiness.ready(name)
                address = self.addresses.known(name, assigned[name].options)
                report.endpoint(name, assigned[name], address, ready)
        if self.membership.told:
            report.mesh()
        self.leased.want(report.end())

    def _state(self, name: UnitName, state: RuntimeState) -> UnitState:
        problem, busy = self._problems.get(name, ""), name in self._busy
        if name in self._starting and not problem and not alive(state):
            return replace(STARTS, hash=self._started[name].hash)
        started = None if busy else self._started.get(name)
        return unit_state(state, started, self._holds.get(name, ""), problem)
