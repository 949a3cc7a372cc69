"""Who may be where: users, their own rooms, private rooms with tickets, kicks and bans."""

import json
import math
import time
from dataclasses import replace

import jwt
import pika
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.amqp.applications import running
from tests.amqp.visitor import Visitor
from tests.deadline import eventually

from kirsch.amqp import Hello, Limits, Ticket, Tokens
from kirsch.amqp.access import Bans, Identity, Order, read_order, refusal
from kirsch.websocket import ClientOptions

SECRET = "a secret of the tests, which is long enough"
TOKENS = Tokens(SECRET, "test")


# Values.


def test_a_users_room_is_read_by_that_user_alone_and_others_write_there():
    assert refusal("ada", "@ada", "read", None, 0.0) == ""
    assert refusal("bob", "@ada", "write", None, 0.0) == ""
    for user in ("bob", "", "ad", "adam", "@ada"):
        assert refusal(user, "@ada", "read", None, 0.0)
    assert refusal("", "@", "write", None, 0.0) == ""


@pytest.mark.parametrize(
    ("ticket", "read", "write"),
    [
        (None, False, False),
        (Ticket(), True, True),
        (Ticket(write=False), True, False),
        (Ticket(expires=99.0), False, False),
        (Ticket(expires=101.0), True, True),
    ],
)
def test_a_private_room_is_open_to_a_ticket(ticket, read, write):
    assert (refusal("ada", "!plans", "read", ticket, 100.0) == "") is read
    assert (refusal("ada", "!plans", "write", ticket, 100.0) == "") is write


def test_a_ban_is_about_a_user_or_a_room_or_both_until_it_expires_or_is_lifted():
    bans = Bans()
    assert bans.take(Order("ban", "ada", at=1.0, until=50.0, reason="enough"))
    assert bans.take(Order("ban", "bob", "lobby", at=1.0))
    assert bans.take(Order("ban", "", "attic", at=1.0))
    assert bans.reason("ada", "", 10.0) == bans.reason("ada", "lobby", 10.0) == "enough"
    assert bans.reason("ada", "", 50.0) == ""
    assert bans.reason("bob", "", 10.0) == ""
    assert bans.reason("bob", "lobby", 10.0) == "you are banned"
    assert bans.reason("eve", "attic", 10.0) == "this room is closed"
    assert bans.take(Order("lift", "bob", "lobby", at=2.0))
    # An older order comes late.
    assert not bans.take(Order("ban", "bob", "lobby", at=1.5))
    assert bans.reason("bob", "lobby", 10.0) == ""


ORDERS = st.builds(
    Order,
    st.sampled_from(["ban", "lift"]),
    st.sampled_from(["", "ada"]),
    st.sampled_from(["lobby", "attic"]),
    until=st.sampled_from([5.0, 20.0]),
    at=st.sampled_from([1.0, 2.0, 3.0]),
)


@given(st.lists(ORDERS, max_size=12), st.randoms())
def test_processes_that_hear_the_same_orders_have_the_same_bans(orders, chance):
    one, other = Bans(), Bans()
    for order in orders:
        one.take(order)
    for order in chance.sample(orders * 2, 2 * len(orders)):
        other.take(order)
    for user in ("ada", "bob"):
        for room in ("lobby", "attic"):
            assert one.reason(user, room, 10.0) == other.reason(user, room, 10.0)
    # A process that begins is told them as events.
    third = Bans()
    for order in one.standing(0.0):
        third.take(read_order(json.loads(json.dumps(order.to_json())), 100.0))
    assert list(third.standing(0.0)) == list(one.standing(0.0))


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"do": "kick"},
        {"do": "burn", "user": "ada"},
        {"do": "ban", "user": 7},
        {"do": "ban", "user": "ada", "until": "soon"},
        {"do": "ban", "user": "ada", "until": True},
        {"do": "ban", "user": "ada", "until": 10**400},
        {"do": "ban", "user": "ada", "at": math.nan},
    ],
)
def test_what_is_no_order_is_none(event):
    assert read_order(event, 0.0) is None
    # And one from the future does not hold for ever.
    assert read_order({"do": "lift", "user": "ada", "at": 1e12}, 100.0).at == 160.0


def hello(token):
    return Hello(name="somebody", token=token)


def test_tokens_say_who_somebody_is():
    identity = TOKENS.authenticate(hello(TOKENS.issue("u1", "Ada", ["moderator"])), None)
    assert (identity.id, identity.name, identity.roles) == ("u1", "Ada", frozenset({"moderator"}))
    assert 3590 < identity.expires - time.time() <= 3600
    assert TOKENS.authenticate(hello(TOKENS.issue("u1")), None).name == "somebody"


def forged(**claims):
    whole = {"aud": "test", "exp": int(time.time()) + 60, "sub": "u1"} | claims
    return {name: value for name, value in whole.items() if value is not None}


@pytest.mark.parametrize(
    "token",
    [
        None,
        "",
        7,
        "x" * 10_000,
        "a.b.c",
        "a.\ud800.c",
        TOKENS.issue("u1", seconds=-5),
        TOKENS.ticket("!plans", "u1"),
        Tokens(SECRET, "other").issue("u1"),
        Tokens(SECRET + "!", "test").issue("u1"),
        jwt.encode(forged(), None, algorithm="none"),
        jwt.encode(forged(exp=None), SECRET),
        jwt.encode(forged(sub=None), SECRET),
        jwt.encode(forged(roles="moderator"), SECRET),
    ],
    ids=lambda token: ascii(token)[:8],
)
def test_a_token_that_is_not_good_says_nothing(token):
    assert TOKENS.authenticate(hello(token), None) is None


def test_a_ticket_is_for_a_room_and_a_user():
    assert TOKENS.admit(TOKENS.ticket("!plans", "u1", write=False), "!plans", "u1").write is False
    assert TOKENS.admit(TOKENS.ticket("!plans"), "!plans", "anybody").write
    assert TOKENS.admit(TOKENS.ticket("!plans", "u1"), "!plans", "u2") is None
    assert TOKENS.admit(TOKENS.ticket("!plans", "u1"), "!others", "u1") is None
    assert TOKENS.admit(TOKENS.ticket("!plans", "u1", seconds=-5), "!plans", "u1") is None
    assert TOKENS.admit(TOKENS.issue("u1"), "!plans", "u1") is None
    with pytest.raises(ValueError, match="begin with !"):
        TOKENS.ticket("lobby")
    with pytest.raises(ValueError, match="32 bytes"):
        Tokens("short")
    with pytest.raises(ValueError, match="does not end with"):
        Tokens(SECRET, "test.ticket")


# With a broker.


@pytest.fixture(scope="module")
def pair(rabbit):
    """Two processes."""
    options = {"authenticate": TOKENS.authenticate, "tickets": TOKENS.admit, "limits": Limits(connections=3)}
    name = rabbit.name()
    with (
        running("cherrypy", rabbit.url, name, **options) as one,
        running("asyncio", rabbit.url, name, **options) as two,
    ):
        yield one, two


def come(application, user, **more):
    """A visitor that has come in with a token."""
    visitor = Visitor(application, user.title(), hello=False)
    visitor.client = visitor.hello(token=TOKENS.issue(user, user.title(), **more))["client"]
    return visitor


def still(visitor):
    """All that a visitor has been sent until now."""
    visitor.say(type="ping")
    visitor.until("pong")
    return visitor.said


@pytest.mark.slow
@pytest.mark.services
def test_nobody_without_a_ticket_reads_anything_of_a_private_room(pair):
    one, two = pair
    with come(one, "ada") as ada, come(two, "eve") as eve:
        ada.join("!plans", ticket=TOKENS.ticket("!plans", "ada"))
        ada.send("!plans", 1, "hush")
        offset = ada.until("message")["offset"]
        tickets = ("", "x", TOKENS.ticket("!plans", "ada"), TOKENS.ticket("!others"), TOKENS.issue("eve"))
        for ticket in tickets:
            eve.say(type="join", room="!plans", last=50, ticket=ticket)
            assert eve.until("error", room="!plans")["code"] == "forbidden"
            eve.say(type="join", room="!plans", since=-1, ticket=ticket)
            assert eve.until("error", room="!plans")["code"] == "forbidden"
            eve.say(type="history", room="!plans", before=offset + 1)
            assert eve.until("error", room="!plans")["code"] == "forbidden"
        eve.send("!plans", 1, "let me in")
        assert eve.until("error", number=1)["code"] == "forbidden"
        eve.say(type="signal", room="!plans", data=1)
        eve.until("error", room="!plans")
        ada.send("!plans", 2, "still here")
        offset_of_last = ada.until("message", data="still here")["offset"]
        eventually(lambda: two.bridge.rooms.offset >= offset_of_last)
        assert {said["type"] for said in still(eve)} == {"welcome", "error", "pong"}
        # A ticket for reading reads, history too, and writes nothing.
        eve.join("!plans", last=50, ticket=TOKENS.ticket("!plans", "eve", write=False))
        assert eve.messages(2) == ["hush", "still here"]
        eve.say(type="history", room="!plans", before=offset + 1)
        assert [said["data"] for said in eve.until("history")["messages"]] == ["hush"]
        eve.send("!plans", 2, "me too")
        assert eve.until("error", number=2)["code"] == "forbidden"
        # Whoever has left needs it again.
        eve.say(type="leave", room="!plans")
        eve.until("left")
        eve.say(type="history", room="!plans", before=offset + 1)
        assert eve.until("error", room="!plans")["code"] == "forbidden"


def connection_of(application, visitor):
    return next(each for each in application.bridge.connections if each.client_id == visitor.client)


@pytest.mark.services
def test_a_private_room_is_left_when_its_ticket_expires(pair):
    with come(pair[0], "ada") as ada:
        ada.join("!brief", ticket=TOKENS.ticket("!brief"))
        # Time passes.
        connection_of(pair[0], ada).tickets["!brief"] = Ticket(expires=time.time())
        assert ada.until("left", room="!brief")["reason"] == "the ticket has expired"
        ada.say(type="history", room="!brief", before=100)
        assert ada.until("error", room="!brief")["code"] == "forbidden"


@pytest.mark.services
def test_a_direct_message_reaches_its_user_wherever_it_is_and_nobody_else(pair):
    one, two = pair
    with (
        come(one, "ada") as ada,
        come(one, "bob") as here,
        come(two, "bob") as there,
        come(two, "eve") as eve,
    ):
        for each in (here, there):
            each.join("@bob", last=10)
        eve.say(type="join", room="@bob")
        assert eve.until("error", room="@bob")["code"] == "forbidden"
        ada.send("@bob", 1, "psst")
        ada.until("sent", number=1)
        for each in (here, there):
            said = each.until("message")
            assert (said["data"], said["user"], said["name"]) == ("psst", "ada", "Ada")
        eve.say(type="history", room="@bob", before=said["offset"] + 1)
        assert eve.until("error", room="@bob")["code"] == "forbidden"
        assert "message" not in {said["type"] for said in still(eve)}


@pytest.mark.services
def test_a_user_is_one_with_several_connections_and_not_with_too_many(pair):
    one, two = pair
    with come(one, "ada") as ada, come(two, "ada") as again:
        ada.join("users")
        again.join("users")
        users = {"ada": sorted([ada.client, again.client])}
        for each in pair:
            eventually(lambda each=each: each.bridge.users("users") == users)
        members = again.join("users")["members"]
        assert [(member["name"], member["user"]) for member in members] == [("Ada", "ada")] * 2
        assert [member["client"] for member in members] == users["ada"]
    with come(one, "max"), come(one, "max"), come(one, "max"):
        late = Visitor(one, "Max", hello=False)
        late.say(type="hello", key=late.key, token=TOKENS.issue("max"))
        assert late.ended()[0] == 4429


@pytest.mark.services
def test_a_token_expires_unless_it_is_refreshed(pair):
    with come(pair[0], "ada", seconds=600) as ada:
        assert 500 <= ada.said[0]["expires"] <= 600
        ada.join("lobby")
        ada.say(type="refresh", token=TOKENS.issue("ada", "Another Name"))
        assert ada.until("refreshed")["expires"] > 3000
        ada.send("lobby", 1, "here")
        said = ada.until("message")
        assert (said["data"], said["name"]) == ("here", "Ada")
        ada.say(type="refresh", token=TOKENS.issue("eve"))
        assert ada.ended() == (4401, "this is another user")
    with come(pair[1], "ada") as ada:
        connection = connection_of(pair[1], ada)
        ada.join("lobby")
        closed = pair[1].bridge.counters.closed[4401]

        def expire():
            connection.identity = replace(connection.identity, expires=time.time())
            for _ in range(2):
                # Whoever does not answer the close is closed once, and has left already.
                pair[1].bridge.registry.late(time.monotonic())
            assert connection not in pair[1].bridge.connections
            assert pair[1].bridge.counters.closed[4401] == closed + 1

        pair[1].inside(expire)
        assert ada.ended() == (4401, "the token has expired")
    with come(pair[0], "ada") as ada:
        ada.say(type="refresh", token="no")
        assert ada.ended()[0] == 4401


@pytest.mark.services
def test_a_user_may_come_from_the_session_of_a_cookie(rabbit):
    sessions = {"session=one": Identity("Ada", id="u17", roles=frozenset({"moderator"}))}
    seen = []

    def authenticate(hello, request):
        seen.append(sessions.get(request.headers.get("Cookie")))
        return seen[-1]

    with running("cherrypy", rabbit.url, rabbit.name(), authenticate=authenticate) as application:

        def visitor(cookie):
            return Visitor(
                application, hello=False, options=ClientOptions(headers={"Cookie": f"session={cookie}"})
            )

        with visitor("one") as ada, visitor("two") as stranger:
            welcome = ada.hello()
            ada.join("lobby")
            assert application.bridge.users("lobby") == {"u17": [welcome["client"]]}
            stranger.say(type="hello", key=stranger.key)
            assert stranger.ended()[0] == 4401
            # Who has logged out is not the user any longer, and a refresh asks again.
            sessions.clear()
            ada.say(type="refresh", token=None)
            assert ada.ended()[0] == 4401
    assert seen == [seen[0], None, None]


@pytest.mark.services
def test_whoever_refreshes_is_authenticated_by_its_own_key(rabbit):
    def authenticate(hello, request):
        return Identity(hello.name, id=hello.client, expires=time.time() + hello.token)

    with (
        running("cherrypy", rabbit.url, rabbit.name(), authenticate=authenticate) as application,
        Visitor(application, "Ada", hello=False) as ada,
    ):
        ada.hello(token=60)
        ada.say(type="refresh", token=6000)
        assert ada.until("refreshed")["expires"] > 5000


@pytest.mark.services
def test_kick_and_ban_hold_in_every_process(pair):
    one, two = pair
    with come(one, "ada") as ada, come(two, "bob") as bob:
        for each in (ada, bob):
            each.join("club")
        one.inside(lambda: one.bridge.kick("bob", "club", "mind your words"))
        assert bob.until("left", room="club")["reason"] == "mind your words"
        ada.until("presence", count=1)
        # It was no ban.
        bob.join("club")
        one.inside(lambda: one.bridge.ban("bob", "club"))
        bob.until("left", room="club")
        for said in ({"type": "join"}, {"type": "history", "before": 1000}):
            bob.say(room="club", **said)
            assert bob.until("error", room="club")["code"] == "forbidden"
        bob.send("club", 1, "why?")
        assert bob.until("error", number=1)["code"] == "forbidden"
        two.inside(lambda: two.bridge.lift("bob", "club"))
        bob.join("club")
        # The room is closed.
        two.inside(lambda: two.bridge.ban(room="club"))
        for each in (ada, bob):
            each.until("left", room="club")
        two.inside(lambda: two.bridge.lift(room="club"))
        eventually(lambda: one.bridge.presence.bans.reason("ada", "club", time.time()) == "")
        one.inside(lambda: one.bridge.ban("bob", seconds=3600, reason="for an hour"))
        assert bob.ended() == (4403, "for an hour")
        late = Visitor(one, "Bob", hello=False)
        late.say(type="hello", key=late.key, token=TOKENS.issue("bob"))
        assert late.ended() == (4403, "for an hour")
        eventually(lambda: one.bridge.members("club") == [])
        assert ada.join("club")["count"] == 1
        with pytest.raises(ValueError, match="kick needs a user"):
            one.bridge.kick()


@pytest.mark.services
def test_another_program_gives_orders_and_a_process_that_begins_knows_them(pair, rabbit):
    one, _ = pair
    exchange = f"{one.bridge.name}.events"
    with come(one, "mallory") as mallory:
        order = {"event": "order", "do": "ban", "user": "mallory", "reason": "spam"}
        with pika.BlockingConnection(pika.URLParameters(rabbit.url)) as connection:
            connection.channel().basic_publish(exchange, "", json.dumps(order).encode())
        assert mallory.ended() == (4403, "spam")
    options = {"authenticate": TOKENS.authenticate}
    with running("cherrypy", rabbit.url, one.bridge.name, **options) as third:
        # Presence comes with the bans.
        with come(one, "cat") as cat:
            cat.join("lobby")
            eventually(lambda: third.bridge.members("lobby") == [(cat.client, "Cat")])
        late = Visitor(third, "M", hello=False)
        late.say(type="hello", key=late.key, token=TOKENS.issue("mallory"))
        assert late.ended() == (4403, "spam")


@pytest.mark.services
def test_private_rooms_are_closed_where_there_are_no_tickets(rabbit):
    with (
        running("cherrypy", rabbit.url, rabbit.name(), authorise=lambda *arguments: True) as application,
        Visitor(application) as eve,
    ):
        eve.say(type="join", room="!plans", ticket=TOKENS.ticket("!plans"))
        assert eve.until("error", room="!plans")["code"] == "forbidden"


@pytest.mark.services
def test_a_guest_is_a_user_that_nobody_else_can_be(rabbit):
    """A user whose id is a guest's public name, which everybody sees, does not read the guest's messages."""

    def authenticate(hello, request):
        return Identity(hello.name, id=hello.token or "")

    with (
        running("cherrypy", rabbit.url, rabbit.name(), authenticate=authenticate) as application,
        Visitor(application, hello=False) as guest,
        Visitor(application, hello=False) as other,
    ):
        welcome = guest.hello()
        own = f"@{welcome['user']}"
        guest.join(own)
        guest.send(own, 1, "note to self")
        assert guest.messages(1) == ["note to self"]
        assert other.hello(token=welcome["client"])["user"] != welcome["user"]
        other.say(type="join", room=own)
        assert other.until("error", room=own)["code"] == "forbidden"
        guest.join("lobby")
        assert application.bridge.users("lobby") == {welcome["user"]: [welcome["client"]]}
        # Nor can an id be one that guests have.
        late = Visitor(application, hello=False)
        late.say(type="hello", key=late.key, token=welcome["user"])
        assert late.ended()[0] == 4401


def test_tokens_are_of_no_guest():
    with pytest.raises(ValueError, match="~"):
        TOKENS.issue("~ada")


def test_an_identity_needs_a_name_only():
    assert (Identity("Ada").id, Identity("Ada").roles) == ("", frozenset())
