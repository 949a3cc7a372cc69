"""Units as values: what people want of one, where it is put, and what its machine says. Pure."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal, Self

from kirsch.unit import Options, UnitError, UnitFile, UnitName, expand

DesiredState = Literal["inactive", "loaded", "launched"]
DESIRED_STATES: tuple[DesiredState, ...] = ("inactive", "loaded", "launched")


def to_json(value: Any) -> str:
    """Compact JSON with sorted keys, so that equal values are equal texts."""
    return json.dumps(value, separators=(",", ":"), sort_keys=True, ensure_ascii=False)


def known_fields(kind: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that a dataclass has fields for: a newer kirschd of the cluster may write others."""
    return {name: value for name, value in values.items() if name in kind.__dataclass_fields__}


@dataclass(frozen=True, slots=True)
class UnitRecord:
    """Value of units/NAME. `order` counts the times somebody ordered a start: a running unit whose order
    goes up is restarted, a failed one tried again."""

    hash: str
    desired: DesiredState = "inactive"
    order: int = 0

    def to_json(self) -> str:
        """Return the JSON stored under units/NAME."""
        return to_json(asdict(self))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse the JSON stored under units/NAME."""
        return cls(**known_fields(cls, json.loads(text)))


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
        """True if any machine that runs its type can have it, for all that it says itself."""
        o = self.options
        bound = o.machine_id or o.machine_metadata or o.machine_of or o.sticky
        return not (bound or o.conflicts or o.replaces or o.published or o.cpu or o.memory)

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
    """Value of schedule/MACHINE/NAME: the text to load and what to do with it."""

    hash: str
    desired: DesiredState
    order: int = 0

    def to_json(self) -> str:
        """Return the JSON stored under schedule/MACHINE/NAME."""
        return to_json(asdict(self))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse the JSON stored under schedule/MACHINE/NAME."""
        return cls(**known_fields(cls, json.loads(text)))


@dataclass(frozen=True, slots=True)
class Move:
    """Value of moves/NAME: the unit leaves `source` for `target`, or for any other machine if that is
    empty. It is there until the unit is ready elsewhere."""

    source: str
    target: str = ""

    def to_json(self) -> str:
        """Return the JSON stored under moves/NAME."""
        return to_json(asdict(self))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse the JSON stored under moves/NAME."""
        return cls(**known_fields(cls, json.loads(text)))


@dataclass(frozen=True, slots=True)
class UnitState:
    """Value of states/NAME/MACHINE: systemd's words, and one line for a person. `order` is the order the
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
        """Return the JSON stored under states/NAME/MACHINE."""
        # Not asdict, which copies each value: an agent writes all its units' states at each change.
        return to_json({name: getattr(self, name) for name in self.__slots__})

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse the JSON stored under states/NAME/MACHINE."""
        return cls(**known_fields(cls, json.loads(text)))


def settled(unit: Unit, state: UnitState | None) -> bool:
    """True if a unit's state already answers what was last asked of it."""
    if state is None:
        return unit.desired == "inactive"
    if unit.desired != "launched":
        return state.active in ("inactive", "failed")
    return (state.hash, state.order) == (unit.record.hash, unit.record.order)


def finished(unit: Unit, state: UnitState | None) -> bool:
    """True if a unit that was started has ended well."""
    down = state is not None and state.active == "inactive" and state.result == "success"
    return down and unit.desired == "launched" and settled(unit, state)
