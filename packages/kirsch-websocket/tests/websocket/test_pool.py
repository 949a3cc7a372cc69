"""Connections that are served by a pool of threads, on real sockets."""

import io
import logging
import os
import queue
import socket
import struct
import threading

import pytest
from tests.certificate import certify
from tests.deadline import eventually
from tests.process import Before
from tests.websocket.wire import PATIENCE, Peer

from kirsch.websocket import Close, Closed, Limits, Ping, Pong, Protocol, Slow, WebSocket
from kirsch.websocket.core.site import Site
from kirsch.websocket.threads import pool as pools
from kirsch.websocket.threads.poller import IN, SelectorPoller
from kirsch.websocket.threads.pool import Pool
from kirsch.websocket.threads.server_handshake import ServerHandshake

RESET = struct.pack("ii", 1, 0)


class Echo(WebSocket):
    """Sends back what comes, and tells a test what happens."""

    def __init__(self, **arguments):
        super().__init__(**arguments)
        self.told = queue.Queue()

    def opened(self):
        self.told.put(("opened", threading.current_thread().name))

    def received_message(self, message):
        self.send(message)

    def closed(self, code, reason):
        self.told.put(("closed", code, reason))

    def outcome(self):
        """How it ended."""
        while True:
            what, *how = self.told.get(timeout=PATIENCE)
            if what == "closed":
                return tuple(how)


@pytest.fixture(params=["epoll", "selectors"])
def poller(request, monkeypatch):
    """A system with epoll, and one without."""
    if request.param == "selectors":
        monkeypatch.setattr(pools, "poller", SelectorPoller)


@pytest.fixture
def pool(poller):
    with Pool(3, "test") as pool:
        yield pool
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("test-")]


def adopted(pool, websocket, **arguments):
    """A Peer of what the pool has taken over."""
    ours, theirs = socket.socketpair()
    pool.adopt(websocket, ours, **arguments)
    return Peer(theirs)


def small(sock):
    """A socket that holds little."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    return sock


def slow_peer(pool, websocket):
    ours, theirs = map(small, socket.socketpair())
    pool.adopt(websocket, ours)
    return Peer(theirs)


def fill(websocket):
    """Send until its peer is too slow; how many messages of 1000 bytes it took."""
    for sent in range(100_000):
        try:
            websocket.send(bytes(1000))
        except Slow:
            return sent
    raise AssertionError("never slow")


def test_serves_a_connection_from_its_first_bytes_to_its_end(pool):
    said = Protocol(client=True)
    said.send("before")
    echo = Echo()
    with adopted(pool, echo, initial_bytes=b"".join(said.take()), response=b"HEAD") as peer:
        assert peer.sock.recv(4, socket.MSG_WAITALL) == b"HEAD"
        assert peer.next() == "before"
        assert pool.connections == [echo]
        peer.send("one", b"two", "")
        assert [peer.next(), peer.next(), peer.next()] == ["one", b"two", ""]
        peer.close(3000, "enough")
        assert peer.next() == Close(3000, "enough")
        assert peer.next() is None
    assert echo.told.get(timeout=PATIENCE)[0] == "opened"
    assert echo.outcome() == (3000, "enough")


HEAD = (
    b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


def test_an_event_that_comes_late_leaves_the_next_client_of_a_descriptor_alone(pool):
    ours, theirs = socket.socketpair()
    late = ServerHandshake(pool, Site(Echo), ours, "late", None)
    theirs.close()
    late.handle(IN, memoryview(bytearray(100)))
    assert ours.fileno() == -1
    ours, theirs = socket.socketpair()
    following = late.fd
    if ours.fileno() != following:
        os.dup2(ours.fileno(), following)
        ours = socket.socket(fileno=following)
    pool.adopt(echo := Echo(), ours)
    with Peer(theirs) as peer:
        late.handle(IN, memoryview(bytearray(100)))
        peer.send("here")
        assert peer.next() == "here"
        assert pool.connections == [echo]


def test_two_events_of_one_client_are_one_handshake(pool):
    asked, go_on = threading.Event(), threading.Event()
    made = []

    def application(**options):
        asked.set()
        assert go_on.wait(PATIENCE)
        made.append(Echo(**options))
        return made[-1]

    ours, theirs = socket.socketpair()
    handshake = ServerHandshake(pool, Site(application), ours, "twice", None)
    theirs.sendall(HEAD)
    pool.add(handshake.fd, handshake)
    assert asked.wait(PATIENCE)
    with Peer(theirs) as peer:
        peer.send("once")
        # The event of the descriptor's former owner, at which another thread was.
        other = threading.Thread(target=handshake.handle, args=(IN, memoryview(bytearray(100))))
        other.start()
        go_on.set()
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += theirs.recv(1)
        assert answer.startswith(b"HTTP/1.1 101 ")
        assert peer.next() == "once"
        other.join(PATIENCE)
    assert len(made) == 1


@pytest.mark.parametrize("size", [0, 125, 126, 65535, 65536, 1 << 20, 4 << 20])
def test_echoes_every_size(pool, size):
    data = os.urandom(size)
    with adopted(pool, Echo()) as peer:
        sender = threading.Thread(target=peer.send, args=(data,))
        sender.start()
        assert peer.next() == data
        sender.join()


def test_calls_back_in_its_own_threads(pool):
    echo = Echo()
    with adopted(pool, echo):
        assert echo.told.get(timeout=PATIENCE)[1] in {"test-0", "test-1", "test-2"}


def test_speaks_tls(pool, tmp_path):
    certificate = certify(tmp_path, "localhost")
    ours, theirs = socket.socketpair()
    accepted = []

    def accept():
        accepted.append(certificate.server.wrap_socket(ours, server_side=True))

    thread = threading.Thread(target=accept)
    thread.start()
    secure = certificate.client.wrap_socket(theirs, server_hostname="localhost")
    thread.join()
    echo = Echo()
    pool.adopt(echo, accepted[0])
    data = os.urandom(3 << 20)
    with Peer(secure) as peer:
        # An SSLSocket is not for two threads.
        peer.send("first", data)
        peer.send(*map(str, range(500)))
        assert peer.next() == "first"
        assert peer.next() == data
        assert [peer.next() for _ in range(500)] == list(map(str, range(500)))
        peer.close()
        assert peer.next() == Close(1000, "")
        # The end of TLS is said, not only that of TCP.
        assert peer.next() is None
    assert echo.outcome() == (1000, "")


def test_a_closed_pool_takes_nothing_over():
    pool = Pool(1)
    pool.close()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        with pytest.raises(RuntimeError, match="the pool is closed"):
            pool.adopt(Echo(), ours)
        theirs.sendall(b"still here")
        assert ours.recv(100) == b"still here"


def test_an_exception_in_a_callback_closes_with_1011(pool, caplog):
    class Broken(Echo):
        def received_message(self, message):
            if message == "break":
                raise LookupError("as told")
            self.send(message)

    broken, other = Broken(), Echo()
    with adopted(pool, broken) as peer, adopted(pool, other) as bystander:
        peer.send("fine", "break", "after")
        assert peer.next() == Close(1011, "the application failed")
        assert peer.next() is None
        bystander.send("still served")
        assert bystander.next() == "still served"
    assert broken.outcome() == (1011, "the application failed")
    record, *others = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert not others
    assert "LookupError: as told" in caplog.text
    assert record.getMessage() == "?: the application failed (close code 1011)"


@pytest.mark.parametrize("moment", ["opened", "closed"])
def test_an_exception_at_either_end_is_logged(pool, caplog, moment):
    class Broken(Echo):
        def opened(self):
            if moment == "opened":
                raise LookupError("as told")

        def closed(self, code, reason):
            super().closed(code, reason)
            raise LookupError("as told")

    broken = Broken()
    with adopted(pool, broken) as peer:
        if moment == "closed":
            peer.close()
        assert isinstance(peer.next(), Close)
        assert peer.next() is None
    broken.outcome()
    with adopted(pool, Echo()) as peer:
        peer.send("still served")
        assert peer.next() == "still served"
    # It raises what is logged after it has told us.
    eventually(lambda: "LookupError: as told" in caplog.text)


def test_a_connection_is_there_for_others_once_it_is_opened(poller):
    begun, go_on = threading.Event(), threading.Event()

    class Blocking(Echo):
        def opened(self):
            begun.set()
            go_on.wait(PATIENCE)

    with Pool(1, "test") as pool, adopted(pool, Blocking()):
        assert begun.wait(PATIENCE)
        waiting = Echo()
        with adopted(pool, waiting) as peer:
            # The only thread is busy: nothing could be sent by the second.
            assert [type(each) for each in pool.connections] == [Blocking]
            go_on.set()
            assert waiting.told.get(timeout=PATIENCE)[0] == "opened"
            for each in pool.connections:
                each.send("hello")
            assert peer.next() == "hello"


def test_what_a_callback_has_sent_goes_out_while_it_blocks(pool):
    free = threading.Event()

    class Blocks(Echo):
        def received_message(self, message):
            self.send(message)
            if message == "block":
                assert free.wait(PATIENCE)

    with adopted(pool, Blocks()) as peer, adopted(pool, Echo()) as bystander:
        # Answers to what came together go together; not if that takes long.
        peer.send("one", "block", "two")
        assert [peer.next(), peer.next()] == ["one", "block"]
        bystander.send("meanwhile")
        assert bystander.next() == "meanwhile"
        free.set()
        assert peer.next() == "two"


def test_sends_from_any_thread_arrive_whole_and_in_order(pool):
    echo = Echo(limits=Limits(queue=64 << 20))
    with adopted(pool, echo) as peer:
        assert echo.told.get(timeout=PATIENCE)[0] == "opened"

        def send(name):
            for number in range(500):
                echo.send(f"{name} {number} " + "x" * (number * 7 % 300))

        threads = [threading.Thread(target=send, args=(name,)) for name in range(4)]
        for thread in threads:
            thread.start()
        # Meanwhile it answers, too.
        peer.send(*["echo 0 "] * 100)
        numbers = {name: [] for name in ["0", "1", "2", "3", "echo"]}
        for _ in range(4 * 500 + 100):
            name, number, rest = peer.next().split(" ")
            assert len(rest) == (int(number) * 7 % 300 if name != "echo" else 0)
            numbers[name].append(int(number))
        for thread in threads:
            thread.join()
        assert numbers == {**{str(name): list(range(500)) for name in range(4)}, "echo": [0] * 100}
        assert echo.wire.wait(lambda: echo.buffered == 0, PATIENCE)


def test_who_does_not_read_is_slow_until_it_does(pool):
    echo = Echo(limits=Limits(queue=100_000))
    with slow_peer(pool, echo) as peer:
        assert echo.told.get(timeout=PATIENCE)[0] == "opened"
        sent = fill(echo)
        assert 90_000 < echo.buffered <= 200_000
        with pytest.raises(TimeoutError, match="does not read"):
            echo.wire.drain(0.01)
        drained = threading.Event()

        def drain():
            echo.drain()
            drained.set()

        thread = threading.Thread(target=drain)
        thread.start()
        assert not drained.is_set()
        for _ in range(sent):
            assert peer.next() == bytes(1000)
        assert drained.wait(PATIENCE)
        thread.join()
        assert echo.wire.wait(lambda: echo.buffered == 0, PATIENCE)


def test_a_callback_may_drain_with_a_single_thread(poller):
    class Pours(Echo):
        def received_message(self, message):
            for number in range(2000):
                try:
                    self.send(b"%d" % number)
                except Slow:
                    self.drain()
                    self.send(b"%d" % number)

    with Pool(1) as pool, slow_peer(pool, Pours(limits=Limits(queue=2000))) as peer:
        peer.send("pour")
        assert [peer.next() for _ in range(2000)] == [b"%d" % number for number in range(2000)]


def test_drain_ends_with_the_connection(pool):
    echo = Echo(limits=Limits(queue=100_000))
    with slow_peer(pool, echo) as peer:
        assert echo.told.get(timeout=PATIENCE)[0] == "opened"
        fill(echo)
        threading.Thread(target=peer.sock.close).start()
        with pytest.raises(Closed):
            echo.drain()
    assert echo.outcome() == (1006, "")


def test_a_server_does_not_read_who_does_not_read(pool):
    echo = Echo(limits=Limits(queue=200_000))
    with slow_peer(pool, echo) as peer:
        most, count = 0, 3000

        def pour():
            for number in range(count):
                peer.sock.sendall(frames[number])

        frames = []
        for number in range(count):
            peer.protocol.send(b"%d" % number + bytes(1000))
            frames.append(b"".join(peer.protocol.take()))
        thread = threading.Thread(target=pour)
        thread.start()
        for number in range(count):
            assert peer.next() == b"%d" % number + bytes(1000)
            most = max(most, echo.buffered)
        thread.join()
        # Three million bytes came; Slow was not raised, for the connection is still open.
        assert 0 < most <= 400_000
        peer.close()
        assert peer.next() == Close(1000, "")


def test_a_reset_is_an_end(pool):
    ends = [Echo() for _ in range(50)]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        for echo in ends:
            client = socket.create_connection(listener.getsockname())
            pool.adopt(echo, listener.accept()[0])
            assert echo.told.get(timeout=PATIENCE)[0] == "opened"
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            client.close()
    assert [echo.outcome() for echo in ends] == [(1006, "")] * 50
    assert pool.connections == []


def test_after_an_error_the_peer_is_told_though_it_goes_on(pool, caplog):
    echo = Echo()
    with adopted(pool, echo) as peer:
        # A frame without a mask; and far more than a socket holds.
        peer.sock.sendall(b"\x81\x01x" + bytes(2_000_000))
        assert peer.next() == Close(1002, "a frame without a mask")
        assert peer.next() is None
    assert echo.outcome() == (1002, "a frame without a mask")
    assert [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING] == [
        "?: a frame without a mask (close code 1002)"
    ]


def test_who_never_stops_after_an_error_is_cut_off(pool):
    echo = Echo(limits=Limits(close_timeout=0.1))
    with adopted(pool, echo) as peer:
        peer.sock.sendall(b"\x81\x01x")
        assert peer.next() == Close(1002, "a frame without a mask")
        # Its end of the connection stays open.
        assert echo.outcome() == (1002, "a frame without a mask")


def test_a_silent_peer_is_pinged_and_given_up(pool):
    echo = Echo(limits=Limits(ping_interval=0.1, ping_timeout=0.1))
    with adopted(pool, echo) as peer:
        assert peer.sock.recv(100) == b"\x89\x00"
        assert echo.outcome() == (1006, "")


def test_a_clock_that_fails_stops_no_other(pool, caplog):
    class Broken(WebSocket):
        def tick(self, now):
            raise LookupError("of mine")

    limits = Limits(ping_interval=0.1, ping_timeout=None)
    with adopted(pool, Broken()), adopted(pool, WebSocket(limits=limits)) as peer:
        assert peer.next() == Ping(b"")
    assert "the clock goes on" in caplog.messages


def test_a_peer_that_answers_pings_stays(pool):
    class Ponged(Echo):
        def ponged(self, data):
            self.told.put(("ponged", data))

    echo = Ponged(limits=Limits(ping_interval=0.1, ping_timeout=PATIENCE))
    with adopted(pool, echo) as peer:
        assert echo.told.get(timeout=PATIENCE)[0] == "opened"
        for _ in range(2):
            peer.next()
            peer.protocol.answer(Ping(b""))
            peer.flush()
            assert echo.told.get(timeout=PATIENCE) == ("ponged", b"")
        peer.ping(b"you?")
        assert peer.next() == Pong(b"you?")


def test_who_does_not_answer_a_close_is_cut_off(pool):
    echo = Echo(limits=Limits(close_timeout=0.1))
    with adopted(pool, echo) as peer:
        assert echo.told.get(timeout=PATIENCE)[0] == "opened"
        echo.close(4000, "go")
        assert peer.next() == Close(4000, "go")
        assert echo.outcome() == (1006, "")
        assert peer.next() is None


def test_a_message_from_a_file_is_written_as_there_is_room(pool):
    data = os.urandom(3 << 20)
    echo = Echo()
    with slow_peer(pool, echo) as peer:
        assert echo.told.get(timeout=PATIENCE)[0] == "opened"
        echo.send(io.BytesIO(data))
        assert echo.buffered < 300_000
        assert peer.next() == data


def test_a_message_that_cannot_be_read_to_its_end_closes_with_1011(pool):
    def items():
        yield "one"
        raise OSError("the disk is gone")

    echo = Echo()
    with adopted(pool, echo) as peer:
        assert echo.told.get(timeout=PATIENCE)[0] == "opened"
        echo.send(items())
        assert peer.next() == Close(1011, "a message could not be read to its end")
        assert peer.next() is None
    assert echo.outcome()[0] == 1011


def test_half_an_end_is_one(pool):
    echo = Echo()
    with adopted(pool, echo) as peer:
        peer.send("last words")
        peer.sock.shutdown(socket.SHUT_WR)
        assert peer.next() == "last words"
        assert peer.next() is None
    assert echo.outcome() == (1006, "")


def test_closing_says_goodbye_and_leaves_nothing(poller):
    before = Before()
    pool = Pool(4)
    echoes = [Echo() for _ in range(20)]
    peers = [adopted(pool, echo) for echo in echoes]
    for echo in echoes:
        assert echo.told.get(timeout=PATIENCE)[0] == "opened"
    closer = threading.Thread(target=pool.close)
    closer.start()
    for peer in peers[1:]:
        assert peer.next() == Close(1001, "")
        peer.protocol.answer(Close(1001, ""))
        peer.flush()
    peers[0].sock.close()
    closer.join(PATIENCE)
    assert not closer.is_alive()
    assert sorted(echo.outcome()[0] for echo in echoes) == [1001] * 19 + [1006]
    for peer in peers:
        peer.sock.close()
    assert before.more() == []


def test_a_connection_that_has_not_begun_is_told_why_its_pool_closes(poller):
    blocked, go_on = threading.Event(), threading.Event()

    class Blocking(Echo):
        def opened(self):
            super().opened()
            blocked.set()
            assert go_on.wait(PATIENCE)

    pool = Pool(1)
    first, second = Blocking(), Echo()
    with adopted(pool, first) as peer:
        assert blocked.wait(PATIENCE)
        with adopted(pool, second, response=b"HEAD") as late:
            closer = threading.Thread(target=pool.close, args=(1001, "over"))
            closer.start()
            eventually(lambda: pool.closing)
            go_on.set()
            assert late.sock.recv(4, socket.MSG_WAITALL) == b"HEAD"
            assert late.next() == Close(1001, "over")
            late.close(1001, "over")
            assert peer.next() == Close(1001, "over")
            peer.close(1001, "over")
            closer.join(PATIENCE)
    assert second.outcome() == (1001, "over")


def test_a_handshake_that_is_answered_while_its_pool_closes_is_told_why(poller):
    asked, go_on = threading.Event(), threading.Event()
    made = []

    def application(**options):
        asked.set()
        assert go_on.wait(PATIENCE)
        made.append(Echo(**options))
        return made[-1]

    pool = Pool(1)
    ours, theirs = socket.socketpair()
    handshake = ServerHandshake(pool, Site(application), ours, "late", None)
    half, other = socket.socketpair()
    with Peer(theirs) as peer, other:
        theirs.sendall(HEAD)
        pool.add(handshake.fd, handshake)
        assert asked.wait(PATIENCE)
        pool.add(half.fileno(), ServerHandshake(pool, Site(Echo), half, "half", None))
        closer = threading.Thread(target=pool.close, args=(1001, "over"))
        closer.start()
        # It was added last, so it is the last to be told that the pool closes.
        assert other.recv(1) == b""
        go_on.set()
        answer = b""
        while b"\r\n\r\n" not in answer:
            more = theirs.recv(1)
            assert more, answer
            answer += more
        assert answer.startswith(b"HTTP/1.1 101 ")
        assert peer.next() == Close(1001, "over")
        peer.close(1001, "over")
        closer.join(PATIENCE)
    assert made[0].outcome() == (1001, "over")


def test_a_callback_may_close_its_pool():
    closed = threading.Event()

    class Closes(Echo):
        def received_message(self, message):
            self.pool.close(timeout=0.1)
            closed.set()

    pool, closes = Pool(2), Closes()
    closes.pool = pool
    with adopted(pool, closes) as peer:
        peer.send("close")
        assert closed.wait(PATIENCE)
        assert closes.outcome()[0] == 1006


def test_many_idle_connections_cost_no_threads(pool):
    before = threading.active_count()
    echoes = [Echo() for _ in range(500)]
    peers = [adopted(pool, echo) for echo in echoes]
    for echo in echoes:
        assert echo.told.get(timeout=PATIENCE)[0] == "opened"
    # Three, and the housekeeper.
    assert threading.active_count() <= before + 4
    for peer in peers[::50]:
        peer.send("hello")
        assert peer.next() == "hello"
    for peer in peers:
        peer.sock.close()
    assert [echo.outcome() for echo in echoes] == [(1006, "")] * 500


@pytest.mark.slow
def test_nothing_wakes_often_while_nothing_goes_on(poller):
    ticks = queue.Queue()

    class Ticked(Echo):
        def tick(self, now):
            ticks.put(now)

    def switches():
        return sum(
            int(line.split()[1])
            for worker in [*pool._workers, pool._housekeeper]
            for line in open(f"/proc/self/task/{worker.native_id}/status")
            if line.startswith("voluntary")
        )

    with Pool(4) as pool, adopted(pool, Ticked()):
        ticks.get(timeout=PATIENCE)
        before = switches()
        first, second = ticks.get(timeout=PATIENCE), ticks.get(timeout=PATIENCE)
        assert second - first > 0.9
        assert switches() - before < 12
