"""What a Session publishes, encoded by pika, without a broker."""

import pika
from pika import frame, spec
from pika.exceptions import ChannelWrongStateError

from kirsch.amqp.broker import Broker
from kirsch.amqp.message import Publication
from kirsch.amqp.outbox import Outbox
from kirsch.amqp.session import Reading, Session, Settings
from kirsch.amqp.topology import Consumer, Queue


class Wire:
    """A loop whose connection is a channel, too, that encodes as pika's does; owner of the Session."""

    def __init__(self):
        self.is_open, self.closed = True, False
        self.sent, self.outcomes = [], []

    # As Loop.

    def connect(self, parameters, opened, failed, closed):
        self.gone = closed
        return self

    def cancel(self):
        pass

    def later(self, seconds, work):
        return self

    # As a channel.

    def basic_publish(self, exchange, key, body, properties: pika.BasicProperties, mandatory):
        if self.closed:
            raise ChannelWrongStateError("closed")
        frame.Method(1, spec.Basic.Publish(exchange=exchange, routing_key=key, mandatory=mandatory)).marshal()
        frame.Header(1, len(body), properties).marshal()
        self.sent.append(body)

    def add_on_close_callback(self, callback):
        pass

    def queue_declare(self, name, durable, exclusive, auto_delete, arguments, callback):
        frame.Method(1, spec.Queue.Declare(queue=name, arguments=arguments)).marshal()

    def basic_consume(self, queue, on_message, arguments, callback):
        frame.Method(1, spec.Basic.Consume(queue=queue, arguments=arguments)).marshal()

    # As a connection.

    def close(self):
        self.gone(self, None)

    # As Owner.

    def lost(self, reason):
        self.outcomes.append(reason)

    def settled(self, publication, reason):
        self.outcomes.append((publication.body, reason))


def session(outbox, declared=()):
    wire = Wire()
    made = Session(wire, Settings(Broker(), 30, declared, ()), outbox, wire)
    made._confirmed = made._plain = wire
    made.ready = True
    return made, wire


def test_what_pika_cannot_encode_is_refused_and_the_rest_goes():
    outbox = Outbox()
    broken = {"what": object()}
    for body, headers in ((b"one", None), (b"two", broken), (b"three", {"n": 1})):
        outbox.add(Publication("e", "k", body, headers=headers))
    made, wire = session(outbox)
    made.flush()
    assert wire.sent == [b"one", b"three"]
    ((body, reason),) = wire.outcomes
    assert body == b"two"
    assert reason.startswith("it cannot be sent: ")
    # The broker's second confirmation is for what it got second.
    made._settle(frame.Method(1, spec.Basic.Ack(delivery_tag=2, multiple=True)))
    assert wire.outcomes[1:] == [(b"one", ""), (b"three", "")]
    assert outbox.bytes == 0


def test_what_is_transient_and_cannot_be_encoded_does_no_harm(caplog):
    made, wire = session(Outbox())
    made.publish(Publication("e", "k", b"one", headers={"what": object()}, transient=True))
    made.publish(Publication("e", "k", b"two", transient=True))
    assert wire.sent == [b"two"]
    assert "a message to e cannot be sent" in caplog.text


def test_what_is_published_as_the_channel_ends_is_sent_by_the_next():
    outbox = Outbox()
    for body in (b"one", b"two"):
        outbox.add(Publication("e", "k", body))
    made, wire = session(outbox)
    # It is found to be closed only when it is written to.
    wire.closed = True
    made.flush()
    assert wire.sent == wire.outcomes == []
    outbox.lost()
    assert [each.body for each in outbox.take()] == [b"one", b"two"]


def test_what_cannot_be_declared_or_asked_for_ends_the_connection_with_a_reason():
    made, wire = session(Outbox(), [Queue("mine", arguments={"x-what": object()})])
    made._declare(wire)
    (reason,) = wire.outcomes
    assert "'mine'" in reason
    assert "cannot be declared" in reason
    made, wire = session(Outbox())
    reading = Reading(made, Consumer("news", arguments=lambda: {}["where"]))
    reading._channel = wire
    reading._consume(None)
    assert wire.outcomes == ["news cannot be read: 'where'"]
