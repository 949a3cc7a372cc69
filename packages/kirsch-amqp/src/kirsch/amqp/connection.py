"""One browser: what it says is read here, and done by the Bridge."""

import time
from typing import Any, ClassVar

from kirsch.amqp import protocol
from kirsch.amqp.identity import Identity, Refused
from kirsch.amqp.limits import Bucket
from kirsch.amqp.message import Rejected
from kirsch.amqp.protocol import Hello, Join, Leave, Malformed, Ping, Send, Signal
from kirsch.websocket import Closed, WebSocket

__all__ = ["Connection"]


class Connection(WebSocket):
    """What `Bridge.connection` is: give it to any provider of kirsch.websocket.

    Attributes:
        bridge: whose it is.
        client_id: what others know it by; "" before its hello.
        identity: what `authenticate` said.
        rooms: those it is in.
    """

    bridge: ClassVar[Any]
    client_id = ""
    identity = Identity()

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.rooms: set[str] = set()
        # One token for each message; adding and taking away are safe from any thread.
        self._unconfirmed: set[object] = set()
        self.opened_at = now = time.monotonic()
        limits = self.bridge.limits
        self._messages = Bucket(limits.rate, limits.burst, now)
        self._bytes = Bucket(limits.bytes, limits.bytes_burst, now)
        # How many more may be refused before it is closed.
        self._refusals = limits.burst

    def opened(self) -> None:
        self.bridge.reception.opened(self)

    def closed(self, code: int, reason: str) -> None:
        self.bridge.reception.closed(self, code)

    def received_message(self, message: Any) -> None:
        if self.close_sent is not None:
            # What was on its way is nobody's any more.
            return
        if not isinstance(message, str):
            self.dismiss(protocol.TEXT_ONLY, "messages are text")
            return
        now = time.monotonic()
        if not (self._messages.take(now) and self._bytes.take(now, len(message))):
            self._refuse(message)
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
            self.bridge.count("refused", "refused")
            self.complain(
                "refused", str(error), getattr(command, "room", None), getattr(command, "number", None)
            )

    def _do(self, command: protocol.Command) -> None:
        match command:
            case Send():
                self._send(command)
            case Signal():
                self._signal(command)
            case Join():
                self.bridge.reception.join(self, command)
            case Leave():
                self.bridge.reception.leave(self, command.room)
            case Hello():
                self.bridge.reception.hello(self, command)
            case Ping():
                self.say(type="pong")

    def _send(self, send: Send) -> None:
        """A message: it goes to the broker, and comes back from there to all members."""
        bridge, room, number = self.bridge, send.room, send.number
        if not bridge.allowed(self, room, "write", number):
            return
        if len(self._unconfirmed) >= bridge.limits.unconfirmed:
            bridge.refuse(self, "busy", "too many messages wait to be confirmed", room, number)
            return
        begun, token = time.monotonic(), object()

        def settled(reason: str) -> None:
            self._unconfirmed.discard(token)
            if reason:
                code = "refused" if isinstance(reason, Rejected) else "unconfirmed"
                bridge.refuse(self, code, reason, room, number)
            else:
                bridge.counters.confirmed(time.monotonic() - begun)
                self.say(type="sent", room=room, number=number)

        self._unconfirmed.add(token)
        try:
            bridge.publish(self, send, settled)
        except Exception:
            # A hook's.
            self._unconfirmed.discard(token)
            raise

    def _signal(self, signal: Signal) -> None:
        """A signal: to all members that are there now."""
        if self.bridge.allowed(self, signal.room, "write"):
            self.bridge.spread(self, signal)

    def _refuse(self, message: str) -> None:
        """It says too much: it is told for a while, then closed."""
        self.bridge.count("refused", "rate")
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

    # What it is told.

    def say(self, **said: Any) -> None:
        """Send one message, if it can be."""
        self.tell(protocol.text(**said))

    def tell(self, message: str) -> None:
        """Send text; who does not read has nothing from being told."""
        try:
            self.send(message)
        except Closed:
            pass
        except Exception as error:
            self.bridge.lagging(self, error)

    def complain(self, code: str, reason: str, room: str | None = None, number: int | None = None) -> None:
        """Say that something was not done."""
        said: dict[str, Any] = {"type": "error", "code": code, "reason": reason}
        if room is not None:
            said["room"] = room
        if number is not None:
            said["number"] = number
        self.say(**said)

    def dismiss(self, code: int, reason: str) -> None:
        """Close it, and say why."""
        self.bridge.count("closed", code)
        self.close(code, reason)
