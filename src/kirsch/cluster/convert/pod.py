"""The pod of a service, for Kubernetes: its container, volumes, and where it may run. Pure."""

import math
import re
from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from typing import Any

import yaml

from kirsch.cluster.convert.service import CREDENTIALS, LOCAL, Service, dns_name
from kirsch.cluster.model.kubernetes import LABEL, Object
from kirsch.cluster.model.links import SERVING, targets, variables
from kirsch.unit import UnitError, matches, parse_cpu, parse_size, parse_timespan, split_words

# Seconds that a pod answers after its Service has dropped it, for balancers that learn of it late.
LEAVING = 3
GRACE = 30
# The longest time that "infinity" becomes, in seconds.
DAY = 86_400
# Keys of machine metadata that nodes have as well-known labels.
TOPOLOGY = {
    "hostname": "kubernetes.io/hostname",
    "zone": "topology.kubernetes.io/zone",
    "region": "topology.kubernetes.io/region",
    "arch": "kubernetes.io/arch",
}
# Directives of [Container] that are carried over here; every other one is told.
CARRIED = frozenset(
    [
        "Image",
        "Exec",
        "Entrypoint",
        "Environment",
        "PublishPort",
        "Volume",
        "Tmpfs",
        "ReadOnly",
        "ReadOnlyTmpfs",
        "NoNewPrivileges",
        "DropCapability",
        "AddCapability",
        "User",
        "Group",
        "WorkingDir",
        "StopTimeout",
        "HealthCmd",
        "HealthInterval",
        "HealthTimeout",
        "HealthRetries",
        "HealthStartPeriod",
        "ContainerName",
        "HostName",
        "Memory",
    ]
)
_OBJECT_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
# Podman puts these in memory beside a read-only root.
SCRATCH = ("/tmp", "/run", "/var/tmp")  # noqa: S108


def pod_of(service: Service, services: list[Service], registry: str, tag: str) -> Object:
    """Return the pod of a service, and add remarks about what of it is not carried over. Raises UnitError."""
    for entry in service.file.entries("Container"):
        if entry.name not in CARRIED:
            service.remarks.append(f"{entry.name}={entry.value} of [Container] is not carried over")
    mounts, volumes = _volumes(service)
    container: Object = {"name": service.name, "image": _image(service.last("Image"), registry, tag)}
    if entrypoint := service.last("Entrypoint"):
        container["command"] = _command(entrypoint)
    if arguments := service.arguments:
        container["args"] = [_literal(word) for word in arguments]
    if directory := service.last("WorkingDir"):
        container["workingDir"] = directory
    # The last one wins, as with systemd; Kubernetes refuses a name that comes twice.
    container["env"] = list({each["name"]: each for each in _environment(service, services)}.values())
    if names := service.port_names:
        container["ports"] = [
            {"containerPort": number, "protocol": protocol.upper()} | ({"name": name} if name else {})
            for (number, protocol), name in names.items()
        ]
    container |= _probes(service)
    if resources := _resources(service):
        container["resources"] = resources
    container["securityContext"] = _security(service)
    if mounts:
        container["volumeMounts"] = mounts
    pod: Object = {"containers": [container], "terminationGracePeriodSeconds": _grace(service)}
    # Kubernetes' own variables of Services look like links' and would hide them.
    pod["enableServiceLinks"] = False
    if host := service.last("HostName"):
        pod["hostname"] = host
    if volumes:
        pod["volumes"] = volumes
    return pod | _placement(service, services)


def _environment(service: Service, services: list[Service]) -> Iterator[Object]:
    """Variables as kirsch gives them: the unit's own, its links', its secrets'."""
    yield {"name": "KIRSCH_ADDRESS", "value": "0.0.0.0"}  # noqa: S104
    for name in ("KIRSCH_UNIT", "KIRSCH_INSTANCE"):
        yield {"name": name, "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}
    for text in service.texts("Environment"):
        for word in split_words(text):
            name, _, value = word.partition("=")
            yield {"name": name, "value": _literal(value)}
    endpoints = [other.endpoint(other.name) for other in services if other.unit.type in SERVING]
    for link in service.options.links:
        if not any(targets(link, unit) for other in services for unit in other.units):
            service.remarks.append(f"Link={link.target} leads to no unit of the application")
    for name, value in sorted(variables(service.unit, service.options.links, endpoints).items()):
        yield {"name": name, "value": _literal(value)}
    for secret in service.options.secrets:
        if secret.env:
            key = {"name": object_name(secret.name), "key": "value"}
            yield {"name": secret.env, "valueFrom": {"secretKeyRef": key}}
    if any(not secret.env for secret in service.options.secrets):
        yield {"name": "CREDENTIALS_DIRECTORY", "value": CREDENTIALS}


def _probes(service: Service) -> Object:
    health = service.options.health
    if health is None:
        return {}
    match health.kind:
        case "http":
            check: Object = {"httpGet": {"path": health.path, "port": health.port}}
        case "tcp":
            check = {"tcpSocket": {"port": health.port}}
        case _:
            check = {"exec": {"command": list(health.command)}}
    check |= {"periodSeconds": _seconds(health.interval, 2), "timeoutSeconds": _seconds(health.timeout, 2)}
    start = max(60, _seconds(health.start_period, 60))
    # Objects of their own, or YAML would tie the two together with an anchor.
    return {
        "startupProbe": deepcopy(check) | {"failureThreshold": math.ceil(start / check["periodSeconds"])},
        "readinessProbe": check | {"failureThreshold": health.retries or 3},
        "lifecycle": {"preStop": {"sleep": {"seconds": LEAVING}}},
    }


def _security(service: Service) -> Object:
    context: Object = {"allowPrivilegeEscalation": not service.on("NoNewPrivileges")}
    if service.on("ReadOnly"):
        context["readOnlyRootFilesystem"] = True
    drop = [word.upper() for text in service.texts("DropCapability") for word in text.split()]
    add = [
        word.upper().removeprefix("CAP_") for text in service.texts("AddCapability") for word in text.split()
    ]
    if drop or add:
        names = {"drop": [word.removeprefix("CAP_") for word in drop], "add": add}
        context["capabilities"] = {key: value for key, value in names.items() if value}
    user, _, group = service.last("User").partition(":")
    numbers = (("User", "runAsUser", user), ("Group", "runAsGroup", service.last("Group") or group))
    for directive, key, value in numbers:
        if value.isdecimal():
            context[key] = int(value)
        elif value:
            service.remarks.append(
                f"{directive}={value} is a name: Kubernetes takes numbers, so the image decides"
            )
    return context


def _volumes(service: Service) -> tuple[list[Object], list[Object]]:
    """The container's mounts and the pod's volumes."""
    mounts: list[Object] = []
    volumes: list[Object] = []

    def add(name: str, path: str, source: Object, **more: Any) -> None:
        mounts.append({"name": name, "mountPath": path} | more)
        if not any(volume["name"] == name for volume in volumes):
            volumes.append({"name": name} | source)

    for host, path, read_only in service.mounts:
        more = {"readOnly": True} if read_only else {}
        if not host:
            add(dns_name(f"volume{path}"), path, {"emptyDir": {}})
        elif not host.startswith(("/", ".")):
            add(dns_name(host), path, {"persistentVolumeClaim": {"claimName": dns_name(host)}}, **more)
        elif host == "/dev/log":
            service.remarks.append("Volume=/dev/log is left out: Kubernetes reads what the container prints")
        else:
            service.remarks.append(f"Volume={host}: every node has to have this path, and nothing keeps it")
            add(dns_name(f"host{host}"), path, {"hostPath": {"path": host}}, **more)
    scratch = [text.partition(":")[0] for text in service.texts("Tmpfs")]
    if service.on("ReadOnly") and service.last("ReadOnlyTmpfs", "true") not in ("false", "no", "off", "0"):
        scratch += SCRATCH
    taken = {mount["mountPath"] for mount in mounts}
    for path in dict.fromkeys(path for path in scratch if path not in taken):
        add(dns_name(f"tmpfs{path}"), path, {"emptyDir": {"medium": "Memory"}})
    for secret in service.options.secrets:
        if not secret.env:
            items = [{"key": "value", "path": secret.name}]
            source = {"secret": {"secretName": object_name(secret.name), "items": items}}
            add(
                dns_name(f"secret-{secret.name}"),
                f"{CREDENTIALS}/{secret.name}",
                source,
                subPath=secret.name,
                readOnly=True,
            )
    return mounts, volumes


def _placement(service: Service, services: list[Service]) -> Object:
    """Constraints on the nodes of a pod, from the options that say where a unit may run."""
    options, affinity, placed = service.options, dict[str, Any](), dict[str, Any]()
    if options.spread:
        key = TOPOLOGY.get(options.spread, options.spread)
        placed["topologySpreadConstraints"] = [
            {
                "maxSkew": 1,
                "topologyKey": key,
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": {LABEL: service.name}},
            }
        ]
    single = [(key, *values) for key, values in options.machine_metadata if len(values) == 1]
    if single:
        placed["nodeSelector"] = {TOPOLOGY.get(key, key): value for key, value in single}
    terms = [
        {"key": TOPOLOGY.get(key, key), "operator": "In", "values": sorted(values)}
        for key, values in options.machine_metadata
        if len(values) > 1
    ]
    if terms:
        required = {"nodeSelectorTerms": [{"matchExpressions": terms}]}
        affinity["nodeAffinity"] = {"requiredDuringSchedulingIgnoredDuringExecution": required}
    apart = [
        o.name for o in services for glob in options.conflicts if any(matches(glob, u.text) for u in o.units)
    ]
    if apart:
        affinity["podAntiAffinity"] = _pods(dict.fromkeys(apart))
    beside = [o.name for o in services if any(unit.text in options.machine_of for unit in o.units)]
    if beside:
        affinity["podAffinity"] = _pods(beside)
    for value, words in (
        (options.machine_id, "MachineID= is not carried over: name the node with nodeName"),
        (options.replaces, "Replaces= has no counterpart"),
        (options.roles, "HealthRole= has no counterpart: its Service leads to every ready pod"),
        (
            options.link_update == "ignore",
            "LinkUpdate=ignore is how Kubernetes does it: pods are not restarted",
        ),
        (options.on_partition == "stop", "OnPartition=stop: nodes that are cut off keep their pods running"),
    ):
        if value:
            service.remarks.append(words)
    return placed | ({"affinity": affinity} if affinity else {})


def _pods(names: Iterable[str]) -> Object:
    return {
        "requiredDuringSchedulingIgnoredDuringExecution": [
            {"labelSelector": {"matchLabels": {LABEL: name}}, "topologyKey": "kubernetes.io/hostname"}
            for name in names
        ]
    }


def _resources(service: Service) -> Object:
    """Requests (CPU=, Memory=) and limits (those of systemd and Quadlet) of the container."""
    requests = {"cpu": _cores(service.options.cpu), "memory": str(service.options.memory or "")}
    limits = {
        "cpu": _limit(service, "CPUQuota", lambda text: _cores(parse_cpu(text))),
        "memory": _limit(service, "MemoryMax", lambda text: str(parse_size(text)))
        or _limit(service, "Memory", lambda text: str(parse_size(text.upper())), "Container"),
    }
    given = {"requests": requests, "limits": limits}
    made = {key: {name: text for name, text in each.items() if text} for key, each in given.items()}
    return {key: each for key, each in made.items() if each}


def _limit(service: Service, name: str, read: Callable[[str], str], section: str = "Service") -> str:
    text = service.last(name, section=section)
    if text in ("", "infinity"):
        return ""
    try:
        return read(text)
    except UnitError:
        service.remarks.append(f"{name}={text} of [{section}] is no amount that Kubernetes has")
        return ""


def _grace(service: Service) -> int:
    """Seconds between SIGTERM and SIGKILL, the time before SIGTERM included."""
    text = service.last("StopTimeout") or service.last("TimeoutStopSec", section="Service")
    return _seconds(parse_timespan(text), GRACE) + LEAVING if text else GRACE


def _seconds(value: float | None, default: int) -> int:
    """Whole seconds, at least one; a day in place of infinity, the default in place of none."""
    if not value:
        return default
    return DAY if value >= DAY else max(1, round(value))


def _literal(text: str) -> str:
    """Text in which Kubernetes sees no variable of its own."""
    return text.replace("$(", "$$(")


def object_name(name: str) -> str:
    """Return the name of the Secret that a secret becomes: the same where Kubernetes takes it."""
    return name if _OBJECT_NAME.fullmatch(name) else dns_name(name)


def _image(name: str, registry: str, tag: str) -> str:
    if not name.startswith(LOCAL):
        return name
    path = name.removeprefix(LOCAL)
    named = path if ":" in path.rpartition("/")[2] else f"{path}:{tag}"
    return f"{registry}/{named}" if registry else f"{LOCAL}{named}"


def _command(text: str) -> list[str]:
    words = yaml.safe_load(text) if text.startswith("[") else split_words(text)
    return [_literal(str(word)) for word in words]


def _cores(cpu: float) -> str:
    return f"{round(cpu * 1000)}m" if cpu else ""
