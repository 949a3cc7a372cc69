"""Base of registries that hold their store in this process: reads, leases, timers and watches."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TypeVar

from kirsch.cluster.registry.base import (
    Change,
    Condition,
    Delete,
    Entry,
    Listing,
    Operation,
    Put,
    Unavailable,
    Unchanged,
)
from kirsch.cluster.registry.store import Draft, Store

T = TypeVar("T")
Clock = Callable[[], float]

RETRY_SECONDS = 0.5


class LocalRegistry(ABC):
    """A registry on a `Store`; how a write is kept (and so when it is true) is left to `_submit`.

    For one event loop. clock: seconds; the event loop's own time when left out.
    """

    def __init__(self, store: Store, clock: Clock | None = None) -> None:
        self._store = store
        self._clock = clock
        self._closed = False
        self._changed = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = float("inf")
        self._expiry: asyncio.Task[None] | None = None
        self._unlisten = store.listen(self._on_store_changed)

    @abstractmethod
    async def _submit(self, step: Callable[[Draft], T]) -> T:
        """Run `step` on a draft, keep what it wrote, commit; returns or raises what the step did.

        Raises Unavailable, with nothing changed, when it cannot be kept.
        """

    async def get(self, key: str) -> Entry | None:
        await self._settle()
        return self._store.get(key)

    async def list(self, prefix: str) -> Listing:
        await self._settle()
        return self._store.list(prefix)

    async def put(self, key: str, value: str, *, lease: int = 0, unchanged: int | None = None) -> int | None:
        return await self.transact([Put(key, value, lease)], only_if(key, unchanged))

    async def delete(self, key: str, *, unchanged: int | None = None) -> bool:
        def step(draft: Draft) -> bool:
            there = draft.get(key) is not None
            return draft.transact([Delete(key)], only_if(key, unchanged)) is not None and there

        return await self._write(step)

    async def transact(
        self, operations: Sequence[Operation], conditions: Sequence[Condition] = ()
    ) -> int | None:
        return await self._write(lambda draft: draft.transact(operations, conditions))

    async def grant(self, ttl: float) -> int:
        self._check_open()
        return self._store.grant(ttl, self._now())

    async def keep_alive(self, lease: int) -> float:
        self._check_open()
        return self._store.keep_alive(lease, self._now())

    async def revoke(self, lease: int) -> None:
        await self._write(lambda draft: draft.revoke(lease))

    def watch(self, prefix: str, from_revision: int) -> AsyncIterator[tuple[Change, ...]]:
        return self._watch(prefix, from_revision or self._store.revision + 1)

    async def health(self) -> None:
        """Return None: the store is this process's own."""
        return None  # noqa: RET501 - there is nothing else to say

    async def close(self) -> None:
        """End all watches; whatever is called afterwards raises Unavailable."""
        if self._closed:
            return
        self._closed = True
        self._unlisten()
        if self._timer is not None:
            self._timer.cancel()
        self._changed.set()

    async def _watch(self, prefix: str, revision: int) -> AsyncIterator[tuple[Change, ...]]:
        while not self._closed:
            changed, upto = self._changed, self._store.revision
            # The list is taken at once: the history moves on while a watcher is busy with a change.
            for changes in list(self._store.changes(prefix, revision)):
                yield changes
            revision = max(revision, upto + 1)
            await changed.wait()

    async def _write(self, step: Callable[[Draft], T]) -> T:
        self._check_open()
        return await self._submit(step)

    async def _settle(self) -> None:
        """End leases that have run out, for a read to see them gone even if the timer is late."""
        self._check_open()
        if self._store.next_expiry <= self._now():
            await self._submit(lambda draft: None)

    def _check_open(self) -> None:
        if self._closed:
            raise Unavailable("the registry is closed")

    def _now(self) -> float:
        return self._clock() if self._clock else asyncio.get_running_loop().time()

    def _on_store_changed(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
        self._arm()

    def _arm(self, at_least: float = 0.0) -> None:
        due = self._store.next_expiry
        # A renewed lease leaves the timer as it is: it fires, finds nothing to do and is set anew.
        if self._closed or due == float("inf") or due >= self._timer_due:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_due = due
        delay = max(due - self._now(), at_least)
        self._timer = asyncio.get_running_loop().call_later(delay, self._on_timer)

    def _on_timer(self) -> None:
        self._timer, self._timer_due = None, float("inf")
        self._expiry = asyncio.get_running_loop().create_task(self._expire())

    async def _expire(self) -> None:
        delay = 0.0
        try:
            await self._settle()
        except Unavailable:
            delay = RETRY_SECONDS
        self._arm(delay)


def only_if(key: str, unchanged: int | None) -> tuple[Unchanged, ...]:
    return () if unchanged is None else (Unchanged(key, unchanged),)
