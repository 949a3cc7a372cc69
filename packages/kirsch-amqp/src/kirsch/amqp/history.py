"""Pages of a room's history, read from the stream: older messages than a process has in memory."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from kirsch.amqp.consumer import OWN, Deduplicator, Message, decode
from kirsch.amqp.message import Delivery
from kirsch.amqp.replay import BATCH, Handled, Stream

# Messages of the stream that one page looks through, whatever rooms they belong to.
SPAN = 10_000


@dataclass(frozen=True, slots=True)
class Page:
    """Messages of a room, oldest first.

    Attributes:
        messages: offsets, and messages as browsers get them.
        before: offset below which the next page begins.
        more: False if the stream has nothing below `before`.
    """

    messages: list[tuple[int, str]]
    before: int
    more: bool


@dataclass(slots=True)
class _Search:
    room: str
    before: int
    done: Callable[[Page], None]
    found: deque[tuple[int, str]]
    seen: Deduplicator = field(default_factory=Deduplicator)

    @property
    def start(self) -> int:
        return max(0, self.before - SPAN)

    def page(self, first: int) -> Page:
        """Return what was found; `first` is the offset of the first message that the stream had."""
        limit = self.found.maxlen or 0
        oldest = self.found[0][0] if len(self.found) == limit else self.start
        at_start = self.start == 0 or first > self.start + OWN
        return Page(list(self.found), oldest, len(self.found) == limit or not at_start)


class HistoryReader:
    """Reads pages: searches that wait together are answered by one reading of the stream.

    Streams are read forward, so a page is looked for among the SPAN messages before its end. Its caller holds
    the Bridge's lock.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._waiting: list[_Search] = []
        self._active: list[_Search] = []
        self._stop: Callable[[], None] | None = None
        self._first = -1
        self._read = 0

    @property
    def waiting(self) -> bool:
        """True while searches wait to begin."""
        return bool(self._waiting) and self._stop is None

    def search(self, room: str, before: int, limit: int, done: Callable[[Page], None]) -> None:
        """Find the last `limit` messages of a room below the offset `before`, and call `done`."""
        self._waiting.append(_Search(room, before, done, deque(maxlen=limit)))

    def look(self) -> None:
        """Begin to read for the searches that wait."""
        if not self.waiting:
            return
        self._active, self._waiting = self._waiting, []
        self._first, self._read = -1, 0
        begun = self._active

        def receive(delivery: Delivery, handled: Handled) -> None:
            # An earlier reading may still deliver.
            if self._active is begun and delivery.offset is not None:
                self._receive(delivery, delivery.offset, handled)

        def ended(_: str) -> None:
            if self._active is begun:
                self.lost()

        start = min(search.start for search in self._active)
        self._stop = self._stream.read_from(start, receive, ended)

    def lost(self) -> None:
        """Have the searches begin again later: the connection is gone."""
        stop, self._stop = self._stop, None
        if stop is not None:
            stop()
        for search in self._active:
            search.found.clear()
            search.seen.clear()
        self._waiting, self._active = self._active + self._waiting, []

    def _receive(self, delivery: Delivery, offset: int, handled: Handled) -> None:
        if self._first < 0:
            self._first = offset
        for search in self._active:
            if delivery.key == search.room and search.start <= offset < search.before:
                message = decode(delivery, offset, search.seen)
                if isinstance(message, Message):
                    search.found.append((offset, message.text))
        if offset >= max(search.before for search in self._active) - 1:
            self._finish()
            return
        self._read += 1
        if self._read % BATCH == 0:
            self._stream.read_on(handled)

    def _finish(self) -> None:
        stop, self._stop = self._stop, None
        done, self._active = self._active, []
        if stop is not None:
            stop()
        for search in done:
            search.done(search.page(self._first))
