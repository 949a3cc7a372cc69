"""picows by its callbacks, as its own echo example does it: a frame's payload goes back as a view."""

import asyncio
import sys

from picows import WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest, ws_create_server
from ready import BACKLOG, LARGEST, ROLE, ready

connections: set[WSTransport] = set()


class Echo(WSListener):
    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        transport.send(frame.msg_type, frame.get_payload_as_memoryview())


class Length(WSListener):
    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        transport.send(WSMsgType.TEXT, str(len(frame.get_payload_as_memoryview())).encode())


class ToAll(WSListener):
    def on_ws_connected(self, transport: WSTransport) -> None:
        connections.add(transport)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        message = frame.get_payload_as_bytes()
        for connection in connections:
            connection.send(frame.msg_type, message)


LISTENER = {"echo": Echo, "length": Length, "broadcast": ToAll}[ROLE]


def listener(request: WSUpgradeRequest) -> WSListener:
    return LISTENER()


async def main() -> None:
    server = await ws_create_server(listener, "127.0.0.1", 0, max_frame_size=LARGEST, backlog=BACKLOG)
    ready(server.sockets[0].getsockname()[1])
    await server.serve_forever()


if "uvloop" in sys.argv:
    import uvloop

    uvloop.run(main())
else:
    asyncio.run(main())
