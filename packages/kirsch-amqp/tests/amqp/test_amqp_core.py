"""The parts that do no I/O: outbox, doubles, history, presence, limits, protocol, where the broker is."""

import json
import math
import random
import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kirsch.amqp import protocol
from kirsch.amqp.access import Order
from kirsch.amqp.broker import Broker, BrokerError, broker_from
from kirsch.amqp.consumer import (
    CAUGHT_UP,
    DUPLICATE,
    FOREIGN,
    OTHERS_MARK,
    REPLACED,
    SEEN,
    WINDOW,
    Deduplicator,
    Mark,
    Message,
    StreamConsumer,
)
from kirsch.amqp.limits import Bucket, Limits, Proxies
from kirsch.amqp.members import KICK_TOLD, KNOWN, Members, Presence
from kirsch.amqp.message import Delivery, Publication
from kirsch.amqp.outbox import Outbox
from kirsch.amqp.rabbitmq import RabbitError, Settings
from kirsch.amqp.room import History, Rooms
from kirsch.amqp.topology import Queue
from kirsch.websocket import Prepared, Slow


def publication(number, exchange="e"):
    return Publication(exchange, "k", b"x" * 10, message_id=str(number))


# The outbox: against a broker that loses connections.


@given(st.integers(0, 2**32), st.integers(1, 60))
def test_all_that_is_taken_is_settled_and_never_overtaken(seed, count):
    """However often the connection is lost: everything is confirmed, first occurrences in their order."""
    chance = random.Random(seed)
    outbox, arrived, settled, unanswered, left = Outbox(), [], [], [], list(range(count))
    while left or len(outbox):
        match chance.randrange(5):
            case 0 if left:
                assert outbox.add(publication(left.pop(0)))
            case 1:
                for sent in outbox.take():
                    unanswered.append(sent)
                    arrived.append(int(sent.message_id))
            case 2 if unanswered:
                answered = chance.randrange(len(unanswered)) + 1
                done = outbox.settle(answered_tag := answered + len(settled_here(outbox, unanswered)), True)
                assert answered_tag
                settled += done
                del unanswered[: len(done)]
            case 3 if chance.random() < 0.2:
                # What was on its way may not have arrived: the last of it.
                lost = chance.randrange(len(unanswered) + 1)
                if lost:
                    del arrived[len(arrived) - lost :]
                unanswered.clear()
                outbox.lost()
    first = list(dict.fromkeys(arrived))
    assert first == sorted(first)
    assert [int(each.message_id) for each in settled] == list(range(count))
    assert outbox.bytes == 0


def settled_here(outbox, unanswered):
    """Tags that this channel has settled: all that it was given but those that are unanswered."""
    return range(outbox._tag - len(unanswered))


def test_an_outbox_has_its_limits():
    outbox = Outbox(count=2)
    assert outbox.add(publication(1))
    assert outbox.add(publication(2))
    assert not outbox.add(publication(3))
    assert len(list(outbox.take())) == 2
    assert [each.message_id for each in outbox.settle(2, multiple=False)] == ["2"]
    assert outbox.settle(2, multiple=False) == []
    assert outbox.add(publication(4))
    assert [each.message_id for each in outbox.clear()] == ["1", "4"]
    assert not Outbox(size=1000).full
    small = Outbox(size=1000)
    small.add(Publication("e", "k", b"x" * 1000))
    assert small.full


def test_what_cannot_be_sent_takes_no_others_delivery_tag():
    outbox, given_up = Outbox(), []
    for number in range(4):
        outbox.add(publication(number))
    for sent in outbox.take():
        if sent.message_id in "02":
            outbox.give_up(sent)
            given_up.append(sent.message_id)
    assert given_up == ["0", "2"]
    assert [each.message_id for each in outbox.settle(1, multiple=False)] == ["1"]
    assert [each.message_id for each in outbox.settle(2, multiple=True)] == ["3"]
    assert (len(outbox), outbox.bytes) == (0, 0)


def test_what_can_never_be_published_is_refused_when_it_is_made():
    with pytest.raises(TypeError, match="bytes, not str"):
        Publication("e", "k", "text")
    for names in (("e", "ä" * 128), ("e" * 256, "k")):
        with pytest.raises(ValueError, match="255 bytes"):
            Publication(*names, b"")
    Publication("e" * 255, "k" * 255, b"")


def test_what_ends_every_channel_is_given_up():
    outbox = Outbox()
    for number, exchange in enumerate(["a", "b", "a", "b"]):
        outbox.add(publication(number, exchange))
    sent = outbox.take()
    next(sent), next(sent)
    assert [each.message_id for each in outbox.refuse("a")] == ["0", "2"]
    outbox.lost()
    assert [each.message_id for each in outbox.take()] == ["1", "3"]


# Doubles: against a set.


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, WINDOW)), max_size=300))
def test_a_number_is_new_once(numbers):
    doubles, seen = Deduplicator(), set()
    for client, number in numbers:
        assert doubles.first(client, number) == ((client, number) not in seen)
        seen.add((client, number))


@given(st.lists(st.integers(1, 1 << 53), max_size=100))
def test_what_is_far_behind_is_a_double(numbers):
    doubles, seen, highest = Deduplicator(), set(), 0
    for number in numbers:
        expected = number not in seen and number > highest - WINDOW
        assert doubles.first("c", number) == expected
        seen.add(number)
        highest = max(highest, number)


def test_clients_that_said_nothing_for_long_are_forgotten():
    doubles = Deduplicator(clients=2)
    for client in "abc":
        doubles.first(client, 1)
    assert doubles.first("a", 1)
    assert not doubles.first("c", 1)


# History: against a list.


@given(
    st.lists(st.tuples(st.integers(1, 3), st.integers(0, 50)), max_size=60),
    st.integers(1, 10),
    st.integers(500, 3000),
    st.integers(-1, 200),
)
def test_a_history_is_the_newest_of_what_was_said(said, count, size, since):
    history, everything, offset, total = History(), [], -1, 0
    for step, length in said:
        offset += step
        everything.append((offset, Prepared("x" * length)))
        total += history.add(*everything[-1], count, size)
    past = history.after(since)
    wanted = [each for each in everything if each[0] > since]
    assert past.messages == wanted[len(wanted) - len(past.messages) :]
    if past.complete:
        assert past.messages == wanted
    assert len(history) <= count
    assert total == history.size
    assert history.size <= max(size, 500)
    assert history.last(2).messages == everything[max(0, len(everything) - min(2, len(history))) :]
    assert history.clear() == total
    assert history.dropped == offset if everything else history.dropped == -1


# Presence: processes that lose events.


@given(st.integers(0, 2**32))
def test_processes_come_to_agree_on_who_is_there(seed):
    """Whatever was lost on the way: once they hear each other again, all know the same, and told it once."""
    chance, names = random.Random(seed), "pqr"
    processes = {name: Presence(name, 10.0) for name in names}
    shown = {name: set() for name in names}
    now = 0.0

    def see(name, changes):
        for change in changes:
            mark = change.room, change.client
            # Nobody comes twice, nor leaves who was not there.
            assert (mark in shown[name]) != change.here
            (shown[name].add if change.here else shown[name].discard)(mark)

    def spread(event, sender, lossy):
        events = [(event, sender)]
        while events:
            event, sender = events.pop(0)
            event = json.loads(json.dumps(event))
            for name, process in processes.items():
                if name == sender or (lossy and chance.random() < 0.3):
                    continue
                changes, answers = process.hear(event, now)
                see(name, changes)
                events += [(answer, name) for answer in answers]

    for _ in range(60):
        name = chance.choice(names)
        process = processes[name]
        now += chance.random()
        match chance.randrange(5):
            case 0 | 1:
                see(name, process.enter(chance.choice("xy"), chance.choice("abc"), "n"))
            case 2:
                see(name, process.leave(chance.choice("xy"), chance.choice("abc")))
            case 3:
                if (told := process.told()) is not None:
                    spread(told, name, lossy=True)
            case 4:
                spread(process.beat(), name, lossy=True)
                see(name, process.expire(now))
    for _ in range(2):
        for name, process in processes.items():
            if (told := process.told()) is not None:
                spread(told, name, lossy=False)
            spread(process.beat(), name, lossy=False)
    expected = {
        (room, client) for each in processes.values() for room, of in each._own.items() for client in of
    }
    for name, process in processes.items():
        found = {(room, client) for room in "xy" for client, _ in process.members(room)}
        assert found == expected == shown[name]
        assert all(process.count(room) == len(process.members(room)) for room in "xy")


def test_a_process_that_is_silent_has_left_with_all_of_its():
    here, there = Presence("here", 10.0), Presence("there", 10.0)
    there.enter("lobby", "a", "Ada")
    changes, _ = here.hear(there.state(), 0.0)
    assert [(change.client, change.name, change.here) for change in changes] == [("a", "Ada", True)]
    assert here.expire(10.0) == []
    here.excuse(5.0)
    assert here.expire(12.0) == []
    assert [change.here for change in here.expire(15.1)] == [False]
    assert here.members("lobby") == []
    assert here.processes == 1


def test_who_is_connected_to_two_processes_has_left_when_both_say_so():
    here, there = Presence("here", 10.0), Presence("there", 10.0)
    here.enter("lobby", "a", "Ada")
    there.enter("lobby", "a", "Ada")
    assert here.hear(there.state(), 0.0) == ([], [])
    assert here.leave("lobby", "a") == []
    assert [change.here for change in here.hear(there.bye(), 1.0)[0]] == [False]


def test_who_comes_back_by_another_name_is_told_of():
    here, there = Presence("here", 10.0), Presence("there", 10.0)

    def told(presence):
        return [json.loads(message) for _, message in presence.take()]

    def spread():
        there.hear(json.loads(json.dumps(here.told())), 0.0)

    there.hear(here.state(), 0.0)
    here.enter("r", "a", "Ada")
    spread()
    assert told(here)[0]["joined"] == told(there)[0]["joined"] == [{"client": "a", "name": "Ada"}]
    for names in (["Countess"], ["Ada", "Ada Lovelace"]):
        for name in names:
            here.leave("r", "a")
            here.enter("r", "a", name)
        spread()
        for presence in (here, there):
            (said,) = told(presence)
            assert (said["count"], said["left"]) == (1, [])
            assert said["joined"] == [{"client": "a", "name": names[-1]}]
            assert presence.members("r") == [("a", names[-1])]
    # All at once: nobody has seen the name that it left by.
    here.leave("r", "a")
    here.enter("r", "a", "nobody")
    here.leave("r", "a")
    spread()
    for presence in (here, there):
        (said,) = told(presence)
        assert (said["count"], said["joined"], [each["client"] for each in said["left"]]) == (0, [], ["a"])
    here.enter("r", "b", "Bob")
    here.leave("r", "b")
    assert told(here) == []
    # A whole state says it, too.
    here.enter("r", "a", "Ada")
    there.hear(here.state(), 0.0)
    here.leave("r", "a")
    here.enter("r", "a", "Countess")
    there.hear(here.state(), 0.0)
    assert told(there)[0]["joined"] == [{"client": "a", "name": "Countess"}]


def test_members_are_named_again_once_they_are_few_enough():
    presence = Presence("here", 10.0, 2)
    said = []
    for client in "abc":
        presence.enter("r", client, client.upper())
        said += [json.loads(message) for _, message in presence.take()]
    presence.leave("r", "b")
    said += [json.loads(message) for _, message in presence.take()]
    presence.leave("r", "c")
    said += [json.loads(message) for _, message in presence.take()]
    assert "joined" not in said[2]
    assert said[3]["members"] == [{"client": "a", "name": "A"}, {"client": "c", "name": "C"}]
    assert said[4]["left"] == [{"client": "c", "name": "C"}]


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from(["event", "process", "version", "rooms", "changes", "whom"])
                | st.text(max_size=4),
                inner | st.sampled_from(["state", "changes", "beat", "ask", "bye", "p"]),
                max_size=6,
            )
        ),
        max_leaves=20,
    )
)
def test_events_of_any_kind_do_no_harm(event):
    presence = Presence("here", 10.0)
    if isinstance(event, dict):
        presence.hear(event, 0.0)
    presence.expire(100.0)


# Limits.


@given(st.lists(st.floats(0, 3), max_size=50), st.floats(0.1, 100), st.integers(1, 50))
def test_a_bucket_lets_through_what_it_is_for(pauses, rate, burst):
    bucket, now, taken = Bucket(rate, burst, 0.0), 0.0, 0
    for pause in pauses:
        now += pause
        taken += bucket.take(now)
    assert taken <= burst + math.ceil(now * rate) + 1
    # Who has waited long enough may.
    assert bucket.take(now + 1 / rate + burst / rate)


def test_limits_are_checked_when_they_are_made():
    with pytest.raises(ValueError, match="message"):
        Limits(message=0)
    with pytest.raises(ValueError, match="rate"):
        Limits(rate=0)
    with pytest.raises(ValueError, match="per_address"):
        Limits(per_address=-1)
    assert Limits(message=100, queue=5000).websocket.message == 100


@pytest.mark.parametrize(
    ("peer", "forwarded", "origin"),
    [
        ("192.0.2.1:4000", [], "192.0.2.1"),
        ("192.0.2.1", [], "192.0.2.1"),
        ("unix", [], "unix"),
        ("?", ["203.0.113.9"], ""),
        # What a client writes into the field counts for nothing, without a proxy or before one.
        ("192.0.2.1:4000", ["203.0.113.9"], "192.0.2.1"),
        ("10.0.0.1:4000", ["203.0.113.9, 198.51.100.7"], "198.51.100.7"),
        ("10.0.0.1:4000", ["203.0.113.9", "198.51.100.7, 10.0.0.2"], "198.51.100.7"),
        ("[fd00::1]:4000", ["198.51.100.7:90"], "198.51.100.7"),
        ("unix", ["198.51.100.7"], "198.51.100.7"),
        ("10.0.0.1:4000", ["unknown"], "10.0.0.1"),
        ("10.0.0.1:4000", [", "], "10.0.0.1"),
        ("10.0.0.1:4000", ["10.0.0.2"], "10.0.0.2"),
        ("[2001:db8:0:1::5]:4000", [], "2001:db8:0:1::/64"),
        ("10.0.0.1:4000", ["2001:db8:0:1:ffff::5"], "2001:db8:0:1::/64"),
        ("[fe80::1%eth0]:4000", [], "fe80::/64"),
        ("[::ffff:192.0.2.1]:4000", [], "192.0.2.1"),
    ],
)
def test_an_address_is_the_last_that_is_no_proxys(peer, forwarded, origin):
    assert Proxies(["10.0.0.0/8", "fd00::/8"]).origin(peer, forwarded) == origin


def test_networks_of_proxies_are_checked():
    with pytest.raises(ValueError, match=r"10\.0\.0\.0/99"):
        Proxies(["10.0.0.0/99"])


# The protocol.


@given(
    st.text(max_size=200)
    | st.builds(
        json.dumps,
        st.dictionaries(
            st.sampled_from(["type", "room", "number", "data", "key", "name", "since", "last"]),
            st.none()
            | st.booleans()
            | st.integers()
            | st.text(max_size=5)
            | st.floats(allow_nan=False)
            | st.sampled_from(["hello", "join", "send", "signal", "leave", "ping"]),
        ),
    )
)
def test_what_is_read_is_a_command_or_malformed(text):
    reason = ""
    try:
        assert isinstance(protocol.read(text), protocol.Command)
    except protocol.Malformed as error:
        reason = str(error)
    # As much as a close frame holds.
    assert len(reason.encode()) < 124


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('{"type":"send","room":"r","number":NaN,"data":1}', "not JSON"),
        ('{"type":"send","room":"r","number":1,"data":1e999}', "not JSON"),
        ('{"type":"send","room":"r","number":1,"data":' + "9" * 5000 + "}", "not JSON"),
        ("[]", "object"),
        ('{"type":"shout"}', "type is one of"),
        ('{"type":["send"]}', "type is one of"),
        ('{"type":"join","room":"a b"}', "room has"),
        ('{"type":"join","room":"a.#"}', "room has"),
        ('{"type":"join","room":"' + "ä" * 101 + '"}', "room has"),
        ('{"type":"join","room":"\\ud800"}', "room has"),
        ('{"type":"join","room":"r","since":-2}', "since"),
        ('{"type":"join","room":"r","since":-1.0}', "since"),
        ('{"type":"join","room":"r","since":true}', "since"),
        ('{"type":"join","room":"r","last":1.5}', "last"),
        ('{"type":"join","room":"r","presence":1}', "presence"),
        ('{"type":"join","room":"r","stream":1}', "stream"),
        ('{"type":"join","room":"r","process":1}', "process"),
        ('{"type":"send","room":"r","number":0,"data":1}', "number"),
        ('{"type":"send","room":"r","number":1}', "no data"),
        ('{"type":"hello","key":"short"}', "key has"),
        ('{"type":"hello","name":1}', "name"),
    ],
)
def test_what_is_wrong_with_a_message_is_said(said, reason):
    with pytest.raises(protocol.Malformed, match=reason):
        protocol.read(said)


def test_whatever_offset_one_is_told_on_joining_one_may_come_back_with():
    rooms = Rooms(slow="close", lag=None, back=None, count=9, size=1 << 20, memory=1 << 20)
    for begin in (lambda: None, rooms.reset, lambda: rooms.missed(0)):
        begin()
        for since in (None, 57):
            offset, _ = rooms.join("lobby", Reluctant(), since, 50, 0.0)
            said = protocol.read(json.dumps({"type": "join", "room": "lobby", "since": offset}))
            assert said.since == offset == -1
            assert rooms.join("lobby", Reluctant(), offset, 0, 0.0) == (-1, True)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=5), st.text())
def test_an_envelope_is_json_once_it_is_stamped(data, name):
    body = protocol.envelope("lobby", "client", name, protocol.Send("lobby", 3, data), 1700000000000)
    said = json.loads(protocol.stamped(body, 12))
    assert (said["offset"], said["room"], said["number"]) == (12, "lobby", 3)
    # Half a surrogate pair comes through JSON as it is.
    assert said["data"] == json.loads(json.dumps(data))
    assert said["name"] == name


def test_what_other_programs_publish_is_json_or_text_or_passed_over():
    def foreign(body, content_type="application/json", room="r"):
        return protocol.foreign(room, body, content_type)

    assert json.loads(foreign(b"[1]"))["data"] == [1]
    assert json.loads(foreign(b"[1]", "text/plain"))["data"] == "[1]"
    assert json.loads(foreign("ä".encode(), None))["data"] == "ä"
    for body in (b"1e999", b"Infinity", b"[" * 100_000, b"\xff", b"{"):
        assert foreign(body) == b""
    assert foreign(b"1", room="a b") == b""


def test_what_a_client_is_known_by_does_not_tell_its_key():
    one, two = protocol.Hello("k" * 16), protocol.Hello("k" * 17)
    assert one.client != two.client
    assert one.client == protocol.Hello("k" * 16, "other").client
    assert "k" * 8 not in one.client
    assert protocol.sender(protocol.message_id(one.client, 7)) == (one.client, 7)
    assert protocol.sender(None) == protocol.sender("x") == protocol.sender("a:b") == ("", 0)


def test_names_are_one_line():
    assert (
        protocol.read('{"type":"hello","name":"  Ada\\n  Lovelace ' + "x" * 100 + '"}').name[:13]
        == "Ada Lovelace "
    )


# Where the broker is.


def test_a_url_is_a_broker():
    broker = Broker.parse("amqp://ada:p%40ss@rabbit.example:5673/chat%2Fone")
    assert (broker.host, broker.port, broker.user, broker.password, broker.vhost) == (
        "rabbit.example",
        5673,
        "ada",
        "p@ss",
        "chat/one",
    )
    assert str(broker) == "amqp://rabbit.example:5673/chat/one"
    assert "p@ss" not in repr(broker)
    assert Broker.parse("amqp://[::1]").port == 5672
    assert isinstance(Broker.parse("amqps://rabbit.example").tls, ssl.SSLContext)
    assert Broker.parse("amqps://rabbit.example").port == 5671


def test_a_url_of_a_cluster_names_its_nodes():
    broker = Broker.parse("amqp://ada:a,b@one,two:5673,[::1]:5674/chat")
    assert str(broker) == "amqp://one:5672,two:5673,[::1]:5674/chat"
    assert [str(node) for node in broker.nodes] == [
        "amqp://one:5672/chat",
        "amqp://two:5673/chat",
        "amqp://[::1]:5674/chat",
    ]
    assert {node.password for node in broker.nodes} == {"a,b"}
    assert Broker.parse(str(broker)).others == broker.others


@pytest.mark.parametrize(
    "url",
    [
        "http://a",
        "amqp://",
        "amqp://a,",
        "amqp://a,b:x",
        "amqp://a:99999",
        "amqp://a:b:c",
        "",
        "amqp://secret:word@h?x=1",
    ],
)
def test_a_url_that_is_none_is_refused_without_what_is_secret(url):
    with pytest.raises(BrokerError) as caught:
        Broker.parse(url)
    assert "word" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_link_is_a_broker(tmp_path):
    link = {
        "RABBITMQ_PORT_5672_TCP_ADDR": "10.1.2.3",
        "RABBITMQ_PORT_5672_TCP_PORT": "5672",
        "RABBITMQ_ENV_RABBITMQ_DEFAULT_USER": "chat",
    }
    broker = broker_from(link | {"RABBITMQ_PASSWORD": "secret"})
    assert (broker.host, broker.port, broker.user, broker.password, broker.tls) == (
        "10.1.2.3",
        5672,
        "chat",
        "secret",
        None,
    )
    (tmp_path / "password").write_text("from a file\n")
    broker = broker_from(
        link | {"RABBITMQ_USER": "ada", "RABBITMQ_PASSWORD_FILE": str(tmp_path / "password")}
    )
    assert (broker.user, broker.password) == ("ada", "from a file")
    exposed = {"MQ_PORT_5672_TCP_ADDR": "h", "MQ_ENV_RABBITMQ_DEFAULT_PASS": "seen"}
    assert broker_from(exposed, link="MQ").password == "seen"
    assert broker_from({"RABBITMQ_PORT_5671_TCP_ADDR": "h"}).tls is not None


def test_a_url_of_the_environment_comes_before_a_link():
    environment = {
        "RABBITMQ_PORT_5672_TCP_ADDR": "10.1.2.3",
        "RABBITMQ_URL": "amqp://two",
        "AMQP_URL": "amqp://one",
    }
    assert broker_from(environment).host == "one"
    del environment["AMQP_URL"]
    assert broker_from(environment).host == "two"
    assert str(broker_from({})) == "amqp://localhost:5672"


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({"AMQP_CA_FILE": "/nowhere/ca.pem"}, "AMQP_CA_FILE=/nowhere/ca.pem"),
        ({"RABBITMQ_PORT_5672_TCP_ADDR": "h", "RABBITMQ_PORT_5672_TCP_PORT": "x"}, "is no port"),
        ({"RABBITMQ_PORT_5672_TCP_ADDR": "h", "RABBITMQ_PASSWORD_FILE": "/nowhere/p"}, "/nowhere/p"),
    ],
)
def test_an_environment_that_is_wrong_is_said_to_be(environment, reason):
    with pytest.raises(BrokerError, match=reason):
        broker_from(environment)


def test_a_password_that_is_no_text_is_said_to_be_none(tmp_path):
    file = tmp_path / "password"
    file.write_bytes(b"secret\xff")
    link = {"RABBITMQ_PORT_5672_TCP_ADDR": "h", "RABBITMQ_PASSWORD_FILE": str(file)}
    for read, raised in (
        (lambda: broker_from(link), BrokerError),
        (lambda: Settings.from_environment({"RABBITMQ_DEFAULT_PASS_FILE": str(file)}), RabbitError),
    ):
        with pytest.raises(raised, match="is not UTF-8") as caught:
            read()
        assert "secret" not in str(caught.value)


def test_streams_are_bounded():
    assert Queue.stream("s", age=60, size=1 << 30).arguments == {
        "x-queue-type": "stream",
        "x-max-age": "60s",
        "x-max-length-bytes": 1 << 30,
        "x-stream-max-segment-size-bytes": 1 << 27,
    }


def test_rabbitmq_is_set_up_by_its_environment(tmp_path):
    settings = Settings.from_environment(
        {"STATE_DIRECTORY": str(tmp_path), "RABBITMQ_DEFAULT_USER": 'a"b', "KIRSCH_ADDRESS": "127.0.0.9"}
    )
    assert settings.data == tmp_path / "rabbitmq"
    assert "listeners.tcp.1 = 127.0.0.9:5672" in settings.configuration()
    assert '"' not in settings.terms()
    for name, value in (("RABBITMQ_PORT", "70000"), ("RABBITMQ_DEFAULT_PASS_FILE", "/nowhere/p")):
        with pytest.raises(RabbitError, match=value):
            Settings.from_environment({name: value})


# The consumer of the stream.


def delivery(body, kind=protocol.MESSAGE, message_id="c:1"):
    return Delivery("s", "e", "lobby", body, 0, "application/json", kind, message_id)


def said(number, client="c"):
    body = protocol.envelope("lobby", client, "n", protocol.Send("lobby", number, number), 0)
    return delivery(body, message_id=f"{client}:{number}")


def late(reader, now):
    """Whether the reader has the end of the stream looked for."""
    return any(isinstance(event, Mark) and not event.body for event in reader.tick(now))


def test_a_reader_tells_what_is_new_from_what_is_not():
    reader = StreamConsumer("me", 60, 5.0)
    assert reader.connect(0.0) == {"x-stream-offset": "60s"}
    first = reader.receive(said(1), 40)[-1]
    assert isinstance(first, Message)
    assert json.loads(first.text)["offset"] == 40
    assert reader.begun == 40
    assert reader.receive(delivery(b"{}", protocol.MARK, "other"), 41)[-1] is OTHERS_MARK
    assert reader.receive(delivery(b"{}", protocol.MARK, "me"), 42)[-1] is CAUGHT_UP
    assert reader.caught_up
    assert reader.receive(said(1), 43)[-1] is DUPLICATE
    assert reader.receive(said(2), 43)[-1] is SEEN
    assert reader.receive(delivery(b"\xff", None), 44)[-1] is FOREIGN
    assert isinstance(reader.receive(delivery(b'"text"', None), 45)[-1], Message)
    assert reader.offset == 45


def test_a_reader_goes_on_from_its_last_message():
    reader = StreamConsumer("me", 60, 5.0)
    reader.receive(said(1), 7)
    assert reader.connect(100.0) == {"x-stream-offset": 7}
    assert not late(reader, 104.0)
    assert reader.receive(said(1), 7)[-1] is SEEN
    assert not late(reader, 1000.0)
    assert isinstance(reader.receive(said(2), 8)[-1], Message)
    assert reader.begun == 7


def test_a_reader_notices_what_it_has_missed():
    reader = StreamConsumer("me", 60, 5.0)
    reader.receive(said(1), 7)
    reader.connect(100.0)
    assert isinstance(reader.receive(said(9), 20)[-1], Message)
    assert reader.begun == 20


def test_what_was_on_its_way_when_the_connection_was_lost_is_not_missing():
    reader = StreamConsumer("me", 60, 5.0)
    reader.receive(said(1), 7)
    reader.connect(100.0)
    assert isinstance(reader.receive(said(2), 8)[-1], Message)
    assert reader.receive(said(1), 7)[-1] is SEEN
    assert reader.receive(said(2), 8)[-1] is SEEN
    assert isinstance(reader.receive(said(3), 9)[-1], Message)
    assert reader.begun == 7


def test_a_reader_of_another_stream_begins_with_its_beginning():
    reader = StreamConsumer("me", 60, 5.0)
    reader.receive(said(1), 7)
    reader.connect(100.0)
    assert reader.receive(said(3), 7)[-1] is REPLACED
    # What the same connection brings behind it.
    assert reader.receive(said(4), 8)[-1] is SEEN
    assert reader.connect(200.0) == {"x-stream-offset": "60s"}
    assert isinstance(reader.receive(said(1), 0)[-1], Message)
    assert isinstance(reader.receive(said(4), 8)[-1], Message)


def test_a_reader_notices_that_the_stream_is_another():
    for offset in (7, 2):
        reader = StreamConsumer("me", 60, 5.0)
        reader.receive(said(1), 7)
        reader.connect(100.0)
        assert late(reader, 105.1)
        reader.connect(200.0)
        assert reader.receive(said(3), offset)[-1] is REPLACED
        assert reader.connect(400.0) == {"x-stream-offset": "60s"}
        assert isinstance(reader.receive(said(1), 0)[-1], Message)


# Rooms: members that read when it pleases them.


class Reluctant:
    """A member whose queue holds so many messages; `take` reads some."""

    class limits:  # noqa: N801 - as a connection has it
        queue = 8

    def __init__(self):
        self.waiting, self.heard, self.closed = [], [], False

    @property
    def queued(self):
        return len(self.waiting)

    buffered = queued

    def send(self, message):
        if len(self.waiting) > 8:
            raise Slow(len(self.waiting), 8)
        self.waiting.append(str(message, "utf-8") if isinstance(message, bytes) else message)

    def take(self, count):
        self.heard += self.waiting[:count]
        del self.waiting[:count]


@given(
    st.lists(st.sampled_from(["say", "say", "say", "take", "look", "leave", "join"]), max_size=150),
    st.integers(1, 30),
)
def test_who_is_behind_hears_the_rest_in_order_or_of_a_gap(steps, kept):
    lagged = []
    rooms = Rooms(
        slow="drop",
        lag=lagged.append,
        back=lambda room, member: None,
        count=kept,
        size=1 << 20,
        memory=1 << 20,
    )
    member, offset, since, now = Reluctant(), -1, None, 0.0
    rooms.join("r", member, None, 0, now)
    inside = True
    for step in [*steps, "join", *["take", "look"] * 60]:
        now += 0.05
        if step == "say":
            offset += 1
            rooms.offset = offset
            rooms.say("r", offset, Prepared(f"{offset}"))
        elif step == "take":
            member.take(4)
        elif step == "look":
            rooms.catch_up("r", now, 30.0)
        elif step == "leave" and inside:
            rooms.discard(rooms.room("r"), member)
            member.take(100)
            inside = False
        elif step == "join" and not inside:
            inside = True
            numbers = [int(heard) for heard in member.heard if heard.isdigit()]
            since = numbers[-1] if numbers else -1
            _, complete = rooms.join("r", member, since, 0, now)
            if not complete:
                member.heard.append("gap")
    last = -1
    for heard in member.heard:
        if heard.isdigit():
            # A hole is told of before what follows it.
            assert last is None or int(heard) == last + 1
            last = int(heard)
        else:
            last = None
    assert last in (offset, None)
    assert not lagged


def test_who_is_behind_after_joining_is_told_who_is_there_once_it_has_heard_the_rest():
    back = []
    rooms = Rooms(
        slow="close",
        lag=None,
        back=lambda room, member: back.append(member),
        count=100,
        size=1 << 20,
        memory=1 << 20,
    )
    for offset in range(20):
        rooms.offset = offset
        rooms.say("r", offset, Prepared(f"{offset}"))
    prompt, busy = Reluctant(), Reluctant()
    rooms.join("r", prompt, None, 3, 0.0)
    rooms.join("r", busy, None, 20, 0.0)
    for _ in range(9):
        rooms.catch_up("r", 0.0, 30.0)
        busy.take(9)
    assert busy.heard == [f"{offset}" for offset in range(20)]
    assert back == [busy]


def test_changes_are_told_though_others_who_do_not_care_are_behind():
    rooms = Rooms(slow="drop", lag=None, back=None, count=9, size=1 << 20, memory=1 << 20)
    others = Members(
        "here", "events", rooms, 500, lambda publication: None, lambda: None, lambda order: None, float
    )
    caring, quiet = Reluctant(), Reluctant()
    for member in (caring, quiet):
        rooms.join("r", member, None, 0, 0.0)
    rooms.catch_up("r", 0.0, 30.0)
    room = rooms.room("r")
    room.quiet.add(id(quiet))
    rooms.join("r", quiet, None, 0, 0.0)
    others.hear(b'{"event":"state","process":"there","version":1,"rooms":{"r":{"b":"Bob"}}}', 0.0)
    others.tell(True)
    assert [json.loads(said)["joined"] for said in caring.waiting] == [[{"client": "b", "name": "Bob"}]]
    assert not quiet.waiting


def test_processes_that_were_there_at_the_same_time_are_remembered():
    rooms = Rooms(slow="drop", lag=None, back=None, count=9, size=1 << 20, memory=1 << 20)
    others = Members(
        "here", "events", rooms, 500, lambda publication: None, lambda: None, lambda order: None, float
    )
    assert others.know("here")
    assert not others.know("there")
    for body in (b'{"event":"beat","process":"there","version":0}', b'{"event":"bye","process":"there"}'):
        others.hear(body, 0.0)
        others.hear(b'{"event":"beat","process":[]}', 0.0)
        assert others.know("there")
    for number in range(KNOWN):
        others.hear(b'{"event":"bye","process":"p%d"}' % number, 0.0)
    assert not others.know("there")
    assert others.know("p0")


def test_who_comes_and_goes_while_the_broker_is_away_is_not_kept():
    told = []
    rooms = Rooms(slow="drop", lag=None, back=None, count=9, size=1 << 20, memory=1 << 20)
    others = Members("here", "events", rooms, 500, told.append, lambda: None, lambda order: None, float)
    there = Presence("there", 10.0)
    there.hear(others.presence.state(), 0.0)
    for number in range(1000):
        others.enter("r", f"c{number}", "n")
        others.leave("r", f"c{number}")
        others.tell(False)
        assert not others.presence._untold
    others.enter("r", "last", "n")
    others.tell(False)
    assert told == []
    # Though the state should be lost on its way: they know by the next sign of life that they missed it.
    _, asked = there.hear(others.presence.beat(), 1.0)
    assert asked == [there.ask("here")]
    there.hear(others.presence.state(), 1.0)
    assert there.members("r") == [("last", "n")]


def test_rooms_that_are_quiet_for_longest_are_forgotten_first():
    rooms = Rooms(slow="close", lag=None, back=None, count=100, size=1 << 20, memory=10_000)
    for offset in range(40):
        rooms.offset = offset
        rooms.say(f"room{offset // 10}", offset, Prepared("x" * 100))
    assert rooms.size <= 10_000
    assert rooms.get("room0") is None
    assert len(rooms.room("room3").history) == 10
    member = Reluctant()
    offset, complete = rooms.join("room0", member, 3, 0, 0.0)
    assert not complete


def test_a_kick_that_the_broker_has_lost_is_heard_with_the_next_state():
    rooms = Rooms(slow="close", lag=None, back=None, count=9, size=1 << 20, memory=1 << 20)
    told, done, clock = [], [], [1000.0]

    def members(process):
        publish = told.append if process == "here" else lambda publication: None
        carry_out = lambda order, late: done.append((process, order.user, late))  # noqa: E731
        return Members(process, "events", rooms, 500, publish, lambda: None, carry_out, lambda: clock[0])

    here, there = members("here"), members("there")
    here.order(Order("kick", "eve", "lobby", reason="Ads.", at=1000.0))
    assert done == [("here", "eve", False)]
    # The broker was away, and what was published then is gone.
    told.clear()
    clock[0] = 1060.0
    here.connected(60.0)
    for publication in told:
        there.hear(publication.body, 60.0)
    assert done[1:] == [("there", "eve", True)]
    # It is carried out once, however often it is told, and not for ever.
    here.connected(61.0)
    there.hear(told[-2].body, 61.0)
    assert len(done) == 2
    there.hear(b'{"event":"order","process":"here","do":"kick","user":"eve","room":"lobby","at":1060}', 61.0)
    assert done[2:] == [("there", "eve", False)]
    clock[0] += KICK_TOLD
    here.connected(62.0)
    assert json.loads(told[-2].body)["orders"] == []


def test_a_kick_of_another_program_is_told_to_who_was_away():
    rooms = Rooms(slow="close", lag=None, back=None, count=9, size=1 << 20, memory=1 << 20)
    told, done = [], []

    def members(process):
        carry_out = lambda order, late: done.append((process, order.user, late))  # noqa: E731
        return Members(process, "events", rooms, 500, told.append, lambda: None, carry_out, lambda: 1060.0)

    here, there = members("here"), members("there")
    kick = b'{"event":"order","do":"kick","user":"eve","room":"lobby","at":1000}'
    here.hear(kick, 0.0)
    here.hear(b'{"event":"order","do":"kick","user":"max","room":"lobby"}', 0.0)
    assert done == [("here", "eve", False), ("here", "max", False)]
    here.connected(1.0)
    there.hear(told[0].body, 1.0)
    # Without a time it would not be known to be the same order the next time.
    assert done[2:] == [("there", "eve", True)]
    there.connected(2.0)
    here.hear(told[2].body, 2.0)
    assert len(done) == 3
