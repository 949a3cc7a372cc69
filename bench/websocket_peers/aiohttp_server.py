"""aiohttp; it has no broadcast, so a message is sent to one connection after another."""

import asyncio

from aiohttp import WSMsgType, web
from ready import BACKLOG, LARGEST, ROLE, ready

connections: set[web.WebSocketResponse] = set()


async def handle(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse(max_msg_size=LARGEST, autoping=True)
    await socket.prepare(request)
    connections.add(socket)
    async for message in socket:
        if message.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
            break
        if ROLE == "broadcast":
            for connection in connections:
                await connection.send_bytes(message.data)
        elif ROLE == "length":
            await socket.send_str(str(len(message.data)))
        elif message.type == WSMsgType.TEXT:
            await socket.send_str(message.data)
        else:
            await socket.send_bytes(message.data)
    return socket


async def main() -> None:
    application = web.Application()
    application.router.add_get("/", handle)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, backlog=BACKLOG)
    await site.start()
    ready(runner.addresses[0][1])
    await asyncio.Event().wait()


asyncio.run(main())
