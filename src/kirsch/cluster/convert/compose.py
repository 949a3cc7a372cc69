"""A compose file read as an application: kirsch.toml and a `.container` for each service. Pure.

Follows the compose specification; whatever is not carried over is told with its line.
"""

import json
import re
import shlex
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from kirsch.cluster.convert import Converted
from kirsch.cluster.convert.compose_file import (
    ComposeError,
    Table,
    Validate,
    parse,
    paths,
    services_of,
    variables,
)
from kirsch.cluster.model.cluster import bracketed
from kirsch.unit import UnitError, parse_size, parse_timespan

# Container ports that are pages, so that kirsch.toml can name an address to open.
PAGES = (80, 8080, 8000, 3000, 5000)
# Keys of a service that become one directive as they are written.
PLAIN = {
    "working_dir": "WorkingDir",
    "user": "User",
    "hostname": "HostName",
    "shm_size": "ShmSize",
    "stop_signal": "StopSignal",
    "pids_limit": "PidsLimit",
}
# Keys whose value, or each of whose values, becomes a directive.
LISTS = {
    "cap_add": "AddCapability",
    "cap_drop": "DropCapability",
    "devices": "AddDevice",
    "dns": "DNS",
    "dns_search": "DNSSearch",
    "tmpfs": "Tmpfs",
}
# Keys whose pairs become directives of the form NAME=VALUE.
PAIRS = {"labels": "Label", "sysctls": "Sysctl", "annotations": "Annotation"}
SWITCHES = {"read_only": "ReadOnly", "init": "RunInit"}
TOP = ("services", "version", "name", "volumes", "networks", "secrets", "configs")
RESTARTS = {"always": "always", "unless-stopped": "always", "on-failure": "on-failure", "no": "no"}
# Read elsewhere in this module, or without meaning here: kirsch names containers and has one network.
SILENT = frozenset(
    [
        "build",
        "cap_add",
        "command",
        "configs",
        "container_name",
        "depends_on",
        "deploy",
        "entrypoint",
        "env_file",
        "environment",
        "expose",
        "extends",
        "healthcheck",
        "image",
        "links",
        "networks",
        "ports",
        "profiles",
        "restart",
        "scale",
        "secrets",
        "security_opt",
        "stop_grace_period",
        "volumes",
    ]
)
_PORT = re.compile(
    r"(?:(?P<ip>\[[^\]]+\]|[0-9]+(?:\.[0-9]+){3}):)?(?:(?P<host>[0-9]*(?:-[0-9]+)?):)?(?P<to>[0-9]+(?:-[0-9]+)?)(?:/(?P<proto>tcp|udp))?"
)


@dataclass(slots=True)
class _Unit:
    """A unit file in the making: lines of each section."""

    container: list[str] = field(default_factory=list)
    options: list[str] = field(default_factory=list)
    service: list[str] = field(default_factory=list)

    def text(self, description: str) -> str:
        sections = (
            ("Unit", [f"Description={_escaped(description)}"]),
            ("Container", self.container),
            ("X-Kirsch", self.options),
            ("Service", self.service),
        )
        return "\n".join(
            f"[{name}]\n" + "".join(f"{line}\n" for line in lines) for name, lines in sections if lines
        )


@dataclass(slots=True)
class _Import:
    """One compose file, and what is said while it is read."""

    file: str
    services: Mapping[str, Table]
    name: str
    # Definitions of configs and volumes by name, and the files of configs whose text stands in the file.
    configs: Mapping[str, Mapping[str, Any]]
    volumes: Mapping[str, Mapping[str, Any]]
    files: dict[str, str] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    def remark(self, where: Table, key: str, words: str) -> None:
        self.remarks.append(f"{self.file}:{where.lines.get(key, 0)}: {words}")


def read(
    text: str,
    *,
    file: str = "compose.yaml",
    folder: str = "application",
    environment: Mapping[str, str] | None = None,
    env_files: Mapping[str, str] | None = None,
    profiles: Collection[str] = (),
    validate: Validate | None = None,
) -> Converted:
    """Return the application that a compose file describes. Raises ComposeError.

    `environment` gives variables their values ($NAME, ${NAME:-default}); `env_files` has the texts of files
    that `env_file` names, by that name; `folder` names the application where the file does not; `validate`
    returns what the compose specification's schema finds wrong.
    """
    document = parse(text, file, environment or {}, validate)
    resolved = services_of(document, file)
    chosen = {
        name: service
        for name, service in resolved.items()
        if not service.get("profiles") or set(service["profiles"]) & set(profiles)
    }
    name = (
        re.sub(r"[^a-z0-9-]+", "-", str(document.get("name") or folder).lower()).strip("-") or "application"
    )
    made = _Import(file, chosen, name, _named(document, "configs"), _named(document, "volumes"))
    for key in document:
        if key not in TOP and not key.startswith("x-"):
            made.remark(document, key, f"{key} is not carried over")
    for left in (each for each in resolved if each not in chosen):
        made.remark(
            document["services"], left, f"{left} is left out: it has profiles, name one with --profile"
        )
    files = {"kirsch.toml": _settings(made)}
    for each in chosen:
        unit = f"{each}@.container" if _replicas(chosen[each]) > 1 else f"{each}.container"
        files[f"units/{unit}"] = _unit(made, each, env_files or {}).text(f"{each} of {made.name}")
    for secret in dict.fromkeys(
        s for service in chosen.values() for s in _sources(service.get("secrets", []))
    ):
        made.remarks.append(f"set the secret {secret}: kirsch secret set {secret}")
    return Converted(files | made.files, tuple(made.remarks))


def _named(document: Table, key: str) -> Mapping[str, Mapping[str, Any]]:
    """Return the definitions of a key by name; those without a word in them are empty."""
    given = document.get(key)
    found = given.items() if isinstance(given, Mapping) else ()
    return {name: each if isinstance(each, Mapping) else {} for name, each in found}


def _settings(made: _Import) -> str:
    """kirsch.toml: what starts, what images are built from, the address to open."""
    start, images, pages = [], [], []
    for name, service in made.services.items():
        replicas = _replicas(service)
        start += [f"{name}@{number}" for number in range(1, replicas + 1)] if replicas > 1 else [name]
        if build := service.get("build"):
            context = build if isinstance(build, str) else build.get("context", ".")
            images.append(
                f"[images.{json.dumps(_image(name, service))}]\nbuild = {json.dumps(str(context))}\n"
            )
            if isinstance(build, Mapping):
                if file := build.get("dockerfile"):
                    images[-1] += f"file = {json.dumps(str(file))}\n"
                for key in (each for each in build if each not in ("context", "dockerfile")):
                    made.remark(service, "build", f"build.{key} of {name} is not carried over")
        pages += [host for _, host, port, _ in _published(made, name) if port in PAGES and host]
    lines = [f"name  = {json.dumps(made.name)}"]
    lines += [f'open  = "http://localhost:{pages[0]}/"'] if pages else []
    lines += [f"start = {json.dumps(start)}"]
    return "\n".join([*lines, "", *images]) if images else "\n".join([*lines, ""])


def _image(name: str, service: Table) -> str:
    """Name of an image that is built: its own, or the service's."""
    named = str(service.get("image") or name)
    return named.partition(":")[0] if "/" not in named else name


def _replicas(service: Table) -> int:
    deploy = service.get("deploy")
    replicas = deploy.get("replicas") if isinstance(deploy, Mapping) else None
    given = replicas if replicas is not None else service.get("scale", 1)
    return int(given) if str(given).isdecimal() else 1


def _unit(made: _Import, name: str, env_files: Mapping[str, str]) -> _Unit:
    service, unit = made.services[name], _Unit()
    image = f"localhost/{_image(name, service)}" if service.get("build") else service.get("image")
    if not image:
        raise ComposeError(f"{made.file}: {name} has neither image nor build")
    unit.container.append(f"Image={_escaped(str(image))}")
    _process(service, unit)
    _environment(made, name, env_files, unit)
    _ports(made, name, unit)
    _volumes(made, name, unit)
    _configs(made, name, unit)
    _health(made, service, unit)
    _links(made, name, unit)
    _resources(made, name, unit)
    for key, value in service.items():
        _directive(made, name, key, value, unit)
    restart = str(service.get("restart", "no")).partition(":")[0].lower()
    restart = "no" if restart == "false" else restart
    unit.service.append(f"Restart={RESTARTS.get(restart, 'always')}")
    return unit


def _process(service: Table, unit: _Unit) -> None:
    for key, directive in (("entrypoint", "Entrypoint"), ("command", "Exec")):
        value = service.get(key)
        if value in (None, "", []):
            continue
        words = value if isinstance(value, list) else shlex.split(str(value))
        if directive == "Entrypoint":
            unit.container.append(f"Entrypoint={_escaped(json.dumps([str(word) for word in words]))}")
        else:
            unit.container.append(f"Exec={' '.join(_word(_dollars(str(word))) for word in words)}")


def _environment(made: _Import, name: str, env_files: Mapping[str, str], unit: _Unit) -> None:
    service = made.services[name]
    found: dict[str, str] = {}
    for path in paths(service.get("env_file")):
        if path in env_files:
            found |= variables(env_files[path])
            words = "stand in the unit now; give passwords by `kirsch secret set` and Secret="
            made.remark(service, "env_file", f"{name}: the variables of {path} {words}")
        else:
            made.remark(service, "env_file", f"{name}: there is no {path}, so its variables are missing")
    for key, value in _pairs(service.get("environment")):
        if value is None:
            made.remark(service, "environment", f"{name}: {key} has no value here: write one into the unit")
        else:
            found[key] = value
    unit.container += [f"Environment={_word(f'{key}={value}')}" for key, value in found.items()]


def _published(made: _Import, name: str) -> Iterator[tuple[str, int, int, str]]:
    """The ports of a service: at an address (empty for every one), on the machine (0 for any), in the
    container, the protocol."""
    service = made.services[name]
    for each in service.get("ports") or ():
        if isinstance(each, Mapping):
            text = f"{each.get('published', '')}:{each.get('target', '')}/{each.get('protocol', 'tcp')}"
            text = text.removeprefix(":")
            at = str(each.get("host_ip") or "")
        else:
            text, at = str(each), ""
        found = _PORT.fullmatch(text)
        if not found:
            raise ComposeError(f"{made.file}:{service.lines['ports']}: {name}: {text!r} is no port")
        inside, outside = _range(found["to"]), _range(found["host"] or "0")
        if len(outside) not in (1, len(inside)):
            raise ComposeError(
                f"{made.file}:{service.lines['ports']}: {name}: {text!r} has ranges of two sizes"
            )
        if len(outside) < len(inside):
            outside = [0] * len(inside)
        at, protocol = found["ip"] or bracketed(at), found["proto"] or "tcp"
        yield from ((at, host, port, protocol) for host, port in zip(outside, inside, strict=True))


def _range(text: str) -> list[int]:
    first, _, last = text.partition("-")
    return list(range(int(first or 0), int(last or first or 0) + 1))


def _ports(made: _Import, name: str, unit: _Unit) -> None:
    service = made.services[name]
    published = list(_published(made, name))
    several = _replicas(service) > 1
    if several and published:
        words = "has several instances, which cannot share a port of the machine: put a balancer before them"
        made.remark(service, "ports", f"{name} {words}")
    exposed: dict[str, None] = {}
    for at, host, port, protocol in published:
        suffix = "" if protocol == "tcp" else f"/{protocol}"
        if host and not several:
            unit.container.append(f"PublishPort={f'{at}:' if at else ''}{host}:{port}{suffix}")
        exposed[f"{port}{suffix}"] = None
    for each in service.get("expose") or ():
        exposed |= dict.fromkeys(str(each).removesuffix("/tcp").partition("-")[:1])
    unit.options += [f"Expose={each}" for each in exposed]


def _volumes(made: _Import, name: str, unit: _Unit) -> None:
    service, sticky = made.services[name], False
    for each in service.get("volumes") or ():
        if isinstance(each, Mapping):
            source, target = str(each.get("source", "")), str(each.get("target", ""))
            if each.get("type") == "tmpfs":
                unit.container.append(f"Tmpfs={target}")
                continue
            text = f"{source}:{target}" + (":ro" if each.get("read_only") else "")
        else:
            text = str(each)
        source, colon, rest = text.partition(":")
        if not colon:
            unit.container.append(f"Volume={_escaped(text)}")
        elif source.startswith((".", "~", "/")):
            unit.container.append(f"Volume={_escaped(source)}:{_escaped(rest)}")
            if source != "/etc/localtime":
                words = "is a path of one machine: put it into the image, or have it on every machine"
                made.remark(service, "volumes", f"{name}: {source} {words}")
        else:
            unit.container.append(f"Volume={_escaped(_volume(made, source))}:{_escaped(rest)}")
            sticky = True
    if sticky:
        unit.options.append("Sticky=yes")


def _volume(made: _Import, name: str) -> str:
    """Return a volume's own name: one of the application, unless its definition says otherwise."""
    volume = made.volumes.get(name, {})
    return str(volume.get("name") or (name if volume.get("external") else f"{made.name}-{name}"))


def _configs(made: _Import, name: str, unit: _Unit) -> None:
    """Files of configuration: mounted from where they are, or written if the compose file has their text."""
    service = made.services[name]
    for each in service.get("configs") or ():
        source = _sources([each])[0]
        target = str(each.get("target") or "") if isinstance(each, Mapping) else ""
        config = made.configs.get(source, {})
        if "content" in config:
            path = f"./configs/{source}"
            made.files[path.removeprefix("./")] = str(config["content"])
        elif "file" in config:
            file = str(config["file"])
            path = file if file.startswith((".", "/")) else f"./{file}"
        else:
            made.remark(service, "configs", f"{name}: the config {source} has neither file nor content here")
            continue
        unit.container.append(f"Volume={_escaped(path)}:{_escaped(target or f'/{source}')}:ro")


def _health(made: _Import, service: Table, unit: _Unit) -> None:
    check = service.get("healthcheck")
    if not isinstance(check, Mapping):
        return
    test = check.get("test")
    if check.get("disable") or test in (["NONE"], "NONE"):
        unit.container.append("HealthCmd=none")
        return
    if isinstance(test, list) and test[:1] == ["CMD"]:
        unit.container.append(f"HealthCmd={_escaped(json.dumps([str(word) for word in test[1:]]))}")
    elif test:
        line = " ".join(map(str, test[1:])) if isinstance(test, list) else str(test)
        unit.container.append(f"HealthCmd={_escaped(line)}")
    keys = {"interval": "Interval", "timeout": "Timeout", "retries": "Retries", "start_period": "StartPeriod"}
    for key, directive in keys.items():
        if key in check:
            unit.container.append(f"Health{directive}={check[key]}")


def _links(made: _Import, name: str, unit: _Unit) -> None:
    """Links to what a service depends on, and to what its variables and its command name."""
    service = made.services[name]
    depends = service.get("depends_on") or ()
    wanted = dict.fromkeys(map(str, depends))
    for each in service.get("links") or ():
        wanted[str(each)] = None
    said = " ".join(
        [str(value) for _, value in _pairs(service.get("environment"))] + [str(service.get("command", ""))]
    )
    for other in made.services:
        if other == name or _depends(made, other, name):
            continue
        for alias in (other, *_aliases(made.services[other])):
            if re.search(rf"(?<![\w.-]){re.escape(alias)}(?![\w-])", said):
                wanted.setdefault(other if alias == other else f"{other}:{alias}", None)
    for each in wanted:
        target, _, alias = each.partition(":")
        if target not in made.services:
            made.remark(
                service, "depends_on", f"{name}: {target} is not among the services, so there is no link"
            )
            continue
        unit.options.append(f"Link={target}" + (f":{alias}" if alias and alias != target else ""))
        condition = depends[target] if isinstance(depends, Mapping) and target in depends else {}
        if isinstance(condition, Mapping) and condition.get("condition") == "service_completed_successfully":
            made.remark(
                service, "depends_on", f"{name}: {target} is to have ended before; run it by `kirsch run`"
            )


def _aliases(service: Table) -> list[str]:
    """Names, beside its own, at which a service's networks know it."""
    networks = service.get("networks")
    given = networks.values() if isinstance(networks, Mapping) else ()
    found = [str(alias) for each in given if isinstance(each, Mapping) for alias in each.get("aliases") or ()]
    if name := service.get("container_name"):
        found.append(str(name))
    return list(dict.fromkeys(found))


def _depends(made: _Import, name: str, on: str, above: tuple[str, ...] = ()) -> bool:
    """True if one service depends on another, through others too."""
    needs = [str(each).partition(":")[0] for each in made.services[name].get("depends_on") or ()]
    return on in needs or any(
        _depends(made, each, on, (*above, name))
        for each in needs
        if each in made.services and each not in above
    )


def _resources(made: _Import, name: str, unit: _Unit) -> None:
    service = made.services[name]
    deploy = service.get("deploy")
    deploy = deploy if isinstance(deploy, Table) else Table()
    limits = deploy.get("resources", {})
    reserved = {**limits.get("limits", {}), **limits.get("reservations", {})}
    cpu, memory = (
        reserved.get("cpus") or service.get("cpus"),
        reserved.get("memory") or service.get("mem_limit"),
    )
    if cpu:
        unit.options.append(f"CPU={cpu}")
    if memory:
        unit.options.append(f"Memory={_size(str(memory))}")
    if service.get("mem_limit") or limits.get("limits", {}).get("memory"):
        unit.container.append(f"PodmanArgs=--memory={service.get('mem_limit') or limits['limits']['memory']}")
    for key in (each for each in deploy if each not in ("replicas", "resources", "mode")):
        made.remark(service, "deploy", f"deploy.{key} of {name} is not carried over")
    if deploy.get("mode") == "global":
        unit.options.append("Global=yes")
    if _replicas(service) > 1:
        unit.options.append("Spread=hostname")
    unit.options += [f"Secret={secret}" for secret in _sources(service.get("secrets") or ())]


def _size(text: str) -> str:
    """A size as systemd writes it: 512M for 512m and 512mb."""
    short = text.strip().upper().removesuffix("B").removesuffix("I")
    try:
        parse_size(short)
    except UnitError as error:
        raise ComposeError(f"{text!r} is no size: {error}") from None
    return short


def _sources(value: Any) -> list[str]:
    return [str(each.get("source", "")) if isinstance(each, Mapping) else str(each) for each in value or ()]


def _directive(made: _Import, name: str, key: str, value: Any, unit: _Unit) -> None:
    """One key of a service that is a directive, or is told."""
    if key in PLAIN and value is not None:
        unit.container.append(f"{PLAIN[key]}={_escaped(str(value))}")
    elif key in LISTS:
        each = value if isinstance(value, list) else [value]
        unit.container += [f"{LISTS[key]}={_escaped(str(one))}" for one in each]
    elif key in PAIRS:
        unit.container += [f"{PAIRS[key]}={_word(f'{one}={text or str()}')}" for one, text in _pairs(value)]
    elif key in SWITCHES:
        if value:
            unit.container.append(f"{SWITCHES[key]}=true")
    elif key == "extra_hosts":
        pairs = [f"{one}:{text}" for one, text in value.items()] if isinstance(value, Mapping) else value
        unit.container += [f"AddHost={str(each).replace('=', ':', 1)}" for each in pairs]
    elif key == "security_opt":
        for each in value:
            if str(each).replace("=", ":") in ("no-new-privileges", "no-new-privileges:true"):
                unit.container.append("NoNewPrivileges=true")
            else:
                made.remark(made.services[name], key, f"{name}: security_opt {each} is not carried over")
    elif key == "privileged":
        unit.container += ["PodmanArgs=--privileged"] if value else []
    elif key == "network_mode":
        unit.container.append(f"Network={_escaped(str(value))}")
    elif key == "stop_grace_period":
        seconds = round(parse_timespan(str(value)))
        unit.container.append(f"StopTimeout={seconds}")
        unit.service.append(f"TimeoutStopSec={seconds + 10}")
    elif key not in SILENT and not key.startswith("x-") and key not in ("cpus", "mem_limit"):
        made.remark(made.services[name], key, f"{name}: {key} is not carried over")


def _pairs(value: Any) -> list[tuple[str, str | None]]:
    """A mapping, or a list of NAME=VALUE, as pairs; None for a name without a value."""
    if isinstance(value, Mapping):
        return [(str(key), None if each is None else _plain(each)) for key, each in value.items()]
    found = []
    for each in value or ():
        name, equals, text = str(each).partition("=")
        found.append((name, text if equals else None))
    return found


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _escaped(text: str) -> str:
    """A value of a unit file: no specifiers, on one line."""
    return text.replace("%", "%%").replace("\r", "").replace("\n", " ")


def _dollars(text: str) -> str:
    """Return a word of a command with two dollar signs for each where systemd would see a variable."""
    return text.replace("$", "$$") if text.startswith("$") or re.search(r"\$[{$]", text) else text


def _word(text: str) -> str:
    """One word of a unit file, in quotes where it needs them (systemd.syntax(7))."""
    text = text.replace("\\", "\\\\").replace("%", "%%").replace("\n", "\\n").replace("\r", "\\r")
    if text and not re.search(r"[\s\"';]", text):
        return text
    return '"' + text.replace('"', '\\"') + '"'
