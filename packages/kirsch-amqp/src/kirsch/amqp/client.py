"""Client of a Bridge's rooms for programs that are no browsers: over AMQP, and blocking."""

import json
import re
import time
from collections import deque
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Literal, Self

from pika import BasicProperties, BlockingConnection, ConnectionParameters, PlainCredentials, SSLOptions
from pika.exceptions import AMQPError

from kirsch.amqp import protocol
from kirsch.amqp.access import Order
from kirsch.amqp.broker import Broker
from kirsch.amqp.errors import describe

TIMEOUT = 10.0  # seconds to connect
PREFETCH = 100
LATEST = 253_402_214_400_000  # 9999-12-31, the last day that a datetime has in every time zone
JSON = "application/json"
_SINCE = re.compile(r"[0-9]{1,6}[smhD]")


class RoomError(Exception):
    """The broker does not do what was asked: one line, without secrets."""


@dataclass(frozen=True, slots=True)
class RoomMessage:
    """A message of a room. `client` and `name` are empty, and `at` None, where a program sent it.

    Attributes:
        at: milliseconds since 1970 by the clock of the process that took it.
    """

    offset: int
    room: str
    data: Any
    client: str = ""
    name: str = ""
    user: str = ""
    at: int | None = None


class RoomClient:
    """A client of a Bridge's broker, for one thread. `name` is the Bridge's.

        with RoomClient(Broker.parse("amqp://localhost/"), "chat") as rooms:
            rooms.send("lobby", "The kettle is on.")
            for message in rooms.tail(["lobby"]):
                ...

    Whoever may publish at the broker is trusted. Every method raises RoomError.

    pika sends heartbeats within its calls only, so the broker ends a connection that is not used for two
    minutes. The next call connects again; a reader that takes longer than that for one message gets a
    RoomError, and goes on with `tail(rooms, message.offset + 1)`. Each `tail` has a connection of its own.
    """

    def __init__(self, broker: Broker, name: str = "kirsch") -> None:
        self._broker = broker
        self._name = name
        self._closed = False
        self._readers: list[BlockingConnection] = []
        # pika tries one after the other.
        self._parameters = [
            ConnectionParameters(
                node.host,
                node.port,
                node.vhost,
                PlainCredentials(node.user, node.password),
                ssl_options=SSLOptions(node.tls, node.host) if node.tls else None,
                socket_timeout=TIMEOUT,
                stack_timeout=TIMEOUT,
                blocked_connection_timeout=TIMEOUT,
            )
            for node in broker.nodes
        ]
        self._connect()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections to the broker; what is being read ends."""
        self._closed = True
        for connection in (self._connection, *self._readers):
            _close(connection)

    def send(self, room: str, data: Any) -> None:
        """Send a message to a room, and return once the broker has it. Text is sent as it is, all else as
        JSON. Raises ValueError for an impossible room."""
        if not protocol.is_room(room):
            raise ValueError("room has 1 to 100 characters, and no space, * or #")
        kind, body = ("text/plain", data) if isinstance(data, str) else (JSON, protocol.dumps(data))
        self._publish(f"{self._name}.rooms", room, body.encode(), BasicProperties(content_type=kind))

    def order(
        self, do: Literal["kick", "ban", "lift"], user: str = "", room: str = "", *, reason: str = ""
    ) -> None:
        """Kick or ban a user or, without one, all of a room; or lift that ban.

        Raises ValueError without either. A process that is not connected to the broker now hears of
        it from one that is.
        """
        if not user and not room:
            raise ValueError(f"{do} needs a user, a room, or both")
        event = {"event": "order", **Order(do, user, room, reason=reason, at=time.time()).to_json()}
        if do != "kick":
            # The latest ban or lift holds, by one clock: that of a process.
            del event["at"]
        self._publish(f"{self._name}.events", "", json.dumps(event).encode(), BasicProperties())

    def tail(self, rooms: Collection[str] = (), since: str | int = "next") -> Iterator[RoomMessage]:
        """Yield messages of some rooms, or of all, as they come.

        `since` is where in the stream it begins: "next", "first", an offset, or a time back such as "1h".
        """
        if isinstance(since, str) and since not in ("next", "first") and not _SINCE.fullmatch(since):
            raise ValueError(
                f"since is next, first, an offset, or a time such as 90s, 5m, 1h, 7D, not {since!r}"
            )
        with self._reading() as connection:
            channel = connection.channel()
            channel.basic_qos(prefetch_count=PREFETCH)
            # Not pika's generator: it rejects what it has not yielded, which streams do not know.
            deliveries: deque[tuple[Any, BasicProperties, bytes]] = deque()
            cancelled: list[object] = []
            channel.add_on_cancel_callback(cancelled.append)
            channel.basic_consume(
                f"{self._name}.history",
                lambda _, *delivery: deliveries.append(delivery),
                arguments={"x-stream-offset": since},
            )
            while True:
                while not deliveries:
                    if cancelled:
                        raise RoomError(f"{self._broker}: the queue {self._name}.history was deleted")
                    connection.process_data_events(time_limit=None)
                method, properties, body = deliveries.popleft()
                channel.basic_ack(method.delivery_tag)
                offset = (properties.headers or {}).get("x-stream-offset", -1)
                kind, content = properties.type, properties.content_type
                found = read_message(method.routing_key, body, kind, content, offset)
                # RabbitMQ sends from the beginning of the chunk that has the offset.
                early = isinstance(since, int) and offset < since
                if found is not None and not early and (not rooms or found.room in rooms):
                    yield found

    @contextmanager
    def _reading(self) -> Iterator[BlockingConnection]:
        """Connect for one reader."""
        connection = self._dial()
        self._readers.append(connection)
        try:
            yield connection
        except (AMQPError, OSError) as error:
            raise self._error(error) from None
        finally:
            self._readers.remove(connection)
            _close(connection)

    def _dial(self) -> BlockingConnection:
        if self._closed:
            raise RoomError(f"{self._broker}: this client is closed")
        try:
            return BlockingConnection(self._parameters)
        except (AMQPError, OSError) as error:
            raise self._error(error) from None

    def _connect(self) -> None:
        self._connection = self._dial()
        self._open_channel()

    def _open_channel(self) -> None:
        try:
            self._channel = self._connection.channel()
            self._channel.confirm_delivery()
        except (AMQPError, OSError) as error:
            _close(self._connection)
            raise self._error(error) from None

    def _publish(self, exchange: str, key: str, body: bytes, properties: BasicProperties) -> None:
        # The broker may have ended the connection since its last use, or at a mistake the channel.
        try:
            self._connection.process_data_events(time_limit=0)
        except (AMQPError, OSError):
            self._connect()
        if not self._channel.is_open:
            self._open_channel()
        try:
            self._channel.basic_publish(exchange, key, body, properties)
        except (AMQPError, OSError) as error:
            raise self._error(error) from None

    def _error(self, error: Exception) -> RoomError:
        return RoomError(f"{self._broker}: {describe(error)}")


def _close(connection: BlockingConnection) -> None:
    with suppress(AMQPError, OSError):
        if connection.is_open:
            # What is not taken yet pika rejects, and a stream's broker then ends the connection itself.
            connection.process_data_events(time_limit=0)
            connection.close()


def read_message(
    key: str, body: bytes, kind: str | None, content_type: str | None, offset: int
) -> RoomMessage | None:
    """Read a message of the stream; None for what is none. Pure."""
    if kind == protocol.MARK:
        return None
    envelope = body if kind == protocol.MESSAGE else protocol.foreign(key, body, content_type)
    try:
        said = protocol.loads(envelope.decode())
        room, at = str(said["room"]), said.get("at")
        return RoomMessage(
            offset,
            room,
            said["data"],
            str(said.get("client", "")),
            str(said.get("name", "")),
            str(said.get("user", "")),
            at if type(at) is int and 0 <= at < LATEST else None,
        )
    except (ValueError, RecursionError, KeyError, TypeError):
        return None
