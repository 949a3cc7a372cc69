"""Protocol of a registry: keys with revisions, leases and watches, in about a dozen methods.

The semantics are etcd's (v3): one revision for the whole store, counted up by every transaction that
writes; a key remembers the revision it was created and last modified at. etcd's limits hold for every
implementation: 128 operations a transaction, no key twice in one, 1.5 MB a request.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from kirsch.cluster.registry.health import StoreHealth

MAX_OPERATIONS = 128
MAX_REQUEST_BYTES = 1_500_000


class RegistryError(Exception):
    """The store refused or cannot do what it was asked."""


class Unavailable(RegistryError):
    """The store cannot be reached, or cannot write (disk full, read-only)."""


class Compacted(RegistryError):
    """A watch asked for a revision that the store no longer remembers: list anew."""


class LimitExceeded(RegistryError):
    """More than 128 operations, a key twice, or more than 1.5 MB in one transaction."""


class LeaseLost(RegistryError):
    """The lease named has run out or was revoked."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A key as it stands: `created` and `modified` are revisions, `lease` is 0 for none."""

    key: str
    value: str
    created: int
    modified: int
    lease: int = 0


@dataclass(frozen=True, slots=True)
class Listing:
    """All entries below a prefix, sorted by key, as they stood at `revision`."""

    entries: tuple[Entry, ...]
    revision: int


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that happened to a key: `entry` is None when it was deleted."""

    key: str
    entry: Entry | None
    revision: int


@dataclass(frozen=True, slots=True)
class Put:
    """Write a key; with a lease it goes when the lease goes."""

    key: str
    value: str
    lease: int = 0


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete a key; no error if it is not there."""

    key: str


@dataclass(frozen=True, slots=True)
class Unchanged:
    """Condition: the key was last modified at `revision`; 0 means it must not exist."""

    key: str
    revision: int


@dataclass(frozen=True, slots=True)
class Created:
    """Condition: the key was created at `revision` (whatever was written to it since)."""

    key: str
    revision: int


Operation = Put | Delete
Condition = Unchanged | Created


class Registry(Protocol):
    """The store. Every method may raise Unavailable."""

    async def get(self, key: str) -> Entry | None:
        """The entry at `key`, or None."""

    async def list(self, prefix: str) -> Listing:
        """Every entry whose key begins with `prefix`, and the revision they were read at."""

    async def put(self, key: str, value: str, *, lease: int = 0, unchanged: int | None = None) -> int | None:
        """Write one key; with `unchanged` only if it was last modified at that revision (0: is absent).

        Returns the new revision, or None when the condition did not hold. Raises LeaseLost.
        """

    async def delete(self, key: str, *, unchanged: int | None = None) -> bool:
        """Delete one key; True if it was there and the condition held."""

    async def transact(
        self, operations: Sequence[Operation], conditions: Sequence[Condition] = ()
    ) -> int | None:
        """Do all operations at one revision if every condition holds, else none of them.

        Returns the revision, or None when a condition did not hold. Raises LimitExceeded, LeaseLost.
        """

    async def grant(self, ttl: float) -> int:
        """A new lease of `ttl` seconds; its id is never 0. Raises RegistryError for a `ttl` that is none."""

    async def keep_alive(self, lease: int) -> float:
        """Renew a lease; returns the seconds it now has. Raises LeaseLost."""

    async def revoke(self, lease: int) -> None:
        """End a lease now: its keys are deleted. No error if it is gone already."""

    def watch(self, prefix: str, from_revision: int) -> AsyncIterator[tuple[Change, ...]]:
        """Yield changes below `prefix` from `from_revision` on (inclusive), one tuple a revision, in order.

        A change that was written before the call and after `from_revision` is delivered too; a
        `from_revision` of 0 means from now on, as in etcd. Raises Compacted when those are forgotten,
        Unavailable when the store goes. Ends when the registry closes.
        """

    async def health(self) -> StoreHealth | None:
        """Return the health of the store's members; None for a store that has none, as a local one."""

    async def close(self) -> None:
        """End all watches and release the store."""
