"""A compose file read as an application: kirsch.toml and a `.container` for each service. Pure.

Follows the compose specification; whatever is not carried over is told with its line.
"""

import json
import re
import shlex
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from kirsch.cluster.convert import Converted
from kirsch.unit import UnitError, parse_size, parse_timespan

# How long a chain of `extends` may be.
DEEPEST = 16
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
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_VARIABLE = re.compile(
    r"\$(?:(?P<escaped>\$)|(?P<plain>[A-Za-z_]\w*)|\{(?P<name>[A-Za-z_]\w*)(?:(?P<op>:?[-?+])(?P<word>[^}]*))?\})"
)
_PORT = re.compile(
    r"(?:(?P<ip>\[[^\]]+\]|[0-9]+(?:\.[0-9]+){3}):)?(?:(?P<host>[0-9]*(?:-[0-9]+)?):)?(?P<to>[0-9]+(?:-[0-9]+)?)(?:/(?P<proto>tcp|udp))?"
)


# A step of a JSON path: .key, [number], ['key'].
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]|\['([^']*)'\]")
# Something that a schema finds wrong: its JSON path, and words.
Fault = tuple[str, str]


class ComposeError(Exception):
    """A compose file that cannot be read; the message names the file and the line."""


class Table(dict[str, Any]):
    """A mapping of the file that knows in which line each key stands."""

    lines: Mapping[str, int]


class _Loader(yaml.SafeLoader):
    """A safe loader that keeps lines and reads scalars as YAML 1.2 does: 22:22 is a text, and so is yes."""

    yaml_implicit_resolvers = {}  # noqa: RUF012  as PyYAML declares it


for _tag, _pattern, _first in (
    ("merge", r"<<", "<"),
    ("null", r"~|null|Null|NULL|", ("~", "n", "N", "")),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+", "-+0123456789"),
    ("float", r"[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*)(?:[eE][-+]?[0-9]+)?", "-+0123456789."),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_pattern})\Z"), list(_first))


def _table(loader: _Loader, node: yaml.MappingNode) -> Table:
    loader.flatten_mapping(node)
    made = Table({str(key): value for key, value in loader.construct_pairs(node, deep=True)})
    made.lines = {str(loader.construct_object(key)): key.start_mark.line + 1 for key, _ in node.value}
    return made


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _table)


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
    # Definitions of configs, and the files of those whose text stands in the compose file.
    configs: Mapping[str, Any] = field(default_factory=dict)
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
    validate: Callable[[Mapping[str, Any]], Sequence[Fault]] | None = None,
) -> Converted:
    """Return the application that a compose file describes. Raises ComposeError.

    `environment` gives variables their values ($NAME, ${NAME:-default}); `env_files` has the texts of files
    that `env_file` names, by that name; `folder` names the application where the file does not; `validate`
    returns what the compose specification's schema finds wrong.
    """
    document = _load(text, file)
    values = _interpolated(document, environment or {}, file)
    if faults := validate(values) if validate else ():
        # The innermost one says most: a service with a wrong key inside it is wrong as a whole too.
        path, words = max(faults, key=lambda fault: len(_STEP.findall(fault[0])))
        more = f" ({len(faults) - 1} more)" if len(faults) > 1 else ""
        raise ComposeError(f"{file}:{_line(values, path, words)}: {path.removeprefix('$.')}: {words}{more}")
    services = values.get("services")
    if not isinstance(services, Table) or not services:
        raise ComposeError(f"{file}: there are no services in it")
    for name, service in services.items():
        if not isinstance(service, Table) or not _NAME.fullmatch(name):
            raise ComposeError(
                f"{file}:{services.lines[name]}: {name} is no service: a name, and a mapping below it"
            )
    resolved = {name: _extended(name, services, file, ()) for name in services}
    chosen = {
        name: service
        for name, service in resolved.items()
        if not service.get("profiles") or set(service["profiles"]) & set(profiles)
    }
    name = re.sub(r"[^a-z0-9-]+", "-", str(values.get("name") or folder).lower()).strip("-") or "application"
    configs = values.get("configs")
    made = _Import(file, chosen, name, configs if isinstance(configs, Table) else Table())
    for key in values.keys() - {"services", "version", "name", "volumes", "networks", "secrets", "configs"}:
        if not key.startswith("x-"):
            made.remark(values, key, f"{key} is not carried over")
    for left in resolved.keys() - chosen.keys():
        made.remark(services, left, f"{left} is left out: it has profiles, name one with --profile")
    files = {"kirsch.toml": _settings(made)}
    for each in chosen:
        unit = f"{each}@.container" if _replicas(chosen[each]) > 1 else f"{each}.container"
        files[f"units/{unit}"] = _unit(made, each, env_files or {}).text(f"{each} of {made.name}")
    for secret in dict.fromkeys(
        s for service in chosen.values() for s in _sources(service.get("secrets", []))
    ):
        made.remarks.append(f"set the secret {secret}: kirsch secret set {secret}")
    return Converted(files | made.files, tuple(made.remarks))


def _load(text: str, file: str) -> Table:
    try:
        document = yaml.load(text, _Loader)  # noqa: S506  a SafeLoader
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise ComposeError(f"{file}:{line}: {error.problem}") from None
    except (yaml.YAMLError, ValueError, RecursionError, TypeError) as error:
        raise ComposeError(f"{file}: {str(error).splitlines()[0]}") from None
    if not isinstance(document, Table):
        raise ComposeError(f"{file}: this is no compose file: it has no mapping with services")
    return document


def _line(document: Table, path: str, words: str) -> int:
    """Return the line of a JSON path, or of a key in it that the words name."""
    value: Any = document
    line = 1
    for key, number, quoted in _STEP.findall(path):
        if isinstance(value, Table):
            line = value.lines.get(key or quoted, line)
            value = value.get(key or quoted)
        elif isinstance(value, list) and number and int(number) < len(value):
            value = value[int(number)]
    named = re.findall(r"'([^']+)'", words)
    found = [value.lines[name] for name in named if name in value.lines] if isinstance(value, Table) else []
    return found[-1] if found else line


def env_files(text: str, file: str = "compose.yaml") -> list[str]:
    """Return the files that services name as env_file. Raises ComposeError."""
    services = _load(text, file).get("services")
    found: list[str] = []
    for service in services.values() if isinstance(services, Table) else ():
        if isinstance(service, Table):
            found += _paths(service.get("env_file"))
    return list(dict.fromkeys(found))


def _paths(value: Any) -> list[str]:
    each = value if isinstance(value, list) else [value] if value else []
    return [str(path["path"]) if isinstance(path, Mapping) else str(path) for path in each]


def variables(text: str) -> dict[str, str]:
    """Return the variables of an env file: NAME=VALUE a line, quotes taken off."""
    found = {}
    for line in text.splitlines():
        name, equals, value = line.strip().removeprefix("export ").partition("=")
        if equals and not name.startswith("#"):
            value = value.strip()
            quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
            found[name.strip()] = value[1:-1] if quoted else value.partition(" #")[0].strip()
    return found


def _interpolated(value: Any, environment: Mapping[str, str], file: str) -> Any:
    """The value with its variables replaced, in every text below it."""
    match value:
        case str():
            return _replaced(value, environment, file)
        case Table():
            made = Table({key: _interpolated(each, environment, file) for key, each in value.items()})
            made.lines = value.lines
            return made
        case list():
            return [_interpolated(each, environment, file) for each in value]
    return value


def _replaced(text: str, environment: Mapping[str, str], file: str) -> str:
    def value(found: re.Match[str]) -> str:
        if found["escaped"]:
            return "$"
        name, op, word = found["plain"] or found["name"], found["op"] or "", found["word"] or ""
        given = environment.get(name)
        there = bool(given) if op.startswith(":") else given is not None
        match op[-1:]:
            case "-":
                return given or "" if there else word
            case "+":
                return word if there else ""
            case "?" if not there:
                raise ComposeError(f"{file}: the variable {name} is not set{': ' if word else ''}{word}")
        return given or ""

    return _VARIABLE.sub(value, text)


def _extended(name: str, services: Table, file: str, above: tuple[str, ...]) -> Table:
    """The service with what it extends below it (`extends` of the same file)."""
    service: Table = services[name]
    extends = service.get("extends")
    if not extends:
        return service
    where = f"{file}:{service.lines['extends']}"
    base = extends if isinstance(extends, str) else extends.get("service", "")
    if isinstance(extends, Mapping) and extends.get("file"):
        raise ComposeError(f"{where}: {name} extends a service of another file: put both into one file")
    if base not in services or base in above or len(above) > DEEPEST:
        raise ComposeError(f"{where}: {name} extends {base}, which is not there or extends {name} itself")
    under = _extended(base, services, file, (*above, name))
    made = Table(under | service)
    for key in under.keys() & service.keys():
        if isinstance(under[key], Mapping) and isinstance(service[key], Mapping):
            made[key] = {**under[key], **service[key]}
    made.lines = {**under.lines, **service.lines}
    return made


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
                for key in build.keys() - {"context", "dockerfile"}:
                    made.remark(service, "build", f"build.{key} of {name} is not carried over")
        pages += [host for host, port, _ in _published(made, name) if port in PAGES and host]
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
    for path in _paths(service.get("env_file")):
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


def _published(made: _Import, name: str) -> Iterator[tuple[int, int, str]]:
    """The ports of a service: on the machine (0 for any), in the container, the protocol."""
    service = made.services[name]
    for each in service.get("ports") or ():
        if isinstance(each, Mapping):
            text = f"{each.get('published', '')}:{each.get('target', '')}/{each.get('protocol', 'tcp')}"
            text = text.removeprefix(":")
        else:
            text = str(each)
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
        yield from ((host, port, found["proto"] or "tcp") for host, port in zip(outside, inside, strict=True))


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
    for host, port, protocol in published:
        suffix = "" if protocol == "tcp" else f"/{protocol}"
        if host and not several:
            unit.container.append(f"PublishPort={host}:{port}{suffix}")
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
            unit.container.append(f"Volume={made.name}-{_escaped(source)}:{_escaped(rest)}")
            sticky = True
    if sticky:
        unit.options.append("Sticky=yes")


def _configs(made: _Import, name: str, unit: _Unit) -> None:
    """Files of configuration: mounted from where they are, or written if the compose file has their text."""
    service = made.services[name]
    for each in service.get("configs") or ():
        source = _sources([each])[0]
        target = str(each.get("target") or "") if isinstance(each, Mapping) else ""
        config = made.configs.get(source)
        config = config if isinstance(config, Mapping) else {}
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
    return list(
        dict.fromkeys([*found, *([str(service["container_name"])] if service.get("container_name") else [])])
    )


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
    for key in deploy.keys() - {"replicas", "resources", "mode"}:
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
