"""An echo of messages of any size never meets Slow with the default limits, however slowly it is read."""

import asyncio
import random
import socket
import threading

import pytest
from tests.websocket import wire
from tests.websocket.serving import BLOCKING, LOOPED, PATIENCE, serving

from kirsch.websocket import Limits, WebSocket

SERVERS = (*BLOCKING, *LOOPED, "wsgi")
LARGEST = Limits().message


class Echo(WebSocket):
    def received_message(self, message):
        self.send(message)


def echo(ws):
    for message in ws:
        ws.send(message)


async def echo_async(ws):
    async for message in ws:
        ws.send(message)


def late(name, go):
    """An echo that does nothing until much has come."""

    def begins(ws):
        import gevent

        while not go.wait(0 if name == "gevent" else 0.01):
            gevent.sleep(0.01)
        echo(ws)

    async def begins_async(ws):
        await asyncio.to_thread(go.wait, 6 * PATIENCE)
        await echo_async(ws)

    return begins_async if name in LOOPED else begins


def messages(kind, seed=7):
    """About 24 MiB of them."""
    sizes = random.Random(seed)
    left = 24 << 20
    while left > 0:
        size = {
            "half a queue to a whole one": lambda: sizes.randrange(1 << 19, 1 << 20),
            "the largest": lambda: LARGEST,
            "small": lambda: sizes.randrange(2000),
            "all": lambda: sizes.choice((10, 1000, 100_000, 600_000, LARGEST)),
        }[kind]()
        left -= size + 20
        yield bytes([size % 251]) * size


class Stuck(threading.Thread):
    """Sends all; `still` is set once that has not got on for a moment."""

    def __init__(self, peer, said):
        super().__init__()
        self.sock, self.said, self.still = peer.sock.dup(), said, threading.Event()
        self.sock.settimeout(0.2)

    def run(self):
        left = memoryview(self.said)
        with self.sock:
            while left:
                try:
                    left = left[self.sock.send(left[: 1 << 18]) :]
                except TimeoutError:
                    self.still.set()
        self.still.set()


@pytest.mark.parametrize(
    "kind",
    [
        # It has sizes of each of the other kinds.
        "all",
        *(
            pytest.param(kind, marks=pytest.mark.soak)
            for kind in ("half a queue to a whole one", "the largest", "small")
        ),
    ],
)
@pytest.mark.parametrize("form", ["class", "function", "late function"])
@pytest.mark.parametrize("name", SERVERS)
def test_an_echo_is_never_too_much(name, form, kind):
    go = threading.Event()
    function = late(name, go) if "late" in form else echo_async if name in LOOPED else echo
    application = Echo if form == "class" else function
    with (
        serving(name, application, limits=Limits(ping_interval=None)) as server,
        wire.dial(server.address) as peer,
    ):
        peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        encoder, said = wire.Protocol(client=True), []
        for message in messages(kind):
            encoder.send(message)
            said += encoder.take()
        sender = Stuck(peer, b"".join(said))
        sender.start()
        # Nobody reads while the server takes what it likes to take.
        assert sender.still.wait(PATIENCE * 3)
        go.set()
        for message in messages(kind):
            assert peer.next() == message
        sender.join(PATIENCE)
        peer.close()
