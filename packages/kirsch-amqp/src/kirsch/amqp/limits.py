"""What one connection may cost a Bridge: sizes in bytes, times in seconds."""

from dataclasses import dataclass

from kirsch.websocket import arguments
from kirsch.websocket.limits import Limits as WebSocketLimits


@dataclass(frozen=True, slots=True)
class Limits:
    """Each holds by default.

    Attributes:
        message: the largest message that a client may send: 1009 closes the connection beyond it.
        rate, burst: messages a second, of any type, and how many at once: an error beyond it, and once as
            many have been refused as `burst` allows, 4429.
        bytes, bytes_burst: the same for bytes.
        rooms: how many a connection may be in.
        unconfirmed: messages of a connection that the broker has not confirmed: beyond it an error.
        hello: until the first message: 4408.
        queue: bytes that wait for a reader; what happens beyond it is the Bridge's `slow`.
        stalled: how long who is behind may take nothing at all: 1013.
        roster: the largest room whose members are named; of larger ones only their number is told.
        ping_interval, ping_timeout: as kirsch.websocket.Limits has them.
    """

    message: int = 64 << 10
    rate: float = 20.0
    burst: int = 100
    bytes: float = 256 << 10
    bytes_burst: int = 1 << 20
    rooms: int = 50
    unconfirmed: int = 100
    hello: float = 10.0
    queue: int = 256 << 10
    stalled: float = 30.0
    roster: int = 500
    ping_interval: float = 20.0
    ping_timeout: float = 20.0

    def __post_init__(self) -> None:
        for name in ("message", "burst", "bytes_burst", "rooms", "unconfirmed", "queue"):
            arguments.whole(name, getattr(self, name), 1)
        arguments.whole("roster", self.roster, 0)
        for name in ("rate", "bytes", "hello", "stalled", "ping_interval", "ping_timeout"):
            arguments.seconds(name, getattr(self, name))

    @property
    def websocket(self) -> WebSocketLimits:
        """What the provider is given."""
        return WebSocketLimits(
            message=self.message,
            queue=self.queue,
            inbox=max(self.message, 64 << 10),
            ping_interval=self.ping_interval,
            ping_timeout=self.ping_timeout,
        )


class Bucket:
    """So many a second, and `burst` at once (a token bucket). It is told the time, in seconds."""

    __slots__ = ("_burst", "_left", "_rate", "_since")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = self._left = float(burst)
        self._since = now

    def take(self, now: float, count: float = 1.0) -> bool:
        """Whether so many may be now; they are taken then."""
        left = min(self._burst, self._left + (now - self._since) * self._rate)
        self._since = now
        # What is larger than the bucket goes when it is full.
        allowed = left >= min(count, self._burst)
        self._left = left - count if allowed else left
        return allowed
