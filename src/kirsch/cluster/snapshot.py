"""From the registry's entries to the Cluster the engine decides upon."""

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import TypeVar

from kirsch.cluster import keys
from kirsch.cluster.model import Assignment, Cluster, Endpoint, Machine, Unit, UnitRecord, UnitState
from kirsch.cluster.registry.base import Entry
from kirsch.unit import Options, UnitFile, UnitName

Value = TypeVar("Value")


@lru_cache(maxsize=65536)
def read_name(text: str) -> UnitName:
    """A unit's name; the registry holds only good ones."""
    return UnitName.parse(text)


@lru_cache(maxsize=4096)
def read_unit(name: UnitName, text: str) -> tuple[UnitFile, Options]:
    """A unit file that was checked when it was submitted, and its options."""
    file = UnitFile.parse(text, name.text)
    # A template's options may hold %i, which only an instance can say.
    return file, Options() if name.is_template else Options.parse(file, name)


def snapshot(entries: Mapping[str, Entry]) -> Cluster:
    """Everything below /kirsch/v1/ as values."""
    sorted_entries = [entries[key] for key in sorted(entries)]
    return Cluster(
        machines=_machines(sorted_entries, entries),
        units=_units(sorted_entries, entries),
        schedule=_by_unit(sorted_entries, keys.SCHEDULE, Assignment.parse, machine_first=True),
        states=_by_unit(sorted_entries, keys.STATES, UnitState.parse, machine_first=False),
        homes={read_name(keys.last(e.key)): e.value for e in _below(sorted_entries, keys.HOMES)},
        endpoints=tuple(Endpoint.parse(e.value) for e in _below(sorted_entries, keys.ENDPOINTS)),
    )


def _below(entries: Iterable[Entry], prefix: str) -> Iterable[Entry]:
    return (entry for entry in entries if entry.key.startswith(prefix))


def _machines(entries: Iterable[Entry], by_key: Mapping[str, Entry]) -> dict[str, Machine]:
    machines = {}
    for entry in _below(entries, keys.MACHINES):
        settings = by_key.get(keys.machine_settings(keys.last(entry.key)))
        machine = Machine.parse(entry.value, settings.value if settings else None)
        machines[machine.id] = machine
    return machines


def _units(entries: Iterable[Entry], by_key: Mapping[str, Entry]) -> dict[UnitName, Unit]:
    units = {}
    for entry in _below(entries, keys.UNITS):
        name = read_name(keys.last(entry.key))
        record = UnitRecord.parse(entry.value)
        text = by_key.get(keys.text(record.hash))
        if text is None:  # its text arrives in the same transaction; a torn view cannot be acted upon
            continue
        file, options = read_unit(name, text.value)
        units[name] = Unit(name, file, options, record)
    return units


def _by_unit(
    entries: Iterable[Entry], prefix: str, parse: Callable[[str], Value], *, machine_first: bool
) -> dict[UnitName, dict[str, Value]]:
    found: dict[UnitName, dict[str, Value]] = {}
    for entry in _below(entries, prefix):
        pair = keys.pair(entry.key)
        machine, name = pair if machine_first else (pair.second, pair.first)
        found.setdefault(read_name(name), {})[machine] = parse(entry.value)
    return found
