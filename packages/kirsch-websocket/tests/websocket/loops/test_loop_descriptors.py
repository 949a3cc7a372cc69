"""A server on a loop that runs out of file descriptors."""

import contextlib
import socket
import subprocess
import sys

import pytest
from tests.websocket.looped import BYE, PATIENCE, Raw, masked

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


@pytest.mark.parametrize("name", ["asyncio", "uvloop"])
def test_who_finds_no_descriptor_waits_for_one(name):
    pytest.importorskip(name)
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
