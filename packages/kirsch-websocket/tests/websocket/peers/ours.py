"""How our asynchronous clients find the facts; with asyncio and with Tornado they are written alike.

Whether compression was agreed on they do not tell: the bytes counted between client and server do.
"""

import base64
import os
from collections.abc import Callable
from typing import Any

from facts import BINARY, CLOSE, COMPRESSIBLE, OFFERED, PARTS, PING, SIZE, TEXT

from kirsch.websocket.core.errors import Closed
from kirsch.websocket.core.opening import ClientOptions


async def find(connect: Callable[..., Any], echo: str, command: str, count: str) -> dict[str, Any]:
    """The facts, with a provider's `connect`."""
    return await echoed(connect, echo) | await commanded(connect, command) | await counted(connect, count)


async def echoed(connect: Callable[..., Any], url: str) -> dict[str, Any]:
    async with connect(url) as ws:
        facts: dict[str, Any] = {}
        ws.send(TEXT)
        facts["text"] = await ws.recv()
        ws.send("")
        facts["empty"] = await ws.recv()
        ws.send(BINARY)
        facts["binary"] = base64.b64encode(await ws.recv()).decode()
        large = os.urandom(SIZE)
        ws.send(large)
        facts["large"] = await ws.recv() == large
        ws.send(iter(PARTS))
        facts["fragmented"] = await ws.recv()
        # The answer to a ping comes before the answer to what was said after it.
        ws.ponged = lambda data: facts.update(ping=data.decode())
        ws.ping(PING)
        ws.send("over")
        await ws.recv()
        ws.close(*CLOSE)
        facts["close"] = await end(ws)
    return facts


async def commanded(connect: Callable[..., Any], url: str) -> dict[str, Any]:
    async with connect(url, options=ClientOptions(subprotocols=OFFERED)) as ws:
        facts: dict[str, Any] = {"subprotocol": ws.subprotocol}
        ws.send("fragments")
        facts["server fragments"] = await ws.recv()
        ws.send("ping")
        facts["server ping"] = await ws.recv()
        ws.send("close")
        facts["server close"] = await end(ws)
    return facts


async def counted(connect: Callable[..., Any], url: str) -> dict[str, Any]:
    async with connect(url) as ws:
        ws.send(COMPRESSIBLE)
        return {"compressible": await ws.recv() == COMPRESSIBLE}


async def end(ws: Any) -> Any:
    """How the connection was closed; or what came instead."""
    try:
        return await ws.recv()
    except Closed as closed:
        return [closed.code, closed.reason]
