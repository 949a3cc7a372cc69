"""Places that are told, not measured: one that stays, and a way that was recorded."""

import itertools
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from threading import Event
from typing import Any

from kirsch.device.error import BadAnswer, LocationError, SourceError
from kirsch.device.location import Location

MOST = 10_000  # places of a recording
MOST_BYTES = 10 << 20
CLOSED = "it has been closed"


class FixedSource:
    """A place that stays where it is: of a computer on a desk, or for a try."""

    name = "fixed"

    def __init__(self, latitude: float, longitude: float, altitude: float | None = None) -> None:
        """Degrees, and metres. Raises BadAnswer."""
        self._place = Location(latitude, longitude, time.time(), self.name, altitude=altitude)
        self._closed = Event()

    @classmethod
    def parse(cls, text: str) -> "FixedSource":
        """From LATITUDE,LONGITUDE[,ALTITUDE]. Raises SourceError."""
        try:
            numbers = [float(part) for part in text.split(",")]
            if not 2 <= len(numbers) <= 3:
                raise ValueError
            return cls(*numbers)
        except ValueError:
            raise SourceError(f"fixed:{text} is not fixed:LATITUDE,LONGITUDE[,ALTITUDE]") from None
        except BadAnswer as error:
            raise SourceError(f"fixed:{text}: {error}") from None

    def read(self, timeout: float, after: Location | None = None) -> Location:
        """The place; once that is known, the same anew after `timeout` seconds. Raises LocationError."""
        if after is not None:
            self._closed.wait(timeout)
        if self._closed.is_set():
            raise LocationError(CLOSED)
        return replace(self._place, time=time.time())

    def close(self) -> None:
        self._closed.set()


class RecordedSource:
    """A way that was recorded, walked at the pace at which it was, over and over.

    A recording has a JSON object a line, with the fields of Location.as_json: `latitude`, `longitude` and
    `time`, which only grows.
    """

    name = "recorded"

    def __init__(self, places: list[dict[str, Any]]) -> None:
        """Places with their `time` in seconds, at least one. Raises BadAnswer."""
        begun = places[0]["time"]
        self._places = [
            (place["time"] - begun, Location.read(place, source=self.name, time=place["time"]))
            for place in places
        ]
        # The last place is held as long as the one before it was.
        pauses = [b[0] - a[0] for a, b in itertools.pairwise(self._places)]
        self._length = self._places[-1][0] + (pauses[-1] if pauses else 1.0)
        self._started, self._started_at = time.monotonic(), time.time()
        self._closed = Event()

    @classmethod
    def load(cls, file: str) -> "RecordedSource":
        """From a file. Raises SourceError."""
        try:
            if Path(file).stat().st_size > MOST_BYTES:
                raise SourceError(f"recorded:{file}: it is larger than {MOST_BYTES >> 20} MiB")
            text = Path(file).read_text("utf-8")
        except OSError as error:
            raise SourceError(f"recorded:{file}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise SourceError(f"recorded:{file}: it is not UTF-8") from None
        try:
            return cls(list(_places(text)))
        except (BadAnswer, ValueError) as error:
            raise SourceError(f"recorded:{file}: {error}") from None

    def read(self, timeout: float, after: Location | None = None) -> Location:
        """The next place of the way, once it is time. Raises LocationError."""
        deadline = time.monotonic() + timeout
        while not self._closed.is_set():
            place, until = self._now()
            if after is None or after.time < place.time:
                return place
            if self._closed.wait(max(0.0, min(until, deadline) - time.monotonic())):
                break
            if time.monotonic() >= deadline:
                return replace(place, time=time.time())
        raise LocationError(CLOSED)

    def close(self) -> None:
        self._closed.set()

    def _now(self) -> tuple[Location, float]:
        """Return the walk's current position and when it expires (monotonic seconds)."""
        round_, gone = divmod(time.monotonic() - self._started, self._length)
        last = max(number for number, (at, _) in enumerate(self._places) if at <= gone)
        at, place = self._places[last]
        following = self._places[last + 1][0] if last + 1 < len(self._places) else self._length
        begun = round_ * self._length
        return replace(place, time=self._started_at + begun + at), self._started + begun + following


def _places(text: str) -> Iterator[dict[str, Any]]:
    """The lines of a recording, their times in seconds. Raises ValueError."""
    last = None
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        if number > MOST:
            raise ValueError(f"it has more than {MOST:,} lines")
        try:
            place = json.loads(line)
            moment = _seconds(place["time"])
        except (ValueError, KeyError, TypeError, RecursionError):
            raise ValueError(
                f'line {number} is not an object such as {{"latitude": 1, "longitude": 2, '
                '"time": "2026-01-31T12:00:00Z"}'
            ) from None
        if last is not None and moment <= last:
            raise ValueError(f"line {number} is not later than the one before")
        last = moment
        yield place | {"time": moment}
    if last is None:
        raise ValueError("it is empty")


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
