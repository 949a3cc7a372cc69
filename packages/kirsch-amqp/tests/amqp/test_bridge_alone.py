"""A Bridge whose broker is away: what it does all the same. No RabbitMQ is needed."""

import contextlib
import json
import subprocess
from functools import partial

import pytest
from cherrypy.process.wspbus import Bus
from tests.amqp.applications import running
from tests.amqp.visitor import Visitor
from tests.deadline import eventually
from tests.port import free_port

from kirsch.amqp import AMQPPlugin, Bridge, Limits, Refused, Rejected
from kirsch.amqp.consumer import DUPLICATE, Mark, Message, StreamConsumer
from kirsch.amqp.javascript import script
from kirsch.amqp.loops import GeventLoop
from kirsch.amqp.message import Delivery, Publication
from kirsch.amqp.protocol import MARK, MESSAGE, Send, envelope


def nowhere():
    """The URL of a broker that is not there."""
    return f"amqp://127.0.0.1:{free_port()}"


def refuse(identity, room, data):
    raise Refused("not today")


def test_who_waits_to_be_let_in_is_in_so_many_rooms_too():
    limits = Limits(rooms=3)
    with (
        running("asyncio", nowhere(), "alone", ready=False, limits=limits) as application,
        Visitor(application) as eve,
    ):
        for number in range(5):
            eve.say(type="join", room=f"r{number}")
        assert eve.until("error", room="r3")["code"] == "too-many-rooms"
        assert eve.until("error", room="r4")["code"] == "too-many-rooms"
        eve.say(type="leave", room="r0")
        eve.until("left")
        eve.say(type="join", room="r4")
        eve.say(type="ping")
        eve.until("pong")
        assert [said["room"] for said in eve.said if said["type"] == "error"] == ["r3", "r4"]


def test_what_the_application_refuses_is_counted():
    with (
        running("asyncio", nowhere(), "alone", ready=False, check=refuse) as application,
        Visitor(application) as eve,
    ):
        eve.send("lobby", 1, "spam")
        assert eve.until("error", number=1)["code"] == "refused"
        assert application.bridge.counters.refused["refused"] == 1


class Listener:
    """A member of a room, and a connection: what it is told."""

    def __init__(self):
        self.said = []

    limits = Limits()
    buffered = queued = pending = 0

    def send(self, text):
        self.said.append(json.loads(text))

    tell = send


@contextlib.contextmanager
def started():
    """A Bridge on a thread, and what it publishes."""
    bus, said = Bus(), []
    amqp = AMQPPlugin(bus, nowhere())
    bridge = Bridge(bus, amqp, "alone")
    bus.subscribe("ws2amqp", said.append)
    amqp.start()
    try:
        yield bridge, said
    finally:
        bridge.stop()
        amqp.stop()


def test_what_is_in_memory_is_served_while_the_broker_is_away():
    """As far as it goes, whatever more the stream has; what is sent waits."""
    kept = {"memory": (64 << 20, 3, 1 << 20)}
    with running("asyncio", nowhere(), "alone", ready=False, **kept) as application:
        bridge = application.bridge
        with Visitor(application, "Early") as early:
            # Nothing was read yet: nobody is let in.
            early.say(type="join", room="lobby", last=50)
            early.say(type="ping")
            early.until("pong")
            assert "joined" not in [said["type"] for said in early.said]
            with pytest.raises(RuntimeError, match=r"Connection refused|not been connected"):
                bridge.check_serving()
        for number in range(1, 6):
            body = envelope("lobby", "c", "Ada", Send("lobby", number, number), 0)
            publication = Publication("e", "lobby", body, kind=MESSAGE, message_id=f"c:{number}")
            application.inside(partial(arrive, bridge, publication, number))
        mark = Publication("e", "kirsch", b'{"proposed":"A"}', kind=MARK, message_id=bridge.process)
        application.inside(partial(arrive, bridge, mark, 6))
        bridge.check_serving()
        with pytest.raises(RuntimeError):
            bridge.check()
        with Visitor(application, "Late") as late:
            joined = late.join("lobby", last=50)
            assert late.said[0]["broker"] is False
            assert (joined["complete"], joined["more"]) == (True, True)
            assert late.messages(3) == [3, 4, 5]
            late.send("lobby", 1, "later")
            late.say(type="ping")
            late.until("pong")
            assert not [said for said in late.said if said["type"] in ("error", "sent")]


def test_a_mark_that_the_broker_refused_is_set_again():
    with started() as (bridge, said):
        bridge.start()
        (mark,) = said
        assert mark.kind == MARK
        mark.settled("")
        mark.settled("the broker refused it")
        eventually(lambda: [each.kind for each in said] == [MARK, MARK])


def test_a_bridge_that_was_stopped_before_it_had_looked_looks_again():
    with started() as (bridge, _):
        bridge.start()
        bridge.stop()
        bridge.amqp.stop()
        # Nothing runs: this is never done.
        bridge.look_soon()
        bridge.amqp.start()
        bridge.start()
        bridge.look_soon()
        eventually(lambda: not bridge._soon)


def arrive(bridge, publication, offset):
    """A publication comes back, from the stream."""
    delivery = Delivery(
        bridge.stream.queue,
        publication.exchange,
        publication.key,
        publication.body,
        offset,
        None,
        publication.kind,
        publication.message_id,
    )
    bridge.delivered(delivery)


def test_a_stream_that_is_another_is_begun_with_a_mark_and_told_of_by_its_name():
    with started() as (bridge, said):
        bridge.start()
        arrive(bridge, said[0], 0)
        bridge.send("lobby", "one")
        arrive(bridge, said[-1], 1)
        ada = Listener()
        bridge.rooms.join("lobby", ada, None, 0, 0.0)
        bridge.rooms.catch_up("lobby", 0.0, 30.0)
        first = bridge.stream.consumer.stream
        assert first
        # The connection was lost, and what comes at its place is no message of this stream.
        bridge.stream.connect()
        bridge.send("lobby", "two")
        arrive(bridge, said[-1], 1)
        assert not bridge.stream.consumer.caught_up
        *_, mark = said
        assert (mark.kind, mark.message_id) == (MARK, bridge.process)
        assert mark.body != said[0].body
        bridge.stream.connect()
        arrive(bridge, said[-2], 0)
        assert not bridge.stream.consumer.caught_up
        arrive(bridge, mark, 1)
        assert bridge.stream.consumer.caught_up
        gap, message, stream = ada.said
        assert (gap["type"], message["data"], message["offset"]) == ("gap", "two", 0)
        assert stream == {"type": "stream", "stream": bridge.stream.consumer.stream, "offset": 1}
        assert stream["stream"] not in ("", first)


def test_who_is_told_of_another_name_has_heard_all_of_the_stream():
    with started() as (bridge, said):
        bridge.start()
        arrive(bridge, said[0], 0)
        prompt, behind = Listener(), Listener()
        bridge.rooms.join("lobby", prompt, None, 0, 0.0)
        bridge.rooms.catch_up("lobby", 0.0, 30.0)
        bridge.rooms.join("lobby", behind, None, 0, 0.0)
        bridge.stream._publish(Mark("", {"stream": "B"}))
        arrive(bridge, said[-1], 1)
        assert [each["type"] for each in prompt.said] == ["gap", "stream"]
        assert behind.said == []
        # What was before is of a stream that is not known here.
        assert bridge.rooms.join("lobby", behind, 0, 0, 0.0, False) == (0, False)


def test_where_the_stream_ends_is_found_by_what_is_published_now():
    handled = []
    with started() as (bridge, said):
        bridge.start()
        arrive(bridge, said[0], 5)
        for end, another in ((6, False), (3, True)):
            bridge.stream.connect()
            bridge.stream.tick(bridge.stream.consumer._expected + 1)
            *_, probe = said
            assert probe.transient
            with pytest.raises(RuntimeError):
                bridge.check()
            before = len(handled)
            delivery = Delivery("s", "e", "kirsch", probe.body, 2, None, MARK, "somebody else's")
            bridge.stream._end_seen(delivery, lambda: handled.append(1))
            assert bridge.stream._stop_end is not None
            delivery = Delivery("s", "e", "kirsch", probe.body, end, None, MARK, probe.message_id)
            bridge.stream._end_seen(delivery, lambda: handled.append(1))
            assert bridge.stream._stop_end is None
            assert len(handled) == before + 2
            assert (bridge.stream.consumer.offset < 0) == another
            if not another:
                arrive(bridge, said[0], 5)
                assert not bridge.stream.consumer.resuming


@pytest.mark.parametrize(("first", "told"), [(0, []), (2, []), (9, ["gap"])])
def test_what_the_broker_dropped_before_it_was_read_is_told_of(first, told, monkeypatch):
    """Where a stream is read too slowly RabbitMQ goes on with what is left; some offsets are its own."""
    begun = []
    with started() as (bridge, said):
        monkeypatch.setattr(bridge.stream, "_find_first", lambda: begun.append(1))
        bridge.start()
        arrive(bridge, said[0], 0)
        ada = Listener()
        bridge.rooms.join("lobby", ada, None, 0, 0.0)
        bridge.rooms.catch_up("lobby", 0.0, 30.0)
        for offset in (1, 9, 10):
            bridge.send("lobby", offset)
            arrive(bridge, said[-1], offset)
        assert len(begun) == 1
        bridge.stream._do(bridge.stream.consumer.first_seen(first, 0.0))
        assert [each["type"] for each in ada.said] == ["message"] * 3 + told
        assert bridge.rooms.join("lobby", Listener(), 1, 0, 0.0)[1] == (told == [])
        assert bridge.rooms.join("lobby", Listener(), 9, 0, 0.0)[1]
        assert bridge.stream.consumer.skipped == -1


def test_what_the_application_says_is_settled():
    told = []
    with started() as (bridge, said):
        bridge.send("lobby", "one", settled=told.append)
        said[-1].settled("the broker refused it")
    assert told == ["the broker refused it"]


@pytest.mark.parametrize(("reason", "code"), [("it is late", "unconfirmed"), (Rejected("never"), "refused")])
def test_what_will_never_be_taken_is_refused(reason, code):
    with (
        running("asyncio", nowhere(), "alone", ready=False) as application,
        Visitor(application) as eve,
    ):
        application.bus.subscribe("ws2amqp", lambda p: p.settled and p.kind == MESSAGE and p.settled(reason))
        eve.send("lobby", 1, "hello")
        error = eve.until("error", number=1)
        assert (error["code"], error["reason"]) == (code, reason)


def test_what_a_lost_connection_brought_is_left_to_the_next():
    """On gevent it may still wait for its turn; there is what is before it, then."""
    amqp, heard, waiting = AMQPPlugin(Bus(), nowhere(), loop="gevent"), [], []
    amqp.bus.subscribe("amqp2ws", heard.append)
    amqp.loop.tell = waiting.append
    amqp._session = object()
    for offset in (1, 2):
        amqp.delivered(Delivery("s", "e", "lobby", b"", offset), lambda: None)
    waiting[0]()
    amqp._session = object()
    waiting[1]()
    assert [delivery.offset for delivery in heard] == [1]


def test_what_the_application_says_has_a_number_too():
    """What is published again, for it was not confirmed, is known for a double."""
    reader = StreamConsumer("me", 60, 5.0)
    with started() as (bridge, said):
        for data in ("one", "two"):
            bridge.send("lobby", data)
        found = []
        for offset, each in enumerate((said[0], said[1], said[0])):
            delivery = Delivery(
                "s", each.exchange, each.key, each.body, offset, None, each.kind, each.message_id
            )
            found.append(reader.receive(delivery, offset)[-1])
    assert [type(each) for each in found[:2]] == [Message, Message]
    assert found[2] is DUPLICATE


def test_a_turn_of_gevents_hub_without_work_does_nothing():
    GeventLoop()._work()


def test_a_look_that_fails_does_not_end_the_brokers_thread(caplog):
    with started() as (bridge, _):
        bridge.start()
        bridge.stream.replay = None
        bridge.rooms.join("lobby", Listener(), None, 0, 0.0)
        type(bridge.amqp).connected, connected = property(lambda self: True), type(bridge.amqp).connected
        try:
            bridge.look_soon()
            eventually(lambda: "a listener failed" in caplog.text)
        finally:
            type(bridge.amqp).connected = connected
        done = []
        bridge.amqp.loop.call(lambda: done.append(1))
        eventually(lambda: done)


SCRIPT = """
import { KirschClient } from "./kirsch.mjs";
const made = [];
class Socket {
  readyState = 0;
  sent = [];
  constructor() { made.push(this); }
  send(text) { this.sent.push(JSON.parse(text)); }
  close() { this.readyState = 3; }
  open() { this.readyState = 1; this.onopen(); }
  say(said) { this.onmessage({ data: JSON.stringify(said) }); }
}
const moment = () => new Promise((done) => setTimeout(done));
const check = (right, what) => {
  if (right) return;
  console.error(what, JSON.stringify(made));
  process.exit(1);
};
"""
TWICE = """
// Closed and connected again while a token was fetched: one hello on one connection.
const client = new KirschClient("http://x/ws", { WebSocket: Socket, token: async () => "t" });
client.close();
client.connect();
await moment();
check(made.length === 2, "two");
made[1].open();
made[0].open();
check(made[0].sent.length === 0 && made[0].readyState === 3, "first");
check(made[1].sent.map(({ type }) => type).join() === "hello", "second");
process.exit(0);
"""
OFFLINE = """
// The browser says that it is offline: that is seen at once, and the way back, too.
const listeners = {};
globalThis.addEventListener = (type, listener) => { listeners[type] = listener; };
globalThis.removeEventListener = (type) => { delete listeners[type]; };
const client = new KirschClient("http://x/ws", { WebSocket: Socket });
await moment();
made[0].open();
made[0].say({ type: "welcome", client: "C", broker: true });
check(client.state === "open", "open");
listeners.offline();
check(client.state === "waiting" && made[0].readyState === 3, "offline");
listeners.offline();
listeners.online();
await moment();
check(made.length === 2 && client.state === "connecting", "online");
client.close();
check(Object.keys(listeners).length === 0, "closed");
process.exit(0);
"""
CLOSED = """
// Closed while a token was fetched, which failed then: it stays closed.
let fail = null;
const client = new KirschClient("http://x/ws", {
  WebSocket: Socket,
  token: () => new Promise((_, no) => { fail = no; }),
});
client.close();
fail(new Error("no token"));
await moment();
check(client.state === "closed" && made.length === 0, client.state);
process.exit(0);
"""
COPY = """
// A window that was copied, with its key and its number, does not say what would be taken for a double.
const client = new KirschClient("http://x/ws", { WebSocket: Socket, key: "k".repeat(16), number: 4 });
const room = client.join("lobby");
await moment();
made[0].open();
made[0].say({ type: "welcome", client: "C", broker: true });
made[0].say({ type: "joined", room: "lobby", offset: 8, complete: true, count: 1, members: [] });
made[0].say({ type: "message", room: "lobby", client: "other", number: 77, offset: 9, data: 1 });
made[0].say({ type: "message", room: "lobby", client: "C", number: 5, offset: 10, data: 1 });
made[0].say({ type: "message", room: "lobby", client: "C", number: 3, offset: 11, data: 1 });
room.send(undefined);
const { number, data } = made[0].sent.at(-1);
check(number === 6 && data === null, "number");
process.exit(0);
"""


HIDDEN = """
// In a page that is hidden timers run once a minute.
let now = 1e6, look = null;
Date.now = () => now;
globalThis.setInterval = (work) => { look = work; return 1; };
const client = new KirschClient("http://x/ws", { WebSocket: Socket });
await moment();
made[0].open();
made[0].say({ type: "welcome", client: "C", broker: true });
for (let minute = 1; minute < 5; minute++) {
  now += 60_000;
  look();
  check(made[0].sent.length === 1 + minute && made[0].sent.at(-1).type === "ping", "asked");
  now += 20;
  made[0].say({ type: "pong" });
}
check(client.state === "open" && made.length === 1, "alive");
now += 60_000;
look();
now += 10_001;
look();
check(client.state === "waiting" && made[0].readyState === 3, "dead");
process.exit(0);
"""
REFUSED = """
// More than the rate: what was refused is sent again one by one, in order, until all of it has gone.
const client = new KirschClient("http://x/ws", { WebSocket: Socket });
const room = client.join("lobby");
await moment();
const socket = made[0];
socket.open();
socket.say({ type: "welcome", client: "C", broker: true, limits: { unconfirmed: 10 } });
let done = 0;
for (let n = 1; n <= 14; n++) room.send(n).then(() => { done += 1; });
const numbers = () => socket.sent.filter(({ type }) => type === "send").map(({ number }) => number);
check(numbers().length === 10, "burst");
for (const number of [9, 10]) socket.say({ type: "error", code: "rate", reason: "", room: "lobby", number });
for (let number = 1; number <= 8; number++) socket.say({ type: "sent", room: "lobby", number });
check(numbers().length === 10, "paused");
while (numbers().length === 10) await new Promise((done) => setTimeout(done, 20));
for (let number = 9; number <= 14; number++) {
  check(numbers().length === 10 + number - 8 && numbers().at(-1) === number, `only ${number}`);
  socket.say({ type: "sent", room: "lobby", number });
}
await moment();
check(done === 14 && client.unconfirmed === 0, "all");
for (let n = 1; n <= 5; n++) room.send(n);
check(numbers().length === 21, "together again");
process.exit(0);
"""
LARGE = """
// This server takes less than was known when it was said: that is given back, and the rest goes.
const client = new KirschClient("http://x/ws", { WebSocket: Socket });
const room = client.join("lobby");
const outcome = (size) => room.send("x".repeat(size)).then(() => "sent", ({ code }) => code);
const outcomes = [10, 2000, 10].map(outcome);
await moment();
const socket = made[0];
socket.open();
socket.say({ type: "welcome", client: "C", broker: true, limits: { message: 1000 } });
const numbers = socket.sent.filter(({ type }) => type === "send").map(({ number }) => number);
check(numbers.join() === "1,3", numbers);
for (const number of numbers) socket.say({ type: "sent", room: "lobby", number });
check((await Promise.all(outcomes)).join() === "sent,too-large,sent", "outcomes");
check(client.unconfirmed === 0 && client.state === "open", "open");
process.exit(0);
"""
STREAM = """
// An offset is of a stream: the one that was joined, or that the server has told of since.
const client = new KirschClient("http://x/ws", { WebSocket: Socket });
const room = client.join("lobby");
const heard = [];
room.on("message", ({ data }) => heard.push(data));
await moment();
const begin = (socket, stream, offset, complete = true) => {
  socket.open();
  socket.say({ type: "welcome", client: "C", broker: true });
  const process = `p${made.length}`;
  socket.say({ type: "joined", room: "lobby", stream, process, offset, complete, count: 1, members: [] });
};
const again = async () => {
  made.at(-1).onclose({ code: 1006, reason: "" });
  client.close();
  client.connect();
  await moment();
  made.at(-1).open();
  return made.at(-1).sent.at(-1);
};
const say = (offset, data) => {
  made.at(-1).say({ type: "message", room: "lobby", client: "", number: 0, offset, data });
};
check(made[0].sent.length === 0, "nothing");
begin(made[0], "A", 7);
check(!("since" in made[0].sent.at(-1)), "since");
say(8, "eight of A");
let join = await again();
check(join.since === 8 && join.stream === "A" && join.process === "p1", JSON.stringify(join));
begin(made.at(-1), "A", 7);
say(8, "twice");
join = await again();
check(join.since === 8 && join.stream === "A" && join.process === "p2", JSON.stringify(join));
// It has lost its end, and what was said since has the same place.
begin(made.at(-1), "A", 7, false);
say(8, "another eight of A");
// The broker has lost it. What has the same place in the next is another message.
made.at(-1).say({ type: "gap", room: "lobby" });
say(2, "two of B");
say(8, "eight of B");
made.at(-1).say({ type: "stream", stream: "B", offset: 8 });
join = await again();
check(join.since === 8 && join.stream === "B" && join.process === "p3", JSON.stringify(join));
begin(made.at(-1), "C", 1, false);
say(2, "two of C");
say(8, "eight of C");
join = await again();
check(join.since === 8 && join.stream === "C", JSON.stringify(join));
const wanted = "eight of A,another eight of A,two of B,eight of B,two of C,eight of C";
check(heard.join() === wanted, heard);
process.exit(0);
"""
SCRIPTS = {
    "twice": TWICE,
    "closed": CLOSED,
    "offline": OFFLINE,
    "copy": COPY,
    "hidden": HIDDEN,
    "refused": REFUSED,
    "large": LARGE,
    "stream": STREAM,
}


@pytest.mark.parametrize("what", SCRIPTS.values(), ids=SCRIPTS)
def test_kirsch_js_alone(tmp_path, what):
    """With a WebSocket that does as it is told, in the Node that comes with Playwright."""
    driver = pytest.importorskip("playwright._impl._driver", reason="playwright is not installed")
    node = driver.compute_driver_executable()[0]
    (tmp_path / "kirsch.mjs").write_bytes(script())
    (tmp_path / "test.mjs").write_text(SCRIPT + what)
    done = subprocess.run([node, "test.mjs"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
