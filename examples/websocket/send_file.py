"""Sends a file, read as the network takes it: `send_file.py ws://localhost:8765/ FILE`."""

import sys

from kirsch.websocket import Closed, HandshakeError
from kirsch.websocket.threaded import connect


def main() -> None:
    url, path = sys.argv[1:]
    try:
        with open(path, "rb") as file, connect(url) as ws:
            ws.send(file)
            print(ws.recv())
    except (Closed, HandshakeError, OSError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
