"""Replay of the stream for members who are behind: one reading for all of them."""

from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from kirsch.amqp.consumer import OWN, Deduplicator, Message, decode
from kirsch.amqp.message import Delivery
from kirsch.amqp.room import Behind, Room, Rooms
from kirsch.websocket import Prepared

# Messages the broker sends ahead; messages after which it may send more.
AHEAD, BATCH = 200, 100
# A member this many times further behind than another waits for that one.
FAR = 8

Member = tuple[Room, Any, Behind]
Handled = Callable[[], None]
Receive = Callable[[Delivery, Handled], None]


class Stream(Protocol):
    """The room stream, as a Replay reads it."""

    def read_from(self, offset: int, receive: Receive, ended: Callable[[str], None]) -> Callable[[], None]:
        """Read from an offset on, until the returned function is called."""

    def read_on(self, handled: Handled) -> None:
        """Call `handled` in a moment: more may come then."""

    def find_first(self) -> None:
        """Have `Replay.begins` told the stream's first offset."""


class Replay:
    """Reads the stream from the position of the member who is furthest behind.

    Every member who is behind receives its messages from this one reading, up to the beginning of its room's
    history. A member that takes no more for now waits for a later reading, unless it is the only one; and so
    does one that is very much further behind than others.

    Its caller holds the Bridge's lock.
    """

    def __init__(self, rooms: Rooms, stream: Stream) -> None:
        self._rooms = rooms
        self._stream = stream
        # Members that may have missed something, and after which offset.
        self._doubted: list[tuple[int, Room, Any]] = []
        self._stop: Callable[[], None] | None = None
        # Everything up to this offset has been read; None before the first delivery.
        self._offset: int | None = None
        self._served: list[Member] = []
        self._names: set[str] = set()
        self._seen = Deduplicator()
        self._waiting: deque[tuple[Delivery, Handled]] = deque()
        self._read = 0

    @property
    def reading(self) -> bool:
        return self._stop is not None

    @property
    def doubting(self) -> bool:
        """True while it is unknown whether messages were dropped before they were read."""
        return bool(self._doubted)

    def begins(self, first: int) -> None:
        """Take the stream's first offset: members that doubted know now whether they missed messages."""
        doubted, self._doubted = self._doubted, []
        for offset, room, member in doubted:
            if offset < first - 1:
                self._rooms.missing(room, member)

    def look(self) -> None:
        """Begin to read if a member needs it, and go on with what waited for a member."""
        if self._stop is not None:
            self._settle()
            self._take_along()
            self._work()
        if self._stop is None:
            self._begin()

    def lost(self) -> None:
        """Stop: the connection is gone, or the stream was replaced."""
        self._end()

    def _begin(self) -> None:
        wanting = self._rooms.wanting()
        if not wanting:
            return
        far = FAR * min(map(self._distance, wanting))
        wanting = [each for each in wanting if self._distance(each) <= far]
        self._offset, self._seen, self._read = None, Deduplicator(), 0
        self._serve(wanting)
        begun = self._seen

        def receive(delivery: Delivery, handled: Handled) -> None:
            # An earlier reading may still deliver.
            if self._seen is begun and self._stop is not None:
                self._waiting.append((delivery, handled))
                self._work()

        def ended(_: str) -> None:
            if self._seen is begun:
                self._end()

        first = min(behind.offset for _, _, behind in wanting)
        self._stop = self._stream.read_from(max(0, first), receive, ended)

    def _distance(self, member: Member) -> int:
        return self._rooms.offset - member[2].offset

    def _serve(self, members: list[Member]) -> None:
        self._served = members
        self._names = {room.name for room, _, _ in members}

    def _take_along(self) -> None:
        """Serve members who came meanwhile and need nothing already read; or end, to begin with them."""
        more = self._others()
        if self._stop is None or self._offset is None or not more:
            return
        if FAR * min(map(self._distance, more)) < self._rooms.offset - self._offset:
            self._end()
        else:
            self._serve(self._served + [each for each in more if each[2].offset >= self._offset])

    def _work(self) -> None:
        while self._waiting and self._stop is not None:
            delivery, handled = self._waiting[0]
            offset = delivery.offset
            if offset is not None and not self._pass_by(delivery, offset):
                return
            if not self._waiting:
                # No member needs more.
                return
            self._waiting.popleft()
            self._read += 1
            if self._read % BATCH == 0:
                self._stream.read_on(handled)
                self._settle()

    def _pass_by(self, delivery: Delivery, offset: int) -> bool:
        """Give a message to the members who need it; return False if it has to wait."""
        if self._offset is None:
            # The stream has nothing before its first delivery.
            for room, member, behind in tuple(self._served):
                if behind.offset < offset - 1 and not self._rooms.give(
                    room, member, behind, offset - 1, None
                ):
                    self._leave(behind)
            self._offset = offset - 1
        elif offset > self._offset + 1 + OWN:
            for room, member, behind in self._served:
                if behind.offset < offset - 1:
                    self._doubted.append((max(self._offset, behind.offset), room, member))
            self._offset = offset - 1
            self._stream.find_first()
        if offset <= self._offset:
            return True
        if delivery.key in self._names:
            here = [each for each in self._served if each[0].name == delivery.key]
            wanted = [each for each in here if each[2].offset < offset]
            if wanted and not self._give(delivery, offset, wanted):
                return False
        self._offset = offset
        return True

    def _give(self, delivery: Delivery, offset: int, wanted: list[Member]) -> bool:
        full = [each for each in wanted if each[1].queued > each[1].limits.queue // 2]
        if len(full) == len(self._served) and not self._others():
            # The only member reads slowly: the message waits for it. Rooms closes one that does not read.
            self._forget_who_left()
            return not self._served
        message = decode(delivery, offset, self._seen)
        if isinstance(message, Message):
            prepared = Prepared(message.text)
            for room, member, behind in wanted:
                if not self._rooms.give(room, member, behind, offset, prepared):
                    self._leave(behind)
        if not self._served:
            self._end()
        return True

    def _others(self) -> list[Member]:
        """Return members who are behind and not served."""
        served = {id(behind) for _, _, behind in self._served}
        return [each for each in self._rooms.wanting() if id(each[2]) not in served]

    def _settle(self) -> None:
        """Advance every member to what was read; members who need no more leave."""
        for room, _, behind in tuple(self._served):
            if self._offset is not None:
                behind.offset = max(behind.offset, self._offset)
            if behind.offset >= room.history.dropped:
                self._leave(behind)
        self._forget_who_left()

    def _leave(self, behind: Behind) -> None:
        """Serve a member no more; it has everything before the current message."""
        if self._offset is not None:
            behind.offset = max(behind.offset, self._offset)
        self._serve([each for each in self._served if each[2] is not behind])

    def _forget_who_left(self) -> None:
        here = [each for each in self._served if each[0].behind.get(id(each[1])) == (each[1], each[2])]
        if len(here) < len(self._served):
            self._serve(here)
        if not here:
            self._end()

    def _end(self) -> None:
        stop, self._stop = self._stop, None
        self._waiting.clear()
        self._serve([])
        if stop is not None:
            stop()
