"""Exchanges, queues, bindings and consumers, declared by each connection (AMQP 0-9-1, 1.7). No I/O."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Arguments = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Exchange:
    """Exchange to publish to. It survives a restart of the broker if `durable`."""

    name: str
    kind: Literal["direct", "fanout", "topic", "headers"] = "topic"
    durable: bool = True


@dataclass(frozen=True, slots=True)
class Queue:
    """Queue of messages.

    Attributes:
        name: name in bindings and consumers.
        durable: the queue survives a restart of the broker.
        mine: the queue belongs to this connection and ends with it. Its name on the broker is another for
            each connection, for the broker may not have ended the last one yet.
        arguments: RabbitMQ's, such as {"x-queue-type": "stream"}.
    """

    name: str
    durable: bool = True
    mine: bool = False
    arguments: Arguments = field(default_factory=dict)

    @classmethod
    def stream(cls, name: str, *, age: float | None = None, size: int | None = None) -> "Queue":
        """Return a RabbitMQ stream (3.9 and newer): readers take nothing out of it.

        Segments older than `age` seconds are dropped, and the oldest beyond `size` bytes.
        """
        arguments: dict[str, Any] = {"x-queue-type": "stream"}
        if age is not None:
            arguments["x-max-age"] = f"{max(1, int(age))}s"
        if size is not None:
            arguments["x-max-length-bytes"] = size
            # RabbitMQ drops whole segments.
            arguments["x-stream-max-segment-size-bytes"] = max(1 << 20, min(size // 8, 500 << 20))
        return cls(name, arguments=arguments)


@dataclass(frozen=True, slots=True)
class Binding:
    """Route messages of an exchange with a matching key to a queue."""

    queue: str
    exchange: str
    key: str = "#"


@dataclass(frozen=True, slots=True)
class Consumer:
    """Consumer of a queue, whose messages come to the bus on 'amqp2ws'.

    Attributes:
        queue: name of the queue.
        prefetch: number of messages that the broker sends ahead of acknowledgements.
        arguments: returns RabbitMQ's arguments; called for each connection, as a stream's offset changes.
    """

    queue: str
    prefetch: int = 200
    arguments: Callable[[], Arguments] = dict


Declared = Exchange | Queue | Binding
