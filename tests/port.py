"""Ports of 127.0.0.1 for those who must be told one before they listen."""

import random
import socket

# Below those that the kernel gives to whoever connects: a server that starts again finds its port free.
PORTS = range(20_000, 32_000)


def free_port() -> int:
    """Return one that nobody listens on now."""
    while True:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port := random.choice(PORTS)))
            except OSError:
                continue
            return port
