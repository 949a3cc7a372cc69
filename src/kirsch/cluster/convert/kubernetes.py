"""Kubernetes objects for an application: plain YAML from its unit files. Pure.

Instances of one template become one workload. Whatever has no counterpart is a comment in the YAML and a
remark for the person, never silently gone.
"""

import math
import re
from collections.abc import Iterable, Iterator
from copy import deepcopy
from typing import Any

import yaml

from kirsch.cluster.application import Application
from kirsch.cluster.convert import Converted
from kirsch.cluster.convert.service import (
    CREDENTIALS,
    LOCAL,
    Service,
    aliases_of,
    dns_name,
    services_of,
)
from kirsch.cluster.model.links import SERVING, targets, variables
from kirsch.unit import matches, parse_timespan, split_words

Object = dict[str, Any]

LABEL = "app.kubernetes.io/name"
PART_OF = "app.kubernetes.io/part-of"
# Seconds that a pod answers after its Service has dropped it, for balancers that learn of it late.
LEAVING = 3
GRACE = 30
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
    ]
)
# Podman puts these in memory beside a read-only root.
SCRATCH = ("/tmp", "/run", "/var/tmp")  # noqa: S108
_CALENDAR = {
    "hourly": "0 * * * *",
    "daily": "0 0 * * *",
    "weekly": "0 0 * * 1",
    "monthly": "0 0 1 * *",
    "yearly": "0 0 1 1 *",
}
_DAYS = {day: number for number, day in enumerate(["sun", "mon", "tue", "wed", "thu", "fri", "sat"])}
_TIME = re.compile(
    r"(?:(?P<days>[A-Za-z,.]+)\s+)?(?:\*-\*-(?P<day>\*|\d+)\s+)?(?P<hour>\d+):(?P<minute>\d+)(?::0+)?"
)


def export(
    application: Application, *, namespace: str = "", registry: str = "", tag: str = "latest"
) -> Converted:
    """Return an application's Kubernetes objects. Raises UnitError for a unit file that is wrong.

    `registry` takes the place of localhost/ in names of images, with `tag`; with `namespace` every object
    names it, and it is made first.
    """
    services = list(services_of(application))
    remarks: list[str] = []
    files: dict[str, str] = {}
    if namespace:
        made = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
        files["namespace.yaml"] = _text([made], [])
    for service in services:
        objects = list(_objects(service, services, application, registry, tag))
        for each in objects:
            each["metadata"] |= {"namespace": namespace} if namespace else {}
        said = [f"{service.name}: {remark}" for remark in service.remarks]
        remarks += said
        files[f"{service.name}.yaml"] = _text(objects, said)
    if secrets := sorted({secret.name for service in services for secret in service.options.secrets}):
        create = "kubectl create secret generic"
        inside = f" --namespace {namespace}" if namespace else ""
        remarks += [f"create the secret: {create} {name}{inside} --from-file=value=FILE" for name in secrets]
    return Converted(files, tuple(remarks))


def _objects(
    service: Service, services: list[Service], application: Application, registry: str, tag: str
) -> Iterator[Object]:
    """The objects of one service; adds remarks about what has none."""
    match service.unit.type:
        case "container" if service.backends:
            yield from _ingress(service, services)
        case "container" if service.last("Type", section="Service") == "oneshot":
            yield from _cron_job(service, services, application, registry, tag)
        case "container":
            yield from _claims(service, application)
            yield _workload(service, services, application, registry, tag)
            yield from _endpoints(service, services, application)
        case "timer":
            if not _timed(service, services):
                service.remarks.append("no container of the application is started by this timer")
        case kind:
            service.remarks.append(f"a .{kind} unit has no counterpart: Kubernetes runs containers")


def _meta(service: Service, application: Application, name: str = "") -> Object:
    labels = {
        LABEL: service.name,
        PART_OF: dns_name(application.name),
        "app.kubernetes.io/managed-by": "kirsch",
    }
    return {"name": name or service.name, "labels": labels}


def _kind(service: Service) -> str:
    """The kind of workload that a service becomes."""
    if service.options.is_global:
        return "DaemonSet"
    return "StatefulSet" if service.options.sticky or service.volumes else "Deployment"


def _workload(
    service: Service, services: list[Service], application: Application, registry: str, tag: str
) -> Object:
    labels = {LABEL: service.name}
    spec: Object = {"selector": {"matchLabels": labels}}
    pod = {"metadata": {"labels": labels | {PART_OF: dns_name(application.name)}}}
    pod["spec"] = _pod(service, services, registry, tag)
    kind = _kind(service)
    if kind != "DaemonSet":
        spec["replicas"] = len(service.units)
    if kind == "StatefulSet":
        spec["serviceName"] = service.name
        if len(service.units) > 1 and service.volumes:
            service.remarks.append("its pods share one volume claim, which then needs ReadWriteMany")
    if kind == "Deployment":
        spec |= {
            "minReadySeconds": 5,
            "progressDeadlineSeconds": 120,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}},
        }
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": _meta(service, application),
        "spec": spec | {"template": pod},
    }


def _pod(service: Service, services: list[Service], registry: str, tag: str) -> Object:
    """The pod of a unit: its container, volumes, and where it may run."""
    for entry in service.file.entries("Container"):
        if entry.name not in CARRIED:
            service.remarks.append(f"{entry.name}={entry.value} of [Container] is not carried over")
    mounts, volumes = _volumes(service)
    container: Object = {"name": service.name, "image": _image(service.last("Image"), registry, tag)}
    if entrypoint := service.last("Entrypoint"):
        container["command"] = _command(entrypoint)
    if arguments := service.last("Exec"):
        container["args"] = split_words(arguments)
    if directory := service.last("WorkingDir"):
        container["workingDir"] = directory
    container["env"] = list(_environment(service, services))
    if ports := _ports(service):
        container["ports"] = ports
    container |= _probes(service)
    requests = {"cpu": _cores(service.options.cpu), "memory": str(service.options.memory)}
    if wanted := {key: value for key, value in requests.items() if value not in ("", "0")}:
        container["resources"] = {"requests": wanted}
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
            yield {"name": name, "value": value}
    endpoints = [other.endpoint(other.name) for other in services if other.unit.type in SERVING]
    for link in service.options.links:
        if not any(targets(link, unit) for other in services for unit in other.units):
            service.remarks.append(f"Link={link.target} leads to no unit of the application")
    for name, value in sorted(variables(service.unit, service.options.links, endpoints).items()):
        yield {"name": name, "value": value}
    for secret in service.options.secrets:
        if secret.env:
            key = {"name": secret.name, "key": "value"}
            yield {"name": secret.env, "valueFrom": {"secretKeyRef": key}}
    if any(not secret.env for secret in service.options.secrets):
        yield {"name": "CREDENTIALS_DIRECTORY", "value": CREDENTIALS}


def _ports(service: Service) -> list[Object]:
    return [
        {"containerPort": port.number, "protocol": port.protocol.upper()} | _named(port.name)
        for port in service.options.expose
    ]


def _named(name: str | None) -> Object:
    return {"name": dns_name(name)[:15]} if name else {}


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
    interval = health.interval if health.interval and health.interval != math.inf else 2
    check |= {"periodSeconds": max(1, round(interval)), "timeoutSeconds": max(1, round(health.timeout or 2))}
    start = max(60, round(health.start_period or 0))
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
    for directive, key in (("User", "runAsUser"), ("Group", "runAsGroup")):
        value = service.last(directive)
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
        if not host.startswith(("/", ".")):
            add(dns_name(host), path, {"persistentVolumeClaim": {"claimName": dns_name(host)}}, **more)
        elif host == "/dev/log":
            service.remarks.append("Volume=/dev/log is left out: Kubernetes reads what the container prints")
        else:
            service.remarks.append(f"Volume={host}: every node has to have this path, and nothing keeps it")
            add(dns_name(f"host{host}"), path, {"hostPath": {"path": host}}, **more)
    scratch = [text.partition(":")[0] for text in service.texts("Tmpfs")]
    if service.on("ReadOnly") and service.last("ReadOnlyTmpfs", "true") not in ("false", "no", "off", "0"):
        scratch += [path for path in SCRATCH if path not in scratch]
    for path in scratch:
        add(dns_name(f"tmpfs{path}"), path, {"emptyDir": {"medium": "Memory"}})
    for secret in service.options.secrets:
        if not secret.env:
            items = [{"key": "value", "path": secret.name}]
            source = {"secret": {"secretName": secret.name, "items": items}}
            add(
                dns_name(f"secret-{secret.name}"),
                f"{CREDENTIALS}/{secret.name}",
                source,
                subPath=secret.name,
                readOnly=True,
            )
    return mounts, volumes


def _claims(service: Service, application: Application) -> Iterator[Object]:
    for name in dict.fromkeys(host for host, _, _ in service.volumes):
        yield {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": _meta(service, application, dns_name(name)),
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
        }
        service.remarks.append(f"the volume {name} asks for 1Gi: write what it needs into the claim")


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
    if options.machine_metadata:
        terms = [
            {"key": TOPOLOGY.get(key, key), "operator": "In", "values": sorted(values)}
            for key, values in options.machine_metadata
        ]
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


def _endpoints(service: Service, services: list[Service], application: Application) -> Iterator[Object]:
    """The Service of a unit's ports, and one for each other name by which links know it."""
    exposed = {(port.number, port.protocol): port.name for port in service.options.expose}
    published = {(port.container, port.protocol): port for port in service.options.published}
    if not exposed and not published:
        return
    aliases = aliases_of(service, services)
    for name in [
        service.name,
        *sorted({dns_name(alias) for alias in aliases} - {other.name for other in services}),
    ]:
        ports = [
            {
                "name": dns_name(exposed.get(key) or f"{key[1]}-{key[0]}")[:15],
                "port": published[key].host or key[0] if key in published else key[0],
                "targetPort": key[0],
                "protocol": key[1].upper(),
            }
            for key in dict.fromkeys([*exposed, *published])
        ]
        spec: Object = {"selector": {LABEL: service.name}, "ports": ports}
        if name == service.name and published:
            spec["type"] = "LoadBalancer"
        yield {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": _meta(service, application, name),
            "spec": spec,
        }


def _ingress(service: Service, services: list[Service]) -> Iterator[Object]:
    """An Ingress in place of a balancer: its first backend takes every path."""
    _, target, port = service.backends[0]
    other = next((each for each in services if each.unit.service == target), None)
    if other is None:
        service.remarks.append(
            f"its backend {target} is no service of the application, so nothing is exported"
        )
        return
    chosen = {"number": int(port)} if port.isdecimal() else {"name": dns_name(port)[:15]}
    backend = {"service": {"name": other.name, "port": chosen}}
    paths = [{"path": "/", "pathType": "Prefix", "backend": backend}]
    service.remarks.append(
        "an Ingress takes HAProxy's place: the rules of its haproxy.cfg are not carried over"
    )
    for _, name, _ in service.backends[1:]:
        service.remarks.append(f"the backend {name} needs a rule of its own in the Ingress")
    yield {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": service.name, "labels": {LABEL: service.name}},
        "spec": {"rules": [{"http": {"paths": paths}}]},
    }


def _timed(timer: Service, services: list[Service]) -> Service | None:
    """The container that a timer starts."""
    wanted = timer.last("Unit", f"{timer.unit.service}.service", "Timer").rpartition(".")[0]
    return next((each for each in services if each.unit.text == f"{wanted}.container"), None)


def _cron_job(
    service: Service, services: list[Service], application: Application, registry: str, tag: str
) -> Iterator[Object]:
    """A CronJob for a container that runs to its end; suspended where no timer starts it."""
    timers = [each for each in services if each.unit.type == "timer" and _timed(each, services) is service]
    calendars = [text for timer in timers for text in timer.texts("OnCalendar", "Timer")]
    schedules = [found for text in calendars if (found := cron(text))]
    for text in calendars:
        if cron(text) is None:
            service.remarks.append(
                f"OnCalendar={text} is no schedule that cron has: write one into the CronJob"
            )
    pod = _pod(service, services, registry, tag)
    pod["restartPolicy"] = "Never"
    yield from _claims(service, application)
    yield {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": _meta(service, application),
        "spec": {
            "schedule": schedules[0] if schedules else "0 0 1 1 *",
            "suspend": not schedules,
            "concurrencyPolicy": "Forbid",
            "jobTemplate": {
                "spec": {"template": {"metadata": {"labels": {LABEL: service.name}}, "spec": pod}}
            },
        },
    }


def cron(calendar: str) -> str | None:
    """Return the cron schedule of an OnCalendar= value; None where cron has none (systemd.time(7))."""
    text = calendar.strip()
    if text.lower() in _CALENDAR:
        return _CALENDAR[text.lower()]
    found = _TIME.fullmatch(text)
    if not found:
        return None
    days = _weekdays(found["days"] or "")
    if days is None or int(found["hour"]) > 23 or int(found["minute"]) > 59:
        return None
    day = found["day"] or "*"
    return f"{int(found['minute'])} {int(found['hour'])} {day.lstrip('0') or '*'} * {days}"


def _weekdays(text: str) -> str | None:
    """Mon,Wed or Mon..Fri as cron writes them; None for what is no weekday."""
    parts = []
    for part in filter(None, text.lower().split(",")):
        names = [_DAYS.get(name[:3]) for name in part.split("..")]
        if None in names or len(names) > 2:
            return None
        parts.append("-".join(map(str, names)))
    return ",".join(parts) or "*"


def _grace(service: Service) -> int:
    """Seconds between SIGTERM and SIGKILL, the time before SIGTERM included."""
    text = service.last("StopTimeout") or service.last("TimeoutStopSec", section="Service")
    return round(parse_timespan(text)) + LEAVING if text else GRACE


def _image(name: str, registry: str, tag: str) -> str:
    if not name.startswith(LOCAL):
        return name
    path = name.removeprefix(LOCAL)
    named = path if ":" in path.rpartition("/")[2] else f"{path}:{tag}"
    return f"{registry}/{named}" if registry else f"{LOCAL}{named}"


def _command(text: str) -> list[str]:
    words = yaml.safe_load(text) if text.startswith("[") else split_words(text)
    return [str(word) for word in words]


def _cores(cpu: float) -> str:
    return f"{round(cpu * 1000)}m" if cpu else ""


def _text(objects: Iterable[Object], remarks: Iterable[str]) -> str:
    """YAML documents, their remarks as comments before the first."""
    comments = "".join(f"# {remark}\n" for remark in remarks)
    documents = [yaml.safe_dump(each, sort_keys=False, allow_unicode=True, width=100) for each in objects]
    return comments + "---\n".join(documents)
