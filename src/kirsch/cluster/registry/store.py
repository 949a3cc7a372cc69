"""The store itself, pure: keys, revisions, leases and history. No I/O, no clock: the time is an argument.

Every registry that lives in one process is built on it, so that they cannot differ. A write is made in two
steps: a `Draft` says what would change, `Store.commit` makes it so. What must first be on a disk is written
in between, and a draft that could not be written is dropped, with nothing to undo.
"""

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from kirsch.cluster.registry.base import (
    MAX_OPERATIONS,
    MAX_REQUEST_BYTES,
    Change,
    Compacted,
    Condition,
    Created,
    Delete,
    Entry,
    LeaseLost,
    LimitExceeded,
    Listing,
    Operation,
    Put,
    RegistryError,
)

HISTORY_REVISIONS = 10_000
HISTORY_BYTES = 16_000_000


@dataclass(slots=True)
class Lease:
    """A lease in force: `expires` on the clock that the store is given, and the keys that go with it."""

    ttl: float
    expires: float
    keys: set[str] = field(default_factory=set)


class Store:
    """Keys, leases and the last changes; starts with `entries` at `revision` (etcd's first is 1)."""

    def __init__(
        self,
        entries: Iterable[Entry] = (),
        revision: int = 1,
        *,
        history_revisions: int = HISTORY_REVISIONS,
        history_bytes: int = HISTORY_BYTES,
    ) -> None:
        self.revision = revision
        self._entries = {entry.key: entry for entry in entries}
        self._keys = sorted(self._entries)
        self._leases: dict[int, Lease] = {}
        self._last_lease = 0
        self._history = History(revision, history_revisions, history_bytes)
        self._listeners: list[Callable[[], None]] = []

    def listen(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call `listener` after each commit and grant; returns what ends that."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def get(self, key: str) -> Entry | None:
        return self._entries.get(key)

    def list(self, prefix: str) -> Listing:
        entries = []
        for index in range(bisect_left(self._keys, prefix), len(self._keys)):
            if not self._keys[index].startswith(prefix):
                break
            entries.append(self._entries[self._keys[index]])
        return Listing(tuple(entries), self.revision)

    def changes(self, prefix: str, from_revision: int) -> Iterator[tuple[Change, ...]]:
        """Return changes below `prefix` from a revision on, one tuple a revision. Raises Compacted."""
        for changes in self._history.since(from_revision):
            if found := tuple(change for change in changes if change.key.startswith(prefix)):
                yield found

    def draft(self, now: float) -> "Draft":
        """A draft to write in. It begins with the end of every lease that has run out by `now`."""
        draft = Draft(self)
        for lease in sorted(self._leases, key=lambda lease: self._leases[lease].expires):
            if self._leases[lease].expires <= now:
                draft.revoke(lease)
        return draft

    def commit(self, draft: "Draft") -> None:
        """Make a draft true. Raises ValueError for one that was made on another revision than this one's."""
        if draft.base != self.revision:
            raise ValueError(f"the draft was made at revision {draft.base}, the store is at {self.revision}")
        for changes in draft.changes:
            for change in changes:
                self._apply(change)
            self._history.append(changes)
        self.revision = draft.revision
        for lease in draft.ended:
            self._leases.pop(lease, None)
        if draft.changes:
            self._notify()

    def grant(self, ttl: float, now: float) -> int:
        if not ttl > 0:
            raise RegistryError(f"a lease must last longer than {ttl:g} s")
        self._last_lease += 1
        self._leases[self._last_lease] = Lease(ttl, now + ttl)
        self._notify()
        return self._last_lease

    def keep_alive(self, lease: int, now: float) -> float:
        held = self._leases.get(lease)
        if held is None or held.expires <= now:
            raise LeaseLost(f"lease {lease} has run out or was revoked")
        held.expires = now + held.ttl
        return held.ttl

    def renew_all(self, now: float) -> None:
        """Give every lease its whole time, as etcd's next leader does for those it takes over."""
        for lease in self._leases.values():
            lease.expires = now + lease.ttl

    def lease(self, lease: int) -> Lease | None:
        return self._leases.get(lease)

    @property
    def next_expiry(self) -> float:
        """Return the time at which the next lease runs out, or infinity."""
        return min((lease.expires for lease in self._leases.values()), default=float("inf"))

    def _apply(self, change: Change) -> None:
        before = self._entries.pop(change.key, None)
        if before is not None and before.lease:
            self._leases[before.lease].keys.discard(change.key)
        if change.entry is not None:
            self._entries[change.key] = change.entry
            if before is None:
                insort(self._keys, change.key)
            if change.entry.lease:
                self._leases[change.entry.lease].keys.add(change.key)
        elif before is not None:
            del self._keys[bisect_left(self._keys, change.key)]

    def _notify(self) -> None:
        for listener in tuple(self._listeners):
            listener()


class Draft:
    """Writes decided and not yet made: in `changes` one tuple a revision, in `written` each key's last.

    A call that raises leaves the draft as it was. Later calls see what earlier ones wrote.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.written: dict[str, Entry | None] = {}
        self.base = self.revision = store.revision
        self.changes: list[tuple[Change, ...]] = []
        self.ended: set[int] = set()

    def get(self, key: str) -> Entry | None:
        return self.written[key] if key in self.written else self._store.get(key)

    def transact(self, operations: Sequence[Operation], conditions: Sequence[Condition]) -> int | None:
        """All operations at one revision, or None, as Registry.transact says. Raises what that raises."""
        check_limits(operations, conditions)
        if not all(self._holds(condition) for condition in conditions):
            return None
        for operation in operations:
            if isinstance(operation, Put) and operation.lease and not self._in_force(operation.lease):
                raise LeaseLost(f"lease {operation.lease} has run out or was revoked")
        self._write(operations)
        return self.revision

    def revoke(self, lease: int) -> None:
        """End a lease: its keys go, sorted, at one revision."""
        held = self._store.lease(lease)
        if held is None:
            return
        keys = [key for key in held.keys | self.written.keys() if (e := self.get(key)) and e.lease == lease]
        self._write([Delete(key) for key in sorted(keys)])
        self.ended.add(lease)

    def _holds(self, condition: Condition) -> bool:
        entry = self.get(condition.key)
        if isinstance(condition, Created):
            return (entry.created if entry else 0) == condition.revision
        return (entry.modified if entry else 0) == condition.revision

    def _in_force(self, lease: int) -> bool:
        return lease not in self.ended and self._store.lease(lease) is not None

    def _write(self, operations: Sequence[Operation]) -> None:
        revision = self.revision + 1
        changes = []
        for operation in operations:
            before = self.get(operation.key)
            entry = None
            if isinstance(operation, Put):
                created = before.created if before else revision
                entry = Entry(operation.key, operation.value, created, revision, operation.lease)
            elif before is None:
                continue
            self.written[operation.key] = entry
            changes.append(Change(operation.key, entry, revision))
        if changes:
            self.revision = revision
            self.changes.append(tuple(changes))


class History:
    """The changes of the last revisions without a gap, bounded in number and in bytes."""

    def __init__(self, revision: int, max_revisions: int, max_bytes: int) -> None:
        self._forgotten = revision
        self._max_revisions = max_revisions
        self._max_bytes = max_bytes
        self._bytes = 0
        self._revisions: deque[tuple[Change, ...]] = deque()

    def append(self, changes: tuple[Change, ...]) -> None:
        self._revisions.append(changes)
        self._bytes += size(changes)
        # The newest stays whatever its size: a watcher that keeps up must never be told Compacted.
        while len(self._revisions) > self._max_revisions or (
            self._bytes > self._max_bytes and len(self._revisions) > 1
        ):
            self._bytes -= size(self._revisions.popleft())
            self._forgotten += 1

    def since(self, revision: int) -> Iterator[tuple[Change, ...]]:
        if revision <= self._forgotten:
            raise Compacted(f"revision {revision} is forgotten, the oldest known is {self._forgotten + 1}")
        for index in range(revision - self._forgotten - 1, len(self._revisions)):
            yield self._revisions[index]


def size(changes: tuple[Change, ...]) -> int:
    """About the memory that changes hold, in bytes."""
    return sum(len(change.key) + (len(change.entry.value) if change.entry else 0) for change in changes)


def check_limits(operations: Sequence[Operation], conditions: Sequence[Condition]) -> None:
    """Raises LimitExceeded for what etcd would refuse, RegistryError for a key or value that is no text."""
    if len(operations) > MAX_OPERATIONS or len(conditions) > MAX_OPERATIONS:
        count = max(len(operations), len(conditions))
        raise LimitExceeded(
            f"{count} operations or conditions in one transaction, the limit is {MAX_OPERATIONS}"
        )
    keys = [operation.key for operation in operations]
    if twice := {key for key in keys if keys.count(key) > 1}:
        raise LimitExceeded(f"{min(twice)} is written twice in one transaction")
    texts = keys + [condition.key for condition in conditions]
    if not all(texts):
        raise RegistryError("a key must not be empty")
    texts += [operation.value for operation in operations if isinstance(operation, Put)]
    try:
        total = sum(len(text.encode()) for text in texts)
    except UnicodeEncodeError as error:
        raise RegistryError(f"a key or value is not valid text: {error}") from None
    if total > MAX_REQUEST_BYTES:
        raise LimitExceeded(f"{total} bytes in one transaction, the limit is {MAX_REQUEST_BYTES}")
