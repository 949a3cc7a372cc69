"""Limits of the resources that one peer may use: sizes in bytes, times in seconds."""

from dataclasses import dataclass
from sys import maxsize

from kirsch.websocket.core import arguments


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one connection. All are on by default; `None` turns one off, where its type has None.

    Attributes:
        message: the largest message, after decompression; a larger one closes the connection with 1009.
        frame: the largest frame; None is as large as a message.
        fragments: the number of frames of one message; more close the connection with 1008.
        ratio: the compression ratio of a message that is larger than 1 MiB.
        handshake: the size of a request's or a response's head.
        headers: the number of its fields.
        handshake_timeout: the time from the connection to the end of the handshake.
        queue: the bytes that may wait to be sent, not counting the largest message, which may be of any size;
            while more wait, `send` raises `Slow`.
        inbox: the bytes of messages that wait to be taken from a Connection; while more wait, it is not read.
        ping_interval: the time after which a silent peer is pinged.
        ping_timeout: the time that the peer then has to send anything at all; 1006 after it.
        close_timeout: the time from our close frame to the end of the connection, which begins anew whenever
            the peer reads of what was sent before; 0 does not wait.

    Raises:
        ValueError: names the field, the wrong value and the allowed ones.
    """

    message: int | None = 4 << 20
    frame: int | None = None
    fragments: int | None = 1 << 17
    ratio: int | None = 256
    handshake: int = 16 << 10
    headers: int = 100
    handshake_timeout: float | None = 10.0
    queue: int = 1 << 20
    inbox: int = 1 << 20
    ping_interval: float | None = 20.0
    ping_timeout: float | None = 20.0
    close_timeout: float = 10.0

    def __post_init__(self) -> None:
        for name in ("message", "frame", "fragments", "ratio"):
            arguments.whole(name, getattr(self, name), 1, maxsize, none=True)
        for name in ("handshake", "headers"):
            arguments.whole(name, getattr(self, name), 1, maxsize)
        for name in ("queue", "inbox"):
            arguments.whole(name, getattr(self, name), 0, maxsize)
        for name in ("handshake_timeout", "ping_interval", "ping_timeout"):
            arguments.seconds(name, getattr(self, name), none=True)
        arguments.seconds("close_timeout", self.close_timeout, zero=True)

    @property
    def tick(self) -> float:
        """Seconds between two checks of the times: 1, and less where one of them is shorter than 4 s."""
        times = (self.handshake_timeout, self.ping_interval, self.ping_timeout, self.close_timeout)
        return max(0.05, min(1.0, *(time / 4 for time in times if time)))
