"""A broker on the bus: it publishes deliveries on 'amqp2ws' and takes publications on 'ws2amqp'."""

import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from cherrypy.process.plugins import SimplePlugin

from kirsch.amqp.broker import Broker, broker_from
from kirsch.amqp.loops import loop_for
from kirsch.amqp.message import Delivery, Publication
from kirsch.amqp.outbox import Outbox
from kirsch.amqp.session import Deliver, Ended, Session, Settings, Subscription
from kirsch.amqp.topology import Consumer, Declared
from kirsch.websocket import Backoff

log = logging.getLogger("kirsch.amqp")

# Seconds that publications have to be confirmed when the bus stops.
CONFIRM_ON_STOP = 3.0


class AMQPPlugin(SimplePlugin):
    """Keeps a connection to RabbitMQ while the bus runs.

    It connects in the background, with growing pauses, and again whenever the connection is lost: `declare`
    is declared and `consume` consumed anew, and what was not confirmed is published again.

    It publishes on the bus, in the loop's thread: 'amqp-connected'; 'amqp2ws' (Delivery) for each message,
    which is acknowledged when the listeners have returned; 'amqp-lost' (reason). It listens to 'ws2amqp'
    (Publication), in any thread.

    Args:
        bus: the bus to subscribe to.
        broker: a Broker, a URL, or None for what the environment says: see broker_from. Where it has
            several nodes the next is tried whenever a connection is lost or fails.
        loop: where the connection and the listeners run. "thread": a thread of its own, for CherryPy and
            other threaded servers. "asyncio", "tornado": the loop that runs in the thread where the bus is
            started; or such a loop; or an AsyncioPlugin on the same bus. "gevent": a thread for the
            connection, and the listeners on the hub of the thread where the bus is started.
        declare: exchanges, queues and bindings, in this order.
        consume: what to read.
        heartbeat: seconds within which a broker that has fallen silent is given up, 12 or more.
        backoff: the pauses.
        outbox: how many publications may wait to be confirmed, and how many bytes; more are refused.

    Raises BrokerError for a broker that is none, TypeError for a loop that is none.
    """

    def __init__(
        self,
        bus: Any,
        broker: Broker | str | None = None,
        *,
        loop: Any = "thread",
        declare: Sequence[Declared] = (),
        consume: Sequence[Consumer] = (),
        heartbeat: int = 30,
        backoff: Backoff | None = None,
        outbox: tuple[int, int] = (10_000, 32 << 20),
    ) -> None:
        super().__init__(bus)
        if broker is None:
            broker = broker_from()
        self.broker = Broker.parse(broker) if isinstance(broker, str) else broker
        self.loop = loop_for(loop)
        self.declare = list(declare)
        self.consume = list(consume)
        self.heartbeat = heartbeat
        self.backoff = Backoff(start=0.2, maximum=10.0) if backoff is None else backoff
        self._nodes = itertools.cycle(self.broker.nodes)
        self._outbox = Outbox(*outbox)
        self._incoming: deque[Publication] = deque()
        self._asked = False
        self._lock = threading.Lock()
        self._session: Session | None = None
        self._problem = "has not been connected to yet"
        self._running = False
        self._since = 0.0
        # pika logs several lines and tracebacks for each failure; this plugin logs one line.
        pika_log = logging.getLogger("pika")
        if pika_log.level == logging.NOTSET:
            pika_log.setLevel(logging.CRITICAL)

    # On the bus.

    def subscribe(self) -> None:
        super().subscribe()
        self.bus.subscribe("ws2amqp", self.publish)

    def unsubscribe(self) -> None:
        super().unsubscribe()
        self.bus.unsubscribe("ws2amqp", self.publish)

    def start(self) -> None:
        """Begin to connect; returns at once."""
        if self._running:
            return
        self._running = True
        self.loop.start()
        self.loop.call(self._connect)
        # Publications may have come while the bus was stopped.
        self.loop.call(self._pump)

    start.priority = 60  # type: ignore[attr-defined] # after AsyncioPlugin, before servers

    def stop(self) -> None:
        """Publish what waits, then close the connection."""
        if not self._running:
            return
        self._running = False
        self.loop.stop(self._leave, CONFIRM_ON_STOP + 3.0)

    stop.priority = 60  # type: ignore[attr-defined] # after servers and WebSockets

    # For applications.

    @property
    def connected(self) -> bool:
        """True while messages go and come."""
        session = self._session
        return session is not None and session.ready and not session.blocked

    @property
    def unconfirmed(self) -> int:
        """Number of publications that wait to be confirmed."""
        return len(self._outbox) + len(self._incoming)

    def check(self) -> None:
        """Check for HealthPlugin: raises RuntimeError, in one line, while messages neither go nor come."""
        session = self._session
        if session is not None and session.ready:
            if session.blocked:
                raise RuntimeError(f"{self.broker} takes no messages: it is short of memory or disk")
            return
        raise RuntimeError(f"{self.broker}: {self._problem}")

    def reconnect(self, reason: str) -> None:
        """Close the connection and open another, which declares and consumes anew. Thread-safe."""

        def close() -> None:
            if self._session is not None:
                self._session.close(reason)

        self.loop.call(close)

    def read(self, consumer: Consumer, heard: Deliver, ended: Ended) -> Callable[[], None]:
        """Consume another queue as long as this connection lasts. Thread-safe.

        `heard` takes a Delivery, and a function to call once that is done with and more may come; `ended`
        takes the reason if the reading ends by itself. Both are called as listeners are. Returns a function
        that ends the reading.
        """
        found: list[Subscription] = []
        stopped = threading.Event()

        def tell(work: Callable[..., object], *arguments: Any) -> None:
            def told() -> None:
                try:
                    if not stopped.is_set():
                        work(*arguments)
                except Exception:
                    log.exception("a reader of %s failed", consumer.queue)

            self.loop.tell(told)

        def begin() -> None:
            session = self._session
            if stopped.is_set():
                return
            try:
                if session is None or not session.ready:
                    raise RuntimeError("the broker is away")
                reading = session.read(
                    consumer,
                    lambda delivery, handled: tell(heard, delivery, handled),
                    lambda reason: tell(ended, reason),
                )
            except Exception as error:
                tell(ended, str(error))
            else:
                found.append(reading)

        def end() -> None:
            for reading in found:
                reading.stop()

        def stop() -> None:
            stopped.set()
            self.loop.call(end)

        self.loop.call(begin)
        return stop

    async def wait_closed(self) -> None:
        """Wait until the connection is closed, on asyncio's and Tornado's loop, after the bus has stopped.

        The bus cannot wait for it there, as the loop has to run meanwhile; elsewhere it has waited.
        """
        if hasattr(self.loop, "gone"):
            await self.loop.gone()

    def publish(self, publication: Publication) -> None:
        """Publish to the broker ('ws2amqp'); `settled` is told the outcome. Thread-safe; never waits."""
        with self._lock:
            if publication.transient:
                refused = not self.connected
            else:
                refused = self._outbox.full or len(self._incoming) >= self._outbox.count
            if not refused:
                self._incoming.append(publication)
                asked, self._asked = self._asked, True
        if refused:
            if not publication.transient:
                self._tell(publication, "too much waits for the broker")
        elif not asked:
            self.loop.call(self._pump)

    # Where the connection runs.

    def _connect(self) -> None:
        if self._running and self._session is None:
            settings = Settings(next(self._nodes), self.heartbeat, self.declare, self.consume)
            self._session = Session(self.loop, settings, self._outbox, self)

    def _pump(self) -> None:
        with self._lock:
            self._asked = False
            incoming, self._incoming = self._incoming, deque()
        session = self._session
        for publication in incoming:
            if publication.transient:
                if session is not None:
                    session.publish(publication)
            elif not self._outbox.add(publication):
                self._settled(publication, "too much waits for the broker")
        if session is not None:
            session.flush()

    def _leave(self) -> None:
        """Wait for confirmations while the bus stops, then close."""
        self._pump()
        if self._session is None:
            self._finish()
        elif len(self._outbox) and self.connected:
            deadline = time.monotonic() + CONFIRM_ON_STOP
            self._wait(deadline)
        else:
            self._session.close("the bus stops")

    def _wait(self, deadline: float) -> None:
        session = self._session
        if session is None:
            self._finish()
        elif len(self._outbox) and time.monotonic() < deadline and session.ready:
            self.loop.later(0.02, lambda: self._wait(deadline))
        else:
            session.close("the bus stops")

    def _finish(self) -> None:
        for publication in self._outbox.clear():
            self._settled(publication, "the process ended before the broker had confirmed it")
        self.loop.ended()

    # Events of the session.

    def opened(self) -> None:
        self._since = time.monotonic()
        log.info("connected to %s", self.broker)
        self.loop.tell(lambda: self._publish("amqp-connected"))

    def delivered(self, delivery: Delivery, handled: Callable[[], None]) -> None:
        session = self._session

        def work() -> None:
            if self._session is not session:
                # It was not acknowledged in time, so it comes again.
                return
            try:
                self._publish("amqp2ws", delivery)
            finally:
                handled()

        self.loop.tell(work)

    def settled(self, publication: Publication, reason: str) -> None:
        self._settled(publication, reason)

    def lost(self, reason: str) -> None:
        was_open, self._session = self._since > 0, None
        self._outbox.lost()
        if self._since:
            self.backoff.lasted(time.monotonic() - self._since)
            self._since = 0.0
        if not self._running:
            if was_open:
                self.loop.tell(lambda: self._publish("amqp-lost", "the bus stops"))
            self._finish()
            return
        if was_open or reason != self._problem:
            log.warning("%s: %s", self.broker, reason)
        self._problem = reason
        if was_open:
            self.loop.tell(lambda: self._publish("amqp-lost", reason))
        self.loop.later(next(self.backoff), self._connect)

    def _settled(self, publication: Publication, reason: str) -> None:
        if publication.settled is not None:
            self.loop.tell(lambda: self._tell(publication, reason))
        elif reason:
            log.warning("a message to %s %s is lost: %s", publication.exchange, publication.key, reason)

    def _tell(self, publication: Publication, reason: str) -> None:
        if publication.settled is None:
            log.warning("a message to %s %s is lost: %s", publication.exchange, publication.key, reason)
            return
        try:
            publication.settled(reason)
        except Exception:
            log.exception("`settled` of a publication failed")

    def _publish(self, channel: str, *arguments: Any) -> None:
        try:
            self.bus.publish(channel, *arguments)
        except Exception:
            log.exception("a listener on %r failed", channel)
