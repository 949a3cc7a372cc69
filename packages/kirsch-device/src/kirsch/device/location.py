"""A place on Earth, when it was so, and who says so."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from kirsch.device.error import BadAnswer, one_line


@dataclass(frozen=True, slots=True)
class Location:
    """Position of a device.

    Attributes:
        latitude, longitude: degrees (WGS 84), north and east are positive.
        time: seconds since the epoch at which it was there.
        source: who was asked: sl4a, termux, fixed, recorded.
        provider: what that asked: gps, network, passive; empty if it does not say.
        accuracy: the radius in metres within which it is, by two chances in three (as Android has it).
        altitude: metres above the ellipsoid. vertical_accuracy: metres, as accuracy.
        bearing: degrees clockwise from north. speed: metres a second.

    None is what the source does not know. Raises BadAnswer for what cannot be.
    """

    latitude: float
    longitude: float
    time: float
    source: str
    provider: str = ""
    accuracy: float | None = None
    altitude: float | None = None
    vertical_accuracy: float | None = None
    bearing: float | None = None
    speed: float | None = None

    def __post_init__(self) -> None:
        _within("latitude", self.latitude, -90, 90)
        _within("longitude", self.longitude, -180, 180)
        _within("time", self.time, 0, _LAST)
        _within("accuracy", self.accuracy, 0, math.inf)
        _within("altitude", self.altitude, -math.inf, math.inf)
        _within("vertical_accuracy", self.vertical_accuracy, 0, math.inf)
        _within("bearing", self.bearing, 0, 360)
        _within("speed", self.speed, 0, math.inf)

    @classmethod
    def read(cls, fields: Mapping[str, Any], *, source: str, time: float) -> "Location":
        """From the fields as Android names them; what it does not name, or as null, is not known.

        Raises BadAnswer when a number is none, or one that cannot be.
        """
        provider = fields.get("provider")
        return cls(
            latitude=_required(fields, "latitude"),
            longitude=_required(fields, "longitude"),
            time=time,
            source=source,
            provider=provider if isinstance(provider, str) else "",
            **{name: number(name, fields.get(name)) for name in _KNOWN},
        )

    def age(self, now: float) -> float:
        """For how many seconds it has been known; 0 if the clock has been set back."""
        return max(0.0, now - self.time)

    def as_json(self) -> dict[str, Any]:
        """Return the location for JSON; the time is RFC 3339 in UTC."""
        moment = datetime.fromtimestamp(self.time, UTC).isoformat(timespec="milliseconds")
        return {
            "latitude": self.latitude,
            "longitude": self.longitude,
            **{name: getattr(self, name) for name in _KNOWN},
            "time": f"{moment[:-6]}Z",
            "source": self.source,
            "provider": self.provider,
        }


_KNOWN = ("accuracy", "altitude", "vertical_accuracy", "bearing", "speed")
# The end of the year 9999, beyond which there is no RFC 3339.
_LAST = 253_402_300_799.0


def _required(fields: Mapping[str, Any], name: str) -> float:
    found = number(name, fields.get(name))
    if found is None:
        raise BadAnswer(f"it has no {name}")
    return found


def number(name: str, value: Any) -> float | None:
    """A field's value as a float; None where it is null. Raises BadAnswer."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadAnswer(f"{name} is no number but {one_line(repr(value), 60)}")
    try:
        return float(value)
    except OverflowError:
        raise BadAnswer(f"{name} is larger than any number that can be") from None


def _within(name: str, value: float | None, least: float, most: float) -> None:
    if value is not None and not (least <= value <= most and math.isfinite(value)):
        raise BadAnswer(f"{name} is {value:g}: it can only be {_range(least, most)}")


def _range(least: float, most: float) -> str:
    if math.isinf(most):
        return "a finite number" if math.isinf(least) else f"{least:g} or more"
    return f"from {least:g} to {most:g}"
