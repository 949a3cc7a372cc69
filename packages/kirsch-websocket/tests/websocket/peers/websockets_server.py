"""The websockets library's server: prints its URL, ends by SIGTERM. `--max-size N` limits messages."""

import asyncio
import signal
import sys

from facts import CHOSEN, PARTS, SERVER_CLOSE, SERVER_PING
from websockets.asyncio.server import ServerConnection, serve


async def talk(ws: ServerConnection) -> None:
    async for message in ws:
        if message == "fragments":
            await ws.send(PARTS)
        elif message == "ping":
            # Its answer is read by the loop above, so it cannot be waited for here.
            pong = await ws.ping(SERVER_PING)
            task = asyncio.ensure_future(tell(ws, pong))
            task.add_done_callback(lambda done: done.exception())
        elif message == "close":
            await ws.close(*SERVER_CLOSE)
        else:
            await ws.send(message)


async def tell(ws: ServerConnection, pong: asyncio.Future[float]) -> None:
    await pong
    await ws.send(f"ponged {SERVER_PING.decode()}")


async def main() -> None:
    limit = int(sys.argv[sys.argv.index("--max-size") + 1]) if "--max-size" in sys.argv else None

    # Unlike others it refuses a client that offers none of its subprotocols, unless it is told not to.
    def choose(ws: ServerConnection, offered: list[str]) -> str | None:
        return CHOSEN if CHOSEN in offered else None

    async with serve(talk, "127.0.0.1", 0, max_size=limit, select_subprotocol=choose) as server:
        host, port = server.sockets[0].getsockname()
        print(f"listening on ws://{host}:{port}/", flush=True)
        ending = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ending.set)
        await ending.wait()


asyncio.run(main())
