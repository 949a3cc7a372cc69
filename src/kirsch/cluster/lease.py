"""One lease a machine: all that must go when the machine goes hangs on it."""

import asyncio
import logging
from collections.abc import Callable, Mapping

from kirsch.cluster.registry.base import (
    MAX_OPERATIONS,
    Delete,
    LeaseLost,
    Operation,
    Put,
    Registry,
    Unavailable,
)

log = logging.getLogger(__name__)


class MachineLease:
    """Grants a lease and renews it until cancelled; a lost one is granted anew under another id."""

    TTL = 10.0
    RENEW = 3.0

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self._id = 0
        self._granted = asyncio.Condition()
        self._listeners: list[Callable[[], None]] = []

    def listen(self, listener: Callable[[], None]) -> None:
        """Call `listener` whenever there is a new lease: what hung on the old one is gone."""
        self._listeners.append(listener)

    async def id(self) -> int:
        """The lease as it is, as soon as there is one."""
        async with self._granted:
            await self._granted.wait_for(lambda: self._id)
            return self._id

    async def run(self) -> None:
        """Hold the lease until cancelled."""
        while True:
            try:
                if not self._id:
                    granted = await self.registry.grant(self.TTL)
                    async with self._granted:
                        self._id = granted
                        self._granted.notify_all()
                    for listener in self._listeners:
                        listener()
                await asyncio.sleep(self.RENEW)
                await self.registry.keep_alive(self._id)
            except LeaseLost:
                self._id = 0
            except Unavailable as error:
                log.warning("the registry is away, the lease cannot be renewed: %s", error)
                await asyncio.sleep(self.RENEW / 3)

    async def revoke(self) -> None:
        """Say goodbye: everything that hangs on the lease goes now."""
        if self._id:
            await self.registry.revoke(self._id)
            self._id = 0


class LeasedKeys:
    """Keys that one machine alone writes, under its lease: told what should be, it writes the difference."""

    RETRY = 1.0

    def __init__(self, registry: Registry, lease: MachineLease) -> None:
        self.registry = registry
        self.lease = lease
        self._wanted: Mapping[str, str] = {}
        self._written: dict[str, str] = {}
        self._lease_id = 0
        self._changed = asyncio.Event()
        self._settled = asyncio.Event()
        lease.listen(self._changed.set)

    def want(self, wanted: Mapping[str, str]) -> None:
        """From now on these keys, with these values, and no others."""
        if wanted != self._wanted:
            self._wanted = wanted
            self._settled.clear()
        self._changed.set()

    async def settled(self) -> None:
        """Return once the registry holds what was wanted last."""
        await self._settled.wait()

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                await self._write()
            except LeaseLost:
                self._changed.set()
                await asyncio.sleep(self.RETRY)
            except Unavailable as error:
                log.warning("states cannot be written, the registry is away: %s", error)
                self._changed.set()
                await asyncio.sleep(self.RETRY)

    async def _write(self) -> None:
        lease = await self.lease.id()
        if lease != self._lease_id:
            self._lease_id, self._written = lease, {}
        wanted = self._wanted
        operations: list[Operation] = [
            Put(key, value, lease) for key, value in wanted.items() if self._written.get(key) != value
        ]
        operations += [Delete(key) for key in self._written if key not in wanted]
        for start in range(0, len(operations), MAX_OPERATIONS):
            await self.registry.transact(operations[start : start + MAX_OPERATIONS])
        self._written = dict(wanted)
        if wanted is self._wanted:
            self._settled.set()
