"""What was said in a room, as far as a process keeps it: bounded, in the order of the stream. No I/O."""

from collections import deque
from dataclasses import dataclass

from kirsch.websocket.message import Prepared

# What a message costs besides its bytes.
OVERHEAD = 400


@dataclass(frozen=True, slots=True)
class Past:
    """Messages with their offsets, oldest first; `complete` if none is missing among them."""

    messages: list[tuple[int, Prepared]]
    complete: bool


class History:
    """The newest messages of one room.

    Attributes:
        size: bytes, with those that messages were compressed to: whoever sends one says so by `grew`.
        dropped: the highest offset that was there and is not any more; -1 none.
    """

    __slots__ = ("_messages", "dropped", "size")

    def __init__(self, dropped: int = -1) -> None:
        self._messages: deque[tuple[int, Prepared]] = deque()
        self.size = 0
        self.dropped = dropped

    def __len__(self) -> int:
        return len(self._messages)

    def add(self, offset: int, message: Prepared, count: int, size: int) -> int:
        """The newest message; the oldest go while there are more than `count`, or `size` bytes of them.

        How many bytes there are more.
        """
        before = self.size
        self._messages.append((offset, message))
        self.size += message.held + OVERHEAD
        while len(self._messages) > count or (self.size > size and len(self._messages) > 1):
            self.dropped, gone = self._messages.popleft()
            self.size -= gone.held + OVERHEAD
        return self.size - before

    def grew(self, message: Prepared, before: int) -> int:
        """One that is here held so much before it was sent: how many bytes there are more."""
        more = message.held - before if self._messages else 0
        self.size += more
        return more

    def after(self, offset: int, most: int | None = None) -> Past:
        """Those after an offset, `most` of them."""
        found: list[tuple[int, Prepared]] = []
        for message in reversed(self._messages):
            if message[0] <= offset:
                break
            found.append(message)
        found.reverse()
        return Past(found[:most], offset >= self.dropped)

    def last(self, count: int) -> Past:
        """The newest so many: never incomplete."""
        messages = list(self._messages)
        return Past(messages[-count:] if count else [], True)

    def forget(self, before: int) -> int:
        """Forget what is before an offset, and that it was there; how many bytes that were."""
        size = self.size
        while self._messages and self._messages[0][0] < before:
            self.size -= self._messages.popleft()[1].held + OVERHEAD
        self.dropped = max(self.dropped, before - 1)
        return size - self.size

    def clear(self) -> int:
        """Forget all; how many bytes that were."""
        size, self.size = self.size, 0
        if self._messages:
            self.dropped = self._messages[-1][0]
            self._messages.clear()
        return size
