"""Messages that are sent on while they come, by any provider."""

import asyncio
import queue
import socket
import struct
import threading

import pytest
from tests.deadline import eventually
from tests.websocket import wire
from tests.websocket.implementations import BINARY, CLOSE, CONTINUATION, PING, TEXT, made
from tests.websocket.serving import LOOPED, provider, serving

from kirsch.websocket import Chunk, ClientOptions, Close, Closed, Limits, Pong, WebSocket
from kirsch.websocket import threaded as threads
from kirsch.websocket.core.errors import ProtocolError
from kirsch.websocket.core.inbox import Chunks
from kirsch.websocket.core.source import Incoming

PATIENCE = 20
PROVIDERS = ["threaded", "cherrypy", "wsgi", "gevent", *LOOPED]
BROKEN = Close(1011, "a message that was sent on did not come to its end")
NO_LIMIT = Limits(message=None, fragments=None)


class Words(Incoming):
    """A message whose words a test says."""

    text = True

    def __init__(self):
        self.words, self.target, self.dropped = [], None, 0

    def say(self, word, last=False):
        self.words.append((word, last))
        self.target.resume()

    def send_on(self, target):
        self.target = target

    def piece(self):
        if self.words and self.words[0] is None:
            raise Closed(1006)
        return self.words.pop(0) if self.words else None

    def drop(self):
        self.dropped += 1


@pytest.fixture
def side(core):
    class Side(core.Protocol):
        woken = 0

        def wake(self):
            self.woken += 1

        def said(self):
            data = b""
            while self.pending:
                data += b"".join(self.take())
            return data

    return Side()


def plain(opcode, payload=b"", **how):
    return made(opcode, payload, key=None, **how)


class TestProtocol:
    def test_sends_each_word_when_it_is_there(self, side):
        words = Words()
        side.send(words)
        assert side.said() == b""
        assert side.under_way
        assert not side.pending
        words.say("one")
        assert side.said() == plain(TEXT, b"one", final=False)
        words.say("")
        words.say("two")
        assert side.said() == plain(CONTINUATION, final=False) + plain(CONTINUATION, b"two", final=False)
        words.say("é", True)
        assert side.said() == plain(CONTINUATION, "é".encode())
        assert not side.under_way

    def test_wakes_who_writes_once(self, side):
        words = Words()
        side.send(words)
        side.take()
        before = side.woken
        words.say("one")
        words.say("two")
        assert side.woken == before + 1

    def test_answers_pings_meanwhile_and_all_else_waits(self, side):
        first, second = Words(), Words()
        side.send(first)
        side.send(b"behind")
        side.send(second)
        side.close()
        assert side.said() == b""
        side.answer(side.receive(made(PING, b"p"))[0])
        # It is closing.
        assert side.said() == b""
        first.say("one", True)
        assert side.said() == plain(TEXT, b"one") + plain(BINARY, b"behind")
        second.say("two", True)
        assert side.said() == plain(TEXT, b"two") + plain(CLOSE, b"\x03\xe8")
        assert side.queued == 0

    def test_says_that_it_did_not_end(self, side):
        words = Words()
        side.send(words)
        words.say("one")
        side.said()
        words.words.append(None)
        words.target.resume()
        assert side.said() == plain(CLOSE, BROKEN.payload)
        assert side.error.__cause__ is None

    @pytest.mark.parametrize("end", ["fail", "discard", "end"])
    def test_says_that_nobody_sends_it_on(self, side, end):
        words, behind = Words(), Words()
        side.send(words)
        side.send(behind)
        side.fail(ProtocolError(1011, "so")) if end == "fail" else getattr(side, end)()
        assert (words.dropped, behind.dropped) == (1, 1)
        words.say("one")
        behind.say("two")
        assert b"one" not in side.said()

    def test_says_so_where_the_end_came_meanwhile(self, side):
        class Late(Words):
            def send_on(self, target):
                target.close()

        words = Late()
        with pytest.raises(Closed):
            side.send(words)
        assert words.dropped == 1


def test_a_message_may_end_while_another_thread_looks_at_it():
    class Ending(Chunks):
        """Its last chunk comes, and its connection ends, when it was found to have none."""

        @property
        def broken(self):
            self._chunks.append("last")
            self._complete = True
            return True

        @broken.setter
        def broken(self, broken):
            pass

    chunks = Ending(Told(), text=True)
    assert chunks.piece() is None
    assert chunks.piece() == ("last", True)


class Told:
    """Is told, and says nothing."""

    def chunk_taken(self, stream):
        pass


def sending_back(name):
    """A function that echoes streams, for this provider."""

    def back(ws):
        for stream in ws:
            ws.send(stream)

    async def back_on_a_loop(ws):
        async for stream in ws:
            ws.send(stream)

    return back_on_a_loop if name in LOOPED else back


@pytest.mark.parametrize("name", PROVIDERS)
class TestEcho:
    def test_goes_as_it_comes(self, name):
        with (
            serving(name, sending_back(name), stream=True) as server,
            wire.dial(server.address, stream=True) as peer,
        ):
            for _ in range(2):
                peer.sock.sendall(made(TEXT, b"one\xc3", final=False))
                assert peer.next() == Chunk("one", True, False)
                peer.sock.sendall(made(PING, b"p"))
                assert peer.next() == Pong(b"p")
                peer.sock.sendall(made(CONTINUATION, b"\xa9two", final=False))
                assert peer.next() == Chunk("étwo", False, False)
                peer.sock.sendall(made(CONTINUATION))
                assert peer.next() == Chunk("", False, True)
            peer.sock.sendall(made(BINARY, b"whole") + made(TEXT))
            assert peer.next() == Chunk(b"whole", True, True)
            assert peer.next() == Chunk("", True, True)
            peer.close()
            assert peer.next() == Close(1000, "")

    def test_of_large_messages_compressed(self, name):
        text = "".join(map(str, range(400_000)))
        with (
            serving(name, sending_back(name), stream=True, limits=NO_LIMIT) as server,
            threads.connect(server.url, options=ClientOptions(limits=NO_LIMIT)) as ws,
        ):
            for message in (text, text.encode(), text):
                ws.send(message)
                assert ws.recv(PATIENCE) == message

    def test_is_held_up_by_who_does_not_read(self, name):
        size, part = 96 << 20, made(CONTINUATION, bytes(1 << 16), final=False)
        with (
            serving(name, sending_back(name), stream=True, limits=NO_LIMIT) as server,
            wire.dial(server.address) as peer,
        ):
            sent = []

            def send():
                peer.sock.sendall(made(BINARY, final=False))
                while len(sent) < size >> 16:
                    peer.sock.sendall(part)
                    sent.append(part)
                peer.sock.sendall(made(CONTINUATION))

            thread = threading.Thread(target=send)
            thread.start()
            # As much as sockets hold, and no more; a slow machine makes it less.
            held, before = 0, -1
            while held != before:
                before = held
                thread.join(0.3)
                held = len(sent)
            assert held << 16 < size // 2
            peer.protocol = type(peer.protocol)(client=True, stream=True, limits=NO_LIMIT)
            received = 0
            while not (event := peer.next()).final:
                received += len(event.data)
            assert received + len(event.data) == size
            thread.join(PATIENCE)

    def test_ends_where_the_peer_closes_in_a_message(self, name, caplog):
        with (
            serving(name, sending_back(name), stream=True) as server,
            wire.dial(server.address, stream=True) as peer,
        ):
            peer.sock.sendall(made(TEXT, b"one", final=False))
            assert peer.next() == Chunk("one", True, False)
            peer.close(1001)
            assert peer.next() == BROKEN
            assert peer.next() is None
        assert not any(record.exc_info for record in caplog.records)

    def test_of_one_message_and_no_more(self, name):
        def once(ws):
            ws.send(ws.recv())

        async def once_on_a_loop(ws):
            ws.send(await ws.recv())

        handler = once_on_a_loop if name in LOOPED else once
        with serving(name, handler, stream=True) as server, wire.dial(server.address, stream=True) as peer:
            peer.sock.sendall(made(TEXT, b"one", final=False))
            assert peer.next() == Chunk("one", True, False)
            peer.sock.sendall(made(CONTINUATION, b"two", final=False))
            assert peer.next() == Chunk("two", False, False)
            peer.sock.sendall(made(CONTINUATION, b"three"))
            assert peer.next() == Chunk("three", False, True)
            assert peer.next() == Close(1000, "")

    def test_is_of_one_message_once(self, name):
        def twice(ws):
            stream = ws.recv()
            ws.send(stream)
            for again in (lambda: ws.send(stream), lambda: next(iter(stream))):
                with pytest.raises(RuntimeError, match="this message is sent on"):
                    again()

        async def twice_on_a_loop(ws):
            stream = await ws.recv()
            ws.send(stream)
            for again in (lambda: ws.send(stream), lambda: aiter(stream)):
                with pytest.raises(RuntimeError, match="this message is sent on"):
                    again()

        handler = twice_on_a_loop if name in LOOPED else twice
        with serving(name, handler, stream=True) as server, wire.dial(server.address, stream=True) as peer:
            peer.sock.sendall(made(TEXT, b"one", final=False) + made(CONTINUATION, b"two"))
            said = ""
            while not (event := peer.next()).final:
                said += event.data
            assert said + event.data == "onetwo"
            assert peer.next() == Close(1000, "")

    def test_of_the_rest_of_one(self, name):
        def rest(ws):
            for stream in ws:
                ws.send(next(iter(stream)))
                ws.send(stream)

        async def rest_on_a_loop(ws):
            async for stream in ws:
                ws.send(await anext(aiter(stream)))
                ws.send(stream)

        handler = rest_on_a_loop if name in LOOPED else rest
        with serving(name, handler, stream=True) as server, wire.dial(server.address, stream=True) as peer:
            peer.sock.sendall(made(TEXT, b"head", final=False))
            assert peer.next() == Chunk("head", True, True)
            peer.sock.sendall(made(CONTINUATION, b"one", final=False))
            assert peer.next() == Chunk("one", True, False)
            peer.sock.sendall(made(CONTINUATION, b"two"))
            assert peer.next() == Chunk("two", False, True)


def relaying(name, members):
    """A function: what all but the first say is sent on to the first."""

    def relay(ws):
        members.append(ws)
        first = members[0]
        for stream in ws:
            try:
                first.send(stream)
            except Closed:
                ws.send("it is gone")

    async def relay_on_a_loop(ws):
        members.append(ws)
        first = members[0]
        async for stream in ws:
            try:
                first.send(stream)
            except Closed:
                ws.send("it is gone")

    return relay_on_a_loop if name in LOOPED else relay


@pytest.fixture
def relayed(name):
    """A server that relays; the one who is told, and one who tells."""
    members = []
    with (
        serving(name, relaying(name, members), stream=True, limits=NO_LIMIT) as server,
        wire.dial(server.address, stream=True) as first,
    ):
        eventually(lambda: members)
        with wire.dial(server.address, stream=True) as second:
            yield first, second


@pytest.mark.parametrize("name", PROVIDERS)
class TestRelay:
    def test_goes_as_it_comes(self, relayed):
        first, second = relayed
        for _ in range(2):
            second.sock.sendall(made(BINARY, b"one", final=False))
            assert first.next() == Chunk(b"one", True, False)
            first.ping(b"p")
            assert first.next() == Pong(b"p")
            second.sock.sendall(made(CONTINUATION, b"two"))
            assert first.next() == Chunk(b"two", False, True)

    def test_goes_to_its_end_before_a_close_is_answered(self, relayed):
        first, second = relayed
        second.sock.sendall(made(BINARY, b"one", final=False))
        assert first.next() == Chunk(b"one", True, False)
        first.close()
        second.ping(b"p")
        assert second.next() == Pong(b"p")
        second.sock.sendall(made(CONTINUATION, b"two"))
        assert first.next() == Chunk(b"two", False, True)
        assert first.next() == Close(1000, "")
        assert first.next() is None

    def test_tells_that_the_end_does_not_come(self, relayed, caplog):
        first, second = relayed
        second.sock.sendall(made(BINARY, b"one", final=False))
        assert first.next() == Chunk(b"one", True, False)
        second.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        second.sock.close()
        assert first.next() == BROKEN
        told = [record for record in caplog.records if BROKEN.reason in record.getMessage()]
        assert [record.exc_info for record in told] == [None]

    def test_goes_on_where_nobody_listens_any_more(self, relayed):
        first, second = relayed
        part = made(CONTINUATION, bytes(1 << 16), final=False)
        second.sock.sendall(made(BINARY, b"one", final=False))
        assert first.next() == Chunk(b"one", True, False)
        thread = threading.Thread(target=second.sock.sendall, args=(part * 400,))
        thread.start()
        # It is held up, perhaps.
        thread.join(0.2)
        first.sock.close()
        thread.join(PATIENCE)
        assert not thread.is_alive()
        second.sock.sendall(made(CONTINUATION) + made(TEXT, b"are you there?"))
        assert second.next() == Chunk("it is gone", True, True)


class Echo(WebSocket):
    def received_message(self, message):
        self.send(message)


def pieces():
    return iter([f"{number}," * 5000 for number in range(100)])


def telling(ws):
    ws.send(pieces())


class TestClients:
    def test_of_threads_send_on(self):
        with (
            threads.serve(telling) as source,
            threads.serve(Echo) as target,
            threads.connect(source.url, stream=True) as one,
            threads.connect(target.url) as other,
        ):
            for stream in one:
                other.send(stream)
            assert other.recv(PATIENCE) == "".join(pieces())

    def test_of_threads_are_waited_for(self):
        told = queue.Queue()

        def hear(ws):
            for message in ws:
                told.put(message)

        with (
            threads.serve(telling) as source,
            threads.serve(hear) as target,
            threads.connect(target.url) as other,
            threads.connect(source.url, stream=True) as one,
        ):
            other.send(one.recv(PATIENCE))
        assert told.get(timeout=PATIENCE) == "".join(pieces())

    def test_read_on_where_they_send_back(self):
        """Who has sent something large reads the answer then, and so does the client, or both would wait."""
        heard = queue.Queue()

        def say(ws):
            ws.send(bytes(48 << 20))
            heard.put(len(ws.recv()))

        async def back_on_a_loop():
            async with provider("asyncio").connect(server.url, options=options, stream=True) as ws:
                async for stream in ws:
                    ws.send(stream)

        options = ClientOptions(limits=NO_LIMIT, deflate=None)
        with threads.serve(say, limits=NO_LIMIT) as server:
            for connect in (threads.connect, provider("gevent").connect):
                with connect(server.url, options=options, stream=True) as ws:
                    for stream in ws:
                        ws.send(stream)
                assert heard.get(timeout=PATIENCE) == 48 << 20
            asyncio.run(asyncio.wait_for(back_on_a_loop(), PATIENCE))
            assert heard.get(timeout=PATIENCE) == 48 << 20

    def test_on_gevent_send_on(self):
        gevent = provider("gevent")
        with (
            serving("gevent", telling) as source,
            serving("gevent", Echo) as target,
            gevent.connect(source.url, stream=True) as one,
            gevent.connect(target.url) as other,
        ):
            for stream in one:
                other.send(stream)
            assert other.recv(PATIENCE) == "".join(pieces())

    def test_on_asyncio_send_on(self):
        loops = provider("asyncio")

        async def tell(ws):
            ws.send(pieces())

        async def run():
            async with (
                loops.serve(tell) as source,
                loops.serve(Echo) as target,
                loops.connect(target.url) as other,
            ):
                async with loops.connect(source.url, stream=True) as one:
                    other.send(await one.recv(PATIENCE))
                assert await other.recv(PATIENCE) == "".join(pieces())

        asyncio.run(run())

    def test_of_another_kind_do_not(self):
        loops = provider("asyncio")
        told = []

        async def run():
            async def cross(ws):
                with threads.connect(target.url) as other:
                    stream = await ws.recv()
                    try:
                        other.send(stream)
                    except RuntimeError as error:
                        told.append(str(error))

            with threads.serve(Echo) as target:
                async with loops.serve(cross, stream=True) as server, loops.connect(server.url) as ws:
                    ws.send("hello")
                    with pytest.raises(Closed):
                        await ws.recv(PATIENCE)

        asyncio.run(run())
        assert told == ["a message is sent on as it comes in the same thread, or among threads, only"]
