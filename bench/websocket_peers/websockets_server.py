"""websockets, its asyncio server."""

import asyncio

from ready import BACKLOG, LARGEST, ROLE, ready
from websockets.asyncio.server import ServerConnection, broadcast, serve

connections: set[ServerConnection] = set()


async def echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


async def length(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(str(len(message)))


async def to_all(connection: ServerConnection) -> None:
    connections.add(connection)
    async for message in connection:
        broadcast(connections, message)


async def main() -> None:
    handler = {"echo": echo, "length": length, "broadcast": to_all}[ROLE]
    async with serve(
        handler, "127.0.0.1", 0, max_size=LARGEST, ping_interval=None, backlog=BACKLOG
    ) as server:
        ready(server.sockets[0].getsockname()[1])
        await server.serve_forever()


asyncio.run(main())
