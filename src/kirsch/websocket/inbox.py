"""What connections to iterate over have in common: how messages wait until they are taken."""

from collections import deque
from typing import Any, Final

from kirsch.websocket.errors import Closed
from kirsch.websocket.frame import GOING_AWAY, INTERNAL, NO_CODE, NORMAL
from kirsch.websocket.limits import Limits

# What a message costs besides its bytes.
OVERHEAD: Final = 64
# Codes with which an iteration just ends.
NORMALLY: Final = (NORMAL, GOING_AWAY, NO_CODE)


def enough(limits: Limits, client: bool, read: int) -> int:
    """From how many bytes on, unread and on their way back, a connection is not read, `read` of them at once.

    On a server what has come can be sent back to a peer that does not read, lest an echo meets Slow.
    """
    if client:
        return limits.inbox
    return min(limits.inbox, max(limits.queue // 2, limits.queue - read))


def farewell(raised: type[BaseException] | None) -> int:
    """The code with which `with` closes a connection, if its body raised this."""
    if raised is None or issubclass(raised, Closed):
        return NORMAL
    return INTERNAL if issubclass(raised, Exception) else GOING_AWAY


class Chunks:
    """A message that is taken in chunks, as they come; `text` says of which kind they are.

    What extends it is iterated over, and waits for more as its provider does.
    """

    def __init__(self, connection: Any, text: bool) -> None:
        self.text = text
        self._connection = connection
        self._chunks: deque[str | bytes] = deque()
        self._whole = False
        self._skipped = False

    @property
    def size(self) -> int:
        """What waits of it."""
        return sum(map(len, list(self._chunks)))

    def add(self, data: str | bytes, final: bool) -> None:
        # Who finds that it is whole, perhaps in another thread, is to find its last chunk too.
        if data:
            self._chunks.append(data)
        self._whole = final

    def skip(self) -> None:
        """Nobody wants the rest."""
        self._skipped = True
        self._chunks = deque(maxlen=0)

    def over(self) -> bool:
        """Whether no chunk comes any more. Raises RuntimeError where some were dropped: it is no end."""
        if self._skipped:
            raise RuntimeError(
                "what was left of this message was dropped when the next one was asked for: take it before"
            )
        return self._whole


def ignore(*_: object) -> None:
    """Take a message, or a chunk, that nobody wants any more."""
