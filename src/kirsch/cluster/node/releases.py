"""Releases as people open and steer them; kirsch.cluster.engine.rollout carries them out. Pure."""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Literal

from kirsch.cluster.model import Cluster, Release, Unit, keys, to_json
from kirsch.cluster.model.release import KEPT, commanded, listed
from kirsch.cluster.registry.base import Condition, Delete, Operation, Put, Unchanged
from kirsch.cluster.registry.mirror import Mirror
from kirsch.unit import UnitFile, UnitName
from kirsch.unit.release import command_file

Verb = Literal["pause", "resume", "promote", "abort"]
VERBS: tuple[Verb, ...] = ("pause", "resume", "promote", "abort")


def next_number(application: str, cluster: Cluster) -> int:
    """Return the number of an application's next release."""
    return max((number for name, number in cluster.releases if name == application), default=0) + 1


def owners(mirror: Mirror) -> dict[str, str]:
    """Return the application that each unit came with."""
    return {unit: application for application, units in lists(mirror).items() for unit in units}


def lists(mirror: Mirror) -> dict[str, list[str]]:
    """Return the units that came with each application, whether they are still there or not, and those that
    its releases under way bring."""
    entries = mirror.below(keys.APPLICATIONS)
    return {entry.key.removeprefix(keys.APPLICATIONS): json.loads(entry.value) for entry in entries}


def history(application: str, cluster: Cluster) -> list[Release]:
    """Return the releases of an application, the newest first."""
    mine = [release for (name, _), release in cluster.releases.items() if name == application]
    return sorted(mine, key=lambda release: -release.number)


def coming(application: str, cluster: Cluster) -> Iterator[UnitName]:
    """Yield the units that releases of an application which are not over have."""
    for release in cluster.under_way(application):
        yield from map(UnitName.parse, release.units)


def leaving(application: str, cluster: Cluster) -> Iterator[UnitName]:
    """Yield the units that releases of an application which are not over remove: they are there again where
    such a release is called off."""
    for release in cluster.under_way(application):
        yield from map(UnitName.parse, release.gone)


def others(
    application: str, names: Collection[str], cluster: Cluster, known: Iterable[str]
) -> list[UnitName]:
    """Return the units of an application's list but for those of `names`: what is there, what a release under
    way is to bring, and what one brings back where it is called off."""
    there = {*cluster.units, *coming(application, cluster), *leaving(application, cluster)}
    return [name for name in map(UnitName.parse, known) if name in there and name.text not in names]


def scale_of(application: str, cluster: Cluster) -> Mapping[str, int]:
    """Return the numbers of instances that people asked for, by template."""
    for release in history(application, cluster):
        if release.scale is not None and release.state not in ("rolled-back", "failed", "aborted"):
            return release.scale
    return {}


def old(application: str, cluster: Cluster) -> list[Release]:
    """Return releases that need not be kept any more."""
    return [release for release in history(application, cluster)[KEPT:] if release.over]


def commands(
    release: Release, units: Mapping[UnitName, Unit], before: Mapping[UnitName, Unit]
) -> dict[UnitName, UnitFile]:
    """Return the units that run once before a release, for services of which a text changes. Raises
    UnitError."""
    start = {name: units[name] for name in map(UnitName.parse, release.start)}
    changed = {
        name.service
        for name, unit in start.items()
        if name.text not in release.kept
        if name not in before or before[name].record.hash != unit.record.hash
    }
    found = {}
    every = commanded(
        release.application, release.policy, {name: unit.options for name, unit in start.items()}
    )
    for source, command in every.items():
        if source.service in changed:
            name = UnitName.parse(f"{source.service}-release@{release.number}.{source.type}")
            found[name] = command_file(start[source].file, name.text, command)
    return found


def opened(
    release: Release, at_once: bool, cluster: Cluster, mirror: Mirror
) -> tuple[Release, list[Operation], list[Condition]]:
    """Return what to write to open a release; `at_once` has it take the place of one under way."""
    if release.scale is None:
        release = replace(release, scale=scale_of(release.application, cluster))
    key = keys.release(release.application, release.number)
    writes: list[Operation] = []
    conditions: list[Condition] = [Unchanged(key, 0)]
    for other in cluster.active if at_once else ():
        if other.application != release.application:
            continue
        theirs = keys.release(other.application, other.number)
        entry = mirror.entries.get(theirs)
        conditions.append(Unchanged(theirs, entry.modified if entry else 0))
        writes.append(Put(theirs, replace(other, state="superseded", ended=release.created).to_json()))
        # Nobody would end its commands.
        writes += [Delete(keys.unit(n)) for n in other.commands if keys.unit(n) in mirror.entries]
        touched = {key.partition(" ")[0] for key in other.advanced if key not in other.restored}
        # It may itself have taken another's place, and not have touched yet what that one had replaced.
        touched |= other.inherited.keys() - {key.partition(" ")[0] for key in other.restored}
        inherited = {unit: other.before(unit) for unit in sorted(touched)}
        # What that one had replaced has its old text again where this one changes none.
        back = {unit: record.hash for unit, record in inherited.items() if record and unit in release.kept}
        served = (key for key in other.served if key.partition(" ")[0] in touched)
        release = replace(
            release,
            units={**release.units, **back},
            kept=tuple(unit for unit in release.kept if unit not in back),
            inherited={**inherited, **release.inherited},
            served=tuple(dict.fromkeys((*release.served, *served))),
        )
    for application, units in _listed(release, cluster, mirror).items():
        theirs = keys.application(application)
        entry = mirror.entries.get(theirs)
        writes.append(Put(theirs, to_json(units)))
        conditions.append(Unchanged(theirs, entry.modified if entry else 0))
    return release, [*writes, Put(key, release.to_json())], conditions


def _listed(release: Release, cluster: Cluster, mirror: Mirror) -> dict[str, list[str]]:
    """Return the lists that opening a release writes: that of its application, also where it stays the same,
    so that nobody else writes it at that moment; and those from which the release takes a unit."""
    if not release.whole:
        return {}
    known = lists(mirror)
    own = listed(release, known.pop(release.application, []), cluster.under_way(release.application))
    left = {other: [unit for unit in units if unit not in release.units] for other, units in known.items()}
    taken = {other: units for other, units in left.items() if units != known[other]}
    return {release.application: own, **taken}


def steered(release: Release, verb: Verb, cluster: Cluster) -> Release | str:
    """Return a release as a person wants it to go on, or why it cannot."""
    name = f"release {release.number} of {release.application}"
    if release.over:
        return f"{name} is over: it is {release.state}"
    match verb:
        case "abort":
            return replace(release, aborted=True)
        case "promote" if release.state in ("running", "canary"):
            return replace(release, promoted=True)
        case "pause" if release.state in ("running", "canary"):
            return replace(release, state="paused")
        case "resume" if release.state == "paused":
            return _resumed(release, cluster)
    return f"{name} is {release.state}: there is nothing to {verb}"


def _resumed(release: Release, cluster: Cluster) -> Release:
    """Go on; the unit that failed is tried again."""
    failure, after = release.failure, replace(release, state="running", failure=None)
    if failure is not None and failure.unit in release.commands:
        left = {name: ended for name, ended in release.commanded.items() if name != failure.unit}
        return replace(after, commanded=left)
    if failure is None or failure.unit not in release.start:
        return after
    again = [instance for instance in release.advanced if instance.partition(" ")[0] != failure.unit]
    records = {name.text: unit.record for name, unit in cluster.units.items() if name.text == failure.unit}
    return replace(
        after,
        advanced=tuple(again),
        restart=(*release.restart, failure.unit),
        inherited={**release.inherited, failure.unit: release.before(failure.unit)},
        began={**release.began, **records},
    )


def earlier(application: str, number: int | None, cluster: Cluster) -> Release | str:
    """Return the release to go back to: a number, or the last good one but one; or why there is none."""
    mine = history(application, cluster)
    if not mine:
        return f"there are no releases of {application}"
    if number is not None:
        found = next((release for release in mine if release.number == number), None)
        return found or f"there is no release {number} of {application} (any more): see `kirsch releases`"
    good = [release for release in mine if release.state == "done"]
    return good[1] if len(good) > 1 else f"{application} has no earlier release that went well"


def lines(cluster: Cluster, application: str = "") -> Iterator[Release]:
    """Yield releases, applications in order, the newest first."""
    for name in sorted({name for name, _ in cluster.releases}):
        if not application or name == application:
            yield from history(name, cluster)
