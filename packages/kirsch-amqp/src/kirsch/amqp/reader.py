"""The stream as one process reads it: where to begin, what is new, whether it is still the same. No I/O."""

import math
from dataclasses import dataclass
from typing import Any

from kirsch.amqp import protocol
from kirsch.amqp.doubles import Doubles
from kirsch.amqp.message import Delivery

# RabbitMQ itself takes an offset where a segment begins, for what it knows of publishers.
OWN = 1
# Seconds until a process says again what the stream is called, once it has; and where nobody has heard it.
SAY, SAY_AGAIN = 6 * 3600.0, 5.0


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


def said(delivery: Delivery, offset: int, doubles: Doubles) -> Said | Passed:
    """What a message of the stream is that is no mark."""
    body = delivery.body
    if delivery.kind != protocol.MESSAGE:
        body = protocol.foreign(delivery.key, body, delivery.content_type)
        if not body:
            return FOREIGN
    else:
        client, number = protocol.sender(delivery.message_id)
        if client and not doubles.first(client, number):
            return DOUBLE
    return Said(delivery.key, protocol.stamped(body, offset))


class Reader:
    """Reads a stream from some time back, and after a lost connection from its last message on.

    That one has to come again, however long it takes: if another comes in its place, the stream is another.
    RabbitMQ withholds what is before the offset asked for, so a stream that ends before it is silent: `late`
    says when to find out, by what is published since (`shorter`).

    A stream has a name, by which browsers know it again: a random one that processes agree on by the marks in
    it. Who begins to read proposes one, and the first proposal holds; who has read all says which it was, and
    again every few hours, for whoever begins later: what is said holds before what is proposed.

    Attributes:
        offset: the last that came; -1 none.
        begun: the first since which none is missing; -1 none.
        caught_up: this process's own mark came back: all that was there before has been read.
        marked: the mark's offset.
        stream: the stream's name; "" not known yet.
        skipped: the last that came before some did not, and it is not known yet whether there were any; -1
            none: RabbitMQ goes on with what is left where it has dropped what was to be read next.
    """

    def __init__(self, process: str, back: int, patience: float) -> None:
        self.process = process
        self.back = back
        self.patience = patience
        self.offset = self.begun = -1
        self.caught_up = False
        self.marked = self.skipped = -1
        self.stream = ""
        self._doubles = Doubles()
        self._last = 0
        self._expected: float | None = None
        # Nothing is read until it has been said where to begin.
        self._stale = False
        # What a stream was called that has lost what was in it.
        self._lost = ""
        self._named = False
        self._name_at = -math.inf

    @property
    def expecting(self) -> bool:
        """The last message has not come again yet."""
        return self._expected is not None

    def where(self, now: float) -> dict[str, Any]:
        """The arguments of the consumer of a new connection."""
        self._stale = False
        if self.offset < 0:
            return {"x-stream-offset": f"{self.back}s"}
        self._expected = now + self.patience
        return {"x-stream-offset": self.offset}

    def late(self, now: float) -> bool:
        """The last message has not come again for a while: find out where the stream ends."""
        if self._expected is None or now <= self._expected:
            return False
        self._expected = now + self.patience
        return True

    def shorter(self, offset: int) -> bool:
        """Whether the stream is another, as what was published just now has this offset."""
        return self._expected is not None and offset <= self.offset

    def long_enough(self) -> None:
        """There are messages behind the last that came: it will come, whenever that is."""
        if self._expected is not None:
            self._expected = math.inf

    def forget(self) -> None:
        """The stream is another: read it from its beginning."""
        self.offset = self.begun = self.skipped = -1
        self.caught_up = False
        self._doubles.clear()
        self._expected = None
        self._stale = True
        # It may be the same, and have lost its end.
        self._lost = self.stream or self._lost
        self.stream = ""

    def to_name(self, now: float) -> str:
        """What to say that the stream is called, now; "" nothing. It counts as said once it has come."""
        if not self.caught_up or self._expected is not None:
            return ""
        if self._named:
            self._named = False
            self._name_at = now + min(SAY, max(60.0, self.back / 4))
        if now < self._name_at:
            return ""
        self._name_at = now + SAY_AGAIN
        return self.stream

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
        elif not expected and offset > self.offset + 1 + OWN and self.skipped < 0:
            self.skipped = self.offset
        self.offset, self._last = offset, _print(delivery)
        if delivery.kind == protocol.MARK:
            return self._mark(delivery, offset)
        return said(delivery, offset, self._doubles)

    def _mark(self, delivery: Delivery, offset: int) -> Passed:
        stream, proposed = protocol.marked(delivery.body)
        if stream and stream != self._lost:
            self.stream, self._named = stream, True
        elif not stream and not self.stream and proposed != self._lost:
            self.stream = proposed
        if delivery.message_id != self.process or self.caught_up:
            return OTHERS_MARK
        self.caught_up, self.marked = True, offset
        # Whoever begins later may not read as far back.
        self._named, self._name_at = False, -math.inf
        return MARKED

    def _follows(self, delivery: Delivery, offset: int) -> bool:
        """Whether the first delivery of a new connection may be of the same stream."""
        return offset > self.offset or (offset == self.offset and _print(delivery) == self._last)


def _print(delivery: Delivery) -> int:
    """What tells one message from another."""
    return hash((delivery.key, delivery.message_id, delivery.body))
