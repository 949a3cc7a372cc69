"""The rooms of one process: their members, their newest messages, and members who are behind.

Sends to members, and does no other I/O.
"""

import math
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from kirsch.amqp.batching import Batching
from kirsch.amqp.protocol import text
from kirsch.websocket import Closed, Prepared, Slow

# Bytes that a room takes besides its messages.
ROOM = 1500
# Bytes that a message takes besides its text.
OVERHEAD = 400


@dataclass(frozen=True, slots=True)
class Past:
    """Messages with their offsets, oldest first; `complete` unless some are not kept any more."""

    messages: list[tuple[int, Prepared]]
    complete: bool


class History:
    """The newest messages of one room, in memory.

    Attributes:
        size: bytes, with the compressed forms of messages: their sender reports these by `grew`.
        dropped: highest offset that is not kept any more; -1 none.
    """

    __slots__ = ("_messages", "dropped", "size")

    def __init__(self, dropped: int = -1) -> None:
        self._messages: deque[tuple[int, Prepared]] = deque()
        self.size = 0
        self.dropped = dropped

    def __len__(self) -> int:
        return len(self._messages)

    @property
    def oldest(self) -> float:
        """Offset of the oldest message; infinite without messages."""
        return self._messages[0][0] if self._messages else math.inf

    def add(self, offset: int, message: Prepared, count: int, size: int) -> int:
        """Add the newest message; drop the oldest beyond `count` messages or `size` bytes.

        Returns by how many bytes the history grew.
        """
        before = self.size
        self._messages.append((offset, message))
        self.size += message.held + OVERHEAD
        while len(self._messages) > count or (self.size > size and len(self._messages) > 1):
            self.dropped, gone = self._messages.popleft()
            self.size -= gone.held + OVERHEAD
        return self.size - before

    def grew(self, message: Prepared, before: int) -> int:
        """Count the compressed form that a message got when it was sent; return how many bytes that is.

        `before` is what the message held before it was sent.
        """
        more = message.held - before if self._messages else 0
        self.size += more
        return more

    def after(self, offset: int, most: int | None = None) -> Past:
        """Return the messages after an offset, at most `most` of them."""
        found: list[tuple[int, Prepared]] = []
        for message in reversed(self._messages):
            if message[0] <= offset:
                break
            found.append(message)
        found.reverse()
        return Past(found[:most], offset >= self.dropped)

    def last(self, count: int) -> Past:
        """Return the newest messages."""
        messages = list(self._messages)
        return Past(messages[-count:] if count else [], True)

    def forget(self, before: int) -> int:
        """Drop messages before an offset; return how many bytes they took."""
        size = self.size
        while self._messages and self._messages[0][0] < before:
            self.size -= self._messages.popleft()[1].held + OVERHEAD
        self.dropped = max(self.dropped, before - 1)
        return size - self.size

    def clear(self) -> int:
        """Drop all messages; return how many bytes they took."""
        size, self.size = self.size, 0
        if self._messages:
            self.dropped = self._messages[-1][0]
            self._messages.clear()
        return size


class Behind:
    """Position of a member that is sent older messages first, as fast as it reads.

    Attributes:
        offset: offset of the last message it was sent.
        since: when it last took a message.
        missed: it may have missed changes of presence.
        deep: messages that are not in memory come from the stream (Replay); without it they are a gap.
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
        members: members that are sent each message at once.
        behind: members that are sent older messages first.
        history: the newest messages.
        quiet: members that asked for no presence.
        said: messages of the room that this process has received.
        gaps: number of times a member missed messages.
    """

    __slots__ = ("behind", "gaps", "history", "members", "name", "quiet", "said")

    def __init__(self, name: str, dropped: int) -> None:
        self.name = name
        self.members: dict[int, Any] = {}
        self.behind: dict[int, tuple[Any, Behind]] = {}
        self.quiet: set[int] = set()
        self.history = History(dropped)
        self.said = self.gaps = 0

    @property
    def empty(self) -> bool:
        return not (self.members or self.behind)

    def everyone(self) -> list[Any]:
        return [*self.members.values(), *(member for member, _ in self.behind.values())]


class Rooms:
    """The rooms of a process, with their newest messages. Its caller holds the Bridge's lock.

    Members are WebSockets. `lag(member)` is called for a member whose queue is full, if slow ones are closed,
    or that takes nothing for too long; `back(room, member)` for one that fell behind and has caught up.

    A member that resumes from before the history, by at most `reach` messages of the stream, is sent the rest
    from the stream: `wanting` returns such members, `give` sends to them.

    Attributes:
        offset: last offset of the stream that was received; -1 none.
        first: first offset that the stream still has, as far as is known.
        delivered: messages sent to members.
        gaps: number of times a member missed messages.
        lagging: names of rooms with members who are behind.
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
        batching: Batching | None = None,
    ) -> None:
        self._reach = reach
        self._batching = batching
        self._slow = slow
        self._lag = lag
        self._back = back
        self._count = count
        self._size = size
        self._memory = memory
        # The room with the newest message is the last.
        self._rooms: OrderedDict[str, Room] = OrderedDict()
        # Highest offset of all messages that were dropped with their rooms.
        self._forgotten = -1
        self.size = 0
        self.offset = -1
        self.first = 0
        self.delivered = 0
        self.gaps = 0
        self.lagging: set[str] = set()

    def __len__(self) -> int:
        return len(self._rooms)

    def get(self, name: str) -> Room | None:
        return self._rooms.get(name)

    def room(self, name: str) -> Room:
        """Return the room of that name; make it if there is none."""
        found = self._rooms.get(name)
        if found is None:
            found = self._rooms[name] = Room(name, self._forgotten)
        return found

    def say(self, name: str, offset: int, message: Prepared) -> None:
        """Keep a message of the stream, and send it to all members."""
        room = self.room(name)
        room.said += 1
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
        if self._batching is not None:
            self._batching.begin(room.name, members, len(message))
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
        """Send what is not kept to members that are not behind; to those that want no presence if `quiet`."""
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
        """Add a member, which `catch_up` then sends the `last` messages, or those after the offset `since`.

        Returns the offset after which messages are sent, and True if none is missing. An offset that was not
        received yet belongs to a stream that is gone; so does any offset unless `same`.
        """
        room = self.room(name)
        room.members.pop(id(member), None)
        history = room.history
        if since is None:
            past = history.last(last).messages
            offset, complete = past[0][0] - 1 if past else self.offset, True
        elif same and self.far(name, since):
            # As far back as the stream goes; the history is in memory in any case.
            offset = min(max(since, self.first - 1), history.dropped)
            complete = offset == since
        else:
            complete = same and history.dropped <= since <= self.offset
            offset = since if complete else history.dropped
        room.behind[id(member)] = member, Behind(offset, now, deep=self._reach > 0)
        self.lagging.add(name)
        return offset, complete

    def far(self, name: str, since: int) -> bool:
        """Return True if messages after an offset are not in memory, but within reach in the stream."""
        room = self._rooms.get(name)
        dropped = self._forgotten if room is None else room.history.dropped
        return since < dropped and self.offset - since <= self._reach

    def lacking(self, name: str, last: int) -> int:
        """Return how many of a room's `last` messages are not in memory, though the stream may have them."""
        room = self._rooms.get(name)
        dropped = self._forgotten if room is None else room.history.dropped
        held = 0 if room is None else len(room.history)
        return max(0, last - held) if self._reach and dropped >= self.first else 0

    def earlier(self, name: str, offset: int) -> bool:
        """Return False if the stream certainly has no message of a room up to an offset."""
        history = self.room(name).history
        return history.dropped >= self.first or history.oldest <= offset

    def before(self, name: str) -> int:
        """Return the offset from which all messages of a room are in memory."""
        room = self._rooms.get(name)
        return 1 + (self._forgotten if room is None else room.history.dropped)

    def discard(self, room: Room, member: Any) -> None:
        """Remove a member, and the room if nothing is left of it."""
        room.members.pop(id(member), None)
        room.behind.pop(id(member), None)
        room.quiet.discard(id(member))
        if room.empty:
            self.lagging.discard(room.name)
            if not len(room.history) and room.history.dropped <= self._forgotten:
                self._rooms.pop(room.name, None)

    def catch_up(self, name: str, now: float, patience: float) -> None:
        """Send members who are behind in a room what they have not received, as far as they read it."""
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
        # Until everything is sent, others may come and go.
        missed, behind.missed = behind.missed, True
        if member.buffered > low:
            return
        behind.since = now
        past = room.history.after(behind.offset)
        if behind.deep and not past.complete:
            # Replay sends the messages that are missing here.
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
            # The connection ended while it was written to.
            return
        room.members[id(member)] = member
        if missed and id(member) not in room.quiet:
            self._back(room, member)

    def _gap(self, room: Room, member: Any, behind: Behind, offset: int) -> None:
        """Tell a member that messages up to this offset are gone."""
        self.missed_by(room)
        member.send(text(type="gap", room=room.name))
        behind.offset = offset

    def wanting(self) -> list[tuple[Room, Any, Behind]]:
        """Return members who need messages that are not in memory, and have room for them."""
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
        """Send a member a message of the stream, or tell it of a gap (None); False if it has no room."""
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

    def missed_by(self, room: Room, members: int = 1) -> None:
        """Count members who missed messages."""
        self.gaps += members
        room.gaps += members

    def missing(self, room: Room, member: Any) -> None:
        """Tell a member of a gap, if it is still here."""
        if id(member) in room.members or id(member) in room.behind:
            self.missed_by(room)
            self.tell_one(room, member, text(type="gap", room=room.name))

    def _full(self, room: Room, member: Any, offset: int) -> None:
        """Close a member whose queue is full, or leave it behind."""
        room.members.pop(id(member), None)
        if self._slow == "close":
            self._lag(member)
            return
        room.behind[id(member)] = member, Behind(offset)
        self.lagging.add(room.name)

    def _forget(self) -> None:
        """Drop messages until memory suffices: of rooms that were quiet for longest first."""
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
        """Tell all members of a gap: some messages before this offset were never received."""
        self._forgotten = max(self._forgotten, offset - 1)
        for room in list(self._rooms.values()):
            had = bool(len(room.history))
            self.size -= room.history.forget(offset)
            self.size -= ROOM * (had - bool(len(room.history)))
            self.missed_by(room, len(room.members))
            self.tell(room, text(type="gap", room=room.name), quiet=True)

    def reset(self) -> None:
        """Drop everything: the stream was replaced."""
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
        """Return members who have received every message of their rooms."""
        found = {id(member): member for room in self._rooms.values() for member in room.members.values()}
        for room in map(self._rooms.get, self.lagging):
            for member in room.behind if room is not None else ():
                found.pop(member, None)
        return list(found.values())
