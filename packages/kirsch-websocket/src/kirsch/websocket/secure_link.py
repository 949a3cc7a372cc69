"""A connection of a pool by TLS."""

import socket as sockets
import ssl
import threading
from typing import TYPE_CHECKING

from kirsch.websocket.application import WebSocket
from kirsch.websocket.link import Link

if TYPE_CHECKING:
    from kirsch.websocket.pool import Pool


class SecureLink(Link):
    """A link by TLS: what OpenSSL does for one connection is done by one thread at a time."""

    __slots__ = ("_tls",)

    plain = False
    socket: ssl.SSLSocket

    def __init__(self, pool: "Pool", websocket: WebSocket, socket: sockets.socket) -> None:
        super().__init__(pool, websocket, socket)
        self._tls = threading.Lock()

    def receive(self, into: memoryview) -> int:
        with self._tls:
            return self.socket.recv_into(into)

    def send(self, pieces: list[bytes | memoryview]) -> int:
        with self._tls:
            return self.socket.send(pieces[0])

    def shut(self) -> None:
        if not self.aborted:
            try:
                self.socket.unwrap()
            except (OSError, ValueError):
                pass
