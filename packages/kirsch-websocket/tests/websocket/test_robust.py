"""Peers that come and go at any moment, or do nothing, on real sockets: nothing of them is left."""

import gc
import logging
import resource
import socket
import sys
import threading
import time
from collections import Counter

import pytest
from tests.deadline import eventually
from tests.process import Before, descriptors
from tests.websocket.crowd import ANSWERS, CONVERSATION, REQUEST, Asyncio, Echo, Peer, Threaded
from tests.websocket.implementations import BINARY, CLOSE, PING, TEXT, made

from kirsch.websocket.core.limits import Limits


def gone():
    """Whether no connection is kept by anything: a pool's housekeeper may remember the last one it saw."""
    gc.collect()
    return len(Echo.alive) <= Echo.remembered


class Count:
    """What there is of all that could be left behind."""

    def __init__(self, server):
        self.server = server
        self.before = Before()
        self.tasks = server.tasks()

    def closed(self, peers):
        """The server's end of them is, while theirs are open."""
        eventually(lambda: len(self.before.more()) <= len(peers))

    def settled(self):
        """Nothing more is there than was; no connection is kept."""
        self.before.assert_nothing_more()
        eventually(lambda: self.server.tasks() <= self.tasks)
        eventually(gone)


def check(caplog, pattern=None, times=None):
    """At most a line for each peer, and no traceback; of some kind exactly so many, and none of another."""
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


# Where a connection does not come as far as the application, or all of them are handled alike.
of_one_style = pytest.mark.parametrize("iterates", [False], ids=["either"])


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


ALL = b"".join(CONVERSATION)


class TestAtEveryByte:
    @pytest.mark.parametrize("end", ["shut", "close", "reset"])
    def test_a_peer_may_end(self, begin, caplog, end):
        server = begin()
        count = Count(server)
        for size in range(len(ALL) + 1):
            peer = Peer(server)
            peer.send(ALL[:size])
            getattr(peer, end)()
        count.settled()
        works(server)
        count.settled()
        check(caplog)

    def test_answers_read_to_there(self, begin, caplog):
        """The peer reads so many bytes of what it is told, and is gone."""
        server = begin()
        count = Count(server)
        for size in range(0, 200, 3):
            peer = Peer(server)
            peer.send(ALL)
            read = 0
            while read < size and (more := peer.socket.recv(size - read)):
                read += len(more)
            peer.reset()
        count.settled()
        check(caplog)

    def test_nothing_grows(self, begin):
        server = begin()
        sizes = range(0, len(ALL) + 1, 3)

        def walk():
            count = Count(server)
            for size in sizes:
                peer = Peer(server)
                peer.send(ALL[:size])
                peer.shut()
            count.settled()
            gc.collect()
            return sys.getallocatedblocks()

        # What peers leave behind grows with every walk. What is made once does not, however late that is: by
        # a thread that had nothing to do until now, or by somebody else in this process.
        blocks = [walk(), walk()]
        while blocks[-1] - blocks[-2] >= len(sizes):
            assert len(blocks) < 20, blocks
            blocks.append(walk())


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

    @of_one_style
    def test_handshakes_that_do_not_end_keep_nobody_waiting(self, begin, caplog):
        server = begin(handshake_timeout=None)
        count = Count(server)
        peers = [Peer(server) for _ in range(50)]
        for number, peer in enumerate(peers):
            peer.send(REQUEST[: number * 2])
        works(server)
        for peer in peers:
            peer.close()
        count.settled()
        check(caplog)

    @of_one_style
    def test_handshakes_that_do_not_end(self, begin, caplog):
        server = begin(handshake_timeout=0.3)
        count = Count(server)
        peers = [Peer(server) for _ in range(50)]
        for number, peer in enumerate(peers):
            peer.send(REQUEST[: number * 2])
        for peer in peers:
            assert peer.rest() == b""
            peer.close()
        count.settled()
        check(caplog, "no handshake in 0.3 s", 50)

    @of_one_style
    def test_one_that_goes_on_byte_by_byte(self, begin, caplog):
        server = begin(handshake_timeout=0.3)
        count = Count(server)
        begun = time.monotonic()
        peer = Peer(server)
        peer.send(REQUEST[:-2] + b"X: ")
        peer.socket.settimeout(0.05)

        def goes_on():
            try:
                return peer.send(b"x") and peer.socket.recv(1) != b""
            except TimeoutError:
                return True
            except ConnectionResetError:
                return False

        eventually(lambda: not goes_on())
        assert time.monotonic() - begun >= 0.3
        peer.close()
        count.settled()
        check(caplog, "no handshake in 0.3 s", 1)


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
        server = begin(close_timeout=0.3)
        count = Count(server)
        quiet = [Peer.greeted(server) for _ in range(5)] + [Peer(server) for _ in range(5)]
        begun = time.monotonic()
        server.close()
        assert time.monotonic() - begun < Limits().close_timeout
        for number, peer in enumerate(quiet):
            assert peer.rest() == (made(CLOSE, b"\x03\xe9", key=None) if number < 5 else b"")
            peer.close()
        count.before.assert_nothing_more()
        assert count.before.descriptors - descriptors(), "it listens"
        eventually(gone)
        check(caplog)
        server.close = lambda: None

    def test_who_broke_the_protocol_and_stays(self, begin, caplog):
        server = begin(close_timeout=0.3)
        count = Count(server)
        broken = [made(3), made(TEXT, b"\xff"), made(TEXT, b"a", key=None), b"\xff" * 100]
        peers = [Peer.greeted(server) for _ in broken]
        for peer, data in zip(peers, broken, strict=True):
            peer.send(made(TEXT, b"first") + data)
        for peer in peers:
            said = peer.rest()
            assert said.startswith((b"\x88", made(TEXT, b"first", key=None) + b"\x88"))
        count.closed(peers)
        for peer in peers:
            peer.close()
        count.settled()
        check(caplog, "(close code 100", len(broken))

    @of_one_style
    def test_who_was_refused_and_stays(self, begin, caplog):
        server = begin(close_timeout=0.3)
        count = Count(server)
        refused = [b"\x16\x03\x01\x02\x00", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"\r\n" * 10]
        peers = [Peer(server) for _ in refused]
        for peer, data in zip(peers, refused, strict=True):
            peer.send(data)
        for peer in peers:
            assert peer.rest().startswith(b"HTTP/1.1 4")
        count.closed(peers)
        for peer in peers:
            peer.close()
        count.settled()
        check(caplog, "(HTTP status 4", len(refused))

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
    @pytest.mark.parametrize("size", [100, pytest.param(1000, marks=pytest.mark.soak)])
    def test_are_reset(self, begin, caplog, begun, size):
        server = begin()
        left = Count(server)
        peers = []
        for number in range(size):
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
        left.settled()
        works(server)
        left.settled()
        check(caplog)


class TestUnread:
    @pytest.mark.slow
    @pytest.mark.parametrize("size", [100, 100_000])
    def test_answers_do_not_gather(self, begin, caplog, size):
        """A server does not read who does not read it."""
        server = begin()
        count = Count(server)
        peer = Peer.greeted(server, room=2048)
        peer.socket.settimeout(0.5)
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
        messages = [f"{number:06}".encode() * 500 for number in range(2000)]
        frames = b"".join(made(TEXT, message) for message in messages)
        answers = b"".join(made(TEXT, message, key=None) for message in messages)
        sender = threading.Thread(target=peer.send, args=(frames,))
        sender.start()
        assert peer.read(len(answers)) == answers
        sender.join()
        peer.shut()
        count.settled()
        check(caplog)
