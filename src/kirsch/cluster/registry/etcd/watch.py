"""A watch on etcd: one stream, and another that goes on where it left off when that breaks."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from kirsch.cluster.registry.base import Change, Compacted, RegistryError, Unavailable
from kirsch.cluster.registry.etcd.failure import Failure, Outcome
from kirsch.cluster.registry.etcd.members import Attempts, Members, being_cancelled
from kirsch.cluster.registry.etcd.message import Changes, watch_request
from kirsch.cluster.registry.etcd.rpc import END, RpcError


async def watch(members: Members, prefix: str, revision: int) -> AsyncIterator[tuple[Change, ...]]:
    """The changes below `prefix` from `revision` on, 0 for from now on; ends when `members` are closed.

    Raises Compacted, and Unavailable when it breaks and no member takes it up.
    """
    changes = Changes(revision)
    attempts = Attempts(members)
    while not members.closed:
        connection = members.current
        stream = connection.watch(watch_request(prefix, changes.revision))
        begun, failure = False, None
        try:
            while True:
                # Only the beginning has a time: what is to happen may be long in coming.
                async with asyncio.timeout(None if begun else attempts.timeout):
                    answer = await stream.read()
                if answer is END:
                    failure = Failure(Outcome.UNCERTAIN, Unavailable("has ended a watch"))
                    break
                if answer.canceled:
                    raise cancelled(answer)
                if answer.created:
                    changes.begin(answer)
                    begun = True
                for found in changes.add(answer):
                    yield found
        except RpcError as error:
            failure = Failure.of(error)
        except TimeoutError:
            failure = Failure(Outcome.UNCERTAIN, Unavailable("does not answer"))
        except asyncio.CancelledError:
            if being_cancelled():
                raise
            # The registry closes, or has gone on to another member.
        finally:
            connection.unwatch(stream)
        if begun:
            attempts = Attempts(members)
        if failure is not None and not members.closed:
            await attempts.failed(connection, failure)


def cancelled(answer: Any) -> RegistryError:
    """Return the meaning of the end of a watch."""
    if answer.compact_revision:
        return Compacted(f"the changes before revision {answer.compact_revision} are forgotten")
    return Unavailable(f"etcd ended the watch: {answer.cancel_reason}")
