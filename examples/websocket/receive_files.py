"""Takes files of any size and holds none in memory: each message is one, named by its SHA-256."""

import hashlib
import os
import signal
import sys
import tempfile
from pathlib import Path

import gevent
from gevent.event import Event

from kirsch.websocket import Limits, Policy
from kirsch.websocket.gevent import Connection, serve

FOLDER = Path(sys.argv[2] if len(sys.argv) > 2 else "received")
LIMITS = Limits(message=1 << 40, fragments=None)
# Most files are compressed already.
POLICY = Policy(deflate=None)


def receive(ws: Connection) -> None:
    """One client. Its messages are streams, which are iterated over once, in chunks."""
    for stream in ws:
        digest, size = hashlib.sha256(), 0
        with tempfile.NamedTemporaryFile(dir=FOLDER, delete=False) as file:
            try:
                for chunk in stream:
                    data = chunk.encode() if stream.text else chunk
                    file.write(data)
                    digest.update(data)
                    size += len(data)
            except BaseException:
                # Half a file is none.
                os.unlink(file.name)
                raise
        os.replace(file.name, FOLDER / digest.hexdigest())
        ws.send(f"{size} bytes, {digest.hexdigest()}")


def main() -> None:
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8765
    FOLDER.mkdir(exist_ok=True)
    with serve(receive, port=port, policy=POLICY, limits=LIMITS, stream=True) as server:
        print(f"listening on {server.url}", flush=True)
        # Ctrl-C would be raised in whichever greenlet runs.
        stop = Event()
        gevent.signal_handler(signal.SIGINT, stop.set)
        stop.wait()


if __name__ == "__main__":
    main()
