"""The rooms of one process: who is to hear what, and who is behind. It sends, and does no other I/O."""

import logging
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Literal

from kirsch.amqp.gathering import Gathering
from kirsch.amqp.history import History
from kirsch.amqp.protocol import text
from kirsch.websocket.errors import Closed, Slow
from kirsch.websocket.message import Prepared

log = logging.getLogger("kirsch.amqp")

# What a room costs besides its messages, in bytes.
ROOM = 1500


class Behind:
    """A member that is being sent what it has not heard yet, as fast as it reads.

    Attributes:
        offset: what it has heard up to.
        since: when it last took something.
        missed: it may have missed who came and went.
        deep: what is not kept any more it is given from the stream (Backlog); else it hears of a gap.
    """

    __slots__ = ("deep", "missed", "offset", "since")

    def __init__(self, offset: int, since: float | None = None, deep: bool = False) -> None:
        self.offset = offset
        self.since = since
        self.missed = since is None
        self.deep = deep


class Room:
    """One room of this process.

    Attributes:
        members: those who hear each message at once. behind: those who do not yet.
        history: what was said. quiet: members who do not care for presence.
    """

    __slots__ = ("behind", "history", "members", "name", "quiet")

    def __init__(self, name: str, dropped: int) -> None:
        self.name = name
        self.members: dict[int, Any] = {}
        self.behind: dict[int, tuple[Any, Behind]] = {}
        self.quiet: set[int] = set()
        self.history = History(dropped)

    @property
    def empty(self) -> bool:
        return not (self.members or self.behind)

    def everyone(self) -> list[Any]:
        return [*self.members.values(), *(member for member, _ in self.behind.values())]


class Rooms:
    """All rooms of a process, with what is kept of them. Whoever uses it holds the Bridge's lock.

    Members are WebSockets; `lag(member)` is called for one whose queue is full, if slow ones are closed,
    or who takes nothing for too long; `back(room, member)` for one who fell behind and has caught up.

    Who resumes from before what is kept, but no more than `reach` messages of the stream back, is to be given
    the rest from there: `wanting` says who, `give` does it.

    Attributes:
        offset: the stream's last that has come; -1 none.
        first: the stream has nothing before this offset, as far as is known.
        delivered, gaps: how many messages were sent to members, and how often somebody missed some.
    """

    def __init__(
        self,
        *,
        slow: Literal["close", "drop"],
        lag: Callable[[Any], None],
        back: Callable[[Room, Any], None],
        count: int,
        size: int,
        memory: int,
        reach: int = 0,
        gathering: Gathering | None = None,
    ) -> None:
        self._reach = reach
        self._gathering = gathering
        self._slow = slow
        self._lag = lag
        self._back = back
        self._count = count
        self._size = size
        self._memory = memory
        # The one that was spoken in last is the last.
        self._rooms: OrderedDict[str, Room] = OrderedDict()
        # The highest offset of all that was dropped with its room.
        self._forgotten = -1
        self.size = 0
        self.offset = -1
        self.first = 0
        self.delivered = 0
        self.gaps = 0
        # Who is behind anywhere.
        self.lagging: set[str] = set()

    def __len__(self) -> int:
        return len(self._rooms)

    def get(self, name: str) -> Room | None:
        return self._rooms.get(name)

    def room(self, name: str) -> Room:
        """One of that name; it is made if there is none."""
        found = self._rooms.get(name)
        if found is None:
            found = self._rooms[name] = Room(name, self._forgotten)
        return found

    def say(self, name: str, offset: int, message: Prepared) -> None:
        """A message of the stream: it is kept, and all members are sent it."""
        room = self.room(name)
        self._rooms.move_to_end(name)
        had = bool(len(room.history))
        self.size += room.history.add(offset, message, self._count, self._size)
        self.size += ROOM * (bool(len(room.history)) - had)
        if room.members:
            before = message.held
            self._send(room, offset, message)
            self.size += room.history.grew(message, before)
        if self.size > self._memory:
            self._forget()

    def _send(self, room: Room, offset: int, message: Prepared) -> None:
        slow: list[Any] = []
        members = tuple(room.members.values())
        if self._gathering is not None:
            self._gathering.begin(room.name, members, len(message))
        for member in members:
            try:
                member.send(message)
            except Slow:
                slow.append(member)
            except Closed:
                room.members.pop(id(member), None)
        self.delivered += len(members) - len(slow)
        for member in slow:
            self._full(room, member, offset - 1)

    def tell(self, room: Room, message: str | Prepared, quiet: bool = False) -> None:
        """What is no part of the history, for those who are not behind and care, or for the quiet too."""
        for member in tuple(room.members.values()):
            if quiet or id(member) not in room.quiet:
                self.tell_one(room, member, message)

    def tell_one(self, room: Room, member: Any, message: str | Prepared) -> None:
        try:
            member.send(message)
        except Slow:
            self._full(room, member, self.offset)
        except Closed:
            room.members.pop(id(member), None)

    def join(
        self, name: str, member: Any, since: int | None, last: int, now: float, same: bool = True
    ) -> tuple[int, bool]:
        """Have a member hear what it asks for, and what comes: after which offset, and whether that is all.

        It is sent that by `catch_up`. An offset that has not come yet is of a stream that is gone, as is one
        that is not of the `same`.
        """
        room = self.room(name)
        room.members.pop(id(member), None)
        history = room.history
        if since is None:
            past = history.last(last).messages
            offset, complete = past[0][0] - 1 if past else self.offset, True
        elif same and self.far(name, since):
            # As far back as the stream goes; what is kept is there in any case.
            offset = min(max(since, self.first - 1), history.dropped)
            complete = offset == since
        else:
            complete = same and history.dropped <= since <= self.offset
            offset = since if complete else history.dropped
        room.behind[id(member)] = member, Behind(offset, now, deep=self._reach > 0)
        self.lagging.add(name)
        return offset, complete

    def far(self, name: str, since: int) -> bool:
        """Whether what follows an offset is not kept any more, and is to be had from the stream."""
        room = self._rooms.get(name)
        dropped = self._forgotten if room is None else room.history.dropped
        return since < dropped and self.offset - since <= self._reach

    def discard(self, room: Room, member: Any) -> None:
        """A member hears no more."""
        room.members.pop(id(member), None)
        room.behind.pop(id(member), None)
        room.quiet.discard(id(member))
        if room.empty:
            self.lagging.discard(room.name)
            if not len(room.history) and room.history.dropped <= self._forgotten:
                self._rooms.pop(room.name, None)

    def catch_up(self, name: str, now: float, patience: float) -> None:
        """Send those who are behind in a room what they have not heard, as far as they read it."""
        room = self._rooms.get(name)
        if room is None:
            self.lagging.discard(name)
            return
        for member, behind in tuple(room.behind.values()):
            if behind.since is None:
                behind.since = now
            self._catch_up(room, member, behind, now)
            if now - behind.since > patience and id(member) in room.behind:
                self._lag(member)
        if not room.behind:
            self.lagging.discard(name)

    def _catch_up(self, room: Room, member: Any, behind: Behind, now: float) -> None:
        low = member.limits.queue // 2
        # Until all of it is sent, others may come and go.
        missed, behind.missed = behind.missed, True
        if member.buffered > low:
            return
        behind.since = now
        past = room.history.after(behind.offset)
        if behind.deep and not past.complete:
            # The stream has it.
            return
        try:
            if not past.complete:
                self._gap(room, member, behind, room.history.dropped)
            for offset, message in past.messages:
                if member.queued > low:
                    return
                before = message.held
                member.send(message)
                self.size += room.history.grew(message, before)
                self.delivered += 1
                behind.offset = offset
        except Slow:
            return
        except Closed:
            room.behind.pop(id(member), None)
            return
        if room.behind.pop(id(member), None) is None:
            # Its connection ended as it was written to.
            return
        room.members[id(member)] = member
        if missed and id(member) not in room.quiet:
            self._back(room, member)

    def _gap(self, room: Room, member: Any, behind: Behind, offset: int) -> None:
        """What it has not heard up to this offset is not to be had any more."""
        self.gaps += 1
        member.send(text(type="gap", room=room.name))
        behind.offset = offset

    # From the stream.

    def wanting(self) -> list[tuple[Room, Any, Behind]]:
        """Who is to be given what is not kept any more, and has room for it."""
        return [
            (room, member, behind)
            for room in map(self._rooms.get, self.lagging)
            if room is not None
            for member, behind in room.behind.values()
            if behind.deep
            and behind.offset < room.history.dropped
            and member.buffered <= member.limits.queue // 2
        ]

    def give(self, room: Room, member: Any, behind: Behind, offset: int, message: Prepared | None) -> bool:
        """A message of the stream for one who wants it, or (None) of a gap; False: it could not be given."""
        if room.behind.get(id(member)) != (member, behind) or member.queued > member.limits.queue // 2:
            return False
        try:
            if message is None:
                self._gap(room, member, behind, offset)
                return True
            member.send(message)
        except Slow:
            return False
        except Closed:
            room.behind.pop(id(member), None)
            return False
        self.delivered += 1
        behind.offset = offset
        return True

    def missing(self, room: Room, member: Any) -> None:
        """One who is still there has missed something."""
        if id(member) in room.members or id(member) in room.behind:
            self.gaps += 1
            self.tell_one(room, member, text(type="gap", room=room.name))

    def _full(self, room: Room, member: Any, offset: int) -> None:
        """More waits for a member than may."""
        room.members.pop(id(member), None)
        if self._slow == "close":
            self._lag(member)
            return
        room.behind[id(member)] = member, Behind(offset)
        self.lagging.add(room.name)

    def _forget(self) -> None:
        """What was said in rooms where nobody has spoken for longest goes first."""
        for name, room in list(self._rooms.items()):
            if self.size <= self._memory // 4 * 3:
                return
            self._clear(room)
            if room.empty:
                self._forgotten = max(self._forgotten, room.history.dropped)
                del self._rooms[name]

    def _clear(self, room: Room) -> None:
        if len(room.history):
            self.size -= room.history.clear() + ROOM

    def missed(self, offset: int) -> None:
        """Of what came before this offset some was never seen: who is there already has missed it."""
        self._forgotten = max(self._forgotten, offset - 1)
        for room in list(self._rooms.values()):
            had = bool(len(room.history))
            self.size -= room.history.forget(offset)
            self.size -= ROOM * (had - bool(len(room.history)))
            self.gaps += len(room.members)
            self.tell(room, text(type="gap", room=room.name), quiet=True)

    def reset(self) -> None:
        """The stream is another: nothing that was said is in it."""
        for name, room in list(self._rooms.items()):
            room.history = History()
            for member, _ in room.behind.values():
                room.members[id(member)] = member
            room.behind.clear()
            if room.empty:
                del self._rooms[name]
        self.lagging.clear()
        self.size, self.offset, self.first, self._forgotten = 0, -1, 0, -1

    def up_to_date(self) -> list[Any]:
        """Members who have heard all of their rooms."""
        found = {id(member): member for room in self._rooms.values() for member in room.members.values()}
        for room in map(self._rooms.get, self.lagging):
            for member in room.behind if room is not None else ():
                found.pop(member, None)
        return list(found.values())
