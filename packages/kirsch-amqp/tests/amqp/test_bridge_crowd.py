"""Many connections, one that does not read, and a process that is killed."""

import asyncio
import base64
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from itertools import pairwise

import pytest
from tests.amqp.applications import PROVIDERS, running
from tests.amqp.visitor import Visitor
from tests.deadline import eventually

from kirsch.amqp import Limits
from kirsch.amqp.members import BEAT, TTL
from kirsch.websocket import WebSocket
from kirsch.websocket.asyncio import connect

pytestmark = pytest.mark.services

CROWD, ROOMS = 2000, 50
# What a provider may have taken from the queue and not written, and one message.
IN_HAND = (256 << 10) + (33 << 10)
PATIENCE = 60
# 32 KiB that nothing compresses.
PAD = base64.b64encode(os.urandom(24 << 10)).decode()


class Member(WebSocket):
    """One of a crowd: it joins, says one thing, and hears what all of its room say."""

    def begin(self, number, crowd):
        self.number, self.crowd, self.got = number, crowd, []
        room = f"room{number % ROOMS}"
        self.tell(type="hello", name=f"member {number}")
        self.tell(type="join", room=room)
        return self

    def tell(self, **said):
        self.send(json.dumps(said))

    def received_message(self, message):
        said = json.loads(message)
        kind = said["type"]
        if kind == "joined":
            self.crowd.joined += 1
        elif kind == "message":
            self.got.append(said["data"])
            self.crowd.heard += 1
        elif kind == "sent":
            self.crowd.sent += 1
        elif kind == "error":
            self.crowd.errors.append(said)
        if self.crowd.done():
            self.crowd.came.set()

    def closed(self, code, reason):
        self.crowd.closed.append(code)


class Crowd:
    """All of them, on one loop."""

    def __init__(self):
        self.joined = self.heard = self.sent = 0
        self.errors, self.closed = [], []
        self.came, self.done = asyncio.Event(), lambda: self.joined == CROWD

    async def until(self, done):
        self.done = done
        self.came.clear()
        if not done():
            await asyncio.wait_for(self.came.wait(), PATIENCE)

    async def run(self, url):
        gate = asyncio.Semaphore(50)

        async def one(number):
            async with gate:
                return (await connect(url, Member, timeout=PATIENCE)).begin(number, self)

        members = await asyncio.gather(*(one(number) for number in range(CROWD)))
        await self.until(lambda: self.joined == CROWD)
        for member in members:
            member.tell(type="send", room=f"room{member.number % ROOMS}", number=1, data=member.number)
        await self.until(lambda: self.sent == CROWD and self.heard == CROWD * CROWD // ROOMS)
        for member in members:
            assert sorted(member.got) == list(range(member.number % ROOMS, CROWD, ROOMS))
            # All of a room in the same order.
            assert member.got == members[member.number % ROOMS].got
        assert not self.errors
        assert not self.closed
        for member in members:
            member.close()
        await asyncio.gather(*(member.wait_closed(PATIENCE) for member in members))


@pytest.fixture
def many_files():
    """Both ends of every connection are open here."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2 * CROWD + 500:
        pytest.skip(f"only {hard} files may be open")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2 * CROWD + 500), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.soak
@pytest.mark.parametrize("provider", ["asyncio", "cherrypy"])
def test_two_thousand_connections_in_fifty_rooms(provider, rabbit, many_files):
    with running(provider, rabbit.url, rabbit.name()) as application:
        asyncio.run(Crowd().run(application.url))
        eventually(lambda: not application.bridge.connections)
        bridge = application.bridge
        assert bridge.rooms.delivered == CROWD * CROWD // ROOMS
        # Nothing is left of them but what was said.
        assert all(bridge.rooms.get(f"room{n}").empty for n in range(ROOMS))
        assert all(bridge.presence.presence.count(f"room{n}") == 0 for n in range(ROOMS))


def flood(application, fast, count, first=0):
    """The application says so much in the room, no faster than one who reads hears it."""
    for number in range(first, first + count):
        application.inside(lambda n=number: application.bridge.send("flood", {"n": n, "pad": PAD}))
        if number % 20 == 19:
            while fast.until("message")["data"]["n"] < number:
                pass


def largest_queue(application, stalled):
    return max(
        (ws.buffered for ws in application.bridge.connections if ws.client_id == stalled.client), default=0
    )


@pytest.mark.parametrize("provider", PROVIDERS)
def test_who_does_not_read_is_closed_and_others_hear_all(provider, rabbit):
    """What waits for it is no more than its queue and one message; then that is dropped: 1013."""
    limits = Limits(queue=256 << 10)
    with (
        running(provider, rabbit.url, rabbit.name(), limits=limits) as application,
        Visitor(application, "fast") as fast,
        Visitor(application, "stalled") as stalled,
    ):
        fast.join("flood", presence=False)
        stalled.join("flood", presence=False)
        most, number = 0, 0
        while application.bridge.counters.slow == 0:
            assert number < 2000, "40 MiB and more are in the system's buffers"
            flood(application, fast, 20, number)
            number += 20
            most = max(most, application.inside(lambda: largest_queue(application, stalled)))
        assert most <= limits.queue + IN_HAND
        flood(application, fast, 20, number)
        assert [s["data"]["n"] for s in fast.said if s["type"] == "message"] == list(range(number + 20))
        assert stalled.ended(PATIENCE)[0] == 1013
        heard = [said["data"]["n"] for said in stalled.said if said["type"] == "message"]
        # What it heard until then has no holes: it comes back, and goes on from there.
        assert heard == list(range(len(heard)))
        assert application.bridge.counters.closed[1013] == 1


@pytest.mark.slow
@pytest.mark.parametrize("provider", PROVIDERS)
def test_who_does_not_read_misses_the_oldest_where_that_is_wanted(provider, rabbit):
    limits = Limits(queue=256 << 10)
    with (
        # Ten messages of a room are kept.
        running(
            provider, rabbit.url, rabbit.name(), limits=limits, slow="drop", memory=(64 << 20, 10, 1 << 20)
        ) as application,
        Visitor(application, "fast") as fast,
        Visitor(application, "stalled") as stalled,
    ):
        fast.join("flood", presence=False)
        stalled.join("flood", presence=False)
        number = 0
        room = application.bridge.rooms.room("flood")

        def has_missed_some():
            return any(behind.offset < room.history.dropped for _, behind in room.behind.values())

        while not application.inside(has_missed_some):
            assert number < 2000, "40 MiB and more are in the system's buffers"
            flood(application, fast, 20, number)
            number += 20
        most = application.inside(lambda: largest_queue(application, stalled))
        assert most <= limits.queue + IN_HAND
        heard, gap = [], 0
        while not heard or heard[-1] < number - 1:
            said = stalled.hear(PATIENCE)
            if said["type"] == "message":
                heard.append(said["data"]["n"])
            elif said["type"] == "gap":
                gap += 1
        assert heard == sorted(set(heard))
        # Each hole is told of, once; the system's buffers may have let it catch up between two of them.
        assert gap == sum(after != before + 1 for before, after in pairwise([-1, *heard])) >= 1
        assert heard[-10:] == list(range(number - 10, number))
        assert number - len(heard) > 0
        # It hears at once again.
        flood(application, fast, 1, number)
        assert stalled.until("message")["data"]["n"] == number


PROGRAM = """
import asyncio, sys
from cherrypy.process.wspbus import Bus
from kirsch.amqp import AMQPPlugin, Bridge
from kirsch.websocket.asyncio import serve

async def main():
    bus = Bus()
    amqp = AMQPPlugin(bus, sys.argv[1], loop="asyncio")
    bridge = Bridge(bus, amqp, sys.argv[2])
    amqp.subscribe()
    bridge.subscribe()
    bus.start()
    async with serve(bridge.connection, policy=bridge.policy, limits=bridge.websocket_limits) as server:
        print(server.url, flush=True)
        await server.serve_forever()

asyncio.run(main())
"""


@pytest.fixture
def elsewhere(rabbit):
    """Another process of the same rooms: a function of their name that gives its URL and the process."""
    started = []

    def start(name):
        command = [sys.executable, "-c", PROGRAM, rabbit.url, name]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        started.append(process)
        return process.stdout.readline().strip(), process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.mark.soak
@pytest.mark.slow
def test_members_of_a_process_that_was_killed_have_left_within_fifteen_seconds(rabbit, elsewhere):
    name = rabbit.name()
    with running("cherrypy", rabbit.url, name) as application, Visitor(application, "Ada") as ada:
        ada.join("lobby")
        url, process = elsewhere(name)
        bob = Visitor(url, "Bob")
        joined = bob.join("lobby")
        assert [member["name"] for member in joined["members"]] in (["Ada", "Bob"], ["Bob"])
        ada.until("presence", count=2)
        # They hear each other.
        bob.send("lobby", 1, "hello")
        assert ada.messages(1) == ["hello"]
        offset = bob.until("message")["offset"]
        os.kill(process.pid, signal.SIGKILL)
        killed = time.monotonic()
        left = ada.until("presence", count=1)["left"]
        assert time.monotonic() - killed < 15
        assert left == [{"client": bob.client, "name": "Bob"}]
        # At another process he is the same, and hears what he has missed.
        for number in (1, 2):
            ada.send("lobby", number, f"missed {number}")
        assert ada.messages(2) == ["missed 1", "missed 2"]
        with Visitor(application, "Bob", bob.key) as again:
            assert again.client == bob.client
            assert again.join("lobby", since=offset)["complete"]
            assert again.messages(2) == ["missed 1", "missed 2"]
        assert bob.ended()[0] in (1001, 1006)


@pytest.mark.slow
def test_a_process_that_ends_takes_its_members_along_at_once(rabbit):
    name = rabbit.name()
    with running("cherrypy", rabbit.url, name) as here, Visitor(here, "Ada") as ada:
        ada.join("lobby")
        with running("asyncio", rabbit.url, name) as there:
            bob = Visitor(there, "Bob")
            assert [member["name"] for member in bob.join("lobby")["members"]][-1] == "Bob"
            ada.until("presence", count=2)
            eventually(lambda: there.bridge.members("lobby")[0][1] == "Ada")
        ended = time.monotonic()
        ada.until("presence", count=1)
        # Its silence alone would have taken longer.
        assert time.monotonic() - ended < TTL - BEAT
        assert bob.ended()[0] in (1001, 1006)


def test_who_resumes_at_a_process_that_is_behind_waits_for_it(rabbit):
    """An offset that this process has not read yet: nothing comes twice."""
    with running("cherrypy", rabbit.url, rabbit.name()) as application, Visitor(application) as ada:
        ada.join("lobby")
        ada.send("lobby", 1, "one")
        offset = ada.until("message")["offset"]
        waiting = threading.Thread(target=lambda: ada.join("lobby", since=offset + 1))
        waiting.start()
        with Visitor(application) as bob:
            bob.join("lobby")
            bob.send("lobby", 1, "two")
            bob.send("lobby", 2, "three")
            assert bob.messages(2) == ["two", "three"]
        waiting.join(PATIENCE)
        joined = ada.said[-1]
        assert (joined["offset"], joined["complete"]) == (offset + 1, True)


@pytest.mark.slow
def test_a_process_that_reads_back_less_far_leaves_anothers_memory_alone(rabbit):
    """Processes may have settings of their own: the second one's `replay` goes back to no message."""
    name = rabbit.name()
    with running("cherrypy", rabbit.url, name) as far, Visitor(far) as ada:
        ada.join("lobby")
        for number in range(1, 6):
            ada.send("lobby", number, f"message {number}")
        ada.messages(5)
        stream = far.bridge.stream.consumer.stream
        kept = far.bridge.rooms.size
        said = time.time()
        # The broker's clock decides what a replay of one second is.
        eventually(lambda: time.time() > said + 2.5)
        with running("asyncio", rabbit.url, name, replay=1) as near, Visitor(near) as bob:
            assert near.bridge.rooms.size < kept
            bob.join("lobby")
            bob.send("lobby", 1, "now")
            assert ada.messages(1) == ["now"]
            eventually(lambda: near.bridge.stream.consumer.stream == stream)
            assert far.bridge.stream.consumer.stream == stream
            assert far.bridge.rooms.size > kept
        assert not {"gap", "stream"} & {said["type"] for said in ada.said}
