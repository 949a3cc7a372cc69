"""What a Session publishes, encoded by pika, without a broker."""

from pathlib import Path

import pika
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pika import frame, spec
from pika.exceptions import ChannelClosedByBroker, ChannelWrongStateError

from kirsch.amqp.broker import Broker
from kirsch.amqp.errors import describe
from kirsch.amqp.message import Publication, Rejected
from kirsch.amqp.outbox import Outbox
from kirsch.amqp.session import Session, Settings, Subscription
from kirsch.amqp.topology import Consumer, Queue


class Wire:
    """A loop whose connection is a channel, too, that encodes as pika's does; owner of the Session."""

    def __init__(self):
        self.is_open, self.closed, self.closings, self.openings = True, False, 0, 0
        self.sent, self.outcomes = [], []

    # As Loop.

    def connect(self, parameters, opened, failed, closed):
        self.gone = closed
        self.amqp = self
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

    add_on_return_callback = add_on_close_callback

    def confirm_delivery(self, settle, callback):
        callback(None)

    def queue_declare(self, name, durable, exclusive, auto_delete, arguments, callback):
        frame.Method(1, spec.Queue.Declare(queue=name, arguments=arguments)).marshal()

    def basic_consume(self, queue, on_message, arguments, callback):
        frame.Method(1, spec.Basic.Consume(queue=queue, arguments=arguments)).marshal()

    # As a connection.

    def channel(self, on_open_callback):
        self.openings += 1
        self.sent = []
        on_open_callback(self)

    def close(self):
        self.closings += 1
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


@pytest.mark.parametrize("seconds", [12, 20, 30, 61])
def test_a_silent_broker_is_given_up_within_the_heartbeat(seconds):
    """pika looks every 5 s more than it is told, and a broker may fall silent just after a look."""
    heartbeat = Settings(Broker(), seconds, (), ()).parameters().heartbeat
    assert seconds - 3 <= 2 * (heartbeat + 5) <= seconds


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
    assert isinstance(reason, Rejected)
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
    consumer = Consumer("news", arguments=lambda: {}["where"])
    reading = Subscription(made, consumer, made.deliver, made._one_more, made.ended)
    reading._channel = wire
    reading._consume(None)
    assert wire.outcomes == ["news cannot be read: 'where'"]


TOO_LARGE = ChannelClosedByBroker(406, "PRECONDITION_FAILED - message size 8 is larger than max size 7")
REFUSED = ChannelClosedByBroker(406, "PRECONDITION_FAILED - not this one")


@given(
    st.lists(st.sampled_from(["good", "good", "large"]), max_size=12),
    st.integers(0, 3),
    st.sampled_from([TOO_LARGE, REFUSED]),
)
def test_what_ends_each_channel_is_given_up_and_nothing_else_is(kinds, answered, error):
    """The connection stays. Where it is not said which it was, they go one by one, in order."""
    outbox, arrived, told = Outbox(), [], {}
    for number, kind in enumerate(kinds):
        outbox.add(Publication("e", "k", f"{number:02} {kind}".encode()))
    made, wire = session(outbox)
    wire.settled = lambda publication, reason: told.__setitem__(publication.body, reason)
    made.flush()
    for _ in range(3 * len(kinds) + 1):
        tag = 0
        while tag < len(wire.sent) and not wire.sent[tag].endswith(b"large"):
            arrived.append(wire.sent[tag])
            tag += 1
            # Not all that it has got it says before it ends the channel.
            if tag <= answered or tag == len(wire.sent):
                made._settle(frame.Method(1, spec.Basic.Ack(delivery_tag=tag, multiple=True)))
        if tag == len(wire.sent):
            break
        made._refused(wire, error)
    assert len(outbox) == outbox.bytes == 0
    assert wire.closings == 0
    if error is TOO_LARGE:
        assert wire.openings == ("large" in kinds)
    assert list(told) == sorted(told) or "large" in kinds
    assert {body for body, reason in told.items() if not reason} == {
        f"{number:02} good".encode() for number, kind in enumerate(kinds) if kind == "good"
    }
    assert all(isinstance(reason, Rejected) == body.endswith(b"large") for body, reason in told.items())
    why = "it has 8 bytes, and the broker takes 7" if error is TOO_LARGE else "not this one"
    assert all(why in reason for reason in told.values() if reason)
    first = list(dict.fromkeys(arrived))
    assert first == sorted(first)


def test_a_channel_that_ends_for_nothing_that_was_sent_ends_the_connection():
    """Another would end as well, at once, and again."""
    made, wire = session(Outbox())
    made._refused(wire, REFUSED)
    assert (wire.closings, wire.openings) == (1, 0)
    # What is not there is declared anew by a new connection.
    outbox = Outbox()
    outbox.add(Publication("e", "k", b"x"))
    made, wire = session(outbox)
    made.flush()
    made._refused(wire, ChannelClosedByBroker(404, "NOT_FOUND - no exchange 'e' in vhost '/'"))
    assert (wire.closings, wire.openings, len(outbox)) == (1, 0, 0)


@pytest.mark.parametrize("exchange", ["exchange 'e'", "exchange exchange 'e'"])
def test_a_room_that_the_broker_does_not_allow_takes_no_other_along(exchange):
    outbox = Outbox()
    for key in ("one", "it's", "two", "it's"):
        outbox.add(Publication("e", key, key.encode()))
    made, wire = session(outbox)
    made.flush()
    text = f"ACCESS_REFUSED - access to topic 'it's' in {exchange} in vhost '/' refused for user 'chat'"
    made._refused(wire, ChannelClosedByBroker(403, text))
    assert [body for body, _ in wire.outcomes] == [b"it's", b"it's"]
    assert all(isinstance(reason, Rejected) for _, reason in wire.outcomes)
    assert wire.sent == [b"one", b"two"]
    assert wire.closings == 0


def test_what_is_transient_and_too_large_ends_no_connection_and_is_not_sent_again(caplog):
    made, wire = session(Outbox())
    large = Publication("e", "k", b"x" * 8, transient=True)
    made.publish(large)
    made._channel_closed(wire, TOO_LARGE)
    assert (wire.closings, wire.openings) == (0, 1)
    made.publish(large)
    made.publish(Publication("e", "k", b"x" * 7, transient=True))
    assert wire.sent == [b"x" * 7]
    assert "a message to e cannot be sent: it has 8 bytes, and the broker takes 7" in caplog.text
    # What else ends its channel ends the connection.
    made._channel_closed(wire, REFUSED)
    assert wire.closings == 1


def test_each_that_comes_back_is_told_of_however_alike_they_are():
    outbox = Outbox()
    for body in (b"same", b"other", b"same"):
        outbox.add(Publication("e", "k", body))
    made, wire = session(outbox)
    made.flush()
    for body in (b"same", b"same"):
        made._return(wire, spec.Basic.Return(exchange="e", routing_key="k"), pika.BasicProperties(), body)
    made._settle(frame.Method(1, spec.Basic.Ack(delivery_tag=3, multiple=True)))
    assert wire.outcomes == [(b"same", "no queue takes it"), (b"other", ""), (b"same", "no queue takes it")]
    assert not made._returned


def test_what_to_do_with_a_stream_that_is_half_made_is_said():
    text = "NOT_FOUND - home node 'k@localhost' of durable queue 's.h' in vhost '/' is down or inaccessible"
    told = describe(ChannelClosedByBroker(404, text))
    forget = """internal_delete(rabbit_misc:r(<<"/">>, queue, <<"s.h">>), <<"kirsch">>).'"""
    assert told.startswith(text)
    assert told.endswith(forget)
    assert "\n" not in told
    # What packages/kirsch-amqp/docs has people type.
    readme = (Path(__file__).parents[4] / "packages/kirsch-amqp/docs/README.md").read_text()
    assert forget.replace("s.h", "NAME.history") in readme
    assert describe(ChannelClosedByBroker(404, "no exchange 'e'")) == "no exchange 'e' (404)"


def test_what_is_read_besides_ends_alone():
    """The connection stays; it is told why, unless it was stopped."""
    made, wire = session(Outbox())
    ended, heard = [], []
    wire.channel = lambda on_open_callback: None
    reading = made.read(Consumer("news"), lambda delivery, handled: heard.append(delivery), ended.append)

    class Channel:
        is_open = True

        def add_on_close_callback(self, callback):
            self.on_close = callback

        def add_on_cancel_callback(self, callback):
            self.on_cancel = callback

        def basic_qos(self, prefetch_count, callback):
            pass

        def close(self):
            self.is_open = False
            self.on_close(self, ChannelClosedByBroker(200, "as asked"))

    reading.open(Channel())
    reading._channel.on_close(None, TOO_LARGE)
    reading._channel.on_cancel(None)
    assert len(ended) == 1
    reading = made.read(Consumer("news"), lambda delivery, handled: heard.append(delivery), ended.append)
    # It is stopped before it is open.
    reading.stop()
    channel = Channel()
    reading.open(channel)
    assert not channel.is_open
    assert len(ended) == 1
    assert reading not in made._subscriptions
    assert wire.outcomes == []
    assert wire.closings == 0
