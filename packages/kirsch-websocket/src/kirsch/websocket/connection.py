"""A connection to iterate over with `for`, in any thread: it reads itself."""

import contextlib
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from kirsch.websocket.application import WebSocket
from kirsch.websocket.errors import Closed
from kirsch.websocket.frame import ABNORMAL, NORMAL
from kirsch.websocket.inbox import NORMALLY, Chunks, ignore, waiting
from kirsch.websocket.link import READ, Link
from kirsch.websocket.message import Close, Event, Message
from kirsch.websocket.protocol import CLOSED, OPEN
from kirsch.websocket.source import asked

_local = threading.local()


class Stream(Chunks):
    """A message that is taken in chunks: `for chunk in message`; `text` says of which kind they are."""

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        """The next chunk. Raises Closed if the connection ends before the message does."""
        while True:
            whole = self.over()
            try:
                return self._chunks.popleft()
            except IndexError:
                # Its last chunk would have been there before it was whole.
                if whole:
                    raise StopIteration from None
            if asked():
                # Whoever writes a message does not wait for another: it may be a thread that serves all.
                raise RuntimeError(
                    "with threads no message is sent from an iterator over one that is still coming: send it "
                    "as it is, or each chunk as a message"
                )
            self._connection.fetch(lambda: bool(self._chunks) or self._whole, None)


class Connection(WebSocket):
    """A WebSocket whose messages are iterated over, or taken by `recv()`.

    The thread that iterates reads for itself, and what it sends while messages are there goes out when none
    is left, or within milliseconds. While no thread reads, others see to pings and to the end.

    The iteration ends when the connection is closed with 1000, 1001 or no code, and raises Closed where it
    ends otherwise. Where messages are streamed, each is a Stream. `with` closes the connection, and waits.
    """

    wire: Link

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._inbox: deque[Any] = deque()
        # Messages go where they wait without a call of ours.
        self.received_message = self._inbox.append  # type: ignore[method-assign, assignment]
        self._current: Stream | None = None
        # Messages that are sent on, and not whole or not all there yet.
        self._passing: list[Stream] = []
        # A server does not hear a client that does not listen: while more waits to be sent, so do messages.
        self._enough = sys.maxsize if self.client else self.limits.queue // 2

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        inbox = self._inbox
        if not inbox:
            try:
                self._await(None)
            except Closed as closed:
                if closed.code in NORMALLY:
                    raise StopIteration from None
                raise
        elif self.queued > self._enough:
            self._hold(None)
        return inbox.popleft()

    def recv(self, timeout: float | None = None) -> Message | Any:
        """The next message. Raises Closed, and TimeoutError after `timeout` seconds."""
        if not self._inbox:
            self._await(timeout)
        elif self.queued > self._enough:
            self._hold(timeout)
        return self._inbox.popleft()

    def drain(self, timeout: float | None = None) -> None:
        """Block until a quarter of `limits.queue` waits at most. Raises Closed, TimeoutError."""
        # Two peers that only write would wait for each other.
        self.wire.leave_to_pool()
        self.wire.drain(timeout)

    def close(self, code: int = NORMAL, reason: str = "") -> None:
        """Begin to close; `wait_closed` waits for the end. Raises ValueError.

        What comes from now on is dropped where the inbox is full: it does not keep the peer's answer away.
        """
        self.corked = False
        super().close(code, reason)
        # Nobody may be reading: the peer's answer is waited for all the same.
        if self.state != CLOSED:
            self.wire.flush()
            self.wire.leave_to_pool()

    def wait_closed(self, timeout: float | None = None) -> bool:
        """Wait until the connection is gone, and drop what comes until then; whether it is."""
        self.dismiss()
        return self.wire.wait_closed(timeout)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.pass_on(self.limits.close_timeout)
        super().__exit__(kind, error, trace)

    # For providers.

    # The pool has found `full`: who takes chunks of a message that is sent on has it look again.
    stopped = False

    @property
    def full(self) -> bool:
        """Whether more waits to be taken than `limits.inbox`."""
        # Another thread may be reading.
        return waiting(self, list(self._inbox), list(self._passing), self._current) > self.limits.inbox

    @property
    def echoing(self) -> bool:
        """Whether it is sent a message of its own: a peer that does not read that has itself to blame."""
        return any(stream.target is self for stream in list(self._passing))

    def passes(self, stream: Stream) -> None:
        """A message is sent on."""
        self._passing.append(stream)
        # Whoever reads sends it on, chunk by chunk, and nobody may iterate just now.
        self.wire.leave_to_pool()

    def taken(self, stream: Stream) -> None:
        """A chunk of a message that is sent on was taken. Whoever did so is writing, and touches no lock."""
        if stream.target is None:
            # Who drops it may be another thread than who takes its last chunk.
            with contextlib.suppress(ValueError):
                self._passing.remove(stream)
        if self.stopped or self.wire.waiting:
            self.wire.pool.ease(self.wire)

    def pass_on(self, timeout: float | None = None) -> None:
        """Wait until all that is sent on has been taken, or the connection is gone."""
        if self._passing:
            self.wire.leave_to_pool()
            self.wire.wait(lambda: not self._passing or self.state == CLOSED, timeout)

    def eased(self) -> None:
        """Tell whoever sends a message on what became of it."""
        for stream in list(self._passing):
            if stream.broken:
                stream.tell()

    def received_other(self, event: Event) -> None:
        if isinstance(event, Close):
            self._cut()
            self.eased()
        super().received_other(event)

    def ended(self) -> None:
        super().ended()
        self._cut()
        self.eased()

    def received_chunk(self, data: str | bytes, first: bool, final: bool) -> None:
        if first or self._current is None:
            self._current = Stream(self, isinstance(data, str))
            self._inbox.append(self._current)
        self._current.add(data, final)
        if final:
            self._current = None

    def handle(self, handler: "Callable[[Connection], object]") -> None:
        """Run a function on this connection, and close it then: with 1011 where it raised."""
        try:
            handler(self)
            self.pass_on()
        except Closed:
            pass
        except Exception as error:
            self.crashed(error)
        self.close()
        self.dismiss()

    def refuse(self) -> None:
        """Take what has come, and nothing more."""
        self.received_message = ignore  # type: ignore[method-assign, assignment]
        self.received_chunk = ignore  # type: ignore[method-assign, assignment]
        if self._passing:
            self._cut()
            # Not here: it may be called with a lock held.
            self.wire.pool.ease(self.wire)

    def dismiss(self) -> None:
        """Nobody takes messages any more: others see to the end of the connection."""
        self.refuse()
        self._inbox.clear()
        self.corked = False
        if self.state != CLOSED:
            self.wire.flush()
            self.wire.leave_to_pool()

    # How.

    def _await(self, timeout: float | None) -> None:
        """Wait until there is a message."""
        end = None if timeout is None else time.monotonic() + timeout
        inbox, link = self._inbox, self.wire
        current = self._current
        if current is not None:
            current.skip()
        while not inbox:
            self.fetch(inbox.__len__, end)
        if len(inbox) > 1:
            # What is sent from here on goes together; should that take long, the pool has it go.
            self.corked = True
            link.batch += 1
            link.pool.talking.add(link)
            if link.pool.dozing:
                link.pool.alert()

    def fetch(self, enough: Callable[[], object], end: float | None) -> None:
        """Read once, or wait until another thread did, unless there is `enough`; `end` is when to give up.

        Raises Closed, also where this connection's end has come, and TimeoutError.
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
            # Another thread reads just now, or it is over.
            left = None if end is None else end - time.monotonic()
            if not link.wait(lambda: bool(enough()) or not link.owner or self.state == CLOSED, left):
                raise TimeoutError("no message came in time")
            if self.state == CLOSED and not enough():
                self._over()
            return
        try:
            if enough():
                return
            self._over()
            if self.buffered > self._enough:
                self._hold(None if end is None else end - time.monotonic())
            if self._passing and self._behind():
                self._keep_pace(None if end is None else end - time.monotonic())
            buffer = getattr(_local, "buffer", None)
            if buffer is None:
                buffer = _local.buffer = memoryview(bytearray(READ))
            link.fetch(buffer, end)
        finally:
            link.settle(arm=False)

    def _hold(self, timeout: float | None) -> None:
        """Wait for a client that does not read what is sent. Raises TimeoutError."""
        try:
            self.wire.drain(timeout)
        except Closed:
            # What has come is there to be taken.
            pass

    def _keep_pace(self, timeout: float | None) -> None:
        """Wait for who is sent messages on, and reads more slowly than they come. Raises TimeoutError."""
        link = self.wire
        if not link.wait(lambda: not self._behind() or self.state != OPEN or link.eof, timeout):
            raise TimeoutError("no message came in time")
        if self._behind():
            # It is closing, and read to the end.
            self.refuse()

    def _behind(self) -> bool:
        return waiting(self, (), list(self._passing), None) > self.limits.inbox

    def _cut(self) -> None:
        current = self._current
        if current is not None:
            current.cut()

    def _over(self) -> None:
        """Raise Closed if no message will come any more."""
        close = self.close_received
        if close is None and self.error is not None:
            close = Close(self.error.code, self.error.reason)
        if close is None and self.state == CLOSED:
            close = Close(ABNORMAL, "")
        if close is not None:
            raise Closed(close.code, close.reason)
