"""What applications write, on both cores: callbacks, their errors, the clock, and the end."""

import asyncio
import gc
import logging
import weakref

import pytest
from hypothesis import given
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

from kirsch.websocket.core import site
from kirsch.websocket.core.application import WebSocket
from kirsch.websocket.core.errors import Closed, HandshakeError, ProtocolError
from kirsch.websocket.core.handshake import Policy
from kirsch.websocket.core.headers import HeadReader
from kirsch.websocket.core.limits import Limits
from kirsch.websocket.core.message import Close
from kirsch.websocket.core.protocol import CLOSED, OPEN

BYE = made(CLOSE, b"\x03\xe8")


class Wire:
    """A provider that writes to nowhere, and remembers what it was asked for."""

    def __init__(self):
        self.asked = []
        self.buffered = 0
        self.outgoing = 0

    def wake(self):
        self.asked.append("wake")

    def abort(self):
        self.asked.append("abort")

    def drain(self, timeout):
        return f"drained in {timeout}"

    def wait_closed(self, timeout):
        return f"closed in {timeout}"


def noted(base, **callbacks):
    """A WebSocket that notes what it is told, and then does as `callbacks` say."""

    class Noted(base):
        def __init__(self, **arguments):
            super().__init__(**arguments)
            self.told = []

        def opened(self):
            self.note("opened")

        def received_message(self, message):
            self.note("message", message)

        def received_chunk(self, data, first, final):
            self.note("chunk", data, first, final)

        def ponged(self, data):
            self.note("ponged", data)

        def closed(self, code, reason):
            self.note("closed", code, reason)

        def note(self, name, *what):
            self.told.append((name, *what))
            if name in callbacks:
                callbacks[name](self, *what)

    return Noted


@pytest.fixture
def begun(core):
    """Makes one that has begun."""

    def begin(*, limits=Limits(), stream=False, client=False, **callbacks):  # noqa: B008
        websocket = noted(core.WebSocket, **callbacks)(limits=limits, stream=stream, client=client)
        websocket.peer = "peer"
        websocket.start(Wire())
        return websocket

    return begin


def sent(websocket):
    data = b""
    while websocket.pending:
        data += b"".join(websocket.take())
    return data


def bye(code, reason=""):
    return made(CLOSE, code.to_bytes(2, "big") + reason.encode(), key=None)


class TestCallbacks:
    def test_are_called_in_order(self, begun):
        websocket = begun()
        websocket.feed(made(TEXT, b"a") + made(PING, b"p") + made(BINARY, b"b") + made(PONG, b"x") + BYE)
        websocket.ended()
        websocket.ended()
        assert websocket.told == [
            ("opened",),
            ("message", "a"),
            ("message", b"b"),
            ("ponged", b"x"),
            ("closed", 1000, ""),
        ]
        assert websocket.state == CLOSED

    def test_chunks_of_a_stream(self, begun):
        websocket = begun(stream=True)
        websocket.feed(made(TEXT, "ä".encode(), final=False) + made(PING) + made(CONTINUATION, b"b"))
        assert websocket.told[1:] == [("chunk", "ä", True, False), ("chunk", "b", False, True)]

    def test_a_large_message_by_the_buffer(self, begun):
        websocket = begun()
        websocket.feed(made(BINARY, length=300_000, key=b"\0\0\0\0"))
        room = websocket.get_buffer()
        room[:] = b"x" * len(room)
        websocket.heard = False
        websocket.filled(len(room))
        assert websocket.told[1:] == [("message", b"x" * 300_000)]
        assert websocket.heard

    def test_pings_are_answered_among_replies(self, begun):
        websocket = begun(message=lambda self, message: self.send(message))
        websocket.feed(made(TEXT, b"a") + made(PING, b"p") + made(TEXT, b"b"))
        assert sent(websocket) == made(TEXT, b"a", key=None) + made(PONG, b"p", key=None) + made(
            TEXT, b"b", key=None
        )

    def test_replies_to_what_came_together_go_together(self, begun):
        websocket = begun(message=lambda self, message: self.send(message))
        websocket.feed(made(TEXT, b"a") * 10)
        assert websocket.wire.asked == []
        assert len(websocket.take()) == 1
        assert not websocket.corked
        websocket.send("later")
        assert websocket.wire.asked == ["wake"]

    def test_a_method_set_on_the_instance_counts(self, begun):
        websocket = begun()
        inbox = []
        websocket.received_message = inbox.append
        websocket.feed(made(TEXT, b"a"))
        assert inbox == ["a"]

    def test_the_wire_drains_and_counts(self, begun):
        websocket = begun()
        websocket.send("abc")
        websocket.wire.buffered = 100
        assert websocket.buffered == 105
        assert websocket.drain() == "drained in None"
        assert websocket.drain(2) == "drained in 2"
        assert websocket.wait_closed(3) == "closed in 3"

    @given(st.lists(st.integers(0, 1000), max_size=8))
    def test_are_the_same_however_bytes_come(self, both, cuts):
        def first_closes(self, message):
            if message == "close":
                self.close(3000)
            self.send(message)

        data = made(TEXT, b"a") + made(TEXT, b"close") + made(TEXT, b"b") + made(PONG, b"x") + BYE
        told = []
        for core in both:
            websocket = noted(core.WebSocket, message=first_closes)()
            websocket.start(Wire())
            for piece in parts(data, cuts):
                websocket.feed(piece)
            websocket.ended()
            assert sent(websocket) == b""
            told.append(websocket.told)
        assert told[0] == told[1]
        assert told[0][1:] == [
            ("message", "a"),
            ("message", "close"),
            ("message", "b"),
            ("ponged", b"x"),
            ("closed", 1000, ""),
        ]


def failing(self, *_):
    raise LookupError("oh")


def closing(self, *_):
    self.close()
    self.send("more")


class TestErrors:
    @pytest.mark.parametrize("where", ["opened", "message", "ponged"])
    def test_of_a_callback_are_logged_and_close_with_1011(self, begun, caplog, where):
        websocket = begun(**{where: failing})
        websocket.feed(made(TEXT, b"a") + made(PONG) + made(TEXT, b"b"))
        assert sent(websocket) == bye(1011, "the application failed")
        (record,) = caplog.records
        assert (record.name, record.levelno) == ("kirsch.websocket", logging.WARNING)
        assert record.getMessage() == "peer: the application failed (close code 1011)"
        assert record.exc_info[0] is LookupError
        assert websocket.finished
        assert websocket.told[-1][0] == where or where == "opened"
        websocket.feed(made(TEXT, b"c"))
        told = list(websocket.told)
        websocket.ended()
        assert websocket.told == [*told, ("closed", 1011, "the application failed")]

    def test_of_a_chunk(self, begun, caplog):
        websocket = begun(chunk=failing, stream=True)
        websocket.feed(made(TEXT, b"a") + made(TEXT, b"b"))
        assert [told[0] for told in websocket.told] == ["opened", "chunk"]
        assert len(caplog.records) == 1

    def test_of_closed_are_logged(self, begun, caplog):
        websocket = begun(closed=failing)
        websocket.ended()
        (record,) = caplog.records
        assert record.levelno == logging.ERROR
        assert record.exc_info[0] is LookupError
        assert websocket.state == CLOSED
        assert not websocket.pending

    @pytest.mark.parametrize("where", ["opened", "message", "ponged", "closed"])
    def test_closed_is_none(self, begun, caplog, where):
        websocket = begun(**{where: closing})
        websocket.feed(made(TEXT, b"a") + made(PONG) + BYE)
        websocket.ended()
        assert caplog.records == []
        assert websocket.told[-1] == ("closed", 1000, "")
        assert websocket.error is None

    def test_what_the_peer_did_wrong_is_one_line(self, begun, caplog):
        websocket = begun()
        websocket.feed(made(TEXT, b"a") + made(3))
        websocket.ended()
        assert [(r.levelno, r.getMessage(), r.exc_info) for r in caplog.records] == [
            (logging.WARNING, "peer: an unknown opcode: 3 (close code 1002)", None)
        ]
        assert websocket.told == [("opened",), ("message", "a"), ("closed", 1002, "an unknown opcode: 3")]

    def test_an_iterator_that_raises(self, begun, caplog):
        websocket = begun()
        websocket.send(x for x in ("a", 1 / len(caplog.records) if caplog.records else 5))
        assert sent(websocket).endswith(bye(1011, "a message could not be read to its end"))
        (record,) = caplog.records
        assert record.exc_info[0] is TypeError

    @pytest.mark.parametrize("error", [KeyboardInterrupt, asyncio.CancelledError])
    def test_what_is_no_error_passes(self, core, error):
        def interrupted(self, message):
            raise error

        websocket = noted(core.WebSocket, message=interrupted)()
        websocket.start(Wire())
        with pytest.raises(error):
            websocket.feed(made(TEXT, b"a") * 2)
        assert not websocket.corked
        assert websocket.state == OPEN

    def test_an_end_within_a_callback(self, begun):
        def end(self, message):
            self.ended()

        websocket = begun(message=end)
        websocket.feed(made(TEXT, b"a") + made(PING) + BYE)
        assert not websocket.pending
        websocket.feed(made(TEXT, b"b"))
        websocket.ended()
        assert [told[0] for told in websocket.told] == ["opened", "message", "closed"]


class TestEnd:
    def test_without_a_word(self, begun):
        websocket = begun()
        websocket.send("unsent")
        websocket.ended()
        assert websocket.told[1:] == [("closed", 1006, "")]
        assert websocket.queued == 0
        with pytest.raises(Closed, match="1006"):
            websocket.send("more")

    def test_what_the_peer_said_counts(self, begun):
        websocket = begun()
        websocket.close(3000, "ours")
        websocket.feed(made(CLOSE, b"\x0f\xa0theirs"))
        websocket.ended()
        assert websocket.told[1:] == [("closed", 4000, "theirs")]

    def test_our_close_frame_alone_is_no_answer(self, begun):
        websocket = begun()
        websocket.close(3000, "ours")
        websocket.ended()
        assert websocket.told[1:] == [("closed", 1006, "")]

    def test_a_server_is_finished_when_both_have_said_so(self, begun):
        for ours_first in (False, True):
            websocket = begun()
            if ours_first:
                websocket.close()
                assert not websocket.finished
            websocket.feed(BYE)
            assert websocket.finished

    def test_a_client_waits_for_the_server_to_end(self, begun):
        websocket = begun(client=True)
        websocket.feed(bye(1000))
        assert websocket.close_sent == Close(1000, "")
        assert not websocket.finished
        websocket = begun(client=True)
        websocket.feed(made(3, key=None))
        assert websocket.finished

    def test_all_is_freed_at_once(self, core, monkeypatch):
        """Nothing waits for the garbage collector, whatever came and however it ended."""
        # pytest keeps what is logged, with its tracebacks.
        monkeypatch.setattr(logging.getLogger("kirsch.websocket"), "propagate", False)

        def fail(self, message):
            if message == "fail":
                raise LookupError

        for data in (
            b"",
            BYE,
            made(TEXT, b"a") + made(TEXT, length=9),
            made(BINARY, length=1 << 20),
            made(3),
            made(TEXT, b"\xff"),
            made(TEXT, b"fail"),
        ):
            websocket = noted(core.WebSocket, message=fail)()
            gc.disable()
            try:
                websocket.start(Wire())
                websocket.feed(data)
                websocket.send(iter(["a", "b"])) if websocket.state == OPEN else None
                websocket.ended()
                gone = weakref.ref(websocket)
                del websocket
                assert gone() is None, data
            finally:
                gc.enable()


class TestTime:
    LIMITS = Limits(ping_interval=20, ping_timeout=10, close_timeout=5)

    def test_who_is_silent_is_asked_and_then_given_up(self, begun, caplog):
        caplog.set_level(logging.INFO)
        websocket = begun(limits=self.LIMITS)
        for now in (100, 101, 119.9):
            websocket.tick(now)
        assert not websocket.pending
        websocket.tick(120)
        assert sent(websocket) == made(PING, key=None)
        for now in (121, 129.9):
            websocket.tick(now)
        assert websocket.wire.asked == ["wake"]
        websocket.tick(130)
        assert websocket.wire.asked == ["wake", "abort"]
        (record,) = caplog.records
        assert record.getMessage() == "peer: no sign of life in 30 s"

    @pytest.mark.parametrize("sign", [made(PONG), made(TEXT, b"a"), made(TEXT, length=90)])
    def test_any_sign_of_life_will_do(self, begun, sign):
        websocket = begun(limits=self.LIMITS)
        for now in (0, 20):
            websocket.tick(now)
        assert sent(websocket)
        websocket.feed(sign)
        for now in (30, 31, 49):
            websocket.tick(now)
        assert websocket.wire.asked == ["wake"]
        websocket.tick(50)
        assert sent(websocket) == made(PING, key=None)

    def test_that_it_reads_is_one(self, begun):
        websocket = begun(limits=self.LIMITS)
        for now in (0, 20):
            websocket.tick(now)
        websocket.heard = True
        websocket.tick(35)
        assert "abort" not in websocket.wire.asked

    def test_none_is_never(self, begun):
        websocket = begun(limits=Limits(ping_interval=None, ping_timeout=None))
        for now in range(0, 100_000, 1000):
            websocket.tick(now)
        assert websocket.wire.asked == []
        websocket = begun(limits=Limits(ping_interval=1, ping_timeout=None))
        for now in range(0, 100_000, 1000):
            websocket.tick(now)
        assert sent(websocket) == made(PING, key=None)
        assert websocket.wire.asked == ["wake"]

    def test_who_does_not_answer_a_close_is_ended(self, begun):
        websocket = begun(limits=self.LIMITS)
        websocket.tick(0)
        websocket.close()
        for now in (1, 2, 5.9):
            websocket.tick(now)
        assert websocket.wire.asked == ["wake"]
        websocket.tick(6)
        assert websocket.wire.asked == ["wake", "abort"]

    def test_what_was_sent_before_a_close_has_the_time_it_needs(self, begun, caplog):
        websocket = begun(limits=self.LIMITS)
        websocket.tick(0)
        websocket.close()
        assert sent(websocket)
        # The peer reads slowly, and does so for longer than the limit.
        for now, ours, systems in ((1, 9, 9), (5, 8, 9), (9, 0, 9), (13, 0, 2), (17, 0, 0), (21, 0, 0)):
            websocket.wire.buffered, websocket.wire.outgoing = ours, systems
            websocket.tick(now)
        assert websocket.wire.asked == ["wake"]
        websocket.tick(22)
        assert websocket.wire.asked == ["wake", "abort"]
        assert websocket.unsent == 0
        assert caplog.records == []

    def test_what_is_cut_short_is_told(self, begun, caplog):
        websocket = begun(limits=self.LIMITS)
        websocket.close()
        assert sent(websocket)
        websocket.wire.buffered = 1000
        for now in (0, 5):
            websocket.tick(now)
        assert websocket.wire.asked == ["wake", "abort"]
        assert websocket.unsent == 1000
        assert caplog.messages == ["peer: 1000 bytes were not sent: the peer has read nothing for 5 s"]

    def test_a_close_frame_that_waits_does_not_wait_forever(self, begun):
        def endless():
            while True:
                yield b"a"

        websocket = begun(limits=self.LIMITS)
        websocket.send(endless())
        websocket.close()
        for now in (0, 5):
            websocket.tick(now)
        assert "abort" in websocket.wire.asked

    def test_it_does_not_matter_once_all_is_over(self, begun):
        websocket = begun(limits=self.LIMITS)
        websocket.tick(0)
        websocket.ended()
        for now in range(0, 1000, 10):
            websocket.tick(now)
        assert websocket.wire.asked == []


class TestSubclasses:
    def test_may_have_names_of_their_own(self, core):
        names = ("_size", "_close", "_send", "_out", "_told", "_since", "_pinged", "_closing", "_dispatch")

        class Mine(noted(core.WebSocket)):
            __since = __pinged = __closing = "mine"

            def __dispatch(self):
                raise AssertionError

            __other = __crashed = _crashed = _other = _heard = __dispatch

        for name in names:
            setattr(Mine, name, "mine")
        websocket = Mine()
        for name in names:
            setattr(websocket, name, "mine too")
        websocket.start(Wire())
        websocket.feed(made(TEXT, b"a") + made(PING) + BYE)
        websocket.tick(0)
        websocket.ended()
        assert [told[0] for told in websocket.told] == ["opened", "message", "closed"]
        assert all(getattr(websocket, name) == "mine too" for name in names)


REQUEST = (
    b"GET /chat HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Protocol: b, a\r\n\r\n"
)


class TestSite:
    @pytest.fixture
    def request_(self):
        return HeadReader(Limits(), client=False).feed(REQUEST)

    def test_makes_the_connection(self, request_):
        limits = Limits(queue=5)
        websocket, response = site.Site(WebSocket, Policy(subprotocols=("a",)), limits).open(request_, "peer")
        assert type(websocket) is WebSocket
        assert (websocket.request, websocket.subprotocol, websocket.peer) == (request_, "a", "peer")
        assert websocket.limits is limits
        assert response.startswith(b"HTTP/1.1 101 ")

    def test_by_the_path(self, request_):
        class Chat(WebSocket):
            streaming = True

        websocket, _ = site.Site({"/": WebSocket, "/chat": Chat}).open(request_, "peer")
        assert type(websocket) is Chat
        websocket.start(Wire())
        with pytest.raises(HandshakeError) as caught:
            site.Site({"/": WebSocket}).open(request_, "peer")
        assert caught.value.status == 404

    def test_one_that_cannot_be_made_is_answered_500(self, request_, caplog):
        class Broken(WebSocket):
            def __init__(self, **arguments):
                raise LookupError("oh")

        with pytest.raises(HandshakeError) as caught:
            site.Site(Broken).open(request_, "peer")
        assert (caught.value.status, caught.value.reason) == (500, "the application failed")
        (record,) = caplog.records
        assert record.getMessage() == "peer: no connection could be made"
        assert record.exc_info[0] is LookupError


def test_errors_say_what_happened_in_one_line():
    peers = Closed(4000, "so\n\x1b[2Jlong")
    assert peers.reason == "so\n\x1b[2Jlong"
    for error in (ProtocolError(1002, "wrong"), Closed(1000), Closed(1000, "tschüß"), peers):
        assert str(error).isprintable()
    assert str(Closed(1000, "tschüß")).endswith("tschüß")
