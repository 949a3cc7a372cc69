"""uvicorn with an ASGI application: `uvicorn_server.py ROLE [PROTOCOL [LOOP]]`, PROTOCOL as --ws names it."""

import socket
import sys

import uvicorn
from ready import BACKLOG, LARGEST, ROLE, ready

PROTOCOL = sys.argv[2] if len(sys.argv) > 2 else "websockets-sansio"
LOOP = sys.argv[3] if len(sys.argv) > 3 else "asyncio"


async def app(scope, receive, send):
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        data = event.get("bytes")
        if ROLE == "length":
            await send({"type": "websocket.send", "text": str(len(data or event["text"]))})
        elif data is not None:
            await send({"type": "websocket.send", "bytes": data})
        else:
            await send({"type": "websocket.send", "text": event["text"]})


config = uvicorn.Config(
    app,
    ws=PROTOCOL,
    loop=LOOP,
    lifespan="off",
    log_level="error",
    ws_max_size=LARGEST,
    ws_ping_interval=None,
    backlog=BACKLOG,
)
sock = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
ready(sock.getsockname()[1])
uvicorn.Server(config).run([sock])
