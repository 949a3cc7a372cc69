"""One connection to the broker: what is declared, consumed and published on it."""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from secrets import token_hex
from typing import Any, Protocol

import pika
from pika.exceptions import AMQPChannelError, AMQPConnectionError, ChannelClosedByBroker

from kirsch.amqp.broker import Broker
from kirsch.amqp.loops import Loop, Timer
from kirsch.amqp.message import Delivery, Publication, Rejected
from kirsch.amqp.outbox import Outbox
from kirsch.amqp.reading import Deliver, Ended, Reading
from kirsch.amqp.reason import largest, named, said
from kirsch.amqp.topology import Binding, Consumer, Declared, Exchange, Queue

log = logging.getLogger("kirsch.amqp")

# Seconds for TCP and TLS, and for all until AMQP's own handshake is done.
CONNECT, SHAKE_HANDS = 5.0, 10.0
# AMQP 0-9-1, 1.3: reply codes.
ACCESS_REFUSED, NOT_FOUND = 403, 404
# Seconds until a connection that has been asked to close is ended.
CLOSE = 2.0


class Owner(Protocol):
    """Whom a Session tells, where the connection runs."""

    def opened(self) -> None: ...

    def delivered(self, delivery: Delivery, handled: Callable[[], None]) -> None:
        """Call `handled` once it is done with, in any thread."""

    def settled(self, publication: Publication, reason: str) -> None: ...

    def lost(self, reason: str) -> None:
        """Once, however it ended, also if it never opened."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What every connection of a plugin is made with."""

    broker: Broker
    heartbeat: int
    declared: Sequence[Declared]
    consumers: Sequence[Consumer]

    def parameters(self) -> pika.ConnectionParameters:
        broker = self.broker
        tls = None if broker.tls is None else pika.SSLOptions(broker.tls, broker.host)
        return pika.ConnectionParameters(
            host=broker.host,
            port=broker.port,
            virtual_host=broker.vhost,
            credentials=pika.PlainCredentials(broker.user, broker.password),
            heartbeat=self.heartbeat,
            ssl_options=tls,
            socket_timeout=CONNECT,
            stack_timeout=SHAKE_HANDS,
            client_properties={"connection_name": "kirsch"},
        )


class Session:
    """Everything is done where the loop's connection runs."""

    def __init__(self, loop: Loop, settings: Settings, outbox: Outbox, owner: Owner) -> None:
        self._loop = loop
        self._settings = settings
        self._outbox = outbox
        self._owner = owner
        self._names: dict[str, str] = {}
        self._confirmed: Any = None
        self._plain: Any = None
        self._reading: list[Reading] = []
        # What no queue took, each as often as it came back.
        self._returned: Counter[tuple[str, str, str | None, bytes]] = Counter()
        self._over = False
        self._closing: Timer | None = None
        self._left = 0
        # How many bytes of a body the broker takes, once it has said so.
        self._largest: int | None = None
        # Why we closed it ourselves.
        self._why = ""
        # The broker takes no messages: it is short of memory or disk.
        self.blocked = False
        self.ready = False
        self._link = loop.connect(settings.parameters(), self._opened, self._gone, self._gone)
        self._connection = self._link.amqp
        # A peer that accepts and says nothing is given up by pika only in parts of the handshake.
        self._limit = loop.later(CONNECT + SHAKE_HANDS, self._late)

    # What the owner asks.

    def publish(self, publication: Publication) -> None:
        """Send what is transient."""
        if self.ready and not self.blocked and self._plain.is_open:
            reason = self._too_large(publication)
            try:
                if not reason:
                    self._send(self._plain, publication)
            except Exception as error:
                reason = said(error)
            if reason:
                log.warning("a message to %s cannot be sent: %s", publication.exchange, reason)

    def flush(self) -> None:
        """Send what waits in the outbox."""
        if self.ready and self._confirmed.is_open:
            for publication in self._outbox.take():
                reason = self._too_large(publication)
                try:
                    if not reason:
                        self._send(self._confirmed, publication, mandatory=True)
                except (AMQPChannelError, AMQPConnectionError):
                    # It has just ended: all that is taken is sent again by the next.
                    return
                except Exception as error:
                    # pika encodes all of it before a byte is sent: the broker has not counted it.
                    reason = said(error)
                if reason:
                    self._outbox.give_up(publication)
                    self._owner.settled(publication, Rejected(f"it cannot be sent: {reason}"))

    def read(self, consumer: Consumer, deliver: Deliver, ended: Ended) -> Reading:
        """Read something besides, until it is told to stop; `ended` is told why where the broker ends it."""
        reading = Reading(self, consumer, deliver, lambda: None, ended)
        self._reading.append(reading)
        self._connection.channel(on_open_callback=reading.open)
        return reading

    def close(self, reason: str) -> None:
        """End it; the owner is told by `lost`."""
        if self._over or self._closing is not None:
            return
        self._why = reason
        self.ready = False
        self._closing = self._loop.later(CLOSE, self._abort)
        if self._connection.is_open:
            for reading in self._reading:
                reading.flush()
            self._connection.close()
        else:
            self._abort()

    # How it opens.

    def _opened(self, connection: Any) -> None:
        if self._over:
            connection.close()
            return
        connection.add_on_connection_blocked_callback(self._block)
        connection.add_on_connection_unblocked_callback(self._unblock)
        connection.channel(on_open_callback=self._declare)

    def _declare(self, channel: Any) -> None:
        channel.add_on_close_callback(self._channel_closed)
        left = list(self._settings.declared)

        def following(_: object = None) -> None:
            if not left:
                self._begin(channel)
                return
            declared = left.pop(0)
            try:
                self._declare_one(channel, declared, following)
            except Exception as error:
                # An argument that AMQP cannot say; the loop is not to end by it.
                self.close(f"{declared} cannot be declared: {said(error)}")

        following()

    def _declare_one(self, channel: Any, declared: Declared, then: Callable[[object], None]) -> None:
        if isinstance(declared, Exchange):
            channel.exchange_declare(
                declared.name, exchange_type=declared.kind, durable=declared.durable, callback=then
            )
        elif isinstance(declared, Queue):
            name = f"{declared.name}.{token_hex(8)}" if declared.mine else declared.name
            self._names[declared.name] = name
            channel.queue_declare(
                name,
                durable=declared.durable and not declared.mine,
                exclusive=declared.mine,
                auto_delete=declared.mine,
                arguments=dict(declared.arguments),
                callback=then,
            )
        else:
            channel.queue_bind(self.queue(declared), declared.exchange, declared.key, callback=then)

    def queue(self, of: Binding | Consumer) -> str:
        """What the broker calls the queue."""
        return self._names.get(of.queue, of.queue)

    def _begin(self, channel: Any) -> None:
        """All is declared: open the channels for consumers and for what is published."""
        self._plain = channel
        self._left = 1 + len(self._settings.consumers)
        self._connection.channel(on_open_callback=lambda opened: self._confirm(opened, self._one_more))
        for consumer in self._settings.consumers:
            reading = Reading(self, consumer, self.deliver, self._one_more, self.ended)
            self._reading.append(reading)
            self._connection.channel(on_open_callback=reading.open)

    def _confirm(self, channel: Any, then: Callable[[object], None]) -> None:
        self._confirmed = channel
        channel.add_on_close_callback(self._refused)
        channel.add_on_return_callback(self._return)
        channel.confirm_delivery(self._settle, callback=then)

    def _one_more(self, _: object = None) -> None:
        self._left -= 1
        if self._left == 0 and not self._over and self._closing is None:
            self.ready = True
            self._limit.cancel()
            self._owner.opened()
            self.flush()

    # What is published.

    def _send(self, channel: Any, publication: Publication, mandatory: bool = False) -> None:
        properties = pika.BasicProperties(
            content_type=publication.content_type,
            delivery_mode=2 if publication.persistent and not publication.transient else 1,
            message_id=publication.message_id,
            type=publication.kind,
            headers=None if publication.headers is None else dict(publication.headers),
        )
        channel.basic_publish(publication.exchange, publication.key, publication.body, properties, mandatory)

    def _too_large(self, publication: Publication) -> str:
        """Why the broker would not take it."""
        size = len(publication.body)
        if self._largest is None or size <= self._largest:
            return ""
        return f"it has {size:,} bytes, and the broker takes {self._largest:,}"

    def _return(self, _: Any, method: Any, properties: Any, body: bytes) -> None:
        # The broker confirms it all the same, right after this.
        self._returned[method.exchange, method.routing_key, properties.message_id, body] += 1

    def _settle(self, frame: Any) -> None:
        method = frame.method
        refused = method.NAME == "Basic.Nack"
        for publication in self._outbox.settle(method.delivery_tag, method.multiple):
            reason = "the broker refused it" if refused else ""
            if self._returned:
                same = (publication.exchange, publication.key, publication.message_id, publication.body)
                if self._returned[same]:
                    reason = "no queue takes it"
                    self._returned[same] -= 1
                self._returned += Counter()
            self._owner.settled(publication, reason)
        # Where they go one by one.
        self.flush()

    # How it ends.

    def _block(self, _: Any, frame: Any) -> None:
        self.blocked = True
        log.warning("%s takes no messages: %s", self._settings.broker, frame.method.reason)

    def _unblock(self, *_: Any) -> None:
        self.blocked = False
        log.info("%s takes messages again", self._settings.broker)

    def _channel_closed(self, channel: Any, error: Any) -> None:
        most = largest(error)
        if most is None or channel is not self._plain or not self.ready:
            self.ended(said(error))
            return
        # What was transient is gone; the like of it is not sent any more.
        log.warning("a message cannot be sent: %s", said(error))
        self._largest = most
        self._connection.channel(on_open_callback=self._open_plain)

    def _open_plain(self, channel: Any) -> None:
        self._plain = channel
        channel.add_on_close_callback(self._channel_closed)

    def _refused(self, channel: Any, error: Any) -> None:
        """A publication ended the channel: all that are on their way go again, by another."""
        if not (self.ready and isinstance(error, ChannelClosedByBroker) and self._narrow(error)):
            self.ended(said(error))
            return
        self._outbox.lost()
        self._returned.clear()
        self._connection.channel(on_open_callback=lambda opened: self._confirm(opened, self._flush_again))

    def _flush_again(self, _: object) -> None:
        self.flush()

    def _narrow(self, error: ChannelClosedByBroker) -> bool:
        """Give up what ended the channel, or look for it; whether that is of use without a new connection."""
        most = largest(error)
        if most is not None and self._outbox.sent_beyond(most):
            # They are given up as their turn comes.
            self._largest = most
            return True
        exchange, key = named(error)
        if error.reply_code in (ACCESS_REFUSED, NOT_FOUND) and exchange is not None:
            # So would all to that exchange. What is not there may be declared anew, by a new connection.
            reason = Rejected(said(error)) if error.reply_code == ACCESS_REFUSED else said(error)
            refused = self._outbox.refuse(exchange, key)
            for publication in refused:
                self._owner.settled(publication, reason)
            return bool(refused) and error.reply_code == ACCESS_REFUSED
        sent = self._outbox.unanswered
        if (guilty := self._outbox.blame()) is not None:
            self._owner.settled(guilty, Rejected(f"the broker does not take it: {said(error)}"))
        return sent > 0 and error.reply_code != NOT_FOUND

    def ended(self, reason: str) -> None:
        """A channel is gone without which there is no use in the connection."""
        if not self._over and self._closing is None:
            self.close(reason)

    def forget(self, reading: "Reading") -> None:
        """It reads no more."""
        if reading in self._reading:
            self._reading.remove(reading)

    def call(self, work: Callable[[], object]) -> None:
        self._loop.call(work)

    def deliver(self, delivery: Delivery, handled: Callable[[], None]) -> None:
        if not self._over:
            self._owner.delivered(delivery, handled)

    def _late(self) -> None:
        if not self.ready:
            self._why = self._why or "no answer"
            self._abort()

    def _abort(self) -> None:
        """End a connection that has not closed in time."""
        try:
            self._link.abort()
        except Exception as error:
            log.debug("%s", error)
        self._end(self._why)

    def _gone(self, _: Any, error: Any) -> None:
        self._end(self._why or said(error))

    def _end(self, reason: str) -> None:
        if self._over:
            return
        self._over, self.ready = True, False
        self._limit.cancel()
        if self._closing is not None:
            self._closing.cancel()
        self._owner.lost(reason)
