"""Echo servers in this process, and peers that say to them what they like: raw sockets."""

import asyncio
import contextlib
import socket
import struct
import threading
import weakref
from typing import ClassVar

from tests.websocket.implementations import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, made

from kirsch.websocket import asyncio as on_asyncio
from kirsch.websocket import threaded
from kirsch.websocket.core.application import WebSocket
from kirsch.websocket.core.errors import Slow
from kirsch.websocket.core.handshake import Policy

PATIENCE = 20
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
        data = bytearray()
        while len(data) < size:
            more = self.socket.recv(size - len(data))
            assert more, bytes(data)
            data += more
        return bytes(data)

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
