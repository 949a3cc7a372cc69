"""Autobahn's echo client on kirsch.websocket.tornado: `echo_tornado.py URL AGENT`."""

import sys

from tornado.ioloop import IOLoop

from kirsch.websocket.errors import Closed
from kirsch.websocket.limits import Limits
from kirsch.websocket.opening import ClientOptions
from kirsch.websocket.tornado import connect

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
    IOLoop.current().run_sync(lambda: main(*sys.argv[1:]))
