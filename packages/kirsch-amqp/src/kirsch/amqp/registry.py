"""Registry of one process's connections: their handshake, and the rooms they are let into.

Called in the provider's threads.
"""

import logging
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from secrets import token_urlsafe
from typing import Any

from kirsch.amqp import protocol
from kirsch.amqp.access import Identity, Order, Ticket, is_private, user_of, why_no_id
from kirsch.amqp.connection import Connection, Refused
from kirsch.amqp.history import Page
from kirsch.amqp.limits import Limits, Proxies
from kirsch.amqp.members import Members
from kirsch.amqp.metrics import Counters
from kirsch.amqp.plugin import AMQPPlugin
from kirsch.amqp.protocol import Hello, History, Join, Refresh
from kirsch.amqp.room import Rooms
from kirsch.amqp.stream import RoomStream

log = logging.getLogger("kirsch.amqp")

Authenticate = Callable[[Hello, Any], Identity | None]
MayRead = Callable[[Connection, str], bool]
Tickets = Callable[[str, str, str], Ticket | None]
Refusal = Callable[[Connection, str], str]

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

    `may_read` tells a connection that it may not join a room; `refusal` returns why it may not, whatever the
    application says. `tickets` reads a ticket for a room and a user. `soon` has `let_in` called in a moment.
    """

    def __init__(
        self,
        authenticate: Authenticate,
        may_read: MayRead,
        refusal: Refusal,
        tickets: Tickets,
        *,
        amqp: AMQPPlugin,
        stream: RoomStream,
        rooms: Rooms,
        members: Members,
        limits: Limits,
        proxies: Proxies,
        counters: Counters,
        lock: threading.RLock,
        soon: Callable[[], None],
    ) -> None:
        self._authenticate = authenticate
        self._may_read = may_read
        self._refusal = refusal
        self._tickets = tickets
        self._amqp = amqp
        self._stream = stream
        self._rooms = rooms
        self._members = members
        self._limits = limits
        self._proxies = proxies
        self._counters = counters
        self._lock = lock
        self._soon = soon
        self._clients: dict[str, Connection] = {}
        self._users: dict[str, set[Connection]] = {}
        self._strangers: set[Connection] = set()
        # Where their number is limited.
        self._addresses: dict[str, set[Connection]] = {}
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
            if self._limits.per_address:
                here = self._addresses.setdefault(self._origin(connection), set())
                if len(here) >= self._limits.per_address:
                    connection.dismiss(protocol.TOO_MANY, "this address has too many connections")
                    return
                here.add(connection)
            self._strangers.add(connection)

    def closed(self, connection: Connection, code: int) -> None:
        with self._lock:
            self._strangers.discard(connection)
            self._forget(connection)
            if self._limits.per_address:
                origin = self._origin(connection)
                here = self._addresses.get(origin, set())
                here.discard(connection)
                if not here:
                    self._addresses.pop(origin, None)

    def _origin(self, connection: Connection) -> str:
        request = connection.request
        forwarded = [] if request is None else request.headers.get_all("X-Forwarded-For")
        return self._proxies.origin(connection.peer, forwarded)

    def hello(self, connection: Connection, hello: Hello) -> None:
        if connection.client_id:
            connection.dismiss(protocol.MALFORMED, "a second hello")
            return
        key = hello.key or token_urlsafe(24)
        hello = Hello(key, hello.name, hello.token)
        identity = self._identify(connection, hello)
        if identity is None:
            return
        user = user_of(identity.id, hello.client)
        with self._lock:
            if banned := self._members.bans.reason(user, "", time.time()):
                connection.dismiss(protocol.BANNED, _short(banned))
                return
            others = self._users.get(user, set()) - {self._clients.get(hello.client)}
            if len(others) >= self._limits.connections:
                connection.dismiss(protocol.TOO_MANY, "this user has too many connections")
                return
            self._strangers.discard(connection)
            other = self._clients.get(hello.client)
            if other is not None:
                # The client came back before its old connection was found to be dead.
                self._forget(other)
                other.dismiss(protocol.REPLACED, "the client has another connection")
            connection.client_id, connection.hello, connection.identity = hello.client, hello, identity
            self._clients[hello.client] = connection
            of_user = self._users.setdefault(user, set())
            if of_user:
                connection.budget = next(iter(of_user)).budget
            of_user.add(connection)
            connection.say(
                type="welcome",
                version=protocol.VERSION,
                client=hello.client,
                key=key,
                name=identity.name,
                user=user,
                expires=_seconds_left(identity),
                broker=self._amqp.connected,
                limits={
                    "message": self._limits.message,
                    "unconfirmed": self._limits.unconfirmed,
                },
            )

    def _identify(self, connection: Connection, hello: Hello) -> Identity | None:
        """Have the application authenticate a client; close the connection if it does not."""
        try:
            identity, reason = self._authenticate(hello, connection.request), "who are you?"
        except Refused as error:
            identity, reason = None, str(error)
        if identity is not None and (wrong := why_no_id(identity.id)):
            identity, reason = None, wrong
        if identity is not None and identity.expires <= time.time():
            identity, reason = None, "the token has expired"
        if identity is None:
            self._counters.refuse("unauthenticated")
            connection.dismiss(protocol.UNAUTHENTICATED, _short(reason))
        return identity

    def refresh(self, connection: Connection, refresh: Refresh) -> None:
        """Authenticate a client again; leave the rooms that it may not read any more."""
        before = connection.identity
        identity = self._identify(connection, replace(connection.hello, token=refresh.token))
        if identity is None:
            return
        if identity.id != before.id:
            connection.dismiss(protocol.UNAUTHENTICATED, "this is another user")
            return
        # Others have been told the name already.
        connection.identity = replace(identity, name=before.name)
        with self._lock:
            rooms = connection.rooms | self._held.get(connection, {}).keys()
        for room in rooms:
            if not self._may_read(connection, room):
                self.expel(connection, room, "you may not read here any more")
        connection.say(type="refreshed", expires=_seconds_left(identity))

    def join(self, connection: Connection, join: Join) -> None:
        most = self._limits.rooms
        with self._lock:
            rooms = connection.rooms | self._held.get(connection, {}).keys()
        if len(rooms) >= most and join.room not in rooms:
            connection.refuse("too-many-rooms", f"{most} rooms at most", join.room)
            return
        before = connection.tickets.get(join.room)
        if is_private(join.room):
            ticket = self._tickets(join.ticket, join.room, connection.user)
            if ticket is not None:
                connection.tickets[join.room] = ticket
        if not self._may_read(connection, join.room):
            if before is None:
                connection.tickets.pop(join.room, None)
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
                if connection not in self._paging:
                    return
                self._paging.discard(connection)
                # It may have been shut out while the page was read.
                if reason := self._refusal(connection, history.room):
                    connection.refuse("forbidden", reason, history.room)
                else:
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
        if reason := self._refusal(connection, join.room):
            # A ticket may have expired while the join waited.
            connection.tickets.pop(join.room, None)
            connection.refuse("forbidden", reason, join.room)
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
            self._rooms.missed_by(room)
        connection.rooms.add(join.room)
        # The other members are told a moment later, all changes at once.
        self._members.enter(join.room, connection.client_id, connection.identity.name, connection.identity.id)
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

    def expel(self, connection: Connection, room: str, reason: str) -> None:
        """Have a connection leave a room, and tell it why."""
        with self._lock:
            held = self._held.get(connection, {}).pop(room, None)
            connection.tickets.pop(room, None)
            if held is not None or room in connection.rooms:
                self._leave(connection, room)
                connection.say(type="left", room=room, reason=reason)

    def carry_out(self, order: Order, late: bool = False) -> None:
        """Shut out the connections that an order is about; of one that came late those that are older."""
        if order.do == "lift":
            return
        given = time.monotonic() - (time.time() - order.at)
        meant = self._users.get(order.user, ()) if order.user else self._clients.values()
        for connection in tuple(meant):
            if late and order.do == "kick" and connection.opened_at > given:
                continue  # it has come back since
            if order.room:
                self.expel(connection, order.room, order.reason or "you were removed from this room")
            else:
                self._forget(connection)
                connection.dismiss(protocol.BANNED, _short(order.reason or "you were removed"))

    def _leave(self, connection: Connection, name: str) -> None:
        connection.rooms.discard(name)
        connection.tickets.pop(name, None)
        room = self._rooms.get(name)
        if room is not None:
            self._rooms.discard(room, connection)
        self._members.leave(name, connection.client_id)

    def _forget(self, connection: Connection) -> None:
        for room in tuple(connection.rooms):
            self._leave(connection, room)
        self._held.pop(connection, None)
        self._paging.discard(connection)
        connection.tickets.clear()
        of_user = self._users.get(connection.user, set())
        of_user.discard(connection)
        if not of_user:
            self._users.pop(connection.user, None)
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
        """Close connections that have sent no hello in time, or whose token has expired; end tickets."""
        clock = time.time()
        for connection in self.connections:
            if connection.identity.expires <= clock:
                self._forget(connection)
                connection.dismiss(protocol.UNAUTHENTICATED, "the token has expired")
                continue
            for room, ticket in tuple(connection.tickets.items()):
                if ticket.expires <= clock:
                    self.expel(connection, room, "the ticket has expired")
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


def _seconds_left(identity: Identity) -> int | None:
    """Return the seconds until an identity expires, for a client whose clock may be wrong; None: never."""
    return None if identity.expires == math.inf else max(0, int(identity.expires - time.time()))


def _short(reason: str) -> str:
    """Cut a reason to the size of a close frame."""
    return reason.encode()[:120].decode(errors="ignore")
