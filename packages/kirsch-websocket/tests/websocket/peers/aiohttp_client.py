"""aiohttp's client finds the facts: `aiohttp_client.py URL URL URL`. It cannot send fragments."""

import asyncio
import base64
import json
import os
import sys
from typing import Any

from aiohttp import ClientSession, ClientWebSocketResponse, WSMsgType
from facts import BINARY, CLOSE, COMPRESSIBLE, OFFERED, PING, SIZE, TEXT


async def echoed(session: ClientSession, url: str) -> dict[str, Any]:
    async with session.ws_connect(url, compress=15, autoping=False, max_msg_size=0) as ws:
        facts: dict[str, Any] = {"deflate": bool(ws.compress)}
        await ws.send_str(TEXT)
        facts["text"] = await ws.receive_str()
        await ws.send_str("")
        facts["empty"] = await ws.receive_str()
        await ws.send_bytes(BINARY)
        facts["binary"] = base64.b64encode(await ws.receive_bytes()).decode()
        large = os.urandom(SIZE)
        await ws.send_bytes(large)
        facts["large"] = await ws.receive_bytes() == large
        await ws.ping(PING)
        message = await ws.receive()
        facts["ping"] = message.data.decode() if message.type is WSMsgType.PONG else str(message)
        code, reason = CLOSE
        facts["close"] = await close(ws, code, reason)
    return facts


async def close(ws: ClientWebSocketResponse, code: int, reason: str) -> list[int | None]:
    """Close and take the code of the answer; its reason aiohttp keeps to itself."""
    await ws.close(code=code, message=reason.encode())
    return [ws.close_code]


async def commanded(session: ClientSession, url: str) -> dict[str, Any]:
    async with session.ws_connect(url, protocols=OFFERED) as ws:
        facts: dict[str, Any] = {"subprotocol": ws.protocol}
        await ws.send_str("fragments")
        facts["server fragments"] = await ws.receive_str()
        await ws.send_str("ping")
        facts["server ping"] = await ws.receive_str()
        await ws.send_str("close")
        message = await ws.receive()
        facts["server close"] = [message.data, message.extra]
    return facts


async def counted(session: ClientSession, url: str) -> dict[str, Any]:
    async with session.ws_connect(url, compress=15, max_msg_size=0) as ws:
        await ws.send_str(COMPRESSIBLE)
        return {"compressible": await ws.receive_str() == COMPRESSIBLE}


async def main(echo: str, command: str, count: str) -> None:
    async with ClientSession() as session:
        facts = await echoed(session, echo) | await commanded(session, command)
        print(json.dumps(facts | await counted(session, count)))


asyncio.run(main(*sys.argv[1:]))
