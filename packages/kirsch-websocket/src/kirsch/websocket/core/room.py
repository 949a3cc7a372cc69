"""Room: connections that get the same messages."""

from collections.abc import Iterator
from threading import Lock

from kirsch.websocket.core.application import WebSocket
from kirsch.websocket.core.errors import Closed, Slow
from kirsch.websocket.core.frame import Buffer
from kirsch.websocket.core.message import Prepared


class Room:
    """Set of connections that messages are sent to together; with threads, from any thread.

    `send` removes connections that have ended.
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
        """Send a message to all, `but` one; return the connections left out since their queue is full.

        The application decides what to do with these: close, drop, wait. Raises TypeError for anything but
        `str` and bytes, since an iterator can be read only once.
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
