"""A part of the registry held in memory, kept true by a watch."""

import asyncio
from collections.abc import Callable, Iterator

from kirsch.cluster.registry.base import Compacted, Entry, Registry, Unavailable

Listener = Callable[[frozenset[str]], None]


class Mirror:
    """What the registry holds below a prefix, as of `revision`. For one event loop.

    `run()` keeps it true until it is cancelled; when the store goes away the last picture stays, and when
    the store has forgotten what was missed everything is listed anew.
    """

    RETRY = 0.5

    def __init__(self, registry: Registry, prefix: str) -> None:
        self.registry = registry
        self.prefix = prefix
        self.entries: dict[str, Entry] = {}
        self.revision = 0
        self._changed = asyncio.Condition()
        self._listeners: list[Listener] = []

    def listen(self, listener: Listener) -> None:
        """Call `listener` with the keys of each change, after it was taken in."""
        self._listeners.append(listener)

    def ignore(self, listener: Listener) -> None:
        """Do not call `listener` any more."""
        self._listeners.remove(listener)

    def below(self, prefix: str) -> Iterator[Entry]:
        """The entries below a longer prefix, sorted by key."""
        return (self.entries[key] for key in sorted(self.entries) if key.startswith(prefix))

    def value(self, key: str) -> str | None:
        """The value at a key."""
        entry = self.entries.get(key)
        return entry.value if entry else None

    async def load(self) -> None:
        """List everything. Raises Unavailable."""
        listing = await self.registry.list(self.prefix)
        fresh = {entry.key: entry for entry in listing.entries}
        keys = {key for key in self.entries.keys() | fresh.keys() if self.entries.get(key) != fresh.get(key)}
        self.entries = fresh
        await self._advance(listing.revision, frozenset(keys))

    async def run(self) -> None:
        """Follow the registry until cancelled, or until it closes."""
        while True:
            try:
                if not self.revision:
                    await self.load()
                async for changes in self.registry.watch(self.prefix, self.revision + 1):
                    for change in changes:
                        if change.entry is None:
                            self.entries.pop(change.key, None)
                        else:
                            self.entries[change.key] = change.entry
                    await self._advance(changes[-1].revision, frozenset(c.key for c in changes))
                return
            except Compacted:
                self.revision = 0
            except Unavailable:
                await asyncio.sleep(self.RETRY)

    async def reached(self, revision: int) -> None:
        """Return once everything up to `revision` has been taken in."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.revision >= revision)

    async def _advance(self, revision: int, keys: frozenset[str]) -> None:
        self.revision = revision
        for listener in tuple(self._listeners):
            listener(keys)
        async with self._changed:
            self._changed.notify_all()
