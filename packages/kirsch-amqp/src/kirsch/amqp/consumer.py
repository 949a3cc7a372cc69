"""The consumer of the room stream, as a state machine: deliveries in, events out. No I/O, no clock.

A process reads the stream from some time back, and after a lost connection from the last message it received.
That message has to come again, however long it takes: if another comes in its place, the stream was replaced.
RabbitMQ sends nothing for an offset beyond the end, so a stream that became shorter is silent: `tick` has
the end of the stream found then (FindEnd), by means of a message that is published now.

A stream has a name, by which browsers recognise it: a random one that processes agree on by marks in it. A
process that begins to read proposes a name, and the oldest proposal holds. A process that has read
everything states the name, with the offset of its proposal, and repeats it every few hours for processes
that begin later. A process that has not read back as far as the proposal may state a younger name: it is
told the older one, and keeps what it has in memory: the stream is the same.
"""

import math
from collections import OrderedDict
from dataclasses import dataclass
from secrets import token_hex
from typing import Any, Final

from kirsch.amqp import protocol
from kirsch.amqp.message import Delivery

# RabbitMQ uses an offset of its own at the start of a segment, for what it knows of publishers.
OWN: Final = 1
# Seconds between statements of the stream's name, and until one that nobody received is repeated.
STATE, STATE_AGAIN = 6 * 3600.0, 5.0
# Seconds for which the first offset that was found is taken as the stream's beginning.
FRESH = 2.0
# Numbers below a client's highest that are still told apart.
WINDOW: Final = 1024
_MASK: Final = (1 << WINDOW) - 1
# Numbers of a client whose content is remembered: more than a connection may have unconfirmed.
CONTENTS: Final = 128


class Deduplicator:
    """Message numbers seen of each client: clients send again what they do not know to be confirmed.

    Exact for the last 1024 numbers of a client; a number further behind counts as a duplicate. Remembers the
    `clients` that sent last, and of each the content of its last 128 numbers.
    """

    def __init__(self, clients: int = 20_000) -> None:
        self._clients = clients
        # The highest number; a bit for each number below it, the lowest bit is its own; contents of numbers.
        self._seen: OrderedDict[str, tuple[int, int, dict[int, str]]] = OrderedDict()

    def first(self, client: str, number: int, content: str = "") -> bool:
        """Return True for a number that this client has not sent before, and remember it with its content."""
        highest, bits, contents = self._seen.pop(client, (0, 0, {}))
        if number > highest:
            ahead = number - highest
            bits = ((bits << ahead) & _MASK if ahead < WINDOW else 0) | 1
            highest, new = number, True
        else:
            behind = highest - number
            new = behind < WINDOW and not bits >> behind & 1
            if new:
                bits |= 1 << behind
        if new and content:
            contents[number] = content
            if len(contents) > CONTENTS:
                del contents[next(iter(contents))]
        self._seen[client] = highest, bits, contents
        if len(self._seen) > self._clients:
            self._seen.popitem(last=False)
        return new

    def same(self, client: str, number: int, content: str) -> bool:
        """Return True if a number was seen with this content before; an empty content says nothing."""
        _, _, contents = self._seen[client]
        return not content or contents.get(number) == content

    def clear(self) -> None:
        self._seen.clear()


# Events: what a delivery is, and what is to be done besides.


@dataclass(frozen=True, slots=True)
class Message:
    """A message for a room, as browsers get it."""

    room: str
    offset: int
    text: str


@dataclass(frozen=True, slots=True)
class Passed:
    """A delivery that holds nothing for a room, and why."""

    why: str


@dataclass(frozen=True, slots=True)
class Missed:
    """Messages before this offset are not known here: members miss them.

    `slow` if the broker dropped them before this process had read them.
    """

    before: int
    slow: bool = False


@dataclass(frozen=True, slots=True)
class First:
    """The stream begins at this offset."""

    offset: int


@dataclass(frozen=True, slots=True)
class Renamed:
    """The stream has another name than was told; all up to this offset has been read."""

    stream: str
    offset: int


@dataclass(frozen=True, slots=True)
class Mark:
    """Publish a mark to the stream: `body` as JSON. One that is `kept` is published until it is confirmed."""

    message_id: str
    body: dict[str, str | int]
    kept: bool = False


@dataclass(frozen=True, slots=True)
class FindEnd:
    """Read from the last message of the stream on, and give what comes to `end_seen`."""


@dataclass(frozen=True, slots=True)
class EndFound:
    """Stop what FindEnd began."""


@dataclass(frozen=True, slots=True)
class FindFirst:
    """Begin anew to read from the first message of the stream, and give it to `first_seen`."""


CAUGHT_UP = Passed("own mark")
OTHERS_MARK = Passed("mark of another process")
DUPLICATE = Passed("duplicate")
CONFLICT = Passed("another message with the number of an earlier one")
FOREIGN = Passed("neither JSON nor text")
SEEN = Passed("seen before")
REPLACED = Passed("the stream was replaced")

Event = Message | Passed | Missed | First | Renamed | Mark | FindEnd | EndFound | FindFirst


def decode(delivery: Delivery, offset: int, seen: Deduplicator) -> Message | Passed:
    """Return a delivery that is no mark as browsers get it."""
    body = delivery.body
    if delivery.kind != protocol.MESSAGE:
        body = protocol.foreign(delivery.key, body, delivery.content_type)
        if not body:
            return FOREIGN
    else:
        client, number = protocol.sender(delivery.message_id)
        content = str(delivery.headers.get(protocol.CONTENT, ""))
        if client and not seen.first(client, number, content):
            return DUPLICATE if seen.same(client, number, content) else CONFLICT
    return Message(delivery.key, offset, protocol.stamped(body, offset))


class StreamConsumer:
    """One process's position in the room stream.

    Attributes:
        process: the process's name, by which it recognises its own mark.
        back: seconds to read back when nothing has been read yet.
        offset: last offset received; -1 before the first.
        begun: first offset since which none is missing; -1 before the first.
        caught_up: the process's own mark came back, so everything published before has been read.
        marked: offset of that mark.
        stream: the stream's name; "" while unknown.
        skipped: last offset before a gap whose cause is not known yet; -1 none. RabbitMQ goes on with what is
            left where it has dropped the messages that were to be read next.
    """

    def __init__(self, process: str, back: int, patience: float) -> None:
        self.process = process
        self.back = back
        self.offset = self.begun = -1
        self.caught_up = False
        self.marked = self.skipped = -1
        self.stream = ""
        # Seconds after which a last message that has not come again is looked for.
        self._patience = patience
        self._seen = Deduplicator()
        # Hash of the last message, which has to come again after a reconnect; and until when.
        self._last = 0
        self._expected: float | None = None
        # True from the replacement of the stream until the next connection: what still comes is of no use.
        self._stale = False
        # Message id of the probe that FindEnd waits for.
        self._probe = ""
        self._finding_first = False
        self._first_found_at = -math.inf
        # Offset of the proposal of the name.
        self._born = -1
        # Name of a stream that has lost messages: it is not to be taken again.
        self._lost_name = ""
        # Name in the last Renamed.
        self._told = ""
        # True if the name that was taken last is an older one of the same stream.
        self._same_stream = False
        # True once somebody stated the name; and when to state it next.
        self._stated = False
        self._state_at = -math.inf

    @property
    def resuming(self) -> bool:
        """True while the last message has not come again."""
        return self._expected is not None

    @property
    def up_to_date(self) -> bool:
        """True when every message published before the process's own mark has been read."""
        return self.caught_up and not self.resuming

    # What happens to the connection.

    def connect(self, now: float) -> dict[str, Any]:
        """Return the arguments of a new connection's consumer."""
        self._stale = False
        if self.offset < 0:
            return {"x-stream-offset": f"{self.back}s"}
        self._expected = now + self._patience
        return {"x-stream-offset": self.offset}

    def lost(self) -> list[Event]:
        """Forget what was being looked for: the connection is gone."""
        self._finding_first = False
        self._first_found_at = -math.inf
        return self._end_found()

    def mark(self) -> Mark:
        """Return the mark that tells when everything before it has been read; it proposes a name."""
        return Mark(self.process, {"proposed": token_hex(8)}, kept=True)

    def tick(self, now: float) -> list[Event]:
        """Once a second while the broker is there."""
        events: list[Event] = []
        if self._expected is not None and now > self._expected:
            self._expected = now + self._patience
            if not self._probe:
                events.append(FindEnd())
            self._probe = f"{self.process}.{token_hex(4)}"
            events.append(Mark(self._probe, {}))
        if name := self._name_to_state(now):
            body: dict[str, str | int] = {"stream": name, "born": self._born}
            if self._lost_name:
                body["replaces"] = self._lost_name
            events.append(Mark("", body))
        if self.skipped >= 0:
            # The connection may have been lost before the beginning was found.
            events += self.find_first(now)
        return events

    # What is read.

    def receive(self, delivery: Delivery, offset: int) -> list[Event]:
        """Take the stream's next delivery. The last event says what it is: a Message or Passed."""
        resuming, self._expected = self._expected is not None, None
        events = self._end_found()
        if resuming and not self._follows(delivery, offset):
            return events + self._replaced()
        if self._stale or offset <= self.offset:
            return [*events, SEEN]
        # A message that follows at once may have been on its way when the connection was lost.
        if self.begun < 0 or (resuming and offset > self.offset + 1):
            # The process was away for so long that unread messages were dropped; or it has just begun.
            self.begun = offset
            events.append(Missed(offset))
        elif not resuming and offset > self.offset + 1 + OWN and self.skipped < 0:
            self.skipped = self.offset
            events += self.find_first_anew()
        self.offset, self._last = offset, _hash(delivery)
        is_mark = delivery.kind == protocol.MARK
        found = self._receive_mark(delivery, offset) if is_mark else decode(delivery, offset, self._seen)
        if is_mark and self.caught_up and self.stream != self._told:
            before, self._told = self._told, self.stream
            if before:
                if found is not CAUGHT_UP and not self._same_stream:
                    events.append(Missed(self.offset))
                # A browser that has received everything may come back with this name and offset.
                events.append(Renamed(self.stream, self.offset))
        events.append(found)
        return events

    def _receive_mark(self, delivery: Delivery, offset: int) -> Passed:
        mark = protocol.marked(delivery.body)
        if mark.stream and mark.stream != self._lost_name:
            born = offset if mark.born is None else mark.born
            older = mark.born is None or born < self._born or mark.replaces == self.stream
            if mark.stream == self.stream or not self.stream or older:
                self._same_stream = mark.born is not None and mark.replaces != self.stream
                self.stream, self._born, self._stated = mark.stream, born, True
            else:
                # A process that reads back less far than this one does not know the name.
                self._stated, self._state_at = False, -math.inf
        elif not mark.stream and not self.stream and mark.proposed != self._lost_name:
            self.stream, self._born = mark.proposed, offset
        if delivery.message_id != self.process or self.caught_up:
            return OTHERS_MARK
        self.caught_up, self.marked = True, offset
        # A process that begins later may not read back as far.
        self._stated, self._state_at = False, -math.inf
        return CAUGHT_UP

    def _follows(self, delivery: Delivery, offset: int) -> bool:
        """Return True unless the first delivery of a new connection shows that the stream was replaced."""
        return offset > self.offset or (offset == self.offset and _hash(delivery) == self._last)

    def _replaced(self) -> list[Event]:
        """Begin with another stream: it is read from its beginning by a new connection."""
        events = self.lost()
        self.offset = self.begun = self.skipped = -1
        self.caught_up = False
        self._seen.clear()
        self._expected = None
        self._stale = True
        # It may be the same stream that has lost its end.
        self._lost_name = self.stream or self._lost_name
        self.stream = ""
        # As at the start: nobody is let in before the stream has been read.
        return [*events, self.mark(), REPLACED]

    def _name_to_state(self, now: float) -> str:
        """Return the name to be stated now, or "". It counts as stated once the mark has come back."""
        if not self.up_to_date:
            return ""
        if self._stated:
            self._stated = False
            self._state_at = now + min(STATE, max(60.0, self.back / 4))
        if now < self._state_at:
            return ""
        self._state_at = now + STATE_AGAIN
        return self.stream

    # Where the stream ends.

    def end_seen(self, delivery: Delivery, offset: int) -> list[Event]:
        """Take a delivery that FindEnd brought."""
        if not self._probe:
            return []
        if offset > self.offset:
            # There are messages behind the last one, so that one will come, whenever that is.
            if self._expected is not None:
                self._expected = math.inf
            return self._end_found()
        if delivery.message_id == self._probe and self._expected is not None:
            # A message published just now has an offset that was there before.
            return self._replaced()
        return []

    def _end_found(self) -> list[Event]:
        if not self._probe:
            return []
        self._probe = ""
        return [EndFound()]

    # Where the stream begins.

    def first_known(self, now: float) -> bool:
        """Return True while the first offset that was found is recent."""
        return now - self._first_found_at <= FRESH

    def find_first(self, now: float) -> list[Event]:
        """Find the stream's first offset, unless it is known or being looked for."""
        return [] if self.first_known(now) or self._finding_first else self.find_first_anew()

    def find_first_anew(self) -> list[Event]:
        """Find the stream's first offset as it is now."""
        self._first_found_at = -math.inf
        self._finding_first = True
        return [FindFirst()]

    def first_not_found(self) -> None:
        """The reading for FindFirst ended by itself, or could not begin."""
        self._finding_first = False

    def first_seen(self, offset: int, now: float) -> list[Event]:
        """Take the offset of the delivery that FindFirst brought."""
        self._finding_first = False
        self._first_found_at = now
        skipped, self.skipped = self.skipped, -1
        missed = [Missed(offset, slow=True)] if 0 <= skipped < offset - 1 else []
        return [*missed, First(offset)]


def _hash(delivery: Delivery) -> int:
    """Return a number that tells one message from another."""
    return hash((delivery.key, delivery.message_id, delivery.body))
