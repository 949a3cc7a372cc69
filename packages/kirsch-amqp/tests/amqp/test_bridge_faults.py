"""What becomes of messages when the broker is killed, is away, or another."""

import json
import shutil
import threading
import urllib.request

import pika
import pytest
from tests.amqp.applications import running
from tests.amqp.rabbit import Cluster, Rabbit, machines
from tests.amqp.visitor import Visitor
from tests.deadline import eventually
from tests.port import free_port

from kirsch.amqp import Limits, Rejected
from kirsch.websocket import Closed

pytestmark = pytest.mark.services

SENDERS, ROOMS, MESSAGES = 100, 5, 30
PATIENCE = 60


class Sender:
    """A page's client in a thread: it sends again what is not confirmed, comes back, and drops doubles.

    Attributes: confirmed: numbers; heard: (client, number) of all it was given, doubles dropped, in order;
    orders: the offsets of these.
    """

    def __init__(self, url, number, all_in, begun, go_on, cuts):
        self.url, self.room = url, f"room{number % ROOMS}"
        self.key = f"key-of-sender-{number:04}"
        self.all_in, self.begun, self.go_on, self.cuts = all_in, begun, go_on, cuts
        self.confirmed, self.heard, self.offsets, self.doubles = set(), [], [], 0
        self.client, self.offset, self.failure = "", None, None
        self._seen = set()
        self.thread = threading.Thread(target=self.run)

    def run(self):
        try:
            while not self.done():
                try:
                    self.talk()
                except (Closed, OSError, TimeoutError):
                    continue
        except BaseException as error:
            self.failure = error

    def done(self):
        return self.go_on.is_set() and len(self.confirmed) == MESSAGES and self.all_heard()

    def all_heard(self):
        return len(self.heard) == SENDERS // ROOMS * MESSAGES

    def talk(self):
        """One connection."""
        with Visitor(self.url, key=self.key, hello=False) as visitor:
            self.client = visitor.hello()["client"]
            if self.offset is None:
                self.take(visitor, visitor.join(self.room, presence=False))
                self.all_in.wait(PATIENCE)
            else:
                visitor.say(type="join", room=self.room, presence=False, since=self.offset)
            waiting = [number for number in range(1, MESSAGES + 1) if number not in self.confirmed]
            half = len(waiting) // 2
            for number in waiting[:half]:
                visitor.send(self.room, number, {"from": self.key, "number": number})
            cut = self.cuts and not self.go_on.is_set()
            sent_rest = False
            while not self.done():
                said = visitor.hear(PATIENCE)
                self.take(visitor, said)
                if not sent_rest and (self.go_on.is_set() or len(self.confirmed) >= half // 2):
                    # The rest goes while the broker is away.
                    self.begun.release()
                    if cut:
                        # This one's browser is closed meanwhile, and comes back.
                        self.go_on.wait(PATIENCE)
                        return
                    for number in waiting[half:]:
                        visitor.send(self.room, number, {"from": self.key, "number": number})
                    sent_rest = True

    def take(self, visitor, said):
        if said["type"] == "joined":
            assert said["complete"]
            self.offset = said["offset"]
        elif said["type"] == "sent":
            self.confirmed.add(said["number"])
        elif said["type"] == "error":
            assert said["code"] in ("unconfirmed", "busy"), said
            visitor.send(self.room, said["number"], {"from": self.key, "number": said["number"]})
        elif said["type"] == "message":
            self.offset = said["offset"]
            mark = said["client"], said["number"]
            if mark in self._seen:
                self.doubles += 1
                return
            self._seen.add(mark)
            self.heard.append(mark)
            self.offsets.append(said["offset"])


LIMITS = Limits(rate=1000, burst=1000, unconfirmed=1000)


def all_is_heard_once(urls, meanwhile):
    """Have connections to these processes send, and every fourth be closed `meanwhile` and resume.

    Returns what each room heard, in order: (client, number).
    """
    all_in = threading.Barrier(SENDERS)
    begun, go_on = threading.Semaphore(0), threading.Event()
    # Rooms are spread over the processes, too.
    senders = [
        Sender(urls[n // ROOMS % len(urls)], n, all_in, begun, go_on, n % 4 == 0) for n in range(SENDERS)
    ]
    for sender in senders:
        sender.thread.start()
    for _ in range(SENDERS):
        assert begun.acquire(timeout=PATIENCE), [s.failure for s in senders if s.failure]
    meanwhile()
    go_on.set()
    for sender in senders:
        sender.thread.join(PATIENCE * 2)
        assert sender.failure is None, sender.failure
        assert not sender.thread.is_alive(), (len(sender.confirmed), len(sender.heard))
    for room in range(ROOMS):
        members = senders[room::ROOMS]
        everything = {(sender.client, number) for sender in members for number in range(1, MESSAGES + 1)}
        for sender in members:
            # All that anybody was confirmed, each once; and everybody heard it in the same order.
            assert set(sender.heard) == everything
            assert len(sender.heard) == len(everything)
            assert sender.heard == members[0].heard
            assert sender.offsets == sorted(sender.offsets)
    return [senders[room].heard for room in range(ROOMS)]


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("provider", ["cherrypy", pytest.param("asyncio", marks=pytest.mark.soak)])
def test_each_confirmed_message_arrives_once_though_the_broker_is_killed(provider, mortal):
    """kill -9 while 100 connections send."""
    with running(provider, mortal.url, mortal.name(), limits=LIMITS) as application:

        def killed():
            mortal.kill()
            eventually(lambda: not application.amqp.connected, PATIENCE)
            mortal.start()

        all_is_heard_once([application.url], killed)


@pytest.mark.root
@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("how", [Rabbit.kill, Rabbit.lose_power], ids=["killed", "without power"])
def test_a_broker_of_three_machines_loses_nothing_when_one_is_lost(tmp_path, how):
    """That of the node that leads the stream, while 50 connections to each of two processes send.

    One process is connected to that node, the other is not. Nothing is started again meanwhile.
    """
    with machines(3) as places, Cluster(tmp_path, places) as nodes:
        name = nodes[0].name()
        first, second, third = (f"{node.address}:{node.port}" for node in nodes)
        with (
            running("cherrypy", f"amqp://{first},{second},{third}", name, limits=LIMITS) as one,
            running("asyncio", f"amqp://{second},{third},{first}", name, limits=LIMITS) as other,
        ):
            told = nodes[1].control("list_queues", "name", "leader", "members", "--no-table-headers")
            (stream,) = [line.split("\t") for line in told if line.startswith(f"{name}.history")]
            assert stream[1] == f"node0@{nodes[0].address}"
            assert stream[2].count("node") == 3
            lost = threading.Event()
            one.bus.subscribe("amqp-lost", lambda reason: lost.set())

            def end():
                how(nodes[0])
                assert lost.wait(PATIENCE)

            heard = all_is_heard_once([one.url, other.url], end)
            eventually(lambda: one.amqp.connected and other.amqp.connected, PATIENCE)
        # The node has what was said without it once it is back.
        places[0].mend()
        nodes[0].start()
        with running("asyncio", nodes[0].url, name) as late, Visitor(late) as visitor:
            visitor.join("room0", last=100)
            said = [visitor.until("message") for _ in range(100)]
            assert [(each["client"], each["number"]) for each in said] == heard[0][-100:]


@pytest.mark.slow
def test_a_broker_that_is_away_at_the_start_is_waited_for(tmp_path):
    """/readyz is 503 until it is there; who came meanwhile is let in then."""
    import cherrypy
    from cherrypy.process.wspbus import Bus

    from kirsch.bus import HealthPlugin, http_server

    port = free_port()
    with running("cherrypy", f"amqp://127.0.0.1:{port}", "late", ready=False) as application:
        health = HealthPlugin(application.bus, drain=0, signals=())
        health.add("rabbitmq", application.bridge.check)
        bus = Bus()
        tree = cherrypy._cptree.Tree()
        health.mount(tree)
        server = http_server(bus, tree, port=0)
        server.bind()
        bus.start()
        try:
            url = f"http://127.0.0.1:{server.bind_addr[1]}/readyz"
            refused = f"amqp://127.0.0.1:{port}: Connection refused"

            def unreachable():
                code, said = _get(url)
                assert code == 503
                return refused in said["checks"]["rabbitmq"]["reason"]

            eventually(unreachable)
            with Visitor(application) as early:
                assert early.said[0]["broker"] is False
                early.say(type="join", room="lobby")
                early.send("lobby", 1, "waits for the broker")
                with Rabbit(tmp_path / "data", port=port):
                    # What was sent behind a join is heard by who joined.
                    assert early.messages(1, PATIENCE) == ["waits for the broker"]
                    if not any(said["type"] == "sent" for said in early.said):
                        early.until("sent", PATIENCE, number=1)
                    assert [s["type"] for s in early.said if s["type"] in ("joined", "message")] == [
                        "joined",
                        "message",
                    ]
                    eventually(lambda: _get(url)[0] == 200, PATIENCE)
                    assert {"type": "broker", "connected": True} in early.said
        finally:
            bus.exit()


def _get(url):
    try:
        with urllib.request.urlopen(url, timeout=10) as response:
            return response.status, json.loads(response.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


@pytest.mark.soak
@pytest.mark.slow
def test_a_stream_that_is_gone_is_begun_anew(tmp_path):
    """The broker comes back without its data: what is said is heard, and who resumes is told of the gap."""
    with Rabbit(tmp_path / "data") as rabbit, running("cherrypy", rabbit.url, "lost") as application:
        with Visitor(application, "Ada") as ada, Visitor(application, "Bob") as bob:
            ada.join("lobby")
            before = bob.join("lobby")["stream"]
            for number in range(1, 6):
                ada.send("lobby", number, number)
            assert bob.messages(5) == [1, 2, 3, 4, 5]
            offset = bob.said[-1]["offset"]
            rabbit.kill()
            bob.until("broker", connected=False)
            shutil.rmtree(tmp_path / "data")
            rabbit.start()
            bob.until("broker", PATIENCE, connected=True)
            ada.send("lobby", 6, 6)
            assert bob.messages(1) == [6]
            assert bob.said[-1]["offset"] < offset
            assert [said["type"] for said in bob.said].count("gap") == 1
            after = bob.said[-1] if bob.said[-1]["type"] == "stream" else bob.until("stream")
            assert after["stream"] != before
            # The stream outgrows what was there before.
            for number in range(7, 20):
                ada.send("lobby", number, number)
            assert bob.messages(13) == list(range(7, 20))
            assert bob.said[-1]["offset"] > offset
            bob.ws.close()
            with Visitor(application, "Bob", bob.key) as again:
                joined = again.join("lobby", since=offset, stream=before)
                assert not joined["complete"]
                assert again.messages(14) == list(range(6, 20))
            ada.send("lobby", 20, 20)
            with Visitor(application, "Bob", bob.key) as again:
                joined = again.join("lobby", since=bob.said[-1]["offset"], stream=after["stream"])
                assert joined["complete"]
                assert again.messages(1) == [20]
        # Who begins to read now calls it the same.
        with running("asyncio", rabbit.url, "lost") as other, Visitor(other) as eve:
            assert eve.join("lobby")["stream"] == after["stream"]


@pytest.mark.slow
def test_a_stream_that_lost_its_end_unseen_is_known_though_it_has_outgrown_it(rabbit):
    """With the broker's power, and all processes: what was said since has the offsets of what was lost."""
    name = rabbit.name()
    with running("cherrypy", rabbit.url, name) as before, Visitor(before, "Bob") as bob:
        joined = bob.join("lobby", presence=False)
        bob.send("lobby", 1, 1)
        bob.messages(1)
        offset = bob.said[-1]["offset"]
    told = {"stream": joined["stream"], "presence": False}

    def resumed(at, since, process):
        with Visitor(at, "Bob", bob.key) as again:
            return again.join("lobby", since=since, process=process, **told)["complete"]

    with running("cherrypy", rabbit.url, name) as after:
        settled = []
        for number in range(2, 9):
            after.bridge.send("lobby", number, settled=settled.append)
        eventually(lambda: len(settled) == 7)
        assert resumed(after, offset, joined["process"])
        # As if it had heard some more, that is gone.
        assert not resumed(after, offset + 3, joined["process"])
        # What others of today told is so; so is what is said by who does not say who told it.
        assert resumed(after, offset + 3, "")
        assert resumed(after, offset + 3, after.bridge.process)
        with running("asyncio", rabbit.url, name) as other, Visitor(other, "Eve") as eve:
            process = eve.join("lobby", presence=False)["process"]
            assert process == other.bridge.process != after.bridge.process
            assert resumed(after, offset + 3, process)
            assert resumed(other, offset + 3, after.bridge.process)


@pytest.mark.slow
def test_a_message_that_the_broker_never_takes_is_given_back(tmp_path):
    """It ends its channel, and no connection: it is refused, and those before it and behind it go."""
    settled, lost = [], []
    with (
        Rabbit(tmp_path / "data", lines=["max_message_size = 4096"]) as rabbit,
        running("cherrypy", rabbit.url, "large") as application,
        Visitor(application, "Ada") as ada,
        Visitor(application, "Bob") as bob,
    ):
        application.bus.subscribe("amqp-lost", lost.append)
        for each in (ada, bob):
            each.join("lobby", presence=False)
        for number in range(1, 8):
            ada.send("lobby", number, "x" * (5000 if number in (3, 4) else number))
        assert bob.messages(5, PATIENCE) == ["x" * number for number in (1, 2, 5, 6, 7)]
        while len([said for said in ada.said if said["type"] in ("sent", "error")]) < 7:
            ada.hear(PATIENCE)
        told = [said for said in ada.said if said["type"] in ("sent", "error")]
        outcomes = {said["number"]: said.get("code", "sent") for said in told}
        assert outcomes == {1: "sent", 2: "sent", 3: "refused", 4: "refused", 5: "sent", 6: "sent", 7: "sent"}
        for size in (5000, 5):
            application.bridge.send("lobby", "y" * size, settled=settled.append)
        eventually(lambda: len(settled) == 2, PATIENCE)
        # Which of them is told of first does not matter.
        refused, taken = sorted(settled, key=len, reverse=True)
        assert isinstance(refused, Rejected)
        assert taken == ""
        assert bob.messages(1) == ["yyyyy"]
        assert application.amqp.unconfirmed == 0
        # Nor does one that is worth nothing later.
        for number, size in ((8, 5000), (9, 5)):
            ada.say(type="signal", room="lobby", data="z" * size)
            ada.send("lobby", number, "there")
            assert bob.messages(1) == ["there"]
        assert lost == []


@pytest.mark.parametrize("provider", ["cherrypy", "asyncio", "gevent"])
def test_what_a_process_does_not_keep_any_more_is_read_from_the_stream(provider, rabbit):
    """Ten messages of a room are kept; who was away hears all the rest, while others go on to speak."""
    limits = Limits(rate=10_000, burst=10_000, unconfirmed=10_000, queue=64 << 10)
    options = {"limits": limits, "memory": (64 << 20, 10, 1 << 20)}
    pad = "x" * 500
    with (
        running(provider, rabbit.url, rabbit.name(), **options) as application,
        Visitor(application, "Ada") as ada,
    ):
        joined = ada.join("away", presence=False)
        for number in range(1, 401):
            ada.send("away", 2 * number, [number, pad])
            ada.send("elsewhere", 2 * number + 1, [number, pad])
        heard = [ada.until("message") for _ in range(400)]
        assert application.bridge.rooms.room("away").history.dropped > heard[380]["offset"]
        begin, middle = joined["offset"], heard[199]["offset"]
        with Visitor(application, "Bob") as bob, Visitor(application, "Eve") as eve:
            bob.say(type="join", room="away", since=begin, stream=joined["stream"], presence=False)
            eve.say(type="join", room="away", since=middle, stream=joined["stream"], presence=False)
            for number in range(401, 451):
                ada.send("away", 2 * number, [number, pad])
            for each, first in ((bob, 1), (eve, 201)):
                assert each.until("joined")["complete"]
                assert [number for number, _ in each.messages(451 - first)] == list(range(first, 451))
                assert not [said for said in each.said if said["type"] == "gap"]
            # They hear at once again.
            eventually(lambda: not application.bridge.rooms.lagging)
            assert not application.inside(lambda: application.bridge.stream.replay.reading)
            ada.send("away", 1000, "now")
            assert bob.messages(1) == eve.messages(1) == ["now"]


def test_what_the_stream_has_lost_of_its_oldest_is_said_on_joining(rabbit):
    """Retention took it; what is left comes, and is not told of a second time."""
    settled, size = [], 2 << 20
    options = {"keep": (3600.0, size), "memory": (64 << 20, 10, 1 << 20)}
    with running("cherrypy", rabbit.url, rabbit.name(), **options) as application:
        with Visitor(application) as bob:
            joined = bob.join("lobby", presence=False)
        since = {"since": joined["offset"], "stream": joined["stream"], "presence": False}

        def resumed():
            with Visitor(application, "Bob") as bob:
                return bob.join("lobby", **since)

        for number in range(101):
            application.bridge.send("lobby", [number, "x" * 60_000], settled=settled.append)
            # What comes together is written together, and dropped together.
            eventually(lambda n=number: len(settled) > n)
            if not number:
                assert resumed()["complete"]
        eventually(lambda: not resumed()["complete"])
        with Visitor(application, "Bob") as bob:
            joined = bob.join("lobby", **since)
            assert not joined["complete"]
            first = bob.messages(1)[0][0]
            # The process may have stated the stream's name in between.
            assert bob.said[-1]["offset"] - joined["offset"] in (1, 2)
            assert 1 < first <= 100
            assert [number for number, _ in bob.messages(100 - first)] == list(range(first + 1, 101))
            assert not [said for said in bob.said if said["type"] == "gap"]


@pytest.mark.slow
def test_what_a_process_was_too_slow_to_read_is_told_of(rabbit):
    """Retention takes what it was to read next, while its connection lasts: RabbitMQ says nothing of it."""
    name, count = rabbit.name(), 2000
    options = {"keep": (3600.0, 2 << 20), "limits": Limits(queue=64 << 20)}
    with (
        running("cherrypy", rabbit.url, name, **options) as application,
        Visitor(application, "Bob") as bob,
    ):
        bob.join("lobby", presence=False)
        with (
            application.bridge.lock,
            pika.BlockingConnection(pika.URLParameters(rabbit.url)) as connection,
        ):
            channel = connection.channel()
            channel.confirm_delivery()
            for number in range(1, count + 1):
                channel.basic_publish(f"{name}.rooms", "lobby", b"%d %s" % (number, b"x" * 8000))
        heard = []
        while not heard or heard[-1] < count:
            heard += [int(data.split()[0]) for data in bob.messages(1)]
        assert len(heard) < count
        if not any(said["type"] == "gap" for said in bob.said):
            bob.until("gap")
        # It is one, and what follows it is kept.
        assert bob.join("lobby", last=1000)["complete"]
        first = bob.messages(1)[0]
        assert int(first.split()[0]) > heard[0]
        assert [said["type"] for said in bob.said].count("gap") == 1


@pytest.mark.soak
@pytest.mark.slow
def test_who_reads_from_the_stream_as_the_broker_is_killed_misses_nothing(mortal):
    limits = Limits(rate=10_000, burst=10_000, bytes=64 << 20, bytes_burst=64 << 20, unconfirmed=10_000)
    name = mortal.name()
    with (
        running("cherrypy", mortal.url, name, limits=limits, memory=(64 << 20, 10, 1 << 20)) as application,
        Visitor(application, "Ada") as ada,
    ):
        joined = ada.join("away", presence=False)
        for number in range(1, 1001):
            ada.send("away", number, [number, "x" * 1000])
        heard = [ada.until("message", PATIENCE) for _ in range(1000)]
        assert heard[-1]["data"][0] == 1000
        with Visitor(application, "Bob") as bob:
            bob.say(type="join", room="away", since=joined["offset"], presence=False)
            assert bob.until("joined")["complete"]
            mortal.kill()
            mortal.start()
            assert [number for number, _ in bob.messages(1000, PATIENCE)] == list(range(1, 1001))
