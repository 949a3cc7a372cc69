"""Messages to the broker and from it: values, no I/O."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

# Called once: with "" when the broker has the message, else with the reason in a line.
Settled = Callable[[str], None]


class Rejected(str):
    """Reason for which the broker will never take a message."""


class Conflict(Rejected):
    """Reason for which a message was dropped: an earlier one of its sender has the same number."""


@dataclass(frozen=True, slots=True)
class Publication:
    """A message for the broker: publish it on the bus, on 'ws2amqp'.

    Attributes:
        exchange: exchange to publish to.
        key: routing key.
        body: bytes.
        content_type: content type of the body.
        kind: type of the message, for its readers.
        message_id: id given by the application.
        headers: further headers.
        persistent: the message survives a restart of the broker.
        transient: the message is worth nothing later: it is neither confirmed nor kept while the broker is
            away.
        settled: called with the outcome; never for a transient message.

    Raises TypeError for a body that is no bytes, ValueError for an exchange or key of more than 255 bytes
    (AMQP 0-9-1, 4.2.5).
    """

    exchange: str
    key: str
    body: bytes
    content_type: str = "application/json"
    kind: str | None = None
    message_id: str | None = None
    headers: Mapping[str, Any] | None = None
    persistent: bool = True
    transient: bool = False
    settled: Settled | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.body, bytes):
            raise TypeError(f"a publication's body is bytes, not {type(self.body).__name__}")
        for what in (self.exchange, self.key):
            if len(what) > 63 and len(what.encode()) > 255:
                raise ValueError(f"{what[:40]!r}… has more than 255 bytes")


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message from the broker, as it comes on the bus, on 'amqp2ws'.

    Attributes:
        queue: name of the Queue.
        exchange, key: the publication's.
        body: bytes.
        offset: offset in a stream; None in other queues.
        content_type, kind, message_id: as in Publication.
        headers: headers of the message.
        again: the broker has sent the message before.
    """

    queue: str
    exchange: str
    key: str
    body: bytes
    offset: int | None = None
    content_type: str | None = None
    kind: str | None = None
    message_id: str | None = None
    headers: Mapping[str, Any] = field(default_factory=dict)
    again: bool = False
