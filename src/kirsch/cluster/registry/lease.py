"""One lease a machine: all that must go when the machine goes hangs on it."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from kirsch.cluster.registry.base import (
    MAX_OPERATIONS,
    Condition,
    Delete,
    LeaseLost,
    Operation,
    Put,
    Registry,
    Unavailable,
)
from kirsch.cluster.registry.mirror import Mirror

log = logging.getLogger(__name__)


def boot_clock() -> float:
    """Seconds since the machine was booted, those it slept included (clock_gettime(2), CLOCK_BOOTTIME)."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Heard:
    """Time at which the store was heard last, on the clock of this boot: for the kirschd that comes after
    this one.

    A small file on what a boot makes empty, as /run is; without a path nothing is kept. A file that cannot be
    read or written is none.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path

    def read(self) -> float | None:
        """Seconds; None if nothing is known."""
        try:
            return float(self.path.read_text()) if self.path else None
        except (OSError, ValueError):
            return None

    def write(self, at: float) -> None:
        """From now on that."""
        if self.path:
            try:
                self.path.write_text(f"{at:.3f}")
            except OSError as error:
                log.warning("%s cannot be written: %s", self.path, error.strerror)


class MachineLease:
    """Grants a lease and renews it until cancelled; a lost one is granted anew under another id.

    How long it holds is counted here from the sending of what the store acknowledged last, so that this
    machine never takes it for longer than the store does; by an earlier kirschd too, whose lease it was that
    units depend upon. `clock` counts seconds.
    """

    TTL = 10.0
    RENEW = 3.0
    # Seconds that a renewal may take until the store counts as away.
    PATIENCE = 2.0

    def __init__(
        self, registry: Registry, clock: Callable[[], float] = boot_clock, heard: Heard | None = None
    ) -> None:
        self.registry = registry
        self.clock = clock
        self.current = 0
        self._heard = heard or Heard()
        self._sent = self._heard.read()
        # Since when this lease is acknowledged, and whether the machine hangs on it yet.
        self._acknowledged = float("-inf")
        self._acknowledged_at: float | None = None
        # When the store answered again after it had been away.
        self._back = float("-inf")
        self._holding = False
        # Seconds from its last renewal until the store said that the lease before this one is gone.
        self.lost_after = 0.0
        self._granted = asyncio.Condition()
        self._doubted = asyncio.Event()
        self._listeners: list[Callable[[], None]] = []

    def listen(self, listener: Callable[[], None]) -> None:
        """Call `listener` when there is a new lease (what hung on the old one is gone), at each renewal, and
        when one could not be made."""
        self._listeners.append(listener)

    async def id(self) -> int:
        """The lease as it is, as soon as there is one."""
        async with self._granted:
            await self._granted.wait_for(lambda: self.current)
            return self.current

    def doubt(self) -> None:
        """The store says that the lease is gone: ask now, not at the next renewal."""
        self._doubted.set()

    async def other_than(self, lease: int) -> None:
        """Return as soon as there is another lease than this one."""
        async with self._granted:
            await self._granted.wait_for(lambda: self.current not in (0, lease))

    @property
    def silence(self) -> float:
        """Seconds since the store was heard last; where it never was in this boot, 0 before the first try and
        infinity if that failed."""
        return 0.0 if self._sent is None else self.clock() - self._sent

    @property
    def as_of(self) -> float | None:
        """Time (seconds since the epoch) of the last renewal that the store acknowledged; None while it
        answers."""
        return self._acknowledged_at if self._is_away(self.clock()) else None

    @property
    def store_was_away(self) -> bool:
        """True while the store is away, and for half a lease's time after it is back: leases that end then
        say nothing of their machines, which could not renew them. A new leader of etcd's has them live anew,
        and those that end later have had their time."""
        now = self.clock()
        return self._is_away(now) or now - self._back < self.TTL / 2

    def _is_away(self, now: float) -> bool:
        return self._acknowledged_at is not None and now - self._acknowledged >= self.RENEW + self.PATIENCE

    @property
    def holds(self) -> bool:
        """True if the store cannot have ended the lease yet."""
        return bool(self.current) and self.clock() - self._acknowledged < self.TTL

    async def run(self) -> None:
        """Hold the lease until cancelled."""
        while True:
            self._doubted.clear()
            sent = self.clock()
            try:
                if self.current:
                    await self.registry.keep_alive(self.current)
                else:
                    await self._grant()
                if self._is_away(sent):
                    self._back = sent
                self._acknowledged, self._acknowledged_at = sent, time.time()
                self._hear()
                pause = self.RENEW
            except LeaseLost:
                self.lost_after = self.clock() - self._acknowledged
                self.current, self._holding = 0, False
                continue
            except Unavailable as error:
                log.warning("the registry is away, the lease cannot be renewed: %s", error)
                self._sent = float("-inf") if self._sent is None else self._sent
                pause = self.RENEW / 3
            for listener in self._listeners:
                listener()
            try:
                async with asyncio.timeout(pause):
                    await self._doubted.wait()
            except TimeoutError:
                pass

    def holding(self) -> None:
        """Attach the machine's keys to the lease from now on. Until then an earlier one is what counts:
        when that ends the machine is lost, however well the store is heard."""
        self._holding = True
        self._hear()

    def _hear(self) -> None:
        if self._holding and self._acknowledged != self._sent:
            self._sent = self._acknowledged
            self._heard.write(self._sent)

    async def _grant(self) -> None:
        self._holding = False
        granted = await self.registry.grant(self.TTL)
        async with self._granted:
            self.current = granted
            self._granted.notify_all()

    async def revoke(self) -> None:
        """Say goodbye: everything that hangs on the lease goes now."""
        if self.current:
            lease, self.current = self.current, 0
            await self.registry.revoke(lease)


class LeasedKeys:
    """Keys that one machine alone writes, under its lease: told what should be, it writes the difference.

    What the store holds is what was written last, until `mirror` shows otherwise: a write that nobody waits
    for any more can arrive after those that came later.
    """

    RETRY = 1.0
    # Seconds after which a write that nobody waits for any more has arrived, or will not.
    LATE = 60.0

    def __init__(self, registry: Registry, mirror: Mirror, lease: MachineLease) -> None:
        self.registry = registry
        self.mirror = mirror
        self.lease = lease
        self._wanted: Mapping[str, str] = {}
        self._written: dict[str, str] = {}
        # All keys written under this lease, but for those that were deleted long ago; since when those that
        # were deleted are; the last revision of all, and those that look otherwise since.
        self._own: set[str] = set()
        self._deleted: dict[str, float] = {}
        self._revision = 0
        self._seen: set[str] = set()
        self._lease_id = 0
        self._claims: list[_Claim] = []
        self._changed = asyncio.Event()
        self._settled = asyncio.Event()
        lease.listen(self._look)
        mirror.listen(self._take_notice)

    def want(self, wanted: Mapping[str, str]) -> None:
        """From now on these keys, with these values, and no others; written in this order."""
        if wanted != self._wanted:
            self._wanted = wanted
            self._settled.clear()
        self._changed.set()

    async def settled(self) -> None:
        """Return once the registry holds what was wanted last."""
        await self._settled.wait()

    async def claim(self, key: str, value: str, condition: Condition) -> bool:
        """Write one key at once, ahead of the others; whether the condition held. It is there until `want`
        leaves it out. Raises Unavailable, LeaseLost."""
        claim = _Claim(Put(key, value), condition)
        self._claims.append(claim)
        self._changed.set()
        return await claim.granted

    async def run(self) -> None:
        """Write keys that differ, until cancelled."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                await self._write()
            except LeaseLost:
                self.lease.doubt()
                self._changed.set()
                await self._renewed()
            except Unavailable as error:
                log.warning("states cannot be written, the registry is away: %s", error)
                self._changed.set()
                await asyncio.sleep(self.RETRY)

    async def _renewed(self) -> None:
        """Wait for a new lease: others take this machine for lost if its keys are not back at once."""
        try:
            async with asyncio.timeout(self.RETRY):
                await self.lease.other_than(self._lease_id)
        except TimeoutError:
            pass

    def _look(self) -> None:
        if self.lease.current != self._lease_id:
            self._changed.set()

    def _take_notice(self, changed: frozenset[str]) -> None:
        # A listing shows no change of a key that was written and lost again before it.
        listed = self.mirror.revision == self.mirror.listed
        for key in self._own if listed else changed & self._own:
            entry = self.mirror.entries.get(key)
            known = self._written.get(key)
            if (entry.value if entry and entry.lease == self._lease_id else None) != known:
                self._seen.add(key)
        if self._seen and self.mirror.revision >= self._revision:
            self._changed.set()

    def _correct(self) -> None:
        """Believe the mirror, once it has seen all that was written here."""
        if self.mirror.revision < self._revision:
            return
        for key in self._seen:
            entry = self.mirror.entries.get(key)
            if entry is None:
                self._written.pop(key, None)
            elif entry.lease == self._lease_id:
                self._written[key] = entry.value
            elif key in self._written:
                self._written[key] = _UNSURE
        self._seen.clear()

    async def _write(self) -> None:
        lease = await self.lease.id()
        before = self._lease_id if lease != self._lease_id else 0
        if lease != self._lease_id:
            self._lease_id, self._written, self._own, self._deleted = lease, {}, set(), {}
        self._correct()
        await self._grant(lease)
        wanted = self._wanted
        operations: list[Operation] = [
            Put(key, value, lease) for key, value in wanted.items() if self._written.get(key) != value
        ]
        operations += [Delete(key) for key in self._written if key not in wanted]
        self._begin([operation.key for operation in operations])
        for start in range(0, len(operations), MAX_OPERATIONS):
            revision = await self.registry.transact(operations[start : start + MAX_OPERATIONS])
            self._revision = max(self._revision, revision or 0)
        self._written = dict(wanted)
        self._forget([operation.key for operation in operations if isinstance(operation, Delete)])
        if wanted and lease == self.lease.current:
            self.lease.holding()
        if before:
            log.warning(
                "the store ended lease %x of this machine %.1f s after its last renewal: "
                "%d keys were written again under lease %x",
                before,
                self.lease.lost_after,
                len(wanted),
                lease,
            )
        if wanted is self._wanted:
            self._settled.set()

    def _forget(self, deleted: list[str]) -> None:
        """Stop watching keys that were deleted long ago: units come and go."""
        now = self.lease.clock()
        self._deleted |= dict.fromkeys(deleted, now)
        while self._deleted:
            key, since = next(iter(self._deleted.items()))
            if now - since < self.LATE or key in self.mirror.entries:
                return
            del self._deleted[key]
            self._own.discard(key)

    def _begin(self, written: list[str]) -> None:
        """Forget whether a write without an answer was made: it may have been, or not."""
        self._own.update(written)
        for key in written:
            self._deleted.pop(key, None)
        self._written |= dict.fromkeys(written, _UNSURE)

    async def _grant(self, lease: int) -> None:
        """Write all claims, together where all conditions hold, else one by one."""
        # One that nobody waits for any more is none: its unit may have another by now.
        claims, self._claims = [claim for claim in self._claims if not claim.granted.done()], []
        try:
            for start in range(0, len(claims), MAX_OPERATIONS):
                some = claims[start : start + MAX_OPERATIONS]
                if await self._try(some, lease):
                    continue
                for claim in some:
                    if not await self._try([claim], lease):
                        claim.answer(False)
        except (LeaseLost, Unavailable) as error:
            for claim in claims:
                if not claim.granted.done():
                    claim.granted.set_exception(error)
            raise

    async def _try(self, claims: "Sequence[_Claim]", lease: int) -> bool:
        self._begin([claim.put.key for claim in claims])
        puts = [Put(claim.put.key, claim.put.value, lease) for claim in claims]
        revision = await self.registry.transact(puts, [claim.condition for claim in claims])
        if revision is None:
            return False
        self._revision = max(self._revision, revision)
        # What is wanted now was put together before the claims were made.
        self._wanted = {**self._wanted, **{claim.put.key: claim.put.value for claim in claims}}
        for claim in claims:
            self._written[claim.put.key] = claim.put.value
            claim.answer(True)
        return True


_UNSURE = ""


class _Claim:
    """A key that is to be written if a condition holds."""

    def __init__(self, put: Put, condition: Condition) -> None:
        self.put = put
        self.condition = condition
        self.granted: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def answer(self, granted: bool) -> None:
        """Tell whoever still waits."""
        if not self.granted.done():
            self.granted.set_result(granted)
