"""The options of [X-Kirsch], and of [X-Fleet], which is read as the same thing."""

import math
import re
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

from kirsch.unit.error import UnitError
from kirsch.unit.file import UnitFile
from kirsch.unit.given import Given
from kirsch.unit.health import (
    Health,
    Role,
    health_command,
    parse_health,
    parse_interval,
    parse_retries,
    parse_role,
)
from kirsch.unit.link import Link, parse_link
from kirsch.unit.name import UnitName, matches
from kirsch.unit.port import Port, Published, parse_port, parse_published
from kirsch.unit.release import POLICY_OPTIONS, parse_policy
from kirsch.unit.value import parse_boolean, parse_cpu, parse_size, parse_timespan

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_SECRET = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,251}[A-Za-z0-9])?")
_METADATA_KEY = re.compile(r"[^\s=]+")
# Each is compared with each Conflicts= and Replaces=, of which a file can hold many.
MAX_PEERS = 64
# podman-run(1)
_NETWORK_ARGUMENTS = frozenset(("--network", "--net", "--pod", "--ip", "--mac-address"))
_MACHINE_ID = ("MachineID", "X-ConditionMachineID", "X-ConditionMachineBootID")


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret the unit is given: as a systemd credential, or in the variable `env`."""

    name: str
    env: str | None = None


@dataclass(frozen=True, slots=True)
class Options:
    """Options of one unit: placement, needs and offers. `cpu` is in cores, `memory` in bytes.

    `machine_metadata` pairs each key with the values it may have. `conflicts` and `replaces` are globs
    (kirsch.unit.matches). `endpoints`: it is to see where units serve. `published` comes from PublishPort= of
    [Container]; `flat` is a container that is to be in the cluster's flat network, for it names no other and
    no pod; `boxed` is what podman has to run (`is_boxed`): these three are no options.
    """

    machine_id: str | None = None
    machine_metadata: tuple[tuple[str, frozenset[str]], ...] = ()
    machine_of: tuple[str, ...] = ()
    conflicts: tuple[str, ...] = ()
    replaces: tuple[str, ...] = ()
    is_global: bool = False
    spread: str | None = None
    links: tuple[Link, ...] = ()
    expose: tuple[Port, ...] = ()
    expose_env: tuple[str, ...] = ()
    health: Health | None = None
    metrics: Health | None = None
    # In the order of the file: the first is the one that the service's own name leads to.
    roles: tuple[Role, ...] = ()
    sticky: bool = False
    cpu: float = 0.0
    memory: int = 0
    secrets: tuple[Secret, ...] = ()
    on_partition: Literal["keep", "stop"] = "keep"
    link_update: Literal["restart", "ignore"] = "restart"
    endpoints: bool = False
    published: tuple[Published, ...] = ()
    flat: bool = False
    boxed: bool = False
    # The fields of the release policy that the unit sets itself.
    policy: tuple[tuple[str, Any], ...] = ()

    @classmethod
    def parse(cls, file: UnitFile, name: UnitName) -> "Options":
        """Read the options of a file for one unit, specifiers expanded. Raises UnitError at the value.

        In a template, values that depend on the instance are passed over: only an instance has them.
        """
        given = Given(file, name)
        _check_together(given)
        return cls(
            machine_id=_machine_id(given),
            machine_metadata=_metadata(given),
            machine_of=tuple(dict.fromkeys(given.each("MachineOf", _peer))),
            conflicts=given.each("Conflicts", _glob),
            replaces=given.each("Replaces", _glob),
            is_global=_is_global(given),
            spread=_spread(given),
            links=_links(given),
            expose=_ports(given),
            expose_env=tuple(dict.fromkeys(given.each("ExposeEnv", _variable))),
            health=_health(given),
            metrics=given.last("Metrics", _metrics, None),
            roles=_roles(given),
            sticky=given.last("Sticky", parse_boolean, False),
            cpu=given.last("CPU", parse_cpu, 0.0),
            memory=given.last("Memory", parse_size, 0),
            secrets=_secrets(given),
            on_partition=_on_partition(given),
            link_update=given.last("LinkUpdate", _restart_or_ignore, "restart"),
            endpoints=given.last("Endpoints", parse_boolean, False),
            published=_published(given),
            flat=name.type == "container" and not _names_network(given),
            boxed=is_boxed(file, name),
            policy=_policy(given),
        )


def is_boxed(file: UnitFile, name: UnitName) -> bool:
    """Return True for a container that says no way to run as a process: podman has to run it."""
    return name.type == "container" and not file.has("X-Kirsch-Process")


def _machine_id(given: Given) -> str | None:
    """Return the first value that is set, a new name before an old one: fleet's order."""
    words = sorted(given.words("MachineID"), key=lambda word: _MACHINE_ID.index(word[0].name))
    return words[0][1] if words else None


def _is_global(given: Given) -> bool:
    return given.last("Global", parse_boolean, False)


def _check_together(given: Given) -> None:
    """Check options that exclude each other: fleet's checks in its order and words, then kirsch's."""
    peers, conflicts, replaces = (given.words(name) for name in ("MachineOf", "Conflicts", "Replaces"))
    first_entries = {peer: entry for entry, peer in reversed(peers)}
    if len(first_entries) > MAX_PEERS:
        raise given.file.error(f"MachineOf: a unit follows at most {MAX_PEERS} others", peers[-1][0])
    for kind, option in (("conflict", "Conflicts"), ("replace", "Replaces")):
        for glob in dict.fromkeys(given.each(option, _glob)):
            if peer := next((peer for peer in first_entries if matches(glob, peer)), None):
                text = f'unresolvable requirements: peer "{peer}" matches {kind} "{glob}"'
                raise given.file.error(text, first_entries[peer])
    machine = given.words("MachineID")
    everywhere = given.words("Global") if _is_global(given) else []
    sticky = given.words("Sticky") if given.last("Sticky", parse_boolean, False) else []
    stop = given.words("OnPartition") if _on_partition(given) == "stop" else []
    for first, second, text in (
        (machine, peers, "MachineID cannot be used with Peers"),
        (machine, conflicts, "MachineID cannot be used with Conflicts"),
        (machine, everywhere, "MachineID cannot be used with Global"),
        (machine, replaces, "MachineID cannot be used with Replaces"),
        (everywhere, peers, "Global cannot be used with Peers"),
        (everywhere, replaces, "Global cannot be used with Replaces"),
        (conflicts, replaces, "Conflicts cannot be used with Replaces"),
        (everywhere, given.words("Spread"), "Global cannot be used with Spread"),
        (sticky, stop, "Sticky cannot be used with OnPartition=stop: sticky units always keep"),
    ):
        if first and second:
            raise given.file.error(text, max(first[-1][0], second[-1][0], key=lambda entry: entry.line))


def _peer(word: str) -> str:
    return UnitName.parse(word).text


def _metadata(given: Given) -> tuple[tuple[str, frozenset[str]], ...]:
    """Return the keys in order, each with all its values."""
    allowed: dict[str, frozenset[str]] = {}
    for key, value in given.each("MachineMetadata", _pair):
        allowed[key] = allowed.get(key, frozenset()) | {value}
    return tuple(allowed.items())


def _pair(word: str) -> tuple[str, str]:
    key, _, value = word.partition("=")
    if not _METADATA_KEY.fullmatch(key) or not value or "=" in value:
        raise UnitError(f'{word!r} is not KEY=VALUE; several stand on one line as "a=1" "b=2"')
    return key, value


def _glob(word: str) -> str:
    matches(word, "")  # raises if it is no glob
    return word


def _spread(given: Given) -> str | None:
    return given.last("Spread", _metadata_key, None)


def _metadata_key(word: str) -> str:
    if not _METADATA_KEY.fullmatch(word):
        raise UnitError(f"{word!r} is not a key of machine metadata: no spaces and no '='")
    return word


def _links(given: Given) -> tuple[Link, ...]:
    links: dict[str, Link] = {}
    for entry, word in given.words("Link"):
        with given.file.at(entry):
            link = parse_link(word, entry)
            variable = link.alias.upper().replace("-", "_").replace(".", "_")
            if links.setdefault(variable, link) != link:
                raise UnitError(f'"{link.alias}" is the alias of "{links[variable].target}" already')
    return tuple(links.values())


def _ports(given: Given) -> tuple[Port, ...]:
    ports: dict[tuple[int, str], Port] = {}
    names: set[str] = set()
    for entry, word in given.words("Expose"):
        with given.file.at(entry):
            port = parse_port(word)
            if (port.number, port.protocol) in ports:
                raise UnitError(f"{port.number}/{port.protocol} is exposed twice")
            if port.name in names:
                raise UnitError(f'two ports are named "{port.name}"')
            ports[port.number, port.protocol] = port
            names |= {port.name} if port.name else set()
    return tuple(ports.values())


def _variable(word: str) -> str:
    if not _VARIABLE.fullmatch(word):
        raise UnitError(f'"{word}" is not a variable: letters, digits and "_", and no digit first')
    return word


def secret_name(text: str) -> str:
    """Return the text if it can name a secret. Raises UnitError."""
    if not _SECRET.fullmatch(text):
        raise UnitError(f'"{text}" cannot name a secret: letters, digits, "-", "_" and "." inside')
    return text


def _secrets(given: Given) -> tuple[Secret, ...]:
    secrets: dict[str, Secret] = {}
    for entry, word in given.words("Secret"):
        with given.file.at(entry):
            name, colon, env = word.partition(":")
            secret = Secret(secret_name(name), _variable(env) if colon else None)
            if secrets.setdefault(secret.env or f":{name}", secret) != secret:
                raise UnitError(f"{env} is given the secret {secrets[env].name} already")
    return tuple(secrets.values())


def _on_partition(given: Given) -> Literal["keep", "stop"]:
    return given.last("OnPartition", _keep_or_stop, "keep")


def _keep_or_stop(word: str) -> Literal["keep", "stop"]:
    match word:
        case "keep" | "stop":
            return word
    raise UnitError(f'"{word}" is neither keep nor stop')


def _restart_or_ignore(word: str) -> Literal["restart", "ignore"]:
    match word:
        case "restart" | "ignore":
            return word
    raise UnitError(f'"{word}" is neither restart nor ignore')


def _metrics(text: str) -> Health:
    """Read http://:PORT/PATH of Metrics=. Raises UnitError."""
    metrics = parse_health(text)
    if metrics.kind != "http":
        raise UnitError(f"{text!r}: metrics are read over HTTP, write http://:8080/metrics")
    return metrics


def _health(given: Given) -> Health | None:
    """Return the check of Health=, or else of HealthCmd=; the times of [Container] hold for both."""
    health = given.last("Health", parse_health, None)
    command = given.quadlet("HealthCmd", health_command)
    interval = given.quadlet("HealthInterval", parse_interval)
    timeout = given.quadlet("HealthTimeout", parse_interval)
    retries = given.quadlet("HealthRetries", parse_retries)
    start_period = given.quadlet("HealthStartPeriod", parse_timespan)
    if health is None and command and interval != math.inf:
        health = Health("command", command=command)
    if health is None:
        return None
    return replace(health, interval=interval, timeout=timeout, retries=retries, start_period=start_period)


def _roles(given: Given) -> tuple[Role, ...]:
    roles: dict[str, Role] = {}
    for entry, word in given.words("HealthRole"):
        with given.file.at(entry):
            role = parse_role(word)
            if role.name in roles:
                raise UnitError(f'the role "{role.name}" is given twice')
            if _health(given) is None:
                raise UnitError("a role is asked for once the unit is ready: give it a Health= too")
            roles[role.name] = role
    return tuple(roles.values())


def _policy(given: Given) -> tuple[tuple[str, Any], ...]:
    found = []
    for option, field in POLICY_OPTIONS.items():
        if given.words(option):
            found.append((field, given.last(option, partial(parse_policy, field), None)))
    return tuple(found)


def _names_network(given: Given) -> bool:
    """Return True if a container sets its own network."""
    if given.container("Network") or given.container("Pod"):
        return True
    words = (word for _, text in given.container("PodmanArgs") for word in text.split())
    return any(word.partition("=")[0] in _NETWORK_ARGUMENTS for word in words)


def _published(given: Given) -> tuple[Published, ...]:
    published: list[Published] = []
    for section in ("Container", "Pod", "Kube"):
        for entry, text in given.container("PublishPort", section):
            with given.file.at(entry):
                published.extend(parse_published(text, entry))
    return tuple(published)
