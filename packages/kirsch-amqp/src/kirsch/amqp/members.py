"""Members of rooms over all processes: what processes tell each other, and what browsers are told of it.

Nothing of it is kept: signals go the same way.
"""

import json
import math
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from kirsch.amqp import protocol
from kirsch.amqp.access import Bans, Order, read_order, user_of
from kirsch.amqp.message import Publication
from kirsch.amqp.room import Room, Rooms
from kirsch.websocket import Prepared

# Seconds between signs of life, and of silence until a process is considered dead: with the second between
# looks and the time on the way that is less than 15.
BEAT, TTL = 3.0, 11.0
# Processes that are remembered, also after their end.
KNOWN = 10_000
# Kicks that are remembered, and the seconds for which they are told with each state.
KICKS, KICK_TOLD = 1000, 3600.0

Event = Mapping[str, Any]
# Name and user of a member, as events have them; user "" for one without an id.
Who = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Change:
    """A client entered a room or left it, counted over all processes."""

    room: str
    client: str
    who: Who
    here: bool

    @property
    def name(self) -> str:
        return self.who[0]


@dataclass(slots=True)
class _Process:
    """Another process's members, as far as it has told them."""

    heard: float
    version: int = -1
    rooms: dict[str, dict[str, Who]] = field(default_factory=dict)


class Presence:
    """The members of every room, over all processes: values in, values out.

    A process sends its changes, numbered, and every few seconds a beat with the number of the last change. A
    process that missed one, or receives a beat of an unknown process, asks for the whole state. The members
    of a process that was silent for `ttl` seconds have left.

    `enter` and `leave` are for this process's own members, `hear` for events of others; each returns the
    changes. `told` (now and then), `beat` (every few seconds) and `state` return the events for others.

    Changes wait for `take`, which returns them as messages for browsers: a client that comes and goes at once
    is never seen. In rooms with more than `most` members their number is told, not their names.
    """

    def __init__(self, process: str, ttl: float, most: int = 500) -> None:
        self.process = process
        self.ttl = ttl
        self._most = most
        self._own: dict[str, dict[str, Who]] = {}
        self._version = 0
        self._untold: dict[tuple[str, str], Who | None] = {}
        self._others: dict[str, _Process] = {}
        # Room, client: the number of processes in which the client is in the room, and who it is.
        self._rooms: dict[str, dict[str, tuple[int, Who]]] = {}
        # Room, client: the first change and the last since `take`.
        self._changes: dict[str, dict[str, tuple[Change, Change]]] = {}
        # Rooms that were too large for names when they were told last.
        self._large: set[str] = set()

    def members(self, room: str) -> list[tuple[str, str]]:
        """Return clients and names, sorted by name."""
        return [(client, name) for client, name, _ in self._members(room)]

    def users(self, room: str) -> dict[str, list[str]]:
        """Return users, guests too, each with its clients."""
        found: dict[str, list[str]] = {}
        for client, _, user in self._members(room):
            found.setdefault(user_of(user, client), []).append(client)
        return found

    def _members(self, room: str) -> list[tuple[str, str, str]]:
        found = [(client, *who) for client, (_, who) in self._rooms.get(room, {}).items()]
        return sorted(found, key=lambda member: (member[1].casefold(), member[0]))

    @property
    def rooms(self) -> list[str]:
        """Names of the rooms that have members."""
        return [*self._rooms]

    def count(self, room: str) -> int:
        return len(self._rooms.get(room, ()))

    @property
    def processes(self) -> int:
        """Number of known processes, with this one."""
        return 1 + len(self._others)

    # This process's members.

    def enter(self, room: str, client: str, name: str, user: str = "") -> list[Change]:
        members = self._own.setdefault(room, {})
        if client in members:
            return []
        members[client] = self._untold[room, client] = name, user
        return list(self._came(room, client, (name, user)))

    def leave(self, room: str, client: str) -> list[Change]:
        members = self._own.get(room, {})
        if client not in members:
            return []
        del members[client]
        if not members:
            del self._own[room]
        self._untold[room, client] = None
        return list(self._went(room, client))

    # Events for other processes.

    def told(self) -> Event | None:
        """Return the changes since the last call, or None."""
        if not self._untold:
            return None
        self._version += 1
        changes = [[room, client, who] for (room, client), who in self._untold.items()]
        self._untold.clear()
        return {"event": "changes", "process": self.process, "version": self._version, "changes": changes}

    def beat(self) -> Event:
        """Return a sign of life."""
        return {"event": "beat", "process": self.process, "version": self._version}

    def postpone(self) -> None:
        """Drop changes while the broker is away: `state` tells them later."""
        if self._untold:
            self._version += 1
            self._untold.clear()

    def state(self) -> Event:
        """Return all of this process's members, changes included that were not told yet."""
        self.postpone()
        return {"event": "state", "process": self.process, "version": self._version, "rooms": self._own}

    def ask(self, process: str = "") -> Event:
        """Ask a process for its state; "" asks every process."""
        return {"event": "ask", "process": self.process, "whom": process}

    def bye(self) -> Event:
        """Return the farewell of a process that ends: its members have left."""
        return {"event": "bye", "process": self.process}

    # Events of other processes.

    def hear(self, event: Event, now: float) -> tuple[list[Change], list[Event]]:
        """Take an event of another process; return the changes, and the answers to send."""
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
        """Remove processes that have been silent for too long."""
        silent = [name for name, process in self._others.items() if now - process.heard > self.ttl]
        return [change for name in silent for change in self._gone(name)]

    def excuse(self, now: float) -> None:
        """Give every process its time anew: the broker was away."""
        for process in self._others.values():
            process.heard = now

    def _gone(self, name: str) -> list[Change]:
        process = self._others.pop(name, None)
        return [] if process is None else self._replace(process, {})

    def _replace(self, process: _Process, rooms: dict[str, dict[str, Who]]) -> list[Change]:
        before, process.rooms = process.rooms, rooms
        changes: list[Change] = []
        # A client that stays must not be seen to leave.
        for room, members in rooms.items():
            for client, who in members.items():
                known = before.get(room, {})
                if client not in known:
                    changes += self._came(room, client, who)
                elif known[client] != who:
                    changes += self._renamed(room, client, who)
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
            room, client, said = each
            who = _who(said)
            members = process.rooms.setdefault(room, {})
            if who is not None and client not in members:
                members[client] = who
                changes += self._came(room, client, who)
            elif who is not None and members[client] != who:
                members[client] = who
                changes += self._renamed(room, client, who)
            elif said is None and client in members:
                del members[client]
                changes += self._went(room, client)
            if not members:
                del process.rooms[room]
        return changes

    def _came(self, room: str, client: str, who: Who) -> Iterator[Change]:
        members = self._rooms.setdefault(room, {})
        count, _ = members.get(client, (0, who))
        members[client] = count + 1, who
        if not count:
            yield self._changed(Change(room, client, who, True))

    def _renamed(self, room: str, client: str, who: Who) -> Iterator[Change]:
        yield from self._went(room, client)
        yield from self._came(room, client, who)

    def _went(self, room: str, client: str) -> Iterator[Change]:
        members = self._rooms[room]
        count, who = members[client]
        if count > 1:
            members[client] = count - 1, who
            return
        del members[client]
        if not members:
            del self._rooms[room]
        yield self._changed(Change(room, client, who, False))

    def _changed(self, change: Change) -> Change:
        of_room = self._changes.setdefault(change.room, {})
        first, _ = of_room.get(change.client, (change, change))
        of_room[change.client] = first, change
        return change

    # Messages for browsers.

    @property
    def changed(self) -> bool:
        """True while changes wait for `take`."""
        return bool(self._changes)

    def whole(self, room: str) -> dict[str, Any]:
        """Return all members of a room: `count` and, where they are not too many, `members`."""
        count = self.count(room)
        if count > self._most:
            return {"count": count}
        return {"count": count, "members": protocol.members(self._members(room))}

    def take(self) -> Iterator[tuple[str, str]]:
        """Yield each room that has changed, with the message that tells the change."""
        changes, self._changes = self._changes, {}
        for room, of_room in changes.items():
            told = [last for first, last in of_room.values() if _is_news(first, last)]
            if not told:
                continue
            said: dict[str, Any] = {"type": "presence", "room": room, "count": self.count(room)}
            if said["count"] > self._most:
                self._large.add(room)
            elif room in self._large:
                self._large.discard(room)
                said |= self.whole(room)
            else:
                for name, here in (("joined", True), ("left", False)):
                    clients = [(each.client, *each.who) for each in told if each.here == here]
                    said[name] = protocol.members(clients)
            yield room, protocol.text(**said)


def _is_news(first: Change, last: Change) -> bool:
    """Return False if the two changes undo each other."""
    was_here = not first.here
    return was_here != last.here or (was_here and first.who != last.who)


def _who(said: object) -> Who | None:
    """Read name and user of a member; a name alone is one without an id."""
    match said:
        case str():
            return said, ""
        case [str() as name, str() as user]:
            return name, user
    return None


def _rooms(told: Mapping[str, Any]) -> dict[str, dict[str, Who]]:
    return {
        room: {client: who for client, said in members.items() if (who := _who(said)) is not None}
        for room, members in told.items()
        if isinstance(members, dict)
    }


class Members:
    """Exchanges presence, signals and orders with other processes, and tells this process's browsers.

    Its caller holds the Bridge's lock. `publish` takes publications for the broker; `soon` has `tell` called
    in a moment; `carry_out` shuts this process's connections out, as an order says, with True only those that
    are older than the order;
    `clock` returns seconds since 1970.
    """

    def __init__(
        self,
        process: str,
        exchange: str,
        rooms: Rooms,
        roster: int,
        publish: Callable[[Publication], Any],
        soon: Callable[[], None],
        carry_out: Callable[[Order, bool], None],
        clock: Callable[[], float],
    ) -> None:
        self.process = process
        self._clock = clock
        self.bans = Bans()
        self._carry_out = carry_out
        self.presence = Presence(process, TTL, roster)
        self._exchange = exchange
        self._rooms = rooms
        self._publish = publish
        self._soon = soon
        self._beaten = 0.0
        self._known: OrderedDict[str, None] = OrderedDict()
        # Kicks to tell whoever was away; and when the last one that came was given, by user and room.
        self._kicks: deque[Order] = deque(maxlen=KICKS)
        self._kicked: OrderedDict[tuple[str, str], float] = OrderedDict()

    def enter(self, room: str, client: str, name: str, user: str = "") -> None:
        self.presence.enter(room, client, name, user)
        self._tell_soon()

    def leave(self, room: str, client: str) -> None:
        self.presence.leave(room, client)
        self._tell_soon()

    def order(self, order: Order) -> None:
        """Carry out an order of this process's, and tell the others: a kick again with each state, for the
        broker may be away."""
        self._take(order)
        self._send({"event": "order", "process": self.process} | order.to_json())

    def _take(self, order: Order, late: bool = False, known: bool = True) -> None:
        """Carry an order out; `late` if it is told again.

        A kick whose time is `known` is told to others: they recognise it by that.
        """
        if order.do != "kick":
            if self.bans.take(order):
                self._carry_out(order, False)
            return
        about = order.user, order.room
        is_new = self._kicked.get(about, -math.inf) < order.at
        if late and not is_new:
            return
        if known and is_new:
            self._kicks.append(order)
        self._kicked[about] = max(order.at, self._kicked.pop(about, -math.inf))
        if len(self._kicked) > KICKS:
            self._kicked.popitem(last=False)
        self._carry_out(order, late)

    def _heard_order(self, said: Any, late: bool = False) -> None:
        order = read_order(said, self._clock()) if isinstance(said, dict) else None
        if order is not None:
            self._take(order, late, known="at" in said)

    def signal(self, room: str, client: str, name: str, data: Any) -> None:
        """Send a signal of a connection here to the members in every process."""
        event = {"event": "signal", "process": self.process, "room": room, "client": client, "name": name}
        self._signal(event | {"data": data})
        self._send(event | {"data": data})

    def hear(self, body: bytes, now: float) -> None:
        """Take an event of another process."""
        try:
            event = json.loads(body)
        except ValueError:
            return
        if not isinstance(event, dict) or event.get("process") == self.process:
            return
        self._know(event.get("process"))
        if event.get("event") == "signal":
            self._signal(event)
            return
        if event.get("event") == "order":
            self._heard_order(event)
            return
        if event.get("event") == "state" and isinstance(event.get("orders"), list):
            for each in event["orders"]:
                self._heard_order(each, late=True)
        _, answers = self.presence.hear(event, now)
        self._tell_soon()
        for answer in answers:
            self._send(self._with_orders(answer))

    def _with_orders(self, event: Event) -> Event:
        """Return a state with the bans that stand, which a process that begins learns so, and with the latest
        kicks, which others may not have heard."""
        if event["event"] != "state":
            return event
        now = self._clock()
        orders = [*self.bans.standing(now), *(kick for kick in self._kicks if kick.at > now - KICK_TOLD)]
        return {**event, "orders": [order.to_json() for order in orders]}

    def know(self, process: str) -> bool:
        """Return True for a process that has run at the same time as this one, though it may have ended."""
        return process == self.process or process in self._known

    def _know(self, process: object) -> None:
        if isinstance(process, str):
            self._known[process] = None
            self._known.move_to_end(process)
            if len(self._known) > KNOWN:
                self._known.popitem(last=False)

    def connected(self, now: float) -> None:
        """Exchange states with the other processes: the broker is there."""
        self.presence.excuse(now)
        self._send(self._with_orders(self.presence.state()))
        self._send(self.presence.ask())

    def second(self, now: float, connected: bool) -> None:
        """Once a second: send a sign of life, and remove processes that were silent for too long."""
        if not connected:
            # Others cannot be heard either.
            self.presence.excuse(now)
            return
        if now - self._beaten >= BEAT:
            self._beaten = now
            self._send(self.presence.beat())
        self.presence.expire(now)
        self._tell_soon()

    def tell(self, connected: bool) -> None:
        """Tell other processes and browsers what has changed."""
        if not connected:
            self.presence.postpone()
        elif (told := self.presence.told()) is not None:
            self._send(told)
        for name, message in self.presence.take():
            room = self._rooms.get(name)
            if room is not None and not room.members.keys() <= room.quiet:
                self._rooms.tell(room, Prepared(message))

    def tell_all(self, room: Room, member: Any) -> None:
        """Tell a member all members of a room: it may have missed changes."""
        message = protocol.text(type="presence", room=room.name, **self.presence.whole(room.name))
        self._rooms.tell_one(room, member, message)

    def bye(self) -> None:
        """Tell other processes that this one ends."""
        self._send(self.presence.bye())

    def _tell_soon(self) -> None:
        if self.presence.changed:
            self._soon()

    def _signal(self, event: Event) -> None:
        room = self._rooms.get(event.get("room", ""))
        if room is not None and room.members:
            told = {name: event.get(name) for name in ("room", "client", "name", "data")}
            self._rooms.tell(room, Prepared(protocol.text(type="signal", **told)))

    def _send(self, event: Event) -> None:
        self._publish(Publication(self._exchange, "", protocol.dumps(event).encode(), transient=True))
