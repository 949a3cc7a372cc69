"""A machine's registry: the store behind a link on which requests and answers take time, and get lost."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, TypeVar

from tests.simulation.network import Link
from tests.simulation.store import SimulatedStore

from kirsch.cluster.registry.base import (
    Change,
    Condition,
    Delete,
    Entry,
    Listing,
    Operation,
    Put,
    RegistryError,
    Unavailable,
)
from kirsch.cluster.registry.local import only_if

T = TypeVar("T")

CALL_SECONDS = 5.0
# A watch whose store is silent for so long has broken, as gRPC's keep-alive finds out.
BREAKS_AFTER = 4.0


class SimulatedRegistry:
    """A Registry. A call is answered or raises Unavailable within 5 s, a renewal within half of what is left
    of its lease; what raised it may have been done, or yet be."""

    def __init__(self, store: SimulatedStore, link: Link) -> None:
        self.store = store
        self.link = link
        self.closed = False
        # When the last renewal or grant that was acknowledged was sent; of this client alone.
        self.heard: float | None = None
        self._loop = store.loop
        self._ends: dict[int, float] = {}
        self._pending: dict[asyncio.Future[Any], None] = {}
        self._news = asyncio.Event()
        store.watchers.append(self._committed)
        store.listeners[self] = self._reached_or_not
        link.listener = self._reached_or_not

    async def get(self, key: str) -> Entry | None:
        return await self._call(lambda: self.store.get(key))

    async def list(self, prefix: str) -> Listing:
        return await self._call(lambda: self.store.list(prefix))

    async def put(self, key: str, value: str, *, lease: int = 0, unchanged: int | None = None) -> int | None:
        return await self.transact([Put(key, value, lease)], only_if(key, unchanged))

    async def delete(self, key: str, *, unchanged: int | None = None) -> bool:
        def step() -> bool:
            there = self.store.get(key) is not None
            return self.store.transact([Delete(key)], only_if(key, unchanged)) is not None and there

        return await self._call(step, writes=True)

    async def transact(
        self, operations: Sequence[Operation], conditions: Sequence[Condition] = ()
    ) -> int | None:
        # What is on its way is not changed by what the caller does with its lists.
        puts, only = tuple(operations), tuple(conditions)
        return await self._call(lambda: self.store.transact(puts, only), writes=True)

    async def grant(self, ttl: float) -> int:
        sent = self._loop.time()
        lease = await self._call(lambda: self.store.grant(ttl))
        self._ends[lease], self.heard = sent + ttl, sent
        return lease

    async def keep_alive(self, lease: int) -> float:
        sent = self._loop.time()
        left = self._ends.get(lease, 0.0) - sent
        seconds = CALL_SECONDS if left <= 0 else min(CALL_SECONDS, max(left / 2, 0.2))
        ttl = await self._call(lambda: self.store.keep_alive(lease), seconds)
        self._ends[lease], self.heard = sent + ttl, sent
        return ttl

    async def revoke(self, lease: int) -> None:
        await self._call(lambda: self.store.write(lambda draft: draft.revoke(lease)), writes=True)

    async def watch(self, prefix: str, from_revision: int) -> AsyncIterator[tuple[Change, ...]]:
        now = await self._call(lambda: self.store.revision)
        revision = from_revision or now + 1
        while not self.closed:
            await self._connected()
            changes = self.store.changes(prefix, revision)
            if not changes:
                revision = max(revision, self.store.revision + 1)
                await self._news.wait()
                continue
            await asyncio.sleep(self.link.delay())
            if not self._reachable:
                continue
            for change in changes:
                yield change
            revision = changes[-1][0].revision + 1

    async def close(self) -> None:
        self.die()

    def die(self) -> None:
        """Nothing is sent or received any more, from now on."""
        if self.closed:
            return
        self.closed = True
        self.store.watchers.remove(self._committed)
        del self.store.listeners[self]
        self.link.listener = lambda: None
        self._wake()

    @property
    def _reachable(self) -> bool:
        return self.link.up and not self.store.away and not self.closed

    async def _call(self, step: Callable[[], T], seconds: float = CALL_SECONDS, writes: bool = False) -> T:
        if self.closed:
            raise Unavailable("the registry is closed")
        link, loop = self.link, self._loop
        if link.up and self.store.away:
            await asyncio.sleep(link.delay())
            raise Unavailable("connection refused")
        answer: asyncio.Future[T] = loop.create_future()

        def arrive() -> None:
            if not link.up or self.store.away:
                return
            result: T | RegistryError
            try:
                result = step()
            except RegistryError as error:
                result = error
            if not link.loses():
                loop.call_later(link.delay(), deliver, result)

        def deliver(result: T | RegistryError) -> None:
            if answer.done() or not link.up:
                return
            if isinstance(result, RegistryError):
                answer.set_exception(result)
            else:
                answer.set_result(result)

        def give_up() -> None:
            if not answer.done():
                answer.set_exception(Unavailable("does not answer"))

        if writes and link.delays():
            loop.call_later(seconds * (0.9 + link.random.random()), arrive)
        elif not link.loses():
            loop.call_later(link.delay(), arrive)
        timer = loop.call_later(seconds, give_up)
        self._pending[answer] = None
        try:
            return await answer
        finally:
            timer.cancel()
            del self._pending[answer]

    async def _connected(self) -> None:
        """Return when the store can be heard. Raises Unavailable when it cannot be for too long."""
        until = self._loop.time() + BREAKS_AFTER
        while not self._reachable and not self.closed:
            if self.store.away and self.link.up:
                raise Unavailable("the watch broke")
            timer = self._loop.call_at(until, self._wake)
            await self._news.wait()
            timer.cancel()
            if self._loop.time() >= until and not self._reachable:
                raise Unavailable("the watch broke")

    def _committed(self, changes: Sequence[tuple[Change, ...]]) -> None:
        if self.link.up:
            self._wake()

    def _reached_or_not(self) -> None:
        if self.store.away and self.link.up:
            self._fail("connection reset")
        self._wake()

    def _fail(self, reason: str) -> None:
        for answer in self._pending:
            if not answer.done():
                answer.set_exception(Unavailable(reason))

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()
