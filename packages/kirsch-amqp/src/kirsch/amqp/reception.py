"""Who comes to a Bridge, and which rooms they are let into: in the provider's threads."""

import logging
import time
from collections.abc import Callable
from secrets import token_urlsafe
from typing import Any

from kirsch.amqp import protocol
from kirsch.amqp.connection import Connection
from kirsch.amqp.identity import Identity, Refused
from kirsch.amqp.protocol import Hello, Join

log = logging.getLogger("kirsch.amqp")

Authenticate = Callable[[Hello, Any], Identity | None]

# Seconds until an offset, a stream or a process that nobody has heard of yet is held to be one that is gone.
AHEAD = 3.0


class Reception:
    """Connections of one process: strangers until they have said hello, then clients, each with one."""

    def __init__(self, bridge: Any, authenticate: Authenticate) -> None:
        self._bridge = bridge
        self._authenticate = authenticate
        self._clients: dict[str, Connection] = {}
        self._strangers: set[Connection] = set()
        # Joins that wait until the stream has been read so far, and until when.
        self._held: dict[Connection, dict[str, tuple[Join, float | None]]] = {}

    def opened(self, connection: Connection) -> None:
        if connection.thread and connection.thread != self._bridge.amqp.loop.thread:
            log.error("the AMQPPlugin's loop is not the WebSockets' own: give it loop='asyncio' or so")
            connection.dismiss(1011, "not set up as it should be")
            return
        with self._bridge.lock:
            self._strangers.add(connection)

    def closed(self, connection: Connection, code: int) -> None:
        with self._bridge.lock:
            self._strangers.discard(connection)
            self._forget(connection)

    def hello(self, connection: Connection, hello: Hello) -> None:
        if connection.client_id:
            connection.dismiss(protocol.MALFORMED, "a second hello")
            return
        key = hello.key or token_urlsafe(24)
        hello = Hello(key, hello.name, hello.token)
        try:
            identity = self._authenticate(hello, connection.request)
        except Refused as error:
            identity, reason = None, str(error)
        else:
            reason = "who are you?"
        if identity is None:
            self._bridge.count("refused", "unauthenticated")
            connection.dismiss(protocol.UNAUTHENTICATED, _short(reason))
            return
        with self._bridge.lock:
            self._strangers.discard(connection)
            other = self._clients.get(hello.client)
            if other is not None:
                # It has come back before its old connection was found to be dead.
                self._forget(other)
                other.dismiss(protocol.REPLACED, "the client has another connection")
            connection.client_id, connection.identity = hello.client, identity
            self._clients[hello.client] = connection
            connection.say(
                type="welcome",
                version=protocol.VERSION,
                client=hello.client,
                key=key,
                name=identity.name,
                broker=self._bridge.amqp.connected,
                limits={
                    "message": self._bridge.limits.message,
                    "unconfirmed": self._bridge.limits.unconfirmed,
                },
            )

    def join(self, connection: Connection, join: Join) -> None:
        most = self._bridge.limits.rooms
        with self._bridge.lock:
            rooms = connection.rooms | self._held.get(connection, {}).keys()
        if len(rooms) >= most and join.room not in rooms:
            self._bridge.refuse(connection, "too-many-rooms", f"{most} rooms at most", join.room)
            return
        if not self._bridge.allowed(connection, join.room, "read"):
            return
        with self._bridge.lock:
            if self._may_join(join):
                self._join(connection, join)
            else:
                self._held.setdefault(connection, {})[join.room] = join, None
                self._bridge.look_soon()

    def _may_join(self, join: Join) -> bool:
        """Whether it can be said what the join will bring."""
        bridge, since = self._bridge, join.since
        if not bridge.hearing.reader.caught_up:
            return False
        if since is None:
            return True
        if not self._same(join) or since > bridge.rooms.offset:
            return False
        return not bridge.rooms.far(join.room, since) or bridge.hearing.stream.beginning(time.monotonic())

    def _same(self, join: Join) -> bool:
        """Whether its offset is of the stream that is read here: who does not say is believed.

        The stream may have lost its end, with the broker's power, while no process of today was there to see
        it, and what was said since has the offsets of what was lost. So an offset behind this process's own
        mark is believed where a process told it that was there at the same time as this one.
        """
        bridge = self._bridge
        if join.stream not in ("", bridge.hearing.reader.stream):
            return False
        if join.since is None or not join.process or join.since < bridge.hearing.reader.marked:
            return True
        known: bool = bridge.others.know(join.process)
        return known

    def _join(self, connection: Connection, join: Join) -> None:
        if connection.close_sent is not None or self._clients.get(connection.client_id) is not connection:
            return
        now = time.monotonic()
        offset, complete = self._bridge.rooms.join(
            join.room, connection, join.since, join.last, now, self._same(join)
        )
        room = self._bridge.rooms.room(join.room)
        if not complete:
            self._bridge.rooms.gaps += 1
        connection.rooms.add(join.room)
        # Those who are there are told a moment later, all at once.
        self._bridge.others.enter(join.room, connection.client_id, connection.identity.name)
        if join.presence:
            room.quiet.discard(id(connection))
        else:
            room.quiet.add(id(connection))
        said: dict[str, Any] = {"type": "joined", "room": join.room, "offset": offset, "complete": complete}
        said["stream"], said["process"] = self._bridge.hearing.reader.stream, self._bridge.process
        if join.presence:
            said |= self._bridge.others.rosters.whole(join.room)
        connection.say(**said)
        self._bridge.rooms.catch_up(join.room, now, self._bridge.limits.stalled)
        self._bridge.look_soon()

    def leave(self, connection: Connection, room: str) -> None:
        with self._bridge.lock:
            self._held.get(connection, {}).pop(room, None)
            self._leave(connection, room)
            connection.say(type="left", room=room)

    def _leave(self, connection: Connection, name: str) -> None:
        connection.rooms.discard(name)
        room = self._bridge.rooms.get(name)
        if room is not None:
            self._bridge.rooms.discard(room, connection)
        self._bridge.others.leave(name, connection.client_id)

    def _forget(self, connection: Connection) -> None:
        for room in tuple(connection.rooms):
            self._leave(connection, room)
        self._held.pop(connection, None)
        if self._clients.get(connection.client_id) is connection:
            del self._clients[connection.client_id]

    def let_in(self, now: float) -> None:
        """Those whose joins had to wait, and need not any more."""
        held, self._held = self._held, {}
        for connection, joins in held.items():
            for name, (join, until) in joins.items():
                if self._may_join(join) or (until is not None and now >= until):
                    self._join(connection, join)
                    continue
                if until is None and self._bridge.hearing.reader.caught_up and self._bridge.amqp.connected:
                    until = now + AHEAD
                self._held.setdefault(connection, {})[name] = join, until

    def late(self, now: float) -> None:
        """Those who have not said hello in time are closed."""
        late = [each for each in self._strangers if now - each.opened_at > self._bridge.limits.hello]
        for connection in late:
            self._strangers.discard(connection)
            connection.dismiss(protocol.NO_HELLO, "no hello")

    @property
    def connections(self) -> list[Connection]:
        """Those that have said hello."""
        return list(self._clients.values())

    @property
    def waiting(self) -> bool:
        """Whether somebody waits to be let in."""
        return bool(self._held)


def _short(reason: str) -> str:
    """As much as a close frame holds."""
    return reason.encode()[:120].decode(errors="ignore")
