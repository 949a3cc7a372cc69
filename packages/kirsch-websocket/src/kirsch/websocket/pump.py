"""From a socket to a WebSocket and back, when there is something to read: what every message goes through.

This is the version to read; `kirsch.websocket.compiled.pump` is the same in Cython.
"""

from typing import TYPE_CHECKING, Any, Final

from kirsch.websocket.protocol import OPEN

if TYPE_CHECKING:
    import socket

    from kirsch.websocket.application import WebSocket

# How often a socket that always has something is read before others have their turn.
READS: Final = 8


class Pump:
    """Reads and writes what that brought about, if it can be written at once; all else is its wire's."""

    __slots__ = ("_buffer", "_recv", "_send", "_ticker", "_websocket", "_wire", "spoke")

    def __init__(
        self, wire: Any, websocket: "WebSocket", sock: "socket.socket", buffer: memoryview, ticker: Any
    ) -> None:
        # Something was written since the loop had its turn.
        self.spoke = False
        self._ticker = ticker
        self._wire = wire
        self._websocket = websocket
        self._recv = sock.recv_into
        self._send = sock.send
        self._buffer = buffer

    def readable(self) -> None:
        """The socket has something, or its end."""
        for _ in range(READS):
            if not self._read() or not self._wire.plain:
                return

    def _read(self) -> bool:
        """Read once, and write; whether there may be more."""
        websocket = self._websocket
        direct = websocket.get_buffer()
        buffer = self._buffer if direct is None else direct
        try:
            count = self._recv(buffer)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            count = 0
        if not count:
            self._wire.abort()
            return False
        full = count == len(buffer)
        # It is written in the end: no need to be woken, unless there is much.
        websocket.corked = True
        if direct is None:
            websocket.feed(self._buffer[:count])
        else:
            # The application may keep what was read there.
            del buffer, direct
            websocket.filled(count)
        self._write()
        return full

    def wake(self) -> None:
        """The application sends: the first before the loop has its turn goes out at once.

        A broadcast is one for each; the rest goes together.
        """
        if self._websocket.corked:
            # It is being called, and has sent much.
            self._wire.flush()
        elif not self.spoke:
            self.spoke = True
            if not self._ticker.spoken:
                self._ticker.turn()
            self._ticker.spoken.append(self)
            self._write()

    def turned(self) -> None:
        """The loop had its turn: what was sent since goes together."""
        self.spoke = False
        self._write()

    def _write(self) -> None:
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
            self._wire.wrote([piece], count)
