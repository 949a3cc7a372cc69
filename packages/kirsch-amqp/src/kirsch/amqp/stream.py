"""What a process does with the stream besides reading it: marks, its beginning and end, a second reading."""

import math
import threading
import time
from collections.abc import Callable
from secrets import token_hex
from typing import Any

from kirsch.amqp import protocol
from kirsch.amqp.backlog import AHEAD, Handled, Heard
from kirsch.amqp.message import Delivery, Publication
from kirsch.amqp.plugin import AMQPPlugin
from kirsch.amqp.reader import Reader
from kirsch.amqp.topology import Consumer

# Seconds until a mark is set again that the broker has not taken; for others before more is read anew.
AGAIN, PAUSE = 1.0, 0.005
# Seconds for which it is held to begin where it did.
HOLDS = 2.0


class Stream:
    """Whoever uses it holds the Bridge's lock. `another` is called where the stream is found to be another,
    `begins` with the first offset that it has.

    Attributes:
        running: the bus runs: marks may be set.
    """

    def __init__(
        self,
        queue: str,
        exchange: str,
        reader: Reader,
        amqp: AMQPPlugin,
        lock: threading.RLock,
        another: Callable[[], None],
        begins: Callable[[int], None],
    ) -> None:
        self._queue = queue
        self._exchange = exchange
        self._reader = reader
        self._amqp = amqp
        self._lock = lock
        self._another = another
        self._begins = begins
        self.running = False
        self._probe = ""
        self._stop: Callable[[], None] | None = None
        # When it was found where it begins, and what ends the looking for it.
        self._found_at = -math.inf
        self._stop_first: Callable[[], None] | None = None

    def mark(self) -> None:
        """Have come back what tells that all before it has been read; it proposes a name for the stream."""
        if self.running:
            # For each stream another.
            said = {"proposed": token_hex(8)}
            self._put(self._reader.process, said, settled=self._marked)

    def _marked(self, reason: str) -> None:
        if reason and self.running:
            # The broker has not taken it: without it nobody is let in.
            self._amqp.loop.call(lambda: self._amqp.loop.later(AGAIN, self.mark))

    def second(self, now: float) -> None:
        """Once a second, while the broker is there."""
        if self._reader.late(now):
            self._look()
        if stream := self._reader.to_name(now):
            self._put("", {"stream": stream}, transient=True)

    def _put(self, message_id: str, said: dict[str, str], **options: Any) -> None:
        body = protocol.dumps(said).encode()
        mark = Publication(
            self._exchange, "kirsch", body, kind=protocol.MARK, message_id=message_id, **options
        )
        self._amqp.bus.publish("ws2amqp", mark)

    # Where it ends.

    def _look(self) -> None:
        """Have something come that is published now: behind the last message that came, if that is there."""
        self._probe = f"{self._reader.process}.{token_hex(4)}"
        if self._stop is None:
            last = Consumer(self._queue, AHEAD, lambda: {"x-stream-offset": "last"})
            self._stop = self._amqp.read(last, self._seen, lambda reason: None)
        self._put(self._probe, {}, transient=True)

    def _seen(self, delivery: Delivery, handled: Handled) -> None:
        handled()
        with self._lock:
            offset = delivery.offset
            if self._stop is None or offset is None:
                return
            if offset > self._reader.offset:
                self._reader.long_enough()
                self.found()
            elif delivery.message_id == self._probe and self._reader.shorter(offset):
                self._another()

    def found(self) -> None:
        """It need not be looked for any more."""
        stop, self._stop = self._stop, None
        if stop is not None:
            stop()

    def lost(self) -> None:
        """The connection is gone, or the stream: nothing is looked for."""
        self.found()
        self._first_found()
        self._found_at = -math.inf

    # Where it begins.

    def beginning(self, now: float) -> bool:
        """Whether it is known where it begins; if not, that is found out."""
        if now - self._found_at <= HOLDS:
            return True
        if self._stop_first is None and self._amqp.connected:
            first = Consumer(self._queue, 1, lambda: {"x-stream-offset": "first"})
            self._stop_first = self._amqp.read(
                first, self._locked(self._seen_first), self._locked(lambda reason: self._first_found())
            )
        return False

    def begin_again(self) -> None:
        """Find out where it begins now."""
        self._first_found()
        self._found_at = -math.inf
        self.beginning(time.monotonic())

    def _seen_first(self, delivery: Delivery, handled: Handled) -> None:
        handled()
        if self._stop_first is not None and delivery.offset is not None:
            self._first_found()
            self._found_at = time.monotonic()
            self._begins(delivery.offset)

    def _first_found(self) -> None:
        stop, self._stop_first = self._stop_first, None
        if stop is not None:
            stop()

    # Again.

    def read_from(self, offset: int, heard: Heard, ended: Callable[[str], None]) -> Callable[[], None]:
        """Read it besides from an offset on, until what is returned is called."""
        consumer = Consumer(self._queue, AHEAD, lambda: {"x-stream-offset": offset})
        return self._amqp.read(consumer, self._locked(heard), self._locked(ended))

    def _locked(self, work: Callable[..., None]) -> Callable[..., None]:
        def locked(*arguments: Any) -> None:
            with self._lock:
                work(*arguments)

        return locked

    def read_more(self, handled: Handled) -> None:
        """What came is done with; more may come in a moment."""
        self._amqp.loop.call(lambda: self._amqp.loop.later(PAUSE, handled))
