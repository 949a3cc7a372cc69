"""A compose file for an application, with its links and addresses filled in. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from kirsch.cluster.application import Application
from kirsch.cluster.convert import Converted
from kirsch.cluster.convert.service import (
    CONFIGURATION,
    CREDENTIALS,
    LOCAL,
    Service,
    aliases_of,
    links_between,
    services_of,
    with_servers,
)
from kirsch.cluster.model.links import SERVING, variables
from kirsch.unit import parse_timespan, split_words

# Directives that become one key each, as they are written.
PLAIN = {
    "WorkingDir": "working_dir",
    "User": "user",
    "HostName": "hostname",
    "ShmSize": "shm_size",
    "StopSignal": "stop_signal",
}
LISTS = {
    "AddCapability": "cap_add",
    "DropCapability": "cap_drop",
    "AddDevice": "devices",
    "DNS": "dns",
    "Tmpfs": "tmpfs",
    "PublishPort": "ports",
    "Volume": "volumes",
}
SWITCHES = {"ReadOnly": "read_only", "RunInit": "init"}
# Directives that are read one by one.
READ = frozenset(
    [
        *("Image", "Exec", "Entrypoint", "Environment", "NoNewPrivileges", "StopTimeout", "ContainerName"),
        *("HealthCmd", "HealthInterval", "HealthTimeout", "HealthRetries", "HealthStartPeriod"),
    ]
)
HEALTH = {
    "HealthInterval": "interval",
    "HealthTimeout": "timeout",
    "HealthRetries": "retries",
    "HealthStartPeriod": "start_period",
}


def export(application: Application, configurations: Mapping[str, str]) -> Converted:
    """Return compose.yaml and the files it names, with remarks about what only kirsch does.

    `configurations` are the texts of balancers' haproxy.cfg, by their path in the application's folder.
    Raises UnitError.
    """
    services = list(services_of(application))
    files: dict[str, str] = {}
    made: dict[str, Any] = {}
    volumes: set[str] = set()
    configs: dict[str, Any] = {}
    for service in services:
        if service.unit.type != "container":
            service.remarks.append(f"a .{service.unit.type} unit has no counterpart: compose runs containers")
            continue
        made[service.name] = _service(service, services, application)
        volumes |= {name for name, _, _ in service.volumes}
        text = configurations.get(service.balancer_file)
        if text is not None:
            file = f"{service.name}.haproxy.cfg"
            # Compose replaces variables in its own file only.
            files[file] = with_servers(text, service, services)
            configs[service.name] = {"file": f"./{file}"}
            made[service.name] |= {
                "entrypoint": ["haproxy"],
                "command": ["-W", "-db", "-f", CONFIGURATION],
                "configs": [{"source": service.name, "target": CONFIGURATION}],
            }
    remarks = [f"{service.name}: {remark}" for service in services for remark in service.remarks]
    document: dict[str, Any] = {"name": made and _project(application), "services": made}
    if volumes:
        # The names that kirsch gave them, so that their data stays.
        document["volumes"] = {name: {"name": name} for name in sorted(volumes)}
    if configs:
        document["configs"] = configs
    secrets = {s.name for service in services for s in service.options.secrets if not s.env}
    if secrets:
        document["secrets"] = {name: {"file": f"./secrets/{name}"} for name in sorted(secrets)}
        remarks += [f"write the secret {name} into secrets/{name}" for name in sorted(secrets)]
    text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=100)
    comments = "".join(f"# {remark}\n" for remark in remarks)
    return Converted({"compose.yaml": comments + text} | files, tuple(remarks))


def _project(application: Application) -> str:
    return (
        "".join(c if c.isalnum() or c in "-_" else "-" for c in application.name.lower()).lstrip("-_")
        or "app"
    )


def _service(service: Service, services: list[Service], application: Application) -> dict[str, Any]:
    """One service of the compose file; adds remarks about what it has no key for."""
    known = {*PLAIN, *LISTS, *SWITCHES, *READ}
    for entry in service.file.entries("Container"):
        if entry.name not in known:
            service.remarks.append(f"{entry.name}={entry.value} of [Container] is not carried over")
    image = service.last("Image")
    made: dict[str, Any] = {"image": image}
    source = (
        application.images.get(image.removeprefix(LOCAL).partition(":")[0])
        if image.startswith(LOCAL)
        else None
    )
    if source is not None:
        made["build"] = {"context": str(source.folder.resolve())}
        if source.file is not None:
            made["build"]["dockerfile"] = str(source.file.resolve())
    if entrypoint := service.last("Entrypoint"):
        made["entrypoint"] = split_words(entrypoint)
    if arguments := service.arguments:
        made["command"] = [_literal(word) for word in arguments]
    if len(service.units) > 1:
        made["deploy"] = {"replicas": len(service.units)}
    made["environment"] = dict(_environment(service, services))
    for directive, key in PLAIN.items():
        if value := service.last(directive):
            made[key] = value
    for directive, key in LISTS.items():
        if values := [word for text in service.texts(directive) for word in _each(directive, text)]:
            made[key] = values
    for directive, key in SWITCHES.items():
        if service.on(directive):
            made[key] = True
    if service.on("NoNewPrivileges"):
        made["security_opt"] = ["no-new-privileges:true"]
    if names := [secret.name for secret in service.options.secrets if not secret.env]:
        made["secrets"] = names
    if grace := service.last("StopTimeout") or service.last("TimeoutStopSec", section="Service"):
        made["stop_grace_period"] = f"{round(parse_timespan(grace))}s"
    oneshot = service.last("Type", section="Service") == "oneshot"
    if service.last("Restart", section="Service") in ("always", "on-failure"):
        made["restart"] = "unless-stopped"
    if check := service.last("HealthCmd"):
        made["healthcheck"] = {"test": ["CMD-SHELL", _literal(check)]} | {
            key: int(value) if key == "retries" else value
            for directive, key in HEALTH.items()
            if (value := service.last(directive))
        }
    elif service.options.health:
        service.remarks.append("Health= is kirsch's: write a healthcheck, or nobody waits for it")
    if aliases := aliases_of(service, services):
        made["networks"] = {"default": {"aliases": aliases}}
    if oneshot:
        made["profiles"] = ["run"]
        service.remarks.append(f"it runs to its end: docker compose run --rm {service.name}")
    elif used := [other.name for other in services if other is not service and links_between(service, other)]:
        made["depends_on"] = used
    return made


def _each(directive: str, text: str) -> list[str]:
    """The values of one line of a directive that may be there several times."""
    return (
        [word.removeprefix("CAP_") for word in text.upper().split()] if "Capability" in directive else [text]
    )


def _environment(service: Service, services: list[Service]) -> Iterator[tuple[str, str]]:
    """Variables as kirsch gives them: the unit's own, its links', its secrets'."""
    yield "KIRSCH_ADDRESS", "0.0.0.0"  # noqa: S104
    yield "KIRSCH_UNIT", service.name
    for text in service.texts("Environment"):
        for word in split_words(text):
            name, _, value = word.partition("=")
            yield name, _literal(value)
    endpoints = [other.endpoint(other.name) for other in services if other.unit.type in SERVING]
    for link in service.options.links:
        if not any(link in links_between(service, other) for other in services):
            service.remarks.append(f"Link={link.target} leads to no unit of the application")
    for name, value in sorted(variables(service.unit, service.options.links, endpoints).items()):
        yield name, _literal(value)
    for secret in service.options.secrets:
        if secret.env:
            yield secret.env, f"${{{secret.env}:?the secret {secret.name}}}"
            service.remarks.append(f"write {secret.env}=… into .env: the value of the secret {secret.name}")
    if any(not secret.env for secret in service.options.secrets):
        yield "CREDENTIALS_DIRECTORY", CREDENTIALS


def _literal(text: str) -> str:
    """A text in which compose replaces nothing."""
    return text.replace("$", "$$")
