"""What members missed and is not kept any more, read from the stream anew: for all at once."""

from collections import deque
from collections.abc import Callable
from typing import Any

from kirsch.amqp.doubles import Doubles
from kirsch.amqp.message import Delivery
from kirsch.amqp.reader import OWN, Said, said
from kirsch.amqp.room import Behind, Room, Rooms
from kirsch.websocket.message import Prepared

# How many messages the broker sends ahead, and after how many it is told that there may be more.
AHEAD, BATCH = 200, 100
# Who is so many times further behind than another waits for that one.
FAR = 8

Member = tuple[Room, Any, Behind]
Handled = Callable[[], None]
Heard = Callable[[Delivery, Handled], None]
# Read the stream from an offset on, until what is returned is called.
Open = Callable[[int, Heard, Callable[[str], None]], Callable[[], None]]


class Backlog:
    """One reading of the stream at a time, from where the one is who is furthest behind.

    All who are behind and whom it comes by are given what it brings, each until it is where its room's
    history begins. Who does not take more for now is left to a later reading, unless it is the only one; and
    so is who is very much further behind than others.

    Whoever uses it holds the Bridge's lock. `more` has the broker send more, in a moment: others have their
    turn. `doubt` is called where the broker has passed something over, and has `begins` told where the stream
    begins now: then it is known whether that was dropped.
    """

    def __init__(
        self, rooms: Rooms, open_: Open, more: Callable[[Handled], None], doubt: Callable[[], object]
    ) -> None:
        self._rooms = rooms
        self._open = open_
        self._more = more
        self._doubt = doubt
        # Who may have missed something, and after which offset.
        self._doubted: list[tuple[int, Room, Any]] = []
        self._stop: Callable[[], None] | None = None
        # Up to where all has been read since it began; None: nothing has come yet.
        self._offset: int | None = None
        self._served: list[Member] = []
        self._names: set[str] = set()
        self._doubles = Doubles()
        self._waiting: deque[tuple[Delivery, Handled]] = deque()
        self._read = 0

    @property
    def reading(self) -> bool:
        return self._stop is not None

    @property
    def doubting(self) -> bool:
        """Whether it is not known yet if something was dropped before it was read."""
        return bool(self._doubted)

    def begins(self, first: int) -> None:
        """The stream has nothing before this offset."""
        doubted, self._doubted = self._doubted, []
        for offset, room, member in doubted:
            if offset < first - 1:
                self._rooms.missing(room, member)

    def look(self) -> None:
        """Begin to read if somebody wants it, and go on with what waited for a member."""
        if self._stop is not None:
            self._settle()
            self._take_along()
            self._work()
        if self._stop is None:
            self._begin()

    def lost(self) -> None:
        """The connection is gone, or the stream."""
        self._end()

    # How.

    def _begin(self) -> None:
        wanting = self._rooms.wanting()
        if not wanting:
            return
        far = FAR * min(map(self._distance, wanting))
        wanting = [each for each in wanting if self._distance(each) <= far]
        self._offset, self._doubles, self._read = None, Doubles(), 0
        self._serve(wanting)
        begun = self._doubles

        def heard(delivery: Delivery, handled: Handled) -> None:
            # What another reading brought is nothing to this.
            if self._doubles is begun and self._stop is not None:
                self._waiting.append((delivery, handled))
                self._work()

        def ended(_: str) -> None:
            if self._doubles is begun:
                self._end()

        first = min(behind.offset for _, _, behind in wanting)
        self._stop = self._open(max(0, first), heard, ended)

    def _distance(self, member: Member) -> int:
        return self._rooms.offset - member[2].offset

    def _serve(self, members: list[Member]) -> None:
        self._served = members
        self._names = {room.name for room, _, _ in members}

    def _take_along(self) -> None:
        """Those who have come meanwhile, and need nothing that it has gone by; or make way for them."""
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
                # It was the last that anybody wanted.
                return
            self._waiting.popleft()
            self._read += 1
            if self._read % BATCH == 0:
                self._more(handled)
                self._settle()

    def _pass_by(self, delivery: Delivery, offset: int) -> bool:
        """Give a message to those who want it; False if it has to wait."""
        if self._offset is None:
            # What is before the first that comes is not in the stream any more.
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
            self._doubt()
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
            # It reads, if slowly: what has come is kept for it; or it does not, and the Rooms end that.
            self._forget_who_left()
            return not self._served
        message = said(delivery, offset, self._doubles)
        if isinstance(message, Said):
            prepared = Prepared(message.text)
            for room, member, behind in wanted:
                if not self._rooms.give(room, member, behind, offset, prepared):
                    self._leave(behind)
        if not self._served:
            self._end()
        return True

    def _others(self) -> list[Member]:
        """Who wants to be given something, and is not."""
        served = {id(behind) for _, _, behind in self._served}
        return [each for each in self._rooms.wanting() if id(each[2]) not in served]

    def _settle(self) -> None:
        """All that was read is behind those whom it came by; who needs no more leaves."""
        for room, _, behind in tuple(self._served):
            if self._offset is not None:
                behind.offset = max(behind.offset, self._offset)
            if behind.offset >= room.history.dropped:
                self._leave(behind)
        self._forget_who_left()

    def _leave(self, behind: Behind) -> None:
        """It is served no more; all before the message that comes now it has."""
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
