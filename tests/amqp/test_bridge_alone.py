"""A Bridge whose broker is away: what it does all the same. No RabbitMQ is needed."""

import contextlib
import subprocess

import pytest
from cherrypy.process.wspbus import Bus
from tests.amqp.applications import running
from tests.amqp.visitor import Visitor
from tests.deadline import eventually
from tests.port import free_port

from kirsch.amqp import AMQPPlugin, Bridge, Limits, Refused
from kirsch.amqp.javascript import script
from kirsch.amqp.loops import GeventLoop
from kirsch.amqp.message import Delivery
from kirsch.amqp.protocol import MARK
from kirsch.amqp.reader import DOUBLE, Reader, Said


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


def test_what_the_application_says_has_a_number_too():
    """What is published again, for it was not confirmed, is known for a double."""
    reader = Reader("me", 60, 5.0)
    with started() as (bridge, said):
        for data in ("one", "two"):
            bridge.send("lobby", data)
        found = []
        for offset, each in enumerate((said[0], said[1], said[0])):
            delivery = Delivery(
                "s", each.exchange, each.key, each.body, offset, None, each.kind, each.message_id
            )
            found.append(reader.read(delivery, offset))
    assert [type(each) for each in found[:2]] == [Said, Said]
    assert found[2] is DOUBLE


def test_a_turn_of_gevents_hub_without_work_does_nothing():
    GeventLoop()._work()


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


@pytest.mark.parametrize(
    "what", [TWICE, CLOSED, COPY, HIDDEN, REFUSED], ids=["twice", "closed", "copy", "hidden", "refused"]
)
def test_kirsch_js_alone(tmp_path, what):
    """With a WebSocket that does as it is told, in the Node that comes with Playwright."""
    driver = pytest.importorskip("playwright._impl._driver", reason="playwright is not installed")
    node = driver.compute_driver_executable()[0]
    (tmp_path / "kirsch.mjs").write_bytes(script())
    (tmp_path / "test.mjs").write_text(SCRIPT + what)
    done = subprocess.run([node, "test.mjs"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
