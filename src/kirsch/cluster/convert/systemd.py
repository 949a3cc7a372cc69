"""Plain Quadlets and services for one machine without kirsch: links and addresses are filled in. Pure."""

import re
from collections.abc import Iterator, Mapping

from kirsch.cluster.application import Application
from kirsch.cluster.convert import Converted
from kirsch.cluster.convert.service import (
    CONFIGURATION,
    CREDENTIALS,
    Service,
    aliases_of,
    dns_name,
    links_between,
    services_of,
    with_servers,
)
from kirsch.cluster.model.links import SERVING, host_name, variables
from kirsch.unit import Options, UnitFile, UnitName, expand

# What starts the units when the machine does.
WANTED_BY = "multi-user.target default.target"
# Options about many machines: on one they have no meaning.
PLACED = ("Sticky", "Spread", "Global", "Conflicts", "MachineOf", "MachineID", "MachineMetadata", "Replaces")
Line = tuple[str, str, str]
_SPECIFIER = re.compile(r"%(.)")


def export(application: Application, configurations: Mapping[str, str]) -> Converted:
    """Return Quadlets, services and timers, with remarks about what only kirsch does.

    `configurations` are the texts of balancers' haproxy.cfg, by their path in the application's folder.
    Raises UnitError.
    """
    services = list(services_of(application))
    network = dns_name(application.name)
    files: dict[str, str] = {}
    remarks: list[str] = []
    if any(service.unit.type == "container" for service in services):
        files[f"{network}.network"] = f"[Network]\nNetworkName={network}\n"
    for service in services:
        text = configurations.get(service.balancer_file)
        if text is not None:
            files[f"{service.name}.haproxy.cfg"] = with_servers(text, service, services)
        for unit in service.units:
            lines = list(_lines(service, unit, services, network, balanced=text is not None))
            files[f"{host_name(_stem(unit))}.{unit.type}"] = UnitFile.from_options(lines).text
        remarks += [f"{service.name}: {remark}" for remark in _remarks(service)]
    for secret in sorted({secret.name for service in services for secret in service.options.secrets}):
        remarks.append(f"create the secret: podman secret create {secret} FILE")
    return Converted(files, tuple(remarks))


def _lines(
    service: Service, unit: UnitName, services: list[Service], network: str, *, balanced: bool
) -> Iterator[Line]:
    """The options of one unit's file."""
    kind = unit.type
    # Each instance may say something else: specifiers are those of the unit.
    options = Options.parse(service.file, unit)
    used = [
        other
        for link in options.links
        for each in services
        for other in each.units
        if each is not service and link in links_between(service, each)
    ]
    for name in dict.fromkeys(f"{host_name(_stem(other))}.service" for other in used):
        yield from (("Unit", "Wants", name), ("Unit", "After", name))
    for section in service.file.sections:
        if section.startswith("X-"):
            continue
        for entry in service.file.entries(section):
            if section == "Container" and balanced and entry.name in ("Entrypoint", "Exec"):
                continue
            value = _named(entry.value, unit)
            if (section, entry.name) == ("Timer", "Unit"):
                value = f"{host_name(value.rpartition('.')[0])}.service"
            yield section, entry.name, value
    main = "Container" if kind == "container" else "Service"
    if kind in SERVING:
        for name, value in _environment(service, unit, options, services).items():
            yield main, "Environment", _quoted(f"{name}={value}")
    if kind == "container":
        names = dict.fromkeys([service.name, host_name(_stem(unit)), *aliases_of(service, services)])
        yield "Container", "Network", f"{network}.network:" + ",".join(f"alias={name}" for name in names)
        for secret in options.secrets:
            target = f"type=env,target={secret.env}" if secret.env else f"target={CREDENTIALS}/{secret.name}"
            yield "Container", "Secret", f"{secret.name},{target}"
        if balanced:
            yield "Container", "Volume", f"./{service.name}.haproxy.cfg:{CONFIGURATION}:ro"
            yield "Container", "Entrypoint", "haproxy"
            yield "Container", "Exec", f"-W -db -f {CONFIGURATION}"
    if kind == "timer" or service.last("Type", section="Service") != "oneshot":
        target = "timers.target" if kind == "timer" else WANTED_BY
        yield "Install", "WantedBy", target


def _stem(unit: UnitName) -> str:
    """A unit's name without its type."""
    return unit.text.rpartition(".")[0]


def _named(value: str, unit: UnitName) -> str:
    """Fill in the specifiers that name the unit: the exported file has another name."""
    return _SPECIFIER.sub(
        lambda match: expand(match[0], unit).replace("%", "%%") if match[1] in "iIpPnNjJ" else match[0], value
    )


def _quoted(text: str) -> str:
    """One word of a unit file that reads back as it is (systemd.syntax(7))."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"'


def _environment(
    service: Service, unit: UnitName, options: Options, services: list[Service]
) -> dict[str, str]:
    """Variables that kirsch would give: the unit's own name and address, and its links'."""
    container = unit.type == "container"
    others = [other for other in services if other.unit.type in SERVING]
    endpoints = [other.endpoint(other.name if container else "127.0.0.1") for other in others]
    own = {
        "KIRSCH_ADDRESS": "0.0.0.0" if container else "127.0.0.1",  # noqa: S104
        "KIRSCH_UNIT": unit.text,
        "KIRSCH_INSTANCE": unit.instance or "",
    }
    if any(not secret.env for secret in options.secrets):
        own["CREDENTIALS_DIRECTORY"] = CREDENTIALS
    return own | variables(unit, options.links, endpoints)


def _remarks(service: Service) -> Iterator[str]:
    """Sentences about what only kirsch does."""
    options = service.options
    if options.health and not service.file.values("Container", "HealthCmd"):
        yield "Health= is kirsch's: write a HealthCmd=, or systemd calls it started before it answers"
    given = {entry.name for section in ("X-Kirsch", "X-Fleet") for entry in service.file.entries(section)}
    if placed := [name for name in PLACED if name in given]:
        yield f"without meaning on one machine: {', '.join(placed)}"
    if service.backends:
        if not service.balancer_file:
            yield "its haproxy.cfg is not known: give HAProxy the addresses of its servers"
        else:
            yield "its haproxy.cfg finds the servers by their names, and asks each whether it is ready"
    if service.unit.type == "service" and options.links:
        yield "its links lead to 127.0.0.1: publish the ports of containers there (PublishPort=)"
    if service.unit.type == "service" and options.secrets:
        yield "give it its secrets by LoadCredential= or EnvironmentFile="
