"""What is declared on the broker whenever a connection opens: values, no I/O (AMQP 0-9-1, 1.7)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Arguments = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Exchange:
    """Where is published to. It outlives the broker's restart if `durable`."""

    name: str
    kind: Literal["direct", "fanout", "topic", "headers"] = "topic"
    durable: bool = True


@dataclass(frozen=True, slots=True)
class Queue:
    """Where messages wait.

    Attributes:
        name: what bindings and consumers call it.
        durable: it outlives the broker's restart.
        mine: it is this connection's alone and goes with it; the broker knows it by a name of its own, which
            is another each time, for the broker may still hold the last one's.
        arguments: RabbitMQ's, such as {"x-queue-type": "stream"}.
    """

    name: str
    durable: bool = True
    mine: bool = False
    arguments: Arguments = field(default_factory=dict)

    @classmethod
    def stream(cls, name: str, *, age: float | None = None, size: int | None = None) -> "Queue":
        """A RabbitMQ stream (3.9 and newer): nothing is taken out of it by reading.

        What is older than `age` seconds goes, or the oldest once it has more than `size` bytes: in segments.
        """
        arguments: dict[str, Any] = {"x-queue-type": "stream"}
        if age is not None:
            arguments["x-max-age"] = f"{max(1, int(age))}s"
        if size is not None:
            arguments["x-max-length-bytes"] = size
            # A segment is the least that goes.
            arguments["x-stream-max-segment-size-bytes"] = max(1 << 20, min(size // 8, 500 << 20))
        return cls(name, arguments=arguments)


@dataclass(frozen=True, slots=True)
class Binding:
    """A queue is given what is published to an exchange with a matching routing key."""

    queue: str
    exchange: str
    key: str = "#"


@dataclass(frozen=True, slots=True)
class Consumer:
    """What is in a queue comes to the bus, on 'amqp2ws'.

    Attributes:
        queue: its name.
        prefetch: how many messages the broker sends ahead of our acknowledgements.
        arguments: RabbitMQ's; called for each connection, as where to begin in a stream changes.
    """

    queue: str
    prefetch: int = 200
    arguments: Callable[[], Arguments] = dict


Declared = Exchange | Queue | Binding
