"""The assignments of [X-Kirsch] and [X-Fleet], merged: by option, resets applied, specifiers expanded."""

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import TypeVar

from kirsch.unit.error import UnitError
from kirsch.unit.file import UnitFile
from kirsch.unit.name import MACHINES, UnitName, expand, uses_instance
from kirsch.unit.syntax import Entry, split_values

SECTIONS = ("X-Kirsch", "X-Fleet")
OPTIONS = (
    *("MachineID", "MachineMetadata", "MachineOf", "Conflicts", "Replaces", "Global", "Spread", "Link"),
    *("Expose", "ExposeEnv", "Health", "Sticky", "CPU", "Memory", "Secret", "OnPartition", "LinkUpdate"),
    *("Endpoints", "HealthRole", "AtATime", "HealthyFor", "Deadline", "Canary", "Promote", "OnFailure"),
    *("ReleaseCommand", "Metrics"),
)
# Names that fleet had before and still read.
OLD_OPTIONS = {
    "X-ConditionMachineID": "MachineID",
    "X-ConditionMachineBootID": "MachineID",
    "X-ConditionMachineOf": "MachineOf",
    "X-ConditionMachineMetadata": "MachineMetadata",
    "X-Conflicts": "Conflicts",
}
# Options whose values hold no spaces, so that several stand on one line.
_LISTS = frozenset(("MachineOf", "Conflicts", "Replaces", "Link", "ExposeEnv", "Secret"))

_MACHINE_SPECIFIERS = {letter: f"%{letter}" for letter in MACHINES}

T = TypeVar("T")


class Given:
    """Values of a unit file by option. Raises UnitError on an unknown option."""

    def __init__(self, file: UnitFile, name: UnitName) -> None:
        self.file = file
        self._name = name
        self._words: dict[str, list[tuple[Entry, str]]] = {}
        entries = (entry for section in SECTIONS for entry in file.entries(section))
        for entry in sorted(entries, key=lambda entry: entry.line):
            option = self._option(entry)
            if not entry.value:
                self._words.pop(option, None)
                continue
            for word in self._split(option, entry):
                self._words.setdefault(option, []).append((entry, word))

    def words(self, option: str) -> list[tuple[Entry, str]]:
        """Return the values of an option in order, each with its assignment."""
        return self._words.get(option, [])

    def each(self, option: str, read: Callable[[str], T]) -> tuple[T, ...]:
        """Return all values of an option, parsed by `read`."""
        values = []
        for entry, word in self.words(option):
            with self.file.at(entry):
                values.append(read(word))
        return tuple(values)

    def last(self, option: str, read: Callable[[str], T], default: T) -> T:
        """Return the last value of an option, parsed by `read`, or `default`."""
        for entry, word in reversed(self.words(option)):
            with self.file.at(entry):
                return read(word)
        return default

    def container(self, name: str, section: str = "Container") -> list[tuple[Entry, str]]:
        """Return the values of a key in [Container], or in another section of Quadlet.

        Specifiers that only a machine knows are left as they are.
        """
        return [
            (entry, self._expanded(entry, entry.value, _MACHINE_SPECIFIERS))
            for entry in self.file.values(section, name)
            if self._has_meaning(entry.value)
        ]

    def quadlet(self, name: str, read: Callable[[str], T]) -> T | None:
        """Return the last value of a key in [Container], parsed by `read`, or None."""
        for entry, text in reversed(self.container(name)):
            with self.file.at(entry):
                return read(text)
        return None

    def _option(self, entry: Entry) -> str:
        option = OLD_OPTIONS.get(entry.name, entry.name)
        if option in OPTIONS:
            return option
        close = get_close_matches(entry.name, OPTIONS, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(OPTIONS)}"
        message = f'unrecognized requirement in [{entry.section}] section: "{entry.name}"; {hint}'
        raise UnitError(message, self.file.file, entry.line, entry.name_column)

    def _split(self, option: str, entry: Entry) -> list[str]:
        with self.file.at(entry):
            values = split_values(entry.value)
        if option in _LISTS:
            values = [word for value in values for word in value.split()]
        return [self._expanded(entry, value) for value in values if self._has_meaning(value)]

    def _has_meaning(self, value: str) -> bool:
        return not (self._name.is_template and uses_instance(value))

    def _expanded(self, entry: Entry, value: str, extra: Mapping[str, str] | None = None) -> str:
        with self.file.at(entry):
            return expand(value, self._name, extra)
