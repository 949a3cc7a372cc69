"""WebSockets on asyncio's own loop and on uvloop's: real sockets, server and client on one loop."""

import asyncio
import contextlib
import functools
import gc
import io
import logging
import os
import socket
import stat
import subprocess
import sys
import weakref

import pytest
from tests.websocket.looped import (
    BYE,
    LARGE,
    LIMITS,
    OPTIONS,
    PATIENCE,
    PLAIN,
    SIZES,
    Echo,
    Raw,
    all_looped,
    echo,
    files,
    masked,
    on_every_loop,
    recorder,
    soon,
    until_slow,
)

from kirsch.websocket import speedups
from kirsch.websocket.application import WebSocket
from kirsch.websocket.asyncio import Connection, connect, reconnect, serve
from kirsch.websocket.backoff import Backoff
from kirsch.websocket.errors import Closed, HandshakeError, Slow
from kirsch.websocket.handshake import Policy
from kirsch.websocket.limits import Limits
from kirsch.websocket.opening import ClientOptions
from kirsch.websocket.protocol import BATCH

UNPACKED = ClientOptions(limits=LIMITS, proxy=None, deflate=None)


@functools.cache
def loops(name):
    if name == "asyncio":
        return asyncio.SelectorEventLoop
    uvloop = pytest.importorskip("uvloop")
    # The first has files that are there for all of them.
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(asyncio.sleep(0))
    return uvloop.new_event_loop


@pytest.fixture(params=["asyncio", "uvloop"])
def loop_factory(request):
    return loops(request.param)


def on_loops(cls):
    return all_looped(cls, on_every_loop)


@contextlib.asynccontextmanager
async def handled(handler, **options):
    """A server of a function, and what a test talks to it with: bytes and frames."""
    async with serve(handler, policy=PLAIN, **options) as server, Raw(server) as raw:
        await raw.head()
        yield raw


async def closed(ws):
    """How it ends, as `recv` says."""
    try:
        while True:
            await ws.recv(PATIENCE)
    except Closed as closed:
        return closed.code, closed.reason


def lines(caplog):
    return [record for record in caplog.records if record.levelno >= logging.INFO]


def sockets():
    """How many are open."""
    there = 0
    for name in files():
        with contextlib.suppress(FileNotFoundError):
            there += os.readlink(f"/proc/self/fd/{name}").startswith("socket:")
    return there


async def until_still(count):
    """Until a number does not change any more, though the loop has turned often."""
    still, before = 0, count()
    while still < 50:
        await asyncio.sleep(0.002)
        now = count()
        still, before = (still + 1, now) if now == before else (0, now)
    return before


@on_loops
class TestEcho:
    @pytest.fixture(params=["plain", "tls", "unix"])
    def options(self, request, certificate, tmp_path):
        """A server's, and a client's."""
        match request.param:
            case "tls":
                return {"ssl": certificate.server}, {"ssl": certificate.client}
            case "unix":
                return {"unix": str(tmp_path / "socket")}, {}
        return {}, {}

    @pytest.mark.parametrize("application", [Echo, echo], ids=["callbacks", "iteration"])
    async def test_of_every_size(self, options, application):
        mine, theirs = options
        async with (
            serve(application, limits=LIMITS, **mine) as server,
            connect(server.url, options=UNPACKED, **theirs) as ws,
        ):
            for size in SIZES:
                text, binary = "é" * (size // 2), os.urandom(size)
                ws.send(text)
                ws.send(binary)
                assert await ws.recv(PATIENCE) == text
                assert bytes(await ws.recv(PATIENCE)) == binary

    @pytest.mark.parametrize("application", [Echo, echo], ids=["callbacks", "iteration"])
    async def test_of_every_size_compressed(self, application):
        async with (
            serve(application, limits=LIMITS) as server,
            connect(server.url, options=OPTIONS) as ws,
        ):
            for size in SIZES:
                # It compresses well, and not beyond the limit.
                text = ("".join(f"{number:07x}" for number in range(512)) * (size // 3584 + 1))[:size]
                ws.send(text)
                ws.send(text.encode())
                assert await ws.recv(PATIENCE) == text
                assert bytes(await ws.recv(PATIENCE)) == text.encode()

    @pytest.mark.parametrize("application", [Echo, echo], ids=["callbacks", "iteration"])
    async def test_of_many_at_once(self, options, application):
        mine, theirs = options
        async with (
            serve(application, **mine) as server,
            connect(server.url, options=UNPACKED, **theirs) as ws,
        ):
            numbers = [str(number) for number in range(3000)]
            for number in numbers:
                ws.send(number)
            assert [await ws.recv(PATIENCE) for _ in numbers] == numbers

    async def test_in_both_directions_at_once(self, options):
        """Neither waits for the other: more than all buffers hold is on its way, both ways."""
        mine, theirs = options
        async with (
            serve(Echo, limits=LIMITS, policy=PLAIN, **mine) as server,
            connect(server.url, options=OPTIONS, **theirs) as ws,
        ):
            data = [os.urandom(2 << 20) for _ in range(7)]
            for message in data:
                ws.send(message)
            for message in data:
                assert bytes(await ws.recv(PATIENCE)) == message

    async def test_of_several_clients(self):
        async with serve(echo) as server, contextlib.AsyncExitStack() as stack:
            opening = [connect(server.url, options=OPTIONS) for _ in range(50)]
            clients = [await stack.enter_async_context(client) for client in opening]
            for number, ws in enumerate(clients):
                ws.send(f"{number}" * 1000)
            for number, ws in enumerate(clients):
                assert await ws.recv(PATIENCE) == f"{number}" * 1000


@on_loops
class TestServe:
    async def test_by_path(self, caplog):
        async with serve({"/class": Echo, "/function": echo}) as server:
            for path in ("class", "function"):
                async with connect(f"{server.url}{path}?query", options=OPTIONS) as ws:
                    ws.send("hello")
                    assert await ws.recv(PATIENCE) == "hello"
            with pytest.raises(HandshakeError) as refused:
                await connect(f"{server.url}other", options=OPTIONS)
            assert refused.value.status == 404
        assert len(lines(caplog)) == 1

    async def test_subprotocol_and_request(self):
        application, told = recorder()
        options = ClientOptions(subprotocols=("one", "two"), proxy=None)
        async with (
            serve(application, policy=Policy(subprotocols=("two",))) as server,
            connect(f"{server.url}path?a=b", options=options) as ws,
        ):
            assert ws.subprotocol == "two"
            there = (await soon(told.get()))[1]
            assert there.subprotocol == "two"
            assert (there.request.path, there.request.query) == ("/path", "a=b")
            assert there.peer.startswith("127.0.0.1:")

    @pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", None, ""])
    async def test_hosts(self, host):
        if host == "::1" and not socket.has_ipv6:
            pytest.skip("there is no IPv6")
        try:
            server = await serve(Echo, host)
        except OSError as error:
            assert host == "::1"
            pytest.skip(f"there is no IPv6: {error}")
        async with server:
            port = server.address[1]
            assert port
            assert {sock.getsockname()[1] for sock in server.sockets} == {port}
            for sock in server.sockets:
                there = sock.getsockname()[0]
                there = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(there, there)
                url = f"ws://[{there}]:{port}/" if ":" in there else f"ws://{there}:{port}/"
                async with connect(url, options=OPTIONS) as ws:
                    ws.send("hello")
                    assert await ws.recv(PATIENCE) == "hello"
            assert server.url == ("ws://[::1]:{}/" if host == "::1" else server.url).format(port)

    async def test_a_socket_that_is_bound(self):
        sock = socket.socket()
        sock.bind(("127.0.0.1", 0))
        async with serve(Echo, sock=sock) as server:
            assert server.address == sock.getsockname()
            async with connect(server.url, options=OPTIONS) as ws:
                ws.send("hello")
                assert await ws.recv(PATIENCE) == "hello"
        assert sock.fileno() == -1

    async def test_where_one_listens_already(self):
        async with serve(Echo) as server:
            before = files()
            with pytest.raises(OSError, match="in use"):
                await serve(Echo, port=server.address[1])
            assert files() == before

    async def test_a_unix_socket(self, tmp_path):
        path = str(tmp_path / "socket")
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(path)
        # Nobody listens there any more.
        async with serve(Echo, unix=path) as server:
            assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
            assert server.address == path
            with pytest.raises(OSError, match="in use"):
                await serve(Echo, unix=path)
            async with connect(server.url, options=OPTIONS) as ws:
                ws.send("hello")
                assert await ws.recv(PATIENCE) == "hello"
        assert os.listdir(tmp_path) == []

    async def test_serve_forever_until_cancelled(self):
        server = await serve(Echo)
        serving = asyncio.create_task(server.serve_forever())
        async with connect(server.url, options=OPTIONS) as ws:
            ws.send("hello")
            assert await ws.recv(PATIENCE) == "hello"
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
        with pytest.raises(HandshakeError, match="nothing listens"):
            await connect(server.url, options=OPTIONS)


@on_loops
class TestHandshake:
    @pytest.mark.parametrize(
        ("asked", "status"),
        [
            ({"Sec_WebSocket_Key": "short"}, 400),
            ({"Sec_WebSocket_Version": "7"}, 426),
            ({"without": ("Upgrade",)}, 426),
            ({"Connection": "keep-alive"}, 400),
            ({"without": ("Host",)}, 400),
            ({"Content_Length": "5"}, 400),
            ({"Origin": "http://elsewhere.example"}, 403),
            ({"line": "GET / HTTP/1.0"}, 505),
            ({"line": "POST / HTTP/1.1"}, 405),
            ({"line": "nonsense"}, 400),
            ({"X": "x" * 100_000}, 431),
        ],
        ids=lambda value: str(value)[:40],
    )
    @pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
    async def test_refused(self, caplog, certificate, secure, asked, status):
        mine, theirs = (certificate.server, certificate.client) if secure else (None, None)
        async with serve(Echo, ssl=mine) as server, Raw(server, ssl=theirs, **asked) as raw:
            port = raw.writer.get_extra_info("sockname")[1]
            head = await raw.head()
            assert head.startswith(f"HTTP/1.1 {status} ")
            assert "Connection: close" in head
            body = await soon(raw.reader.read())
            assert body.endswith(b"\n")
            assert body.count(b"\n") == 1
        (record,) = lines(caplog)
        assert (record.name, record.levelno) == ("kirsch.websocket", logging.WARNING)
        assert record.getMessage().startswith(f"127.0.0.1:{port}: ")
        assert record.getMessage().isprintable()
        assert record.exc_info is None

    async def test_the_refusal_arrives_though_more_is_sent(self):
        """Had the socket been closed at once what it says would have been lost."""
        async with serve(Echo) as server, Raw(server, line="POST / HTTP/1.1", more=bytes(1 << 20)) as raw:
            assert (await raw.head()).startswith("HTTP/1.1 405 ")
            await raw.writer.drain()

    async def test_frames_right_behind_the_head(self):
        frames = masked(b"one") + masked(b"two" * 100_000)
        async with serve(Echo) as server:
            for cut in (0, 1, 9, 10, 1000, len(frames)):
                async with Raw(server, more=frames[:cut]) as raw:
                    assert (await raw.head()).startswith("HTTP/1.1 101 ")
                    raw.writer.write(frames[cut:])
                    assert [await raw.frame(), await raw.frame()] == [
                        (0x82, b"one"),
                        (0x82, b"two" * 100_000),
                    ]

    async def test_a_head_in_pieces(self):
        async with serve(Echo) as server, Raw(server) as raw:
            await raw.head()
            reader, writer = await asyncio.open_connection(*server.address)
            for at in range(0, len(raw.request), 10):
                writer.write(raw.request[at : at + 10])
                await asyncio.sleep(0)
            assert (await soon(reader.readuntil(b"\r\n\r\n"))).startswith(b"HTTP/1.1 101 ")
            writer.close()

    async def test_an_application_that_cannot_be_made(self, caplog):
        def fail(self, **_):
            raise LookupError("of mine")

        application, _ = recorder(__init__=fail)
        async with serve(application) as server:
            with pytest.raises(HandshakeError) as refused:
                await connect(server.url, options=OPTIONS)
            assert refused.value.status == 500
        assert [record.exc_info and record.exc_info[0] for record in lines(caplog)] == [LookupError, None]

    async def test_no_tls_where_there_should_be(self, certificate, caplog):
        async with serve(Echo, ssl=certificate.server) as server:
            async with Raw(server) as raw:
                assert await raw.ended()
            with pytest.raises(HandshakeError):
                await connect(server.url, options=OPTIONS)
            async with connect(server.url, options=OPTIONS, ssl=certificate.client) as ws:
                ws.send("hello")
                assert await ws.recv(PATIENCE) == "hello"
        assert [record.exc_info for record in lines(caplog)] == [None, None]


@on_loops
class TestTime:
    """The clock ticks once a second: what takes time is done at once."""

    async def test_is_up(self, caplog, certificate):
        limits = Limits(handshake_timeout=0.5)
        async with (
            serve(Echo, limits=limits) as server,
            serve(Echo, limits=limits, ssl=certificate.server) as secure,
            asyncio.TaskGroup() as group,
        ):
            for address, ssl in (
                (server.address, None),
                (secure.address, certificate.client),
                (secure.address, None),
            ):
                group.create_task(self.no_handshake(address, ssl))
            group.create_task(self.a_refused_one_that_stays())
            group.create_task(self.no_close())
            group.create_task(self.no_pong())
            group.create_task(self.no_server_that_closes())
            group.create_task(self.a_full_inbox())
            group.create_task(self.a_message_on_its_way(None, None))
            group.create_task(self.a_message_on_its_way(certificate.server, certificate.client))
            # This one has done it, and stays.
            async with Raw(server) as raw:
                await raw.head()
                await self.no_handshake(server.address, None)
                raw.writer.write(masked(b"hello"))
                assert await raw.frame() == (0x82, b"hello")
        late = [record for record in lines(caplog) if "no handshake in 0.5 s" in record.getMessage()]
        assert len(late) == 3
        assert all(record.exc_info is None for record in caplog.records)

    async def no_handshake(self, address, ssl):
        reader, writer = await asyncio.open_connection(*address, ssl=ssl)
        if ssl or address:
            writer.write(b"GET / HT" if ssl or not address else b"")
        with contextlib.suppress(ConnectionResetError):
            assert await soon(reader.read()) == b""
        writer.close()

    async def a_refused_one_that_stays(self):
        async with (
            serve(Echo, limits=Limits(close_timeout=0.1)) as server,
            Raw(server, line="POST / HTTP/1.1") as raw,
        ):
            assert (await raw.head()).startswith("HTTP/1.1 405 ")
            with contextlib.suppress(OSError):
                while True:
                    raw.writer.write(b"x")
                    await soon(raw.writer.drain())
                    await asyncio.sleep(0.05)

    async def no_close(self):
        """The peer has close_timeout to answer."""
        application, told = recorder(opened=lambda self: self.close())
        async with serve(application, limits=Limits(close_timeout=0.1)) as server, Raw(server) as raw:
            await raw.head()
            assert (await raw.frame())[0] == 0x88
            assert await raw.ended()
            assert await soon(told.get()) == ("closed", 1006, "")

    async def no_pong(self):
        application, told = recorder()
        limits = Limits(ping_interval=0.1, ping_timeout=0.1)
        async with (
            serve(application, limits=limits) as server,
            connect(server.url, options=OPTIONS) as ws,
            Raw(server) as raw,
        ):
            await raw.head()
            assert (await raw.frame())[0] == 0x89
            assert await raw.ended()
            while (event := await soon(told.get()))[0] != "closed":
                pass
            assert event == ("closed", 1006, "")
            # This one answers.
            ws.send("hello")
            assert await soon(told.get()) == ("message", "hello")

    async def no_server_that_closes(self):
        application, told = recorder(closed=lambda self, code, reason: None)
        options = ClientOptions(limits=Limits(close_timeout=0.1), proxy=None)
        async with serve(application) as server:
            ws = connect(server.url, options=options)
            async with ws:
                there = (await soon(told.get()))[1]
                there.wire.hold(True)
            there.wire.abort()

    async def a_message_on_its_way(self, mine, theirs):
        """Who takes long to read a large one is there, whatever it is asked meanwhile."""
        application, told = recorder()
        limits = Limits(ping_interval=0.1, ping_timeout=0.1, message=None)
        options = ClientOptions(limits=limits, proxy=None, deflate=None)
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
        sock.bind(("127.0.0.1", 0))
        patient = Limits(message=None, ping_interval=None)
        async with (
            serve(application, sock=sock, ssl=mine, limits=patient) as server,
            connect(server.url, options=options, ssl=theirs) as ws,
        ):
            there = (await soon(told.get()))[1]
            there.wire.hold(True)
            ws.send(bytes(2 * LARGE))
            until = asyncio.get_running_loop().time() + 3.5
            while asyncio.get_running_loop().time() < until:
                there.wire.hold(False)
                for _ in range(3):
                    await asyncio.sleep(0)
                there.wire.hold(True)
                await asyncio.sleep(0.04)
            there.wire.hold(False)
            assert (await soon(told.get())) == ("message", bytes(2 * LARGE))

    async def a_full_inbox(self):
        """Who is not read cannot answer a ping: the peer is there all the same."""
        begun, go, done = asyncio.Event(), asyncio.Event(), asyncio.Event()

        async def wait(ws):
            async for _ in ws:
                begun.set()
                await soon(go.wait())
            done.set()

        limits = Limits(inbox=1000, ping_interval=0.1, ping_timeout=0.1)
        async with handled(wait, limits=limits) as raw:
            raw.writer.write(masked(bytes(2000)) * 3)
            await soon(begun.wait())
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(raw.reader.read(), 3.5)
            go.set()
            raw.writer.write(BYE)
            await soon(done.wait())


@on_loops
class TestSlowReader:
    @pytest.fixture(params=["plain", "tls"])
    def ssl(self, request, certificate):
        """What the server and a client have."""
        return (certificate.server, certificate.client) if request.param == "tls" else (None, None)

    async def test_the_sender_is_told_and_can_wait(self, ssl):
        application, told = recorder()
        limits = Limits(queue=1 << 20)
        async with (
            serve(application, limits=limits, policy=PLAIN, ssl=ssl[0]) as server,
            Raw(server, ssl=ssl[1]) as raw,
        ):
            await raw.head()
            there = (await soon(told.get()))[1]
            sent = await until_slow(there)
            # TLS has two of what is taken at a time in its hands.
            assert there.buffered <= limits.queue + 2 * BATCH + 60_000
            waiting = asyncio.create_task(there.drain())
            for _ in range(sent):
                assert await raw.frame() == (0x82, bytes(50_000))
            await soon(waiting)
            assert there.buffered <= limits.queue // 4

    async def test_one_message_may_be_larger_than_the_queue(self, ssl):
        application, told = recorder()
        async with (
            serve(application, limits=Limits(queue=1000), policy=PLAIN, ssl=ssl[0]) as server,
            Raw(server, ssl=ssl[1]) as raw,
        ):
            await raw.head()
            there = (await soon(told.get()))[1]
            there.send(bytes(LARGE))
            # What the wire has taken is in no queue: one more may wait then, but not two.
            more = 0
            with contextlib.suppress(Slow):
                while True:
                    there.send(bytes(600))
                    more += 1
            assert more < 2
            assert await raw.frame() == (0x82, bytes(LARGE))
            for _ in range(more):
                assert await raw.frame() == (0x82, bytes(600))
            await soon(there.drain())
            there.send(b"x")
            assert await raw.frame() == (0x82, b"x")

    async def test_who_waits_is_told_of_the_end(self, ssl):
        application, told = recorder()
        async with (
            serve(application, limits=Limits(queue=100_000), policy=PLAIN, ssl=ssl[0]) as server,
            Raw(server, ssl=ssl[1]) as raw,
        ):
            await raw.head()
            there = (await soon(told.get()))[1]
            raw.writer.transport.pause_reading()
            await until_slow(there)
            waiting = asyncio.create_task(there.drain())
            await asyncio.sleep(0)
            raw.reset()
            with pytest.raises(Closed):
                await soon(waiting)
            assert await soon(told.get()) == ("closed", 1006, "")

    async def test_is_not_read_and_can_close(self, ssl):
        total = 3000
        ended = asyncio.Event()

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
                Loud.end = (code, reason)
                ended.set()

        limits = Limits(queue=1 << 20, ping_interval=None)
        async with (
            serve(Loud, limits=limits, policy=PLAIN, ssl=ssl[0]) as server,
            Raw(server, ssl=ssl[1]) as raw,
        ):
            await raw.head()
            raw.writer.write(masked(bytes(10_000)) * total + masked((4000).to_bytes(2) + b"bye", 0x88))
            # The server does not read it all, as nobody reads the answers.
            assert await until_still(lambda: Loud.count) < total
            for _ in range(total):
                assert await raw.frame() == (0x82, bytes(10_000))
            assert Loud.count == total
            assert not Loud.slow
            assert 0 < Loud.most <= limits.queue
            assert await raw.frame() == (0x88, (4000).to_bytes(2) + b"bye")
            await soon(ended.wait())
            assert Loud.end == (4000, "bye")

    async def test_is_closed_by_the_server_and_its_answer_is_read(self, ssl):
        """The server had stopped to read; it must not take close_timeout."""
        application, told = recorder(received_message=lambda self, _: self.send(bytes(100_000)))
        async with (
            serve(application, limits=Limits(queue=1 << 20), policy=PLAIN, ssl=ssl[0]) as server,
            Raw(server, ssl=ssl[1]) as raw,
        ):
            await raw.head()
            there = (await soon(told.get()))[1]
            raw.writer.transport.pause_reading()
            size = 0
            while there.wire._reading:
                raw.writer.write(masked(b"x"))
                size += 1
                await asyncio.sleep(0)
            there.close(4000)
            raw.writer.transport.resume_reading()
            async with asyncio.timeout(PATIENCE):
                while (frame := await raw.frame())[0] != 0x88:
                    assert frame == (0x82, bytes(100_000))
            raw.writer.write(masked((4000).to_bytes(2), 0x88))
            async with asyncio.timeout(5):
                assert (await told.get()) == ("closed", 4000, "")


@on_loops
class TestInbox:
    async def test_reading_stops_while_it_is_full_and_goes_on(self):
        go, begun = asyncio.Event(), asyncio.Event()
        seen = []
        there = []

        async def late(ws):
            there.append(ws)
            begun.set()
            await soon(go.wait())
            async for message in ws:
                seen.append(message)

        total = 2000
        async with handled(late, limits=Limits(inbox=100_000)) as raw:
            await soon(begun.wait())
            raw.writer.write(masked(bytes(10_000)) * total + BYE)
            count = await until_still(lambda: len(there[0]._inbox))
            # What is over it came with one read.
            assert 10 <= count <= 10 + (256 << 10) // 10_000 + 1
            assert raw.writer.transport.get_write_buffer_size() > 0
            go.set()
            assert (await raw.frame())[0] == 0x88
        assert seen == [bytes(10_000)] * total

    async def test_full_does_not_keep_the_answer_to_a_close_away(self):
        go = asyncio.Event()

        async def close(ws):
            await soon(go.wait())
            ws.close(4000, "enough")
            assert await closed(ws) == (4000, "enough")
            done.set()

        done = asyncio.Event()
        async with handled(close, limits=Limits(inbox=100_000)) as raw:
            raw.writer.write(masked(bytes(10_000)) * 1000)
            await until_still(lambda: raw.writer.transport.get_write_buffer_size())
            go.set()
            assert await raw.frame() == (0x88, (4000).to_bytes(2) + b"enough")
            raw.writer.write(masked((4000).to_bytes(2) + b"enough", 0x88))
            async with asyncio.timeout(5):
                await raw.ended()
                await done.wait()

    async def test_full_does_not_keep_the_end_away_when_the_function_fails(self, caplog):
        async def fail(ws):
            await soon(go.wait())
            for _ in range(len(ws._inbox)):
                await ws.recv()
            raise LookupError("of mine")

        go = asyncio.Event()
        async with handled(fail, limits=Limits(inbox=100_000)) as raw:
            raw.writer.write(masked(bytes(10_000)) * 1000)
            await until_still(lambda: raw.writer.transport.get_write_buffer_size())
            go.set()
            first, payload = await raw.frame()
            assert (first, payload[:2]) == (0x88, (1011).to_bytes(2))
            async with asyncio.timeout(5):
                await raw.writer.drain()
                raw.writer.write_eof()
                await raw.ended()
        assert [record.exc_info[0] for record in lines(caplog)] == [LookupError]

    @pytest.mark.parametrize("stream", [False, True], ids=["messages", "chunks"])
    async def test_what_comes_after_our_close_is_bounded(self, stream):
        async def close(ws):
            ws.close()
            begun.set()
            there.append(ws)
            await soon(go.wait())

        go, begun, there = asyncio.Event(), asyncio.Event(), []
        async with handled(close, limits=Limits(inbox=100_000), stream=stream) as raw:
            await soon(begun.wait())
            raw.writer.write(masked(bytes(10_000)) * 1000 + BYE)
            assert (await raw.frame())[0] == 0x88
            assert await raw.ended()
            assert len(there[0]._inbox) <= 10 + (256 << 10) // 10_000 + 1
            go.set()

    async def test_full_of_what_came_compressed(self):
        go, begun, there = asyncio.Event(), asyncio.Event(), []
        total = 300

        async def late(ws):
            there.append(ws)
            begun.set()
            await soon(go.wait())
            return [message async for message in ws]

        async with (
            serve(late, limits=Limits(inbox=100_000)) as server,
            connect(server.url, options=OPTIONS) as ws,
        ):
            await soon(begun.wait())
            for _ in range(total):
                ws.send(os.urandom(2000) * 2)
                await asyncio.sleep(0)
            assert 10 <= await until_still(lambda: len(there[0]._inbox)) < total
            go.set()
            ws.close()
            assert (await closed(ws))[0] == 1000


@on_loops
class TestRecv:
    async def test_in_time(self):
        async with serve(echo) as server, connect(server.url, options=OPTIONS) as ws:
            for timeout in (0, 0.01):
                with pytest.raises(TimeoutError):
                    await ws.recv(timeout)
            ws.send("hello")
            assert await ws.recv(PATIENCE) == "hello"

    async def test_by_two_tasks_at_once(self):
        async with serve(echo) as server, connect(server.url, options=OPTIONS) as ws:
            first = asyncio.create_task(ws.recv())
            await asyncio.sleep(0)
            with pytest.raises(RuntimeError, match="another task"):
                await ws.recv()
            ws.send("hello")
            assert await soon(first) == "hello"
            ws.send("again")
            assert await ws.recv(PATIENCE) == "again"

    async def test_cancelled_loses_nothing(self):
        async with serve(echo) as server, connect(server.url, options=OPTIONS) as ws:
            seen = []
            for number in range(100):
                ws.send(str(number))
                receiving = asyncio.create_task(ws.recv())
                for _ in range(number % 7):
                    await asyncio.sleep(0)
                receiving.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    seen.append(await receiving)
            while len(seen) < 100:
                seen.append(await ws.recv(PATIENCE))
            assert seen == [str(number) for number in range(100)]

    async def test_cancelled_as_the_message_comes(self):
        """The waiter is done, and its task is cancelled before it has run."""
        async with serve(WebSocket) as server, connect(server.url, options=UNPACKED) as ws:
            receiving = asyncio.create_task(ws.recv())
            await asyncio.sleep(0)
            ws._inbox.append("hello")
            ws._arrived(5)
            receiving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await receiving
            assert await ws.recv(0) == "hello"


@on_loops
class TestStreams:
    async def test_both_ways(self):
        async def back(ws):
            async for message in ws:
                pieces = [piece async for piece in message]
                ws.send(iter(pieces) if message.text else io.BytesIO(b"".join(pieces)))

        limits = Limits(message=None)
        async with (
            serve(back, stream=True, limits=limits) as server,
            connect(server.url, options=OPTIONS, stream=True) as ws,
        ):
            for size in (0, 10, 200_000, LARGE // 4):
                text = "é" * size
                ws.send(text)
                message = await ws.recv(PATIENCE)
                # Of no item at all nobody knows which kind it is.
                assert message.text is bool(size)
                assert (b"" if not size else "").join([chunk async for chunk in message]) == (text or b"")
                ws.send(text.encode())
                message = await ws.recv(PATIENCE)
                assert not message.text
                assert b"".join([chunk async for chunk in message]) == text.encode()

    async def test_chunks_come_before_the_message_is_whole(self):
        async def first(ws):
            async for message in ws:
                async for chunk in message:
                    ws.send(chunk)
                    break

        async with handled(first, stream=True) as raw:
            raw.writer.write(masked(b"one", 0x02))
            assert await raw.frame() == (0x82, b"one")
            # The rest of it is skipped.
            raw.writer.write(masked(b"two", 0x00) + masked(b"three", 0x80) + masked(b"four"))
            assert await raw.frame() == (0x82, b"four")

    async def test_much_is_skipped(self):
        async def sizes(ws):
            async for message in ws:
                async for chunk in message:
                    ws.send(str(len(chunk)))
                    break

        limits = Limits(message=None, inbox=10_000)
        async with handled(sizes, stream=True, limits=limits) as raw:
            raw.writer.write(masked(b"x", 0x02) + masked(bytes(3_000_000), 0x80) + masked(b"four"))
            assert await raw.frame() == (0x81, b"1")
            assert await raw.frame() == (0x81, b"4")

    async def test_of_a_message_that_does_not_end(self):
        ends = asyncio.Queue()

        async def read(ws):
            async for message in ws:
                try:
                    async for chunk in message:
                        ends.put_nowait(chunk)
                except Closed as closed:
                    ends.put_nowait(closed.code)
                    raise

        async with handled(read, stream=True) as raw:
            raw.writer.write(masked(b"one", 0x02) + BYE)
            assert await soon(ends.get()) == b"one"
            assert await soon(ends.get()) == 1000

    async def test_reading_stops_while_nobody_takes_chunks(self):
        go, there, begun = asyncio.Event(), [], asyncio.Event()

        async def late(ws):
            async for message in ws:
                there.append(message)
                begun.set()
                await soon(go.wait())
                ws.send(str(sum([len(chunk) async for chunk in message])))

        async with handled(late, stream=True, limits=Limits(message=None, inbox=100_000)) as raw:
            raw.writer.write(masked(bytes(LARGE)))
            await soon(begun.wait())
            waiting = await until_still(lambda: sum(map(len, there[0]._chunks)))
            assert waiting <= 100_000 + (256 << 10)
            go.set()
            assert await raw.frame() == (0x81, str(LARGE).encode())

    async def test_an_iterator_is_asked_as_there_is_room(self):
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

        async with handled(send) as raw:
            raw.writer.transport.pause_reading()
            assert await until_still(lambda: asked) < 300
            raw.writer.transport.resume_reading()
            size, first = 0, 0
            while not first & 0x80:
                first, payload = await raw.frame()
                assert first & 0x0F == (0 if size else 2)
                size += len(payload)
            assert size == 30_000_000
            assert await raw.frame() == (0x81, b"behind it")

    async def test_an_iterator_that_fails(self, caplog):
        def pieces():
            yield "one"
            yield "two"
            raise LookupError("of mine")

        async def send(ws):
            ws.send(pieces())
            async for _ in ws:
                pass

        async with serve(send) as server, connect(server.url, options=OPTIONS) as ws:
            assert (await closed(ws))[0] == 1011
        assert [record.exc_info[0] for record in lines(caplog) if record.exc_info] == [LookupError]


@on_loops
class TestEnd:
    async def test_by_the_client(self):
        application, told = recorder()
        async with serve(application) as server, connect(server.url, options=OPTIONS) as ws:
            there = (await soon(told.get()))[1]
            ws.close(4000, "enough")
            with pytest.raises(Closed):
                ws.send("more")
            assert await soon(told.get()) == ("closed", 4000, "enough")
            assert await closed(ws) == (4000, "enough")
            for send in (ws.send, there.send):
                with pytest.raises(Closed) as closing:
                    send("more")
                assert (closing.value.code, closing.value.reason) == (4000, "enough")
            with pytest.raises(Closed):
                await ws.drain()

    async def test_by_the_server(self, certificate):
        for ssl in ((None, None), (certificate.server, certificate.client)):
            application, told = recorder(opened=lambda self: self.close(4001, "go"))
            async with (
                serve(application, ssl=ssl[0]) as server,
                connect(server.url, options=OPTIONS, ssl=ssl[1]) as ws,
            ):
                assert await closed(ws) == (4001, "go")
                assert await soon(told.get()) == ("closed", 4001, "go")

    async def test_of_a_function(self):
        async def bye(ws):
            ws.send("bye")

        async with serve(bye) as server, connect(server.url, options=OPTIONS) as ws:
            assert [message async for message in ws] == ["bye"]

    async def test_of_a_function_that_is_cancelled(self):
        async def stop(ws):
            asyncio.current_task().cancel()
            await asyncio.sleep(0)

        async with serve(stop) as server, connect(server.url, options=OPTIONS) as ws:
            assert (await closed(ws))[0] == 1000

    @pytest.mark.parametrize("code", [1000, 1001, None, 1008, 3000])
    async def test_of_an_iteration(self, code):
        ends = asyncio.Queue()

        async def read(ws):
            try:
                async for message in ws:
                    ends.put_nowait(message)
                ends.put_nowait("normal")
            except Closed as closed:
                ends.put_nowait((closed.code, closed.reason))

        async with handled(read) as raw:
            payload = b"" if code is None else code.to_bytes(2) + b"why"
            raw.writer.write(masked(b"last") + masked(payload, 0x88))
            assert await raw.frame() == (0x88, payload)
            assert await soon(ends.get()) == b"last"
            assert await soon(ends.get()) == ("normal" if code in (1000, 1001, None) else (code, "why"))

    async def test_by_reset(self, certificate):
        for ssl in ((None, None), (certificate.server, certificate.client)):
            application, told = recorder()
            async with serve(application, ssl=ssl[0]) as server, Raw(server, ssl=ssl[1]) as raw:
                await raw.head()
                await soon(told.get())
                raw.reset()
                assert await soon(told.get()) == ("closed", 1006, "")

    async def test_by_reset_at_once(self):
        """The client is gone before the response, or just after it."""
        application, told = recorder()
        async with serve(application) as server:
            for _ in range(20):
                async with Raw(server) as raw:
                    await raw.writer.drain()
                    raw.reset()
            async with Raw(server) as raw:
                await raw.head()
        events = [told.get_nowait() for _ in range(told.qsize())]
        assert [event[0] for event in events].count("opened") == [event[0] for event in events].count(
            "closed"
        )

    @pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
    async def test_after_an_error_what_is_written_arrives(self, secure, certificate):
        """The peer is still sending: the answer would be lost if the socket was closed at once."""
        application, told = recorder()
        async with serve(application, ssl=certificate.server if secure else None) as server:
            async with Raw(server, ssl=certificate.client if secure else None) as raw:
                await raw.head()
                raw.writer.write(b"\x82\x01x" + bytes(1 << 20))
                first, payload = await raw.frame()
                assert (first, payload[:2]) == (0x88, (1002).to_bytes(2))
                assert await raw.ended()
            await soon(told.get())
            assert (await soon(told.get()))[:2] == ("closed", 1002)

    @pytest.mark.parametrize("name", ["opened", "received_message"])
    async def test_by_an_exception(self, caplog, name):
        def fail(self, *arguments):
            raise LookupError("of mine")

        application, _ = recorder(**{name: fail})
        async with serve(application) as server, connect(server.url, options=OPTIONS) as ws:
            with contextlib.suppress(Closed):
                ws.send("hello")
            assert (await closed(ws))[0] == 1011
        assert [record.exc_info[0] for record in lines(caplog)] == [LookupError]

    @pytest.mark.parametrize("first", [False, True], ids=["at once", "answered"])
    async def test_by_an_exception_of_a_function(self, caplog, first):
        async def fail(ws):
            if first:
                ws.send(await ws.recv())
            raise LookupError("of mine")

        async with serve(fail) as server, connect(server.url, options=OPTIONS) as ws:
            with contextlib.suppress(Closed):
                ws.send("hello")
            assert (await closed(ws))[0] == 1011
        (record,) = lines(caplog)
        assert record.exc_info[0] is LookupError
        assert record.exc_info[2].tb_next is not None

    async def test_a_functions_own_error_after_the_peers_is_told(self, caplog):
        async def fail(ws):
            with contextlib.suppress(Closed):
                await ws.recv()
            raise LookupError("of mine")

        async with handled(fail) as raw:
            raw.writer.write(b"\xff\xff" + bytes(12))
            assert (await raw.frame())[1][:2] == (1002).to_bytes(2)
        assert [record.exc_info and record.exc_info[0] for record in lines(caplog)] == [None, LookupError]

    async def test_an_exception_in_closed_is_logged(self, caplog):
        def fail(self, code, reason):
            raise LookupError("of mine")

        application, _ = recorder(closed=fail)
        async with serve(application) as server, connect(server.url, options=OPTIONS):
            pass
        assert [record.exc_info[0] for record in lines(caplog)] == [LookupError]


@on_loops
class TestPing:
    async def test_is_answered_with_what_it_carried(self):
        class Asking(Connection):
            def ponged(self, data):
                told.put_nowait(data)

        told = asyncio.Queue()
        async with serve(echo) as server, connect(server.url, Asking, options=OPTIONS) as ws:
            for data in (b"", b"x" * 125):
                ws.ping(data)
                assert await soon(told.get()) == data
            with pytest.raises(ValueError, match="125"):
                ws.ping(bytes(126))

    async def test_between_fragments(self):
        async with serve(Echo) as server, Raw(server) as raw:
            await raw.head()
            raw.writer.write(masked(b"one", 0x02) + masked(b"there?", 0x89) + masked(b"two", 0x80))
            assert await raw.frame() == (0x8A, b"there?")
            assert await raw.frame() == (0x82, b"onetwo")


@on_loops
class TestWrites:
    async def test_from_outside_go_out_though_nobody_iterates(self, certificate):
        async def sleep(ws):
            there.put_nowait(ws)
            await soon(done.wait())

        for mine, theirs in ((None, None), (certificate.server, certificate.client)):
            there, done = asyncio.Queue(), asyncio.Event()
            async with (
                serve(sleep, ssl=mine, policy=PLAIN) as server,
                connect(server.url, options=OPTIONS, ssl=theirs) as ws,
            ):
                other = await soon(there.get())
                asyncio.get_running_loop().call_later(0.01, other.send, "by a timer")
                assert await ws.recv(PATIENCE) == "by a timer"
                await asyncio.create_task(self.say(other, "by a task"))
                assert await ws.recv(PATIENCE) == "by a task"
                asyncio.get_running_loop().call_soon(ws.send, "to the server")
                assert await other.recv(PATIENCE) == "to the server"
                done.set()

    async def say(self, ws, message):
        ws.send(message)

    async def test_many_are_gathered(self):
        """A thousand messages of a task, or of one read, are one write."""

        async def burst(ws):
            async for _ in ws:
                for _ in range(1000):
                    ws.send(b"x" * 10)

        async with serve(burst, policy=PLAIN) as server, Raw(server) as raw:
            await raw.head()
            reads = await self.reads(raw, masked(b"go"), 12_000)
            # A lone answer is written at once, the others together.
            assert reads <= 4
        async with serve(Echo, policy=PLAIN) as server, Raw(server) as raw:
            await raw.head()
            assert await self.reads(raw, masked(b"x" * 10) * 1000, 12_000) <= 4

    async def reads(self, raw, request, size):
        raw.writer.write(request)
        count = 0
        while size:
            size -= len(await soon(raw.reader.read(1 << 18)))
            assert size >= 0
            count += 1
        return count

    async def test_a_lone_answer_goes_out_at_once(self):
        """It is with the peer before the function waits again."""

        async def answer(ws):
            async for message in ws:
                ws.send(message)
                seen.append(ws.buffered)

        seen = []
        async with handled(answer) as raw:
            for _ in range(3):
                raw.writer.write(masked(b"hello"))
                assert await raw.frame() == (0x82, b"hello")
        assert seen == [0, 0, 0]


@on_loops
class TestServerClose:
    @pytest.fixture(params=["plain", "tls"])
    def ssl(self, request, certificate):
        return (certificate.server, certificate.client) if request.param == "tls" else (None, None)

    async def test_ends_whatever_there_is(self, ssl):
        application, told = recorder()
        before = sockets()
        async with serve(application, limits=Limits(close_timeout=0.2), ssl=ssl[0]) as server:
            async with (
                connect(server.url, options=OPTIONS, ssl=ssl[1]) as ws,
                Raw(server, ssl=ssl[1]) as raw,
            ):
                # One has not said all it has to, one nothing.
                reader, writer = await asyncio.open_connection(*server.address, ssl=ssl[1])
                writer.write(b"GET / HTTP/1.1\r\n")
                silent, other = await asyncio.open_connection(*server.address)
                await raw.head()
                for _ in range(2):
                    await soon(told.get())
                closing = asyncio.create_task(server.close(1001, "over"))
                assert await closed(ws) == (1001, "over")
                # This one does not answer.
                assert (await raw.frame())[0] == 0x88
                assert await raw.ended()
                await soon(closing)
                for end in (reader, silent):
                    with contextlib.suppress(ConnectionResetError):
                        assert await soon(end.read()) == b""
                for end in (writer, other):
                    end.close()
                    with contextlib.suppress(OSError):
                        await end.wait_closed()
                assert sorted([(await soon(told.get()))[1] for _ in range(2)]) == [1001, 1006]
                with pytest.raises(HandshakeError):
                    await connect(server.url, options=OPTIONS)
            assert sockets() == before

    async def test_waits_for_functions(self):
        """Those that end when the connection has, and those that do not."""
        ended = []

        async def careful(ws):
            async for _ in ws:
                pass
            for _ in range(20):
                await asyncio.sleep(0)
            ended.append("careful")

        async def deaf(ws):
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                ended.append("deaf")

        paths = {"/careful": careful, "/deaf": deaf}
        async with (
            serve(paths, limits=Limits(close_timeout=0.1)) as server,
            contextlib.AsyncExitStack() as stack,
        ):
            for path in ("careful", "deaf"):
                await stack.enter_async_context(connect(f"{server.url}{path}", options=OPTIONS))
            tasks = asyncio.all_tasks()
            await soon(server.close())
            assert ended == ["careful", "deaf"]
            assert len(asyncio.all_tasks()) == len(tasks) - 2

    async def test_by_one_of_its_functions(self):
        async def stop(ws):
            await ws.recv()
            await server.close()
            done.set()

        done = asyncio.Event()
        async with serve(stop) as server, connect(server.url, options=OPTIONS) as ws:
            ws.send("stop")
            assert (await closed(ws))[0] == 1001
            await soon(done.wait())

    async def test_twice_at_once(self):
        async with serve(echo) as server, connect(server.url, options=OPTIONS) as ws:
            async with asyncio.timeout(5):
                await asyncio.gather(server.close(), server.close())
            assert (await closed(ws))[0] == 1001


def test_a_loop_that_is_done_with_is_kept_by_nothing(loop_factory):
    async def run():
        async with serve(echo) as server, connect(server.url, options=OPTIONS) as ws:
            ws.send("hello")
            assert await ws.recv(PATIENCE) == "hello"

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        loop = weakref.ref(runner.get_loop())
        runner.run(run())
    del runner
    gc.collect()
    assert loop() is None


@on_loops
class TestClient:
    async def test_comes_back(self):
        async def once(ws):
            ws.send("hello")

        seen = []
        async with serve(once) as server:
            clients = reconnect(server.url, backoff=Backoff(0.01, maximum=0.01), options=OPTIONS)
            async with contextlib.aclosing(clients):
                async for ws in clients:
                    seen += [message async for message in ws]
                    if len(seen) == 3:
                        break
        assert seen == ["hello"] * 3

    async def test_comes_back_until_its_attempts_are_over(self):
        async with serve(WebSocket) as server:
            pass
        clients = reconnect(server.url, backoff=Backoff(0, attempts=3), options=OPTIONS)
        with pytest.raises(HandshakeError, match="nothing listens"):
            await anext(clients)

    async def test_does_not_come_back_to_what_is_not_there(self):
        async with serve({"/": echo}) as server:
            with pytest.raises(HandshakeError) as refused:
                await anext(reconnect(f"{server.url}other", options=OPTIONS))
            assert refused.value.status == 404

    async def test_by_callbacks(self):
        application, told = recorder()
        async with serve(echo) as server, connect(server.url, application, options=OPTIONS) as ws:
            assert await soon(told.get()) == ("opened", ws)
            ws.send("hello")
            assert await soon(told.get()) == ("message", "hello")
        assert await soon(told.get()) == ("closed", 1000, "")

    async def test_has_its_time(self):
        with socket.create_server(("127.0.0.1", 0)) as silent:
            url = "ws://{}:{}/".format(*silent.getsockname())
            with pytest.raises(HandshakeError, match=r"within 0\.05 seconds"):
                await connect(url, options=OPTIONS, timeout=0.05)


CROWDED = """
import asyncio, logging, resource, sys
from kirsch.websocket.asyncio import serve

from kirsch.websocket import WebSocket

class Echo(WebSocket):
    def received_message(self, message):
        self.send(message)

async def main():
    async with serve(Echo) as server:
        resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]),) * 2)
        print(server.address[1], flush=True)
        await asyncio.to_thread(sys.stdin.read)

logging.basicConfig(format="%(message)s")
if sys.argv[2] == "uvloop":
    import uvloop
    factory = uvloop.new_event_loop
else:
    factory = asyncio.SelectorEventLoop
with asyncio.Runner(loop_factory=factory) as runner:
    runner.run(main())
"""


def test_who_finds_no_descriptor_waits_for_one(loop_factory):
    name = "uvloop" if "uvloop" in loop_factory.__module__ else "asyncio"
    with (
        subprocess.Popen(
            [sys.executable, "-c", CROWDED, "40", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process,
        contextlib.ExitStack() as stack,
    ):
        port = int(process.stdout.readline())
        socks = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(50)]
        assert process.stderr.readline().startswith("cannot accept a connection: [Errno 24]")
        request = Raw(type("There", (), {"address": None})).request
        for sock in socks[:40]:
            sock.close()
        # The last one was not accepted until now.
        socks[-1].settimeout(PATIENCE)
        socks[-1].sendall(request + masked(b"hello"))
        said = b""
        while not said.endswith(b"\x82\x05hello"):
            said += socks[-1].recv(4096)
        assert said.startswith(b"HTTP/1.1 101 ")
        socks[-1].sendall(BYE)
        process.stdin.close()
        assert process.wait(PATIENCE) == 0
        # It complains once in a while, not as often as it is woken.
        assert len(process.stderr.read().splitlines()) <= 3


PURE = "at_once and plain or TestSlowReader and plain or TestInbox or TestWrites or by_reset"


@pytest.mark.skipif(not speedups.compiled, reason="what runs is the Python version")
def test_without_what_is_compiled():
    """The socket's pump in Python does the same."""
    ran = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            __file__,
            "-k",
            f"not uvloop and ({PURE})",
        ],
        env=os.environ | {"KIRSCH_PURE": "1"},
        cwd=os.getcwd(),
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-5000:]
    assert " passed" in ran.stdout
