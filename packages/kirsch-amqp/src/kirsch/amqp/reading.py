"""One consumer of a connection: what it brings, and its acknowledgements."""

from collections.abc import Callable
from typing import Any, Protocol

from kirsch.amqp.message import Delivery
from kirsch.amqp.reason import said
from kirsch.amqp.topology import Consumer

# What came, and what to call once it is done with, in any thread.
Deliver = Callable[[Delivery, Callable[[], None]], None]
Ended = Callable[[str], object]


class Connected(Protocol):
    """The connection that it reads on."""

    def queue(self, of: Consumer) -> str:
        """What the broker calls the queue."""

    def call(self, work: Callable[[], object]) -> None:
        """Do this soon, where the connection runs."""

    def forget(self, reading: "Reading") -> None:
        """It reads no more."""


class Reading:
    """One consumer, on a channel of its own, so that one acknowledgement covers many messages.

    `begun` is told once it reads, `ended` why it does not, or not any more, unless it was stopped.
    """

    def __init__(
        self,
        session: Connected,
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
        channel.add_on_close_callback(lambda _, error: self._over(said(error)))
        # Its queue is gone, or its node.
        gone = f"the broker ended the reading of {self._consumer.queue}"
        channel.add_on_cancel_callback(lambda _: self._over(gone))
        if self._stopped:
            channel.close()
        else:
            channel.basic_qos(prefetch_count=self._consumer.prefetch, callback=self._consume)

    def stop(self) -> None:
        """Read no more."""
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
            # `arguments` is the application's.
            self._over(f"{self._consumer.queue} cannot be read: {said(error)}")

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
            # One for all that one read brought.
            self._asked = True
            self._session.call(self.flush)

    def flush(self) -> None:
        """Acknowledge what was handled."""
        self._asked = False
        if self._handled > self._acknowledged and self._channel is not None and self._channel.is_open:
            self._acknowledged = self._handled
            self._channel.basic_ack(self._handled, multiple=True)
