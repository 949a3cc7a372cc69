"""What browsers see of a Bridge, on every provider, with a real broker."""

import json

import pytest
from tests.amqp.applications import PROVIDERS, running
from tests.amqp.visitor import Visitor

pytestmark = pytest.mark.services


@pytest.fixture(scope="module", params=PROVIDERS)
def application(request, rabbit):
    with running(request.param, rabbit.url, rabbit.name()) as application:
        yield application


@pytest.fixture
def pair(application):
    with Visitor(application, "Ada") as ada, Visitor(application, "Bob") as bob:
        yield ada, bob


def test_who_sends_hears_it_as_all_do_once_the_broker_has_it(pair):
    ada, bob = pair
    for each in pair:
        each.join("lobby", presence=False)
    ada.send("lobby", 1, {"text": "hä? \ud83d\ude00"})
    ada.until("sent", room="lobby", number=1)
    heard = bob.until("message")
    assert heard in ada.said or heard == ada.until("message")
    assert {name: heard[name] for name in ("room", "client", "name", "number", "data")} == {
        "room": "lobby",
        "client": ada.client,
        "name": "Ada",
        "number": 1,
        "data": {"text": "hä? 😀"},
    }


def test_a_room_is_not_heard_in_another(pair):
    ada, bob = pair
    ada.join("one")
    bob.join("two")
    ada.send("one", 1, "for one")
    ada.send("two", 2, "for two")
    assert bob.messages(1) == ["for two"]
    assert ada.messages(1) == ["for one"]


def test_who_enters_hears_what_was_said_last(pair):
    ada, bob = pair
    ada.join("past")
    for number in range(1, 8):
        ada.send("past", number, number)
    ada.messages(7)
    joined = bob.join("past", last=3)
    assert joined["complete"]
    assert bob.messages(3) == [5, 6, 7]


def test_who_was_away_hears_what_it_missed_in_order_once(application, pair):
    ada, bob = pair
    ada.join("away")
    bob.join("away")
    ada.send("away", 1, "before")
    offset = bob.until("message")["offset"]
    bob.ws.close()
    for number in range(2, 30):
        ada.send("away", number, number)
    ada.messages(29)
    with Visitor(application, "Bob", bob.key) as again:
        assert again.client == bob.client
        joined = again.join("away", since=offset)
        assert joined["complete"]
        ada.send("away", 30, 30)
        assert again.messages(29) == list(range(2, 31))


def test_a_message_that_is_sent_again_is_heard_once(pair):
    ada, bob = pair
    ada.join("doubles")
    bob.join("doubles")
    for number in (1, 2, 1, 2, 3):
        ada.send("doubles", number, number)
    assert bob.messages(3) == [1, 2, 3]
    # Each is confirmed, the doubles too: who sent them again is waiting for it.
    sent = [said["number"] for said in ada.said if said["type"] == "sent"]
    while len(sent) < 5:
        sent.append(ada.until("sent")["number"])
    assert sorted(sent) == [1, 1, 2, 2, 3]


def test_who_comes_and_goes_is_told(pair):
    ada, bob = pair
    ada.join("presence")
    joined = bob.join("presence")
    assert [member["name"] for member in joined["members"]] == ["Ada", "Bob"]
    came = ada.until("presence", count=2)["joined"]
    assert {"client": bob.client, "name": "Bob"} in came
    bob.say(type="leave", room="presence")
    bob.until("left", room="presence")
    ada.until("presence", count=1, left=[{"client": bob.client, "name": "Bob"}])


def test_a_connection_that_ends_has_left(application, pair):
    ada, _ = pair
    ada.join("gone")
    with Visitor(application, "Eve") as eve:
        eve.join("gone")
        ada.until("presence", count=2)
    ada.until("presence", count=1, left=[{"client": eve.client, "name": "Eve"}])


def test_signals_reach_those_who_are_there_and_are_not_kept(application, pair):
    ada, bob = pair
    ada.join("signals")
    bob.join("signals")
    ada.say(type="signal", room="signals", data="typing")
    signal = bob.until("signal")
    assert (signal["client"], signal["name"], signal["data"]) == (ada.client, "Ada", "typing")
    with Visitor(application, "Eve") as eve:
        eve.join("signals", last=10)
        eve.say(type="ping")
        eve.until("pong")
        assert not [said for said in eve.said if said["type"] in ("signal", "message")]


def test_the_application_speaks_too(application, pair):
    ada, _ = pair
    ada.join("notices")
    application.inside(lambda: application.bridge.send("notices", {"text": "closing soon"}, "house"))
    said = ada.until("message")
    assert (said["client"], said["name"], said["data"]) == ("", "house", {"text": "closing soon"})


def test_a_client_that_comes_back_replaces_its_old_connection(application, pair):
    ada, bob = pair
    bob.join("replaced")
    ada.join("replaced")
    bob.until("presence", count=2)
    with Visitor(application, "Ada", ada.key) as again:
        again.join("replaced")
        assert ada.ended()[0] == 4409
        assert again.client == ada.client
        bob.say(type="ping")
        bob.until("pong")
        # Nobody has seen it go.
        assert [s for s in bob.said if s["type"] == "presence" and s.get("left")] == []


def test_messages_of_other_programs_are_heard(application, pair, rabbit):
    import pika

    ada, _ = pair
    ada.join("foreign")
    exchange = f"{application.bridge.name}.rooms"
    with pika.BlockingConnection(pika.URLParameters(rabbit.url)) as connection:
        channel = connection.channel()
        json_type = pika.BasicProperties(content_type="application/json")
        channel.basic_publish(exchange, "foreign", b"\xff\xfe")
        channel.basic_publish(exchange, "foreign", b"not { json", json_type)
        channel.basic_publish(exchange, "foreign", b"a line")
        channel.basic_publish(exchange, "foreign", json.dumps({"a": [1]}).encode(), json_type)
    assert ada.messages(2) == ["a line", {"a": [1]}]


def test_what_is_dropped_for_its_number_is_not_said_to_be_sent(rabbit):
    """A copied window with the same key, at another process: its message is another, its number is not."""
    name = rabbit.name()
    with (
        running("cherrypy", rabbit.url, name) as here,
        running("asyncio", rabbit.url, name) as there,
        Visitor(here, "Ada") as ada,
        Visitor(there, "Ada", ada.key) as copy,
    ):
        for each in (ada, copy):
            each.join("lobby", presence=False)
        ada.send("lobby", 1, {"text": "one", "more": 1})
        ada.until("sent", number=1)
        assert copy.messages(1) == [{"text": "one", "more": 1}]
        copy.send("lobby", 1, {"text": "two", "more": 1})
        error = copy.until("error", number=1)
        assert (error["code"], error["room"]) == ("conflict", "lobby")
        # The same message again is one that was sent, whoever sends it, and in whatever order it is written.
        copy.send("lobby", 1, {"more": 1, "text": "one"})
        copy.until("sent", number=1)
        copy.send("elsewhere", 1, {"text": "one", "more": 1})
        assert copy.until("error", number=1)["code"] == "conflict"
        copy.send("lobby", 2, "three")
        copy.until("sent", number=2)
        assert ada.messages(1) == ["three"]
        heard = [said["data"] for said in ada.said if said["type"] == "message"]
        assert heard == [{"text": "one", "more": 1}, "three"]
        assert there.bridge.counters.refused["conflict"] == 2
        assert not here.bridge.stream._receipts
        assert not there.bridge.stream._receipts
