"""uvicorn with an ASGI application: `uvicorn_server.py ROLE [PROTOCOL [LOOP]]`, PROTOCOL as --ws names it."""

import socket
import sys

import uvicorn
from asgi_app import app
from ready import BACKLOG, LARGEST, ready

PROTOCOL = sys.argv[2] if len(sys.argv) > 2 else "websockets-sansio"
LOOP = sys.argv[3] if len(sys.argv) > 3 else "asyncio"

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
