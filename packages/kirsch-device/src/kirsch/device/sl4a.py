"""Location of the phone from SL4A: Android's location service behind its facade.

startLocating, eventWaitFor("location"), readLocation, getLastKnownLocation, stopLocating; each of the last
but one answers with a location for each provider.
"""

import contextlib
import time
from collections.abc import Mapping
from threading import Event, Lock
from typing import Any

from kirsch.device.error import BadAnswer, LocationError, NoFix, SourceError
from kirsch.device.facade import Facade
from kirsch.device.fixed import CLOSED
from kirsch.device.location import Location, number

PERIOD = 1.0  # seconds between the updates that are asked for
# A wait is cut into pieces of so many seconds: others who ask are to get their turn.
TURN = 1.0
# An answer of SL4A's own, which waits for no satellite, takes no longer.
PROMPT = 5.0
_MISSING = "AP_HANDSHAKE is not set: start this from SL4A, which sets it"


class Sl4aSource:
    """The location service through SL4A at an address, with the handshake that SL4A gave."""

    name = "sl4a"

    def __init__(self, host: str, port: int, handshake: str | None) -> None:
        self._place = (host, port)
        self._handshake = handshake
        self._facade: Facade | None = None
        self._lock = Lock()
        self._closed = Event()

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Sl4aSource":
        """From AP_HOST, AP_PORT and AP_HANDSHAKE, which SL4A sets. Raises SourceError."""
        text = environment.get("AP_PORT", "")
        if not text:
            raise SourceError("AP_PORT is not set: start this from SL4A, which sets it")
        if not (text.isascii() and text.isdigit() and 0 < int(text[:6]) < 65536):
            raise SourceError(f"AP_PORT is {text!r}: a port is a number from 1 to 65535")
        # None is told when it is asked: another source may know.
        return cls(environment.get("AP_HOST") or "127.0.0.1", int(text), environment.get("AP_HANDSHAKE"))

    def read(self, timeout: float, after: Location | None = None) -> Location:
        """Return the phone's location. Raises LocationError."""
        deadline = time.monotonic() + timeout
        facade = self._connected(deadline)
        try:
            return self._read(facade, deadline, timeout, after)
        except LocationError:
            if facade.broken:
                self._forget(facade)
            if self._closed.is_set():
                raise LocationError(CLOSED) from None
            raise

    def close(self) -> None:
        self._closed.set()
        facade, self._facade = self._facade, None
        if facade is not None:
            _end(facade)

    def _read(self, facade: Facade, deadline: float, timeout: float, after: Location | None) -> Location:
        while not self._closed.is_set():
            found = newest(facade.call("readLocation", timeout=PROMPT))
            if found is not None and (after is None or found.time > after.time):
                return found
            if (left := deadline - time.monotonic()) <= 0:
                break
            self._await(facade, min(left, TURN))
        if after is None and not self._closed.is_set():
            last = newest(facade.call("getLastKnownLocation", timeout=PROMPT))
            if last is not None:
                return last
        raise NoFix(f"SL4A has had no location for {timeout:g} s: is it switched on, is there a sky above?")

    def _await(self, facade: Facade, seconds: float) -> None:
        # An event that was seen stays, and would be seen again at once.
        facade.call("eventClearBuffer", timeout=PROMPT)
        facade.call("eventWaitFor", "location", int(seconds * 1000), timeout=seconds + PROMPT)

    def _connected(self, deadline: float) -> Facade:
        with self._lock:
            if self._closed.is_set():
                raise LocationError(CLOSED)
            if self._facade is not None:
                return self._facade
            if not self._handshake:
                raise LocationError(_MISSING)
            facade = Facade.connect(*self._place, self._handshake)
            try:
                facade.call("startLocating", int(PERIOD * 1000), 0, timeout=PROMPT)
            except LocationError:
                facade.close()
                raise
            self._facade = facade
            if self._closed.is_set():
                # Whoever closed this may not have seen it.
                self._facade = None
                _end(facade)
                raise LocationError(CLOSED)
            return facade

    def _forget(self, facade: Facade) -> None:
        facade.close()
        with self._lock:
            if self._facade is facade:
                self._facade = None


def _end(facade: Facade) -> None:
    # It uses the battery until it is told to stop. Whoever waits for an answer has the line for TURN, and may
    # be late in giving it back.
    with contextlib.suppress(LocationError):
        facade.call("stopLocating", timeout=TURN + PROMPT)
    facade.close()


def newest(result: Any) -> Location | None:
    """Return the newest of readLocation's locations, of which there is one for each provider.

    Of two with the same time it is the more accurate; None if there is none. Raises BadAnswer.
    """
    if result is None:
        return None
    if not isinstance(result, dict):
        raise BadAnswer("SL4A's location is no JSON object")
    found = [_location(name, fields) for name, fields in result.items() if fields is not None]
    if not found:
        return None
    return max(found, key=lambda each: (each.time, -(each.accuracy or 0.0)))


def _location(provider: str, fields: Any) -> Location:
    if not isinstance(fields, dict):
        raise BadAnswer(f"SL4A's location of {provider[:20]!r} is no JSON object")
    moment = number("time", fields.get("time"))
    if moment is None:
        raise BadAnswer("SL4A's location has no time")
    return Location.read({"provider": provider} | fields, source=Sl4aSource.name, time=moment / 1000)
