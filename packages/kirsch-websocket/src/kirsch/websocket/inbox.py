"""What connections to iterate over have in common: how messages wait until they are taken."""

from collections import deque
from collections.abc import Iterable
from typing import Any, Final

from kirsch.websocket.errors import Closed
from kirsch.websocket.frame import ABNORMAL, GOING_AWAY, NO_CODE, NORMAL
from kirsch.websocket.limits import Limits
from kirsch.websocket.source import Coming

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


class Chunks(Coming):
    """A message that is taken in chunks, as they come; `text` says of which kind they are.

    What extends it is iterated over, and waits for more as its provider does. Where it is sent on instead its
    connection is told by `passes`, and by `taken` of each chunk.

    Attributes:
        target: who sends it on, until its end.
        broken: no chunk comes any more, whole or not.
    """

    target: Any = None

    def __init__(self, connection: Any, text: bool) -> None:
        self.text = text
        self._connection = connection
        self._chunks: deque[str | bytes] = deque()
        self._whole = False
        self._skipped = self._sent_on = self.broken = False

    @property
    def size(self) -> int:
        """What waits of it."""
        return sum(map(len, list(self._chunks)))

    def add(self, data: str | bytes, final: bool) -> None:
        # Who finds that it is whole, perhaps in another thread, is to find its last chunk too.
        if data:
            self._chunks.append(data)
        self._whole = final
        self.tell()

    def skip(self) -> None:
        """Nobody wants the rest, unless it is sent on."""
        if self.target is None:
            self._skipped = True
            self._chunks = deque(maxlen=0)

    def over(self) -> bool:
        """Whether no chunk comes any more. Raises RuntimeError where some went elsewhere: it is no end."""
        if self._sent_on:
            raise RuntimeError("this message is sent on: its chunks are not here any more")
        if self._skipped:
            raise RuntimeError(
                "what was left of this message was dropped when the next one was asked for: take it before"
            )
        return self._whole

    # Where it is sent on.

    def send_on(self, target: Any) -> None:
        self.over()
        if self._connection.thread != target.thread:
            raise RuntimeError("a message is sent on as it comes in the same thread, or among threads, only")
        self._sent_on = True
        self._connection.passes(self)
        self.target = target

    def piece(self) -> tuple[str | bytes, bool] | None:
        # First this: the last chunk is there before it is whole.
        whole = self._whole
        try:
            data = self._chunks.popleft()
        except IndexError:
            if not whole:
                # Its end may have come meanwhile, and then the connection's.
                if self.broken and not self._whole:
                    raise Closed(ABNORMAL, "the message did not end") from None
                return None
            data = "" if self.text else b""
        last = whole and not self._chunks
        if last:
            self.target = None
        self._connection.taken(self)
        return data, last

    def drop(self) -> None:
        self.target = None
        self.skip()
        self._connection.taken(self)

    def cut(self) -> None:
        """No chunk comes any more; `tell` says so."""
        self.broken = True

    def tell(self) -> None:
        """Have who sends it on look again."""
        target = self.target
        if target is not None:
            target.go_on()


def waiting(
    connection: Any, messages: Iterable[Any], passing: Iterable[Chunks], current: Chunks | None
) -> int:
    """Bytes of what waits: messages to be taken, the one that comes, those that are sent on.

    But for what a client sends back: a server may read only once it has been read, and both would wait.
    """
    streams = set(passing)
    if current is not None:
        streams.add(current)
    total = 0
    for message in messages:
        total += OVERHEAD
        if isinstance(message, Chunks):
            streams.add(message)
        else:
            total += len(message)
    back = connection if connection.client else ()
    return total + sum(stream.size for stream in streams if stream.target is not back)


def ignore(*_: object) -> None:
    """Take a message, or a chunk, that nobody wants any more."""
