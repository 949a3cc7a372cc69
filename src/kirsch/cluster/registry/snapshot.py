"""From the registry's entries to the Cluster the engine decides upon."""

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import TypeVar

from kirsch.cluster.model import (
    Assignment,
    Cluster,
    Endpoint,
    Machine,
    Move,
    Release,
    Unit,
    UnitRecord,
    UnitState,
    keys,
)
from kirsch.cluster.model.certificates import Issued, revoked_machines
from kirsch.cluster.registry.base import Entry
from kirsch.cluster.registry.mirror import Mirror
from kirsch.unit import Options, UnitFile, UnitName

Key = TypeVar("Key")
Value = TypeVar("Value")
ByMachine = dict[UnitName, Mapping[str, Value]]

MACHINE_KINDS = {keys.MACHINES, keys.MACHINE_SETTINGS, keys.CERTIFICATES}


@lru_cache(maxsize=65536)
def read_name(text: str) -> UnitName:
    """A unit's name; the registry holds only good ones."""
    return UnitName.parse(text)


@lru_cache(maxsize=16384)
def read_unit(name: UnitName, text: str) -> tuple[UnitFile, Options]:
    """A unit file that was checked when it was submitted, and its options."""
    file = UnitFile.parse(text, name.text)
    # A template's options may hold %i, which only an instance can say.
    return file, Options() if name.is_template else Options.parse(file, name)


# A value that was just read comes again: under a new lease, or in another snapshot of the same store.
_endpoint = lru_cache(maxsize=512)(Endpoint.parse)
_record = lru_cache(maxsize=512)(UnitRecord.parse)
_assignment = lru_cache(maxsize=512)(Assignment.parse)
_state = lru_cache(maxsize=512)(UnitState.parse)
_machine = lru_cache(maxsize=512)(Machine.parse)
_parsed_release = lru_cache(maxsize=64)(Release.parse)


class Snapshots:
    """A mirror's entries as a Cluster, read again only where they changed: its cost is that of the change.

    For one event loop. A Cluster that was handed out stays as it is.
    """

    def __init__(self, mirror: Mirror) -> None:
        self._mirror = mirror
        self._cluster = Cluster()
        self._endpoints: dict[str, Endpoint] = {}
        self._stale = set(mirror.entries)
        mirror.listen(self._stale.update)

    def now(self) -> Cluster:
        """Everything below /kirsch/v1/, as the mirror has it now."""
        if self._stale:
            self._cluster = self._read(self._stale)
            self._stale.clear()
        return self._cluster

    def _read(self, changed: set[str]) -> Cluster:
        before = self._cluster
        units, homes, moves = dict(before.units), dict(before.homes), dict(before.moves)
        schedule: ByMachine[Assignment] = dict(before.schedule)
        states: ByMachine[UnitState] = dict(before.states)
        addresses, releases = dict(before.addresses), dict(before.releases)
        for key in changed:
            # What vanished with its machine a moment ago is there until the machine is lost for sure.
            entry = self._mirror.held(key)
            match keys.kind(key):
                case keys.UNITS:
                    name = read_name(keys.last(key))
                    _set(units, name, self._unit(name, entry) if entry else None)
                case keys.HOMES:
                    _set(homes, read_name(keys.last(key)), entry.value if entry else None)
                case keys.MOVES:
                    name = read_name(keys.last(key))
                    _set(moves, name, Move.parse(entry.value) if entry else None)
                case keys.SCHEDULE:
                    machine, unit = keys.pair(key)
                    _set_on(schedule, unit, machine, _assignment(entry.value) if entry else None)
                case keys.STATES:
                    unit, machine = keys.pair(key)
                    _set_on(states, unit, machine, _state(entry.value) if entry else None)
                case keys.ADDRESSES:
                    unit, slot = keys.pair(key)
                    name = read_name(unit)
                    slots = addresses.get(name, frozenset()) - {slot}
                    _set(addresses, name, slots | {slot} if entry else slots or None)
                case keys.RELEASES:
                    pair = keys.pair(key)
                    release = self._release(entry) if entry else None
                    _set(releases, (pair.first, int(pair.second)), release)
                case keys.ENDPOINTS:
                    _set(self._endpoints, key, _endpoint(entry.value) if entry else None)
        kinds = {keys.kind(key) for key in changed}
        return Cluster(
            machines=self._machines() if kinds & MACHINE_KINDS else before.machines,
            units=units,
            schedule=schedule,
            states=states,
            homes=homes,
            moves=moves,
            addresses=addresses,
            releases=releases,
            active=_active(releases) if keys.RELEASES in kinds else before.active,
            endpoints=self._sorted_endpoints() if keys.ENDPOINTS in kinds else before.endpoints,
        )

    def _unit(self, name: UnitName, entry: Entry) -> Unit | None:
        record = _record(entry.value)
        text = self._mirror.value(keys.text(record.hash))
        if text is None:  # it arrives in the same transaction; a torn view cannot be acted upon
            return None
        file, options = read_unit(name, text)
        return Unit(name, file, options, record)

    def _release(self, entry: Entry) -> Release:
        """A release; one that is not over has its units' new texts, as far as the store has them."""
        release = _parsed_release(entry.value)
        if release.over:
            return release
        targets = {}
        for unit, digest in {**release.units, **release.commands}.items():
            if (text := self._mirror.value(keys.text(digest))) is not None:
                name = read_name(unit)
                targets[name] = Unit(name, *read_unit(name, text), UnitRecord(digest))
        return replace(release, targets=targets)

    def _machines(self) -> dict[str, Machine]:
        machines = {}
        # One that was removed while it was cut off may still have its connection to the store.
        revoked = revoked_machines(Issued.parse(e.value) for e in self._mirror.below(keys.CERTIFICATES))
        for entry in self._mirror.held_below(keys.MACHINES):
            if keys.last(entry.key) in revoked:
                continue
            settings = self._mirror.value(keys.machine_settings(keys.last(entry.key)))
            machine = _machine(entry.value, settings)
            machines[machine.id] = machine
        return machines

    def _sorted_endpoints(self) -> tuple[Endpoint, ...]:
        return tuple(self._endpoints[key] for key in sorted(self._endpoints))


def _active(releases: Mapping[tuple[str, int], Release]) -> tuple[Release, ...]:
    return tuple(releases[key] for key in sorted(releases) if not releases[key].over)


def _set(values: dict[Key, Value], key: Key, value: Value | None) -> None:
    if value is None:
        values.pop(key, None)
    else:
        values[key] = value


def _set_on(values: ByMachine[Value], unit: str, machine: str, value: Value | None) -> None:
    """Set what one machine has of a unit, in a new inner mapping: others may hold the old one."""
    name = read_name(unit)
    on = dict(values.get(name, {}))
    _set(on, machine, value)
    _set(values, name, on or None)
