"""Peers that come and go at any moment, or do nothing, on real sockets: nothing of them is left."""

import asyncio
import contextlib
import gc
import logging
import os
import resource
import socket
import struct
import sys
import threading
import time
import weakref
from collections import Counter
from typing import ClassVar

import pytest
from tests.websocket.implementations import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, made

from kirsch.websocket import asyncio as on_asyncio
from kirsch.websocket import threaded
from kirsch.websocket.application import WebSocket
from kirsch.websocket.errors import Slow
from kirsch.websocket.handshake import Policy
from kirsch.websocket.limits import Limits

PATIENCE = 4
REQUEST = (
    b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
CONVERSATION = [
    REQUEST,
    made(TEXT, "hä?".encode()),
    made(BINARY, b"abc", final=False),
    made(CONTINUATION, b"def", final=False),
    made(PING, b"p"),
    made(CONTINUATION, b"ghi"),
    made(CLOSE, b"\x03\xe8bye"),
]
# What each piece of it brings about.
ANSWERS = [
    b"",
    made(TEXT, "hä?".encode(), key=None),
    b"",
    b"",
    made(PONG, b"p", key=None),
    made(BINARY, b"abcdefghi", key=None),
    made(CLOSE, b"\x03\xe8bye", key=None),
]


class Echo(WebSocket):
    """Answers with what it gets; what is slow is closed."""

    alive: ClassVar = weakref.WeakSet()
    remembered: ClassVar = 0
    most: ClassVar = 0

    def __init__(self, **arguments):
        super().__init__(**arguments)
        Echo.alive.add(self)

    def received_message(self, message):
        try:
            self.send(message)
        except Slow:
            self.close(1008, "slow")
        Echo.most = max(Echo.most, self.buffered)


def echo(ws):
    Echo.alive.add(ws)
    for message in ws:
        ws.send(message)
        ws.drain()
        Echo.most = max(Echo.most, ws.buffered)


async def echo_async(ws):
    Echo.alive.add(ws)
    async for message in ws:
        ws.send(message)
        await ws.drain()
        Echo.most = max(Echo.most, ws.buffered)


class Threaded:
    def __init__(self, iterates, limits):
        self.server = threaded.serve(echo if iterates else Echo, limits=limits, policy=Policy(deflate=None))
        self.port = self.server.address[1]

    def tasks(self):
        return 0

    def close(self):
        self.server.close()


class Asyncio:
    def __init__(self, iterates, limits):
        self.begun = threading.Event()
        self.thread = threading.Thread(target=lambda: asyncio.run(self.run(iterates, limits)))
        self.thread.start()
        assert self.begun.wait(PATIENCE)

    async def run(self, iterates, limits):
        self.loop, self.stop = asyncio.get_running_loop(), asyncio.Event()
        application = echo_async if iterates else Echo
        async with on_asyncio.serve(application, limits=limits, policy=Policy(deflate=None)) as server:
            self.port = server.address[1]
            self.begun.set()
            await self.stop.wait()

    async def count(self):
        return len(asyncio.all_tasks())

    def tasks(self):
        return asyncio.run_coroutine_threadsafe(self.count(), self.loop).result(PATIENCE)

    def close(self):
        self.loop.call_soon_threadsafe(self.stop.set)
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()


class Peer:
    """A client that does as it pleases."""

    def __init__(self, server, room=None):
        self.socket = socket.socket()
        if room:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
        self.socket.settimeout(PATIENCE)
        self.socket.connect(("127.0.0.1", server.port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.name = "{}:{}".format(*self.socket.getsockname())

    @classmethod
    def greeted(cls, server, room=None):
        peer = cls(server, room)
        peer.socket.sendall(REQUEST)
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += peer.socket.recv(1)
        assert head.startswith(b"HTTP/1.1 101 ")
        return peer

    def send(self, data):
        """Whether that could be done."""
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    def read(self, size):
        data = b""
        while len(data) < size:
            more = self.socket.recv(size - len(data))
            assert more, data
            data += more
        return data

    def rest(self):
        """All that comes until the server ends."""
        data = b""
        try:
            while more := self.socket.recv(1 << 16):
                data += more
        except ConnectionResetError:
            pass
        return data

    def reset(self):
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def close(self):
        self.socket.close()

    def shut(self):
        """End our side: the server ends its own."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)
        self.rest()
        self.socket.close()


def eventually(condition, timeout=PATIENCE):
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.005)


def gone():
    """Whether no connection is kept by anything: a pool's housekeeper may remember the last one it saw."""
    gc.collect()
    return len(Echo.alive) <= Echo.remembered


class Count:
    """What there is of all that could be left behind."""

    def __init__(self, server):
        self.server = server
        self.before = self.now()

    def now(self):
        return len(os.listdir("/proc/self/fd")), threading.active_count(), self.server.tasks()

    def settled(self):
        """Nothing more is there than was; no connection is kept."""
        try:
            eventually(lambda: all(map(int.__le__, self.now(), self.before)))
        except AssertionError:
            raise AssertionError(f"left behind: {self.now()}, there were {self.before}") from None
        eventually(gone)


def check(caplog, pattern=None, times=None):
    """At most a line for each peer, and no traceback; of some kind exactly so many."""
    lines = [record.getMessage() for record in caplog.records if record.name == "kirsch.websocket"]
    assert [r.getMessage() for r in caplog.records if r.exc_info or r.levelno >= logging.ERROR] == []
    assert all("\n" not in line for line in lines)
    peers = Counter(line.partition(": ")[0] for line in lines)
    assert [peer for peer, count in peers.items() if count > 1] == []
    if pattern is not None:
        assert sum(pattern in line for line in lines) == times, lines
        assert len(lines) == times


@pytest.fixture(params=["asyncio", "threaded"])
def kind(request):
    return Asyncio if request.param == "asyncio" else Threaded


@pytest.fixture(params=["callbacks", "iterating"])
def iterates(request):
    return request.param == "iterating"


@pytest.fixture
def begin(kind, iterates):
    """Starts a server, and ends it."""
    begun = []

    def begin(**limits):
        Echo.most, Echo.remembered = 0, 1 if kind is Threaded else 0
        server = kind(iterates, Limits(**limits))
        begun.append(server)
        # Threads and whatever else is there from the first connection on.
        works(server)
        eventually(gone)
        return server

    yield begin
    for server in begun:
        server.close()


def works(server):
    """A whole conversation."""
    peer = Peer.greeted(server)
    for piece, answer in zip(CONVERSATION[1:], ANSWERS[1:], strict=True):
        peer.send(piece)
        assert peer.read(len(answer)) == answer
    assert peer.rest() == b""
    peer.close()


class TestAtEveryByte:
    @pytest.mark.parametrize("end", ["shut", "close", "reset"])
    def test_a_peer_may_end(self, begin, caplog, end):
        server = begin()
        count = Count(server)
        data = b"".join(CONVERSATION)
        for size in range(len(data) + 1):
            peer = Peer(server)
            peer.send(data[:size])
            getattr(peer, end)()
        count.settled()
        works(server)
        count.settled()
        check(caplog)

    def test_answers_read_to_there(self, begin, caplog):
        """The peer reads so many bytes of what it is told, and is gone."""
        server = begin()
        count = Count(server)
        data = b"".join(CONVERSATION)
        for size in range(0, 200, 3):
            peer = Peer(server)
            peer.send(data)
            read = 0
            while read < size and (more := peer.socket.recv(size - read)):
                read += len(more)
            peer.reset()
        count.settled()
        check(caplog)

    def test_nothing_grows(self, begin):
        server = begin()
        data = b"".join(CONVERSATION)

        def walk():
            count = Count(server)
            for size in range(0, len(data) + 1, 3):
                peer = Peer(server)
                peer.send(data[:size])
                peer.shut()
            count.settled()
            gc.collect()
            return sys.getallocatedblocks()

        walk()
        before = walk()
        assert min(walk() for _ in range(3)) - before < 500


class TestSlowly:
    def test_a_byte_at_a_time(self, begin, caplog):
        server = begin()
        count = Count(server)
        peer = Peer(server, room=1)
        for piece, answer in zip(CONVERSATION, ANSWERS, strict=True):
            for octet in piece:
                assert peer.send(bytes((octet,)))
            found = b""
            while len(found) < len(answer) or (piece is REQUEST and not found.endswith(b"\r\n\r\n")):
                found += peer.read(1)
            assert piece is REQUEST or found == answer
        assert peer.rest() == b""
        peer.close()
        count.settled()
        check(caplog)

    def test_a_large_answer_is_read_slowly(self, begin, caplog):
        server = begin()
        count = Count(server)
        peer = Peer.greeted(server, room=2048)
        payload = bytes(i & 0xFF for i in range(1 << 20))
        sender = threading.Thread(target=peer.send, args=(made(BINARY, payload),))
        sender.start()
        head = peer.read(10)
        assert head == made(BINARY, payload, key=None)[:10]
        found = b"".join(peer.socket.recv(1) for _ in range(2000))
        found += peer.read(len(payload) - 2000)
        assert found == payload
        sender.join()
        peer.shut()
        count.settled()
        check(caplog)

    def test_handshakes_that_do_not_end(self, begin, caplog):
        server = begin(handshake_timeout=1)
        count = Count(server)
        peers = [Peer(server) for _ in range(50)]
        begun = time.monotonic()
        for number, peer in enumerate(peers):
            peer.send(REQUEST[: number * 2])
        works(server)
        for peer in peers:
            assert peer.rest() == b""
        assert time.monotonic() - begun < 5
        for peer in peers:
            peer.close()
        count.settled()
        check(caplog, "no handshake in 1 s", 50)

    def test_one_that_goes_on_byte_by_byte(self, begin, caplog):
        server = begin(handshake_timeout=1)
        count = Count(server)
        peer = Peer(server)
        peer.socket.settimeout(0.05)
        begun = time.monotonic()
        for octet in REQUEST[:100]:
            if not peer.send(bytes((octet,))):
                break
            try:
                if peer.socket.recv(1) == b"":
                    break
            except TimeoutError:
                continue
            except ConnectionResetError:
                break
        assert 0.5 < time.monotonic() - begun < 4
        peer.close()
        count.settled()
        check(caplog, "no handshake in 1 s", 1)


class TestHalfOpen:
    def test_who_answers_no_ping_is_given_up(self, begin, caplog):
        server = begin(ping_interval=0.1, ping_timeout=0.1)
        count = Count(server)
        peers = [Peer.greeted(server) for _ in range(10)]
        for peer in peers:
            assert peer.rest() == made(PING, key=None)
            peer.close()
        count.settled()
        check(caplog)

    def test_who_does_not_answer_a_close_frame(self, begin, caplog):
        server = begin(close_timeout=1)
        count = Count(server)
        quiet = [Peer.greeted(server) for _ in range(5)] + [Peer(server) for _ in range(5)]
        begun = time.monotonic()
        server.close()
        assert time.monotonic() - begun < 5
        for number, peer in enumerate(quiet):
            assert peer.rest() == (made(CLOSE, b"\x03\xe9", key=None) if number < 5 else b"")
            peer.close()
        eventually(lambda: len(os.listdir("/proc/self/fd")) < count.before[0])
        eventually(gone)
        check(caplog)
        server.close = lambda: None

    @pytest.mark.parametrize(
        "data",
        [made(3), made(TEXT, b"\xff"), made(TEXT, b"a", key=None), b"\xff" * 100],
        ids=["opcode", "text", "mask", "ones"],
    )
    def test_who_broke_the_protocol_and_stays(self, begin, caplog, data):
        server = begin(close_timeout=1)
        count = Count(server)
        peer = Peer.greeted(server)
        peer.send(made(TEXT, b"first") + data)
        said = peer.rest()
        assert said[-100:].startswith(b"\x88") or b"\x88" in said
        eventually(lambda: len(os.listdir("/proc/self/fd")) <= count.before[0] + 1)
        peer.close()
        count.settled()
        check(caplog, "(close code 100", 1)

    @pytest.mark.parametrize(
        "data",
        [b"\x16\x03\x01\x02\x00", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"\r\n" * 10],
        ids=["tls", "http", "lines"],
    )
    def test_who_was_refused_and_stays(self, begin, caplog, data):
        server = begin(handshake_timeout=1, close_timeout=1)
        count = Count(server)
        peer = Peer(server)
        peer.send(data)
        assert peer.rest().startswith(b"HTTP/1.1 4")
        eventually(lambda: len(os.listdir("/proc/self/fd")) <= count.before[0] + 1)
        peer.close()
        count.settled()
        check(caplog, "(HTTP status 4", 1)

    def test_who_only_ended_its_side(self, begin, caplog):
        server = begin()
        count = Count(server)
        peer = Peer.greeted(server)
        peer.send(made(TEXT, b"a"))
        peer.socket.shutdown(socket.SHUT_WR)
        assert peer.rest() in (made(TEXT, b"a", key=None), b"")
        peer.close()
        count.settled()
        check(caplog)


@pytest.fixture
def thousands():
    """As many file descriptors as a thousand connections need at both ends."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 3000:
        pytest.skip(f"{hard} file descriptors are too few")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 3000), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class TestManyAtOnce:
    @pytest.mark.usefixtures("thousands")
    @pytest.mark.parametrize("begun", ["connected", "asking", "greeted", "talking", "closing"])
    def test_a_thousand_reset(self, begin, caplog, begun):
        server = begin()
        count = Count(server)
        peers = []
        for number in range(1000 if not (isinstance(server, Threaded) and count.before[1] > 900) else 100):
            match begun:
                case "connected":
                    peers.append(Peer(server))
                case "asking":
                    peers.append(Peer(server))
                    peers[-1].send(REQUEST[: number % (len(REQUEST) - 1)])
                case _:
                    peers.append(Peer.greeted(server))
        for peer in peers:
            if begun == "talking":
                peer.send(made(BINARY, bytes(2000)) + made(TEXT, b"half")[:5])
            if begun == "closing":
                peer.send(made(CLOSE))
        for peer in peers:
            peer.reset()
        count.settled()
        works(server)
        count.settled()
        check(caplog)


class TestUnread:
    @pytest.mark.parametrize("size", [100, 100_000])
    def test_answers_do_not_gather(self, begin, caplog, size):
        """A server does not read who does not read it."""
        server = begin()
        count = Count(server)
        peer = Peer.greeted(server, room=2048)
        peer.socket.settimeout(1)
        frames = made(BINARY, bytes(size)) * (100_000 // size)
        sent = 0
        try:
            for _ in range(1000):
                sent += peer.socket.send(frames)
        except TimeoutError:
            pass
        else:
            pytest.fail("all was read")
        # It reads until half of what may wait does; what was read in one go is answered in one go.
        assert Echo.most < Limits().queue
        works(server)
        peer.reset()
        count.settled()
        check(caplog)

    def test_all_is_answered_once_it_is_read(self, begin, caplog):
        server = begin(queue=1 << 18)
        count = Count(server)
        peer = Peer.greeted(server, room=4096)
        frames = b"".join(made(TEXT, f"{number:06}".encode() * 100) for number in range(10_000))
        answers = b"".join(made(TEXT, f"{number:06}".encode() * 100, key=None) for number in range(10_000))
        sender = threading.Thread(target=peer.send, args=(frames,))
        sender.start()
        assert peer.read(len(answers)) == answers
        sender.join()
        peer.shut()
        count.settled()
        check(caplog)
