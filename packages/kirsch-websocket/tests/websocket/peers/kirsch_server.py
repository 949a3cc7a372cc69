"""Our server doing what clients tell it: prints its URL, ends by SIGTERM."""

import asyncio
import signal

from facts import CHOSEN, PARTS, SERVER_CLOSE, SERVER_PING

from kirsch.websocket.asyncio import serve
from kirsch.websocket.core.application import WebSocket
from kirsch.websocket.core.handshake import Policy
from kirsch.websocket.core.message import Message


class Peer(WebSocket):
    """As the others' servers; "last close" tells how the connection before this one was closed, for
    clients that cannot be asked."""

    last = ""

    def received_message(self, message: Message) -> None:
        if message == "fragments":
            self.send(iter(PARTS))
        elif message == "ping":
            self.ping(SERVER_PING)
        elif message == "close":
            self.close(*SERVER_CLOSE)
        elif message == "last close":
            self.send(Peer.last)
        else:
            self.send(message)

    def ponged(self, data: bytes) -> None:
        self.send(f"ponged {data.decode()}")

    def closed(self, code: int, reason: str) -> None:
        Peer.last = f"{code} {reason}"


async def main() -> None:
    async with serve(Peer, "127.0.0.1", 0, policy=Policy(subprotocols=(CHOSEN,))) as server:
        print(f"listening on {server.url}", flush=True)
        ending = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ending.set)
        await ending.wait()


asyncio.run(main())
