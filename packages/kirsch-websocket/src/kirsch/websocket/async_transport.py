"""A wire on one of asyncio's transports, or uvloop's: TLS, and clients."""

import asyncio
from collections import deque
from typing import Any

from kirsch.websocket.application import WebSocket
from kirsch.websocket.async_handshake import Handshake
from kirsch.websocket.async_wire import Connections, Wire, shared
from kirsch.websocket.listening import peer
from kirsch.websocket.site import Site

# A transport is given so much at a time: it does not say how it gets on with more.
PIECE = 128 << 10


class TransportWire(Wire, asyncio.BufferedProtocol):
    """The wire is the transport's protocol."""

    _direct = False
    # How the connection is to be ended when all is written.
    _linger: bool | None = None

    def __init__(self, websocket: WebSocket, connections: Connections | None = None) -> None:
        super().__init__(websocket, connections)
        # What the transport was not given yet.
        self._rest: deque[memoryview] = deque()
        self._left = 0

    def attach(self, transport: Any, rest: bytes = b"") -> None:
        """Begin on a transport whose protocol this has become."""
        self._transport = transport
        self.begin(rest)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def get_buffer(self, sizehint: int) -> memoryview:
        buffer = self.websocket.get_buffer()
        self._direct = buffer is not None
        return self._buffer if buffer is None else buffer

    def buffer_updated(self, count: int) -> None:
        self.received(count, self._direct)

    def pause_writing(self) -> None:
        self._full = True
        self.plain = False

    def resume_writing(self) -> None:
        self._full = False
        self.websocket.heard = True
        self._give()
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

    def write(self, pieces: list[bytes | memoryview]) -> None:
        if self._transport.is_closing():
            self._full = True
            return
        for piece in pieces:
            if self._full or len(piece) > PIECE:
                self._rest.append(memoryview(piece))
                self._left += len(piece)
                self._give()
            else:
                self._transport.write(piece)

    def _give(self) -> None:
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
            return
        try:
            if linger and self._transport.can_write_eof():
                self._transport.write_eof()
            else:
                self._transport.close()
        except OSError:
            # The peer is gone already.
            self._transport.abort()

    def _pause(self) -> None:
        self._transport.pause_reading()

    def _resume(self) -> None:
        self._transport.resume_reading()


class TransportHandshake(Handshake, asyncio.BufferedProtocol):
    """The handshake on a transport; the transport's protocol is a TransportWire then."""

    def __init__(self, site: Site, connections: Connections) -> None:
        super().__init__(site, connections)
        self._buffer = shared.buffer
        self._transport: Any

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._peer = peer(transport.get_extra_info("peername"))
        self.begin()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, count: int) -> None:
        self.received(bytes(self._buffer[:count]))

    def connection_lost(self, error: Exception | None) -> None:
        self.left()

    def abort(self) -> None:
        self._transport.abort()

    def _say(self, response: bytes) -> bool:
        self._transport.write(response)
        return True

    def _open(self, websocket: WebSocket, rest: bytes) -> None:
        wire = TransportWire(websocket, self._connections)
        self._transport.set_protocol(wire)
        wire.attach(self._transport, rest)

    def _linger(self) -> None:
        try:
            if self._transport.can_write_eof():
                self._transport.write_eof()
            else:
                self._transport.close()
        except OSError:
            self._transport.abort()
