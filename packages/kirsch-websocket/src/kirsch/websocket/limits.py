"""What one peer may cost: sizes in bytes, times in seconds."""

from dataclasses import dataclass
from sys import maxsize

from kirsch.websocket import arguments


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one connection; each holds by default, `None` is none.

    Attributes:
        message: the largest message, after decompression: 1009 closes the connection beyond it.
        frame: the largest frame; None is as large as a message.
        fragments: how many frames one message may have: 1008 beyond it.
        ratio: how many times its size a compressed message may grow once it is larger than 1 MiB.
        handshake: the bytes of a request's or a response's head.
        headers: how many fields the head may have.
        handshake_timeout: from the connection to the end of the handshake.
        queue: bytes that may wait to be sent besides the largest message of those, which may be of any size:
            while more do `Slow` is raised.
        inbox: bytes of messages received that nobody has taken yet, for those who iterate: reading stops.
        ping_interval: how often a silent peer is asked whether it is there; None never.
        ping_timeout: how long it has to say anything at all: 1006 then; None forever.
        close_timeout: from our close frame to the end of the connection; 0 waits for nobody.

    Raises:
        ValueError: names the field, what it was given and what is allowed.
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
