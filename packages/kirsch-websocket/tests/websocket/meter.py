"""A TCP proxy that counts bytes."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass
class Meter:
    """Where to connect to, and what has gone each way since `reset()`."""

    port: int
    target: tuple[str, int]
    sent: int = 0
    received: int = 0

    def reset(self) -> None:
        self.sent = self.received = 0

    def carry(self, client: socket.socket) -> None:
        """One connection, both ways."""
        server = socket.create_connection(self.target)
        threading.Thread(target=self.copy, args=(server, client, "received"), daemon=True).start()
        threading.Thread(target=self.copy, args=(client, server, "sent"), daemon=True).start()

    def copy(self, source: socket.socket, target: socket.socket, counter: str) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                # Counted before they are passed on: who has received them finds them counted.
                setattr(self, counter, getattr(self, counter) + len(data))
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def measure(host: str, port: int) -> Iterator[Meter]:
    """A proxy in front of host:port, until the end of this."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        meter = Meter(listener.getsockname()[1], (host, port))

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    meter.carry(listener.accept()[0])

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield meter
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
