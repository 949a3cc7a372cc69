"""granian with an ASGI application: `granian_server.py ROLE`; its worker is a process of its own."""

import socket

from granian import Granian
from ready import BACKLOG, ready

if __name__ == "__main__":
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    server = Granian(
        "asgi_app:app", address="127.0.0.1", port=port, interface="asgi", backlog=BACKLOG, log_enabled=False
    )
    server.on_startup(lambda: ready(port))
    server.serve()
