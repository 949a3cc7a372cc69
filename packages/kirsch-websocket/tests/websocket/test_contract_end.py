"""How connections and servers end, and who is told what: the same with every provider."""

import contextlib
import socket
import threading
import time
from ssl import SSLError

import pytest
from tests.process import Before
from tests.websocket import wire
from tests.websocket.contract import Told, recorder
from tests.websocket.echoes import Echo, echo, echo_async
from tests.websocket.serving import PATIENCE
from tests.websocket.wire import closing, masked

from kirsch.websocket import Close, Closed, HandshakeError, Limits, Ping
from kirsch.websocket.threaded import connect

NORMAL = (1000, 1001, None)


def failures(caplog):
    return [record.exc_info[0] for record in caplog.records if record.exc_info]


def fail(*_):
    raise LookupError("of mine")


class TestEnd:
    @pytest.mark.parametrize("code", [1000, 1001, None, 1008, 3000, 4999])
    def test_by_the_peer(self, provider, code):
        told = Told()

        async def read(ws):
            try:
                async for message in ws:
                    told.put(message)
                told.put("normal")
            except Closed as closed:
                told.put((closed.code, closed.reason))
                raise

        with provider.serve(provider.function(read)) as server, wire.dial(server.address) as peer:
            # Browsers' `close()` has neither code nor reason.
            frame = masked(b"", 0x88) if code is None else closing(code, b"why")
            peer.sock.sendall(masked(b"last") + frame)
            assert peer.next() == (Close(1005, "") if code is None else Close(code, "why"))
            assert peer.next() is None
            assert told.next() == b"last"
            assert told.next() == ("normal" if code in NORMAL else (code, "why"))

    @pytest.mark.parametrize("code", [1000, 1001, 3000, 4999])
    def test_by_the_server(self, provider, ssl, code):
        application, told = recorder(opened=lambda self: self.close(code, "go"))
        with (
            provider.serve(application, ssl=ssl[0]) as server,
            wire.dial(server.address, ssl=ssl[1]) as peer,
        ):
            close = peer.next()
            assert close == Close(code, "go")
            peer.answer(close)
            assert peer.next() is None
            # TLS of asyncio waits for the peer's end.
            peer.sock.close()
            assert told.next() == ("closed", code, "go")

    def test_by_a_function(self, provider):
        async def close(ws):
            ws.send("last")
            ws.close(4001, "go")
            with pytest.raises(Closed):
                ws.send("more")

        with provider.serve(provider.function(close)) as server, wire.dial(server.address) as peer:
            assert peer.next() == "last"
            assert peer.next() == Close(4001, "go")

    def test_of_a_function(self, provider):
        async def bye(ws):
            ws.send("bye")

        with provider.serve(provider.function(bye)) as server, wire.dial(server.address) as peer:
            assert peer.next() == "bye"
            assert peer.next() == Close(1000, "")

    def test_where_messages_are_left(self, provider):
        """Neither side takes them; both come to their end at once."""

        async def ignorant(ws):
            ws.send("x" * 2_000_000)

        with (
            provider.serve(provider.function(ignorant)) as server,
            connect(server.url) as ws,
            contextlib.suppress(Closed),
        ):
            ws.send("x" * 2_000_000)
        assert ws.close_received.code == 1000

    def test_by_reset(self, provider, ssl):
        application, told = recorder()
        with provider.serve(application, ssl=ssl[0]) as server:
            peer = wire.dial(server.address, ssl=ssl[1])
            told.next()
            peer.reset()
            assert told.next() == ("closed", 1006, "")

    def test_by_reset_at_once(self, provider):
        """The client is gone before the response, or just after it."""
        application, told = recorder()
        with provider.serve(application) as server:
            for _ in range(20):
                sock = wire.connected(server.address)
                sock.sendall(wire.REQUEST)
                wire.Peer(sock).reset()
            events = []
            with wire.dial(server.address) as peer:
                peer.send("hello")
                while events[-1:] != ["message"]:
                    events.append(told.next()[0])
        events += [told.get_nowait()[0] for _ in range(told.qsize())]
        assert events.count("opened") == events.count("closed") > 0

    def test_after_an_error_what_is_written_arrives(self, provider, ssl):
        """The peer is still sending: the answer would be lost if the socket was closed at once."""
        application, told = recorder()
        with (
            provider.serve(application, ssl=ssl[0]) as server,
            wire.dial(server.address, ssl=ssl[1]) as peer,
        ):
            with contextlib.suppress(SSLError):
                # TLS may be ended while this is sent.
                peer.sock.sendall(b"\x82\x01x" + bytes(1 << 20))
            assert peer.next().code == 1002
            assert peer.ended()
            peer.sock.close()
            told.next()
            assert told.next()[:2] == ("closed", 1002)

    @pytest.mark.parametrize("name", ["opened", "received_message"])
    def test_by_an_exception(self, provider, caplog, name):
        application, _ = recorder(**{name: fail})
        with provider.serve(application) as server, wire.dial(server.address) as peer:
            peer.send("hello")
            assert peer.next().code == 1011
        assert failures(caplog) == [LookupError]

    def test_an_exception_in_closed_is_logged(self, provider, caplog):
        application, _ = recorder(closed=fail)
        with provider.serve(application) as server, wire.dial(server.address) as peer:
            peer.close()
            assert peer.next() == Close(1000, "")
            assert peer.next() is None
        assert failures(caplog) == [LookupError]

    @pytest.mark.parametrize("first", [False, True], ids=["at once", "answered"])
    def test_by_an_exception_of_a_function(self, provider, caplog, first):
        async def function(ws):
            if first:
                ws.send(await ws.recv())
            fail()

        with provider.serve(provider.function(function)) as server, wire.dial(server.address) as peer:
            peer.send("hello")
            # What still waits to be written is dropped.
            while (event := peer.next()) == "hello":
                assert first
            assert event == Close(1011, "the application failed")
        (record,) = caplog.records
        assert record.getMessage().startswith("127.0.0.1:")
        assert record.getMessage().endswith(": the application failed (close code 1011)")
        assert "LookupError: of mine" in caplog.text
        assert record.exc_info[2].tb_next is not None

    def test_a_functions_own_error_after_the_peers_is_told(self, provider, caplog):
        async def function(ws):
            with contextlib.suppress(Closed):
                await ws.recv()
            fail()

        with provider.serve(provider.function(function)) as server, wire.dial(server.address) as peer:
            peer.sock.sendall(b"\xff\xff" + bytes(12))
            assert peer.next().code == 1002
        assert [record.exc_info and record.exc_info[0] for record in caplog.records] == [None, LookupError]

    def test_of_a_function_whose_peer_is_gone_is_quiet(self, provider, caplog):
        ended = threading.Event()

        async def handler(ws):
            try:
                while True:
                    ws.send("anyone?")
                    with contextlib.suppress(TimeoutError):
                        await ws.recv(0.01)
            finally:
                ended.set()

        with provider.serve(provider.function(handler)) as server:
            with wire.dial(server.address) as peer:
                assert peer.next() == "anyone?"
            assert ended.wait(PATIENCE)
        assert caplog.records == []


class TestTime:
    def test_who_does_not_close_is_given_close_timeout(self, provider):
        application, told = recorder(opened=lambda self: self.close())
        with (
            provider.serve(application, limits=Limits(close_timeout=0.1)) as server,
            wire.dial(server.address) as peer,
        ):
            assert peer.next() == Close(1000, "")
            assert peer.ended()
            assert told.next() == ("closed", 1006, "")

    def test_who_is_silent_is_pinged_and_given_up(self, provider):
        application, told = recorder()
        limits = Limits(ping_interval=0.05, ping_timeout=0.05)
        with provider.serve(application, limits=limits) as server, wire.dial(server.address) as peer:
            assert isinstance(peer.next(), Ping)
            assert peer.ended()
            told.next()
            assert told.next() == ("closed", 1006, "")

    def test_who_answers_pings_stays(self, provider):
        application, told = recorder(ponged=lambda self, data: told.put("ponged"))
        limits = Limits(ping_interval=0.05, ping_timeout=PATIENCE)
        with provider.serve(application, limits=limits) as server, wire.dial(server.address) as peer:
            told.next()
            for _ in range(3):
                peer.answer(peer.next())
                assert told.next() == "ponged"
            peer.send("hello")
            while (event := told.next()) == "ponged":
                pass
            assert event == ("message", "hello")

    def test_a_clock_that_fails_stops_no_other(self, provider, caplog):
        application, _ = recorder(tick=fail)
        limits = Limits(ping_interval=0.05, ping_timeout=None)
        with provider.serve({"/broken": application, "/": Echo}, limits=limits) as server:
            broken = wire.REQUEST.replace(b" / ", b" /broken ")
            with (
                wire.dial(server.address, broken),
                wire.dial(server.address) as peer,
                wire.dial(server.address, broken),
            ):
                for _ in range(2):
                    peer.answer(peer.next())
        assert "the clock goes on" in caplog.messages


class TestServerClose:
    @pytest.mark.parametrize("form", ["callbacks", "function"])
    def test_ends_whatever_there_is_and_leaves_nothing(self, provider, certificate, form):
        application = Echo if form == "callbacks" else echo_async if provider.looped else echo
        # What is made once in a process is there from here on.
        with provider.serve(application) as server, wire.dial(server.address):
            pass
        before = Before()
        with provider.serve(application, limits=Limits(close_timeout=0.3)) as server:
            peers = [wire.dial(server.address) for _ in range(3)]
            # One has not said all it has to, one nothing, one does not answer.
            opening, silent = wire.connected(server.address), wire.connected(server.address)
            opening.sendall(wire.REQUEST[:20])
            closer = threading.Thread(target=server.close, args=(1001, "over"))
            closer.start()
            for number, peer in enumerate(peers):
                close = peer.next()
                assert close == Close(1001, "over")
                if number:
                    peer.answer(close)
                    assert peer.next() is None
            assert peers[0].ended()
            closer.join(PATIENCE)
            assert not closer.is_alive()
            with pytest.raises(HandshakeError):
                connect(server.url)
            for sock in (opening, silent):
                assert wire.Peer(sock).ended()
            for sock in (opening, silent, *(peer.sock for peer in peers)):
                sock.close()
        before.assert_nothing_more()

    def test_of_one_whose_function_does_not_end(self, provider):
        go, begun = threading.Event(), threading.Event()

        async def deaf(ws):
            begun.set()
            await provider.wait(go)

        with (
            provider.serve(provider.function(deaf), limits=Limits(close_timeout=0.1)) as server,
            wire.dial(server.address) as peer,
        ):
            assert begun.wait(PATIENCE)
            try:
                server.close()
                assert peer.next().code == 1001
            finally:
                go.set()

    @pytest.mark.parametrize(("code", "reason"), [(1006, ""), (1001, "x" * 124)])
    def test_not_with_what_cannot_be_said(self, provider, code, reason):
        with provider.serve(Echo) as server, wire.dial(server.address) as peer:
            with pytest.raises(ValueError, match="close"):
                server.close(code, reason)
            peer.send("still")
            assert peer.next() == "still"
            with wire.dial(server.address):
                pass

    def test_says_what_it_is_given_and_waits_no_longer_than_that(self, provider):
        with (
            provider.serve(Echo, limits=Limits(close_timeout=10 * PATIENCE)) as server,
            wire.dial(server.address) as peer,
        ):
            peer.send("there")
            assert peer.next() == "there"
            before = time.monotonic()
            server.close(3000, "enough", timeout=0.1)
            assert time.monotonic() - before < PATIENCE
            assert peer.next() == Close(3000, "enough")

    def test_twice(self, provider):
        with provider.serve(Echo) as server, wire.dial(server.address) as peer:
            closers = [threading.Thread(target=server.close) for _ in range(2)]
            for closer in closers:
                closer.start()
            close = peer.next()
            assert close.code == 1001
            peer.answer(close)
            for closer in closers:
                closer.join(PATIENCE)
                assert not closer.is_alive()

    # Elsewhere it is a coroutine or a greenlet: see their own tests.
    @pytest.mark.parametrize("provider", ["threaded", "cherrypy", "wsgi"], indirect=True)
    def test_ends_serve_forever(self, provider):
        with provider.serve(Echo) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            server.close()
            thread.join(PATIENCE)
            assert not thread.is_alive()
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(server.address)
