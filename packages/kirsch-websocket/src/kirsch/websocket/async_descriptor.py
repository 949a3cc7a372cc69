"""A wire on a socket of our own, that asyncio's loop only watches; with TLS or without is what extends it."""

import socket
from collections import deque
from typing import Any

from kirsch.websocket.application import WebSocket
from kirsch.websocket.async_wire import Connections, Wire


class DescriptorWire(Wire):
    """What extends it gives `write` and `_resume`, and calls `_written` when the rest is written."""

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
        self._goodbye()
        self._socket.close()
        self.lost()

    @property
    def buffered(self) -> int:
        return self._left

    def _goodbye(self) -> None:
        """The socket is about to be closed."""

    def _written(self) -> None:
        self.loop.remove_writer(self._fd)
        if self._ended:
            self._shut()
        else:
            self.writable()

    def _end(self, linger: bool) -> None:
        self._linger = linger
        if not self._rest:
            self._shut()

    def _shut(self) -> None:
        if not self._linger:
            self.abort()
            return
        try:
            # With TLS nothing is decrypted from here on; what comes is dropped anyway.
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            self.abort()

    def _pause(self) -> None:
        self.loop.remove_reader(self._fd)
