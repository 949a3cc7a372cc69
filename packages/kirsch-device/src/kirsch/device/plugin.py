"""Location of the device on the bus: every source is polled in a thread of its own."""

import logging
import threading
import time
from collections.abc import Sequence
from typing import Any

from cherrypy.process.plugins import SimplePlugin

from kirsch.bus.process.restart import Backoff
from kirsch.device.error import LocationError
from kirsch.device.location import Location
from kirsch.device.report import Failure, Report
from kirsch.device.source import Source

log = logging.getLogger("kirsch.device")
PATIENCE = 60.0
_FAULT = LocationError("it failed: the log says why")
_BACKOFF = Backoff(first=1.0, factor=2.0, most=60.0)


class LocationPlugin(SimplePlugin):
    """Asks sources where this is, while the bus runs, and publishes what they say.

    Channels: 'location' (Location), whenever there is another; 'location-failed' (Failure), when a source
    begins not to know, or for another reason; 'location-report' (Report), after either.

    The sources are in order of preference. One is asked only while all before it have failed; those are
    asked again with growing pauses (`backoff`), and one that knows again takes its place back. `patience` is
    after how many seconds without a location a source has failed; `interval` the least time, in seconds,
    between two questions to one source.
    """

    def __init__(
        self,
        bus: Any,
        sources: Sequence[Source],
        *,
        interval: float = 1.0,
        patience: float = PATIENCE,
        backoff: Backoff = _BACKOFF,
    ) -> None:
        super().__init__(bus)
        self.interval = interval
        self.patience = patience
        self.backoff = backoff
        self._readers = [_Reader(source) for source in sources]
        self._changed = threading.Condition()
        self._published = threading.Lock()
        self._running = False
        self._threads: list[threading.Thread] = []
        self._last: Location | None = None

    def start(self) -> None:
        with self._changed:
            if self._running:
                return
            self._running = True
        self._threads = [
            threading.Thread(target=self._run, args=(place,), name=f"location {reader.source.name}")
            for place, reader in enumerate(self._readers)
        ]
        for thread in self._threads:
            thread.start()

    # Before CherryPy's servers, and after them at the end.
    start.priority = 70  # type: ignore[attr-defined]

    def stop(self) -> None:
        """Close the sources, and wait until nobody asks them any more."""
        with self._changed:
            if not self._running:
                return
            self._running = False
            self._changed.notify_all()
        for reader in self._readers:
            reader.source.close()
        for thread in self._threads:
            thread.join()

    stop.priority = 30  # type: ignore[attr-defined]

    @property
    def report(self) -> Report:
        """The present report, without waiting."""
        with self._changed:
            return self._report()

    def wait(self, timeout: float, after: Location | None = None) -> Report:
        """Wait for another location than `after`, for up to `timeout` seconds, and return the report."""
        with self._changed:
            self._changed.wait_for(lambda: not self._running or self._another(after), timeout)
            return self._report()

    def _another(self, after: Location | None) -> bool:
        return self._last is not None and self._last != after

    def _report(self) -> Report:
        failures: list[Failure] = []
        for reader in self._readers:
            if reader.failure is None:
                break
            failures.append(reader.failure)
        return Report(self._last, tuple(failures))

    def _run(self, place: int) -> None:
        reader = self._readers[place]
        failed = 0
        while self._until_wanted(place):
            begun = time.monotonic()
            try:
                location = reader.source.read(self.patience, reader.location)
            except LocationError as error:
                self._failed(place, Failure.of(reader.source.name, error))
                pause = self.backoff.delay(failed)
                failed += 1
            except Exception:
                log.exception("%s failed", reader.source.name)
                # One that has a fault is no reason not to ask the others.
                self._failed(place, Failure.of(reader.source.name, _FAULT))
                pause = self.backoff.most
            else:
                self._found(place, location)
                pause = self.interval - (time.monotonic() - begun)
                failed = 0
            self._pause(pause)

    def _until_wanted(self, place: int) -> bool:
        """Wait until all before it have failed; False when the bus stops."""

        def wanted() -> bool:
            return not self._running or all(reader.failure for reader in self._readers[:place])

        with self._changed:
            if not wanted():
                # What it said before is old by then.
                self._readers[place].location = None
                self._changed.wait_for(wanted)
            return self._running

    def _pause(self, seconds: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not self._running, max(0.0, seconds))

    def _found(self, place: int, location: Location) -> None:
        reader = self._readers[place]
        with self._published:
            with self._changed:
                came_back = reader.failure is not None
                reader.location, reader.failure = location, None
                # A better source may know by now.
                wanted = all(before.failure for before in self._readers[:place])
                changed = wanted and location != self._last
                if changed:
                    self._last = location
                report = self._report()
                self._changed.notify_all()
            if came_back:
                self.bus.log(f"{reader.source.name} knows the location again")
            if changed:
                self._publish("location", location)
            if changed or came_back:
                self._publish("location-report", report)

    def _failed(self, place: int, failure: Failure) -> None:
        reader = self._readers[place]
        with self._published:
            with self._changed:
                if not self._running:
                    return
                before, reader.failure = reader.failure, failure
                following = next((each for each in self._readers if each.failure is None), None)
                # It may not have been left for long, and waits for another location than the one it has.
                location = following.location if following else None
                moved = location is not None and location != self._last
                self._last = location or self._last
                report = self._report()
                self._changed.notify_all()
            if before is not None and before.reason == failure.reason:
                return
            falls = f"; falling back to {following.source.name}" if following else ""
            self.bus.log(f"{failure.source}: {failure.detail}{falls}", level=logging.WARNING)
            self._publish("location-failed", failure)
            if moved:
                self._publish("location", location)
            self._publish("location-report", report)

    def _publish(self, channel: str, value: object) -> None:
        try:
            self.bus.publish(channel, value)
        except Exception:
            # A listener's fault, which the bus has logged: others are to hear what comes.
            log.debug("a listener of %s failed", channel, exc_info=True)


class _Reader:
    """A source, and what it said last."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.location: Location | None = None
        self.failure: Failure | None = None
