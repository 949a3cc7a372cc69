"""What takes too long on a loop is ended; what only takes long is not."""

import asyncio
import contextlib
import socket

from tests.websocket.echoes import Echo
from tests.websocket.looped import (
    LARGE,
    Raw,
    lines,
    masked,
    on_loops,
    recorder,
    soon,
)

from kirsch.websocket.asyncio import connect
from kirsch.websocket.core.limits import Limits
from kirsch.websocket.core.opening import ClientOptions


@on_loops
class TestTime:
    """What takes time is done at once."""

    async def test_is_up(self, provider, serve, caplog, certificate):
        limits = Limits(handshake_timeout=0.5)
        async with (
            serve(Echo, limits=limits) as server,
            serve(Echo, limits=limits, ssl=certificate.server) as secure,
            # A handshake of its own time: under load half a second may be too short for it.
            serve(Echo) as patient,
            asyncio.TaskGroup() as group,
        ):
            for address, ssl in (
                (server.address, None),
                (secure.address, certificate.client),
                (secure.address, None),
            ):
                group.create_task(self.no_handshake(address, ssl))
            # There it is a connection of Tornado's like any other, for other requests.
            if provider.name != "tornado":
                group.create_task(self.a_refused_one_that_stays(serve))
            group.create_task(self.a_message_on_its_way(serve, None, None))
            group.create_task(self.a_message_on_its_way(serve, certificate.server, certificate.client))
            # This one has done it, and stays.
            async with Raw(patient) as raw:
                await raw.head()
                await self.no_handshake(server.address, None)
                raw.writer.write(masked(b"hello"))
                assert await raw.frame() == (0x82, b"hello")
        late = [record for record in lines(caplog) if "no handshake in 0.5 s" in record.getMessage()]
        # Tornado has no word for it.
        assert len(late) == (0 if provider.name == "tornado" else 3)
        assert [record for record in caplog.records if record.exc_info] == []

    async def no_handshake(self, address, ssl):
        reader, writer = await asyncio.open_connection(*address, ssl=ssl)
        if ssl or address:
            writer.write(b"GET / HT" if ssl or not address else b"")
        with contextlib.suppress(ConnectionResetError):
            assert await soon(reader.read()) == b""
        writer.close()

    async def a_refused_one_that_stays(self, serve):
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

    async def a_message_on_its_way(self, serve, mine, theirs):
        """Who takes long to read a large one is there, whatever it is asked meanwhile."""
        application, told = recorder()
        limits = Limits(ping_interval=0.5, ping_timeout=0.5, message=None)
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
            until = asyncio.get_running_loop().time() + 1.75
            while asyncio.get_running_loop().time() < until:
                there.wire.hold(False)
                for _ in range(3):
                    await asyncio.sleep(0)
                there.wire.hold(True)
                await asyncio.sleep(0.04)
            there.wire.hold(False)
            assert (await soon(told.get())) == ("message", bytes(2 * LARGE))
