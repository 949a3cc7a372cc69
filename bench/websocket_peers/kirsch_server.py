"""kirsch on asyncio: `python kirsch_server.py ROLE [for] [uvloop]`, by callbacks or by iteration.

The role `stream` takes a message in pieces and answers with its length.
"""

import asyncio
import sys
from typing import Any

from ready import BACKLOG, LARGEST, ROLE, ready

from kirsch.websocket import Limits, Room, Slow, WebSocket
from kirsch.websocket.asyncio import serve

room = Room()


class Echo(WebSocket):
    def received_message(self, message: Any) -> None:
        self.send(message)


class Length(WebSocket):
    def received_message(self, message: Any) -> None:
        self.send(str(len(message)))


class Stream(WebSocket):
    streaming = True
    size = 0

    def received_chunk(self, data: Any, first: bool, final: bool) -> None:
        self.size += len(data)
        if final:
            self.send(str(self.size))
            self.size = 0


class ToAll(WebSocket):
    def opened(self) -> None:
        room.add(self)

    def received_message(self, message: Any) -> None:
        room.send(message)

    def closed(self, code: int, reason: str) -> None:
        room.discard(self)


async def echo(connection: Any) -> None:
    async for message in connection:
        try:
            connection.send(message)
        except Slow:
            await connection.drain()
            connection.send(message)


async def length(connection: Any) -> None:
    async for message in connection:
        connection.send(str(len(message)))


async def to_all(connection: Any) -> None:
    room.add(connection)
    async for message in connection:
        room.send(message)


CALLBACKS = {"echo": Echo, "length": Length, "stream": Stream, "broadcast": ToAll}
ITERATION = {"echo": echo, "length": length, "broadcast": to_all}


async def main() -> None:
    application = (ITERATION if "for" in sys.argv else CALLBACKS)[ROLE]
    limits = Limits(message=LARGEST, queue=256 << 20)
    server = await serve(application, "127.0.0.1", 0, limits=limits, backlog=BACKLOG)
    ready(server.address[1])
    await asyncio.Event().wait()


if "uvloop" in sys.argv:
    import uvloop

    uvloop.run(main())
else:
    asyncio.run(main())
