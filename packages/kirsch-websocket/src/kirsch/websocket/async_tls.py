"""A wire on an SSLSocket whose handshake another library has done: asyncio could not take it over."""

import socket
import ssl

from kirsch.websocket.application import WebSocket
from kirsch.websocket.async_descriptor import DescriptorWire
from kirsch.websocket.async_socket import SocketWire
from kirsch.websocket.async_wire import Connections, Wire

# How often a socket is read before others have their turn: one TLS record, 16 KiB, comes at a time.
ROUNDS = 16
# What is encrypted at a time: OpenSSL says nothing of the progress of a larger piece.
PIECE = 128 << 10
# What OpenSSL says where it has nothing, or no room, just now.
BLOCKED = (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError, InterruptedError)


class SecureWire(DescriptorWire):
    """A wire on an SSLSocket that does not block."""

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
            self._written()

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

    def _goodbye(self) -> None:
        try:
            # The peer's own is not waited for.
            self._socket.unwrap()
        except (OSError, ValueError):
            pass

    def _resume(self) -> None:
        self.loop.add_reader(self._fd, self._readable)
        # What has been decrypted already makes no descriptor readable.
        self.loop.call_soon(self._readable)


def wire(websocket: WebSocket, sock: socket.socket, connections: Connections) -> Wire:
    """A wire on a connected socket of either kind."""
    if sock.family != socket.AF_UNIX:
        # Tornado leaves it to wait for the peer's acknowledgement, which may take 40 ms.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if isinstance(sock, ssl.SSLSocket):
        return SecureWire(websocket, sock, connections)
    return SocketWire(websocket, sock, connections)
