"""etcd's messages from and to the registry's values. No I/O.

https://etcd.io/docs/v3.4/learning/api/
"""

from collections.abc import Sequence
from typing import Any

from kirsch.cluster.registry.base import (
    Change,
    Condition,
    Created,
    Entry,
    Operation,
    Put,
    RegistryError,
)
from kirsch.cluster.registry.etcd.rpc import messages

EQUAL = messages.Compare.CompareResult.EQUAL
ENDED = messages.Event.EventType.DELETE


def key_bytes(key: str) -> bytes:
    """Raises RegistryError for what is no text."""
    try:
        return key.encode()
    except UnicodeEncodeError as error:
        raise RegistryError(f"a key is not valid text: {error}") from None


def prefix_range(prefix: str) -> tuple[bytes, bytes]:
    """The keys that begin with `prefix`, as etcd's first key and the one behind the last."""
    first = key_bytes(prefix)
    if not first:
        return b"\0", b"\0"
    # No byte of UTF-8 is 0xff, so the last can always be counted up.
    return first, first[:-1] + bytes([first[-1] + 1])


def range_request(prefix: str) -> Any:
    key, end = prefix_range(prefix)
    return messages.RangeRequest(key=key, range_end=end)


def get_request(key: str) -> Any:
    return messages.RangeRequest(key=key_bytes(key))


def put_request(put: Put) -> Any:
    return messages.PutRequest(key=put.key.encode(), value=put.value.encode(), lease=put.lease)


def transaction_request(operations: Sequence[Operation], conditions: Sequence[Condition]) -> Any:
    requests = [request_of(operation) for operation in operations]
    # Without a write etcd would compare in one member's own state: a read among them makes it ask the others.
    reads = [] if requests else [messages.RequestOp(request_range=messages.RangeRequest(key=b"\0", limit=1))]
    return messages.TxnRequest(
        compare=[compare(condition) for condition in conditions], success=requests or reads, failure=reads
    )


def request_of(operation: Operation) -> Any:
    if isinstance(operation, Put):
        return messages.RequestOp(request_put=put_request(operation))
    return messages.RequestOp(request_delete_range=messages.DeleteRangeRequest(key=operation.key.encode()))


def compare(condition: Condition) -> Any:
    """A condition; etcd takes a key that is absent for one created and modified at 0."""
    key = condition.key.encode()
    target = messages.Compare.CompareTarget
    if isinstance(condition, Created):
        return messages.Compare(
            result=EQUAL, target=target.CREATE, key=key, create_revision=condition.revision
        )
    return messages.Compare(result=EQUAL, target=target.MOD, key=key, mod_revision=condition.revision)


def watch_request(prefix: str, revision: int) -> Any:
    """From `revision` on, 0 for now; large answers in fragments, now and then a sign of life."""
    key, end = prefix_range(prefix)
    return messages.WatchCreateRequest(
        key=key, range_end=end, start_revision=revision, progress_notify=True, fragment=True
    )


def text(data: bytes) -> str:
    """Others may write to etcd too, and not in UTF-8: that is shown, not stumbled over."""
    return data.decode(errors="backslashreplace")


def entry(pair: Any) -> Entry:
    return Entry(text(pair.key), text(pair.value), pair.create_revision, pair.mod_revision, pair.lease)


class Changes:
    """One watch's answers put together: one tuple a revision, whole, none twice.

    `revision` is where a watch goes on that begins anew: everything before it was handed out.
    """

    def __init__(self, revision: int) -> None:
        self.revision = revision
        self._held: list[Change] = []

    def begin(self, created: Any) -> None:
        """A stream has begun: what an earlier one left incomplete comes again whole."""
        self._held.clear()
        if self.revision == 0:
            self.revision = created.header.revision + 1

    def add(self, answer: Any) -> list[tuple[Change, ...]]:
        """The revisions that this answer completes; etcd splits one only over fragments."""
        complete = []
        for event in answer.events:
            revision = event.kv.mod_revision
            if self._held and self._held[0].revision != revision:
                complete.append(self._take())
            if revision >= self.revision:
                written = None if event.type == ENDED else entry(event.kv)
                self._held.append(Change(text(event.kv.key), written, revision))
        if not answer.fragment:
            if self._held:
                complete.append(self._take())
            elif not answer.events and not answer.created:
                # A sign of life: there was nothing up to here.
                self.revision = max(self.revision, answer.header.revision + 1)
        return complete

    def _take(self) -> tuple[Change, ...]:
        changes, self._held = tuple(self._held), []
        self.revision = changes[0].revision + 1
        return changes
