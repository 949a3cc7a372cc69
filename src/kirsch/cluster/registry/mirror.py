"""A part of the registry held in memory, kept true by a watch."""

import asyncio
import sys
from bisect import bisect_left, insort
from collections.abc import Callable, Iterator, Mapping, Sequence

from kirsch.cluster.model import keys
from kirsch.cluster.registry.base import Change, Compacted, Entry, Registry, Unavailable

# Seconds in which a live machine puts back what vanished with its lease; the second after the store was away,
# when no machine could renew its lease: as long as a lease lives, which a new leader of etcd's gives it too.
RETURN, LONG_RETURN = 1.0, 10.0

Listener = Callable[[frozenset[str]], None]


class Mirror:
    """Entries of the registry below a prefix, as of `revision`. For one event loop.

    `run()` keeps it true until it is cancelled; when the store goes away the last picture stays, and when
    the store has forgotten what was missed everything is listed anew.

    A machine's lease can vanish although the machine lives and has renewed it: a leader of etcd's that was
    paused revokes leases by its old clock when it wakes up (etcd#15247, #16822). A live machine sees its keys
    go and puts them back at once, so what vanished with a machine's key is in `vanished` for RETURN seconds
    more, LONG_RETURN where `store_was_away`: `held` and `held_below` show it, `entries` does not.
    """

    RETRY = 0.5

    def __init__(self, registry: Registry, prefix: str) -> None:
        self.registry = registry
        self.prefix = prefix
        self.entries: dict[str, Entry] = {}
        self.vanished: dict[str, Entry] = {}
        self.store_was_away: Callable[[], bool] = lambda: False
        self._keys: list[str] = []
        self.revision = 0
        # The revision that everything was listed at last.
        self.listed = 0
        self._changed = asyncio.Condition()
        self._listeners: list[Listener] = []
        self._timers: list[asyncio.TimerHandle] = []

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

    def held(self, key: str) -> Entry | None:
        """Return the entry at a key, also if it vanished with its machine a moment ago."""
        return self.entries.get(key) or self.vanished.get(key)

    def held_below(self, prefix: str) -> list[Entry]:
        """Return `below(prefix)` with what vanished a moment ago, sorted by key."""
        found = list(self.below(prefix))
        found += (entry for key, entry in self.vanished.items() if key.startswith(prefix))
        return sorted(found, key=lambda entry: entry.key)

    async def load(self) -> None:
        """List everything. Raises Unavailable."""
        listing = await self.registry.list(self.prefix)
        fresh = {entry.key: entry for entry in listing.entries}
        changed = {
            key for key in self.entries.keys() | fresh.keys() if self.entries.get(key) != fresh.get(key)
        }
        self._linger([key for key in changed if key not in fresh])
        for key in fresh.keys() & self.vanished.keys():
            del self.vanished[key]
        self.entries = fresh
        self._keys = sorted(fresh)
        self.listed = listing.revision
        await self._advance(listing.revision, frozenset(changed))

    async def run(self) -> None:
        """Follow the registry until cancelled, or until it closes."""
        try:
            await self._follow()
        finally:
            for timer in self._timers:
                timer.cancel()

    async def _follow(self) -> None:
        while True:
            try:
                if not self.revision:
                    await self.load()
                async for changes in self.registry.watch(self.prefix, self.revision + 1):
                    self._linger([change.key for change in changes if change.entry is None])
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
            self.vanished.pop(change.key, None)
            self.entries[change.key] = change.entry
            if not known:
                insort(self._keys, change.key)
        elif known:
            del self.entries[change.key]
            del self._keys[bisect_left(self._keys, change.key)]

    def _linger(self, gone: Sequence[str]) -> None:
        """Keep what goes together with a machine, before it is taken out of `entries`."""
        entries = [self.entries[key] for key in gone if key in self.entries]
        leases = {entry.lease for entry in entries if keys.kind(entry.key) == keys.MACHINES} - {0}
        if not leases:
            return
        vanished = {entry.key: entry for entry in entries if entry.lease in leases}
        self.vanished |= vanished
        held = LONG_RETURN if self.store_was_away() else RETURN
        loop = asyncio.get_running_loop()
        self._timers = [timer for timer in self._timers if timer.when() > loop.time()]
        self._timers.append(loop.call_later(held, self._give_up, vanished))

    def _give_up(self, vanished: Mapping[str, Entry]) -> None:
        lost = frozenset(key for key, entry in vanished.items() if self.vanished.get(key) is entry)
        if not lost:
            return
        for key in lost:
            del self.vanished[key]
        # As after a listing: these keys are not those that the last revision has changed.
        self.listed = self.revision
        for listener in tuple(self._listeners):
            listener(lost)

    async def _advance(self, revision: int, changed: frozenset[str]) -> None:
        self.revision = revision
        for listener in tuple(self._listeners):
            listener(changed)
        async with self._changed:
            self._changed.notify_all()
