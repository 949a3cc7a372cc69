"""Many connections that hear the same, on both cores."""

import threading

import pytest
from tests.websocket.implementations import BINARY, NAMES, TEXT, implementation, made

from kirsch.websocket.core.deflate import Agreement
from kirsch.websocket.core.limits import Limits
from kirsch.websocket.core.message import Prepared
from kirsch.websocket.core.room import Room


class Wire:
    buffered = 0

    def wake(self):
        pass


@pytest.fixture(params=NAMES)
def member(request):
    core = implementation(request.param)

    def make(**limits):
        websocket = core.WebSocket(limits=Limits(**limits))
        websocket.start(Wire())
        return websocket

    return make


def sent(websocket):
    return b"".join(websocket.take())


class TestRoom:
    def test_all_hear_what_is_sent(self, member):
        room, members = Room(), [member() for _ in range(3)]
        for websocket in members:
            room.add(websocket)
            room.add(websocket)
        assert len(room) == 3
        assert set(room) == set(members)
        assert room.send("ä") == []
        assert room.send(b"b") == []
        expected = made(TEXT, "ä".encode(), key=None) + made(BINARY, b"b", key=None)
        assert [sent(websocket) for websocket in members] == [expected] * 3

    def test_but_one(self, member):
        room, (one, other) = Room(), (member(), member())
        room.add(one)
        room.add(other)
        room.send("a", but=one)
        assert (sent(one), sent(other)) == (b"", made(TEXT, b"a", key=None))

    def test_who_has_left_hears_nothing(self, member):
        room, one = Room(), member()
        room.add(one)
        assert one in room
        room.discard(one)
        room.discard(one)
        assert one not in room
        room.send("a")
        assert sent(one) == b""

    @pytest.mark.parametrize("end", ["close", "ended"])
    def test_who_has_ended_leaves_by_itself(self, member, end):
        room, one, other = Room(), member(), member()
        room.add(one)
        room.add(other)
        getattr(one, end)()
        assert room.send("a") == []
        assert list(room) == [other]
        assert sent(other) == made(TEXT, b"a", key=None)

    def test_who_is_slow_is_returned_and_stays(self, member):
        room, slow, fast = Room(), member(queue=10), member()
        room.add(slow)
        room.add(fast)
        slow.send(bytes(100))
        assert room.send("a") == [slow]
        assert slow in room
        assert sent(fast) == made(TEXT, b"a", key=None)
        sent(slow)
        assert room.send("b") == []

    @pytest.mark.parametrize("data", [iter(["a"]), None, 5, ["a"]])
    def test_what_only_one_could_be_sent_is_refused(self, member, data):
        room, one = Room(), member()
        room.add(one)
        with pytest.raises(TypeError, match="a room is sent str or bytes, not"):
            room.send(data)
        assert sent(one) == b""

    def test_members_may_come_and_go_while_it_is_sent(self, member):
        room, members = Room(), [member() for _ in range(3)]

        class Leaving(type(members[0])):
            def send(self, data):
                room.discard(members[2])
                room.add(members[1])
                super().send(data)

        leaving = Leaving()
        leaving.start(Wire())
        for websocket in (leaving, members[2]):
            room.add(websocket)
        room.send("a")
        assert set(room) == {leaving, members[1]}

    def test_by_many_threads(self, member):
        room = Room()
        members = [member(queue=1 << 24) for _ in range(5)]
        for websocket in members:
            websocket.guard = threading.Lock()
        start = threading.Barrier(4)

        def talk():
            start.wait()
            for _ in range(200):
                for websocket in members:
                    room.add(websocket)
                room.send("x")
                room.discard(members[0])

        threads = [threading.Thread(target=talk) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        frame = made(TEXT, b"x", key=None)
        assert [sent(websocket) for websocket in members[1:]] == [frame * 800] * 4


@pytest.mark.parametrize("name", NAMES)
class TestPrepared:
    def codec(self, alone: bool):
        agreement = Agreement(server_no_context_takeover=alone)
        return agreement.codec(client=False, limits=Limits())

    @pytest.mark.parametrize(
        "data", ["", "é" * 100, b"", b"x" * 100_000, bytearray(b"ab"), memoryview(b"ab")]
    )
    def test_it_is_sent_as_what_it_is_made_of(self, name, data):
        one, other = implementation(name).Protocol(), implementation(name).Protocol()
        one.send(data)
        other.send(Prepared(data))
        assert b"".join(one.take()) == b"".join(other.take())

    def test_it_is_compressed_once_where_connections_compress_alike(self, name):
        prepared, text = Prepared("to all of you " * 20), "to all of you " * 20
        senders = [implementation(name).Protocol(codec=self.codec(True)) for _ in range(3)]
        for sender in senders:
            sender.send(prepared)
        frames = [b"".join(sender.take()) for sender in senders]
        assert frames[1:] == frames[:1] * 2
        receiver = implementation(name).Protocol(
            client=True, codec=Agreement(server_no_context_takeover=True).codec(client=True, limits=Limits())
        )
        assert receiver.receive(frames[0]) == [text]
        # The one made first is shared: no other was made.
        assert prepared.compressed(self.codec(True)) is prepared.compressed(self.codec(True))

    def test_where_what_went_before_counts_each_compresses(self, name):
        prepared, text = Prepared("to all of you " * 20), "to all of you " * 20
        sender = implementation(name).Protocol(codec=self.codec(False))
        receiver = implementation(name).Protocol(
            client=True, codec=Agreement().codec(client=True, limits=Limits())
        )
        for _ in range(3):
            sender.send(prepared)
        assert receiver.receive(b"".join(sender.take())) == [text] * 3

    @pytest.mark.parametrize("data", [1, None, ["a"], iter("a")])
    def test_only_text_and_bytes_are_prepared(self, name, data):
        with pytest.raises(TypeError, match="a message for many is str or bytes"):
            Prepared(data)
