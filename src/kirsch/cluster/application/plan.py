"""Steps that bring an application onto a cluster, as values that can be printed first. Pure."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from kirsch.cluster.application import Application
from kirsch.cluster.application.pin import named, pinned
from kirsch.cluster.image.reference import Reference
from kirsch.cluster.model.release import commanded, with_scale
from kirsch.unit import Options, Policy, Secret, UnitFile, UnitName, to_bytes
from kirsch.unit.release import read_policy


@dataclass(frozen=True, slots=True)
class Image:
    """An image that units name: the tag by its content, and whether the cluster's registry has it."""

    name: Reference
    content: str
    there: bool = False

    def at(self, registry: str) -> Reference:
        """Return the name by content in a registry."""
        return self.name.at(registry).tagged(self.content)


@dataclass(frozen=True, slots=True)
class Known:
    """A unit that the cluster has: the hash of its text, what people want of it; whether it was started, and
    has failed, on any machine that it is to run on."""

    hash: str
    desired: str
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Now:
    """A cluster before the change: its registry's HOST:PORT, its units, the names of those that came with the
    application before, the names of its secrets, and the numbers of instances that people asked for."""

    registry: str
    units: Mapping[str, Known] = field(default_factory=dict)
    former: frozenset[str] = frozenset()
    secrets: frozenset[str] = frozenset()
    scale: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Push:
    """Send an image to the cluster's registry."""

    image: Image
    target: Reference

    def __str__(self) -> str:
        return f"push     {self.image.name.path}, as {self.target}"


@dataclass(frozen=True, slots=True)
class MakeSecret:
    """Make a secret that units ask for, at random."""

    name: str

    def __str__(self) -> str:
        return f"secret   {self.name}, at random"


@dataclass(frozen=True, slots=True)
class MakeAccount:
    """Make a database's account in the cluster's etcd, as the secret that its units ask for."""

    secret: str
    service: str

    def __str__(self) -> str:
        return f"account  {self.service}, in the cluster's etcd, as secret {self.secret}"


@dataclass(frozen=True, slots=True)
class Submit:
    """Make a unit known, or known with another text: one that runs starts anew."""

    unit: str
    new: bool
    runs: bool = False

    def __str__(self) -> str:
        return (
            f"{'submit' if self.new else 'change'}   {self.unit}{', which starts anew' if self.runs else ''}"
        )


@dataclass(frozen=True, slots=True)
class Start:
    """Start a unit, once what it is linked to is ready; `again` is one that has failed."""

    unit: str
    again: bool = False

    def __str__(self) -> str:
        return f"start    {self.unit}{', which has failed, again' if self.again else ''}"


@dataclass(frozen=True, slots=True)
class Destroy:
    """Stop and forget a unit that the application's folder has no more."""

    unit: str

    def __str__(self) -> str:
        return f"destroy  {self.unit}"


Step = Push | MakeSecret | MakeAccount | Submit | Start | Destroy
# The variable in which the image kirsch/postgres-ha takes its account in etcd.
ACCOUNT = "POSTGRES_ETCD"


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps, in order, and the units as they will be: their texts, and which of them run. The application
    starts what people have scaled it to, `start` is what its folder says."""

    application: Application
    steps: tuple[Step, ...]
    units: Mapping[str, str]
    start: tuple[str, ...] = ()

    @property
    def hashes(self) -> dict[str, str]:
        """The hash of each unit's text, by which one that runs is known to be the new one."""
        return {name: digest(text) for name, text in self.units.items()}

    @property
    def pushes(self) -> list[Push]:
        """Images that are to be sent."""
        return [step for step in self.steps if isinstance(step, Push)]

    @property
    def secrets(self) -> list[str]:
        """Secrets that are to be made."""
        return [step.name for step in self.steps if isinstance(step, MakeSecret)]

    @property
    def accounts(self) -> list[MakeAccount]:
        """Accounts that are to be made."""
        return [step for step in self.steps if isinstance(step, MakeAccount)]

    @property
    def touched(self) -> list[str]:
        """The units of which anything changes."""
        steps = [step.unit for step in self.steps if isinstance(step, Submit | Start | Destroy)]
        return list(dict.fromkeys(steps))


def steps_of(plan: Plan) -> list[str]:
    """Return the steps as lines, with how units that run are replaced."""
    lines = [str(step) for step in plan.steps]
    policy = read_policy(plan.application.release)
    lines += _commands(plan, policy)
    services = _replaced(plan)
    for service, units in sorted(services.items(), key=lambda item: item[1][0][1].sticky):
        lines.append(_replacement(service, units, _is_alone(service, units, plan), policy))
    return lines


def interruptions(plan: Plan) -> list[str]:
    """Return a line for each unit that is away for a moment, for it is replaced and nobody else serves."""
    found = (
        (service, units) for service, units in _replaced(plan).items() if _is_alone(service, units, plan)
    )
    return [f"{units[0][0]} {_away(service)}" for service, units in sorted(found)]


def _replaced(plan: Plan) -> dict[str, list[tuple[str, Options]]]:
    """Return the units that run and get another text, by service."""
    services: dict[str, list[tuple[str, Options]]] = {}
    for name in sorted(step.unit for step in plan.steps if isinstance(step, Submit) and step.runs):
        parsed = UnitName.parse(name)
        options = Options.parse(UnitFile.parse(plan.units[name], name), parsed)
        services.setdefault(parsed.service, []).append((name, options))
    return services


def _is_alone(service: str, units: Sequence[tuple[str, Options]], plan: Plan) -> bool:
    """True where the one instance of a service is replaced."""
    count = sum(UnitName.parse(name).service == service for name in plan.application.start)
    return count == 1 and not units[0][1].is_global


def _away(service: str) -> str:
    return f"is away for a moment, for it is the only instance of {service}"


def _commands(plan: Plan, policy: Policy) -> Iterator[str]:
    """Yield a line for each command that runs before anything is replaced."""
    changed = {UnitName.parse(step.unit).service for step in plan.steps if isinstance(step, Submit)}
    options = {}
    for name in plan.application.start:
        parsed = UnitName.parse(name)
        options[parsed] = Options.parse(UnitFile.parse(plan.units[name], name), parsed)
    for unit, command in commanded(plan.application.name, policy, options).items():
        if unit.service in changed:
            yield f"release  {command}: once, as a unit like {unit}, before anything that runs is replaced"


def _replacement(service: str, units: Sequence[tuple[str, Options]], alone: bool, policy: Policy) -> str:
    """Return how the instances of a service are replaced, as a line."""
    policy = policy.with_changes(dict(units[0][1].policy))
    names = ", ".join(name for name, _ in units)
    if alone:
        return f"release  {names}: it {_away(service)}"
    words = f"{policy.at_a_time} at a time, each ready for {policy.healthy_for:g} s before the next"
    canary = f"; after {policy.canary} it waits to be promoted" if policy.canary else ""
    return f"release  {names}: {words}{canary}"


def plan(application: Application, images: Mapping[Reference, Image], now: Now) -> Plan:
    """Return the steps from what a cluster has to what an application's folder says."""
    given = application.start
    start, _, _ = with_scale(given, now.scale, now.former & now.units.keys())
    application = replace(application, start=tuple(start))
    texts = pinned_texts(application, images, now.registry)
    units = {name: texts[source(name, texts)] for name in dict.fromkeys([*texts, *application.start])}
    steps: list[Step] = [Push(image, image.at(now.registry)) for image in images.values() if not image.there]
    accounts = accounts_of(units)
    steps += [
        MakeAccount(name, accounts[name]) if name in accounts else MakeSecret(name)
        for name in secrets_of(units)
        if name not in now.secrets
    ]
    for name, text in units.items():
        before = now.units.get(name)
        if before is None or before.hash != digest(text):
            steps.append(Submit(name, before is None, before is not None and before.desired == "launched"))
    for name in application.start:
        before = now.units.get(name)
        if before is None or before.desired != "launched":
            steps.append(Start(name))
        elif before.failed and before.hash == digest(units[name]):
            steps.append(Start(name, again=True))
    gone = sorted(name for name in now.former if name not in units and name in now.units)
    return Plan(application, (*steps, *map(Destroy, gone)), units, given)


def pinned_texts(
    application: Application, images: Mapping[Reference, Image], registry: str
) -> dict[str, str]:
    """The units' texts, with the images that the cluster's registry has or is to have."""
    places = {name: image.at(registry) for name, image in images.items()}
    return {name: pinned(text, places, application.images) for name, text in application.units.items()}


def images_of(application: Application) -> list[Reference]:
    """The images of this computer that an application's units name."""
    found = [name for text in application.units.values() for name in named(text, application.images)]
    return list(dict.fromkeys(found))


def secrets_of(units: Mapping[str, str]) -> Iterator[str]:
    """The secrets that units ask for, each once."""
    yield from dict.fromkeys(secret.name for _, secret in _asked(units))


def accounts_of(units: Mapping[str, str]) -> dict[str, str]:
    """Return the services that ask for an account in etcd, by the secret that is to have it."""
    return {secret.name: unit.service for unit, secret in _asked(units) if secret.env == ACCOUNT}


def _asked(units: Mapping[str, str]) -> Iterator[tuple[UnitName, Secret]]:
    """Yield each secret that a unit asks for."""
    for name, text in units.items():
        unit = UnitName.parse(name)
        unit = unit.with_instance("1") if unit.is_template else unit
        for secret in Options.parse(UnitFile.parse(text, name), unit).secrets:
            yield unit, secret


def source(name: str, texts: Mapping[str, str]) -> str:
    """Whose text a unit has: its own, or its template's."""
    return name if name in texts else str(UnitName.parse(name).template)


def digest(text: str) -> str:
    """A text's hash, as UnitFile has it."""
    return hashlib.sha256(to_bytes(text)).hexdigest()


def known_units(lines: Iterable[Mapping[str, Any]]) -> dict[str, Known]:
    """Units as they are, of their lines, one a machine. Pure."""
    found: dict[str, Known] = {}
    for line in lines:
        before = found.get(line["name"])
        # What has run to its end has not failed, and is not run again.
        down = line["active"] in ("failed", "inactive") and line["settled"] and not line["finished"]
        failed = (line["desired"] == "launched" and down) or (before is not None and before.failed)
        found[line["name"]] = Known(line["hash"], line["desired"], failed)
    return found
