"""A wire on an SSLSocket whose handshake another library has done: asyncio could not take it over."""

import socket
import ssl
from typing import Any

from kirsch.websocket.application import WebSocket
from kirsch.websocket.async_socket import SocketWire
from kirsch.websocket.async_wire import Connections

# How often a socket is read before others have their turn: one TLS record, 16 KiB, comes at a time.
ROUNDS = 16
# What is encrypted at a time: OpenSSL says nothing of the progress of a larger piece.
PIECE = 128 << 10


class SecureWire(SocketWire):
    """A SocketWire that says so where OpenSSL has nothing, or no room, just now."""

    def __init__(
        self, websocket: WebSocket, sock: socket.socket, connections: Connections | None = None
    ) -> None:
        super().__init__(websocket, sock, connections)
        self._tls: Any = sock
        self._blocked = False
        self._recv = self._decrypted  # type: ignore[assignment]
        self._send = self._encrypted  # type: ignore[assignment]
        self._sendmsg = self._all_encrypted  # type: ignore[assignment]

    def begin(self, rest: bytes = b"") -> None:
        super().begin(rest)
        # What has been decrypted already makes no descriptor readable.
        self._loop.call_soon(self._readable)

    def abort(self) -> None:
        if self._fd >= 0:
            try:
                # Goodbye; the peer's own is not waited for.
                self._tls.unwrap()
            except (OSError, ValueError):
                pass
        super().abort()

    def _readable(self) -> None:
        self._blocked = False
        for _ in range(ROUNDS):
            if self._fd < 0 or not self._reading:
                return
            super()._readable()
            if self._blocked:
                return
        self._loop.call_soon(self._readable)

    def _resume(self) -> None:
        super()._resume()
        self._loop.call_soon(self._readable)

    def _decrypted(self, buffer: Any) -> int:
        try:
            return self._tls.recv_into(buffer)  # type: ignore[no-any-return]
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError):
            self._blocked = True
            raise BlockingIOError from None

    def _encrypted(self, data: Any) -> int:
        return self._all_encrypted([data])

    def _all_encrypted(self, pieces: list[Any]) -> int:
        done = 0
        for piece in pieces:
            view = memoryview(piece)
            while view:
                try:
                    count = self._tls.send(view[:PIECE])
                except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                    if done:
                        return done
                    raise BlockingIOError from None
                done += count
                view = view[count:]
        return done


def wire(websocket: WebSocket, sock: socket.socket, connections: Connections) -> SocketWire:
    """A wire on a connected socket of either kind."""
    kind = SecureWire if isinstance(sock, ssl.SSLSocket) else SocketWire
    return kind(websocket, sock, connections)
