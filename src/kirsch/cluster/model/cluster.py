"""The cluster as values: what the registry holds, read into dataclasses, and written back as JSON."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Literal, Self

from kirsch.unit import Options, Port, UnitError, UnitFile, UnitName, expand

DesiredState = Literal["inactive", "loaded", "launched"]
DESIRED_STATES: tuple[DesiredState, ...] = ("inactive", "loaded", "launched")

# The metadata that has a machine's own name.
NAME = "hostname"


def to_json(value: Any) -> str:
    """Compact JSON with sorted keys, so that equal values are equal texts."""
    return json.dumps(value, separators=(",", ":"), sort_keys=True, ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine that is there. `runs` are the unit types it can run; `cpu` in cores, `memory` in bytes.

    `apart` is why no unit can be in the flat network there, empty if one can; `nameless` why units' names are
    not answered there, `unwatched` why what others do to the flat network there is not seen at once.

    `metadata` is what it said of itself, changed by what people set since; a cordoned machine gets no
    new units, and those of a drained one move elsewhere. `api` is the port of its API over TCP, 0 for none.
    """

    id: str
    address: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    runs: tuple[str, ...] = ("service",)
    cpu: float = 1.0
    memory: int = 1 << 30
    runtime: str = "systemd"
    api: int = 0
    apart: str = ""
    nameless: str = ""
    unwatched: str = ""
    cordoned: bool = False
    drained: bool = False

    def to_json(self) -> str:
        """As it is stored under machines/ID."""
        values = asdict(self)
        del values["cordoned"], values["drained"]
        if not self.unwatched:
            del values["unwatched"]  # kirschds before it do not know it
        return to_json(values)

    @classmethod
    def parse(cls, text: str, settings: str | None = None) -> Self:
        """From machines/ID and, if there is one, machine-settings/ID."""
        values = json.loads(text)
        values["runs"] = tuple(values["runs"])
        changes = json.loads(settings) if settings else {}
        for key, value in changes.get("metadata", {}).items():
            if key == NAME:
                continue  # people know the machine by it; it could be set once
            if value is None:
                values["metadata"].pop(key, None)
            else:
                values["metadata"][key] = value
        drained = changes.get("drained", False)
        return cls(**values, cordoned=drained or changes.get("cordoned", False), drained=drained)


@dataclass(frozen=True, slots=True)
class UnitRecord:
    """What units/NAME holds. `order` counts the times somebody ordered a start: a running unit whose order
    goes up is restarted, a failed one tried again."""

    hash: str
    desired: DesiredState = "inactive"
    order: int = 0

    def to_json(self) -> str:
        """As it is stored under units/NAME."""
        return to_json(asdict(self))

    @classmethod
    def parse(cls, text: str) -> Self:
        """From units/NAME."""
        return cls(**json.loads(text))


@dataclass(frozen=True)
class Unit:
    """A unit as the engine sees it: its file read, and what people want of it. What is derived is kept."""

    name: UnitName
    file: UnitFile
    options: Options
    record: UnitRecord

    @property
    def desired(self) -> DesiredState:
        """inactive, loaded or launched."""
        return self.record.desired

    @cached_property
    def undemanding(self) -> bool:
        """Whether any machine that runs its type can have it, for all that it says itself."""
        o = self.options
        bound = o.machine_id or o.machine_metadata or o.machine_of or o.sticky
        return not (bound or o.conflicts or o.published or o.cpu or o.memory)

    @cached_property
    def fleet_hash(self) -> str:
        """SHA-1 of the file as fleet writes it."""
        return self.file.fleet_hash

    @cached_property
    def description(self) -> str:
        """Description=, for people; a specifier that only its machine knows stays as it is."""
        entry = self.file.get("Unit", "Description")
        if entry is None:
            return ""
        try:
            return expand(entry.value, self.name)
        except UnitError:
            return entry.value


@dataclass(frozen=True, slots=True)
class Assignment:
    """What schedule/MACHINE/NAME holds: the text to load and what to do with it."""

    hash: str
    desired: DesiredState
    order: int = 0

    def to_json(self) -> str:
        """As it is stored under schedule/MACHINE/NAME."""
        return to_json(asdict(self))

    @classmethod
    def parse(cls, text: str) -> Self:
        """From schedule/MACHINE/NAME."""
        return cls(**json.loads(text))


@dataclass(frozen=True, slots=True)
class Move:
    """What moves/NAME holds: the unit leaves `source` for `target`, or for any other machine if that is
    empty. It is there until the unit is ready elsewhere."""

    source: str
    target: str = ""

    def to_json(self) -> str:
        """As it is stored under moves/NAME."""
        return to_json(asdict(self))

    @classmethod
    def parse(cls, text: str) -> Self:
        """From moves/NAME."""
        return cls(**json.loads(text))


@dataclass(frozen=True, slots=True)
class UnitState:
    """What states/NAME/MACHINE holds: systemd's words, and one line for a person. `order` is the order the
    unit was last started for, -1 if it was not."""

    load: str
    active: str
    sub: str
    hash: str
    result: str = "success"
    message: str = ""
    pid: int = 0
    restarts: int = 0
    since: float = 0.0
    order: int = -1

    def to_json(self) -> str:
        """As it is stored under states/NAME/MACHINE."""
        # Not asdict, which copies each value: an agent writes all its units' states at each change.
        return to_json({name: getattr(self, name) for name in self.__slots__})

    @classmethod
    def parse(cls, text: str) -> Self:
        """From states/NAME/MACHINE."""
        return cls(**json.loads(text))


def settled(unit: Unit, state: UnitState | None) -> bool:
    """Whether a unit's state already answers what was last asked of it."""
    if state is None:
        return unit.desired == "inactive"
    if unit.desired != "launched":
        return state.active in ("inactive", "failed")
    return (state.hash, state.order) == (unit.record.hash, unit.record.order)


def finished(unit: Unit, state: UnitState | None) -> bool:
    """Whether a unit that was started has ended well."""
    down = state is not None and state.active == "inactive" and state.result == "success"
    return down and unit.desired == "launched" and settled(unit, state)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where one unit's slot serves. `env` is what its ExposeEnv= lets links see."""

    service: str
    unit: str
    slot: str
    machine: str
    address: str
    ports: tuple[Port, ...] = ()
    ready: bool = False
    env: Mapping[str, str] = field(default_factory=dict)

    def public(self) -> dict[str, Any]:
        """What anybody may read of it: everything but `env` and the machine."""
        return {
            "service": self.service,
            "unit": self.unit,
            "slot": self.slot,
            "address": self.address,
            "ports": [{"number": p.number, "protocol": p.protocol, "name": p.name} for p in self.ports],
            "ready": self.ready,
        }

    def to_json(self) -> str:
        """As it is stored under endpoints/SERVICE/NAME/SLOT."""
        return to_json(self.public() | {"env": dict(self.env), "machine": self.machine})

    @classmethod
    def parse(cls, text: str) -> Self:
        """From endpoints/SERVICE/NAME/SLOT."""
        values = json.loads(text)
        ports = tuple(Port(p["number"], p["protocol"], p["name"]) for p in values.pop("ports"))
        return cls(**values, ports=ports)


@dataclass(frozen=True, slots=True)
class Cluster:
    """All that the engine decides upon, at one moment.

    `schedule` maps a unit to the machines it is put on, `states` to what those say of it, `homes` a sticky
    unit to its machine, `moves` one that is on its way to where from. `lapsed` are machines lost so lately
    that what stops by itself on a machine cut off may not have stopped yet. `addresses` are the slots of
    units that were given one.
    """

    machines: Mapping[str, Machine] = field(default_factory=dict)
    units: Mapping[UnitName, Unit] = field(default_factory=dict)
    schedule: Mapping[UnitName, Mapping[str, Assignment]] = field(default_factory=dict)
    states: Mapping[UnitName, Mapping[str, UnitState]] = field(default_factory=dict)
    homes: Mapping[UnitName, str] = field(default_factory=dict)
    moves: Mapping[UnitName, Move] = field(default_factory=dict)
    lapsed: frozenset[str] = frozenset()
    endpoints: tuple[Endpoint, ...] = ()
    addresses: Mapping[UnitName, frozenset[str]] = field(default_factory=dict)
