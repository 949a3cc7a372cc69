"""One connection to the broker: declares, consumes and publishes on its channels."""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from secrets import token_hex
from typing import Any, Protocol

import pika
from pika.exceptions import AMQPChannelError, AMQPConnectionError, ChannelClosedByBroker

from kirsch.amqp.broker import Broker
from kirsch.amqp.errors import denied, describe, largest_body
from kirsch.amqp.loops import Loop, Timer
from kirsch.amqp.message import Delivery, Publication, Rejected
from kirsch.amqp.outbox import Outbox
from kirsch.amqp.topology import Binding, Consumer, Declared, Exchange, Queue

log = logging.getLogger("kirsch.amqp")

# A delivery, and the function to call once it is done with, in any thread.
Deliver = Callable[[Delivery, Callable[[], None]], None]
Ended = Callable[[str], object]

# Seconds for TCP and TLS, and for everything until AMQP's own handshake is done.
CONNECT, SHAKE_HANDS = 5.0, 10.0
# AMQP 0-9-1, 1.3: reply codes.
ACCESS_REFUSED, NOT_FOUND = 403, 404
# Seconds until a connection that was asked to close is aborted.
CLOSE = 2.0


class Owner(Protocol):
    """Owner of a Session; called where the connection runs."""

    def opened(self) -> None: ...

    def delivered(self, delivery: Delivery, handled: Callable[[], None]) -> None:
        """Take a delivery; call `handled` once it is done with, in any thread."""

    def settled(self, publication: Publication, reason: str) -> None: ...

    def lost(self, reason: str) -> None:
        """Take the end of the session: called once, also if it never opened."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of every connection of a plugin; `heartbeat` is AMQPPlugin's."""

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
            # pika looks 5 s later than it is told, and gives up at the first look that follows a whole silent
            # interval.
            heartbeat=max(1, self.heartbeat // 2 - 5),
            ssl_options=tls,
            socket_timeout=CONNECT,
            stack_timeout=SHAKE_HANDS,
            client_properties={"connection_name": "kirsch"},
        )


class Session:
    """One connection. Its methods are called where the loop runs the connection."""

    def __init__(self, loop: Loop, settings: Settings, outbox: Outbox, owner: Owner) -> None:
        self._loop = loop
        self._settings = settings
        self._outbox = outbox
        self._owner = owner
        self._names: dict[str, str] = {}
        self._confirmed: Any = None
        self._plain: Any = None
        self._subscriptions: list[Subscription] = []
        # Publications that no queue took, counted.
        self._returned: Counter[tuple[str, str, str | None, bytes]] = Counter()
        self._over = False
        self._closing: Timer | None = None
        self._left = 0
        # Largest body that the broker takes, once it has said so.
        self._largest: int | None = None
        # Reason for which this side closed the connection.
        self._why = ""
        # True while the broker takes no messages: it is short of memory or disk.
        self.blocked = False
        self.ready = False
        self._link = loop.connect(settings.parameters(), self._opened, self._gone, self._gone)
        self._connection = self._link.amqp
        # pika gives up a peer that accepts and says nothing only in parts of the handshake.
        self._limit = loop.later(CONNECT + SHAKE_HANDS, self._late)

    def publish(self, publication: Publication) -> None:
        """Send a transient publication, or drop it."""
        if self.ready and not self.blocked and self._plain.is_open:
            reason = self._too_large(publication)
            try:
                if not reason:
                    self._send(self._plain, publication)
            except Exception as error:
                reason = describe(error)
            if reason:
                log.warning("a message to %s cannot be sent: %s", publication.exchange, reason)

    def flush(self) -> None:
        """Send the publications that wait in the outbox."""
        if self.ready and self._confirmed.is_open:
            for publication in self._outbox.take():
                reason = self._too_large(publication)
                try:
                    if not reason:
                        self._send(self._confirmed, publication, mandatory=True)
                except (AMQPChannelError, AMQPConnectionError):
                    # The channel has just ended: the next one sends everything that was taken again.
                    return
                except Exception as error:
                    # pika encodes a publication before it sends a byte: the broker has not counted this one.
                    reason = describe(error)
                if reason:
                    self._outbox.give_up(publication)
                    self._owner.settled(publication, Rejected(f"it cannot be sent: {reason}"))

    def read(self, consumer: Consumer, deliver: Deliver, ended: Ended) -> "Subscription":
        """Consume a queue until the Subscription is stopped; `ended` is called if the broker ends it."""
        subscription = Subscription(self, consumer, deliver, lambda: None, ended)
        self._subscriptions.append(subscription)
        self._connection.channel(on_open_callback=subscription.open)
        return subscription

    def close(self, reason: str) -> None:
        """Close the connection; the owner is told by `lost`."""
        if self._over or self._closing is not None:
            return
        self._why = reason
        self.ready = False
        self._closing = self._loop.later(CLOSE, self._abort)
        if self._connection.is_open:
            for subscription in self._subscriptions:
                subscription.flush()
            self._connection.close()
        else:
            self._abort()

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
                # AMQP cannot encode an argument; that must not end the loop.
                self.close(f"{declared} cannot be declared: {describe(error)}")

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
        """Return the queue's name on the broker."""
        return self._names.get(of.queue, of.queue)

    def _begin(self, channel: Any) -> None:
        """Open the channels for consumers and publications: everything is declared."""
        self._plain = channel
        self._left = 1 + len(self._settings.consumers)
        self._connection.channel(on_open_callback=lambda opened: self._confirm(opened, self._one_more))
        for consumer in self._settings.consumers:
            subscription = Subscription(self, consumer, self.deliver, self._one_more, self.ended)
            self._subscriptions.append(subscription)
            self._connection.channel(on_open_callback=subscription.open)

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
        """Return why the broker would refuse a body of this size, or ""."""
        size = len(publication.body)
        if self._largest is None or size <= self._largest:
            return ""
        return f"it has {size:,} bytes, and the broker takes {self._largest:,}"

    def _return(self, _: Any, method: Any, properties: Any, body: bytes) -> None:
        # The broker confirms the publication all the same, right after this.
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
        # Suspects are sent one at a time: the next may go.
        self.flush()

    def _block(self, _: Any, frame: Any) -> None:
        self.blocked = True
        log.warning("%s takes no messages: %s", self._settings.broker, frame.method.reason)

    def _unblock(self, *_: Any) -> None:
        self.blocked = False
        log.info("%s takes messages again", self._settings.broker)

    def _channel_closed(self, channel: Any, error: Any) -> None:
        most = largest_body(error)
        if most is None or channel is not self._plain or not self.ready:
            self.ended(describe(error))
            return
        # The transient publication is lost; one as large is not sent any more.
        log.warning("a message cannot be sent: %s", describe(error))
        self._largest = most
        self._connection.channel(on_open_callback=self._open_plain)

    def _open_plain(self, channel: Any) -> None:
        self._plain = channel
        channel.add_on_close_callback(self._channel_closed)

    def _refused(self, channel: Any, error: Any) -> None:
        """Publish on another channel: a publication has ended this one."""
        if not (self.ready and isinstance(error, ChannelClosedByBroker) and self._narrow(error)):
            self.ended(describe(error))
            return
        self._outbox.lost()
        self._returned.clear()
        self._connection.channel(on_open_callback=lambda opened: self._confirm(opened, self._flush_again))

    def _flush_again(self, _: object) -> None:
        self.flush()

    def _narrow(self, error: ChannelClosedByBroker) -> bool:
        """Give up the publication that ended the channel, or look for it; True if a new channel helps."""
        most = largest_body(error)
        if most is not None and self._outbox.sent_beyond(most):
            # Those are given up when it is their turn.
            self._largest = most
            return True
        exchange, key = denied(error)
        if error.reply_code in (ACCESS_REFUSED, NOT_FOUND) and exchange is not None:
            # Every publication there would end a channel. A new connection declares a missing exchange anew.
            reason = Rejected(describe(error)) if error.reply_code == ACCESS_REFUSED else describe(error)
            refused = self._outbox.refuse(exchange, key)
            for publication in refused:
                self._owner.settled(publication, reason)
            return bool(refused) and error.reply_code == ACCESS_REFUSED
        sent = self._outbox.unanswered
        if (guilty := self._outbox.blame()) is not None:
            self._owner.settled(guilty, Rejected(f"the broker does not take it: {describe(error)}"))
        return sent > 0 and error.reply_code != NOT_FOUND

    def ended(self, reason: str) -> None:
        """Close the connection: a channel that it needs has ended."""
        if not self._over and self._closing is None:
            self.close(reason)

    def forget(self, subscription: "Subscription") -> None:
        """Take a subscription from the list: it was stopped."""
        if subscription in self._subscriptions:
            self._subscriptions.remove(subscription)

    def call(self, work: Callable[[], object]) -> None:
        """Call `work` soon, where the connection runs. Thread-safe."""
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
        self._end(self._why or describe(error))

    def _end(self, reason: str) -> None:
        if self._over:
            return
        self._over, self.ready = True, False
        self._limit.cancel()
        if self._closing is not None:
            self._closing.cancel()
        self._owner.lost(reason)


class Subscription:
    """One consumer of a session, on a channel of its own, so that an acknowledgement covers many messages.

    `begun` is called once it consumes; `ended` with a reason if it cannot or does not any more, unless it was
    stopped.
    """

    def __init__(
        self,
        session: "Session",
        consumer: Consumer,
        deliver: Deliver,
        begun: Callable[[], object],
        ended: Ended,
    ) -> None:
        self._session = session
        self._consumer = consumer
        self._deliver = deliver
        self._begun = begun
        self._ended = ended
        self._channel: Any = None
        self._handled = 0
        self._acknowledged = 0
        self._asked = False
        self._stopped = False

    def open(self, channel: Any) -> None:
        self._channel = channel
        channel.add_on_close_callback(lambda _, error: self._over(describe(error)))
        # The broker cancels a consumer whose queue, or whose queue's node, is gone.
        gone = f"the broker ended the reading of {self._consumer.queue}"
        channel.add_on_cancel_callback(lambda _: self._over(gone))
        if self._stopped:
            channel.close()
        else:
            channel.basic_qos(prefetch_count=self._consumer.prefetch, callback=self._consume)

    def stop(self) -> None:
        """End the subscription, in the thread of the connection."""
        self._stopped = True
        self._session.forget(self)
        if self._channel is not None and self._channel.is_open:
            self._channel.close()

    def _over(self, reason: str) -> None:
        if not self._stopped:
            self._stopped = True
            self._ended(reason)

    def _consume(self, _: object) -> None:
        if self._stopped:
            return
        try:
            self._channel.basic_consume(
                self._session.queue(self._consumer),
                self._message,
                arguments=dict(self._consumer.arguments()),
                callback=lambda _: self._begun(),
            )
        except Exception as error:
            # `arguments` is the application's, and may fail.
            self._over(f"{self._consumer.queue} cannot be read: {describe(error)}")

    def _message(self, _: Any, method: Any, properties: Any, body: bytes) -> None:
        headers = properties.headers or {}
        delivery = Delivery(
            self._consumer.queue,
            method.exchange,
            method.routing_key,
            body,
            headers.get("x-stream-offset"),
            properties.content_type,
            properties.type,
            properties.message_id,
            headers,
            method.redelivered,
        )
        tag = method.delivery_tag
        if not self._stopped:
            self._deliver(delivery, lambda: self._done(tag))

    def _done(self, tag: int) -> None:
        self._handled = tag
        if not self._asked:
            # One acknowledgement for all messages of one read.
            self._asked = True
            self._session.call(self.flush)

    def flush(self) -> None:
        """Acknowledge the messages that were handled."""
        self._asked = False
        if self._handled > self._acknowledged and self._channel is not None and self._channel.is_open:
            self._acknowledged = self._handled
            self._channel.basic_ack(self._handled, multiple=True)
