"""Browsers in rooms, whichever process they are connected to: between WebSockets and the broker."""

import itertools
import logging
import threading
import time
from collections.abc import Callable, Collection
from secrets import token_hex
from typing import Any, Literal

from cherrypy.process.plugins import SimplePlugin

from kirsch.amqp import protocol
from kirsch.amqp.connection import Connection
from kirsch.amqp.counters import Counters
from kirsch.amqp.gathering import Gathering
from kirsch.amqp.hearing import Hearing
from kirsch.amqp.identity import Identity
from kirsch.amqp.limits import Limits
from kirsch.amqp.loops import ThreadLoop
from kirsch.amqp.message import Delivery, Publication, Settled
from kirsch.amqp.others import Others
from kirsch.amqp.plugin import AMQPPlugin
from kirsch.amqp.protocol import Send, Signal
from kirsch.amqp.reception import Authenticate, Reception
from kirsch.amqp.room import Rooms
from kirsch.amqp.topology import Binding, Consumer, Exchange, Queue
from kirsch.websocket import Deflate, Policy

log = logging.getLogger("kirsch.amqp")

Direction = Literal["read", "write"]
Authorise = Callable[[Identity, str, Direction], bool]
Check = Callable[[Identity, str, Any], Any]

# Seconds between looks at what is to be done; until what has changed is told.
TICK, SOON = 1.0, 0.05
PREFETCH = 1000


class Bridge(SimplePlugin):
    """Rooms of WebSockets over all processes that share a broker.

    What is said in a room is published to the topic exchange `NAME.rooms` with the room as routing key, and
    lands in the stream `NAME.history`, which each process reads once, whoever is connected to it. The sender
    is told once the broker has confirmed it. Presence and signals go by the exchange `NAME.events`.

    Give `connection` to a provider as its application, with `policy` and `websocket_limits`:

        @cherrypy.expose
        @cherrypy.tools.websocket(application=bridge.connection, policy=bridge.policy,
                                  limits=bridge.websocket_limits)
        def ws(self): ...

    The AMQPPlugin's `loop` has to be of the provider's kind: "thread" for CherryPy, threaded and WSGI,
    "asyncio", "tornado" or "gevent" for those.

    Args:
        bus: the one that `amqp` is on.
        amqp: the connection to the broker.
        name: what exchanges and the stream are called by; processes of one name share their rooms.
        authenticate: given a Hello and the handshake's request, says who it is; None refuses (4401). Without
            it everybody is who they say.
        authorise: given an Identity, a room and "read" (join) or "write" (send, signal), says whether that
            may be. Without it all may.
        check: given an Identity, a room and the data of a message, gives the data to be sent; it raises
            Refused to refuse it.
        origins: pages that may connect, as Policy has it: those of the same host.
        limits: what a connection may cost.
        slow: what becomes of a reader whose queue is full: "close" closes it with 1013, "drop" leaves it out
            until it has read, and then it is told of a gap if it has missed what is not kept any more.
        keep: how long messages are kept in the stream, in seconds, and how many bytes of them.
        replay: how far a process that starts reads back, in seconds.
        memory: how many bytes of messages a process keeps for those who join, and per room how many messages
            and bytes.
        reach: how many messages of the stream back one may resume: what is not kept any more is read from the
            stream.

    The hooks are called in the provider's thread, on asyncio, Tornado and gevent in the loop's: they must not
    wait there. What one raises besides Refused closes the connection with 1011, and is logged.
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
        origins: Collection[str] | None = None,
        limits: Limits | None = None,
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
        self.websocket_limits = self.limits.websocket
        # Of what many are sent each is compressed once.
        self.policy = Policy(origins=origins, deflate=Deflate(server_no_context_takeover=True))
        self.connection: type[Connection] = type("Connection", (Connection,), {"bridge": self})
        self.counters = Counters()
        self.process = token_hex(8)
        self.reception = Reception(self, authenticate or (lambda hello, request: Identity(hello.name)))
        self._authorise = authorise or (lambda identity, room, direction: True)
        self._check = check or (lambda identity, room, data: data)
        self._exchange, self._events = f"{name}.rooms", f"{name}.events"
        self.lock = threading.RLock()
        most, count, size = memory
        # On loops what is sent goes together as it is.
        self._gathering = Gathering(amqp.loop.call, self.limits.queue // 4)
        threads = type(amqp.loop) is ThreadLoop
        self.rooms = Rooms(
            slow=slow,
            lag=self.lagging,
            back=lambda room, member: self.others.tell_all(room, member),
            count=count,
            size=size,
            memory=most,
            reach=reach,
            gathering=self._gathering if threads else None,
        )
        self.others = Others(
            self.process,
            self._events,
            self.rooms,
            self.limits.roster,
            lambda publication: self.bus.publish("ws2amqp", publication),
            self.look_soon,
        )
        self.hearing = Hearing(self, f"{name}.history", self._exchange, max(1, int(replay)))
        self._soon = False
        self._ticking = False
        # Of what the application says itself.
        self._numbers = itertools.count(1)
        amqp.declare += [
            Exchange(self._exchange),
            Queue.stream(self.hearing.queue, age=keep[0], size=keep[1]),
            Binding(self.hearing.queue, self._exchange),
            Exchange(self._events, "fanout", durable=False),
            Queue(self._events, mine=True),
            Binding(self._events, self._events),
        ]
        amqp.consume += [
            Consumer(self.hearing.queue, PREFETCH, self.hearing.where),
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
        self._ticking = self.hearing.stream.running = True
        # What was to be done soon when the bus stopped was not.
        self._soon = False
        if not self.hearing.reader.caught_up:
            # Before all that is sent here: when it comes back all that was there before has been read, and
            # what was sent meanwhile follows those who joined meanwhile.
            self.hearing.stream.mark()
        self.amqp.loop.call(self._tick)

    start.priority = 61  # type: ignore[attr-defined] # after AMQPPlugin

    def stop(self) -> None:
        """Have the others know that all of this process's have left."""
        self._ticking = self.hearing.stream.running = False
        with self.lock:
            self.others.bye()

    stop.priority = 55  # type: ignore[attr-defined] # before AMQPPlugin

    # For applications.

    @property
    def connections(self) -> list[Connection]:
        """Those that have said hello."""
        with self.lock:
            return self.reception.connections

    def check(self) -> None:
        """For HealthPlugin: raises RuntimeError, in one line, while messages neither go nor come."""
        self.amqp.check()
        if not self.hearing.up_to_date:
            raise RuntimeError(f"{self.amqp.broker}: what was said before is being read")

    def members(self, room: str) -> list[tuple[str, str]]:
        """Who is in a room, in any process: clients and names."""
        with self.lock:
            return self.others.presence.members(room)

    def send(self, room: str, data: Any, name: str = "", settled: Settled | None = None) -> None:
        """Say something in a room in the application's own name. Raises ValueError for what is no room.

        `settled` is told "" once the broker has it, else why not: a Rejected where it never will. Without it
        what is refused is logged.
        """
        if not protocol.is_room(room):
            raise ValueError("room has 1 to 100 characters, and no space, * or #")
        body = protocol.envelope(room, "", name, Send(room, 0, data), int(time.time() * 1000))
        # It is published again if the connection is lost before it was confirmed.
        known = protocol.message_id(self.process, next(self._numbers))
        publication = Publication(
            self._exchange, room, body, kind=protocol.MESSAGE, message_id=known, settled=settled
        )
        self.bus.publish("ws2amqp", publication)

    # What connections say, in the provider's threads.

    def allowed(
        self, connection: Connection, room: str, direction: Direction, number: int | None = None
    ) -> bool:
        """Whether a connection may read or write in a room; it is told if not."""
        if self._authorise(connection.identity, room, direction):
            return True
        self.refuse(connection, "forbidden", f"you may not {direction} here", room, number)
        return False

    def publish(self, connection: Connection, send: Send, settled: Settled) -> None:
        """Give a message to the broker, whence it comes back to all. Raises Refused."""
        send = Send(send.room, send.number, self._check(connection.identity, send.room, send.data))
        client, name = connection.client_id, connection.identity.name
        body = protocol.envelope(send.room, client, name, send, int(time.time() * 1000))
        known = protocol.message_id(client, send.number)
        publication = Publication(
            self._exchange, send.room, body, kind=protocol.MESSAGE, message_id=known, settled=settled
        )
        with self.lock:
            self.counters.received += 1
        self.bus.publish("ws2amqp", publication)

    def spread(self, connection: Connection, signal: Signal) -> None:
        """Give a signal to all members that are there now, in any process."""
        with self.lock:
            self.counters.signals += 1
            self.others.signal(signal.room, connection.client_id, connection.identity.name, signal.data)

    def lagging(self, connection: Connection, error: Exception | None = None) -> None:
        """It does not read: what waits for it is dropped, and it is closed."""
        if connection.close_sent is None:
            log.info("%s: reads too slowly", connection.peer)
            with self.lock:
                self.counters.slow += 1
            connection.discard()
            connection.dismiss(protocol.SLOW, "you read too slowly: come back")

    def refuse(
        self, connection: Connection, code: str, reason: str, room: str, number: int | None = None
    ) -> None:
        self.count("refused", code)
        connection.complain(code, reason, room, number)

    def count(self, what: Literal["refused", "closed"], code: str | int) -> None:
        """One more was refused, or closed by us."""
        with self.lock:
            getattr(self.counters, what)[code] += 1

    # What the broker says, in the AMQPPlugin's listeners' thread.

    def connected(self) -> None:
        with self.lock:
            self.others.connected(time.monotonic())
            self._tell_all(True)

    def lost(self, reason: str) -> None:
        # The loop may have had its last turn.
        self._gathering.end()
        with self.lock:
            self.hearing.lost()
            self._tell_all(False)

    def _tell_all(self, connected: bool) -> None:
        message = protocol.text(type="broker", connected=connected)
        for connection in self.reception.connections:
            connection.tell(message)

    def delivered(self, delivery: Delivery) -> None:
        if delivery.queue == self.hearing.queue and delivery.offset is not None:
            with self.lock:
                self.hearing.hear(delivery, delivery.offset)
        elif delivery.queue == self._events:
            with self.lock:
                self.others.hear(delivery.body, time.monotonic())

    # Now and then.

    def look_soon(self) -> None:
        """Look at what is to be done in a moment, unless that is to be done already."""
        if not self._soon:
            self._soon = True
            self.amqp.loop.call(lambda: self.amqp.loop.later(SOON, lambda: self.amqp.loop.tell(self.look)))

    def look(self) -> None:
        """Let in who waited, give to those who are behind, tell what has changed."""
        now = time.monotonic()
        with self.lock:
            self._soon = False
            self.reception.let_in(now)
            self.hearing.look()
            for name in tuple(self.rooms.lagging):
                self.rooms.catch_up(name, now, self.limits.stalled)
            self.others.tell(self.amqp.connected)
            if self.reception.waiting or self.rooms.lagging:
                self.look_soon()

    def _tick(self) -> None:
        """Once a second, where the connection to the broker runs."""
        if self._ticking:
            self.amqp.loop.later(TICK, self._tick)
            self.amqp.loop.tell(self._second)

    def _second(self) -> None:
        now = time.monotonic()
        with self.lock:
            if self.amqp.connected:
                self.hearing.second(now)
            self.others.second(now, self.amqp.connected)
            self.reception.late(now)
        if not self._soon and (self.reception.waiting or self.rooms.lagging or self.others.rosters.waiting):
            self.look()
