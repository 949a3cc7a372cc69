"""Delays between a client's attempts to connect. No I/O, no clock."""

from random import Random
from typing import Self

from kirsch.websocket.core.errors import HandshakeError
from kirsch.websocket.core.url import BadUrl

# Request Timeout, Too Early, Too Many Requests.
_TEMPORARY = frozenset({408, 425, 429})


def may_succeed_later(error: HandshakeError) -> bool:
    """Return True if a later attempt may succeed: the server did not answer, is overloaded, or is failing."""
    if isinstance(error, BadUrl):
        return False
    return error.status == 0 or error.status in _TEMPORARY or 500 <= error.status < 600


class Backoff:
    """An endless iterator of delays in seconds: exponential, with full jitter.

    The n-th delay after a success is a random one between 0 and start * factor**n, never over `maximum`: so
    clients that lost one server together do not come back together. (Marc Brooker, "Exponential Backoff And
    Jitter", 2015.)

    Args:
        start: the longest first delay.
        factor: the longest delay is multiplied by this each time.
        maximum: the upper limit of every delay.
        steady: how many seconds a connection has to last to count as a success.
        attempts: the number of delays in a row after which the iteration ends; None for no end.
        random: the source of the jitter; one with a seed gives the same delays again.

    Raises:
        ValueError: delays would be negative, shrink, or not be numbers.
    """

    def __init__(
        self,
        start: float = 0.5,
        factor: float = 2.0,
        maximum: float = 60.0,
        *,
        steady: float = 10.0,
        attempts: int | None = None,
        random: Random | None = None,
    ) -> None:
        # Written so that NaN, which compares as false, is refused too.
        if not (0 <= start <= maximum < float("inf") and 1 <= factor < float("inf") and steady >= 0):
            raise ValueError(
                "a backoff has delays of 0 or more seconds that do not shrink and have a maximum"
            )
        self.start = start
        self.factor = factor
        self.maximum = maximum
        self.steady = steady
        self.attempts = attempts
        self._random = random if random is not None else Random()  # noqa: S311 -- jitter is no secret
        self.reset()

    def reset(self) -> None:
        """Start again with the first delay."""
        self._ceiling = self.start
        self._left = self.attempts

    def lasted(self, seconds: float) -> None:
        """Start again with the first delay if a connection was open for at least `steady` seconds."""
        if seconds >= self.steady:
            self.reset()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> float:
        if self._left is not None:
            if self._left <= 0:
                raise StopIteration
            self._left -= 1
        ceiling = self._ceiling
        self._ceiling = min(self.maximum, ceiling * self.factor)
        return self._random.uniform(0, ceiling)
