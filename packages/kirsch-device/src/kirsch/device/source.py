"""Sources of the location, and the choice among those that are present."""

import os
import shutil
from collections.abc import Callable, Mapping
from typing import Protocol

from kirsch.device.error import LocationError, SourceError
from kirsch.device.fixed import FixedSource, RecordedSource
from kirsch.device.location import Location
from kirsch.device.sl4a import Sl4aSource
from kirsch.device.termux import COMMAND, TermuxSource


class Source(Protocol):
    """Something that knows where this is. Any thread may ask, several at a time."""

    name: str

    def read(self, timeout: float, after: Location | None = None) -> Location:
        """Return the location; wait for another one than `after`, for `timeout` seconds at most.

        Raises LocationError, of the kind that says why there is none.
        """

    def close(self) -> None:
        """End: whoever waits is told by a LocationError, and nothing is left running."""


AUTO = "auto"


def sources(names: str = AUTO, environment: Mapping[str, str] | None = None) -> tuple[Source, ...]:
    """The sources that `names` says, in the order in which they are asked.

    It is words: `sl4a`, `termux`, `fixed:LATITUDE,LONGITUDE[,ALTITUDE]`, `recorded:FILE`, or `auto`, which
    stands for those of the phone that are there. Raises SourceError.
    """
    given = os.environ if environment is None else environment
    found = [source for word in names.split() or [AUTO] for source in _named(word, given)]
    twice = {source.name for source in found if [s.name for s in found].count(source.name) > 1}
    if twice:
        raise SourceError(f"the source {min(twice)} is named twice")
    return tuple(found)


def _named(word: str, environment: Mapping[str, str]) -> list[Source]:
    name, _, argument = word.partition(":")
    if name == AUTO:
        return _present(environment)
    make = _MAKERS.get(name)
    if make is None:
        raise SourceError(
            f"there is no source {name!r}: there are auto, sl4a, termux, fixed:LATITUDE,LONGITUDE "
            "and recorded:FILE"
        )
    return [make(argument, environment)]


def _present(environment: Mapping[str, str]) -> list[Source]:
    found: list[Source] = []
    if environment.get("AP_PORT"):
        found.append(_sl4a("", environment))
    if shutil.which(COMMAND, path=environment.get("PATH")):
        found.append(_termux("", environment))
    return found or [Nowhere()]


def _sl4a(argument: str, environment: Mapping[str, str]) -> Source:
    _without(argument, "sl4a")
    return Sl4aSource.from_environment(environment)


def _termux(argument: str, environment: Mapping[str, str]) -> Source:
    _without(argument, "termux")
    return TermuxSource(shutil.which(COMMAND, path=environment.get("PATH")) or COMMAND)


def _without(argument: str, name: str) -> None:
    if argument:
        raise SourceError(f"the source {name} takes no argument, not {argument!r}")


_MAKERS: dict[str, Callable[[str, Mapping[str, str]], Source]] = {
    "sl4a": _sl4a,
    "termux": _termux,
    "fixed": lambda argument, environment: FixedSource.parse(argument),
    "recorded": lambda argument, environment: RecordedSource.load(argument),
}


class Nowhere:
    """Source for a computer without any: it only says what is missing."""

    name = "auto"

    def read(self, timeout: float, after: Location | None = None) -> Location:
        """Raises LocationError, which says what is missing."""
        raise LocationError(f"there is neither SL4A (AP_PORT is not set) nor {COMMAND} (Termux) here")

    def close(self) -> None:
        pass
