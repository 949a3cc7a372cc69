"""What goes to the broker, and what comes from it: values, no I/O."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

# Told once: "" when the broker has the message, else why it has not, in a line.
Settled = Callable[[str], None]


class Rejected(str):
    """Why the broker has not got a message, where it would not take it another time either."""


@dataclass(frozen=True, slots=True)
class Publication:
    """A message for the broker: publish it on the bus, on 'ws2amqp'.

    Attributes:
        exchange, key: where to.
        body: bytes.
        content_type: of the body.
        kind: the message's type, for whoever reads it.
        message_id: the application's name for it.
        headers: further ones.
        persistent: it is to outlive the broker's restart.
        transient: it is worth nothing later: not confirmed, and dropped while the broker is away.
        settled: told what became of it; never for what is transient.

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
        queue: the one it was in, as Queue calls it.
        exchange, key: what it was published with.
        body: bytes.
        offset: its place in a stream; None where it comes from no stream.
        content_type, kind, message_id: as Publication has them.
        headers: the message's own.
        again: the broker sent it before.
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
