"""Autobahn's echo client on kirsch.websocket.asyncio: `echo_asyncio.py URL AGENT`."""

import asyncio
import sys

from kirsch.websocket.asyncio import connect
from kirsch.websocket.errors import Closed
from kirsch.websocket.limits import Limits
from kirsch.websocket.opening import ClientOptions

# The largest message is one of 16 MiB.
OPTIONS = ClientOptions(limits=Limits(message=32 << 20))


async def count(url: str) -> int:
    async with connect(f"{url}/getCaseCount") as ws:
        return int(await anext(aiter(ws)))


async def echo(url: str) -> None:
    """Send back what comes until the server has broken the rules or had enough."""
    async with connect(url, options=OPTIONS) as ws:
        try:
            async for message in ws:
                await ws.drain()
                ws.send(message)
        except Closed:
            pass


async def main(url: str, agent: str) -> None:
    for case in range(1, await count(url) + 1):
        await echo(f"{url}/runCase?case={case}&agent={agent}")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
