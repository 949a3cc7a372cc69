"""One side of a connection, in Python and compiled: what it sends, how it closes, what it refuses."""

import contextlib
import gc
import inspect
import io
import itertools
import random
import sys
import threading
import weakref

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.websocket.implementations import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    made,
    parts,
)

from kirsch.websocket.core.deflate import Agreement
from kirsch.websocket.core.errors import Closed, ProtocolError, Slow
from kirsch.websocket.core.limits import Limits
from kirsch.websocket.core.message import Close, Ping, Pong
from kirsch.websocket.core.protocol import BATCH, CLOSED, CLOSING, OPEN


@pytest.fixture(params=["server", "client"])
def client(request):
    return request.param == "client"


def sent(side):
    """All that is to be sent."""
    data = b""
    while side.pending:
        data += b"".join(side.take())
    return data


def told(side, other):
    """What the other side is told by all this one has to send."""
    return other.receive(sent(side))


def framed(opcode, payload=b"", **how):
    """A frame of a server."""
    return made(opcode, payload, key=None, **how)


def bye(code=None, reason=""):
    return framed(CLOSE, b"" if code is None else code.to_bytes(2, "big") + reason.encode())


class TestSending:
    @pytest.mark.parametrize(
        ("data", "frame"),
        [
            ("", framed(TEXT)),
            ("aä€𝄞", framed(TEXT, "aä€𝄞".encode())),
            (b"", framed(BINARY)),
            (b"abc", framed(BINARY, b"abc")),
            (bytearray(b"abc"), framed(BINARY, b"abc")),
            (memoryview(b"abcdef")[1:3], framed(BINARY, b"bc")),
            (memoryview(b"abcdef")[::2], framed(BINARY, b"ace")),
            (memoryview(b"abcdef").cast("B", (2, 3)), framed(BINARY, b"abcdef")),
            (memoryview(b"abcdefgh").cast("I"), framed(BINARY, b"abcdefgh")),
            (memoryview(bytearray(b"abc")), framed(BINARY, b"abc")),
        ],
    )
    def test_a_message(self, core, data, frame):
        server = core.Protocol()
        server.send(data)
        assert sent(server) == frame

    @pytest.mark.parametrize("size", [125, 126, 65535, 65536, 32 << 10, BATCH - 1, BATCH, 1 << 20])
    def test_of_any_size(self, core, client, size):
        side, other = core.Protocol(client=client), core.Protocol(client=not client)
        data = bytes(i & 0xFF for i in range(251)) * (size // 251 + 1)
        side.send(data[:size])
        assert told(side, other) == [data[:size]]
        side.send("x" * size)
        assert told(side, other) == ["x" * size]

    def test_subclasses_of_str_and_bytes(self, core):
        class Words(str):
            pass

        class Octets(bytes):
            pass

        server = core.Protocol(limits=Limits(queue=1 << 22))
        server.send(Words("a"))
        server.send(Octets(b"b"))
        server.send(Octets(bytes(1 << 20)))
        assert sent(server) == framed(TEXT, b"a") + framed(BINARY, b"b") + framed(BINARY, bytes(1 << 20))

    def test_what_changes_afterwards_is_sent_as_it_was(self, core):
        server = core.Protocol(limits=Limits(queue=1 << 22))
        for size in (3, 1 << 20):
            data = bytearray(size)
            server.send(data)
            server.send(memoryview(data)[:2])
            data[:] = b"x" * size
            assert b"x" not in sent(server)

    def test_what_is_large_is_not_copied(self, core):
        data = bytes(1 << 20)
        server = core.Protocol()
        server.send(data)
        assert any(piece is data for piece in server.take())

    @pytest.mark.parametrize("data", ["\ud800", "a" * 300 + "\udfff"])
    def test_what_is_no_text_is_refused_and_nothing_queued(self, core, data):
        server = core.Protocol()
        with pytest.raises(UnicodeEncodeError):
            server.send(data)
        assert not server.pending
        server.send("b")
        assert sent(server) == framed(TEXT, b"b")

    def test_keys_differ_and_are_the_sources_own(self, core):
        counter = itertools.count()
        client = core.Protocol(
            client=True, entropy=lambda size: bytes(next(counter) & 0xFF for _ in range(size))
        )
        keys = []
        for _ in range(1100):
            client.send(b"")
            keys.append(sent(client)[2:])
        assert keys[0] == bytes(range(4))
        assert b"".join(keys) == bytes(i & 0xFF for i in range(4400))

    @pytest.mark.parametrize("entropy", [lambda size: b"", lambda size: b"abc", lambda size: None])
    def test_a_source_that_gives_no_key_is_refused(self, core, entropy):
        client = core.Protocol(client=True, entropy=entropy)
        with pytest.raises((ValueError, TypeError)):
            client.send(b"abc")

    def test_compressed_from_the_minimum_on(self, core):
        codecs = [Agreement().codec(client=side, limits=Limits()) for side in (False, True)]
        server, client = core.Protocol(codec=codecs[0]), core.Protocol(client=True, codec=codecs[1])
        for text in ("a" * 63, "a" * 64, "ab" * 500, b"c" * 2000):
            server.send(text)
            frame = sent(server)
            assert bool(frame[0] & 0x40) == (len(text) >= 64)
            assert client.receive(frame) == [text]
        client.send(iter(["d" * 100, "e" * 100]))
        frame = sent(client)
        assert frame[0] == 0x41
        assert server.receive(frame) == ["d" * 100 + "e" * 100]


class TestPing:
    def test_is_answered_in_its_place(self, core):
        server = core.Protocol()
        events = server.receive(made(TEXT, b"a") + made(PING, b"p") + made(PONG, b"x"))
        assert events == ["a", Ping(b"p"), Pong(b"x")]
        server.send("first")
        server.answer(events[1])
        assert sent(server) == framed(TEXT, b"first") + framed(PONG, b"p")

    def test_carries_data(self, core, client):
        side, other = core.Protocol(client=client), core.Protocol(client=not client)
        side.ping(b"x" * 125)
        (event,) = told(side, other)
        other.answer(event)
        assert told(other, side) == [Pong(b"x" * 125)]
        with pytest.raises(ValueError, match="125 bytes at most"):
            side.ping(bytes(126))
        assert not side.pending

    def test_is_not_answered_where_nothing_is_read(self, core):
        server = core.Protocol(limits=Limits(queue=1000))
        for _ in range(1000):
            server.answer(Ping(bytes(125)))
        assert 1000 < server.queued < 1300

    def test_is_not_answered_once_closing(self, core):
        server = core.Protocol()
        server.close()
        server.answer(Ping(b"a"))
        assert sent(server) == bye(1000)


class TestSlow:
    def test_is_raised_past_the_limit_and_nothing_is_queued(self, core, client):
        side = core.Protocol(client=client, limits=Limits(queue=1000))
        side.send(bytes(900))
        side.send(bytes(200))
        queued = side.queued
        with pytest.raises(Slow) as caught:
            side.send(b"")
        assert (caught.value.buffered, caught.value.limit) == (queued, 1000)
        assert side.queued == queued
        sent(side)
        side.send(bytes(200))

    def test_one_message_more_may_wait_whatever_its_size(self, core, client):
        limits = Limits(queue=1000)
        side = core.Protocol(client=client, limits=limits)
        side.send(bytes(900))
        side.send(bytes(100_000))
        side.send(bytes(200))
        assert side.queued > limits.queue + 100_000
        with pytest.raises(Slow):
            side.send(b"")
        sent(side)
        side.send(bytes(1100))
        with pytest.raises(Slow):
            side.send(b"")

    def test_one_message_may_always_wait(self, core):
        server = core.Protocol(limits=Limits(queue=10))
        server.send(bytes(100_000))
        server.send(bytes(200_000))
        with pytest.raises(Slow):
            server.send(b"")

    def test_what_waits_behind_an_iterator_counts(self, core):
        server = core.Protocol(limits=Limits(queue=1000))
        server.send(iter([b"a"]))
        for _ in range(9):
            server.send(bytes(100))
        with pytest.raises(Slow):
            server.send(bytes(100))
        assert 1000 < server.queued <= 1100
        sent(server)
        assert server.queued == 0

    @pytest.mark.parametrize("data", [b"", lambda: iter([b""]), lambda: io.BytesIO(bytes(1 << 20))])
    def test_so_does_what_holds_little(self, core, data):
        """Neither empty messages nor iterators may wait without end."""
        server = core.Protocol(limits=Limits(queue=1000))
        server.send(iter([b"a"]))
        with contextlib.suppress(Slow):
            for _ in range(10_000):
                server.send(data() if callable(data) else data)
            pytest.fail("it was never too much")
        sent(server)
        assert server.queued == 0

    def test_an_iterator_is_not_begun(self, core):
        server = core.Protocol(limits=Limits(queue=10))
        server.send(bytes(100))
        items = iter([b"a", b"b"])
        with pytest.raises(Slow):
            server.send(items)
        assert next(items) == b"a"


class TestIterators:
    @pytest.mark.parametrize(
        ("data", "frames"),
        [
            (lambda: iter(["a", "b"]), framed(TEXT, b"a", final=False) + framed(CONTINUATION, b"b")),
            (
                lambda: iter([b"a", bytearray(b"b")]),
                framed(BINARY, b"a", final=False) + framed(CONTINUATION, b"b"),
            ),
            (lambda: (x for x in [memoryview(b"abc")[::2]]), framed(BINARY, b"ac")),
            (lambda: iter(()), framed(BINARY)),
            (lambda: iter([""]), framed(TEXT)),
            (lambda: io.BytesIO(b"abc"), framed(BINARY, b"abc")),
            (lambda: io.StringIO("ä€"), framed(TEXT, "ä€".encode())),
            (lambda: io.BytesIO(), framed(BINARY)),
        ],
    )
    def test_are_one_message(self, core, data, frames):
        server = core.Protocol()
        server.send(data())
        assert sent(server) == frames

    def test_files_go_a_piece_at_a_time(self, core, tmp_path):
        path = tmp_path / "file"
        path.write_bytes(bytes(i & 0xFF for i in range(1_000_000)))
        server, client = core.Protocol(), core.Protocol(client=True)
        with path.open("rb") as file:
            server.send(file)
            first = server.take()
            assert file.tell() < 500_000
            events = client.receive(b"".join(first)) + told(server, client)
        assert events == [path.read_bytes()]

    def test_endless_ones_are_taken_as_there_is_room(self, core):
        server = core.Protocol()
        taken = itertools.count()
        server.send(bytes(1000) for _ in taken)
        for _ in range(3):
            assert sum(map(len, server.take())) < BATCH + 2000
        assert next(taken) < 3 * BATCH // 1000 + 4
        assert server.pending

    def test_what_is_sent_meanwhile_waits_and_pings_do_not(self, core):
        server, client = core.Protocol(), core.Protocol(client=True)
        server.send(iter(["a", "b"]))
        server.send("second")
        server.send(iter([b"third"]))
        server.send("fourth")
        server.ping(b"p")
        server.close(1001, "bye")
        events = told(server, client)
        assert events == [Ping(b"p"), "ab", "second", b"third", "fourth", Close(1001, "bye")]

    @pytest.mark.parametrize("items", [["a", "b"], (b"a",), {"a"}])
    def test_several_messages_are_not_one(self, core, items):
        server = core.Protocol()
        with pytest.raises(TypeError, match=r"; iter\(…\) makes one message of its items$"):
            server.send(items)
        assert not server.pending

    @pytest.mark.parametrize("data", [5, None, {"a": 1}, [5], [None, "a"], [["a"]], range(3)])
    def test_what_is_none_is_refused(self, core, data):
        server = core.Protocol()
        with pytest.raises(TypeError, match=r"^a message is str"):
            server.send(data)
        assert not server.pending
        server.send("fine")
        assert sent(server) == framed(TEXT, b"fine")

    @pytest.mark.parametrize("items", [[5], [None, "a"], [["a"]]])
    def test_a_wrong_first_item_is_refused(self, core, items):
        server = core.Protocol()
        with pytest.raises(TypeError, match=r"^a binary message has a part that is"):
            server.send(iter(items))
        assert not server.pending
        server.send("fine")
        assert sent(server) == framed(TEXT, b"fine")

    @pytest.mark.parametrize("items", [["a", b"b"], [b"a", "b"], ["a", None], [b"a", 5], ["a", "\ud800"]])
    def test_a_wrong_item_later_fails_the_connection(self, core, items):
        server = core.Protocol()
        server.send(iter(items))
        server.send("never")
        data = sent(server)
        assert data.endswith(bye(1011, "a message could not be read to its end"))
        assert b"never" not in data
        assert server.error.code == 1011
        assert isinstance(server.error.__cause__, TypeError | UnicodeEncodeError)

    def test_one_that_raises_at_once_raises_where_it_is_sent(self, core):
        def items():
            raise LookupError
            yield

        server = core.Protocol()
        with pytest.raises(LookupError):
            server.send(items())
        assert not server.pending
        assert server.state == OPEN

    @pytest.mark.parametrize("closing", [False, True])
    def test_one_that_raises_later_fails_the_connection(self, core, closing):
        def items():
            yield "a"
            yield "b"
            raise LookupError("gone")

        server, client = core.Protocol(), core.Protocol(client=True)
        server.send(items())
        if closing:
            server.close()
        events = told(server, client)
        assert events == [Close(1011, "a message could not be read to its end")]
        assert isinstance(server.error.__cause__, LookupError)
        assert server.state == CLOSING
        with pytest.raises(Closed):
            server.send("more")

    @pytest.mark.parametrize("lock", [threading.Lock, threading.RLock])
    def test_they_may_use_the_connection_and_no_lock_is_held(self, core, lock):
        server, client = core.Protocol(), core.Protocol(client=True)
        server.guard = lock()

        def free():
            found = []

            def look():
                found.append(server.guard.acquire(timeout=5))
                server.guard.release()

            thread = threading.Thread(target=look)
            thread.start()
            thread.join()
            return found[0]

        def items():
            assert free()
            server.send("first")
            yield "a"
            assert free()
            server.send("behind")
            server.ping()
            yield "b"

        server.send(items())
        events = told(server, client)
        assert events == ["first", Ping(b""), "ab", "behind"]

    @pytest.mark.parametrize("lock", [threading.Lock, threading.RLock])
    def test_one_that_raises_does_not_block_with_a_guard(self, core, lock):
        class Woken(core.Protocol):
            def wake(self):
                with self.guard:
                    pass

        server = Woken()
        server.guard = lock()
        server.send(iter(["a", 5]))
        assert sent(server).endswith(bye(1011, "a message could not be read to its end"))

    def test_dropped_ones_are_closed(self, core):
        ended = []

        def items():
            try:
                while True:
                    yield b"a"
            finally:
                ended.append(True)

        server = core.Protocol()
        server.send(items())
        server.send(items())
        server.end()
        assert ended == [True, True]
        assert server.queued == 0


class TestClosing:
    def test_ours_first(self, core, client):
        side, other = core.Protocol(client=client), core.Protocol(client=not client)
        side.send("last")
        side.close(3000, "why")
        side.close(1001)
        assert side.state == CLOSING
        with pytest.raises(Closed, match="3000 why"):
            side.send("more")
        with pytest.raises(Closed):
            side.ping()
        events = told(side, other)
        assert events == ["last", Close(3000, "why")]
        other.answer(events[1])
        assert other.state == CLOSING
        assert (other.close_sent, other.close_received) == (events[1], events[1])
        (answer,) = told(other, side)
        side.answer(answer)
        assert answer == Close(3000, "why")
        assert not side.pending
        assert side.close_received == answer

    def test_without_a_code(self, core):
        server = core.Protocol()
        (event,) = server.receive(made(CLOSE))
        server.answer(event)
        assert event == Close(1005, "")
        assert sent(server) == bye()

    def test_both_at_once(self, core):
        server, client = core.Protocol(), core.Protocol(client=True)
        server.close(1001)
        client.close(3000)
        from_server, from_client = sent(server), sent(client)
        (event,) = server.receive(from_client)
        server.answer(event)
        (event,) = client.receive(from_server)
        client.answer(event)
        assert not server.pending
        assert not client.pending
        assert (server.close_received.code, client.close_received.code) == (3000, 1001)

    def test_messages_still_come_after_ours(self, core):
        server = core.Protocol()
        server.close()
        assert server.receive(made(TEXT, b"late")) == ["late"]

    @pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 2999, 5000, -1, 1 << 70])
    def test_a_code_that_cannot_be_sent_is_refused(self, core, code):
        server = core.Protocol()
        with pytest.raises(ValueError, match=f"the close code {code} cannot be sent: 1000 to 1003, "):
            server.close(code)
        assert server.state == OPEN

    def test_a_long_reason_is_refused(self, core):
        server = core.Protocol()
        with pytest.raises(ValueError, match="123 bytes at most"):
            server.close(1000, "ä" * 62)
        server.close(1000, "ä" * 61)
        assert sent(server) == bye(1000, "ä" * 61)

    @pytest.mark.parametrize("reason", [None, 5, b"a"])
    def test_a_reason_is_text(self, core, reason):
        with pytest.raises((TypeError, AttributeError)):
            core.Protocol().close(1000, reason)

    def test_once_ended_there_is_nothing_more(self, core):
        side = core.Protocol()
        side.send("a")
        side.end()
        assert side.state == CLOSED
        assert side.queued == 0
        assert side.take() == []
        assert side.receive(made(TEXT, b"a")) == []
        assert side.get_buffer() is None
        assert side.advance(5) == []
        with pytest.raises(Closed, match="1006"):
            side.send("a")
        with pytest.raises(Closed):
            side.send(iter("a"))
        side.close()
        side.answer(Ping(b""))
        side.answer(Close(1000, ""))
        side.fail(ProtocolError(1002, "late"))
        assert not side.pending

    def test_once_ended_it_holds_no_codec(self, core):
        """zlib's memory is not kept until the application lets go of the connection."""
        codec = Agreement().codec(client=False, limits=Limits())
        before = sys.getrefcount(codec)
        side = core.Protocol(codec=codec)
        side.send("a" * 100)
        side.receive(made(TEXT, length=100, bits=0x40))
        assert sys.getrefcount(codec) > before
        side.end()
        assert sys.getrefcount(codec) == before

    def test_once_ended_in_the_middle_of_a_message(self, core):
        side = core.Protocol()
        side.receive(made(BINARY, length=1 << 20))
        assert side.get_buffer() is not None
        side.end()
        assert side.get_buffer() is None
        assert side.advance(5) == []


class TestFailing:
    def test_what_was_queued_is_dropped(self, core):
        server = core.Protocol()
        server.send("queued")
        events = server.receive(made(TEXT, b"a") + made(3) + made(TEXT, b"b"))
        assert events == ["a"]
        assert server.error.code == 1002
        assert sent(server) == bye(1002, "an unknown opcode: 3")
        assert server.receive(made(TEXT, b"c")) == []

    def test_its_frame_takes_the_place_of_a_close_frame_that_was_not_sent(self, core):
        server = core.Protocol()
        server.send(iter(["a", "b"]))
        server.close()
        server.receive(made(3))
        assert sent(server) == bye(1002, "an unknown opcode: 3")

    def test_no_second_close_frame_follows_one_that_was(self, core):
        server = core.Protocol()
        server.close()
        assert sent(server) == bye(1000)
        server.receive(made(3))
        assert server.error.code == 1002
        assert not server.pending

    def test_a_long_reason_is_cut_between_characters(self, core):
        server = core.Protocol()
        server.fail(ProtocolError(1002, "x" + "ä" * 100))
        assert sent(server) == bye(1002, "x" + "ä" * 61)

    def test_a_direct_payload_that_is_wrong(self, core):
        server = core.Protocol()
        server.receive(made(TEXT, length=1 << 20))
        server.get_buffer()[:1] = b"\xfe"
        server.advance(1)
        assert server.error.code == 1007
        assert server.get_buffer() is None
        assert server.advance(1) == []

    def test_the_error_keeps_nothing_alive(self, core):
        class Mine(core.Protocol):
            pass

        gc.disable()
        try:
            for data in (made(3), made(TEXT, b"\xff"), made(BINARY, length=1 << 22), b"", made(CLOSE)):
                side = Mine(limits=Limits(message=1 << 21))
                side.receive(data)
                error, gone = side.error, weakref.ref(side)
                side.end()
                del side
                assert gone() is None
                assert error is None or error.__traceback__ is error.__context__ is None
        finally:
            gc.enable()


class TestWaking:
    @pytest.fixture
    def server(self, core):
        class Woken(core.Protocol):
            woken = 0

            def wake(self):
                self.woken += 1

        return Woken()

    def test_once_until_it_is_taken(self, server):
        for _ in range(3):
            server.send("a")
            server.ping()
        assert server.woken == 1
        server.take()
        server.send("a")
        assert server.woken == 2

    def test_not_while_corked_until_a_batch_is_there(self, server):
        server.corked = True
        server.send("a")
        server.ping()
        assert server.woken == 0
        assert server.pending
        while server.queued < BATCH:
            assert server.woken == 0
            server.send(bytes(10_000))
        assert server.woken == 1

    def test_by_an_iterator_a_close_an_answer_and_a_failure(self, server):
        for act in (
            lambda: server.send(iter(["a"])),
            lambda: server.answer(Ping(b"")),
            lambda: server.close(),
            lambda: server.fail(ProtocolError(1002, "a")),
        ):
            woken = server.woken
            act()
            assert server.woken == woken + (not server.error)
            sent(server)

    def test_again_after_what_it_was_woken_for_was_dropped(self, server):
        server.send("a")
        server.discard()
        assert not server.pending
        server.send("b")
        assert server.woken == 2

    def test_not_for_nothing(self, server):
        server.answer(Pong(b""))
        server.close()
        sent(server)
        server.answer(Close(1000, ""))
        server.close()
        assert server.woken == 1


class TestThreads:
    def test_messages_of_many_stay_whole(self, core):
        client, server = core.Protocol(client=True, limits=Limits(queue=1 << 30)), core.Protocol()
        client.guard = threading.Lock()
        start = threading.Barrier(5)

        def speak(name):
            start.wait()
            for number in range(300):
                client.send(f"{name} {number}")
                client.ping(name.encode())
                if number % 50 == 0:
                    client.send(iter([f"{name} {number}", " in ", "parts"]))

        threads = [threading.Thread(target=speak, args=(name,)) for name in "abcd"]
        for thread in threads:
            thread.start()
        start.wait()
        data = b""
        while any(thread.is_alive() for thread in threads) or client.pending:
            data += b"".join(client.take())
        for thread in threads:
            thread.join()
        events = server.receive(data)
        assert server.error is None
        messages = [event for event in events if isinstance(event, str)]
        for name in "abcd":
            mine = [message for message in messages if message.startswith(name) and "parts" not in message]
            assert mine == [f"{name} {number}" for number in range(300)]
        assert sum("in parts" in message for message in messages) == 24

    def test_only_one_close_frame_is_sent(self, core):
        for _ in range(20):
            server = core.Protocol()
            server.guard = threading.Lock()
            start = threading.Barrier(4)

            def close(server=server, start=start):
                start.wait()
                with contextlib.suppress(Closed):
                    server.send("a")
                server.close()

            threads = [threading.Thread(target=close) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            data = sent(server)
            assert data.count(bye(1000)) == 1
            assert data.endswith(bye(1000))


NAMES_OF_THEIR_OWN = [
    "_size",
    "_close",
    "_send",
    "_out",
    "_parser",
    "_codec",
    "_keys",
    "_key",
    "_queue",
    "_buffer",
    "_filled",
    "_room",
    "_told",
    "_said",
    "_source",
    "_behind",
    "_waiting",
    "_take",
    "_pull",
    "_write",
    "_copy",
    "_reserve",
    "_spill",
    "_tell",
    "_drop",
    "_wait",
    "_stream",
    "_message",
    "_follow",
    "_events",
    "_reader",
    "_require_open",
    "_require_room",
    "_minimum",
    "_entropy",
    "_usual",
    "_key_at",
    "__size",
    "__close",
    "__send",
    "__out",
    "__take",
]


class TestSubclasses:
    def test_may_have_names_of_their_own(self, core, client):
        mine = type("Mine", (core.Protocol,), dict.fromkeys(NAMES_OF_THEIR_OWN, "mine"))
        side, other = mine(client=client), core.Protocol(client=not client)
        for name in NAMES_OF_THEIR_OWN:
            setattr(side, name, "mine too")
        side.send("a")
        side.send(iter([b"b", b"c"]))
        side.send(bytes(1 << 19))
        side.ping(b"p")
        other.send("hello")
        assert told(side, other) == ["a", Ping(b"p"), b"bc", bytes(1 << 19)]
        assert told(other, side) == ["hello"]
        side.close()
        assert told(side, other) == [Close(1000, "")]
        assert all(getattr(side, name) == "mine too" for name in NAMES_OF_THEIR_OWN)

    def test_that_forget_to_begin_are_told(self, core):
        class Forgetful(core.Protocol):
            def __init__(self):
                pass

        side = Forgetful()
        for act in (
            lambda: side.receive(made(TEXT, b"a")),
            lambda: side.get_buffer(),
            lambda: side.advance(1),
            lambda: side.end(),
            lambda: side.send("a"),
        ):
            with pytest.raises((RuntimeError, AttributeError, Closed)):
                act()


# What can be done with one side, as (name, argument).
acts = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.text(max_size=200)),
        st.tuples(st.just("send"), st.binary(max_size=200)),
        st.tuples(st.just("send"), st.sampled_from([b"x" * 40_000, "y" * 300_000])),
        st.tuples(
            st.just("items"), st.lists(st.sampled_from(["a", "b" * 3000, b"c", b"", "", None]), max_size=4)
        ),
        st.tuples(st.just("ping"), st.binary(max_size=130)),
        st.tuples(st.just("close"), st.sampled_from([1000, 3000, 1005])),
        st.tuples(st.just("fail"), st.sampled_from([1002, 1011])),
        st.tuples(st.just("take"), st.none()),
        st.tuples(st.just("discard"), st.none()),
        st.tuples(st.just("cork"), st.booleans()),
        st.tuples(
            st.just("receive"),
            st.sampled_from(
                [
                    made(TEXT, b"in"),
                    made(PING, b"p"),
                    made(CLOSE, b"\x03\xe8"),
                    made(TEXT, b"\xff"),
                    made(BINARY, b"half")[:7],
                    framed(TEXT, b"in"),
                    framed(PING, b"p"),
                    framed(CLOSE, b"\x0b\xb8why"),
                ]
            ),
        ),
        st.tuples(st.just("end"), st.none()),
    ),
    max_size=25,
)


class Recorder:
    """Does what it is told with one side, and writes down all that can be seen."""

    def __init__(self, core, client, deflated):
        recorder = self

        class Side(core.Protocol):
            def wake(self):
                recorder.seen.append("woken")

        self.seen = []
        counter = itertools.count()
        codec = Agreement().codec(client=client, limits=Limits()) if deflated else None
        self.side = Side(
            client=client,
            limits=Limits(queue=100_000),
            codec=codec,
            entropy=lambda size: bytes(next(counter) * 31 & 0xFF for _ in range(size)),
        )

    def act(self, name, argument):
        side = self.side
        try:
            self.seen.append(self.result(name, argument))
        except (ValueError, TypeError, Closed, Slow) as error:
            self.seen.append((type(error), str(error)))
        self.seen.append(
            (side.state, side.pending, side.queued, side.error and (side.error.code, side.error.reason))
        )
        self.seen.append((side.close_sent, side.close_received, side.corked, side.client))

    def result(self, name, argument):
        side = self.side
        match name:
            case "items":
                return side.send(iter(argument))
            case "take":
                return b"".join(side.take())
            case "receive":
                events = side.receive(argument)
                for event in events:
                    side.answer(event)
                return events
            case "fail":
                return side.fail(ProtocolError(argument, "failed"))
            case "cork":
                side.corked = argument
                return None
            case "discard" | "end":
                return getattr(side, name)()
            case _:
                return getattr(side, name)(argument)


class TestBothAreAlike:
    @given(acts, st.booleans(), st.booleans())
    def test_in_all_they_do(self, both, acts, client, deflated):
        first, second = (Recorder(core, client, deflated) for core in both)
        for name, argument in [*acts, ("take", None), ("take", None)]:
            first.act(name, argument)
            second.act(name, argument)
            assert first.seen == second.seen

    @settings(max_examples=50)
    @given(
        st.lists(st.one_of(st.text(max_size=500), st.binary(max_size=500)), max_size=10),
        st.booleans(),
        st.lists(st.integers(0, 1 << 16), max_size=5),
    )
    def test_each_understands_the_other(self, both, messages, client, cuts):
        for ours, theirs in (both, reversed(both)):
            side, other = ours.Protocol(client=client), theirs.Protocol(client=not client)
            for message in messages:
                side.send(message)
            events = [event for piece in parts(sent(side), cuts) for event in other.receive(piece)]
            assert events == messages

    def test_in_what_is_public(self, both):
        python, cython = (
            {name for name in dir(core.Protocol()) if not name.startswith("_")} for core in both
        )
        assert python == cython

    def test_in_docstrings_and_signatures(self, both):
        for name in ("", *(name for name in dir(both[0].Protocol) if not name.startswith("_"))):
            ours, theirs = (getattr(core.Protocol, name) if name else core.Protocol for core in both)
            if name and not callable(ours):
                continue
            assert ours.__doc__.splitlines()[0] == theirs.__doc__.splitlines()[0]
            if name:
                mine, yours = (
                    [(p.name, p.kind, p.default) for p in inspect.signature(method).parameters.values()]
                    for method in (ours, theirs)
                )
                assert mine == yours

    def test_in_what_they_are_made_with(self, both):
        names = set(inspect.signature(both[0].Protocol).parameters)
        assert names == {"client", "limits", "codec", "stream", "entropy"}
        for core in both:
            core.Protocol(client=True, limits=Limits(), codec=None, stream=True, entropy=bytes)
            with pytest.raises(TypeError):
                core.Protocol(True)
            with pytest.raises(TypeError):
                core.Protocol(other=1)


@pytest.mark.parametrize("size", [1000, 70_000, 1 << 20])
def test_what_does_not_let_itself_be_compressed_has_the_limit_of_what_does(core, size):
    limits = Limits(message=size)
    sender = core.Protocol(client=True, codec=Agreement().codec(client=True, limits=limits))
    receiver = core.Protocol(codec=Agreement().codec(client=False, limits=limits), limits=limits)
    noise = random.Random(size).randbytes(size)
    sender.send(noise)
    assert receiver.receive(b"".join(sender.take())) == [noise]
    sender.send(noise + b"!")
    assert receiver.receive(b"".join(sender.take())) == []
    assert receiver.error.code == 1009
