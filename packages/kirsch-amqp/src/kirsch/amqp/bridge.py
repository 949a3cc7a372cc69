"""Rooms of WebSockets over all processes that share a broker."""

import itertools
import logging
import math
import threading
import time
from collections.abc import Callable, Collection
from itertools import islice
from secrets import token_hex
from typing import Any, Literal

from cherrypy.process.plugins import SimplePlugin

from kirsch.amqp import protocol
from kirsch.amqp.access import Direction, Identity, Order, Ticket, refusal
from kirsch.amqp.batching import Batching
from kirsch.amqp.connection import Connection
from kirsch.amqp.consumer import StreamConsumer
from kirsch.amqp.limits import Limits, Proxies
from kirsch.amqp.loops import ThreadLoop
from kirsch.amqp.members import Members
from kirsch.amqp.message import Delivery, Publication, Settled
from kirsch.amqp.metrics import Counters, Figure
from kirsch.amqp.plugin import AMQPPlugin
from kirsch.amqp.protocol import Send, Signal
from kirsch.amqp.registry import Authenticate, ConnectionRegistry, Tickets
from kirsch.amqp.room import Rooms
from kirsch.amqp.stream import PATIENCE, RoomStream
from kirsch.amqp.topology import Binding, Consumer, Exchange, Queue
from kirsch.websocket import Deflate, Policy

log = logging.getLogger("kirsch.amqp")

Authorise = Callable[[Identity, str, Direction], bool]
Check = Callable[[Identity, str, Any], Any]

# Seconds between regular looks at what is to be done; until a look that was asked for.
TICK, SOON = 1.0, 0.05
# Messages the broker sends ahead of acknowledgements.
PREFETCH = 1000
# People of a room whom an overview names.
NAMED = 10


class Bridge(SimplePlugin):
    """Rooms of WebSockets over all processes that share a broker.

    A message is published to the topic exchange `NAME.rooms` with its room as routing key, and is stored in
    the stream `NAME.history`. Each process reads the stream once, however many members it has. The sender is
    told once the broker has confirmed the message. Presence and signals go by the exchange `NAME.events`.

    Give `connection` to a provider as its application, with `policy` and `websocket_limits`:

        @cherrypy.expose
        @cherrypy.tools.websocket(application=bridge.connection, policy=bridge.policy,
                                  limits=bridge.websocket_limits)
        def ws(self): ...

    The AMQPPlugin's `loop` has to be of the provider's kind: "thread" for CherryPy, threaded and WSGI,
    "asyncio", "tornado" or "gevent" for those.

    Args:
        bus: the bus that `amqp` is on.
        amqp: the connection to the broker.
        name: prefix of exchanges and the stream; processes with the same name share their rooms.
        authenticate: takes a Hello and the handshake's request, returns an Identity, or None to refuse
            (4401). Without it every client has the name it asks for.
        authorise: takes an Identity, a room and "read" (join) or "write" (send, signal); returns True to
            allow. Without it everything is allowed.
        check: takes an Identity, a room and a message's data; returns the data to be sent, or raises Refused.
        tickets: takes a ticket, a room and a user; returns the Ticket that it is, or None. Without it nobody
            may join private rooms, whose names begin with "!".
        origins: origins of pages that may connect, as Policy takes them; the same host by default.
        limits: limits of each connection.
        proxies: networks of the proxies in front, such as "10.0.0.0/8"; the address that
            `limits.per_address` counts is then that of their X-Forwarded-For.
        slow: treatment of a reader whose queue is full. "close" closes it with 1013; "drop" sends it nothing
            until it has read, and then tells it of a gap if messages were dropped from memory meanwhile.
        keep: retention of the stream: seconds and bytes.
        replay: seconds of the stream that a process reads back when it starts.
        memory: bytes of messages that a process keeps in memory; and for each room, messages and bytes.
        reach: number of messages of the stream from which a client may resume. Messages that are not in
            memory are read from the stream.

    The hooks are called in the provider's thread, on asyncio, Tornado and gevent in the loop's: they must not
    block there. An exception other than Refused closes the connection with 1011, and is logged.
    """

    def __init__(
        self,
        bus: Any,
        amqp: AMQPPlugin,
        name: str = "kirsch",
        *,
        authenticate: Authenticate | None = None,
        authorise: Authorise | None = None,
        check: Check | None = None,
        tickets: Tickets | None = None,
        origins: Collection[str] | None = None,
        limits: Limits | None = None,
        proxies: Collection[str] = (),
        slow: Literal["close", "drop"] = "close",
        keep: tuple[float, int] = (7 * 86400.0, 1 << 30),
        replay: float = 86400.0,
        memory: tuple[int, int, int] = (64 << 20, 1000, 1 << 20),
        reach: int = 1_000_000,
    ) -> None:
        super().__init__(bus)
        if slow not in ("close", "drop"):
            raise ValueError(f"slow is 'close' or 'drop', not {slow!r}")
        self.name = name
        self.amqp = amqp
        self.limits = Limits() if limits is None else limits
        self.proxies = Proxies(proxies)
        self.websocket_limits = self.limits.websocket
        # Each message is compressed once for all members.
        self.policy = Policy(origins=origins, deflate=Deflate(server_no_context_takeover=True))
        self.connection: type[Connection] = type("Connection", (Connection,), {"bridge": self})
        self.counters = Counters()
        self.process = token_hex(8)
        self._authorise = authorise or (lambda identity, room, direction: True)
        self._check = check or (lambda identity, room, data: data)
        self._exchange, self._events = f"{name}.rooms", f"{name}.events"
        self.lock = threading.RLock()
        most, count, size = memory
        # Event loops write what an iteration sends together by themselves.
        self._batching = Batching(amqp.loop.call, self.limits.queue // 4)
        threads = type(amqp.loop) is ThreadLoop
        self.rooms = Rooms(
            slow=slow,
            lag=self.lagging,
            back=lambda room, member: self.presence.tell_all(room, member),
            count=count,
            size=size,
            memory=most,
            reach=reach,
            batching=self._batching if threads else None,
        )
        self.presence = Members(
            self.process,
            self._events,
            self.rooms,
            self.limits.roster,
            lambda publication: self.bus.publish("ws2amqp", publication),
            self.look_soon,
            lambda order, late: self.registry.carry_out(order, late),
            time.time,
        )
        self.stream = RoomStream(
            f"{name}.history",
            self._exchange,
            StreamConsumer(self.process, max(1, int(replay)), PATIENCE),
            rooms=self.rooms,
            counters=self.counters,
            amqp=amqp,
            lock=self.lock,
            soon=self.look_soon,
            # A moment later the next message, which may have been sent behind a join, would have been read.
            caught_up=lambda: self.registry.let_in(time.monotonic()),
        )
        self.registry = ConnectionRegistry(
            authenticate or (lambda hello, request: Identity(hello.name)),
            lambda connection, room: self.allowed(connection, room, "read"),
            lambda connection, room: self._refusal(connection, room, "read"),
            tickets or (lambda ticket, room, user: None),
            amqp=amqp,
            stream=self.stream,
            rooms=self.rooms,
            members=self.presence,
            limits=self.limits,
            proxies=self.proxies,
            counters=self.counters,
            lock=self.lock,
            soon=self.look_soon,
        )
        self._soon = False
        self._ticking = False
        # Numbers of the application's own messages.
        self._numbers = itertools.count(1)
        amqp.declare += [
            Exchange(self._exchange),
            Queue.stream(self.stream.queue, age=keep[0], size=keep[1]),
            Binding(self.stream.queue, self._exchange),
            Exchange(self._events, "fanout", durable=False),
            Queue(self._events, mine=True),
            Binding(self._events, self._events),
        ]
        amqp.consume += [
            Consumer(self.stream.queue, PREFETCH, self.stream.connect),
            Consumer(self._events, PREFETCH),
        ]

    # On the bus.

    def subscribe(self) -> None:
        super().subscribe()
        for channel, listener in self._listeners():
            self.bus.subscribe(channel, listener)

    def unsubscribe(self) -> None:
        super().unsubscribe()
        for channel, listener in self._listeners():
            self.bus.unsubscribe(channel, listener)

    def _listeners(self) -> list[tuple[str, Callable[..., None]]]:
        return [
            ("amqp2ws", self.delivered),
            ("amqp-connected", self.connected),
            ("amqp-lost", self.lost),
        ]

    def start(self) -> None:
        if self._ticking:
            return
        self._ticking = True
        # A look that was due when the bus stopped did not take place.
        self._soon = False
        self.stream.start()
        self.amqp.loop.call(self._tick)

    start.priority = 61  # type: ignore[attr-defined] # after AMQPPlugin

    def stop(self) -> None:
        """Tell other processes that all members of this one have left."""
        self._ticking = self.stream.running = False
        with self.lock:
            self.presence.bye()

    stop.priority = 55  # type: ignore[attr-defined] # before AMQPPlugin

    # For applications.

    @property
    def connections(self) -> list[Connection]:
        """Connections that completed the handshake."""
        with self.lock:
            return self.registry.connections

    def check_serving(self) -> None:
        """Check for HealthPlugin: raises RuntimeError until the stream was read, also if the broker is away.

        Afterwards rooms are served from memory while the broker is away, and what is sent waits for it.
        """
        if not self.stream.consumer.caught_up:
            self.amqp.check()
            raise RuntimeError(f"{self.amqp.broker}: earlier messages are still being read")

    def check(self) -> None:
        """Check for HealthPlugin: raises RuntimeError, in one line, while messages neither go nor come."""
        self.amqp.check()
        if not self.stream.consumer.up_to_date:
            raise RuntimeError(f"{self.amqp.broker}: earlier messages are still being read")

    def members(self, room: str) -> list[tuple[str, str]]:
        """Return the members of a room in all processes: clients and names."""
        with self.lock:
            return self.presence.presence.members(room)

    def users(self, room: str) -> dict[str, list[str]]:
        """Return the users in a room, in all processes, each with its clients."""
        with self.lock:
            return self.presence.presence.users(room)

    def overview(self, most: int) -> dict[str, Any]:
        """Return what RoomsPage shows, as JSON has it: figures, and the rooms with most people.

        Of members all processes have told; messages, gaps and who is behind are this process's count.
        """
        presence, rooms = self.presence.presence, self.rooms
        with self.lock:
            sizes = {name: presence.count(name) for name in presence.rooms}
            largest = sorted(sizes, key=lambda name: (-sizes[name], name))[:most]
            return {
                "name": self.name,
                "process": self.process,
                "broker": self.amqp.connected,
                "figures": {
                    "processes": presence.processes,
                    "connections here": len(self.registry.connections),
                    "rooms with people": len(sizes),
                    "messages": self.counters.messages,
                    "deliveries": rooms.delivered,
                    "gaps": rooms.gaps,
                    "slow readers closed": self.counters.slow,
                },
                "rooms": [self._overview(name) for name in largest],
                "more": len(sizes) - len(largest),
            }

    def _overview(self, name: str) -> dict[str, Any]:
        presence, room = self.presence.presence, self.rooms.get(name)
        users = presence.users(name)
        names = dict(presence.members(name))
        return {
            "room": name,
            "people": len(users),
            "windows": presence.count(name),
            "names": [names[clients[0]] for clients in islice(users.values(), NAMED)],
            "messages": room.said if room else 0,
            "behind": len(room.behind) if room else 0,
            "gaps": room.gaps if room else 0,
        }

    def kick(self, user: str = "", room: str = "", reason: str = "") -> None:
        """End a user's connections in all processes, or its membership of a room; it may come back.

        Without a user all members of the room leave it.
        """
        self._order("kick", user, room, math.inf, reason)

    def ban(self, user: str = "", room: str = "", *, seconds: float = math.inf, reason: str = "") -> None:
        """Kick, and let nobody back in until the ban has expired, or is lifted.

        With a room only that is closed to the user, whatever its ticket; without a user the room is closed to
        everybody. Processes tell each other the bans; when all of them end, the bans do.
        """
        self._order("ban", user, room, time.time() + seconds, reason)

    def lift(self, user: str = "", room: str = "") -> None:
        """Lift the ban of a user and room."""
        self._order("lift", user, room, math.inf, "")

    def _order(
        self, do: Literal["kick", "ban", "lift"], user: str, room: str, until: float, reason: str
    ) -> None:
        if not user and not room:
            raise ValueError(f"{do} needs a user, a room, or both")
        with self.lock:
            self.presence.order(Order(do, user, room, until, reason, time.time()))

    def send(self, room: str, data: Any, name: str = "", settled: Settled | None = None) -> None:
        """Send a message from the application itself. Raises ValueError for an impossible room name.

        `settled` is called with "" once the broker has the message, else with the reason: a Rejected if it
        will never take it. Without `settled` a refusal is logged.
        """
        if not protocol.is_room(room):
            raise ValueError("room has 1 to 100 characters, and no space, * or #")
        body = protocol.envelope(room, "", name, Send(room, 0, data), int(time.time() * 1000))
        # The id identifies the message if it is published again after a lost connection.
        known = protocol.message_id(self.process, next(self._numbers))
        publication = Publication(
            self._exchange, room, body, kind=protocol.MESSAGE, message_id=known, settled=settled
        )
        self.bus.publish("ws2amqp", publication)

    def gauges(self) -> tuple[Figure, ...]:
        """Return the present figures, for BridgeCollector."""
        return (
            ("connected", "Whether the broker is there", int(self.amqp.connected)),
            ("unconfirmed", "Messages that wait for the broker's confirmation", self.amqp.unconfirmed),
            ("connections", "Connections that have said hello", len(self.connections)),
            ("rooms", "Rooms that are known", len(self.rooms)),
            ("history_bytes", "Bytes of messages that are kept", self.rooms.size),
            ("lagging_rooms", "Rooms with members who are behind", len(self.rooms.lagging)),
            ("processes", "Processes that share the rooms", self.presence.presence.processes),
            ("stream_offset", "The last message of the stream that has come", self.rooms.offset),
        )

    def totals(self) -> tuple[Figure, ...]:
        """Return figures that only grow, besides `counters`, for BridgeCollector."""
        return (
            ("deliveries", "Messages sent to members of rooms", self.rooms.delivered),
            ("gaps", "Members who have missed messages", self.rooms.gaps),
        )

    # Commands of connections, in the provider's threads.

    def allowed(
        self, connection: Connection, room: str, direction: Direction, number: int | None = None
    ) -> bool:
        """Return True if a connection may read or write in a room; tell it if not."""
        if reason := self._refusal(connection, room, direction):
            connection.refuse("forbidden", reason, room, number)
            return False
        if self._authorise(connection.identity, room, direction):
            return True
        connection.refuse("forbidden", f"you may not {direction} here", room, number)
        return False

    def _refusal(self, connection: Connection, room: str, direction: Direction) -> str:
        """Return why a connection may not read or write in a room, whatever the application says; or ""."""
        now, user = time.time(), connection.user
        ticket: Ticket | None = connection.tickets.get(room)
        return self.presence.bans.reason(user, room, now) or refusal(user, room, direction, ticket, now)

    def publish(self, connection: Connection, send: Send, settled: Settled) -> None:
        """Publish a message; it comes back to all members from the broker. Raises Refused."""
        send = Send(send.room, send.number, self._check(connection.identity, send.room, send.data))
        client, identity = connection.client_id, connection.identity
        at = int(time.time() * 1000)
        body = protocol.envelope(send.room, client, identity.name, send, at, identity.id)
        known = protocol.message_id(client, send.number)
        content = protocol.content(send.room, send.data)
        with self.lock:
            self.counters.received += 1
            confirmed = self.stream.expect(known, content, settled)
        publication = Publication(
            self._exchange,
            send.room,
            body,
            kind=protocol.MESSAGE,
            message_id=known,
            headers={protocol.CONTENT: content},
            settled=confirmed,
        )
        self.bus.publish("ws2amqp", publication)

    def spread(self, connection: Connection, signal: Signal) -> None:
        """Send a signal to the members that are connected now, in all processes."""
        with self.lock:
            self.counters.signals += 1
            self.presence.signal(signal.room, connection.client_id, connection.identity.name, signal.data)

    def lagging(self, connection: Connection) -> None:
        """Close a slow connection and drop its queue."""
        if connection.close_sent is None:
            log.info("%s: reads too slowly", connection.peer)
            with self.lock:
                self.counters.slow += 1
            connection.discard()
            connection.dismiss(protocol.SLOW, "you read too slowly: come back")

    # Events of the broker, in the thread of AMQPPlugin's listeners.

    def connected(self) -> None:
        with self.lock:
            self.presence.connected(time.monotonic())
            self._tell_all(True)

    def lost(self, reason: str) -> None:
        # The loop may have ended, and with it the call that would uncork members.
        self._batching.end()
        with self.lock:
            self.stream.lost()
            self._tell_all(False)

    def _tell_all(self, connected: bool) -> None:
        message = protocol.text(type="broker", connected=connected)
        for connection in self.registry.connections:
            connection.tell(message)

    def delivered(self, delivery: Delivery) -> None:
        if delivery.queue == self.stream.queue and delivery.offset is not None:
            with self.lock:
                self.stream.receive(delivery, delivery.offset)
        elif delivery.queue == self._events:
            with self.lock:
                self.presence.hear(delivery.body, time.monotonic())

    # What is done now and then.

    def look_soon(self) -> None:
        """Call `look` in a moment, unless that is due already."""
        if not self._soon:
            self._soon = True
            self.amqp.loop.call(lambda: self.amqp.loop.later(SOON, lambda: self.amqp.loop.tell(self.look)))

    def look(self) -> None:
        """Let in connections that waited, send to members who are behind, tell changes of presence."""
        now = time.monotonic()
        with self.lock:
            self._soon = False
            self.registry.let_in(now)
            self.stream.look()
            for name in tuple(self.rooms.lagging):
                self.rooms.catch_up(name, now, self.limits.stalled)
            self.presence.tell(self.amqp.connected)
            if self.registry.waiting or self.rooms.lagging or self.stream.history.waiting:
                self.look_soon()

    def _tick(self) -> None:
        """Run once a second, where the broker's connection runs."""
        if self._ticking:
            self.amqp.loop.later(TICK, self._tick)
            self.amqp.loop.tell(self._second)

    def _second(self) -> None:
        now = time.monotonic()
        with self.lock:
            if self.amqp.connected:
                self.stream.tick(now)
            self.presence.second(now, self.amqp.connected)
            self.registry.late(now)
        if not self._soon and (self.registry.waiting or self.rooms.lagging or self.presence.presence.changed):
            self.look()
