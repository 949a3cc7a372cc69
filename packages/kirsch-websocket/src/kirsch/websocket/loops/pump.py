"""Pump between a socket and a WebSocket: every message that an asyncio server gets or sends goes through it.

`kirsch.websocket.compiled.pump` does the same in Cython.
"""

from typing import TYPE_CHECKING, Any, Final

from kirsch.websocket.core.application import WebSocket
from kirsch.websocket.core.protocol import OPEN

if TYPE_CHECKING:
    import socket

# Reads of a socket that always has something before the loop's other callbacks get a turn.
READS: Final = 8


class Pump:
    """Reads, and writes the answers if that can be done at once; everything else is the wire's.

    Attributes:
        gathering: True after a first write, until the loop's next turn: what is sent then goes together.
    """

    __slots__ = ("_buffer", "_recv", "_send", "_ticker", "_websocket", "_wire", "gathering")

    def __init__(
        self, wire: Any, websocket: WebSocket, sock: "socket.socket", buffer: memoryview, ticker: Any
    ) -> None:
        self.gathering = False
        self._ticker = ticker
        self._wire = wire
        self._websocket = websocket
        self._recv = sock.recv_into
        self._send = sock.send
        self._buffer = buffer

    def readable(self) -> None:
        """Read what there is, or see the end."""
        for _ in range(READS):
            if not self._read() or not self._wire.clear:
                return

    def _read(self) -> bool:
        """Read once, and write; return True if there may be more to read."""
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
        # No wake-up is needed below the batch size, since all is written at the end.
        websocket.corked = True
        if direct is None:
            websocket.feed(self._buffer[:count])
        else:
            # The application may keep the buffer, so no view of it may stay here.
            del buffer, direct
            websocket.filled(count)
        self._write()
        return full

    def wake(self) -> None:
        """Write the first message since the loop's last turn at once; gather the rest until its next.

        A broadcast is one message for each connection.
        """
        if self._websocket.corked:
            # A batch is full, though the application has not returned yet.
            self._wire.flush()
        elif not self.gathering:
            self.gathering = True
            if not self._ticker.gathering:
                self._ticker.schedule()
            self._ticker.gathering.append(self)
            self._write()

    def flush_gathered(self) -> None:
        """Write what was sent since the loop's last turn."""
        self.gathering = False
        self._write()

    def _write(self) -> None:
        websocket = self._websocket
        if websocket.state != OPEN or not self._wire.clear:
            self._wire.flush()
        elif websocket.pending:
            self._wire.write(websocket.take())
            if websocket.pending:
                self._wire.flush()
