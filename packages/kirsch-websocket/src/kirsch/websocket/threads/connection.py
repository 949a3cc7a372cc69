"""Connection to iterate over with `for`, in any thread: the iterating thread reads for itself."""

import contextlib
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from kirsch.websocket.core.errors import Closed
from kirsch.websocket.core.frame import ABNORMAL, NORMAL
from kirsch.websocket.core.inbox import NORMALLY, READ, Chunks, Inbox
from kirsch.websocket.core.message import Close, Message
from kirsch.websocket.core.protocol import CLOSED, OPEN
from kirsch.websocket.core.source import reading_source
from kirsch.websocket.threads.link import Link

_local = threading.local()


class Stream(Chunks):
    """Message that is taken in chunks: `for chunk in message`; `text` tells `str` from `bytes`."""

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        """Return the next chunk. Raises Closed if the connection ends before the message does."""
        while True:
            complete = self.complete()
            try:
                return self._chunks.popleft()
            except IndexError:
                # The last chunk is added before the message is complete.
                if complete:
                    raise StopIteration from None
            if reading_source():
                # The thread that writes a message must not wait for another: it may serve every connection.
                raise RuntimeError(
                    "with threads no message is sent from an iterator over one that is still coming: send it "
                    "as it is, or each chunk as a message"
                )
            self._connection.fetch(lambda: bool(self._chunks) or self._complete, None)


class Connection(Inbox):
    """WebSocket whose messages are iterated over, or taken by `recv()`.

    The thread that iterates reads for itself. Replies to messages that came together are written when none of
    these is left, or within milliseconds. While no thread iterates, the pool answers pings and sees the end.

    The iteration ends when the connection is closed with 1000, 1001 or no code, and raises Closed for any
    other code. Where messages are streamed, each is a Stream. `with` closes the connection, and waits.
    """

    wire: Link
    stream_class = Stream

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        # A server stops taking messages while more than this waits to be sent: the client does not read.
        self._queue_limit = sys.maxsize if self.client else self.limits.queue // 2

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        inbox = self._inbox
        if not inbox:
            try:
                self._wait_for_message(None)
            except Closed as closed:
                if closed.code in NORMALLY:
                    raise StopIteration from None
                raise
        elif self.queued > self._queue_limit:
            self._wait_for_reader(None)
        return inbox.popleft()

    def recv(self, timeout: float | None = None) -> Message | Any:
        """Return the next message. Raises Closed, and TimeoutError after `timeout` seconds."""
        if not self._inbox:
            self._wait_for_message(timeout)
        elif self.queued > self._queue_limit:
            self._wait_for_reader(timeout)
        return self._inbox.popleft()

    def drain(self, timeout: float | None = None) -> None:
        """Block until at most a quarter of `limits.queue` waits. Raises Closed, TimeoutError."""
        # Two peers that only write would wait for each other.
        self.wire.leave_to_pool()
        self.wire.drain(timeout)

    def close(self, code: int = NORMAL, reason: str = "") -> None:
        """Begin to close; `wait_closed` waits for the end. Raises ValueError.

        If the inbox is full, messages that come from now on are dropped, so that the peer's close frame is
        read.
        """
        self.corked = False
        super().close(code, reason)
        self._finish_in_pool()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.finish_sending_on(self.limits.close_timeout)
        super().__exit__(kind, error, trace)

    def finish_sending_on(self, timeout: float | None = None) -> None:
        if self._sending_on:
            self.wire.leave_to_pool()
            self.wire.wait(lambda: not self._sending_on or self.state == CLOSED, timeout)

    def dismiss(self) -> None:
        super().dismiss()
        self.corked = False
        self._finish_in_pool()

    def refuse(self) -> None:
        super().refuse()
        if self._sending_on:
            if self._current is not None:
                self._current.broken = True
            # The pool notifies, since a lock may be held here.
            self.wire.pool.relax(self.wire)

    def _finish_in_pool(self) -> None:
        """Have the pool read until the connection ends, since no thread may be iterating."""
        if self.state != CLOSED:
            self.wire.flush()
            self.wire.leave_to_pool()

    # Called by the link and the pool.

    # True while the pool does not read since the inbox is full; a taken chunk then has it check again.
    stopped = False

    @property
    def full(self) -> bool:
        """True while more waits to be taken than `limits.inbox`."""
        return self.waiting() > self.limits.inbox

    @property
    def echoing(self) -> bool:
        """True while a message is sent back to its own peer, which then has to read to be read."""
        return any(stream.target is self for stream in list(self._sending_on))

    def relaxed(self) -> None:
        """Notify the connections that messages are sent on to, where a message broke off."""
        for stream in list(self._sending_on):
            if stream.broken:
                stream.notify()

    def ended(self) -> None:
        super().ended()
        self.break_off()
        self.relaxed()

    def sent_on(self, stream: Chunks) -> None:
        super().sent_on(stream)
        # The reading thread sends the chunks on, and no thread may be iterating just now.
        self.wire.leave_to_pool()

    def chunk_taken(self, stream: Chunks) -> None:
        """Note that a chunk was taken. The caller is writing, so no lock is taken here."""
        if stream.target is None:
            # Two threads may do this: one takes the last chunk, another drops the message.
            with contextlib.suppress(ValueError):
                self._sending_on.remove(stream)
        if self.stopped or self.wire.waiting:
            self.wire.pool.relax(self.wire)

    def fetch(self, enough: Callable[[], object], end: float | None) -> None:
        """Read once, or wait until another thread did, unless `enough()`; `end` is a monotonic deadline.

        Raises TimeoutError, and Closed when the connection has ended.
        """
        link = self.wire
        link.visits += 1
        link.away = False
        if link.batch:
            link.pool.talking.discard(link)
        self.corked = False
        if self.pending:
            link.flush()
        if not link.own():
            # Another thread reads just now, or the connection is gone.
            left = None if end is None else end - time.monotonic()
            if not link.wait(lambda: bool(enough()) or not link.owner or self.state == CLOSED, left):
                raise TimeoutError("no message came in time")
            if self.state == CLOSED and not enough():
                self._raise_if_closed()
            return
        try:
            if enough():
                return
            self._raise_if_closed()
            if self.buffered > self._queue_limit:
                self._wait_for_reader(None if end is None else end - time.monotonic())
            if self._sending_on and self._behind():
                self._wait_for_takers(None if end is None else end - time.monotonic())
            buffer = getattr(_local, "buffer", None)
            if buffer is None:
                buffer = _local.buffer = memoryview(bytearray(READ))
            link.fetch(buffer, end)
        finally:
            link.settle(arm=False)

    def _wait_for_message(self, timeout: float | None) -> None:
        end = None if timeout is None else time.monotonic() + timeout
        inbox, link = self._inbox, self.wire
        current = self._current
        if current is not None:
            current.skip()
        while not inbox:
            self.fetch(inbox.__len__, end)
        if len(inbox) > 1:
            # Replies to this batch are written together; if that takes long the pool writes them before.
            self.corked = True
            link.batch += 1
            link.pool.talking.add(link)
            if link.pool.dozing:
                link.pool.alert()

    def _wait_for_reader(self, timeout: float | None) -> None:
        """Wait for a client that does not read what is sent. Raises TimeoutError."""
        try:
            self.wire.drain(timeout)
        except Closed:
            # Messages that have come can still be taken.
            pass

    def _wait_for_takers(self, timeout: float | None) -> None:
        """Wait for connections that messages are sent on to, if they read slowly. Raises TimeoutError."""
        link = self.wire
        if not link.wait(lambda: not self._behind() or self.state != OPEN or link.eof, timeout):
            raise TimeoutError("no message came in time")
        if self._behind():
            # It is closing, and has to be read to its end.
            self.refuse()

    def _behind(self) -> bool:
        return self.waiting_of(list(self._sending_on)) > self.limits.inbox

    def _raise_if_closed(self) -> None:
        """Raise Closed if no message will come any more."""
        close = self.close_received
        if close is None and self.error is not None:
            close = Close(self.error.code, self.error.reason)
        if close is None and self.state == CLOSED:
            close = Close(ABNORMAL, "")
        if close is not None:
            raise Closed(close.code, close.reason)
