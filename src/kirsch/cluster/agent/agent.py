"""The agent: compares what one machine is to run with what it runs, acts on the difference, and reports.

Whatever changes (the mirror, the runtime, the lease, the network, a check of health, a task that is over)
wakes `run`, which takes one step: `view` (desired and current), `plan` (the difference, pure), `_act`,
`_publish`. A start or a stop goes on in a task of its own, `_start` or `_stop`.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace

from kirsch.cluster.agent.cache import Cache
from kirsch.cluster.agent.membership import Membership
from kirsch.cluster.agent.plan import (
    STOPS_AT,
    Action,
    Assigned,
    Hold,
    Kill,
    Start,
    Stop,
    Unload,
    View,
    alive,
    misled,
    plan,
)
from kirsch.cluster.agent.preparation import Preparation
from kirsch.cluster.agent.readiness import UNREADY, Condition, Readiness
from kirsch.cluster.agent.report import STARTS, Report, unit_state
from kirsch.cluster.agent.work import Work
from kirsch.cluster.model import Assignment, Machine, UnitState, keys, links
from kirsch.cluster.network.base import Network
from kirsch.cluster.network.names.server import Names
from kirsch.cluster.registry.base import LeaseLost, Registry, Unavailable, Unchanged
from kirsch.cluster.registry.lease import LeasedKeys, MachineLease
from kirsch.cluster.registry.lost_machines import LostMachines
from kirsch.cluster.registry.mirror import Mirror
from kirsch.cluster.registry.snapshot import Snapshots, read_name, read_unit
from kirsch.cluster.runtime.base import Runtime, RuntimeState
from kirsch.unit import UnitName

log = logging.getLogger(__name__)

SERVES = ("active", "reloading")


async def _nobody_to_wait_for(name: UnitName, machine: str) -> None:
    """Return at once: no balancer of this machine knows the unit."""


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
        self.network = network
        self.names = names
        self.membership = Membership(machine.id, network, mirror, lease)
        self.assignments = Assignments(machine.id, mirror, snapshots, lease, LostMachines(self._changed))
        self.report = Report(machine)
        self.leased = LeasedKeys(registry, mirror, lease)
        self.work = Work(runtime, preparation, cache, self._changed)
        self.readiness = Readiness(runtime, self._changed)
        # Returns once this machine's balancers send nothing to a unit any more.
        self.let_go: Callable[[UnitName, str], Awaitable[None]] = _nobody_to_wait_for
        self._holds: dict[UnitName, str] = {}
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
            network.may_stay = self._may_stay
            network.listen(self._networked)
        if names is not None:
            self._named()
            names.listen(self._named)

    async def run(self) -> None:
        """Follow the schedule until cancelled."""
        self._running = True
        self.work.adopt()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.leased.run())
                # What an earlier kirschd has heard of the store may be long ago.
                self._lease_changed()
                while True:
                    await self._wake.wait()
                    self._wake.clear()
                    view = self.view()
                    self._prepare(view)
                    actions = plan(view)
                    await self._act(view, actions)
                    self._publish()
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

    def view(self) -> View:
        """Return all that `plan` decides upon, as it is now."""
        known = self.mirror.revision > 0
        assigned, running = {} if self._closing else self.assignments.assigned(), dict(self.runtime.states())
        connected, elsewhere = (
            self.assignments.connected,
            {} if self._closing else self.assignments.elsewhere(),
        )
        endpoints = self.snapshots.now().endpoints
        if not connected:
            self._joining = True
        elif not self._foreign(assigned, elsewhere):
            self._joining = False
        return View(
            assigned=assigned,
            running=running,
            loaded=dict(self.work.loaded),
            started=dict(self.work.started),
            busy=frozenset(self.work.busy),
            starting=frozenset(self.work.starting),
            elsewhere=elsewhere,
            unread=frozenset() if self._closing else self.assignments.unread(),
            linked=self.work.linked,
            lacking=self.preparation.lacking(assigned),
            outdated=self.preparation.outdated(
                {name: unit for name, unit in assigned.items() if not alive(running.get(name))}, endpoints
            ),
            endpoints=endpoints,
            known=known or self._closing,
            connected=connected,
            joining=self._joining,
            silence=self.lease.silence / self.lease.TTL,
            lapsed=self.assignments.lapsed(),
            apart=self.membership.apart,
            unaddressed=self.preparation.unaddressed(assigned),
            cached={} if known else {name: unit.assigned for name, unit in self.work.cache.units.items()},
        )

    def _prepare(self, view: View) -> None:
        """Take up what ran before, join the network, and ask for addresses: what later plans are to find."""
        if view.known and not self._closing:
            self._welcome(view)
        if view.connected and not view.joining:
            self.membership.enter()
        self.addresses.want((name, view.assigned[name].options) for name in view.unaddressed)

    async def _act(self, view: View, actions: Sequence[Action]) -> None:
        """Begin each action. What is to be loaded and unloaded is so when this returns."""
        self._holds = {action.unit: action.reason for action in actions if isinstance(action, Hold)}
        # Before anything is loaded: that may take long, and what has to end has little time.
        for action in actions:
            match action:
                case Stop(name):
                    if others := misled(name, view):
                        log.info("%s starts anew: %s is at another address", name, ", ".join(others))
                    self.work.begin(name, self._stop(name, patient=view.silence < STOPS_AT))
                case Kill(name):
                    await self.runtime.kill(name)
        await self.work.load(view, actions)
        for action in actions:
            if isinstance(action, Start) and (name := action.unit) not in self.work.problems:
                self.work.begin(name, self._start(name, claimed=name in view.assigned), starts=True)
        gone = [action.unit for action in actions if isinstance(action, Unload)]
        await self.work.unload(gone)
        for name in gone:
            self.report.forget(name)
        if self._closing and not self.work.busy and not self.runtime.states():
            self._idle.set()

    async def _start(self, name: UnitName, claimed: bool) -> None:
        """Start a unit, once the store has that this machine does: the next machine can see that."""
        assignment = self.work.started[name]
        if claimed and not await self._claim(name, assignment):
            self.work.started.pop(name, None)
            return
        state = await self.runtime.start(name, self.work.mark(name, assignment))
        log.info("%s: %s (%s)", name, state.active, state.sub)

    async def _claim(self, name: UnitName, assignment: Assignment) -> bool:
        """Claim a unit; False if it is not this machine's to start, as far as the store knows now."""
        entry = self.mirror.entries.get(keys.schedule(self.machine.id, name.text))
        if entry is None or Assignment.parse(entry.value) != assignment:
            return False
        key, state = keys.state(name.text, self.machine.id), replace(STARTS, hash=assignment.hash)
        try:
            granted = await self.leased.claim(key, state.to_json(), Unchanged(entry.key, entry.modified))
        except (LeaseLost, Unavailable):
            return False
        while not granted and self.mirror.entries.get(entry.key) == entry:
            # Something else is in the store than was seen here: it comes.
            await self.mirror.reached(self.mirror.revision + 1)
        # By the time the store has answered it may be another machine's, which waits for this one.
        return granted and self.lease.holds and self.mirror.entries.get(entry.key) == entry

    async def _stop(self, name: UnitName, patient: bool) -> None:
        """Take a unit out of the endpoints, have that seen unless it has to end at once, and stop it."""
        started = self.work.started.pop(name, None)
        self.readiness.leave(name)
        self._publish()
        if patient:
            await self._seen()
            await self.let_go(name, self.machine.id)
        await self.runtime.stop(name, self.work.ending(name, started))
        log.info("%s: stopped", name)

    async def _seen(self) -> None:
        """Return once the store has what was said last, or is not to be waited for any longer."""
        try:
            async with asyncio.timeout(STOPS_AT * self.lease.TTL - self.lease.silence):
                await self.leased.settled()
        except TimeoutError:
            log.warning("the store does not take what this machine says: units stop without")

    def _foreign(self, assigned: Mapping[UnitName, Assigned], elsewhere: Mapping[UnitName, str]) -> bool:
        """Return True if a unit runs here that is not this machine's alone."""
        # What was moved back here before it was stopped is not this machine's alone yet.
        own = {name for name, unit in assigned.items() if unit.options.is_global or name not in elsewhere}
        return any(alive(state) for name, state in self.runtime.states().items() if name not in own)

    def _may_stay(self) -> bool:
        """Return True if nothing that runs here is another machine's, as far as the store has told by now."""
        return not self._foreign(self.assignments.assigned(), self.assignments.elsewhere())

    def _welcome(self, view: View) -> None:
        """Take up units that ran before this agent did: their options, and their health."""
        for name, state in view.running.items():
            if name not in view.assigned or name in view.busy or not alive(state):
                continue
            self.work.take_up(name, view.assigned[name], state)
            if state.active in SERVES and not self.readiness.serves(name):
                self._state_changed(name, state, self._known(name, view))

    def _known(self, name: UnitName, view: View) -> Condition:
        """Return what an earlier kirschd has said of a unit that runs: what uses it is not to lose it."""
        address = self.addresses.known(name, view.assigned[name].options)
        here = (e for e in view.endpoints if (e.unit, e.machine) == (name.text, self.machine.id))
        said = next((e for e in here if e.ready and e.address == address), None)
        return Condition(True, said.role) if said else UNREADY

    def _state_changed(self, name: UnitName, state: RuntimeState | None, known: Condition = UNREADY) -> None:
        options = self.work.options(name)
        serves = state is not None and state.active in SERVES and options is not None
        if serves and options is not None and (name not in self.work.busy or name in self.work.started):
            address = self.addresses.known(name, options)
            if self.network is not None and options.flat and address and not self.readiness.serves(name):
                self.network.announce(address)
            self.readiness.enter(name, options, address, known)
        elif not serves:
            self.readiness.leave(name)
        self._changed()

    def _take_notice(self, changed: frozenset[str]) -> None:
        self.assignments.lose(changed)
        if any(self.assignments.matters(key) for key in changed):
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
        report, assigned = self.report, self.assignments.assigned()
        report.begin()
        # A unit that could not even be loaded is this machine's all the same, and says why.
        unloaded = {
            name: RuntimeState(load="error", hash=assigned[name].assignment.hash)
            for name in self.work.problems
            if name in assigned
        }
        for name, state in (unloaded | dict(self.runtime.states())).items():
            report.state(name, self._state(name, state))
            if self.readiness.serves(name) and name in assigned:
                address = self.addresses.known(name, assigned[name].options)
                report.endpoint(name, assigned[name], address, self.readiness.condition(name))
        if self.membership.told:
            report.mesh()
        self.leased.want(report.end())

    def _state(self, name: UnitName, state: RuntimeState) -> UnitState:
        work = self.work
        problem, busy = work.problems.get(name, ""), name in work.busy
        if name in work.starting and not problem and not alive(state):
            return replace(STARTS, hash=work.started[name].hash)
        started = None if busy else work.started.get(name)
        return unit_state(state, started, self._holds.get(name, ""), problem)


class Assignments:
    """One machine's part of the cluster, as its mirror has it: its own schedule, and what of others' matters.

    `lost_machines` are the machines that it sees lost.
    """

    def __init__(
        self,
        machine: str,
        mirror: Mirror,
        snapshots: Snapshots,
        lease: MachineLease,
        lost_machines: LostMachines,
    ) -> None:
        self.machine = machine
        self.mirror = mirror
        self.snapshots = snapshots
        self.lease = lease
        self.lost_machines = lost_machines
        self._read: dict[UnitName, Assigned] = {}
        self._read_at = -1

    @property
    def connected(self) -> bool:
        """True if the store has this machine, and this machine all that the store held when it took it in:
        what was decided while it was away is known."""
        entry = self.mirror.entries.get(keys.machine(self.machine))
        return entry is not None and entry.lease == self.lease.current and self.lease.holds

    def assigned(self) -> dict[UnitName, Assigned]:
        """This machine's part of the schedule. A text is gone as soon as nobody wants the unit like that any
        more, which is not for an agent to act upon: until the schedule says so the unit is what it was."""
        if self._read_at == self.mirror.revision:
            return self._read
        assigned, schedule = {}, self.snapshots.now().schedule
        for name in self._scheduled():
            assignment, known = schedule[name][self.machine], self._read.get(name)
            if (text := self.mirror.value(keys.text(assignment.hash))) is not None:
                assigned[name] = Assigned(*read_unit(name, text), assignment)
            elif known is not None and known.assignment.hash == assignment.hash:
                assigned[name] = replace(known, assignment=assignment)
        self._read, self._read_at = assigned, self.mirror.revision
        return assigned

    def unread(self) -> frozenset[UnitName]:
        """Return units that the schedule has here and of which the store has no text."""
        return frozenset(self._scheduled()) - self.assigned().keys()

    def elsewhere(self) -> dict[UnitName, str]:
        """Units of this machine that another one still has; where that is gone its lease took them along."""
        states = self.snapshots.now().states
        others = {name: states.get(name, {}).keys() - {self.machine} for name in self.assigned()}
        return {name: min(machines) for name, machines in others.items() if machines}

    def lose(self, changed: frozenset[str]) -> None:
        """Know of machines that were lost by these changes."""
        gone = (key for key in changed if key.startswith(keys.MACHINES) and key not in self.mirror.entries)
        self.lost_machines.lose(keys.last(key) for key in gone)

    def lapsed(self) -> str:
        """A machine that was lost a moment ago; empty for none."""
        return min(self.lost_machines.lately(), default="")

    def matters(self, key: str) -> bool:
        """True if a change has to do with this machine's units: most of what a large cluster does has not."""
        match keys.kind(key):
            case keys.SCHEDULE:
                return keys.pair(key).first == self.machine
            case keys.MACHINES:
                return keys.last(key) == self.machine
            case keys.SECRETS:
                used = (secret.name for unit in self._read.values() for secret in unit.options.secrets)
                return keys.last(key) in used
            case keys.MESH:
                return keys.last(key) == self.machine
            case keys.STATES:
                # What it has said itself is no news.
                unit, machine = keys.pair(key)
                return machine != self.machine and read_name(unit) in self._read
            case keys.ADDRESSES:
                return read_name(keys.pair(key).first) in self._read
            case keys.ENDPOINTS:
                name = read_name(keys.pair(key).first)
                linked = (link for unit in self._read.values() for link in unit.options.links)
                return name in self._read or any(links.targets(link, name) for link in linked)
        return False

    def _scheduled(self) -> list[UnitName]:
        entries = self.mirror.below(keys.schedule(self.machine, ""))
        return [read_name(keys.last(entry.key)) for entry in entries]
