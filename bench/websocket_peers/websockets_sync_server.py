"""websockets, its server with a thread for each connection."""

import threading

from ready import LARGEST, ROLE, ready
from websockets.sync.server import ServerConnection, serve

connections: list[ServerConnection] = []
lock = threading.Lock()


def handle(connection: ServerConnection) -> None:
    with lock:
        connections.append(connection)
    for message in connection:
        if ROLE == "broadcast":
            for other in connections:
                other.send(message)
        else:
            connection.send(message if ROLE == "echo" else str(len(message)))


with serve(handle, "127.0.0.1", 0, max_size=LARGEST, ping_interval=None) as server:
    server.socket.listen(1024)
    ready(server.socket.getsockname()[1])
    server.serve_forever()
