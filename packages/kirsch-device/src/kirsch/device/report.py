"""Reports: the location at a moment, and the sources that failed."""

from dataclasses import dataclass
from typing import Any

from kirsch.device.error import LocationError, NoFix, PermissionDenied
from kirsch.device.location import Location


@dataclass(frozen=True, slots=True)
class Failure:
    """A source that does not know. `reason` is a word of LocationError's kinds, `detail` a line."""

    source: str
    reason: str
    detail: str

    @classmethod
    def of(cls, source: str, error: LocationError) -> "Failure":
        return cls(source, error.reason, str(error))

    def as_json(self) -> dict[str, str]:
        return {"source": self.source, "reason": self.reason, "detail": self.detail}


@dataclass(frozen=True, slots=True)
class Report:
    """`location` is the last that is known, None if there is none; `failures` are of the sources that were
    asked before the one that knows, or of all."""

    location: Location | None = None
    failures: tuple[Failure, ...] = ()

    @property
    def reason(self) -> str:
        """Why there is no location, in a word: what a person can act on comes first."""
        reasons = [failure.reason for failure in self.failures]
        if PermissionDenied.reason in reasons:
            return PermissionDenied.reason
        return reasons[0] if reasons else NoFix.reason

    @property
    def detail(self) -> str:
        """The same in a line."""
        told = "; ".join(f"{failure.source}: {failure.detail}" for failure in self.failures)
        return told or "no source has answered yet"

    def as_json(self, now: float) -> dict[str, Any]:
        """The location with its age in seconds, if there is one, and the failures."""
        where: dict[str, Any] = {}
        if self.location is not None:
            where = self.location.as_json() | {"age": round(self.location.age(now), 3)}
        return where | {"failures": [failure.as_json() for failure in self.failures]}
