"""How our asynchronous clients echo; with asyncio and with Tornado they are written alike."""

from collections.abc import Callable
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
