"""The registry in memory: for tests, for simulation, for a cluster that need not outlive its process."""

from collections.abc import Callable
from typing import TypeVar

from kirsch.cluster.registry.local import Clock, LocalRegistry
from kirsch.cluster.registry.store import Draft, Store

T = TypeVar("T")


class MemoryRegistry(LocalRegistry):
    """Nothing is kept: a write is true at once. Registries that share one `store` are clients of one cluster.

    clock: seconds; the event loop's own time when left out.
    """

    def __init__(self, store: Store | None = None, clock: Clock | None = None) -> None:
        super().__init__(Store() if store is None else store, clock)

    async def _submit(self, step: Callable[[Draft], T]) -> T:
        draft = self._store.draft(self._now())
        try:
            return step(draft)
        finally:
            # What a refused step leaves in the draft is the leases that ran out before it.
            self._store.commit(draft)
