"""Tests that are coroutines, each in a loop that nothing is left in, and what they talk to servers with."""

import asyncio
import contextlib
import functools
import gc
import inspect
import logging
import os
import socket
import struct

from tests.websocket.echoes import recording
from tests.websocket.wire import masked

from kirsch.websocket.core.errors import Closed, Slow
from kirsch.websocket.core.handshake import Policy
from kirsch.websocket.core.limits import Limits
from kirsch.websocket.core.opening import ClientOptions

LARGE = 16 << 20
LIMITS = Limits(message=2 * LARGE, queue=2 * LARGE)
OPTIONS = ClientOptions(limits=LIMITS, proxy=None)
UNPACKED = ClientOptions(limits=LIMITS, proxy=None, deflate=None)
PATIENCE = 20.0
FIELDS = {
    "Host": "127.0.0.1",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
}


def files():
    return set(os.listdir("/proc/self/fd"))


def sockets():
    """How many are open."""
    there = 0
    for name in files():
        with contextlib.suppress(FileNotFoundError):
            there += os.readlink(f"/proc/self/fd/{name}").startswith("socket:")
    return there


def lines(caplog):
    """What a person is told."""
    return [record for record in caplog.records if record.levelno >= logging.INFO]


def looped(test):
    """A test that is a coroutine: it leaves no task and no file, and nothing for the loop to complain of.

    With a fixture `loop_factory` it runs in that one's loop.
    """

    @functools.wraps(test)
    def run(*arguments, loop_factory=None, **fixtures):
        before = files()
        complaints = []
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.get_loop().set_exception_handler(lambda _, context: complaints.append(context))
            runner.run(_alone(test(*arguments, **fixtures)))
            gc.collect()
            # A transport's socket is closed in the loop's next turn.
            runner.run(asyncio.sleep(0))
        gc.collect()
        assert complaints == []
        assert len(files()) <= len(before)

    return run


def on_every_loop(test):
    """As `looped`, where there is a fixture `loop_factory`."""
    run = looped(test)
    signature = inspect.signature(test)
    more = inspect.Parameter("loop_factory", inspect.Parameter.KEYWORD_ONLY)
    run.__signature__ = signature.replace(parameters=[*signature.parameters.values(), more])
    return run


async def _alone(running):
    async with asyncio.timeout(3 * PATIENCE):
        await running
        ours = asyncio.current_task()
        if left := asyncio.all_tasks() - {ours}:
            await asyncio.wait(left, timeout=PATIENCE)
        assert asyncio.all_tasks() == {ours}


def all_looped(cls, looped=looped):
    for name, test in list(vars(cls).items()):
        if inspect.iscoroutinefunction(test) and name.startswith("test_"):
            setattr(cls, name, looped(test))
    return cls


def on_loops(cls):
    return all_looped(cls, on_every_loop)


def recorder(**more):
    """An application class that tells a queue what happens to it."""
    told = asyncio.Queue()
    return recording(told.put_nowait, more), told


async def closed(ws):
    """How it ends, as `recv` says."""
    try:
        while True:
            await ws.recv(PATIENCE)
    except Closed as closed:
        return closed.code, closed.reason


async def until_still(count):
    """Until a number does not change any more, though the loop has turned often."""
    still, before = 0, count()
    while still < 50:
        await asyncio.sleep(0.002)
        now = count()
        still, before = (still + 1, now) if now == before else (0, now)
    return before


async def soon(awaitable):
    async with asyncio.timeout(PATIENCE):
        return await awaitable


class Raw:
    """A client that says what it likes."""

    def __init__(self, server, *fields, path="/", more=b"", without=(), line=None, ssl=None, **other):
        self.ssl = ssl
        changed = {name.replace("_", "-"): value for name, value in other.items()}
        pairs = [item for item in (FIELDS | changed).items() if item[0] not in without]
        lines = [line or f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in [*pairs, *fields])]
        self.request = "\r\n".join([*lines, "", ""]).encode() + more
        self.address = server.address

    async def __aenter__(self):
        address = self.address
        if isinstance(address, str):
            opening = asyncio.open_unix_connection(address, limit=1 << 18, ssl=self.ssl)
        else:
            opening = asyncio.open_connection(*address, limit=1 << 18, ssl=self.ssl)
        self.reader, self.writer = await opening
        self.writer.write(self.request)
        return self

    async def __aexit__(self, *_):
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()

    async def head(self):
        return (await soon(self.reader.readuntil(b"\r\n\r\n"))).decode()

    async def frame(self):
        """First byte and payload of the next frame."""
        read = self.reader.readexactly
        first, length = await soon(read(2))
        if length > 125:
            length = int.from_bytes(await soon(read(2 if length == 126 else 8)))
        return first, await soon(read(length))

    async def ended(self):
        """Whether the server has ended the connection, after all that is there."""
        with contextlib.suppress(ConnectionResetError):
            await soon(self.reader.read())
        return True

    def reset(self):
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


BYE = masked((1000).to_bytes(2), 0x88)
PLAIN = Policy(deflate=None)


async def until_slow(ws):
    """Send until there is no room; how many messages were sent."""
    for sent in range(10_000):
        try:
            ws.send(bytes(50_000))
        except Slow:
            return sent
        await asyncio.sleep(0)
    raise AssertionError("there is no limit")
