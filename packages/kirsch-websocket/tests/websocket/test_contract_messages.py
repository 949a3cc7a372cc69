"""Messages, whole and in chunks, read slowly or not at all: the same with every provider."""

import contextlib
import io
import os
import socket
import threading
import time

import pytest
from tests.deadline import eventually
from tests.websocket import wire
from tests.websocket.contract import LARGE, LIMITS, PLAIN, Told, of_sizes, still
from tests.websocket.echoes import Echo, echo, echo_async
from tests.websocket.serving import PATIENCE
from tests.websocket.wire import closing, masked

from kirsch.websocket import ClientOptions, Close, Closed, Deflate, Limits, Ping, Slow, WebSocket
from kirsch.websocket.core.protocol import BATCH
from kirsch.websocket.threaded import connect

# The largest that comes with one read.
READ = 256 << 10


@pytest.fixture(params=["callbacks", "function"])
def application(request, provider):
    """An echo."""
    if request.param == "callbacks":
        return Echo
    return echo_async if provider.looped else echo


class TestEcho:
    @of_sizes
    def test_of_every_size_and_of_many_at_once(self, provider, way, application, sizes):
        mine, theirs = way
        with (
            provider.serve(application, limits=LIMITS, **mine) as server,
            wire.dial(server.address, **theirs) as peer,
        ):
            for size in sizes:
                for message in ("é" * (size // 2), os.urandom(size)):
                    peer.send(message)
                    assert peer.next() == message
            numbers = [str(number) for number in range(3000)]
            peer.send(*numbers)
            assert [peer.next() for _ in numbers] == numbers

    @of_sizes
    def test_compressed(self, provider, application, sizes):
        options = ClientOptions(deflate=Deflate(), limits=LIMITS, proxy=None)
        with (
            provider.serve(application, limits=LIMITS) as server,
            connect(server.url, options=options) as ws,
        ):
            for size in sizes:
                # It compresses well, and not beyond the limit.
                text = ("".join(f"{number:07x}" for number in range(512)) * (size // 3584 + 1))[:size]
                for message in (text, text.encode()):
                    ws.send(message)
                    assert ws.recv(PATIENCE) == message

    def test_of_fragments_and_pings_between_them(self, provider, application):
        with provider.serve(application) as server, wire.dial(server.address) as peer:
            peer.sock.sendall(masked(b"one", 0x02) + masked(b"there?", 0x89) + masked(b"two", 0x80))
            assert peer.next().data == b"there?"
            assert peer.next() == b"onetwo"
            peer.send(iter(["one ", "two ", "three"]), iter([b"x" * 50_000] * 20))
            assert peer.next() == "one two three"
            assert peer.next() == b"x" * 1_000_000

    def test_of_several_clients(self, provider, application):
        """More than there are threads."""
        with provider.serve(application) as server:
            peers = [wire.dial(server.address) for _ in range(50)]
            for number, peer in enumerate(peers):
                peer.send(f"{number}" * 1000)
            for number, peer in enumerate(peers):
                assert peer.next() == f"{number}" * 1000
                peer.close()
                assert peer.next() == Close(1000, "")
                peer.sock.close()
            eventually(lambda: server.connections == [])


class TestStreams:
    def test_both_ways(self, provider):
        async def back(ws):
            async for message in ws:
                pieces = [piece async for piece in message]
                assert all(isinstance(piece, str if message.text else bytes) for piece in pieces)
                assert all(len(piece) <= 1 << 18 for piece in pieces)
                ws.send(iter(pieces or [""]) if message.text else io.BytesIO(b"".join(pieces)))

        limits = Limits(message=None, queue=LARGE)
        with (
            provider.serve(provider.function(back), stream=True, limits=limits) as server,
            wire.dial(server.address) as peer,
        ):
            for size in (0, 10, 200_000, 3_000_000):
                text = "é" * (size // 2)
                peer.send(text)
                assert peer.next() == text
                peer.send(iter([text[:100].encode(), text[100:].encode()]))
                assert peer.next() == text.encode()

    def test_chunks_come_before_the_message_is_whole_and_the_rest_is_skipped(self, provider):
        async def first(ws):
            async for message in ws:
                async for chunk in message:
                    ws.send(chunk[:5])
                    break

        limits = Limits(message=None, inbox=10_000)
        with (
            provider.serve(provider.function(first), stream=True, limits=limits) as server,
            wire.dial(server.address) as peer,
        ):
            peer.sock.sendall(masked(b"one", 0x02))
            assert peer.next() == b"one"
            peer.sock.sendall(masked(bytes(3_000_000), 0x00) + masked(b"three", 0x80) + masked(b"four"))
            assert peer.next() == b"four"

    def test_what_was_skipped_has_no_end(self, provider):
        async def read(ws):
            first = await ws.recv()
            ws.send("begun")
            second = await ws.recv()
            assert [bytes(chunk) async for chunk in second] == [b"two"]
            with pytest.raises(RuntimeError, match="was dropped when the next one was asked for"):
                [chunk async for chunk in first]
            ws.send("told")

        with (
            provider.serve(provider.function(read), stream=True) as server,
            wire.dial(server.address) as peer,
        ):
            peer.sock.sendall(masked(b"one", 0x01))
            assert peer.next() == "begun"
            peer.sock.sendall(masked(b"more", 0x80) + masked(b"two"))
            assert peer.next() == "told"

    @pytest.mark.parametrize(("end", "code"), [(closing(1000), 1000), (None, 1006)])
    def test_of_a_message_that_does_not_end(self, provider, end, code):
        told = Told()

        async def read(ws):
            async for message in ws:
                try:
                    async for chunk in message:
                        told.put(chunk)
                except Closed as closed:
                    told.put(closed.code)
                    raise

        with (
            provider.serve(provider.function(read), stream=True) as server,
            wire.dial(server.address) as peer,
        ):
            peer.sock.sendall(masked(b"one", 0x02))
            assert told.next() == b"one"
            if end is None:
                peer.sock.close()
            else:
                peer.sock.sendall(end)
            assert told.next() == code

    @pytest.mark.slow
    def test_reading_stops_while_nobody_takes_chunks(self, provider):
        go, there = threading.Event(), Told()

        async def late(ws):
            async for message in ws:
                there.put(ws)
                await provider.wait(go)
                ws.send(str(sum([len(chunk) async for chunk in message])))

        limits = Limits(message=None, inbox=100_000)
        with (
            provider.serve(provider.function(late), stream=True, limits=limits, policy=PLAIN) as server,
            wire.dial(server.address) as peer,
            peer.sending(masked(bytes(LARGE))),
        ):
            ws = there.next()
            assert still(ws.waiting, 100_000) <= 100_000 + READ
            go.set()
            assert peer.next() == str(LARGE)

    def test_an_iterator_is_asked_as_there_is_room(self, provider):
        asked = 0

        def pieces():
            nonlocal asked
            while asked < 300:
                asked += 1
                yield bytes(100_000)

        async def send(ws):
            ws.send(pieces())
            ws.send("behind it")
            async for _ in ws:
                pass

        with (
            provider.serve(provider.function(send), policy=PLAIN) as server,
            wire.dial(server.address, stream=True) as peer,
        ):
            assert still(lambda: asked) < 300
            size = 0
            while not (chunk := peer.next()).final:
                size += len(chunk.data)
            assert size + len(chunk.data) == 30_000_000
            assert peer.next().data == "behind it"

    def test_an_iterator_that_fails(self, provider, caplog):
        def pieces():
            yield "one"
            yield "two"
            raise LookupError("of mine")

        async def send(ws):
            ws.send(pieces())
            async for _ in ws:
                pass

        with (
            provider.serve(provider.function(send)) as server,
            wire.dial(server.address, stream=True) as peer,
        ):
            while not isinstance(event := peer.next(), Close):
                pass
            assert event.code == 1011
        assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [LookupError]


class TestInbox:
    """Messages that nobody takes stay with who sends them."""

    def test_reading_stops_while_it_is_full_and_goes_on(self, provider):
        go, there, seen = threading.Event(), Told(), []

        async def late(ws):
            there.put(ws)
            await provider.wait(go)
            async for message in ws:
                seen.append(message)

        total = 2000
        with (
            provider.serve(provider.function(late), limits=Limits(inbox=100_000)) as server,
            wire.dial(server.address, small=True) as peer,
        ):
            data = masked(bytes(10_000)) * total + closing(1000)
            sent = peer.send_until_stuck(data)
            # What is over it came with one read.
            assert still(there.next().waiting, 100_000) <= 100_000 + READ + 10_000
            go.set()
            with peer.sending(data[sent:]):
                assert peer.next().code == 1000
        assert seen == [bytes(10_000)] * total

    def test_full_does_not_keep_the_answer_to_a_close_away(self, provider):
        go, over, ends = threading.Event(), threading.Event(), Told()

        async def close(ws):
            await provider.wait(go)
            ws.close(4000, "enough")
            # It takes no message for as long as that takes, and what has come afterwards.
            await provider.wait(over)
            taken = 0
            try:
                while True:
                    taken += len(await ws.recv())
            except Closed as closed:
                ends.put((closed.code, closed.reason, taken))

        data = masked(bytes(10_000)) * 1000 + closing(4000, b"enough")
        limits = Limits(inbox=100_000, close_timeout=10 * PATIENCE)
        with (
            provider.serve(provider.function(close), limits=limits) as server,
            wire.dial(server.address, small=True) as peer,
        ):
            sent = peer.send_until_stuck(data)
            go.set()
            with peer.sending(data[sent:]):
                assert peer.next() == Close(4000, "enough")
                assert peer.next() is None
            over.set()
            code, reason, taken = ends.next()
            assert (code, reason) == (4000, "enough")
            # Some reads more may have been on their way.
            assert 100_000 < taken < len(data) // 2

    def test_full_does_not_keep_the_end_away_when_the_function_fails(self, provider, caplog):
        go = threading.Event()

        async def fail(ws):
            await provider.wait(go)
            for _ in range(10):
                await ws.recv()
            raise LookupError("of mine")

        data = masked(bytes(10_000)) * 1000
        with (
            provider.serve(provider.function(fail), limits=Limits(inbox=100_000)) as server,
            wire.dial(server.address, small=True) as peer,
        ):
            sent = peer.send_until_stuck(data)
            go.set()
            with peer.sending(data[sent:]):
                assert peer.next().code == 1011
            peer.sock.shutdown(socket.SHUT_WR)
            assert peer.ended()
        assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [LookupError]

    @pytest.mark.parametrize("stream", [False, True], ids=["messages", "chunks"])
    def test_what_comes_after_our_close_is_bounded(self, provider, stream):
        go, there = threading.Event(), Told()

        async def close(ws):
            ws.close()
            there.put(ws)
            await provider.wait(go)

        with (
            provider.serve(provider.function(close), limits=Limits(inbox=100_000), stream=stream) as server,
            wire.dial(server.address) as peer,
        ):
            ws = there.next()
            peer.sock.sendall(masked(bytes(10_000)) * 1000 + closing(1000))
            assert peer.next().code == 1000
            assert peer.ended()
            assert ws.waiting() <= 100_000 + READ + 10_000
            go.set()

    def test_full_of_what_came_compressed(self, provider):
        """What waits is counted as it is, not as it came."""
        go, there = threading.Event(), Told()
        total = 300

        async def late(ws):
            there.put(ws)
            await provider.wait(go)
            async for message in ws:
                ws.send(str(len(message)))

        options = ClientOptions(limits=LIMITS, proxy=None, deflate=Deflate())
        with (
            provider.serve(provider.function(late), limits=Limits(inbox=100_000)) as server,
            connect(server.url, options=options) as ws,
        ):
            theirs = there.next()
            for _ in range(total):
                ws.send(os.urandom(2000) * 2)
            assert still(theirs.waiting, 40_000) < total * 4000
            go.set()
            assert [ws.recv(PATIENCE) for _ in range(total)] == ["4000"] * total

    def test_who_is_not_read_is_not_taken_for_dead(self, provider):
        """Nor who answers no ping because a callback blocks, where one may."""
        go, begun = threading.Event(), threading.Event()

        async def behind(ws):
            await provider.wait(go)
            async for message in ws:
                ws.send(str(len(message)))

        async def block(ws):
            begun.set()
            await provider.wait(go)
            ws.send("done")

        class Blocking(WebSocket):
            def received_message(self, message):
                provider.function(block)(self)

        paths = {"/function": provider.function(behind), "/class": Blocking}
        limits = Limits(inbox=1000, ping_interval=0.05, ping_timeout=0.5)
        # Messages right behind the request: nobody has the time to be silent.
        with provider.serve(paths, limits=limits) as server:
            peers = {}
            for path in ("/function",) if provider.looped else paths:
                request = wire.REQUEST.replace(b" / ", f" {path} ".encode())
                peers[path] = wire.dial(server.address, request + masked(bytes(2000)) * 3)
            # For longer than a ping is waited for it is not ended. With threads it may be pinged, where its
            # messages are read late.
            until = time.monotonic() + 0.8
            for peer in peers.values():
                while (left := until - time.monotonic()) > 0:
                    peer.sock.settimeout(left)
                    with contextlib.suppress(TimeoutError):
                        event = peer.next()
                        assert isinstance(event, Ping)
                        assert provider.name in ("threaded", "cherrypy", "wsgi")
                        peer.answer(event)
                peer.sock.settimeout(PATIENCE)
            go.set()
            for path, peer in peers.items():
                while isinstance(event := peer.next(), Ping):
                    pass
                assert event == ("2000" if path == "/function" else "done")
                peer.sock.close()


class TestWrites:
    def test_answers_to_what_came_together_do_not_wait_for_a_slow_function(self, provider):
        free = threading.Event()

        async def handler(ws):
            async for message in ws:
                ws.send(message)
                if message == "block":
                    await provider.wait(free)

        with provider.serve(provider.function(handler)) as server, wire.dial(server.address) as peer:
            peer.send("one", "block", "two")
            assert [peer.next(), peer.next()] == ["one", "block"]
            free.set()
            assert peer.next() == "two"

    def test_who_sends_more_than_is_read_is_told_and_can_wait(self, provider, ssl):
        told = Told()

        async def handler(ws):
            sent = 0
            try:
                while True:
                    ws.send(bytes(50_000))
                    sent += 1
            except Slow as slow:
                told.put((sent, slow.buffered, ws.buffered))
            await ws.drain()
            told.put(ws.buffered)
            ws.send("drained")

        limits = Limits(queue=1 << 20)
        with (
            provider.serve(provider.function(handler), limits=limits, policy=PLAIN, ssl=ssl[0]) as server,
            wire.dial(server.address, ssl=ssl[1]) as peer,
        ):
            sent, buffered, after = told.next()
            # TLS has two of what is taken at a time in its hands; of messages two are more than the limit.
            for waiting in (buffered, after):
                assert limits.queue * 8 // 10 < buffered
                assert waiting <= limits.queue + 2 * BATCH + 110_000
            for _ in range(sent):
                assert peer.next() == bytes(50_000)
            assert told.next() <= limits.queue // 4
            assert peer.next() == "drained"

    def test_one_message_may_be_larger_than_the_queue(self, provider, ssl):
        told = Told()

        async def handler(ws):
            ws.send(bytes(LARGE))
            # What the wire has taken is in no queue: one more may wait then, but not two.
            more = 0
            try:
                while True:
                    ws.send(bytes(1100))
                    more += 1
            except Slow:
                told.put(more)
            await ws.drain()
            ws.send(b"x")

        with (
            provider.serve(
                provider.function(handler), limits=Limits(queue=1000), policy=PLAIN, ssl=ssl[0]
            ) as server,
            wire.dial(server.address, ssl=ssl[1]) as peer,
        ):
            more = told.next()
            assert more < 2
            assert peer.next() == bytes(LARGE)
            for _ in range(more):
                assert peer.next() == bytes(1100)
            assert peer.next() == b"x"

    def test_who_does_not_read_is_not_read_and_can_close(self, provider):
        told = Told()

        class Loud(WebSocket):
            count = most = 0
            slow = False

            def received_message(self, message):
                Loud.count += 1
                try:
                    self.send(bytes(10_000))
                except Slow:
                    Loud.slow = True
                Loud.most = max(Loud.most, self.buffered)

            def closed(self, code, reason):
                told.put((code, reason))

        total = 2500
        limits = Limits(queue=1 << 20, ping_interval=None)
        data = masked(bytes(10_000)) * total + closing(4000, b"bye")
        with (
            provider.serve(Loud, limits=limits, policy=PLAIN) as server,
            wire.dial(server.address, small=True) as peer,
        ):
            # The server does not read it all, as nobody reads the answers.
            sent = peer.send_until_stuck(data)
            assert still(lambda: Loud.count) < total
            with peer.sending(data[sent:]):
                for _ in range(total):
                    assert peer.next() == bytes(10_000)
                assert peer.next() == Close(4000, "bye")
            assert told.next() == (4000, "bye")
            assert (Loud.count, Loud.slow) == (total, False)
            assert 0 < Loud.most <= limits.queue + 20_000
