"""Moments: when something happened, on the clock that load and output are measured by."""

import time
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Moment:
    """What happened, and between which two instants of the monotonic clock (seconds)."""

    what: str
    begun: float
    ended: float

    @classmethod
    def now(cls, what: str) -> "Moment":
        """What happens now."""
        instant = time.monotonic()
        return cls(what, instant, instant)

    def __str__(self) -> str:
        return self.what
