"""Tornado, with TCP_NODELAY: without it, it is ten times as slow with many messages in flight."""

import asyncio

from ready import BACKLOG, LARGEST, ROLE, ready
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application
from tornado.websocket import WebSocketHandler

connections: set[WebSocketHandler] = set()


class Handler(WebSocketHandler):
    def open(self) -> None:
        self.set_nodelay(True)
        connections.add(self)

    def get_compression_options(self) -> dict[str, int]:
        return {}

    def on_message(self, message: str | bytes) -> None:
        binary = isinstance(message, bytes)
        if ROLE == "broadcast":
            for connection in connections:
                connection.write_message(message, binary)
        elif ROLE == "length":
            self.write_message(str(len(message)))
        else:
            self.write_message(message, binary)


async def main() -> None:
    server = HTTPServer(
        Application([("/", Handler)], websocket_max_message_size=LARGEST), max_buffer_size=LARGEST
    )
    sockets = bind_sockets(0, "127.0.0.1", backlog=BACKLOG)
    server.add_sockets(sockets)
    ready(sockets[0].getsockname()[1])
    await asyncio.Event().wait()


asyncio.run(main())
