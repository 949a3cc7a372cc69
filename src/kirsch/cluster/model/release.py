"""Releases: numbered changes of an application, which the engine carries out instance by instance. Pure."""

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Literal, Self

from kirsch.cluster.model.unit import Unit, UnitRecord, known_fields, to_json
from kirsch.unit import Options, Policy, UnitError, UnitName

ReleaseState = Literal[
    "waiting",
    "running",
    "canary",
    "paused",
    "rolling-back",
    "done",
    "rolled-back",
    "failed",
    "aborted",
    "superseded",
]
FINAL: frozenset[ReleaseState] = frozenset({"done", "rolled-back", "failed", "aborted", "superseded"})
# As many releases of an application are kept, with the texts they name.
KEPT = 10


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a release failed: at which instance, and between which times (seconds since the epoch) that was
    tried. `unit` is empty where no instance was to blame."""

    unit: str
    machine: str
    reason: str
    began: float = 0.0
    ended: float = 0.0


@dataclass(frozen=True, slots=True)
class Release:
    """One change of an application, as releases/APPLICATION/NUMBER holds it.

    An instance is a unit's name or, of a Global unit, its name and a machine's id.
    """

    application: str
    number: int
    # The hash that each unit's text is to have. Units of `start` are to run, those of `restart` anew though
    # their text is the same; units of `gone` are destroyed at the end.
    units: Mapping[str, str]
    start: tuple[str, ...] = ()
    restart: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    # Units whose text is not changed: it is the one that they have when the release begins, and of new ones
    # their template's.
    kept: tuple[str, ...] = ()
    # True where `units` are all the units of the application.
    whole: bool = False
    # Units that run once, before the first instance is replaced, and the hash of each one's text; those of
    # them that were started, with True once they have ended well.
    commands: Mapping[str, str] = field(default_factory=dict)
    commanded: Mapping[str, bool] = field(default_factory=dict)
    # Numbers of instances that people asked for, by template: they go before kirsch.toml's. None where the
    # release says nothing of it.
    scale: Mapping[str, int] | None = None
    # When each secret that its units ask for had been set, in seconds since the epoch, as the release was
    # opened; 0 for one that was not.
    secrets: Mapping[str, float] = field(default_factory=dict)
    policy: Policy = field(default_factory=Policy)
    who: str = ""
    message: str = ""
    created: float = 0.0
    state: ReleaseState = "waiting"
    # Records at the time the release began, and those of a release that it took the place of: what a unit
    # goes back to. None is a unit that was not there.
    began: Mapping[str, UnitRecord | None] = field(default_factory=dict)
    inherited: Mapping[str, UnitRecord | None] = field(default_factory=dict)
    # Instances that run the new text, or are to; those of them that served before, also before a release that
    # it took the place of; those that were sent back.
    advanced: tuple[str, ...] = ()
    served: tuple[str, ...] = ()
    restored: tuple[str, ...] = ()
    # Set by a person, or by Policy.promote: more than the canaries may be replaced.
    promoted: bool = False
    # Set when a person calls the release off.
    aborted: bool = False
    failure: Failure | None = None
    ended: float = 0.0
    # Units with their new texts, read; of releases that are not over. Not stored.
    targets: Mapping[UnitName, Unit] = field(default_factory=dict, compare=False, repr=False)

    @property
    def over(self) -> bool:
        """True once nothing more is done for the release."""
        return self.state in FINAL

    @property
    def backwards(self) -> bool:
        """True while instances go back to the text they had."""
        return self.state == "rolling-back"

    def before(self, unit: str) -> UnitRecord | None:
        """Return the record that a unit goes back to if the release fails."""
        return self.inherited[unit] if unit in self.inherited else self.began.get(unit)

    def holds(self, unit: UnitName, machine: str) -> bool:
        """True where a machine is not yet to take up the record of a Global unit: its turn comes later."""
        if self.over or unit not in self.targets or not self.targets[unit].options.is_global:
            return False
        key = instance_key(unit.text, machine)
        if self.backwards:
            return key not in self.restored
        return unit.text in self.began and key not in self.advanced

    def to_json(self) -> str:
        """Return the JSON stored under releases/APPLICATION/NUMBER."""
        values = {name: getattr(self, name) for name in self.__slots__ if name != "targets"}
        values["policy"] = self.policy.changes()
        for name in ("began", "inherited"):
            values[name] = {key: record and asdict(record) for key, record in values[name].items()}
        values["failure"] = self.failure and asdict(self.failure)
        for name in ("units", "commands", "commanded", "secrets"):
            values[name] = dict(values[name])
        values["scale"] = None if self.scale is None else dict(self.scale)
        for name in ("start", "restart", "gone", "kept", "advanced", "served", "restored"):
            values[name] = list(values[name])
        return to_json(values)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse the JSON stored under releases/APPLICATION/NUMBER."""
        values = known_fields(cls, json.loads(text))
        values["policy"] = Policy(**known_fields(Policy, values["policy"]))
        for name in ("began", "inherited"):
            values[name] = {
                key: record and UnitRecord(**known_fields(UnitRecord, record))
                for key, record in values[name].items()
            }
        values["failure"] = values["failure"] and Failure(**known_fields(Failure, values["failure"]))
        for name in ("start", "restart", "gone", "kept", "advanced", "served", "restored"):
            values[name] = tuple(values.get(name, ()))
        return cls(**values)

    @property
    def hashes(self) -> set[str]:
        """The texts that the release may still need."""
        records = (*self.began.values(), *self.inherited.values())
        return {*self.units.values(), *self.commands.values(), *(record.hash for record in records if record)}


def listed(release: Release, known: Iterable[str], under_way: Iterable[Release]) -> list[str]:
    """Return the units that an application is listed with once a release of all of it is opened, or done.

    `known` is the list so far, of which a release that is done keeps what it has itself. What other releases
    bring that are under way is listed until these are over: later ones know by it what to remove."""
    units = {*release.units} if release.state == "done" else {*known, *release.units}
    return sorted(units.union(*(other.units for other in under_way if other.whole)))


def instance_key(unit: str, machine: str = "") -> str:
    """Return the text by which a release knows an instance."""
    return f"{unit} {machine}" if machine else unit


def policy_of(release: Release, unit: Unit) -> Policy:
    """Return the policy for one unit: what its own file sets goes first."""
    return release.policy.with_changes(dict(unit.options.policy))


def commanded(application: str, policy: Policy, units: Mapping[UnitName, Options]) -> dict[UnitName, str]:
    """Return the units as which a release of these runs a command first, each with its command: one of each
    service with ReleaseCommand=, and one for the application's own command. Raises UnitError."""
    found: dict[str, tuple[UnitName, str]] = {}
    for name in sorted(units):
        if command := dict(units[name].policy).get("command"):
            found.setdefault(name.service, (name, command))
    if policy.command:
        able = {
            name.service: name
            for name in sorted(units, reverse=True)
            if name.type in ("service", "container") and not (units[name].sticky or units[name].is_global)
        }
        service = application if application in able else min(able, default="") if len(able) == 1 else ""
        if not service:
            among = f": {', '.join(sorted(able))}" if able else ""
            raise UnitError(
                "release: command: it is not clear which unit it is for; say it by ReleaseCommand= in that "
                f"unit's [X-Kirsch]{among}"
            )
        found.setdefault(service, (able[service], policy.command))
    return dict(found.values())


def scaled(template: UnitName, count: int, units: Iterable[UnitName]) -> tuple[list[str], list[str]]:
    """Return the instances that are to run, with the lowest numbers, and those that are too many."""
    there = {
        int(unit.instance): unit.text
        for unit in units
        if unit.template == template and unit.instance and unit.instance.isdecimal()
    }
    kept = sorted(there)[:count]
    free = (number for number in itertools.count(1) if number not in there)
    new = [template.with_instance(str(next(free))).text for _ in range(count - len(kept))]
    return [*(there[number] for number in kept), *new], [there[number] for number in sorted(there)[count:]]


def with_scale(
    start: Sequence[str], scale: Mapping[str, int], there: Iterable[str]
) -> tuple[list[str], dict[str, int], list[str]]:
    """Return what an application starts where people have scaled it: the units, those of the numbers that
    differ from its own, and a line on each. `there` are the units that it has now."""
    found, differs, told = list(start), {}, []
    for text, count in scale.items():
        template = UnitName.parse(text)
        mine = [name for name in found if UnitName.parse(name).template == template]
        if not mine or len(mine) == count:
            continue
        known = [UnitName.parse(name) for name in {*there, *mine}]
        kept, _ = scaled(template, count, known)
        at = found.index(mine[0])
        found = [name for name in found if name not in mine]
        found[at:at] = kept
        differs[text] = count
        told.append(
            f"{template.prefix} has {count} instances by `kirsch scale`; kirsch.toml starts {len(mine)}: "
            f"`kirsch scale {template.prefix}={len(mine)}` goes back to that"
        )
    return found, differs, told
