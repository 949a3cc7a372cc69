"""Many connections that hear the same."""

from collections.abc import Iterator
from threading import Lock

from kirsch.websocket.application import WebSocket
from kirsch.websocket.errors import Closed, Slow
from kirsch.websocket.frame import Buffer
from kirsch.websocket.message import Prepared


class Room:
    """Connections that messages are sent to together: with the threaded providers from any thread.

    A connection that has ended leaves by itself at the next `send`.
    """

    def __init__(self) -> None:
        self._members: dict[int, WebSocket] = {}
        self._lock = Lock()

    def add(self, websocket: WebSocket) -> None:
        with self._lock:
            self._members[id(websocket)] = websocket

    def discard(self, websocket: WebSocket) -> None:
        with self._lock:
            self._members.pop(id(websocket), None)

    def __contains__(self, websocket: object) -> bool:
        return id(websocket) in self._members

    def __iter__(self) -> Iterator[WebSocket]:
        with self._lock:
            return iter(tuple(self._members.values()))

    def __len__(self) -> int:
        return len(self._members)

    def send(self, data: str | Buffer, *, but: WebSocket | None = None) -> list[WebSocket]:
        """Send a message to all, `but` one. Those whose queue is full are left out, and returned.

        What is to be done about them (close, drop, wait) is the application's to decide. Raises TypeError for
        what is not `str` or bytes: an iterator can be sent to one only.
        """
        if not isinstance(data, str | bytes | bytearray | memoryview):
            raise TypeError(f"a room is sent str or bytes, not {type(data).__name__}")
        message = data if isinstance(data, Prepared) else Prepared(data)
        slow: list[WebSocket] = []
        for websocket in self:
            if websocket is but:
                continue
            try:
                websocket.send(message)
            except Slow:
                slow.append(websocket)
            except Closed:
                self.discard(websocket)
        return slow
