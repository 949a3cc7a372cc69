"""Received messages that wait until the application takes them: the base of every provider's Connection."""

from collections import deque
from collections.abc import Callable
from typing import Any, ClassVar, Final

from kirsch.websocket.core.application import WebSocket
from kirsch.websocket.core.errors import Closed
from kirsch.websocket.core.frame import ABNORMAL, GOING_AWAY, NO_CODE, NORMAL
from kirsch.websocket.core.message import Close, Event, Message
from kirsch.websocket.core.protocol import OPEN
from kirsch.websocket.core.source import Incoming

# Bytes that one read brings at most, with every provider.
READ: Final = 256 << 10
# Each waiting message counts as this many bytes more than its payload.
OVERHEAD: Final = 64
# Close codes that end an iteration without an exception.
NORMALLY: Final = (NORMAL, GOING_AWAY, NO_CODE)


class Chunks(Incoming):
    """Message that is taken in chunks, as they come: the base of every provider's Stream.

    A subclass adds the iteration. The message may instead be sent on to another connection while it is still
    coming; then its connection is told by `sent_on`, and by `chunk_taken` of each chunk.

    Attributes:
        text: True for `str` chunks, False for `bytes`.
        target: the connection that it is sent on to, until its end.
        broken: True once the connection ended before the message did.
    """

    target: Any = None

    def __init__(self, connection: Any, text: bool) -> None:
        self.text = text
        self._connection = connection
        self._chunks: deque[str | bytes] = deque()
        self._complete = False
        self._skipped = self._sent_on = self.broken = False

    @property
    def size(self) -> int:
        """Bytes (or characters) received and not taken yet."""
        return sum(map(len, list(self._chunks)))

    def add(self, data: str | bytes, final: bool) -> None:
        # The chunk first: another thread that finds the message complete has to find its last chunk too.
        if data:
            self._chunks.append(data)
        self._complete = final
        self.notify()

    def skip(self) -> None:
        """Drop the rest of the message, unless it is sent on."""
        if self.target is None:
            self._skipped = True
            self._chunks = deque(maxlen=0)

    def complete(self) -> bool:
        """Return True if no chunk will come after those that are here.

        Raises RuntimeError where the chunks went elsewhere, since that must not look like the message's end.
        """
        if self._sent_on:
            raise RuntimeError("this message is sent on: its chunks are not here any more")
        if self._skipped:
            raise RuntimeError(
                "what was left of this message was dropped when the next one was asked for: take it before"
            )
        return self._complete

    # Sending it on.

    def send_on(self, target: Any) -> None:
        self.complete()
        if self._connection.thread != target.thread:
            raise RuntimeError("a message is sent on as it comes in the same thread, or among threads, only")
        self._sent_on = True
        self._connection.sent_on(self)
        self.target = target

    def piece(self) -> tuple[str | bytes, bool] | None:
        # Read the flag first: the last chunk is added before it is set.
        complete = self._complete
        try:
            data = self._chunks.popleft()
        except IndexError:
            if not complete:
                # The message's end may have come meanwhile, and after it the connection's.
                if self.broken and not self._complete:
                    raise Closed(ABNORMAL, "the message did not end") from None
                return None
            data = "" if self.text else b""
        last = complete and not self._chunks
        if last:
            self.target = None
        self._connection.chunk_taken(self)
        return data, last

    def drop(self) -> None:
        self.target = None
        self.skip()
        self._connection.chunk_taken(self)

    def notify(self) -> None:
        """Have the connection that sends it on look for chunks again."""
        target = self.target
        if target is not None:
            target.resume()


class Inbox(WebSocket):
    """WebSocket that keeps its messages until they are taken.

    The provider's subclass adds the waiting: `__next__` or `__anext__`, `recv` and `finish_sending_on`.
    """

    stream_class: ClassVar[type[Chunks]]

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._inbox: deque[Any] = deque()
        # The protocol appends messages directly, without a call of a Python method for each.
        self.received_message = self._inbox.append  # type: ignore[method-assign, assignment]
        # The message whose chunks are coming just now.
        self._current: Chunks | None = None
        # Messages that are sent on and of which chunks are still to come or to be taken.
        self._sending_on: list[Chunks] = []

    def wait_closed(self, timeout: float | None = None) -> Any:
        """Wait until the connection is gone and return True, or False after `timeout` seconds.

        Messages that wait, or come until then, are dropped.
        """
        self.dismiss()
        return self.wire.wait_closed(timeout)

    def handle(self, handler: Callable[[Any], Any]) -> Any:
        """Run a function on this connection, then close it: with 1011 if the function raised."""
        try:
            handler(self)
            self.finish_sending_on()
        except Closed:
            pass
        except Exception as error:
            self.crashed(error)
        self.close()
        self.dismiss()

    def finish_sending_on(self, timeout: float | None = None) -> Any:
        """Wait until every message that is sent on was taken, or the connection is gone."""
        raise NotImplementedError

    def dismiss(self) -> None:
        """Drop all messages, those to come too, so that the connection is read to its end."""
        self.refuse()
        self._inbox.clear()

    def refuse(self) -> None:
        """Keep the messages that have come, and drop those that come from now on."""
        self.received_message = ignore  # type: ignore[method-assign, assignment]
        self.received_chunk = ignore  # type: ignore[method-assign, assignment]

    # Called by the protocol.

    def received_chunk(self, data: str | bytes, first: bool, final: bool) -> None:
        if first or self._current is None:
            self._current = self.stream_class(self, isinstance(data, str))
            self._inbox.append(self._current)
        self._current.add(data, final)
        if final:
            self._current = None

    def received_other(self, event: Event) -> None:
        if isinstance(event, Close):
            self.break_off()
        super().received_other(event)

    # Called by streams.

    def sent_on(self, stream: Chunks) -> None:
        """Note that a message is sent on."""
        self._sending_on.append(stream)

    def chunk_taken(self, stream: Chunks) -> None:
        """Note that a chunk of a message that is sent on was taken, or that no more will be."""
        raise NotImplementedError

    def break_off(self) -> None:
        """Mark the message that is coming as broken off."""
        if self._current is not None:
            self._current.broken = True
            self._current.notify()

    def waiting(self) -> int:
        """Return how many bytes wait to be taken: messages, the one that is coming, those that are sent on.

        A message that a client sends back to its own server does not count: the server may read only once it
        has been read, and both would wait for each other.
        """
        # Copies, since another thread may be reading.
        streams = set(self._sending_on)
        current = self._current
        if current is not None:
            streams.add(current)
        total = 0
        for message in list(self._inbox):
            total += OVERHEAD
            if isinstance(message, Chunks):
                streams.add(message)
            else:
                total += len(message)
        return total + self.waiting_of(streams)

    def waiting_of(self, streams: "set[Chunks] | list[Chunks]") -> int:
        """Return how many bytes of these messages wait to be taken, but for those sent back by a client."""
        back = self if self.client else ()
        return sum(stream.size for stream in streams if stream.target is not back)


class FilledInbox(Inbox):
    """Inbox that its wire fills, and that holds the wire back while too much waits: on loops and on gevent.

    A subclass gives `_wake` (wake up whoever waits for a message) and `_sent_all_on`. Its wire has `held`
    and `hold(bool)`, which stop and resume reading.
    """

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._compressed = arguments.get("codec") is not None
        if self._compressed:
            # The size after decompression counts.
            self.received_message = self._received_large  # type: ignore[method-assign]
        # Bytes read, and decompressed, since the application last waited.
        self._unread = 0
        self._limit = _limit(self)
        # True once chunks or the end have come, and `_wake` is due.
        self._changed = False
        # Set when the connection has ended.
        self._closed: Closed | None = None

    def close(self, code: int = NORMAL, reason: str = "") -> None:
        """Begin to close. Raises ValueError for what a close frame cannot carry.

        If the inbox is full, messages that come from now on are dropped, so that the peer's close frame is
        read.
        """
        super().close(code, reason)
        if self.wire.held:
            self.refuse()

    def refuse(self) -> None:
        super().refuse()
        self.break_off()
        self._unread = 0
        if self.wire.held:
            self.wire.hold(False)

    def closed(self, code: int, reason: str) -> None:
        self._closed = Closed(code, reason)
        self._changed = True
        self.break_off()
        self._sent_all_on()
        self.arrived(0)

    def received_chunk(self, data: str | bytes, first: bool, final: bool) -> None:
        super().received_chunk(data, first, final)
        if self._compressed:
            self._unread += len(data)
        self._changed = True

    def _received_large(self, message: Message) -> None:
        self._inbox.append(message)
        self._unread += len(message)

    def arrived(self, count: int) -> None:
        if not (self._inbox or self._changed):
            return
        self._changed = False
        self._unread += count
        behind = self._unread + self.queued
        if self._sending_on:
            behind = self._unread = self.waiting()
        if behind > self._limit:
            if self.state == OPEN:
                self.wire.hold(True)
            else:
                # It is closing, and has to be read to its end.
                self.refuse()
        self._wake()

    def sent_on(self, stream: Chunks) -> None:
        super().sent_on(stream)
        self._relax()

    def chunk_taken(self, stream: Chunks) -> None:
        if stream.target is None and stream in self._sending_on:
            self._sending_on.remove(stream)
            if not self._sending_on:
                self._sent_all_on()
        if self.wire.held:
            self._relax()

    def _relax(self) -> None:
        """Count what waits, and resume reading if it is little enough."""
        self._unread = self.waiting()
        if self.wire.held and self._unread <= self._limit:
            self.wire.hold(False)

    def _wake(self) -> None:
        """Wake up whoever waits for a message."""
        raise NotImplementedError

    def _sent_all_on(self) -> None:
        """Wake up whoever waits in `finish_sending_on`."""
        raise NotImplementedError


def _limit(inbox: Inbox) -> int:
    """Bytes, unread and on their way back, from which on a connection is not read.

    On a server this leaves room in the queue for what one read brings, so that an echo does not meet Slow.
    """
    limits = inbox.limits
    if inbox.client:
        return limits.inbox
    return min(limits.inbox, max(limits.queue // 2, limits.queue - READ))


def ignore(*_: object) -> None:
    """Drop a message or a chunk."""
