"""Wire on a transport of asyncio or uvloop: for TLS, and for clients."""

import asyncio
from collections import deque
from typing import Any

from kirsch.websocket.core.application import WebSocket
from kirsch.websocket.listening import outgoing
from kirsch.websocket.loops.wire import Connections, Wire

# Bytes given to a transport at a time: it tells nothing about the progress of a larger piece.
PIECE = 128 << 10


class TransportWire(Wire, asyncio.BufferedProtocol):
    """Wire that is the transport's protocol."""

    # True while the buffer in use is the WebSocket's own.
    _direct = False
    # Set once the connection is to be ended when all is written, to `linger` of `_end`.
    _linger: bool | None = None

    def __init__(self, websocket: WebSocket, connections: Connections | None = None) -> None:
        super().__init__(websocket, connections)
        # Bytes that the transport was not given yet.
        self._rest: deque[memoryview] = deque()
        self._left = 0

    def attach(self, transport: Any, rest: bytes = b"") -> None:
        """Begin on a transport whose protocol this has become."""
        self._transport = transport
        self.begin(rest)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def begin(self, rest: bytes = b"") -> None:
        # While more waits than `drain` waits for, the transport has paused writing, and will call
        # `resume_writing`.
        low, high = self._transport.get_write_buffer_limits()
        if (enough := self.websocket.limits.queue // 4) < high:
            self._transport.set_write_buffer_limits(enough, min(low, enough))
        super().begin(rest)

    def get_buffer(self, sizehint: int) -> memoryview:
        buffer = self.websocket.get_buffer()
        self._direct = buffer is not None
        return self._buffer if buffer is None else buffer

    def buffer_updated(self, count: int) -> None:
        self.received(count, self._direct)

    def pause_writing(self) -> None:
        self._full = True
        self.clear = False

    def resume_writing(self) -> None:
        self._full = False
        self.websocket.heard = True
        self._write_rest()
        if self._rest:
            return
        if self._linger is not None:
            self._end(self._linger)
        elif not self._full:
            self.writable()

    def connection_lost(self, error: Exception | None) -> None:
        self._rest.clear()
        self._left = 0
        self.lost()

    def abort(self) -> None:
        self._transport.abort()

    @property
    def buffered(self) -> int:
        return self._left + self._transport.get_write_buffer_size()  # type: ignore[no-any-return]

    @property
    def outgoing(self) -> int:
        return outgoing(self._transport.get_extra_info("socket"))

    def write(self, pieces: list[bytes | memoryview]) -> None:
        if self._transport.is_closing():
            self._full = True
            return
        for piece in pieces:
            if self._full or len(piece) > PIECE:
                self._rest.append(memoryview(piece))
                self._left += len(piece)
                self._write_rest()
            else:
                self._transport.write(piece)

    def _write_rest(self) -> None:
        rest = self._rest
        while rest and not self._full:
            piece = rest[0][:PIECE]
            if len(piece) == len(rest[0]):
                rest.popleft()
            else:
                rest[0] = rest[0][PIECE:]
            self._left -= len(piece)
            self._transport.write(piece)

    def _end(self, linger: bool) -> None:
        if self._rest:
            self._linger = linger
        else:
            end_writing(self._transport, linger)

    def _pause(self) -> None:
        self._transport.pause_reading()

    def _resume(self) -> None:
        self._transport.resume_reading()


def end_writing(transport: Any, linger: bool = True) -> None:
    """End a transport after its last byte; if `linger` only our side of it, where the transport can."""
    try:
        if linger and transport.can_write_eof():
            transport.write_eof()
        else:
            transport.close()
    except OSError:
        # The peer is gone already.
        transport.abort()
