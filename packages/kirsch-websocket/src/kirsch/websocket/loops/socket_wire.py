"""Wires on sockets of our own, which asyncio's loop only watches: no transport stands between."""

import socket
import ssl
from collections import deque
from itertools import islice
from typing import Any

from kirsch.websocket.core.application import WebSocket
from kirsch.websocket.core.speedups import compiled
from kirsch.websocket.listening import outgoing
from kirsch.websocket.loops.pump import Pump
from kirsch.websocket.loops.wire import Connections, Ticker, Wire

if compiled:
    from kirsch.websocket.compiled import Pump

# Buffers written by one call: the system's limit (IOV_MAX).
VECTOR = 1024
# Reads of one TLS connection, a record of 16 KiB each, before the loop's other callbacks get a turn.
RECORDS = 16
# Bytes encrypted at a time: OpenSSL tells nothing about the progress of a larger piece.
PIECE = 128 << 10
# Exceptions that mean: nothing to read, or no room to write, at the moment.
BLOCKED = (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError, InterruptedError)


class DescriptorWire(Wire):
    """Wire on a socket that does not block: the base of those with and without TLS.

    A subclass gives `write` and `_resume`, and calls `_written` when the rest is written.
    """

    def __init__(
        self, websocket: WebSocket, sock: socket.socket, connections: Connections | None = None
    ) -> None:
        super().__init__(websocket, connections)
        self._socket: Any = sock
        self._fd = sock.fileno()
        # Bytes that the system has not taken yet.
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
        self._close_tls()
        self._socket.close()
        self.lost()

    @property
    def buffered(self) -> int:
        return self._left

    @property
    def outgoing(self) -> int:
        return outgoing(self._socket)

    def _close_tls(self) -> None:
        """Send TLS's own end, where there is TLS."""

    def _written(self) -> None:
        self.loop.remove_writer(self._fd)
        if self._ended:
            self._shut_down()
        else:
            self.writable()

    def _end(self, linger: bool) -> None:
        self._linger = linger
        if not self._rest:
            self._shut_down()

    def _shut_down(self) -> None:
        if not self._linger:
            self.abort()
            return
        try:
            # With TLS nothing is decrypted from here on; the peer's bytes are dropped anyway.
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            self.abort()

    def _pause(self) -> None:
        self.loop.remove_reader(self._fd)


class SocketWire(DescriptorWire):
    """Wire on a socket without TLS."""

    def __init__(
        self, websocket: WebSocket, sock: socket.socket, connections: Connections | None = None
    ) -> None:
        super().__init__(websocket, sock, connections)
        self._pump = Pump(self, websocket, sock, self._buffer, Ticker.of(self.loop))
        if type(websocket).wake is WebSocket.wake:
            # Saves the call of a Python method for each message sent.
            websocket.wake = self._pump.wake  # type: ignore[method-assign]
        self._send = sock.send
        self._sendmsg = sock.sendmsg

    def write(self, pieces: list[bytes | memoryview]) -> None:
        try:
            count = self._send(pieces[0]) if len(pieces) == 1 else self._sendmsg(pieces[:VECTOR])
        except (BlockingIOError, InterruptedError):
            count = 0
        except OSError:
            self._full = True
            self.clear = False
            self.loop.call_soon(self.abort)
            return
        self.wrote(pieces, count)

    def wrote(self, pieces: list[bytes | memoryview], count: int) -> None:
        """Keep what is left of `pieces` after their first `count` bytes, until the system takes more."""
        rest: list[memoryview] = []
        for piece in pieces:
            if count < len(piece):
                rest.append(memoryview(piece)[count:])
                count = 0
            else:
                count -= len(piece)
        if not rest:
            return
        self._full = True
        self.clear = False
        self._rest.extend(rest)
        self._left += sum(map(len, rest))
        self.loop.add_writer(self._fd, self._writable)

    def _writable(self) -> None:
        rest = self._rest
        try:
            count = self._sendmsg(list(islice(rest, VECTOR)))
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.abort()
            return
        self.websocket.heard = True
        self._left -= count
        while rest and count >= len(rest[0]):
            count -= len(rest.popleft())
        if rest:
            rest[0] = rest[0][count:]
        else:
            self._written()

    def wake(self) -> None:
        self._pump.wake()

    def _resume(self) -> None:
        self.loop.add_reader(self._fd, self._pump.readable)


class SecureWire(DescriptorWire):
    """Wire on an SSLSocket whose handshake another library has done, and which asyncio cannot take over."""

    def write(self, pieces: list[bytes | memoryview]) -> None:
        self._rest.extend(map(memoryview, pieces))
        self._left += sum(map(len, pieces))
        if not self._full:
            self._send()
        if self._rest:
            self._full = True
            self.clear = False
            self.loop.add_writer(self._fd, self._writable)

    def _send(self) -> None:
        rest = self._rest
        try:
            while rest:
                count = self._socket.send(rest[0][:PIECE])
                self._left -= count
                if count < len(rest[0]):
                    # OpenSSL requires that the same bytes come again.
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
        for _ in range(RECORDS):
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
            # The application may keep the buffer, so no view of it may stay here.
            del buffer
            self.received(count, direct)
        self.loop.call_soon(self._readable)

    def _close_tls(self) -> None:
        try:
            # Does not wait for the peer's own end.
            self._socket.unwrap()
        except (OSError, ValueError):
            pass

    def _resume(self) -> None:
        self.loop.add_reader(self._fd, self._readable)
        # Bytes that are decrypted already make no descriptor readable.
        self.loop.call_soon(self._readable)


def wire_on(websocket: WebSocket, sock: socket.socket, connections: Connections) -> Wire:
    """Return a wire on a connected socket, with or without TLS."""
    if sock.family != socket.AF_UNIX:
        # Tornado leaves this off, and answers then wait up to 40 ms for the peer's acknowledgement.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if isinstance(sock, ssl.SSLSocket):
        return SecureWire(websocket, sock, connections)
    return SocketWire(websocket, sock, connections)
