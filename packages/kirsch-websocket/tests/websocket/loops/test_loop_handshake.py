"""Handshakes on a loop: what is refused and how that is told, what comes right behind them."""

import asyncio
import logging

import pytest
from tests.websocket.echoes import Echo
from tests.websocket.looped import (
    OPTIONS,
    PATIENCE,
    Raw,
    lines,
    masked,
    on_loops,
    recorder,
    soon,
)

from kirsch.websocket.asyncio import connect
from kirsch.websocket.core.errors import HandshakeError

# Tornado has its own words for these, and logs of its own: see test_tornado.py.
OWN = pytest.mark.parametrize("provider", ["asyncio", "uvloop"], indirect=True)


@on_loops
class TestHandshake:
    @OWN
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
    async def test_refused(self, serve, caplog, certificate, secure, asked, status):
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

    async def test_the_refusal_arrives_though_more_is_sent(self, serve):
        """Had the socket been closed at once what it says would have been lost."""
        async with serve(Echo) as server, Raw(server, line="POST / HTTP/1.1", more=bytes(1 << 20)) as raw:
            assert (await raw.head()).startswith("HTTP/1.1 405 ")
            await raw.writer.drain()

    async def test_frames_right_behind_the_head(self, serve):
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

    async def test_a_large_message_right_behind_the_head(self, serve):
        async with serve(Echo) as server, Raw(server, more=masked(b"x" * 3_000_000)) as raw:
            await raw.head()
            assert await raw.frame() == (0x82, b"x" * 3_000_000)

    async def test_a_head_in_pieces(self, serve):
        async with serve(Echo) as server, Raw(server) as raw:
            await raw.head()
            reader, writer = await asyncio.open_connection(*server.address)
            for at in range(0, len(raw.request), 10):
                writer.write(raw.request[at : at + 10])
                await asyncio.sleep(0)
            assert (await soon(reader.readuntil(b"\r\n\r\n"))).startswith(b"HTTP/1.1 101 ")
            writer.close()

    async def test_an_application_that_cannot_be_made(self, serve, caplog):
        def fail(self, **_):
            raise LookupError("of mine")

        application, _ = recorder(__init__=fail)
        async with serve(application) as server:
            with pytest.raises(HandshakeError) as refused:
                await connect(server.url, options=OPTIONS)
            assert refused.value.status == 500
        assert [record.exc_info and record.exc_info[0] for record in lines(caplog)] == [LookupError, None]

    @OWN
    async def test_no_tls_where_there_should_be(self, serve, certificate, caplog):
        async with serve(Echo, ssl=certificate.server) as server:
            async with Raw(server) as raw:
                assert await raw.ended()
            with pytest.raises(HandshakeError):
                await connect(server.url, options=OPTIONS)
            async with connect(server.url, options=OPTIONS, ssl=certificate.client) as ws:
                ws.send("hello")
                assert await ws.recv(PATIENCE) == "hello"
        assert [record.exc_info for record in lines(caplog)] == [None, None]
