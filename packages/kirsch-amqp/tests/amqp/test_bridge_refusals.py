"""What a Bridge does not let through, by docs/protocol.md, while others go on undisturbed."""

import contextlib
import json
import threading
from collections import Counter

import pytest
from tests.amqp.applications import PROVIDERS, running
from tests.amqp.visitor import Visitor
from tests.deadline import eventually

from kirsch.amqp import Identity, Limits, Refused
from kirsch.websocket import ClientOptions, Closed, HandshakeError, Slow
from kirsch.websocket.threaded import connect

pytestmark = pytest.mark.services

LIMITS = Limits(message=64 << 10, rate=50, burst=200, hello=2.0, rooms=3, unconfirmed=100)


def authenticate(hello, request):
    """Who has the token may come; the handshake's request is there too."""
    assert request.path == "/"
    if hello.token == "broken":
        raise Refused("this token has run out")
    return Identity(hello.name, user={"admin": hello.token == "admin"}) if hello.token else None


def authorise(identity, room, direction):
    return room != "secret" and (room != "notices" or direction == "read" or identity.user["admin"])


def check(identity, room, data):
    if data == "spam":
        raise Refused("no advertisements")
    return data.strip() if isinstance(data, str) else data


@pytest.fixture(scope="module", params=PROVIDERS)
def application(request, rabbit):
    hooks = {"authenticate": authenticate, "authorise": authorise, "check": check}
    with running(request.param, rabbit.url, rabbit.name(), limits=LIMITS, **hooks) as application:
        yield application


class Undisturbed:
    """Two who talk to each other meanwhile: each message comes, in order."""

    def __init__(self, application):
        self.ada, self.bob = (visitor(application, name) for name in ("Ada", "Bob"))
        self.ada.join("calm", presence=False)
        self.bob.join("calm", presence=False)
        self.number = 0

    def __enter__(self):
        return self

    def talk(self):
        self.number += 1
        self.ada.send("calm", self.number, self.number)
        assert self.bob.messages(1) == [self.number]

    def __exit__(self, kind, *error):
        if kind is None:
            self.talk()
        self.ada.ws.close()
        self.bob.ws.close()


def visitor(application, name="Eve", token="user", **options):
    made = Visitor(application, name, hello=False, **options)
    made.client = made.hello(token=token)["client"]
    return made


@pytest.fixture
def others(application):
    with Undisturbed(application) as others:
        others.talk()
        yield others


def test_a_page_of_another_origin_gets_no_websocket(application, others):
    options = ClientOptions(origin="https://evil.example")
    with pytest.raises(HandshakeError) as caught:
        connect(application.url, options=options)
    assert caught.value.status == 403


def test_a_wrong_token_is_4401(application, others):
    for token, reason in ((None, "who are you?"), ("broken", "this token has run out")):
        with Visitor(application, hello=False) as eve:
            eve.say(type="hello", name="Eve", token=token)
            assert eve.ended() == (4401, reason)


def test_a_room_that_is_not_allowed_is_an_error(application, others):
    with visitor(application) as eve:
        eve.say(type="join", room="secret")
        assert eve.until("error") == {
            "type": "error",
            "code": "forbidden",
            "reason": "you may not read here",
            "room": "secret",
        }
        eve.send("secret", 1, "psst")
        assert eve.until("error", number=1)["code"] == "forbidden"
        eve.say(type="signal", room="secret", data="psst")
        assert eve.until("error")["code"] == "forbidden"
        eve.join("lobby")


def test_reading_and_writing_are_allowed_apart(application, others):
    with visitor(application) as eve, visitor(application, token="admin") as admin:
        eve.join("notices")
        eve.send("notices", 1, "me too")
        assert eve.until("error", number=1)["code"] == "forbidden"
        admin.send("notices", 1, "  read this ")
        assert eve.messages(1) == ["read this"]


def test_a_message_that_the_application_refuses_is_an_error(application, others):
    with visitor(application) as eve:
        eve.join("lobby")
        eve.send("lobby", 1, "spam")
        error = eve.until("error", number=1)
        assert (error["code"], error["reason"]) == ("refused", "no advertisements")
        eve.send("lobby", 2, "not so")
        assert eve.messages(1) == ["not so"]


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("{", "JSON"),
        # Nested deeper than it can be read.
        ('{"type":"send","room":"r","number":1,"data":' + "[" * 30_000 + "]" * 30_000 + "}", "JSON"),
        ("{}", "type is one of"),
        ('{"type":"join","room":"#"}', "room has"),
    ],
)
def test_what_is_not_the_protocol_is_4400(application, others, said, reason):
    with visitor(application) as eve:
        eve.ws.send(said)
        code, why = eve.ended()
        assert code == 4400
        assert reason in why


def test_who_does_not_say_hello_first_is_4400(application, others):
    with Visitor(application, hello=False) as eve:
        eve.say(type="join", room="lobby")
        assert eve.ended()[0] == 4400
    with visitor(application) as eve:
        eve.say(type="hello")
        assert eve.ended()[0] == 4400


@pytest.mark.slow
def test_who_says_nothing_is_4408(application):
    with Visitor(application, hello=False) as eve:
        assert eve.ended() == (4408, "no hello")


def test_a_binary_message_is_1003(application, others):
    with visitor(application) as eve:
        eve.ws.send(b"{}")
        assert eve.ended()[0] == 1003


def test_a_message_of_two_mebibytes_is_1009(application, others):
    with visitor(application) as eve:
        eve.ws.send(json.dumps({"type": "send", "room": "lobby", "number": 1, "data": "x" * (2 << 20)}))
        assert eve.ended()[0] == 1009


def test_ten_thousand_messages_are_told_that_they_are_too_many_then_4429(application, others):
    with visitor(application) as eve:
        eve.join("flood", presence=False)
        line = json.dumps({"type": "signal", "room": "flood", "data": 1})
        try:
            for count in range(10_000):
                eve.ws.send(line)
                if count % 2500 == 0:
                    others.talk()
        except Exception as error:
            # It is closed before the last has gone.
            assert type(error).__name__ in ("Closed", "Slow"), error  # noqa: PT017
        code, _ = eve.ended()
    assert code == 4429
    assert [said["code"] for said in eve.said if said["type"] == "error"].count("rate") == LIMITS.burst
    assert len([said for said in eve.said if said["type"] == "signal"]) <= LIMITS.burst + 50 * 20
    others.talk()


def test_a_message_that_was_refused_for_its_rate_may_come_again(application, others):
    with visitor(application) as eve:
        eve.join("again", presence=False)
        for number in range(1, LIMITS.burst + 20):
            eve.send("again", number, number)
        refused = eve.until("error", code="rate")
        number = refused["number"]

        def sent_at_last():
            eve.send("again", number, number)
            return eve.hear()["type"] != "error"

        eventually(sent_at_last)
        eventually(lambda: eve.hear().get("number") == number and eve.said[-1]["type"] in ("sent", "message"))


def test_connections_of_a_user_share_its_rate(rabbit):
    limits = Limits(rate=0.001, burst=20)
    options = {"authenticate": lambda hello, request: Identity(hello.name, id=hello.token), "limits": limits}
    with (
        running("cherrypy", rabbit.url, rabbit.name(), **options) as application,
        visitor(application, token="eve") as one,
        visitor(application, token="eve") as two,
        visitor(application, token="max") as other,
    ):
        for _ in range(10):
            one.say(type="ping")
            one.until("pong")
        # Hellos count, too; that of the second was taken from a budget of its own.
        for _ in range(9):
            two.say(type="ping")
            two.until("pong")
        two.say(type="ping")
        assert two.hear()["code"] == "rate"
        other.say(type="ping")
        other.until("pong")


@pytest.mark.parametrize("provider", ["cherrypy", "asyncio"])
def test_an_address_has_so_many_connections(rabbit, provider):
    """What a client says of its address counts only where a proxy says it."""
    limits = Limits(per_address=2)
    with running(provider, rabbit.url, rabbit.name(), limits=limits, proxies=["127.0.0.1"]) as application:

        def come(address, hello=True):
            options = ClientOptions(headers={"X-Forwarded-For": f"203.0.113.1, {address}"})
            return Visitor(application, hello=hello, options=options)

        with come("192.0.2.1") as one, come("192.0.2.1", hello=False) as second, come("192.0.2.2"):
            # What answers is counted; the third may come before the server has begun with the second.
            counted = threading.Event()
            second.ws.ping_for(lambda seconds: counted.set())
            assert counted.wait(20)
            with come("192.0.2.1", hello=False) as third:
                assert third.ended() == (4429, "this address has too many connections")
            one.ws.close()
            one.ws.wait_closed(20)

            def room_again():
                with come("192.0.2.1", hello=False) as fourth:
                    try:
                        return fourth.hello()["client"]
                    except Closed as closed:
                        assert closed.code == 4429  # noqa: PT017
                        return ""

            assert eventually(room_again)


def test_a_connection_is_in_so_many_rooms(application, others):
    with visitor(application) as eve:
        for room in ("r1", "r2", "r3"):
            eve.join(room)
        eve.say(type="join", room="r4")
        assert eve.until("error")["code"] == "too-many-rooms"
        eve.say(type="leave", room="r1")
        eve.join("r4")


def test_what_was_refused_is_counted(application):
    counters = application.bridge.counters
    before = Counter(counters.refused), Counter(counters.closed)
    with visitor(application) as eve:
        eve.say(type="join", room="secret")
        assert eve.until("error")["code"] == "forbidden"
        eve.ws.send("{")
        assert eve.ended()[0] == 4400
    for token in (None, "broken"):
        with Visitor(application, hello=False) as eve:
            eve.say(type="hello", name="Eve", token=token)
            assert eve.ended()[0] == 4401
    with visitor(application) as eve:
        with contextlib.suppress(Closed, Slow):
            for _ in range(10_000):
                eve.ws.send(json.dumps({"type": "signal", "room": "flood", "data": 1}))
        assert eve.ended()[0] == 4429
    refused, closed = counters.refused - before[0], counters.closed - before[1]
    assert (refused["forbidden"], refused["unauthenticated"]) == (1, 2)
    assert refused["rate"] >= LIMITS.burst
    assert {4400: 1, 4401: 2}.items() <= closed.items()
    assert closed[4429] >= 1
