"""The room stream of one process: carries out what StreamConsumer and Replay decide on."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from kirsch.amqp import protocol
from kirsch.amqp.consumer import (
    CAUGHT_UP,
    CONFLICT,
    DUPLICATE,
    FOREIGN,
    REPLACED,
    SEEN,
    EndFound,
    Event,
    FindEnd,
    FindFirst,
    First,
    Mark,
    Message,
    Missed,
    Passed,
    Renamed,
    StreamConsumer,
)
from kirsch.amqp.history import HistoryReader
from kirsch.amqp.message import Conflict, Delivery, Publication, Settled
from kirsch.amqp.metrics import Counters
from kirsch.amqp.plugin import AMQPPlugin
from kirsch.amqp.replay import AHEAD, Handled, Receive, Replay
from kirsch.amqp.room import Rooms
from kirsch.amqp.topology import Consumer
from kirsch.websocket import Prepared

log = logging.getLogger("kirsch.amqp")

# Seconds after which the last message is looked for, if it has not come again.
PATIENCE = 2.0
# Seconds until a mark that the broker refused is published again; until a replay reads on, so that others
# have their turn.
AGAIN, PAUSE = 1.0, 0.005


class _Receipt:
    """A publication of a client: settled once the broker has confirmed it and it was read from the stream.

    Only the stream tells whether an earlier message has its number, by whichever process that went.
    """

    __slots__ = ("confirmed", "conflict", "read", "settled")

    def __init__(self, settled: Settled) -> None:
        self.settled = settled
        self.confirmed = self.read = self.conflict = False

    def settle(self) -> None:
        if self.confirmed and self.read:
            taken = "you have sent another message with this number"
            self.settled(Conflict(taken) if self.conflict else "")


class RoomStream:
    """Delivers the stream's messages to rooms, and reads again what members missed.

    Its caller holds `lock`, except for `connect`. `soon` has `look` called in a moment; `caught_up` is called
    between this process's mark and the message after it.

    Attributes:
        queue: the stream's name on the broker.
        consumer: position in the stream.
        replay: the second reading, for members who are behind.
        history: readings of older messages, for pages.
        running: True while the bus runs: marks are published.
    """

    def __init__(
        self,
        queue: str,
        exchange: str,
        consumer: StreamConsumer,
        *,
        rooms: Rooms,
        counters: Counters,
        amqp: AMQPPlugin,
        lock: threading.RLock,
        soon: Callable[[], None],
        caught_up: Callable[[], None],
    ) -> None:
        self.queue = queue
        self.consumer = consumer
        self.replay = Replay(rooms, self)
        self.history = HistoryReader(self)
        self.running = False
        self._exchange = exchange
        self._rooms = rooms
        self._counters = counters
        self._amqp = amqp
        self._lock = lock
        self._soon = soon
        self._caught_up = caught_up
        # Publications that were not read from the stream yet, by message id and content.
        self._receipts: dict[tuple[str, str], list[_Receipt]] = {}
        # What ends the readings of FindEnd and FindFirst.
        self._stop_end: Callable[[], None] | None = None
        self._stop_first: Callable[[], None] | None = None

    # The connection.

    def connect(self) -> dict[str, Any]:
        """Return the arguments of a new connection's consumer. Takes the lock itself."""
        with self._lock:
            return self.consumer.connect(time.monotonic())

    def lost(self) -> None:
        """End all readings: the connection is gone."""
        self._do(self.consumer.lost())
        self._end_first()
        self.replay.lost()
        self.history.lost()

    def start(self) -> None:
        """Publish marks from now on. A mark precedes everything that is sent here.

        When it comes back, everything published before has been read, and what was sent meanwhile follows for
        members who joined meanwhile.
        """
        self.running = True
        if not self.consumer.caught_up:
            self._publish(self.consumer.mark())

    # What comes.

    def receive(self, delivery: Delivery, offset: int) -> None:
        """Take the stream's next delivery."""
        events = self.consumer.receive(delivery, offset)
        self._do(events)
        if self._receipts and delivery.message_id is not None and events[-1] is not SEEN:
            self._read_back(delivery, events[-1] is CONFLICT)

    def expect(self, message_id: str, content: str, settled: Settled) -> Settled:
        """Return the `settled` of a publication; the given one is called once the stream was read so far."""
        receipt, key = _Receipt(settled), (message_id, content)
        self._receipts.setdefault(key, []).append(receipt)

        def confirmed(reason: str) -> None:
            with self._lock:
                if reason:
                    self._forget(key, receipt)
                else:
                    receipt.confirmed = True
                    receipt.settle()
            if reason and not receipt.read:
                settled(reason)

        return confirmed

    def _read_back(self, delivery: Delivery, conflict: bool) -> None:
        key = (delivery.message_id or "", str(delivery.headers.get(protocol.CONTENT, "")))
        if receipts := self._receipts.get(key):
            receipt = receipts[0]
            self._forget(key, receipt)
            receipt.read, receipt.conflict = True, conflict
            receipt.settle()

    def _forget(self, key: tuple[str, str], receipt: _Receipt) -> None:
        receipts = self._receipts.get(key, [])
        if receipt in receipts:
            receipts.remove(receipt)
        if not receipts:
            self._receipts.pop(key, None)

    def _lose(self, reason: str) -> None:
        """Settle confirmed publications that will not be read; `reason` is "" if the stream has them."""
        for key, receipts in list(self._receipts.items()):
            for receipt in [each for each in receipts if each.confirmed]:
                self._forget(key, receipt)
                receipt.read = True
                receipt.settled(reason)

    def tick(self, now: float) -> None:
        """Once a second while the broker is there."""
        self._do(self.consumer.tick(now))
        if self.replay.doubting:
            self.first_known(now)

    def look(self) -> None:
        """Read for members who are behind, and for pages, if there are any."""
        if not self._amqp.connected or self.consumer.resuming:
            return
        if self._rooms.lagging:
            self.replay.look()
        self.history.look()

    def first_known(self, now: float) -> bool:
        """Return True if the stream's first offset is known; have it found if not."""
        if not self.consumer.first_known(now):
            self._do(self.consumer.find_first(now))
        return self.consumer.first_known(now)

    def _do(self, events: list[Event]) -> None:
        rooms = self._rooms
        for event in events:
            match event:
                case Message():
                    rooms.offset = event.offset
                    self._counters.messages += 1
                    rooms.say(event.room, event.offset, Prepared(event.text))
                    if rooms.lagging:
                        self._soon()
                case Passed():
                    self._passed(event)
                case Missed():
                    if event.slow:
                        log.warning("%s: messages were dropped unread: this process is too slow", self.queue)
                    rooms.missed(event.before)
                    self._lose("")
                case First():
                    rooms.first = max(rooms.first, event.offset)
                    self.replay.begins(event.offset)
                    self._soon()
                case Renamed():
                    message = protocol.text(type="stream", stream=event.stream, offset=event.offset)
                    for member in rooms.up_to_date():
                        member.tell(message)
                case Mark():
                    self._publish(event)
                case FindEnd():
                    last = Consumer(self.queue, AHEAD, lambda: {"x-stream-offset": "last"})
                    self._stop_end = self._read(last, self._end_seen, lambda reason: None)
                case EndFound():
                    stop, self._stop_end = self._stop_end, None
                    if stop is not None:
                        stop()
                case FindFirst():
                    self._find_first()

    def _passed(self, what: Passed) -> None:
        if what is REPLACED:
            log.warning("%s was replaced: its earlier messages are gone", self.queue)
            self._end_first()
            self.replay.lost()
            self.history.lost()
            # Members are told of a gap in any case.
            self.replay.begins(0)
            self._rooms.reset()
            # Clients send them again.
            self._lose("the broker has lost it")
            self._amqp.reconnect(f"{self.queue} is read from its beginning")
            return
        self._rooms.offset = self.consumer.offset
        if what is CAUGHT_UP:
            self._caught_up()
            self._soon()
        elif what is DUPLICATE or what is CONFLICT:
            self._counters.doubles += 1
        elif what is FOREIGN:
            self._counters.refuse("foreign")

    # Marks.

    def _publish(self, mark: Mark) -> None:
        if mark.kept and not self.running:
            return
        self._amqp.bus.publish(
            "ws2amqp",
            Publication(
                self._exchange,
                "kirsch",
                protocol.dumps(mark.body).encode(),
                kind=protocol.MARK,
                message_id=mark.message_id,
                transient=not mark.kept,
                settled=self._settled if mark.kept else None,
            ),
        )

    def _settled(self, reason: str) -> None:
        if reason and self.running:
            # Nobody is let in without the mark.
            self._amqp.loop.call(lambda: self._amqp.loop.later(AGAIN, self._mark_again))

    def _mark_again(self) -> None:
        with self._lock:
            self._publish(self.consumer.mark())

    # Readings besides.

    def _end_seen(self, delivery: Delivery, handled: Handled) -> None:
        handled()
        if delivery.offset is not None:
            self._do(self.consumer.end_seen(delivery, delivery.offset))

    def find_first(self) -> None:
        """Find the stream's first offset as it is now; `replay.begins` is told."""
        self._do(self.consumer.find_first_anew())

    def _find_first(self) -> None:
        self._end_first()
        if not self._amqp.connected:
            self.consumer.first_not_found()
            return

        def seen(delivery: Delivery, handled: Handled) -> None:
            handled()
            if self._stop_first is not None and delivery.offset is not None:
                self._end_first()
                self._do(self.consumer.first_seen(delivery.offset, time.monotonic()))

        def ended(_: str) -> None:
            self._end_first()
            self.consumer.first_not_found()

        first = Consumer(self.queue, 1, lambda: {"x-stream-offset": "first"})
        self._stop_first = self._read(first, seen, ended)

    def _end_first(self) -> None:
        stop, self._stop_first = self._stop_first, None
        if stop is not None:
            stop()

    def read_from(self, offset: int, receive: Receive, ended: Callable[[str], None]) -> Callable[[], None]:
        """Read the stream besides from an offset on, until the returned function is called."""
        return self._read(Consumer(self.queue, AHEAD, lambda: {"x-stream-offset": offset}), receive, ended)

    def read_on(self, handled: Handled) -> None:
        """Call `handled` in a moment: more of a reading besides may come then."""
        self._amqp.loop.call(lambda: self._amqp.loop.later(PAUSE, handled))

    def _read(
        self, consumer: Consumer, receive: Callable[..., None], ended: Callable[[str], None]
    ) -> Callable[[], None]:
        def locked(work: Callable[..., None]) -> Callable[..., None]:
            def call(*arguments: Any) -> None:
                with self._lock:
                    work(*arguments)

            return call

        return self._amqp.read(consumer, locked(receive), locked(ended))
