"""Who is in a room, over all processes: each tells the others of its own. Values in, values out; no I/O.

A process tells its changes, numbered, and every few seconds that it is there, with the number of the last.
Who missed one, or hears of a process for the first time, asks it for all. Of whom nothing was heard for `ttl`
seconds, all have left.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

Event = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Change:
    """Somebody came into a room or left it, whichever processes they are connected to."""

    room: str
    client: str
    name: str
    here: bool


@dataclass(slots=True)
class _Process:
    """Another process, as it was heard of."""

    heard: float
    version: int = -1
    rooms: dict[str, dict[str, str]] = field(default_factory=dict)


class Presence:
    """`enter` and `leave` are for this process's own; `hear` for what others said; each gives the changes.

    What is to be told to others comes from `told` (now and then), `beat` (every few seconds) and `state`.
    """

    def __init__(self, process: str, ttl: float) -> None:
        self.process = process
        self.ttl = ttl
        self._own: dict[str, dict[str, str]] = {}
        self._version = 0
        self._untold: dict[tuple[str, str], str | None] = {}
        self._others: dict[str, _Process] = {}
        # In how many processes somebody is in a room, and what they are called.
        self._rooms: dict[str, dict[str, tuple[int, str]]] = {}

    # What is known.

    def members(self, room: str) -> list[tuple[str, str]]:
        """Clients and names, by name."""
        found = [(client, name) for client, (_, name) in self._rooms.get(room, {}).items()]
        return sorted(found, key=lambda member: (member[1].casefold(), member[0]))

    def count(self, room: str) -> int:
        return len(self._rooms.get(room, ()))

    @property
    def processes(self) -> int:
        """How many are known, with this one."""
        return 1 + len(self._others)

    # This process.

    def enter(self, room: str, client: str, name: str) -> list[Change]:
        members = self._own.setdefault(room, {})
        if client in members:
            return []
        members[client] = name
        self._untold[room, client] = name
        return list(self._came(room, client, name))

    def leave(self, room: str, client: str) -> list[Change]:
        members = self._own.get(room, {})
        if client not in members:
            return []
        del members[client]
        if not members:
            del self._own[room]
        self._untold[room, client] = None
        return list(self._went(room, client))

    # What is told to the others.

    def told(self) -> Event | None:
        """The changes that nobody has been told of yet."""
        if not self._untold:
            return None
        self._version += 1
        changes = [[room, client, name] for (room, client), name in self._untold.items()]
        self._untold.clear()
        return {"event": "changes", "process": self.process, "version": self._version, "changes": changes}

    def beat(self) -> Event:
        """That this process is there."""
        return {"event": "beat", "process": self.process, "version": self._version}

    def postpone(self) -> None:
        """Nobody can be told: what has changed is told by `state`, and not kept until then."""
        if self._untold:
            self._version += 1
            self._untold.clear()

    def state(self) -> Event:
        """All of this process's own; what was untold is told by it."""
        self.postpone()
        return {"event": "state", "process": self.process, "version": self._version, "rooms": self._own}

    def ask(self, process: str = "") -> Event:
        """Have a process tell all of its own; "" is every one."""
        return {"event": "ask", "process": self.process, "whom": process}

    def bye(self) -> Event:
        """This process ends."""
        return {"event": "bye", "process": self.process}

    # What the others tell.

    def hear(self, event: Event, now: float) -> tuple[list[Change], list[Event]]:
        """What another process told: the changes, and what is to be answered."""
        kind, name = event.get("event"), event.get("process")
        if not isinstance(name, str) or not name or name == self.process:
            return [], []
        if kind == "ask":
            return [], [self.state()] if event.get("whom") in ("", self.process) else []
        if kind == "bye":
            return self._gone(name), []
        known = self._others.get(name)
        if known is None:
            known = self._others[name] = _Process(now)
        known.heard = now
        version = event.get("version")
        if not isinstance(version, int):
            return [], []
        if kind == "state" and isinstance(event.get("rooms"), dict):
            known.version = version
            return self._replace(known, _rooms(event["rooms"])), []
        if kind == "changes" and known.version + 1 == version and isinstance(event.get("changes"), list):
            known.version = version
            return self._apply(known, event["changes"]), []
        return [], [] if known.version == version else [self.ask(name)]

    def expire(self, now: float) -> list[Change]:
        """Of whom nothing was heard for long: all of theirs have left."""
        silent = [name for name, process in self._others.items() if now - process.heard > self.ttl]
        return [change for name in silent for change in self._gone(name)]

    def excuse(self, now: float) -> None:
        """Nobody could be heard: they have their time anew."""
        for process in self._others.values():
            process.heard = now

    # How.

    def _gone(self, name: str) -> list[Change]:
        process = self._others.pop(name, None)
        return [] if process is None else self._replace(process, {})

    def _replace(self, process: _Process, rooms: dict[str, dict[str, str]]) -> list[Change]:
        before, process.rooms = process.rooms, rooms
        changes: list[Change] = []
        # Those who stay are not seen to leave.
        for room, members in rooms.items():
            for client, name in members.items():
                known = before.get(room, {})
                if client not in known:
                    changes += self._came(room, client, name)
                elif known[client] != name:
                    changes += self._renamed(room, client, name)
        for room, members in before.items():
            for client in members:
                if client not in rooms.get(room, ()):
                    changes += self._went(room, client)
        return changes

    def _apply(self, process: _Process, told: list[Any]) -> list[Change]:
        changes: list[Change] = []
        for each in told:
            if not (isinstance(each, list) and len(each) == 3 and all(isinstance(e, str) for e in each[:2])):
                continue
            room, client, name = each
            members = process.rooms.setdefault(room, {})
            if isinstance(name, str) and client not in members:
                members[client] = name
                changes += self._came(room, client, name)
            elif isinstance(name, str) and members[client] != name:
                members[client] = name
                changes += self._renamed(room, client, name)
            elif name is None and client in members:
                del members[client]
                changes += self._went(room, client)
            if not members:
                del process.rooms[room]
        return changes

    def _came(self, room: str, client: str, name: str) -> Iterator[Change]:
        members = self._rooms.setdefault(room, {})
        count, _ = members.get(client, (0, ""))
        members[client] = count + 1, name
        if not count:
            yield Change(room, client, name, True)

    def _renamed(self, room: str, client: str, name: str) -> Iterator[Change]:
        yield from self._went(room, client)
        yield from self._came(room, client, name)

    def _went(self, room: str, client: str) -> Iterator[Change]:
        members = self._rooms[room]
        count, name = members[client]
        if count > 1:
            members[client] = count - 1, name
            return
        del members[client]
        if not members:
            del self._rooms[room]
        yield Change(room, client, name, False)


def _rooms(told: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    return {
        room: {client: name for client, name in members.items() if isinstance(name, str)}
        for room, members in told.items()
        if isinstance(members, dict)
    }
