"""The members of an etcd and which one is spoken to: one at a time, the next when it fails."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from kirsch.cluster.registry.base import Unavailable
from kirsch.cluster.registry.etcd.endpoint import parse_endpoint
from kirsch.cluster.registry.etcd.failure import Failure, Outcome
from kirsch.cluster.registry.etcd.rpc import Connection, RpcError, messages
from kirsch.cluster.registry.health import StoreHealth, StoreMember, Voter

CALL_SECONDS = 5.0
# A member that is well answers for itself at once.
STATUS_SECONDS = 2.0
# One member's part of that: longer than an election, so that a call outlives a leader's death.
ATTEMPT_SECONDS = 2.5
SHORTEST_SECONDS = 0.1
PAUSE_SECONDS = 0.1


class Members:
    """The connections, and the one in use. For one event loop."""

    def __init__(self, connections: Sequence[Connection]) -> None:
        self.connections = tuple(connections)
        self._in_use = 0
        self.closed = False

    @property
    def current(self) -> Connection:
        return self.connections[self._in_use]

    def leave(self, connection: Connection) -> None:
        """Use the next member; the watches at this one go there too."""
        if connection is self.current and len(self.connections) > 1:
            self._in_use = (self._in_use + 1) % len(self.connections)
            connection.end_watches()

    async def call(self, request: Any, seconds: float = CALL_SECONDS) -> tuple[Any, bool]:
        """The answer, within `seconds`, of whichever member gives one.

        With it comes whether an earlier attempt at another member may have been done too. Raises Unavailable,
        or what etcd refuses a request with.
        """
        attempts = Attempts(self, seconds)
        while True:
            connection = self.current
            try:
                answer = await connection.call(request, attempts.timeout)
                return answer, attempts.uncertain
            except RpcError as error:
                await attempts.failed(connection, Failure.of(error))
            except asyncio.CancelledError:
                if self.closed and not being_cancelled():
                    raise closed() from None
                raise

    async def replace(self, connections: Sequence[Connection]) -> None:
        """Use other connections, to the same members or to others; watches go over to them at once, calls
        with time."""
        before = [each for each in self.connections if each not in connections]
        current = self.current
        self.connections = tuple(connections)
        self._in_use = self.connections.index(current) if current in self.connections else 0
        for connection in before:
            connection.end_watches()
        await asyncio.sleep(CALL_SECONDS + SHORTEST_SECONDS)
        for connection in before:
            await connection.close()

    async def health(self) -> StoreHealth:
        """Ask all members for their status, at once. Raises Unavailable only when closed."""
        if self.closed:
            raise closed()
        return StoreHealth(tuple(await asyncio.gather(*map(_status_of, self.connections))))

    async def hand_over(self, leader: str, successor: str) -> None:
        """Have the leader hand over to another member. Raises Unavailable if it does not."""
        if self.closed:
            raise closed()
        known = {each.endpoint.url: each for each in self.connections}
        for url in (leader, successor):
            if url not in known:
                raise Unavailable(f"{url} is no member of etcd")
        try:
            status = await known[successor].status(STATUS_SECONDS)
            await known[leader].hand_over(status.header.member_id, CALL_SECONDS)
        except RpcError as error:
            raise Unavailable(f"etcd's leader stays where it is: {Failure.of(error).error}") from None

    async def voters(self) -> tuple[Voter, ...]:
        """Return the members that etcd lists; those that answer neither here nor at the URL of their own are
        asked at both."""
        answer, _ = await self.call(messages.MemberListRequest())
        own, there = self.connections, set(await asyncio.gather(*map(_id_of, self.connections)))
        asked = [each.clientURLs[0] for each in answer.members if each.ID not in there and each.clientURLs]
        others = [own[0].like(parse_endpoint(url, secure=url.startswith("https:"))) for url in asked]
        try:
            there.update(await asyncio.gather(*map(_id_of, others)))
        finally:
            for connection in others:
                await connection.close()
        return tuple(
            Voter(
                each.ID,
                each.name,
                each.peerURLs[0],
                each.clientURLs[0] if each.clientURLs else "",
                each.isLearner,
                each.ID in there,
            )
            for each in answer.members
        )

    async def close(self) -> None:
        """Release the connections; whoever waits for an answer is told Unavailable."""
        self.closed = True
        for connection in self.connections:
            connection.end_watches()
        for connection in self.connections:
            await connection.close()


async def _status_of(connection: Connection) -> StoreMember:
    url = connection.endpoint.url
    try:
        status = await connection.status(STATUS_SECONDS)
    except RpcError as error:
        return StoreMember(url, silence=str(Failure.of(error).error))
    leads = status.leader == status.header.member_id
    role = "learner" if status.isLearner else "leader" if leads else "follower"
    return StoreMember(url, role, status.version, status.dbSize, tuple(status.errors))


async def _id_of(connection: Connection) -> int:
    """Return the id of the member that answers, 0 if none does."""
    try:
        return int((await connection.status(STATUS_SECONDS)).header.member_id)
    except RpcError:
        return 0


class Attempts:
    """The tries that one call has: at each member, until its time is up."""

    def __init__(self, members: Members, seconds: float = CALL_SECONDS) -> None:
        self.uncertain = False
        self._members = members
        self._until = time.monotonic() + seconds
        self._unreached = 0
        self._reasons: dict[str, str] = {}

    @property
    def timeout(self) -> float:
        """The seconds that the next attempt may take."""
        return attempt_seconds(self._until - time.monotonic(), len(self._members.connections))

    async def failed(self, connection: Connection, failure: Failure) -> None:
        """Return when there is another attempt to make, else raise what the caller is to be told."""
        if self._members.closed:
            raise closed() from None
        if failure.outcome is Outcome.REFUSED:
            raise failure.error from None
        pause = failure.outcome is Outcome.POSTPONED or connection.endpoint.url in self._reasons
        self._reasons[connection.endpoint.url] = str(failure.error)
        self.uncertain |= failure.outcome is Outcome.UNCERTAIN
        self._unreached = self._unreached + 1 if failure.outcome is Outcome.UNREACHED else 0
        self._members.leave(connection)
        if pause:
            await asyncio.sleep(PAUSE_SECONDS)
        if self._unreached >= len(self._members.connections) or time.monotonic() >= self._until:
            reasons = "; ".join(f"{url}: {reason}" for url, reason in self._reasons.items())
            raise Unavailable(f"etcd cannot be reached: {reasons}") from None


def attempt_seconds(left: float, members: int) -> float:
    """One attempt's part of the seconds left: of several members half at most, or the next has none."""
    if members > 1:
        left = min(ATTEMPT_SECONDS, left / 2)
    return max(left, SHORTEST_SECONDS)


def being_cancelled() -> bool:
    """True if it is this task that is cancelled, and not the call that it waits for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def closed() -> Unavailable:
    return Unavailable("the registry is closed")
