"""Limits of each connection to a Bridge: sizes in bytes, times in seconds."""

from dataclasses import dataclass

from kirsch.websocket import Limits as WebSocketLimits
from kirsch.websocket.core import arguments


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of a connection; all are on by default.

    Attributes:
        message: largest message from a client; a larger one closes the connection with 1009.
        rate, burst: messages a second, of any type, and at once. Messages beyond it are refused; after
            `burst` refusals the connection is closed with 4429.
        bytes, bytes_burst: the same for bytes.
        rooms: rooms of a connection.
        connections: connections of a user at one process; further ones are closed with 4429.
        unconfirmed: messages of a connection that the broker has not confirmed; more are refused.
        hello: seconds until the first message, else 4408.
        queue: bytes that wait for a reader; the Bridge's `slow` says what happens beyond it.
        stalled: seconds for which a member that is behind may take nothing, else 1013.
        roster: largest room whose members are named; of larger ones only their number is told.
        ping_interval, ping_timeout: as in kirsch.websocket.Limits.
    """

    message: int = 64 << 10
    rate: float = 20.0
    burst: int = 100
    bytes: float = 256 << 10
    bytes_burst: int = 1 << 20
    rooms: int = 50
    connections: int = 100
    unconfirmed: int = 100
    hello: float = 10.0
    queue: int = 256 << 10
    stalled: float = 30.0
    roster: int = 500
    ping_interval: float = 20.0
    ping_timeout: float = 20.0

    def __post_init__(self) -> None:
        for name in ("message", "burst", "bytes_burst", "rooms", "connections", "unconfirmed", "queue"):
            arguments.whole(name, getattr(self, name), 1)
        arguments.whole("roster", self.roster, 0)
        for name in ("rate", "bytes", "hello", "stalled", "ping_interval", "ping_timeout"):
            arguments.seconds(name, getattr(self, name))

    @property
    def websocket(self) -> WebSocketLimits:
        """Limits for the provider."""
        return WebSocketLimits(
            message=self.message,
            queue=self.queue,
            inbox=max(self.message, 64 << 10),
            ping_interval=self.ping_interval,
            ping_timeout=self.ping_timeout,
        )


class Bucket:
    """Token bucket: `rate` a second, and `burst` at once. The time, in seconds, is an argument."""

    __slots__ = ("_burst", "_left", "_rate", "_since")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = self._left = float(burst)
        self._since = now

    def take(self, now: float, count: float = 1.0) -> bool:
        """Take `count` tokens; return False if there are too few."""
        left = min(self._burst, self._left + (now - self._since) * self._rate)
        self._since = now
        # More than the bucket holds may be taken when it is full.
        allowed = left >= min(count, self._burst)
        self._left = left - count if allowed else left
        return allowed
