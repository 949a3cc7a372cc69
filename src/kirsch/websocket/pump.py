"""From a socket to a WebSocket and back, when there is something to read: what every message goes through.

This is the version to read; `kirsch.websocket.compiled.pump` is the same in Cython.
"""

from typing import TYPE_CHECKING, Any

from kirsch.websocket.protocol import OPEN

if TYPE_CHECKING:
    import socket

    from kirsch.websocket.application import WebSocket


class Pump:
    """Reads once and writes what that brought about, if it can be written at once; all else is its wire's."""

    __slots__ = ("_buffer", "_recv", "_send", "_websocket", "_wire", "feeding")

    def __init__(self, wire: Any, websocket: "WebSocket", sock: "socket.socket", buffer: memoryview) -> None:
        self.feeding = False
        self._wire = wire
        self._websocket = websocket
        self._recv = sock.recv_into
        self._send = sock.send
        self._buffer = buffer

    def readable(self) -> None:
        """The socket has something, or its end."""
        websocket = self._websocket
        direct = websocket.get_buffer()
        try:
            count = self._recv(self._buffer if direct is None else direct)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            count = 0
        if not count:
            self._wire.abort()
            return
        # It is written in the end: no need to be woken, unless there is much.
        self.feeding = websocket.corked = True
        if direct is None:
            websocket.feed(self._buffer[:count])
        else:
            websocket.filled(count)
        self.feeding = False
        self.write()

    def write(self) -> None:
        """Write what is to be sent."""
        websocket = self._websocket
        if websocket.state != OPEN or not self._wire.plain:
            self._wire.flush()
        elif websocket.pending:
            pieces = websocket.take()
            if len(pieces) == 1:
                self._one(pieces[0])
            else:
                self._wire.write(pieces)
            if websocket.pending:
                self._wire.flush()

    def _one(self, piece: bytes | memoryview) -> None:
        try:
            count = self._send(piece)
        except OSError:
            # It says why when it is told again.
            self._wire.write([piece])
            return
        if count < len(piece):
            self._wire.later([memoryview(piece)[count:]])
