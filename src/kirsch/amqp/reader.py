"""The stream as one process reads it: where to begin, what is new, whether it is still the same. No I/O."""

from dataclasses import dataclass
from typing import Any

from kirsch.amqp import protocol
from kirsch.amqp.doubles import Doubles
from kirsch.amqp.message import Delivery


@dataclass(frozen=True, slots=True)
class Said:
    """A message for a room, as browsers get it."""

    room: str
    text: str


@dataclass(frozen=True, slots=True)
class Passed:
    """Nothing for a room, and why."""

    why: str


MARKED = Passed("mark")
DOUBLE = Passed("double")
FOREIGN = Passed("foreign")
OTHERS_MARK = Passed("others' mark")
SEEN = Passed("seen")
ANOTHER = Passed("another")


class Reader:
    """Reads a stream from some time back, and after a lost connection from its last message on.

    That one has to come again: if another comes in its place, or none within `patience` seconds, the stream
    is another (RabbitMQ withholds what is before the offset asked for).

    Attributes:
        offset: the last that came; -1 none.
        begun: the first since which none is missing; -1 none.
        caught_up: this process's own mark came back: all that was there before has been read.
    """

    def __init__(self, process: str, back: int, patience: float) -> None:
        self.process = process
        self.back = back
        self.patience = patience
        self.offset = self.begun = -1
        self.caught_up = False
        self._doubles = Doubles()
        self._last = 0
        self._expected: float | None = None
        # Nothing is read until it has been said where to begin.
        self._stale = False

    def where(self, now: float) -> dict[str, Any]:
        """The arguments of the consumer of a new connection."""
        self._stale = False
        if self.offset < 0:
            return {"x-stream-offset": f"{self.back}s"}
        self._expected = now + self.patience
        return {"x-stream-offset": self.offset}

    def late(self, now: float) -> bool:
        """The last message has not come again in time."""
        return self._expected is not None and now > self._expected

    def forget(self) -> None:
        """The stream is another: read it from its beginning."""
        self.offset = self.begun = -1
        self._doubles.clear()
        self._expected = None
        self._stale = True

    def read(self, delivery: Delivery, offset: int) -> Said | Passed:
        """What a delivery at this offset is."""
        expected, self._expected = self._expected is not None, None
        if expected and not self._follows(delivery, offset):
            return ANOTHER
        if self._stale or offset <= self.offset:
            return SEEN
        # What follows at once may have been on its way here when the connection was lost.
        if self.begun < 0 or (expected and offset > self.offset + 1):
            # It was away for so long that what it had not read is gone; or it has just begun.
            self.begun = offset
        self.offset, self._last = offset, hash(delivery.body)
        if delivery.kind == protocol.MARK:
            if delivery.message_id != self.process or self.caught_up:
                return OTHERS_MARK
            self.caught_up = True
            return MARKED
        body = delivery.body
        if delivery.kind != protocol.MESSAGE:
            body = protocol.foreign(delivery.key, body, delivery.content_type)
            if not body:
                return FOREIGN
        else:
            client, number = protocol.sender(delivery.message_id)
            if client and not self._doubles.first(client, number):
                return DOUBLE
        return Said(delivery.key, protocol.stamped(body, offset))

    def _follows(self, delivery: Delivery, offset: int) -> bool:
        """Whether the first delivery of a new connection may be of the same stream."""
        return offset > self.offset or (offset == self.offset and hash(delivery.body) == self._last)
