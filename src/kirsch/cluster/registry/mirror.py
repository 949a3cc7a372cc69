"""A part of the registry held in memory, kept true by a watch."""

import asyncio
import sys
from bisect import bisect_left, insort
from collections.abc import Callable, Iterator

from kirsch.cluster.registry.base import Change, Compacted, Entry, Registry, Unavailable

Listener = Callable[[frozenset[str]], None]


class Mirror:
    """Entries of the registry below a prefix, as of `revision`. For one event loop.

    `run()` keeps it true until it is cancelled; when the store goes away the last picture stays, and when
    the store has forgotten what was missed everything is listed anew.
    """

    RETRY = 0.5

    def __init__(self, registry: Registry, prefix: str) -> None:
        self.registry = registry
        self.prefix = prefix
        self.entries: dict[str, Entry] = {}
        self._keys: list[str] = []
        self.revision = 0
        # The revision that everything was listed at last.
        self.listed = 0
        self._changed = asyncio.Condition()
        self._listeners: list[Listener] = []

    def listen(self, listener: Listener) -> None:
        """Call `listener` with the keys of each change, after it was taken in."""
        self._listeners.append(listener)

    def ignore(self, listener: Listener) -> None:
        """Do not call `listener` any more."""
        self._listeners.remove(listener)

    def below(self, prefix: str) -> Iterator[Entry]:
        """The entries below a longer prefix, sorted by key, as they are now."""
        start = bisect_left(self._keys, prefix)
        # No character is above the last of Unicode, so this is behind every key that has the prefix.
        stop = bisect_left(self._keys, prefix + chr(sys.maxunicode), start)
        return iter([self.entries[key] for key in self._keys[start:stop]])

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
        self._keys = sorted(fresh)
        self.listed = listing.revision
        await self._advance(listing.revision, frozenset(keys))

    async def run(self) -> None:
        """Follow the registry until cancelled, or until it closes."""
        while True:
            try:
                if not self.revision:
                    await self.load()
                async for changes in self.registry.watch(self.prefix, self.revision + 1):
                    for change in changes:
                        self._take_in(change)
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

    def _take_in(self, change: Change) -> None:
        known = change.key in self.entries
        if change.entry is not None:
            self.entries[change.key] = change.entry
            if not known:
                insort(self._keys, change.key)
        elif known:
            del self.entries[change.key]
            del self._keys[bisect_left(self._keys, change.key)]

    async def _advance(self, revision: int, keys: frozenset[str]) -> None:
        self.revision = revision
        for listener in tuple(self._listeners):
            listener(keys)
        async with self._changed:
            self._changed.notify_all()
