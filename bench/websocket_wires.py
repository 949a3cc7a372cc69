"""A socket of our own and asyncio's transport, two ways to write: `python bench/websocket_wires.py`.

Prints how many messages each echoes for a second of its processor, without TLS and compression: medians of
rounds in turn. It decides whether `kirsch.websocket.loops` needs both.
"""

import asyncio
import statistics
import sys
import time

from kirsch.websocket import Limits, Policy, WebSocket
from kirsch.websocket.core.frame import BINARY, FIN, header
from kirsch.websocket.core.site import Site
from kirsch.websocket.loops.server_handshake import Listener, TransportHandshake, bound
from kirsch.websocket.loops.wire import Connections

ROUNDS, SECONDS = 3, 2
CASES = ((64, 100), (64, 1), (1024, 100), (65536, 4))


class Echo(WebSocket):
    def received_message(self, message: object) -> None:
        self.send(message)


async def load(port: int, size: int, flight: int) -> None:
    """Send `flight` messages at a time, and read as many bytes; print how many messages that were."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    writer.write(
        b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    await reader.readuntil(b"\r\n\r\n")
    frames = (header(FIN | BINARY, size, True) + bytes(4 + size)) * flight
    back = (len(header(FIN | BINARY, size, False)) + size) * flight
    count, end = 0, time.monotonic() + SECONDS
    while time.monotonic() < end:
        writer.write(frames)
        await reader.readexactly(back)
        count += flight
    print(count)


async def rate(kind: str, size: int, flight: int) -> float:
    """Return the messages for a second of this process."""
    site = Site(Echo, Policy(deflate=None), Limits(message=None, queue=1 << 28))
    (sock,) = await bound("127.0.0.1", 0)
    connections = Connections()
    if kind == "socket":
        Listener(site, None).listen(sock, 100)
    else:
        await asyncio.get_running_loop().create_server(
            lambda: TransportHandshake(site, connections), sock=sock
        )
    arguments = (str(sock.getsockname()[1]), str(size), str(flight))
    client = await asyncio.create_subprocess_exec(
        sys.executable, __file__, *arguments, stdout=asyncio.subprocess.PIPE
    )
    begun = time.process_time()
    output, _ = await client.communicate()
    return int(output) / (time.process_time() - begun)


def main() -> None:
    for size, flight in CASES:
        rates: dict[str, list[float]] = {"socket": [], "transport": []}
        for _ in range(ROUNDS):
            for kind, found in rates.items():
                found.append(asyncio.run(rate(kind, size, flight)))
        socket, transport = (statistics.median(found) for found in rates.values())
        print(
            f"{size:6} B, {flight:3} in flight: {socket:,.0f} by a socket, {transport:,.0f} by a transport: "
            f"{socket / transport:.2f}"
        )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        asyncio.run(load(*map(int, sys.argv[1:])))
    else:
        main()
