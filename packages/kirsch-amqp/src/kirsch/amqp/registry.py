"""Registry of one process's connections: their handshake, and the rooms they are let into.

Called in the provider's threads.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from secrets import token_urlsafe
from typing import Any

from kirsch.amqp import protocol
from kirsch.amqp.connection import Connection, Identity, Refused
from kirsch.amqp.history import Page
from kirsch.amqp.limits import Limits
from kirsch.amqp.members import Members
from kirsch.amqp.metrics import Counters
from kirsch.amqp.plugin import AMQPPlugin
from kirsch.amqp.protocol import Hello, History, Join
from kirsch.amqp.room import Rooms
from kirsch.amqp.stream import RoomStream

log = logging.getLogger("kirsch.amqp")

Authenticate = Callable[[Hello, Any], Identity | None]
MayRead = Callable[[Connection, str], bool]

# Seconds until an offset, a stream or a process that is unknown here is considered gone.
AHEAD = 3.0


@dataclass(slots=True)
class _Waiting:
    """A join that waits.

    Attributes:
        until: when an unknown offset is considered gone.
        searched: the stream was searched for the room's last messages; None while nobody has asked.
        since: offset below the oldest message that was found.
        more: the stream may have older messages than were found; None if it was not searched.
    """

    join: Join
    until: float | None = None
    searched: bool | None = None
    since: int | None = None
    more: bool | None = None


class ConnectionRegistry:
    """Connections of one process: strangers until their hello, then clients, each with one connection.

    `may_read` tells a connection that it may not join a room. `soon` has `let_in` called in a moment.
    """

    def __init__(
        self,
        authenticate: Authenticate,
        may_read: MayRead,
        *,
        amqp: AMQPPlugin,
        stream: RoomStream,
        rooms: Rooms,
        members: Members,
        limits: Limits,
        counters: Counters,
        lock: threading.RLock,
        soon: Callable[[], None],
    ) -> None:
        self._authenticate = authenticate
        self._may_read = may_read
        self._amqp = amqp
        self._stream = stream
        self._rooms = rooms
        self._members = members
        self._limits = limits
        self._counters = counters
        self._lock = lock
        self._soon = soon
        self._clients: dict[str, Connection] = {}
        self._strangers: set[Connection] = set()
        # Joins that wait until the stream has been read so far.
        self._held: dict[Connection, dict[str, _Waiting]] = {}
        # Connections that wait for a page of history.
        self._paging: set[Connection] = set()

    def opened(self, connection: Connection) -> None:
        if connection.thread and connection.thread != self._amqp.loop.thread:
            log.error("the AMQPPlugin's loop is not the WebSockets' own: give it loop='asyncio' or so")
            connection.dismiss(1011, "not set up as it should be")
            return
        with self._lock:
            self._strangers.add(connection)

    def closed(self, connection: Connection, code: int) -> None:
        with self._lock:
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
            self._counters.refuse("unauthenticated")
            connection.dismiss(protocol.UNAUTHENTICATED, _short(reason))
            return
        with self._lock:
            self._strangers.discard(connection)
            other = self._clients.get(hello.client)
            if other is not None:
                # The client came back before its old connection was found to be dead.
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
                broker=self._amqp.connected,
                limits={
                    "message": self._limits.message,
                    "unconfirmed": self._limits.unconfirmed,
                },
            )

    def join(self, connection: Connection, join: Join) -> None:
        most = self._limits.rooms
        with self._lock:
            rooms = connection.rooms | self._held.get(connection, {}).keys()
        if len(rooms) >= most and join.room not in rooms:
            connection.refuse("too-many-rooms", f"{most} rooms at most", join.room)
            return
        if not self._may_read(connection, join.room):
            return
        with self._lock:
            waiting = _Waiting(join)
            if self._may_join(waiting):
                self._join(connection, waiting)
            else:
                self._held.setdefault(connection, {})[join.room] = waiting
                self._soon()

    def history(self, connection: Connection, history: History) -> None:
        """Send a page of a room's history."""
        if not self._may_read(connection, history.room):
            return
        with self._lock:
            if connection in self._paging:
                connection.refuse("busy", "wait for the page that you asked for", history.room)
                return
            self._paging.add(connection)

            def done(page: Page) -> None:
                if connection in self._paging:
                    self._paging.discard(connection)
                    self._send_page(connection, history.room, page)

            before = min(history.before, self._rooms.offset + 1)
            if not before:
                done(Page([], 0, False))
                return
            self._stream.history.search(history.room, before, history.limit, done)
            self._soon()

    def _send_page(self, connection: Connection, room: str, page: Page) -> None:
        """Send as many of a page's newest messages as a connection's queue has room for."""
        messages, before, more = list(page.messages), page.before, page.more
        size = sum(len(text) for _, text in messages)
        while len(messages) > 1 and size > self._limits.queue // 4:
            size -= len(messages.pop(0)[1])
            before, more = messages[0][0], True
        connection.tell(protocol.page(room, [text for _, text in messages], before, more))

    def _may_join(self, waiting: _Waiting) -> bool:
        """Return True once it is known which messages the join will bring."""
        join = waiting.join
        since = join.since
        if not self._stream.consumer.caught_up:
            return False
        if since is None:
            return self._searched(waiting)
        if not self._same(join) or since > self._rooms.offset:
            return False
        return not self._rooms.far(join.room, since) or self._stream.first_known(time.monotonic())

    def _searched(self, waiting: _Waiting) -> bool:
        """Return True once a room's last messages are in memory, or were looked for in the stream.

        While the broker is away, those in memory have to do.
        """
        join = waiting.join
        if not self._amqp.connected:
            return True
        if waiting.searched is None:
            missing = self._rooms.lacking(join.room, min(join.last, protocol.PAGE))
            waiting.searched = not missing
            if missing:

                def done(page: Page) -> None:
                    waiting.searched, waiting.more = True, page.more
                    if page.messages:
                        waiting.since = page.messages[0][0] - 1
                    self._soon()

                self._stream.history.search(join.room, self._rooms.before(join.room), missing, done)
        return waiting.searched

    def _same(self, join: Join) -> bool:
        """Return True if the join's offset belongs to the stream that is read here.

        A client that names no stream is believed. The stream may have lost its end, with the broker's power,
        while none of today's processes ran, and newer messages then have the offsets of the lost ones. So an
        offset behind this process's own mark is believed only if it was told by a process that has run at the
        same time as this one.
        """
        consumer = self._stream.consumer
        if join.stream not in ("", consumer.stream):
            return False
        if join.since is None or not join.process or join.since < consumer.marked:
            return True
        return self._members.know(join.process)

    def _join(self, connection: Connection, waiting: _Waiting) -> None:
        join = waiting.join
        if connection.close_sent is not None or self._clients.get(connection.client_id) is not connection:
            return
        now = time.monotonic()
        if waiting.since is None:
            offset, complete = self._rooms.join(
                join.room, connection, join.since, join.last, now, self._same(join)
            )
        else:
            offset, complete = self._rooms.join(join.room, connection, waiting.since, 0, now)
        room = self._rooms.room(join.room)
        if not complete:
            self._rooms.gaps += 1
        connection.rooms.add(join.room)
        # The other members are told a moment later, all changes at once.
        self._members.enter(join.room, connection.client_id, connection.identity.name)
        if join.presence:
            room.quiet.discard(id(connection))
        else:
            room.quiet.add(id(connection))
        said: dict[str, Any] = {"type": "joined", "room": join.room, "offset": offset, "complete": complete}
        said["stream"], said["process"] = self._stream.consumer.stream, self._members.process
        if join.since is None:
            more = waiting.more
            said["more"] = self._rooms.earlier(join.room, offset) if more is None else more
        if join.presence:
            said |= self._members.presence.whole(join.room)
        connection.say(**said)
        self._rooms.catch_up(join.room, now, self._limits.stalled)
        self._soon()

    def leave(self, connection: Connection, room: str) -> None:
        with self._lock:
            self._held.get(connection, {}).pop(room, None)
            self._leave(connection, room)
            connection.say(type="left", room=room)

    def _leave(self, connection: Connection, name: str) -> None:
        connection.rooms.discard(name)
        room = self._rooms.get(name)
        if room is not None:
            self._rooms.discard(room, connection)
        self._members.leave(name, connection.client_id)

    def _forget(self, connection: Connection) -> None:
        for room in tuple(connection.rooms):
            self._leave(connection, room)
        self._held.pop(connection, None)
        self._paging.discard(connection)
        if self._clients.get(connection.client_id) is connection:
            del self._clients[connection.client_id]

    def let_in(self, now: float) -> None:
        """Let in clients whose joins need not wait any more."""
        held, self._held = self._held, {}
        for connection, joins in held.items():
            for name, waiting in joins.items():
                late = waiting.until is not None and now >= waiting.until
                if self._may_join(waiting) or late:
                    self._join(connection, waiting)
                    continue
                unknown = waiting.join.since is not None and waiting.until is None
                if unknown and self._stream.consumer.caught_up and self._amqp.connected:
                    waiting.until = now + AHEAD
                self._held.setdefault(connection, {})[name] = waiting

    def late(self, now: float) -> None:
        """Close connections that have sent no hello in time."""
        late = [each for each in self._strangers if now - each.opened_at > self._limits.hello]
        for connection in late:
            self._strangers.discard(connection)
            connection.dismiss(protocol.NO_HELLO, "no hello")

    @property
    def connections(self) -> list[Connection]:
        """Connections that completed the handshake."""
        return list(self._clients.values())

    @property
    def waiting(self) -> bool:
        """True while joins wait."""
        return bool(self._held)


def _short(reason: str) -> str:
    """Cut a reason to the size of a close frame."""
    return reason.encode()[:120].decode(errors="ignore")
