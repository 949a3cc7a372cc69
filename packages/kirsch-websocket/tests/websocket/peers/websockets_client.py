"""The websockets library's client finds the facts: `websockets_client.py URL URL URL`."""

import asyncio
import base64
import json
import os
import sys
from typing import Any

from facts import BINARY, CLOSE, COMPRESSIBLE, OFFERED, PARTS, PING, SIZE, TEXT
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed


async def echoed(url: str) -> dict[str, Any]:
    async with connect(url, max_size=None) as ws:
        facts: dict[str, Any] = {
            "deflate": any(extension.name == "permessage-deflate" for extension in ws.protocol.extensions)
        }
        await ws.send(TEXT)
        facts["text"] = await ws.recv()
        await ws.send("")
        facts["empty"] = await ws.recv()
        await ws.send(BINARY)
        facts["binary"] = base64.b64encode(await ws.recv(decode=False)).decode()
        large = os.urandom(SIZE)
        await ws.send(large)
        facts["large"] = await ws.recv() == large
        await ws.send(PARTS)
        facts["fragmented"] = await ws.recv()
        await (await ws.ping(PING))
        facts["ping"] = PING.decode()
        await ws.close(*CLOSE)
        facts["close"] = [ws.close_code, ws.close_reason]
    return facts


async def commanded(url: str) -> dict[str, Any]:
    async with connect(url, subprotocols=OFFERED) as ws:
        facts: dict[str, Any] = {"subprotocol": ws.subprotocol}
        await ws.send("fragments")
        facts["server fragments"] = await ws.recv()
        await ws.send("ping")
        facts["server ping"] = await ws.recv()
        await ws.send("close")
        try:
            facts["server close"] = await ws.recv()
        except ConnectionClosed:
            facts["server close"] = [ws.close_code, ws.close_reason]
    return facts


async def counted(url: str) -> dict[str, Any]:
    async with connect(url, max_size=None) as ws:
        await ws.send(COMPRESSIBLE)
        return {"compressible": await ws.recv() == COMPRESSIBLE}


async def main(echo: str, command: str, count: str) -> None:
    print(json.dumps(await echoed(echo) | await commanded(command) | await counted(count)))


asyncio.run(main(*sys.argv[1:]))
