"""What processes that share their rooms tell each other: who is there, and signals. Nothing of it is kept."""

import json
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from kirsch.amqp.message import Publication
from kirsch.amqp.presence import Change, Event, Presence
from kirsch.amqp.protocol import dumps, text
from kirsch.amqp.room import Room, Rooms
from kirsch.amqp.roster import Rosters
from kirsch.websocket.message import Prepared

# Seconds between signs of life, and after how many of silence a process is held to be dead: with the second
# that a look takes, and the time on the way, it is less than 15.
BEAT, TTL = 3.0, 11.0
# How many processes are remembered, those that are gone too.
KNOWN = 10_000


class Others:
    """The other processes, as this one knows them, and what its browsers are told of theirs.

    Whoever uses it holds the Bridge's lock. `publish` gives something to the broker, `soon` has `tell` called
    in a moment.
    """

    def __init__(
        self,
        process: str,
        exchange: str,
        rooms: Rooms,
        roster: int,
        publish: Callable[[Publication], Any],
        soon: Callable[[], None],
    ) -> None:
        self.process = process
        self.presence = Presence(process, TTL)
        self.rosters = Rosters(self.presence, roster)
        self._exchange = exchange
        self._rooms = rooms
        self._publish = publish
        self._soon = soon
        self._beaten = 0.0
        self._known: OrderedDict[str, None] = OrderedDict()

    # This process's own.

    def enter(self, room: str, client: str, name: str) -> None:
        self._changed(self.presence.enter(room, client, name))

    def leave(self, room: str, client: str) -> None:
        self._changed(self.presence.leave(room, client))

    def signal(self, room: str, client: str, name: str, data: Any) -> None:
        """A signal of one of ours: to all members in any process."""
        event = {"event": "signal", "process": self.process, "room": room, "client": client, "name": name}
        self._signal(event | {"data": data})
        self._send(event | {"data": data})

    # The others'.

    def hear(self, body: bytes, now: float) -> None:
        """What another process told."""
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
        changes, answers = self.presence.hear(event, now)
        self._changed(changes)
        for answer in answers:
            self._send(answer)

    def know(self, process: str) -> bool:
        """Whether it has been there at the same time as this one: perhaps it is not any more."""
        return process == self.process or process in self._known

    def _know(self, process: object) -> None:
        if isinstance(process, str):
            self._known[process] = None
            self._known.move_to_end(process)
            if len(self._known) > KNOWN:
                self._known.popitem(last=False)

    def connected(self, now: float) -> None:
        """The broker is there: tell all of ours, and ask for all of theirs."""
        self.presence.excuse(now)
        self._send(self.presence.state())
        self._send(self.presence.ask())

    def second(self, now: float, connected: bool) -> None:
        """Once a second: give a sign of life, and find who has given none."""
        if not connected:
            # Nobody can be heard.
            self.presence.excuse(now)
            return
        if now - self._beaten >= BEAT:
            self._beaten = now
            self._send(self.presence.beat())
        self._changed(self.presence.expire(now))

    def tell(self, connected: bool) -> None:
        """Tell the others, and browsers, what has changed."""
        if not connected:
            self.presence.postpone()
        elif (told := self.presence.told()) is not None:
            self._send(told)
        for name, message in self.rosters.take():
            room = self._rooms.get(name)
            if room is not None and not room.members.keys() <= room.quiet:
                self._rooms.tell(room, Prepared(message))

    def tell_all(self, room: Room, member: Any) -> None:
        """Tell one who has missed what changed who is there."""
        message = text(type="presence", room=room.name, **self.rosters.whole(room.name))
        self._rooms.tell_one(room, member, message)

    def bye(self) -> None:
        """This process ends."""
        self._send(self.presence.bye())

    # How.

    def _changed(self, changes: list[Change]) -> None:
        if self.rosters.add(changes):
            self._soon()

    def _signal(self, event: Event) -> None:
        room = self._rooms.get(event.get("room", ""))
        if room is not None and room.members:
            told = {name: event.get(name) for name in ("room", "client", "name", "data")}
            self._rooms.tell(room, Prepared(text(type="signal", **told)))

    def _send(self, event: Event) -> None:
        self._publish(Publication(self._exchange, "", dumps(event).encode(), transient=True))
