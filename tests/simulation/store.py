"""The store of a simulated cluster: one, with leases on the virtual clock, that can be away."""

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeVar

from kirsch.cluster.registry.base import Change, Condition, Entry, Listing, Operation
from kirsch.cluster.registry.store import Draft, Store

T = TypeVar("T")
Watcher = Callable[[Sequence[tuple[Change, ...]]], None]


class SimulatedStore:
    """A `Store` that is served at once to whoever reaches it; `watchers` see each commit as it happens.

    While it is `away` no lease ends; when it is back each has its whole time before it, as after an election
    of etcd's.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, remembers: int) -> None:
        self.loop = loop
        self.away = False
        self.watchers: list[Watcher] = []
        # Each client's own, called when the store goes away or comes back.
        self.listeners: dict[object, Callable[[], None]] = {}
        self._data = Store(history_revisions=remembers)
        self._timer: asyncio.TimerHandle | None = None
        self._due = float("inf")

    @property
    def revision(self) -> int:
        """That of the last commit."""
        return self._data.revision

    def get(self, key: str) -> Entry | None:
        """As Registry.get."""
        return self._data.get(key)

    def list(self, prefix: str) -> Listing:
        """As Registry.list."""
        return self._data.list(prefix)

    def transact(self, operations: Sequence[Operation], conditions: Sequence[Condition]) -> int | None:
        """As Registry.transact."""
        return self.write(lambda draft: draft.transact(operations, conditions))

    def write(self, step: Callable[[Draft], T]) -> T:
        """Run a step on a draft and commit it. Raises what the step does."""
        draft = self._data.draft(self.loop.time())
        try:
            return step(draft)
        finally:
            self._data.commit(draft)
            if draft.changes:
                for watcher in self.watchers:
                    watcher(draft.changes)

    def grant(self, ttl: float) -> int:
        """As Registry.grant."""
        lease = self._data.grant(ttl, self.loop.time())
        self._arm()
        return lease

    def keep_alive(self, lease: int) -> float:
        """As Registry.keep_alive."""
        return self._data.keep_alive(lease, self.loop.time())

    def revoke(self, key: str) -> None:
        """End the lease that a key hangs on, as a leader does whose clock is wrong."""
        entry = self._data.get(key)
        if entry is not None and entry.lease and not self.away:
            self.write(lambda draft: draft.revoke(entry.lease))

    def changes(self, prefix: str, revision: int) -> "Sequence[tuple[Change, ...]]":
        """What happened below a prefix from a revision on. Raises Compacted."""
        if revision > self._data.revision:
            return ()
        return list(self._data.changes(prefix, revision))

    def go(self) -> None:
        """Be away from now on."""
        self.away = True
        self._tell()

    def come_back(self, *, renewed: bool = True) -> None:
        """Be there again, with all that there was; leases are renewed, as by a new leader of etcd's, or as
        old as they are."""
        self.away = False
        if renewed:
            self._data.renew_all(self.loop.time())
        self._arm()
        self._tell()

    def _tell(self) -> None:
        for listener in list(self.listeners.values()):
            listener()

    def _arm(self) -> None:
        due = self._data.next_expiry
        # A renewed lease leaves the timer as it is: it fires, finds nothing to do and is set anew.
        if self.away or due == float("inf") or due >= self._due:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._due = due
        self._timer = self.loop.call_at(due, self._expire)

    def _expire(self) -> None:
        self._timer, self._due = None, float("inf")
        if not self.away:
            self.write(lambda draft: None)
            self._arm()
