"""What browsers are told of who is in a room: all at once, and then what has changed. No I/O."""

from collections.abc import Iterable, Iterator
from typing import Any

from kirsch.amqp.presence import Change, Presence
from kirsch.amqp.protocol import members, text


class Rosters:
    """Changes wait here a moment, to be told together: who comes and goes at once is never seen.

    Rooms with more than `most` members have their number told, not their names.
    """

    def __init__(self, presence: Presence, most: int) -> None:
        self._presence = presence
        self._most = most
        # Of each client the first change and the last.
        self._changes: dict[str, dict[str, tuple[Change, Change]]] = {}
        # Rooms whose members have not been named for their number.
        self._large: set[str] = set()

    @property
    def waiting(self) -> bool:
        return bool(self._changes)

    def add(self, changes: Iterable[Change]) -> bool:
        """Changes that are to be told; whether there were any."""
        some = False
        for change in changes:
            some = True
            of_room = self._changes.setdefault(change.room, {})
            first, _ = of_room.get(change.client, (change, change))
            of_room[change.client] = first, change
        return some

    def whole(self, room: str) -> dict[str, Any]:
        """All who are in a room: `count` and, where they are not too many, `members`."""
        count = self._presence.count(room)
        if count > self._most:
            return {"count": count}
        return {"count": count, "members": members(self._presence.members(room))}

    def take(self) -> Iterator[tuple[str, str]]:
        """Rooms, and the message that tells what has changed in each."""
        changes, self._changes = self._changes, {}
        for room, of_room in changes.items():
            told = [last for first, last in of_room.values() if _is_news(first, last)]
            if not told:
                continue
            said: dict[str, Any] = {"type": "presence", "room": room, "count": self._presence.count(room)}
            if said["count"] > self._most:
                self._large.add(room)
            elif room in self._large:
                self._large.discard(room)
                said |= self.whole(room)
            else:
                for name, here in (("joined", True), ("left", False)):
                    said[name] = members([(each.client, each.name) for each in told if each.here == here])
            yield room, text(**said)


def _is_news(first: Change, last: Change) -> bool:
    """Whether it is otherwise than before: who was there and is has another name, if any."""
    was_here = not first.here
    return was_here != last.here or (was_here and first.name != last.name)
