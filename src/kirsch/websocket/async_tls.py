"""A wire on an SSLSocket whose handshake another library has done: asyncio could not take it over."""

import socket
import ssl
from collections import deque
from typing import Any

from kirsch.websocket.application import WebSocket
from kirsch.websocket.async_socket import SocketWire
from kirsch.websocket.async_wire import Connections, Wire

# How often a socket is read before others have their turn: one TLS record, 16 KiB, comes at a time.
ROUNDS = 16
# What is encrypted at a time: OpenSSL says nothing of the progress of a larger piece.
PIECE = 128 << 10
# What OpenSSL says where it has nothing, or no room, just now.
BLOCKED = (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError, InterruptedError)


class SecureWire(Wire):
    """A wire on an SSLSocket that does not block."""

    def __init__(
        self, websocket: WebSocket, sock: socket.socket, connections: Connections | None = None
    ) -> None:
        super().__init__(websocket, connections)
        self._socket: Any = sock
        self._fd = sock.fileno()
        # What the system has not taken yet.
        self._rest: deque[memoryview] = deque()
        self._left = 0
        self._linger = False

    def begin(self, rest: bytes = b"") -> None:
        self._resume()
        super().begin(rest)

    def abort(self) -> None:
        if self._fd < 0:
            return
        self.loop.remove_reader(self._fd)
        self.loop.remove_writer(self._fd)
        self._fd = -1
        self._rest.clear()
        self._left = 0
        try:
            # Goodbye; the peer's own is not waited for.
            self._socket.unwrap()
        except (OSError, ValueError):
            pass
        self._socket.close()
        self.lost()

    @property
    def buffered(self) -> int:
        return self._left

    def write(self, pieces: list[bytes | memoryview]) -> None:
        self._rest.extend(map(memoryview, pieces))
        self._left += sum(map(len, pieces))
        if not self._full:
            self._send()
        if self._rest:
            self._full = True
            self.plain = False
            self.loop.add_writer(self._fd, self._writable)

    def _send(self) -> None:
        rest = self._rest
        try:
            while rest:
                count = self._socket.send(rest[0][:PIECE])
                self._left -= count
                if count < len(rest[0]):
                    # The same bytes come next, as OpenSSL wants it.
                    rest[0] = rest[0][count:]
                else:
                    rest.popleft()
        except BLOCKED:
            pass
        except OSError:
            self.loop.call_soon(self.abort)

    def _writable(self) -> None:
        left = self._left
        self._send()
        if self._left < left:
            self.websocket.heard = True
        if not self._rest:
            self.loop.remove_writer(self._fd)
            if self._ended:
                self._shut()
            else:
                self.writable()

    def _readable(self) -> None:
        for _ in range(ROUNDS):
            if self._fd < 0 or not self._reading:
                return
            buffer = self.websocket.get_buffer()
            try:
                count = self._socket.recv_into(self._buffer if buffer is None else buffer)
            except BLOCKED:
                return
            except OSError:
                count = 0
            if not count:
                self.abort()
                return
            direct = buffer is not None
            # The application may keep what was read there.
            del buffer
            self.received(count, direct)
        self.loop.call_soon(self._readable)

    def _end(self, linger: bool) -> None:
        self._linger = linger
        if not self._rest:
            self._shut()

    def _shut(self) -> None:
        if not self._linger:
            self.abort()
            return
        try:
            # From here on nothing is decrypted; what comes is dropped anyway.
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            self.abort()

    def _pause(self) -> None:
        self.loop.remove_reader(self._fd)

    def _resume(self) -> None:
        self.loop.add_reader(self._fd, self._readable)
        # What has been decrypted already makes no descriptor readable.
        self.loop.call_soon(self._readable)


def wire(websocket: WebSocket, sock: socket.socket, connections: Connections) -> Wire:
    """A wire on a connected socket of either kind."""
    if isinstance(sock, ssl.SSLSocket):
        return SecureWire(websocket, sock, connections)
    return SocketWire(websocket, sock, connections)
