"""The stream as processes know it: its name, whether it is the same, what is read from it anew."""

import json
import math
import zlib
from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kirsch.amqp import protocol
from kirsch.amqp.batching import Batching
from kirsch.amqp.consumer import (
    CAUGHT_UP,
    OTHERS_MARK,
    REPLACED,
    SEEN,
    STATE_AGAIN,
    EndFound,
    FindFirst,
    Mark,
    Message,
    Renamed,
    StreamConsumer,
)
from kirsch.amqp.history import HistoryReader
from kirsch.amqp.message import Delivery
from kirsch.amqp.replay import AHEAD, BATCH, Replay
from kirsch.amqp.room import ROOM, Rooms
from kirsch.websocket import Limits, Prepared, Slow
from kirsch.websocket.core.deflate import Agreement, Codec


def message(number, room="lobby", offset=0, client="c"):
    body = protocol.envelope(room, client, "n", protocol.Send(room, number, number), 0)
    return Delivery("s", "e", room, body, offset, "application/json", protocol.MESSAGE, f"{client}:{number}")


def mark(process, **said):
    return Delivery("s", "e", "kirsch", json.dumps(said).encode(), 0, None, protocol.MARK, process)


def reading(stream, process="me", begin=0):
    """A reader that has read a list of deliveries from somewhere on."""
    reader = StreamConsumer(process, 86400, 2.0)
    for offset, delivery in enumerate(stream[begin:], begin):
        reader.receive(delivery, offset)
    return reader


def probe(reader, now):
    """The message by which the reader has the end of its stream looked for, if it has."""
    probes = [event for event in reader.tick(now) if isinstance(event, Mark) and not event.body]
    return mark(probes[0].message_id) if probes else None


def stated(reader, now):
    """What the reader states that the stream is called, if it does."""
    names = [event.body["stream"] for event in reader.tick(now) if isinstance(event, Mark) and event.body]
    return names[0] if names else ""


def exchange(readers, stream, now):
    """All tick, and all read what they put into the stream; the events but for what deliveries are."""
    found = []
    for reader in readers:
        for event in reader.tick(now):
            stream.append(mark(event.message_id, **event.body))
    for reader in readers:
        for offset in range(reader.offset + 1, len(stream)):
            found += [(reader.process, event) for event in reader.receive(stream[offset], offset)[:-1]]
    return found


# Whether it is the same.


def test_a_broker_that_takes_its_time_is_not_another():
    reader = reading([message(1), message(2)])
    assert reader.connect(100.0) == {"x-stream-offset": 1}
    assert reader.resuming
    assert not probe(reader, 101.9)
    # It is looked where the stream ends, and again, as long as nothing is known.
    assert probe(reader, 102.1)
    assert not probe(reader, 103.0)
    looked = probe(reader, 104.2)
    assert reader.end_seen(looked, 2) == [EndFound()]
    assert not probe(reader, math.inf)
    assert reader.receive(message(2), 1)[-1] is SEEN
    assert not reader.resuming
    assert isinstance(reader.receive(message(3), 2)[-1], Message)


def test_a_stream_that_ends_before_what_was_read_is_another():
    for end in (1, 0):
        reader = reading([message(1), message(2)])
        assert reader.end_seen(mark("somebody's"), end) == []
        reader.connect(100.0)
        looked = probe(reader, 102.1)
        assert reader.end_seen(mark("somebody else's"), end) == []
        assert reader.end_seen(looked, end)[-1] is REPLACED


def test_what_says_the_same_is_another_message_all_the_same():
    """Two who say the same thing, or the marks of two processes."""
    for first, second in ((message(1), message(1, client="d")), (mark("p"), mark("q"))):
        reader = reading([first])
        reader.connect(100.0)
        assert reader.receive(second, 0)[-1] is REPLACED


def test_what_is_passed_over_is_noticed():
    """But for the one offset that RabbitMQ takes where a segment begins."""
    reader = reading([message(1), message(2)])
    reader.receive(message(3), 3)
    assert reader.skipped == -1
    assert FindFirst() in reader.receive(message(4), 6)
    assert reader.skipped == 3
    # It is not known yet.
    reader.receive(message(5), 60)
    assert reader.skipped == 3
    reader.connect(100.0)
    assert reader.receive(message(0), 60)[-1] is REPLACED
    assert reader.skipped == -1
    # What was missed while the connection was gone is told of as such.
    reader = reading([message(1)])
    reader.connect(100.0)
    reader.receive(message(9), 8)
    assert (reader.skipped, reader.begun) == (-1, 8)


# What it is called.


def test_the_first_name_that_is_proposed_holds():
    stream = [message(1), mark("a", proposed="A"), mark("b", proposed="B"), message(2)]
    for process in ("a", "b"):
        reader = reading(stream, process)
        assert reader.caught_up
        assert reader.stream == "A"
        # Whoever begins later does not read as far.
        assert stated(reader, 0.0) == "A"
        assert stated(reader, 1.0) == ""
        # Nobody has heard it.
        assert stated(reader, STATE_AGAIN) == "A"
        assert reader.receive(mark("", stream="A"), 4)[-1] is OTHERS_MARK
        assert stated(reader, STATE_AGAIN * 2) == stated(reader, 3600.0) == ""
        assert stated(reader, 6.1 * 3600) == "A"
    # What is said holds before what is proposed, whichever comes first.
    late = reading([*stream, mark("", stream="A"), mark("c", proposed="C")], "c", 2)
    assert late.stream == "A"
    assert late.caught_up


def test_a_process_that_reads_back_less_far_takes_nothing_from_one_that_reads_further():
    """It sees no name, and so proposes and states its own: the other's is older, and holds."""
    stream = [mark("far", proposed="A"), message(1), message(2), mark("near", proposed="B")]
    far, near = reading(stream, "far"), reading(stream, "near", 2)
    assert (far.stream, near.stream) == ("A", "B")
    # The older one was stated long ago.
    assert stated(far, 0.0) == "A"
    far._stated = True
    assert stated(far, 1.0) == ""
    events = []
    for now in (2.0, 3.0, 4.0):
        events += exchange((near, far), stream, now)
    assert far.stream == near.stream == "A"
    # Nobody has missed anything at either: it is the same stream, by an older name.
    assert events == [("near", Renamed("A", events[-1][1].offset))]
    assert exchange((near, far), stream, 5.0) == exchange((near, far), stream, 6.0) == []


def test_the_name_of_a_stream_that_has_lost_something_is_replaced_though_it_is_older():
    lost = reading([mark("lost", proposed="A"), mark("", stream="A", born=0), message(1)], "lost")
    other = reading([mark("you", proposed="A"), mark("", stream="A", born=0), message(1)], "you")
    lost.connect(100.0)
    assert lost.receive(message(2), 2)[-1] is REPLACED
    lost.connect(200.0)
    stream = [mark("you", proposed="A"), mark("", stream="A", born=0), message(1), mark("lost", proposed="B")]
    for offset, delivery in enumerate(stream):
        lost.receive(delivery, offset)
    assert lost.stream == "B"
    other.receive(stream[3], 3)
    assert other.stream == "A"
    for now in (200.0, 201.0, 210.0):
        exchange((other, lost), stream, now)
    assert lost.stream == other.stream == "B"


def test_nothing_is_called_anything_before_it_is_known_to_be_the_same():
    reader = reading([mark("me", proposed="A"), message(1)])
    reader.connect(100.0)
    assert stated(reader, 100.0) == ""
    reader.receive(message(1), 1)
    assert stated(reader, 100.0) == "A"


def test_a_stream_that_has_lost_something_has_another_name():
    reader = reading([mark("me", proposed="A"), mark("", stream="A"), message(1)])
    reader.connect(100.0)
    assert reader.receive(message(2), 2)[-1] is REPLACED
    assert not reader.caught_up
    assert reader.stream == ""
    reader.connect(200.0)
    # A part of it is still there.
    for offset, delivery in enumerate([mark("me2", proposed="A"), mark("", stream="A")]):
        assert reader.receive(delivery, offset)[-1] is OTHERS_MARK
    assert reader.receive(mark("me", proposed="B"), 2)[-1] is CAUGHT_UP
    assert reader.stream == "B"
    assert stated(reader, 200.0) == "B"
    # Who had not noticed learns it.
    other = reading([mark("you", proposed="A"), mark("", stream="A"), message(1)], "you")
    other.receive(mark("", stream="B"), 3)
    assert other.stream == "B"


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"\xff", b'{"stream":1}', b'{"stream":"a b"}', b"[" * 10**5, b'{"proposed":[]}'],
)
def test_marks_of_any_kind_do_no_harm(body):
    assert protocol.marked(body) == protocol.Marked()
    reader = StreamConsumer("me", 60, 2.0)
    assert (
        reader.receive(Delivery("s", "e", "kirsch", body, 0, None, protocol.MARK, None), 0)[-1] is OTHERS_MARK
    )


# Who comes back.


class Reluctant:
    """A member whose queue holds so many messages; `take` reads some."""

    class limits:  # noqa: N801 - as a connection has it
        queue = 8

    def __init__(self):
        self.waiting, self.heard = [], []

    @property
    def queued(self):
        return len(self.waiting)

    buffered = queued

    def send(self, message):
        if len(self.waiting) > self.limits.queue:
            raise Slow(len(self.waiting), self.limits.queue)
        self.waiting.append(json.loads(message))

    def take(self, count):
        self.heard += self.waiting[:count]
        del self.waiting[:count]

    @property
    def numbers(self):
        return [said.get("number", said["type"]) for said in self.heard]


def rooms_of(count=100, memory=1 << 20, **more):
    options = {"slow": "close", "lag": None, "back": lambda room, member: None}
    return Rooms(count=count, size=1 << 20, memory=memory, **options | more)


def test_an_offset_of_another_stream_is_not_complete_though_this_has_outgrown_it():
    rooms = rooms_of()
    for offset in range(60):
        rooms.offset = offset
        rooms.say("lobby", offset, Prepared(f"{offset}"))
    assert rooms.join("lobby", Reluctant(), 57, 0, 0.0) == (57, True)
    assert rooms.join("lobby", Reluctant(), 57, 0, 0.0, same=False) == (-1, False)


class Broker:
    """A stream, and whoever reads it besides: it sends ahead as much as it may."""

    def __init__(self):
        self.stream, self.first = [], 0
        self.readings, self.opened, self.doubts = [], 0, 0

    def read_on(self, handled):
        handled()

    def find_first(self):
        self.doubts += 1

    def read_from(self, offset, heard, ended):
        reading = {"next": max(offset, self.first), "left": AHEAD, "heard": heard, "late": deque()}
        self.readings.append(reading)
        self.opened += 1

        def stop():
            if reading in self.readings:
                self.readings.remove(reading)
                # What was on its way comes all the same.
                self.stopped = reading

        return stop

    def send(self, count):
        for reading in tuple(self.readings):
            for _ in range(count):
                if reading not in self.readings or not reading["left"] or reading["next"] >= len(self.stream):
                    break
                # What is dropped it passes over.
                offset = reading["next"] = max(reading["next"], self.first)
                reading["next"] += 1
                reading["left"] -= 1
                reading["heard"](self.stream[offset], lambda reading=reading: self.more(reading))

    def more(self, reading):
        reading["left"] += BATCH


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["say", "say", "look", "send", "take", "join", "leave", "lost"]),
            st.integers(0, 5),
            st.integers(0, 400),
        ),
        max_size=80,
    ),
    st.integers(1, 5),
)
def test_whoever_comes_back_hears_all_once_in_order_from_memory_and_stream(steps, kept):
    broker = Broker()
    lagged = []
    rooms = rooms_of(count=kept, reach=10_000, lag=lagged.append)
    replay = Replay(rooms, broker)
    members, since, now = {}, {}, 0.0
    numbers = {"a": 0, "b": 0}

    def say(room):
        numbers[room] += 1
        offset = len(broker.stream)
        delivery = message(numbers[room], room, offset, client=room)
        broker.stream.append(delivery)
        rooms.offset = offset
        rooms.say(room, offset, Prepared(protocol.stamped(delivery.body, offset)))

    def leave(which):
        rooms.discard(rooms.room(since[which][0]), members[which])
        member = members.pop(which)
        member.take(100)
        assert member.numbers == wanted(which)[: len(member.heard)]

    def wanted(which):
        room, begin = since[which]
        return [json.loads(each.body)["number"] for each in broker.stream[begin + 1 :] if each.key == room]

    for step, which, many in steps:
        now += 0.05
        if step == "say":
            for _ in range(many // 10 + 1):
                say("ab"[which % 2])
        elif step == "look":
            replay.look()
            for name in tuple(rooms.lagging):
                rooms.catch_up(name, now, 1e9)
        elif step == "send":
            broker.send(many)
        elif step == "take" and which in members:
            members[which].take(many % 9 + 1)
        elif step == "join" and which not in members:
            members[which] = Reluctant()
            since[which] = "ab"[which % 2], many % (len(broker.stream) + 1) - 1
            assert rooms.join(*(since[which][0], members[which], since[which][1], 0, now)) == (
                since[which][1],
                True,
            )
        elif step == "leave" and which in members:
            leave(which)
        elif step == "lost":
            replay.lost()
        # Who heard at once and does not read is closed.
        for which in [name for name, member in members.items() if member in lagged]:
            leave(which)
        for each, member in members.items():
            assert member.numbers == wanted(each)[: len(member.heard)]
    for _ in range(3000):
        if all(len(member.heard) + len(member.waiting) == len(wanted(n)) for n, member in members.items()):
            break
        for member in members.values():
            member.take(9)
        replay.look()
        broker.send(500)
        for name in tuple(rooms.lagging):
            rooms.catch_up(name, now, 1e9)
    for which, member in members.items():
        member.take(100)
        assert member.numbers == wanted(which)
    replay.look()
    assert not replay.reading
    assert not broker.readings


def test_a_page_looks_through_so_much_of_the_stream_and_says_where_to_go_on():
    broker, pages = Broker(), []
    for number in range(1, 25_001):
        quiet = number in (1, 2, 3, 14_000)
        broker.stream.append(message(number, "quiet" if quiet else "busy", number - 1))
    history, before = HistoryReader(broker), 25_000
    while not pages or pages[-1].more:
        history.search("quiet", before, 2, pages.append)
        # What waits together is answered together; what a connection loses begins again.
        history.search("busy", 30, 5, pages.append)
        history.look()
        broker.send(100)
        history.lost()
        history.look()
        while history._active:
            broker.send(1000)
        assert [json.loads(text)["number"] for _, text in pages.pop().messages] == list(range(26, 31))
        before = pages[-1].before
    found = [[json.loads(text)["number"] for _, text in page.messages] for page in pages]
    assert found == [[], [14_000], [2, 3], [1]]
    assert [page.before for page in pages] == [15_000, 5_000, 1, 0]
    assert not history.waiting
    assert not broker.readings


def test_what_the_stream_does_not_have_any_more_is_a_gap():
    broker = Broker()
    rooms = rooms_of(count=2, reach=10_000)
    replay = Replay(rooms, broker)
    for number in range(1, 31):
        broker.stream.append(message(number, offset=number - 1))
        rooms.offset = number - 1
        rooms.say("lobby", number - 1, Prepared(protocol.stamped(broker.stream[-1].body, number - 1)))
    broker.first = 20
    member = Reluctant()
    assert rooms.join("lobby", member, 10, 0, 0.0) == (10, True)
    for _ in range(20):
        replay.look()
        broker.send(50)
        rooms.catch_up("lobby", 0.0, 30.0)
        member.take(9)
    assert member.numbers == ["gap", *range(21, 31)]
    assert rooms.gaps == 1
    assert not rooms.lagging


@pytest.mark.parametrize(("first", "gaps"), [(0, 0), (51, 0), (1000, 1)])
def test_what_the_stream_drops_while_it_is_read_is_a_gap(first, gaps):
    """Once it is known: RabbitMQ does not say whether what it passes over were messages."""
    broker = Broker()
    rooms = rooms_of(count=2, reach=10_000)
    replay = Replay(rooms, broker)
    for number in range(1, 1501):
        broker.stream.append(message(number, offset=number - 1))
        rooms.offset = number - 1
        rooms.say("lobby", number - 1, Prepared(protocol.stamped(broker.stream[-1].body, number - 1)))

    class Eager(Reluctant):
        class limits:  # noqa: N801
            queue = 100_000

    far, gone = Eager(), Eager()
    for each in (far, gone):
        rooms.join("lobby", each, 0, 0, 0.0)
    replay.look()
    broker.send(51)
    broker.first = 1000
    for _ in range(20):
        broker.send(100)
        replay.look()
        rooms.catch_up("lobby", 0.0, 30.0)
    assert broker.doubts == 1
    assert replay.doubting
    assert [said["number"] for said in far.waiting] == [*range(2, 52), *range(1001, 1501)]
    rooms.discard(rooms.room("lobby"), gone)
    replay.begins(first)
    assert not replay.doubting
    assert [said["type"] for said in far.waiting].count("gap") == gaps == rooms.gaps
    assert not any(said["type"] == "gap" for said in gone.waiting)


def test_what_the_stream_is_known_not_to_have_is_said_on_joining():
    broker = Broker()
    rooms = rooms_of(count=2, reach=10_000)
    replay = Replay(rooms, broker)
    for number in range(1, 31):
        broker.stream.append(message(number, offset=number - 1))
        rooms.offset = number - 1
        rooms.say("lobby", number - 1, Prepared(protocol.stamped(broker.stream[-1].body, number - 1)))
    rooms.first = broker.first = 20
    assert [rooms.far("lobby", since) for since in (-1, 10, 26, 27, 29)] == [True, True, True, False, False]
    assert rooms.join("lobby", Reluctant(), 19, 0, 0.0) == (19, True)
    member = Reluctant()
    assert rooms.join("lobby", member, 10, 0, 0.0) == (19, False)
    for _ in range(20):
        replay.look()
        broker.send(50)
        rooms.catch_up("lobby", 0.0, 30.0)
        member.take(9)
    assert member.numbers == list(range(21, 31))
    # What is kept is there though the stream should not have it.
    rooms.first = 29
    assert rooms.join("lobby", Reluctant(), 26, 0, 0.0) == (27, False)
    assert rooms.join("lobby", Reluctant(), 27, 0, 0.0) == (27, True)
    rooms.reset()
    assert rooms.first == 0


def test_who_is_near_does_not_wait_for_who_is_far():
    broker = Broker()
    rooms = rooms_of(count=2, reach=10_000)
    replay = Replay(rooms, broker)
    for number in range(1, 5001):
        broker.stream.append(message(number, offset=number - 1))
        rooms.offset = number - 1
        rooms.say("lobby", number - 1, Prepared(protocol.stamped(broker.stream[-1].body, number - 1)))

    class Eager(Reluctant):
        class limits:  # noqa: N801
            queue = 100_000

    far, near = Eager(), Eager()
    rooms.join("lobby", far, 0, 0, 0.0)
    replay.look()
    broker.send(150)
    rooms.join("lobby", near, 4900, 0, 0.0)
    for _ in range(5):
        replay.look()
        broker.send(100)
        rooms.catch_up("lobby", 0.0, 30.0)
    assert len(near.waiting) == 99
    for _ in range(60):
        replay.look()
        broker.send(100)
        rooms.catch_up("lobby", 0.0, 30.0)
    assert [said["number"] for said in far.waiting] == list(range(2, 5001))


def test_who_asks_for_more_than_may_be_read_is_told_that_something_is_missing():
    rooms = rooms_of(count=2, reach=10)
    for offset in range(60):
        rooms.offset = offset
        rooms.say("lobby", offset, Prepared(f"{offset}"))
    assert rooms.join("lobby", Reluctant(), 49, 0, 0.0) == (49, True)
    assert rooms.join("lobby", Reluctant(), 48, 0, 0.0) == (57, False)


# What it costs.


def codec(bits):
    agreement = Agreement(server_no_context_takeover=True, server_max_window_bits=bits)
    return Codec(agreement, client=False, limits=Limits())


class Compressing(Reluctant):
    """A member that is sent what is compressed its way."""

    class limits:  # noqa: N801
        queue = 1 << 30

    def __init__(self, bits):
        super().__init__()
        self.codec = codec(bits)

    def send(self, message):
        self.waiting.append(message.compressed(self.codec) if isinstance(message, Prepared) else message)


def test_what_messages_were_compressed_to_is_counted_with_what_is_kept():
    rooms = rooms_of(count=50, memory=200_000)
    for bits in range(9, 16):
        rooms.join("lobby", Compressing(bits), None, 0, 0.0)
    rooms.catch_up("lobby", 0.0, 30.0)
    for offset in range(300):
        rooms.offset = offset
        room = "lobby" if offset % 3 else f"room{offset}"
        rooms.say(room, offset, Prepared(zlib.compress(f"{offset}".encode()) * 30 + b"y" * 400))
        assert rooms.size <= 200_000
        if offset % 50 == 0:
            # Who comes late has others' kept for it, too.
            rooms.join(f"room{offset // 3 * 3}", Compressing(12), None, 9, 0.0)
            rooms.catch_up(f"room{offset // 3 * 3}", 0.0, 30.0)
    histories = [room.history for room in rooms._rooms.values()]
    held = sum(message.held + 400 for history in histories for _, message in history._messages)
    assert rooms.size == held + ROOM * sum(bool(len(history)) for history in histories)
    assert any(message._compressed for _, message in rooms.room("lobby").history._messages)
    rooms.missed(1000)
    assert rooms.size == 0


def test_what_was_missed_leaves_what_followed():
    rooms = rooms_of()
    ada, before = Reluctant(), rooms.size
    for offset in range(20):
        rooms.offset = offset
        rooms.say("lobby", offset, Prepared(f"{offset}"))
    rooms.join("lobby", ada, 19, 0, 0.0)
    rooms.catch_up("lobby", 0.0, 30.0)
    rooms.missed(15)
    assert [said["type"] for said in ada.waiting] == ["gap"]
    assert rooms.join("lobby", Reluctant(), 13, 0, 0.0) == (14, False)
    assert rooms.join("lobby", Reluctant(), 14, 0, 0.0) == (14, True)
    assert rooms.join("elsewhere", Reluctant(), 13, 0, 0.0) == (14, False)
    assert [offset for offset, _ in rooms.room("lobby").history.after(-1).messages] == [15, 16, 17, 18, 19]
    # What was missed before that is still missing.
    rooms.missed(3)
    assert rooms.join("lobby", Reluctant(), 13, 0, 0.0) == (14, False)
    rooms.missed(20)
    assert rooms.size == before == 0


def test_a_message_is_compressed_to_seven_at_most():
    """For each window that a browser may have: so much a queue keeps of what others are sent."""
    prepared = Prepared("".join(chr(33 + n * n % 90) for n in range(4000)))
    for bits in range(8, 16):
        prepared.compressed(codec(bits))
    assert len(prepared._compressed) == 7
    assert prepared.held <= 8 * (len(prepared) + 50)


def test_rooms_themselves_are_counted():
    rooms = rooms_of(memory=300_000)
    for offset in range(5000):
        rooms.offset = offset
        rooms.say(f"room{offset}", offset, Prepared("x"))
    assert rooms.size <= 300_000
    assert len(rooms) <= 300_000 // ROOM


class Corked(Reluctant):
    """A member on threads: what is sent while it is corked is written when it is woken."""

    class limits:  # noqa: N801
        queue = 1 << 20

    def __init__(self):
        super().__init__()
        self.corked, self.pending, self.writes, self.wire = False, [], [], self

    def send(self, message):
        self.pending.append(message)
        if not self.corked:
            self.wake()

    def wake(self):
        self.writes.append(len(self.pending))
        self.pending.clear()


def test_what_comes_in_one_turn_is_written_together():
    soon = []
    rooms = rooms_of(batching=Batching(soon.append, 1000))
    ada, bob = Corked(), Corked()
    rooms.join("a", ada, None, 0, 0.0)
    for room in "ab":
        rooms.join(room, bob, None, 0, 0.0)
        rooms.catch_up(room, 0.0, 30.0)

    def say(count, size):
        for number in range(count):
            rooms.say("ab"[number % 2], number, Prepared("x" * size))

    say(10, 100)
    assert ada.writes == bob.writes == []
    (end,) = soon
    end()
    assert (ada.writes, bob.writes) == ([5], [10])
    assert not ada.corked
    assert not bob.corked
    # No more is held back than a reader's queue has room for.
    say(10, 300)
    assert bob.writes == [10, 3, 3, 3]
    soon.pop()()
    assert bob.writes == [10, 3, 3, 3, 1]
    assert sum(ada.writes) == 10
    # One that cannot be written to keeps no other waiting.
    ada.wire, ada.peer = None, "Ada"
    say(2, 100)
    soon.pop()()
    assert bob.writes.pop() == 2
    # Nothing is left to be done.
    end()
    assert sum(bob.writes) == 20
    assert not bob.corked
