"""The engine: the elected leader that turns what people want into a schedule.

Deciding is `reconcile`; here is only when to decide, and writing it down under the leader's guard.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from kirsch.cluster.engine import rollout
from kirsch.cluster.engine.moves import Arrive, Begin, Stay
from kirsch.cluster.engine.rebalance import CALM, Sight, observe, rebalance
from kirsch.cluster.engine.reconcile import Assign, Decision, GiveBack, Wait, Withdraw, reconcile
from kirsch.cluster.model import Cluster, Release, keys, to_json
from kirsch.cluster.model.release import listed
from kirsch.cluster.registry.base import (
    MAX_OPERATIONS,
    Condition,
    Created,
    Delete,
    LeaseLost,
    Operation,
    Put,
    Registry,
    Unavailable,
    Unchanged,
)
from kirsch.cluster.registry.lease import MachineLease
from kirsch.cluster.registry.lost_machines import LostMachines
from kirsch.cluster.registry.mirror import Mirror
from kirsch.cluster.registry.snapshot import Snapshots, read_name
from kirsch.unit import UnitName

log = logging.getLogger(__name__)

DECIDES_UPON = (
    *(keys.MACHINES, keys.MACHINE_SETTINGS, keys.UNITS, keys.SCHEDULE, keys.HOMES, keys.MOVES),
    keys.RELEASES,
)
# Moves, releases and the rebalance go on when a unit is ready.
MOVES_UPON = (keys.STATES, keys.ENDPOINTS)


class Engine:
    """Leads when it can, and reconciles at each change while it leads."""

    RETRY = 0.5
    # Seconds after the last decision in which what it leads to may follow, before instances are rebalanced.
    FOLLOWS = 1.0

    def __init__(
        self,
        registry: Registry,
        mirror: Mirror,
        snapshots: Snapshots,
        lease: MachineLease,
        machine_id: str,
    ) -> None:
        self.registry = registry
        self.mirror = mirror
        self.snapshots = snapshots
        self.lease = lease
        self.machine_id = machine_id
        # Called with the seconds that each reconcile took.
        self.reconciled: Callable[[float], object] = lambda seconds: None
        # Seconds since the epoch, for people.
        self.wall: Callable[[], float] = time.time
        # Seconds until a machine is calm enough for instances to be moved to it; None: only people move them.
        self.calm: float | None = CALM
        self._changed = asyncio.Event()
        self._leads = False
        # Machines as this leader has seen them, and True while a Spread= is not met.
        self._machines: dict[str, Sight] = {}
        self._unmet = False
        self._rebalance_timer: asyncio.TimerHandle | None = None
        # What this leader has seen of the instances of each release.
        self._sights: dict[tuple[str, int], rollout.Sights] = {}
        self._timer: asyncio.TimerHandle | None = None
        # The revisions that there may be something to decide upon, 0 for what is none.
        self._news: set[int] = set()
        self._lost_machines = LostMachines(lambda: self._hear(0))
        mirror.listen(self._take_notice)

    async def run(self) -> None:
        """Lead and reconcile until cancelled."""
        while True:
            try:
                term = await self._elected()
                log.info("machine %s leads", self.machine_id)
                self._leads = True
                await self._lead(term)
            except (LeaseLost, Unavailable) as error:
                log.warning("cannot lead: %s", error or type(error).__name__)
                await asyncio.sleep(self.RETRY)
            finally:
                self._leads = False

    async def _elected(self) -> Created:
        """Wait until this machine leads: the condition that guards all its writes."""
        while True:
            lease = await self._present()
            revision = await self.registry.put(keys.LEADER, self.machine_id, lease=lease, unchanged=0)
            if revision is not None:
                await self.mirror.reached(revision)
                return Created(keys.LEADER, revision)
            leader = await self.registry.get(keys.LEADER)
            if leader and leader.value == self.machine_id:
                # An earlier kirschd of this machine is dead, its lease not yet. Or the store was away: what
                # was sent to it then can still arrive, and must not be taken for this term's.
                await self.registry.delete(keys.LEADER, unchanged=leader.modified)
                continue
            self._changed.clear()
            if leader and (known := self.mirror.entries.get(keys.LEADER)) and known.lease == leader.lease:
                await self._changed.wait()
            elif leader:
                await self.mirror.reached(leader.modified)

    async def _present(self) -> int:
        """The lease, once the store has this machine under it: before, it would take itself for lost."""
        while True:
            lease = await self.lease.id()
            entry = self.mirror.entries.get(keys.machine(self.machine_id))
            if entry is not None and entry.lease == lease:
                return lease
            await self.mirror.reached(self.mirror.revision + 1)

    async def _lead(self, term: Created) -> None:
        self._sights.clear()
        self._machines.clear()
        self._unmet = False
        self._changed.set()
        while True:
            await self._changed.wait()
            self._changed.clear()
            self._news.clear()
            leader = self.mirror.entries.get(keys.LEADER)
            if leader is None or leader.created != term.revision:
                # The lease has ended. Without decisions nothing would be written, and nobody lead.
                return
            own: set[int] = set()
            if self.snapshots.now().active and not await self._release(term, own):
                return
            began = time.perf_counter()
            cluster = self._see()
            decisions = reconcile(cluster)
            self.reconciled(time.perf_counter() - began)
            decisions = self._rebalance(cluster, decisions)
            for batch in batches(decisions):
                revision = await self.registry.transact(batch, [term])
                if revision is None:
                    return
                await self.mirror.reached(revision)
                own.add(revision)
            if self._news <= own and not self._moving():
                # Its own decisions leave it nothing to decide.
                self._changed.clear()
            for decision in decisions:
                tell(decision)

    def _rebalance(self, cluster: Cluster, decisions: list[Decision]) -> list[Decision]:
        """Return the decisions, and a move where there is nothing else to do and a Spread= is not met."""
        if self.calm is None or self._held():
            return decisions
        now, entries = asyncio.get_running_loop().time(), self.mirror.entries
        # A machine that was written anew has come back, though nobody may have seen it leave.
        records = {
            id: (machine, entry.modified)
            for id, machine in cluster.machines.items()
            if (entry := entries.get(keys.machine(id))) is not None
        }
        self._machines = observe(records, self._machines, now)
        if any(operations(decision) for decision in decisions):
            self._look_again(now + self.FOLLOWS)
            return decisions
        plan = rebalance(cluster, {id: s.since + self.calm for id, s in self._machines.items()}, now)
        self._unmet = bool(plan.refusals)
        self._look_again(plan.wake)
        return [*plan.decisions] or decisions

    def _look_again(self, at: float | None) -> None:
        """Look for instances to be rebalanced at a time, though nothing changes."""
        if self._rebalance_timer is not None:
            self._rebalance_timer.cancel()
        if at is not None:
            # A timer may fire a little early, and must find the time over.
            loop = asyncio.get_running_loop()
            self._rebalance_timer = loop.call_at(at + 0.01, lambda: self._hear(0))

    async def _release(self, term: Created, own: set[int]) -> bool:
        """Take each release a step further; False if this machine does not lead any more."""
        wakes = []
        for key in [(release.application, release.number) for release in self.snapshots.now().active]:
            cluster, now, wall = self._see(), asyncio.get_running_loop().time(), self.wall()
            # A person may have steered or ended it while the one before was written, or a machine vanished.
            release = cluster.releases.get(key)
            if release is None or release.over or self._held():
                continue
            sights = rollout.observe(release, cluster, self._sights.get(key, {}), now, wall)
            self._sights[key] = sights
            step = rollout.step(rollout.View(release, cluster, sights, now, wall))
            if step.wake is not None:
                wakes.append(step.wake)
            writes, conditions = self._writes(release, step)
            if not writes:
                continue
            # One step leads to the next.
            self._changed.set()
            known = self.mirror.revision
            revision = await self.registry.transact(writes, [term, *conditions])
            if revision is None:
                leader = await self.registry.get(keys.LEADER)
                if leader is None or leader.created != term.revision:
                    return False
                # Somebody was faster: a person, or an answer to them that has not come here yet.
                await self.mirror.reached(known + 1)
                continue
            await self.mirror.reached(revision)
            own.add(revision)
            if step.release.state != release.state:
                tell_release(step.release)
            if step.release.over:
                del self._sights[key]
        if self._timer is not None:
            self._timer.cancel()
        if wakes:
            # A timer may fire a little early, and must find the time over.
            self._timer = asyncio.get_running_loop().call_at(min(wakes) + 0.01, lambda: self._hear(0))
        return True

    def _writes(self, release: Release, step: rollout.Step) -> tuple[list[Operation], list[Condition]]:
        """Return the operations of a step, on condition that nobody has changed the same meanwhile."""
        writes: list[Operation] = []
        after, cluster = step.release, self.snapshots.now()
        if after != release:
            writes.append(Put(keys.release(after.application, after.number), after.to_json()))
        for name, record in step.records.items():
            key = keys.unit(name.text)
            writes.append(Put(key, record.to_json()) if record else Delete(key))
            if record is None and name in cluster.homes:
                writes.append(Delete(keys.home(name.text)))
        guarded = [keys.release(after.application, after.number), *(keys.unit(n.text) for n in step.records)]
        if after.state == "done" and after.whole:
            key = keys.application(after.application)
            units = listed(after, (), cluster.under_way(after.application))
            writes.append(Put(key, to_json(units)))
            guarded.append(key)
        if not writes:
            return [], []
        entries = ((key, self.mirror.entries.get(key)) for key in guarded)
        return writes, [Unchanged(key, entry.modified if entry else 0) for key, entry in entries]

    def _held(self) -> bool:
        """True while a machine may be lost: what vanished with it looks as if it served, and may not, so
        nothing is replaced until it is back or given up. Only keys whose return wakes the engine count."""
        return any(key.startswith(DECIDES_UPON + MOVES_UPON) for key in self.mirror.vanished)

    def _moving(self) -> bool:
        """True if units are on their way or are to be: what is done for one may let the next go."""
        cluster = self.snapshots.now()
        return bool(cluster.moves or cluster.active) or any(
            machine.drained for machine in cluster.machines.values()
        )

    def _see(self) -> Cluster:
        """The cluster now, with the machines that were lost a moment ago; looks again when that is over."""
        cluster = self.snapshots.now()
        used = {machine for machines in cluster.schedule.values() for machine in machines}
        there = {keys.last(entry.key) for entry in self.mirror.below(keys.MACHINES)}
        self._lost_machines.see(used - there)
        return replace(cluster, lapsed=self._lost_machines.lately())

    def _take_notice(self, changed: frozenset[str]) -> None:
        if any(self._matters(key) for key in changed):
            # A listing holds more than what its own revision has changed.
            listed = self.mirror.revision == self.mirror.listed
            self._hear(0 if listed else self.mirror.revision)

    def _hear(self, revision: int) -> None:
        self._news.add(revision)
        self._changed.set()

    def _matters(self, key: str) -> bool:
        """True if there may be something to decide. Of a unit that nobody wants and no machine has there is
        not: thousands can be submitted without a reconcile for each. Who does not lead asks the store whether
        it may at each: for it only the leader's end matters."""
        if not self._leads:
            return key == keys.LEADER
        if key.startswith((keys.STATES, keys.ADDRESSES)) and self._left(read_name(keys.pair(key).first)):
            return True
        if key.startswith(MOVES_UPON):
            return self._unmet or any(self.mirror.below(keys.MOVES)) or bool(self.snapshots.now().active)
        if not key.startswith(keys.UNITS):
            return key.startswith(DECIDES_UPON) or key == keys.LEADER
        name, cluster = read_name(keys.last(key)), self.snapshots.now()
        unit = cluster.units.get(name)
        wanted = unit is not None and unit.desired != "inactive"
        return wanted or name in cluster.schedule or self._left(name)

    def _left(self, name: UnitName) -> bool:
        """True if a unit that was destroyed has left an address."""
        cluster = self.snapshots.now()
        return name in cluster.addresses and name not in cluster.units


def operations(decision: Decision) -> list[Operation]:
    """Return the operations that a decision writes."""
    match decision:
        case Withdraw(unit, machine):
            return [Delete(keys.schedule(machine, unit.text))]
        case Assign(unit, machine, assignment, home):
            put: list[Operation] = [Put(keys.schedule(machine, unit.text), assignment.to_json())]
            return [*put, Put(keys.home(unit.text), machine)] if home else put
        case Begin(unit, move):
            return [Put(keys.move(unit.text), move.to_json())]
        case Arrive(unit):
            return [Delete(keys.move(unit.text))]
        case GiveBack(unit, slot):
            return [Delete(keys.address(unit.text, slot))]
        case Wait() | Stay():
            return []


def tell_release(release: Release) -> None:
    """Log how far a release is."""
    why = f": {release.failure.unit} {release.failure.reason}" if release.failure else ""
    log.info("release %d of %s is %s%s", release.number, release.application, release.state, why)


def tell(decision: Decision) -> None:
    """Log what was done; of what waits, `kirsch why` tells."""
    match decision:
        case Begin(unit, move) if move.target:
            # By reconcile alone a unit begins to move only from a drained machine, to any other.
            log.info("%s is to move to %s, for its Spread= is not met", unit, move.target)
        case Withdraw(unit, machine, reason):
            log.info("%s leaves %s: %s", unit, machine, reason)
        case Assign(unit, machine, assignment):
            log.info("%s: %s on %s", unit, assignment.desired, machine)
        case GiveBack(unit):
            log.info("%s: its address can be another's", unit)


def batches(decisions: Iterable[Decision]) -> Iterable[Sequence[Operation]]:
    """The decisions' writes, those of one decision together, as many a transaction as the store takes."""
    batch: list[Operation] = []
    for decision in decisions:
        writes = operations(decision)
        if len(batch) + len(writes) > MAX_OPERATIONS:
            yield batch
            batch = []
        batch += writes
    if batch:
        yield batch
