"""Limits of an HTTP server: sizes in bytes, times in seconds."""

from dataclasses import dataclass
from enum import Enum, auto


class Phase(Enum):
    """The next thing that a connection waits for from its client."""

    HANDSHAKE = auto()
    SILENT = auto()
    """Its first byte."""
    IDLE = auto()
    """Another request."""
    HEAD = auto()
    BODY = auto()
    ANSWER = auto()
    """Room for the rest of an answer."""
    CLOSING = auto()
    """Its end: the answer is sent, and what still comes is dropped."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of an HTTP server, each with the status that a client gets beyond it.

    A client has `timeout` seconds for a head, and for a body or for taking an answer `timeout` seconds and
    one more for every `rate` bytes: 408, or the connection is closed where an answer has begun. The same goes
    for one who takes nothing of an answer for `timeout` seconds.
    """

    threads: int = 20
    """Requests that the application answers at a time."""
    queue: int = 1000
    """Complete requests that wait while every thread is busy; 503 beyond."""
    backlog: int = 1024
    """Connections that the kernel holds before they are accepted (its own somaxconn is above that)."""
    connections: int = 10_000
    """Open connections; the longest idle is closed for a new one, 503 where none is idle."""
    per_address: int = 0
    """Open connections of one client address; 503 beyond. 0: any number, as behind a balancer."""
    keep_alive: int = 1000
    """Open connections up to which one is kept after its answer."""
    timeout: float = 15.0
    """Longest wait for a head, and the slack of the minimum rate; 408."""
    idle: float = 3600.0
    """Longest wait for another request on a connection; it is closed. A balancer is to close it first: a
    request that it sends while this end closes is lost, and it may not send a POST again."""
    rate: int = 500
    """Bytes a second that a client sends or takes at least, beyond `timeout`; 408."""
    shutdown: float = 30.0
    """Longest wait of a stop for requests in flight."""
    target: int = 16 * 1024
    """A request line; 414 beyond."""
    header: int = 64 * 1024
    """A request line with its header fields; 431 beyond. Trailers are measured alone."""
    body: int = 10 * 1024 * 1024
    """A body; 413 beyond. 0: any size."""
    memory: int = 128 * 1024
    """A body, or the part of an answer that its client has not taken, kept in memory; a file has the rest."""
    spool: int = 1024 * 1024 * 1024
    """Files of all answers. Beyond, no answer's file grows over `answer`: the application's thread waits for
    the client, and where half of the threads do so already, the client is cut off."""
    answer: int = 64 * 1024 * 1024
    """The part of an answer that its client has not taken, and that has room whatever others have."""

    def deadline(self, phase: Phase, since: float, count: int = 0) -> float:
        """Return when a wait ends that began at `since`, where `count` bytes came or left in it."""
        if phase is Phase.IDLE:
            return since + self.idle
        if phase is Phase.CLOSING:
            return since + min(self.timeout, CLOSING)
        if phase in (Phase.BODY, Phase.ANSWER):
            return since + self.timeout + count / self.rate
        return since + self.timeout


# How long a client may take to read an answer that ends its connection.
CLOSING = 2.0
