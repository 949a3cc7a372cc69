"""The registry on etcd: every call to whichever member answers, each with a deadline.

https://etcd.io/docs/v3.4/learning/api_guarantees/
"""

import math
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from kirsch.cluster.model.certificates import Certificates
from kirsch.cluster.registry.base import (
    Change,
    Condition,
    Delete,
    Entry,
    LeaseLost,
    Listing,
    Operation,
    Put,
    RegistryError,
    Unavailable,
)
from kirsch.cluster.registry.etcd import message
from kirsch.cluster.registry.etcd.endpoint import parse_endpoints
from kirsch.cluster.registry.etcd.members import CALL_SECONDS, Members, closed
from kirsch.cluster.registry.etcd.rpc import Connection, credentials, messages
from kirsch.cluster.registry.etcd.watch import watch
from kirsch.cluster.registry.health import StoreHealth, Voter
from kirsch.cluster.registry.local import only_if
from kirsch.cluster.registry.store import check_limits

SHORTEST_SECONDS = 0.2


class EtcdRegistry:
    """Made by `await EtcdRegistry.open(endpoints, certificates)`. For one event loop.

    A call is answered or raises Unavailable within about 5 s, and works again as soon as etcd does. A write
    whose answer was lost is tried again, at another member if there is one: it may be done twice, and one
    that raised Unavailable may have been done, or yet be. Conditions guard against that; None always says:
    not done.
    """

    def __init__(self, members: Members) -> None:
        self._members = members
        self._revision = 0
        # When each lease ends if no renewal reaches etcd, and how long it lives.
        self._leases: dict[int, tuple[float, float]] = {}

    @classmethod
    async def open(cls, endpoints: Sequence[str], certificates: Certificates | None = None) -> "EtcdRegistry":
        """The registry of an etcd whose members listen at `endpoints`; the first that answers is used.

        endpoints: `https://HOST:PORT`, or `http://` without certificates. etcd need not be there yet. Raises
        RegistryError for endpoints that are none and certificates that cannot be read.
        """
        parsed = parse_endpoints(endpoints, secure=certificates is not None)
        secret = credentials(certificates)
        return cls(Members([Connection(endpoint, secret) for endpoint in parsed]))

    async def renew(self, certificates: Certificates) -> None:
        """Connect anew with other certificates; calls that are under way end on the old connections.

        Raises RegistryError for certificates that cannot be read."""
        secret = credentials(certificates)
        await self._members.replace([Connection(old.endpoint, secret) for old in self._members.connections])

    async def get(self, key: str) -> Entry | None:
        answer, _ = await self._call(message.get_request(key))
        return message.entry(answer.kvs[0]) if answer.kvs else None

    async def list(self, prefix: str) -> Listing:
        answer, _ = await self._call(message.range_request(prefix))
        return Listing(tuple(message.entry(pair) for pair in answer.kvs), answer.header.revision)

    async def put(self, key: str, value: str, *, lease: int = 0, unchanged: int | None = None) -> int | None:
        put = Put(key, value, lease)
        if unchanged is not None:
            return await self.transact([put], only_if(key, unchanged))
        check_limits([put], ())
        answer, _ = await self._call(message.put_request(put))
        return revision_of(answer)

    async def delete(self, key: str, *, unchanged: int | None = None) -> bool:
        operations, conditions = [Delete(key)], only_if(key, unchanged)
        check_limits(operations, conditions)
        answer, uncertain = await self._call(message.transaction_request(operations, conditions))
        deleted = bool(answer.succeeded and answer.responses[0].response_delete_range.deleted)
        if uncertain and not deleted:
            raise answer_lost()
        return deleted

    async def transact(
        self, operations: Sequence[Operation], conditions: Sequence[Condition] = ()
    ) -> int | None:
        check_limits(operations, conditions)
        answer, uncertain = await self._call(message.transaction_request(operations, conditions))
        if answer.succeeded:
            return revision_of(answer)
        if uncertain and operations:
            raise answer_lost()
        return None

    async def grant(self, ttl: float) -> int:
        """A new lease; etcd counts in whole seconds, and none is shorter than its elections take (2 s)."""
        if not ttl > 0:
            raise RegistryError(f"a lease must last longer than {ttl:g} s")
        asked = now()
        answer, _ = await self._call(messages.LeaseGrantRequest(TTL=math.ceil(ttl)))
        self._leases[answer.ID] = (asked + answer.TTL, answer.TTL)
        return int(answer.ID)

    async def keep_alive(self, lease: int) -> float:
        """Renew a lease. Raises Unavailable well before the lease ends: there is time to act on it."""
        asked = now()
        ends, _ = self._leases.get(lease, (math.inf, 0.0))
        answer, _ = await self._call(messages.LeaseKeepAliveRequest(ID=lease), renewal_seconds(ends - asked))
        if answer.TTL <= 0:
            self._leases.pop(lease, None)
            raise LeaseLost(f"lease {lease} has run out or was revoked")
        self._leases[lease] = (asked + answer.TTL, answer.TTL)
        return float(answer.TTL)

    async def revoke(self, lease: int) -> None:
        self._leases.pop(lease, None)
        try:
            await self._call(messages.LeaseRevokeRequest(ID=lease))
        except LeaseLost:
            pass

    def watch(self, prefix: str, from_revision: int) -> AsyncIterator[tuple[Change, ...]]:
        """Watch, as Registry.watch does; another member takes it up when one dies.

        From 0 is from the revision that this registry has seen last; before its first call, from when etcd
        takes the watch on.
        """
        return watch(self._members, prefix, from_revision or (self._revision and self._revision + 1))

    async def health(self) -> StoreHealth:
        """Return the health of all members; those that do not answer say why."""
        return await self._members.health()

    async def hand_over(self, leader: str, successor: str) -> None:
        """Have etcd's leader hand over to another member, by URL. Raises Unavailable if it does not."""
        await self._members.hand_over(leader, successor)

    async def voters(self) -> tuple[Voter, ...]:
        """Return the members that etcd lists, and which of them answer. Raises Unavailable."""
        return await self._members.voters()

    async def add_learner(self, peer: str) -> None:
        """Add a member that has no vote yet, by its URL for peers. Raises Unavailable where etcd refuses."""
        await self._call(messages.MemberAddRequest(peerURLs=[peer], isLearner=True))

    async def promote(self, member: int) -> None:
        """Give a learner a vote. Raises Unavailable while it lacks data."""
        await self._call(messages.MemberPromoteRequest(ID=member))

    async def remove_member(self, member: int) -> None:
        """Remove a member for good. Raises Unavailable where etcd refuses."""
        await self._call(messages.MemberRemoveRequest(ID=member))

    @property
    def urls(self) -> tuple[str, ...]:
        """URLs of the members that are used."""
        return tuple(connection.endpoint.url for connection in self._members.connections)

    async def use(self, urls: Sequence[str]) -> None:
        """Use the members at these URLs from now on. Raises RegistryError for what is no URL."""
        before = {connection.endpoint.url: connection for connection in self._members.connections}
        like = self._members.connections[0]
        parsed = parse_endpoints(urls, secure=like.secure)
        await self._members.replace([before.get(each.url) or like.like(each) for each in parsed])

    async def close(self) -> None:
        if not self._members.closed:
            await self._members.close()

    async def _call(self, request: Any, seconds: float = CALL_SECONDS) -> tuple[Any, bool]:
        if self._members.closed:
            raise closed()
        answer, uncertain = await self._members.call(request, seconds)
        self._revision = max(self._revision, answer.header.revision)
        return answer, uncertain


def renewal_seconds(left: float) -> float:
    """Return how long a renewal may take of a lease with `left` seconds: half, so that there is time for
    another."""
    return CALL_SECONDS if left <= 0 else min(CALL_SECONDS, max(left / 2, SHORTEST_SECONDS))


def revision_of(answer: Any) -> int:
    return int(answer.header.revision)


def answer_lost() -> Unavailable:
    return Unavailable("etcd's answer was lost with a member: whether it was written is not known")


def now() -> float:
    """Seconds, sleep included: etcd's clock goes on while this machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
