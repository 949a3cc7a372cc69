"""What a process hears from the stream, and gives to its rooms; and what it does where that is another."""

import logging
import time
from typing import Any

from kirsch.amqp import protocol
from kirsch.amqp.backlog import Backlog
from kirsch.amqp.message import Delivery
from kirsch.amqp.reader import ANOTHER, DOUBLE, FOREIGN, MARKED, Reader, Said
from kirsch.amqp.stream import Stream
from kirsch.websocket.message import Prepared

log = logging.getLogger("kirsch.amqp")

# Seconds after which it is looked where the stream ends, if the last message that came does not come again.
EXPECTED = 2.0


class Hearing:
    """Whoever uses it holds the Bridge's lock.

    Attributes:
        queue: what the stream is called on the broker.
        reader, stream, backlog: how it is read, what is done with it besides, and its second reading.
    """

    def __init__(self, bridge: Any, queue: str, exchange: str, back: int) -> None:
        self._bridge = bridge
        self.queue = queue
        self.reader = Reader(bridge.process, back, EXPECTED)
        self.stream = Stream(
            queue, exchange, self.reader, bridge.amqp, bridge.lock, self._another, self._begins
        )
        stream = self.stream
        self.backlog = Backlog(bridge.rooms, stream.read_from, stream.read_more, stream.begin_again)
        # What the stream was called when this was told last.
        self._told = ""

    @property
    def up_to_date(self) -> bool:
        """All that was said before has been read."""
        return self.reader.caught_up and not self.reader.expecting

    def where(self) -> dict[str, Any]:
        """Where a new connection begins to read: its consumer's arguments. It takes the lock itself."""
        with self._bridge.lock:
            return self.reader.where(time.monotonic())

    def hear(self, delivery: Delivery, offset: int) -> None:
        """A message of the stream."""
        bridge, reader, rooms, counters = self._bridge, self.reader, self._bridge.rooms, self._bridge.counters
        begun, skipped, said = reader.begun, reader.skipped, reader.read(delivery, offset)
        if not reader.expecting:
            self.stream.found()
        if said is ANOTHER:
            self._another()
            return
        if reader.begun != begun:
            rooms.missed(reader.begun)
        if reader.skipped != skipped:
            self.stream.begin_again()
        rooms.offset = reader.offset
        if reader.caught_up and reader.stream != self._told:
            self._named(said is MARKED)
        if isinstance(said, Said):
            counters.messages += 1
            rooms.say(said.room, offset, Prepared(said.text))
            if rooms.lagging:
                bridge.look_soon()
        elif said is MARKED:
            bridge.look()
        elif said is DOUBLE:
            counters.doubles += 1
        elif said is FOREIGN:
            counters.refused["foreign"] += 1

    def second(self, now: float) -> None:
        """Once a second, while the broker is there."""
        self.stream.second(now)
        if self.reader.skipped >= 0 or self.backlog.doubting:
            # The connection may have been lost before it was found.
            self.stream.beginning(now)

    def lost(self) -> None:
        """The connection is gone, or the stream."""
        self.stream.lost()
        self.backlog.lost()

    def look(self) -> None:
        """Read for those who are behind, where that can be."""
        if self._bridge.rooms.lagging and self._bridge.amqp.connected and not self.reader.expecting:
            self.backlog.look()

    def _another(self) -> None:
        """The broker has lost the stream, or it was made anew: begin with it."""
        log.warning("%s is another than before: what was said is gone", self.queue)
        self.lost()
        # All are told of a gap in any case.
        self.backlog.begins(0)
        self.reader.forget()
        self._bridge.rooms.reset()
        # As at the start: nobody is let in before what is there has been read.
        self.stream.mark()
        self._bridge.amqp.reconnect(f"{self.queue} is read from its beginning")

    def _begins(self, offset: int) -> None:
        """What is before this offset the broker does not have any more."""
        rooms, skipped = self._bridge.rooms, self.reader.skipped
        rooms.first = max(rooms.first, offset)
        self.reader.skipped = -1
        if 0 <= skipped < offset - 1:
            log.warning("%s: some was dropped before it was read: this process is too slow", self.queue)
            rooms.missed(offset)
        self.backlog.begins(offset)
        self._bridge.look_soon()

    def _named(self, begun: bool) -> None:
        """What the stream is called is known, or is not what it was held to be."""
        before, self._told = self._told, self.reader.stream
        if not before:
            return
        if not begun:
            self._bridge.rooms.missed(self.reader.offset)
        # Who has heard all of it may come back with this name and offset.
        message = protocol.text(type="stream", stream=self.reader.stream, offset=self.reader.offset)
        for connection in self._bridge.rooms.up_to_date():
            connection.tell(message)
