"""One browser's connection: reads its commands, keeps its limits, and tells it what became of them."""

import threading
import time
from typing import Any, ClassVar, Protocol

from kirsch.amqp import protocol
from kirsch.amqp.access import Direction, Identity, Ticket, user_of
from kirsch.amqp.limits import Bucket, Limits
from kirsch.amqp.message import Conflict, Rejected, Settled
from kirsch.amqp.metrics import Counters
from kirsch.amqp.protocol import Hello, History, Join, Leave, Malformed, Ping, Refresh, Send, Signal
from kirsch.websocket import Closed, WebSocket


class Refused(Exception):
    """Raised by an application's hook to refuse; its text is sent to the client."""


class Registry(Protocol):
    """The connections of this process, as one of them uses it."""

    def opened(self, connection: "Connection") -> None: ...

    def closed(self, connection: "Connection", code: int) -> None: ...

    def hello(self, connection: "Connection", hello: Hello) -> None: ...

    def refresh(self, connection: "Connection", refresh: Refresh) -> None: ...

    def join(self, connection: "Connection", join: Join) -> None: ...

    def leave(self, connection: "Connection", room: str) -> None: ...

    def history(self, connection: "Connection", history: History) -> None: ...


class Server(Protocol):
    """The Bridge, as a connection uses it."""

    limits: Limits
    counters: Counters
    registry: Registry

    def allowed(
        self, connection: "Connection", room: str, direction: Direction, number: int | None = None
    ) -> bool: ...

    def publish(self, connection: "Connection", send: Send, settled: Settled) -> None: ...

    def spread(self, connection: "Connection", signal: Signal) -> None: ...

    def lagging(self, connection: "Connection") -> None: ...


class Budget:
    """Messages and bytes that a user may send, from any thread."""

    __slots__ = ("_bytes", "_lock", "_messages")

    def __init__(self, limits: Limits, now: float) -> None:
        self._messages = Bucket(limits.rate, limits.burst, now)
        self._bytes = Bucket(limits.bytes, limits.bytes_burst, now)
        self._lock = threading.Lock()

    def take(self, now: float, size: int) -> bool:
        """Take a message; return False beyond either limit."""
        with self._lock:
            return self._messages.take(now) and self._bytes.take(now, size)


class Connection(WebSocket):
    """The application that `Bridge.connection` gives to a provider of kirsch.websocket.

    Attributes:
        bridge: the Bridge it belongs to.
        client_id: public name of the client; "" before its hello.
        hello: its first message.
        identity: the result of `authenticate`.
        rooms: names of the rooms it has joined.
        tickets: tickets of the private rooms it has joined, or waits to join.
        budget: messages and bytes that it may send; one for all connections of a user.
    """

    bridge: ClassVar[Server]
    client_id = ""
    hello = Hello()
    identity = Identity()

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.rooms: set[str] = set()
        self.tickets: dict[str, Ticket] = {}
        # A token for each message that is not settled; set operations are safe from any thread.
        self._unconfirmed: set[object] = set()
        self.opened_at = now = time.monotonic()
        limits = self.bridge.limits
        self.budget = Budget(limits, now)
        # Messages that may still be refused before the connection is closed.
        self._refusals = limits.burst

    @property
    def user(self) -> str:
        """Name of the user: its id, or a guest's."""
        return user_of(self.identity.id, self.client_id)

    def opened(self) -> None:
        self.bridge.registry.opened(self)

    def closed(self, code: int, reason: str) -> None:
        self.bridge.registry.closed(self, code)

    def received_message(self, message: Any) -> None:
        if self.close_sent is not None:
            # Messages that arrive after the close are dropped.
            return
        if not isinstance(message, str):
            self.dismiss(protocol.TEXT_ONLY, "messages are text")
            return
        now = time.monotonic()
        if not self.budget.take(now, len(message)):
            self._limit(message)
            return
        try:
            command = protocol.read(message)
        except Malformed as error:
            self.dismiss(protocol.MALFORMED, str(error))
            return
        if not self.client_id and not isinstance(command, Hello | Ping):
            self.dismiss(protocol.MALFORMED, "the first message is a hello")
            return
        try:
            self._do(command)
        except RecursionError:
            self.dismiss(protocol.MALFORMED, "data is nested too deep")
        except Refused as error:
            self.refuse(
                "refused", str(error), getattr(command, "room", None), getattr(command, "number", None)
            )

    def _do(self, command: protocol.Command) -> None:
        match command:
            case Send():
                self._send(command)
            case Signal():
                self._signal(command)
            case Join():
                self.bridge.registry.join(self, command)
            case History():
                self.bridge.registry.history(self, command)
            case Leave():
                self.bridge.registry.leave(self, command.room)
            case Hello():
                self.bridge.registry.hello(self, command)
            case Refresh():
                self.bridge.registry.refresh(self, command)
            case Ping():
                self.say(type="pong")

    def _send(self, send: Send) -> None:
        """Publish a message: it comes back from the broker to all members."""
        bridge, room, number = self.bridge, send.room, send.number
        if not bridge.allowed(self, room, "write", number):
            return
        if len(self._unconfirmed) >= bridge.limits.unconfirmed:
            self.refuse("busy", "too many messages wait to be confirmed", room, number)
            return
        begun, token = time.monotonic(), object()

        def settled(reason: str) -> None:
            self._unconfirmed.discard(token)
            if reason:
                if isinstance(reason, Conflict):
                    self.refuse("conflict", reason, room, number)
                elif isinstance(reason, Rejected):
                    self.refuse("refused", reason, room, number)
                else:
                    self.refuse("unconfirmed", reason, room, number)
            else:
                bridge.counters.confirmed(time.monotonic() - begun)
                self.say(type="sent", room=room, number=number)

        self._unconfirmed.add(token)
        try:
            bridge.publish(self, send, settled)
        except Exception:
            # A hook of the application refused or failed.
            self._unconfirmed.discard(token)
            raise

    def _signal(self, signal: Signal) -> None:
        """Spread a signal to the members that are connected now."""
        if self.bridge.allowed(self, signal.room, "write"):
            self.bridge.spread(self, signal)

    def _limit(self, message: str) -> None:
        """Refuse a message beyond the rate limit; close the connection if it goes on."""
        self.bridge.counters.refuse("rate")
        if self._refusals <= 0:
            self.dismiss(protocol.TOO_MANY, "too many messages")
            return
        self._refusals -= 1
        room = number = None
        try:
            command = protocol.read(message)
        except Malformed:
            pass
        else:
            room, number = getattr(command, "room", None), getattr(command, "number", None)
        self.complain("rate", "too many messages: send it again later", room, number)

    def say(self, **said: Any) -> None:
        """Send one message to the client; see `tell`."""
        self.tell(protocol.text(**said))

    def tell(self, message: str) -> None:
        """Send text, unless the connection is closed; a client that does not read is closed."""
        try:
            self.send(message)
        except Closed:
            pass
        except Exception:
            self.bridge.lagging(self)

    def complain(self, code: str, reason: str, room: str | None = None, number: int | None = None) -> None:
        """Send an error message: something was not done."""
        said: dict[str, Any] = {"type": "error", "code": code, "reason": reason}
        if room is not None:
            said["room"] = room
        if number is not None:
            said["number"] = number
        self.say(**said)

    def refuse(self, code: str, reason: str, room: str | None = None, number: int | None = None) -> None:
        """Count an error, and send it."""
        self.bridge.counters.refuse(code)
        self.complain(code, reason, room, number)

    def dismiss(self, code: int, reason: str) -> None:
        """Close the connection with a code and a reason."""
        self.bridge.counters.close(code)
        self.close(code, reason)
