"""picows by its copy of websockets' API."""

import asyncio

from picows.websockets.asyncio.server import ServerConnection, broadcast, serve
from ready import BACKLOG, LARGEST, ROLE, ready

connections: set[ServerConnection] = set()


async def handle(connection: ServerConnection) -> None:
    connections.add(connection)
    async for message in connection:
        if ROLE == "broadcast":
            broadcast(connections, message)
        else:
            await connection.send(message if ROLE == "echo" else str(len(message)))


async def main() -> None:
    async with serve(handle, "127.0.0.1", 0, max_size=LARGEST, ping_interval=None, backlog=BACKLOG) as server:
        ready(server.sockets[0].getsockname()[1])
        await server.serve_forever()


asyncio.run(main())
