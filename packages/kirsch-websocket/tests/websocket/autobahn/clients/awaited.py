"""Autobahn's echo client on a provider that is awaited: `awaited.py PROVIDER URL AGENT`."""

import asyncio
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

from kirsch.websocket.core.errors import Closed
from kirsch.websocket.core.limits import Limits
from kirsch.websocket.core.opening import ClientOptions

# The largest message is one of 16 MiB.
OPTIONS = ClientOptions(limits=Limits(message=32 << 20))


async def count(connect: Callable[..., Any], url: str) -> int:
    async with connect(f"{url}/getCaseCount") as ws:
        return int(await anext(aiter(ws)))


async def echo(connect: Callable[..., Any], url: str) -> None:
    """Send back what comes until the server has broken the rules or had enough."""
    async with connect(url, options=OPTIONS) as ws:
        try:
            async for message in ws:
                await ws.drain()
                ws.send(message)
        except Closed:
            pass


async def run(connect: Callable[..., Any], url: str, agent: str) -> None:
    """Every case, with a provider's `connect`."""
    for case in range(1, await count(connect, url) + 1):
        await echo(connect, f"{url}/runCase?case={case}&agent={agent}")


if __name__ == "__main__":
    provider, *arguments = sys.argv[1:]
    asyncio.run(run(import_module(f"kirsch.websocket.{provider}").connect, *arguments))
