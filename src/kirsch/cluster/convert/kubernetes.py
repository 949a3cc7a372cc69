"""Kubernetes objects for an application: plain YAML from its unit files. Pure.

Instances of one template become one workload. Whatever has no counterpart is a comment in the YAML and a
remark for the person, never silently gone.
"""

import base64
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

import yaml

from kirsch.cluster.application import Application
from kirsch.cluster.convert import Converted
from kirsch.cluster.convert.calendar import cron
from kirsch.cluster.convert.pod import object_name, pod_of
from kirsch.cluster.convert.service import (
    CONFIGURATION,
    Service,
    aliases_of,
    dns_name,
    services_of,
    with_servers,
)
from kirsch.cluster.model.kubernetes import LABEL, MANAGED_BY, MANAGER, PART_OF, WORKLOADS, Object
from kirsch.unit import Policy
from kirsch.unit.name import uses_instance
from kirsch.unit.release import read_policy

# Sorts before every other file: `kubectl apply -f FOLDER` goes by name.
NAMESPACE_FILE = "00-namespace.yaml"
# What Quadlet and systemd do anyway, what is told elsewhere, and words for people.
PASSED_OVER = {
    "Unit": frozenset(("Description", "Documentation")),
    "Service": frozenset(
        ("Type", "Restart", "RestartSec", "TimeoutStopSec", "TimeoutStartSec", "MemoryMax", "CPUQuota")
    ),
    "Timer": frozenset(("OnCalendar", "Unit")),
}
LOOPBACK = ("127.0.0.1", "::1")
# A port: its number and protocol.
Key = tuple[int, str]
# What Kubernetes' rollouts do not have, of [release] and of the options that go before it.
STEPS = {
    "canary": "Kubernetes has no canaries: every pod is replaced",
    "promote": "Kubernetes has no canaries, so nothing is promoted",
    "on_failure": "a rollout that fails stops, as with on_failure=pause: kubectl rollout undo goes back",
    "command": "nothing runs the release's command: run it as a Job before the objects are applied",
}


def export(
    application: Application,
    *,
    namespace: str = "",
    registry: str = "",
    tag: str = "latest",
    secrets: Mapping[str, bytes] | None = None,
    balancers: Mapping[str, str] | None = None,
) -> Converted:
    """Return an application's Kubernetes objects, a file for each service. Raises UnitError.

    `registry` takes the place of localhost/ in names of images, with `tag`; with `namespace` every object
    names it, and it is made first. `secrets` are values to write, by name; without them Secrets are only
    referred to. `balancers` are the texts of haproxy.cfg by their paths: with them HAProxy runs, without
    them an Ingress takes its place.
    """
    services = list(services_of(application))
    objects: dict[str, list[Object]] = {}
    remarks: dict[str, list[str]] = {}
    context = _Context(application, services, registry, tag, balancers)
    for service in services:
        objects.setdefault(service.name, []).extend(context.objects(service))
        # In one line each: they are comments too.
        told = [f"{service.name}: {' '.join(text.split())}" for text in dict.fromkeys(service.remarks)]
        remarks.setdefault(service.name, []).extend(told)
    values = {} if secrets is None else secrets
    for name in sorted({secret.name for service in services for secret in service.options.secrets}):
        if name in values:
            objects.setdefault("secrets", []).append(_secret(name, values[name], application))
        else:
            inside = f" --namespace {namespace}" if namespace else ""
            create = f"kubectl create secret generic {object_name(name)}{inside} --from-file=value=FILE"
            remarks.setdefault("", []).append(f"create the secret: {create}")
    files: dict[str, str] = {}
    if namespace:
        labels = {PART_OF: dns_name(application.name), MANAGED_BY: MANAGER}
        meta = {"name": namespace, "labels": labels}
        files[NAMESPACE_FILE] = _text([{"apiVersion": "v1", "kind": "Namespace", "metadata": meta}], [])
    for name, found in objects.items():
        for each in found:
            each["metadata"] |= {"namespace": namespace} if namespace else {}
        if text := _text(found, remarks.get(name, [])):
            files[f"{name}.yaml"] = text
    every = tuple(each for found in objects.values() for each in found)
    return Converted(files, tuple(remark for told in remarks.values() for remark in told), every)


def kustomization(made: Converted, tag: str) -> str:
    """Return kustomization.yaml for exported files: each is a resource, the application's own images have a
    tag to be changed."""
    pods = [each["spec"] for each in made.objects if each["kind"] in WORKLOADS]
    pods += [each["spec"]["jobTemplate"]["spec"] for each in made.objects if each["kind"] == "CronJob"]
    images = [each["image"] for pod in pods for each in pod["template"]["spec"]["containers"]]
    own = sorted({image.removesuffix(f":{tag}") for image in images if image.endswith(f":{tag}")})
    document: Object = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": list(made.files),
        "images": [{"name": name, "newTag": tag} for name in own],
    }
    return _text([{key: value for key, value in document.items() if value}], [])


class _Context:
    """An application as it is exported, and what was asked for."""

    def __init__(
        self,
        application: Application,
        services: list[Service],
        registry: str,
        tag: str,
        balancers: Mapping[str, str] | None,
    ) -> None:
        self.application, self.services = application, services
        self.registry, self.tag, self.balancers = registry, tag, balancers
        users = Counter(name for each in services for name in each.volume_names)
        # Volumes that several services mount: no pod has one of its own.
        self.shared = {name for name, count in users.items() if count > 1}

    def objects(self, service: Service) -> Iterator[Object]:
        """Yield the objects of one service, and add remarks about what has none."""
        self._tell(service)
        match service.unit.type:
            case "container" if service.backends and not self._balanced(service):
                yield from self._ingress(service)
            case "container" if service.last("Type", section="Service") == "oneshot":
                yield from self._claims(service)
                yield self._cron_job(service)
            case "container":
                yield from self._claims(service)
                yield from self._configuration(service)
                yield self._workload(service)
                yield from self._endpoints(service)
            case "timer":
                if not self._timed(service):
                    service.remarks.append("no container of the application is started by this timer")
            case kind:
                service.remarks.append(f"a .{kind} unit has no counterpart: Kubernetes runs containers")

    def _tell(self, service: Service) -> None:
        """Add remarks about directives of systemd, and steps of a release, that are not carried over."""
        if service.unit.type not in ("container", "timer"):
            return
        for section, known in PASSED_OVER.items():
            for entry in service.file.entries(section):
                if entry.name not in known:
                    service.remarks.append(f"{entry.name}={entry.value} of [{section}] is not carried over")
        if len(service.units) > 1:
            for entry in service.file.entries("Container"):
                if uses_instance(entry.value) and entry.name != "Volume":
                    service.remarks.append(
                        f"{entry.name}={entry.value}: all pods have what the first instance has"
                    )
        changed = {*read_policy(self.application.release).changes(), *dict(service.options.policy)}
        for name in STEPS:
            if name in changed and service.unit.type == "container":
                service.remarks.append(STEPS[name])

    def _meta(self, service: Service, name: str = "") -> Object:
        labels = {
            LABEL: service.name,
            PART_OF: dns_name(self.application.name),
            MANAGED_BY: MANAGER,
        }
        description = service.last("Description", section="Unit")
        annotations = {"annotations": {"kubernetes.io/description": description}} if description else {}
        return {"name": name or service.name, "labels": labels} | annotations

    def _pod(self, service: Service) -> Object:
        pod = pod_of(service, self.services, self.registry, self.tag)
        if self._balanced(service):
            # HAProxy is PID 1 of its container, and finds the servers by itself.
            container = pod["containers"][0]
            container |= {"command": ["haproxy"], "args": ["-W", "-db", "-f", CONFIGURATION]}
            mount = {"name": "haproxy", "mountPath": CONFIGURATION, "subPath": "haproxy.cfg"}
            container["volumeMounts"] = [*container.get("volumeMounts", []), mount | {"readOnly": True}]
            volume = {"name": "haproxy", "configMap": {"name": service.name}}
            pod["volumes"] = [*pod.get("volumes", []), volume]
        return pod

    def _template(self, service: Service) -> Object:
        meta: Object = {"labels": {LABEL: service.name, PART_OF: dns_name(self.application.name)}}
        if metrics := service.options.metrics:
            # What Prometheus' usual configuration for pods reads.
            meta["annotations"] = {
                "prometheus.io/scrape": "true",
                "prometheus.io/port": str(metrics.port),
                "prometheus.io/path": metrics.path,
            }
        return {"metadata": meta, "spec": self._pod(service)}

    def _workload(self, service: Service) -> Object:
        """A Deployment; a StatefulSet for what holds data; a DaemonSet for what runs everywhere."""
        policy = read_policy(self.application.release).with_changes(dict(service.options.policy))
        healthy = round(policy.healthy_for)
        spec: Object = {"selector": {"matchLabels": {LABEL: service.name}}}
        if service.options.is_global:
            kind = "DaemonSet"
            spec |= {"minReadySeconds": healthy, "updateStrategy": _rolling(policy)}
        elif service.options.sticky or service.volumes:
            kind = "StatefulSet"
            spec |= {"replicas": len(service.units), "serviceName": service.name, "minReadySeconds": healthy}
        else:
            kind = "Deployment"
            spec |= {
                "replicas": len(service.units),
                "minReadySeconds": healthy,
                # Counted from the last pod that was replaced.
                "progressDeadlineSeconds": round(policy.deadline) + healthy + 1,
                "strategy": _rolling(policy, maxSurge=0),
            }
        if service.last("Restart", "always", "Service") != "always":
            service.remarks.append(
                f"a {kind} starts its pods again however they end: Restart= is passed over"
            )
        spec["template"] = self._template(service)
        if claims := self._claim_templates(service):
            spec["volumeClaimTemplates"] = claims
            mine = {claim["metadata"]["name"] for claim in claims}
            pod = spec["template"]["spec"]
            pod["volumes"] = [each for each in pod["volumes"] if each["name"] not in mine]
            if not pod["volumes"]:
                del pod["volumes"]
        return {"apiVersion": "apps/v1", "kind": kind, "metadata": self._meta(service), "spec": spec}

    def _own(self, service: Service) -> list[str]:
        """The volumes of which each of its pods has one: those of a StatefulSet that nobody shares."""
        oneshot = service.last("Type", section="Service") == "oneshot"
        if service.options.is_global or oneshot:
            return []
        return [name for name in service.volume_names if name not in self.shared]

    def _claim_templates(self, service: Service) -> list[Object]:
        return [
            {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": {"name": dns_name(name)},
                "spec": _claim(service, name),
            }
            for name in self._own(service)
        ]

    def _claims(self, service: Service) -> Iterator[Object]:
        """Claims of volumes that are no single pod's, each beside the first service that mounts it."""
        own = self._own(service)
        for name in (name for name in service.volume_names if name not in own):
            if name in self.shared or service.options.is_global:
                service.remarks.append(
                    f"the volume {name} has one claim for several pods: it needs ReadWriteMany where they "
                    "run on several nodes"
                )
            first = next(each for each in self.services if name in each.volume_names)
            if first is service:
                meta = self._meta(service, dns_name(name))
                spec = _claim(service, name)
                yield {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": meta, "spec": spec}

    def _endpoints(self, service: Service) -> Iterator[Object]:
        """The Services of a unit: its own with the ports that it exposes, one for each other name by which
        links know it, and a load balancer for published ports that are not the same ones."""
        exposed = service.port_names
        public: dict[Key, int] = {}
        for port in service.options.published:
            key = (port.container, port.protocol)
            if port.host_ip not in LOOPBACK:
                public[port.host or port.container, port.protocol] = port.container
                continue
            service.remarks.append(
                f"port {port.container} is published on this machine only: "
                f"kubectl port-forward service/{service.name} {port.host or port.container} does that"
            )
            exposed.setdefault(key, "")
        inside = {(number, protocol): number for number, protocol in exposed}
        names = {dns_name(alias) for alias in aliases_of(service, self.services)}
        others = sorted(names - {other.name for other in self.services})
        kind: Object = {}
        if inside.items() <= public.items():
            # Links lead to the public ports as well.
            inside, public, kind = public, {}, {"type": "LoadBalancer"}
        for name in [service.name, *others] if inside else ():
            yield self._service(service, name, inside, kind if name == service.name else {})
        if public:
            # Exposed ports are for links alone, so they are no load balancer's.
            yield self._service(service, f"{service.name[:56]}-public", public, {"type": "LoadBalancer"})

    def _service(self, service: Service, name: str, ports: Mapping[Key, int], kind: Object) -> Object:
        """A Service by its ports: those of the pods, by number and protocol."""
        named = service.port_names
        spec: Object = {
            "selector": {LABEL: service.name},
            "ports": [
                {
                    # A port of the pods that is published twice gives its name once.
                    "name": named.pop((target, protocol), "") or f"{protocol}-{number}",
                    "port": number,
                    "targetPort": target,
                    "protocol": protocol.upper(),
                }
                for (number, protocol), target in ports.items()
            ],
        }
        meta = self._meta(service, name)
        return {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": spec | kind}

    def _balanced(self, service: Service) -> bool:
        """True for a balancer that runs HAProxy here: it was asked for, and its haproxy.cfg is known."""
        return bool(self.balancers and service.balancer_file in self.balancers)

    def _configuration(self, service: Service) -> Iterator[Object]:
        """The haproxy.cfg of a balancer, and for each backend a name under which DNS has every ready pod."""
        if not self._balanced(service) or self.balancers is None:
            return
        text = with_servers(self.balancers[service.balancer_file], service, self.services, name=_pods_of)
        yield {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": self._meta(service),
            "data": {"haproxy.cfg": text},
        }
        for target in sorted({target for _, target, _ in service.backends}):
            other = next((each for each in self.services if each.unit.service == target), None)
            if other is not None:
                yield {
                    "apiVersion": "v1",
                    "kind": "Service",
                    "metadata": self._meta(service, _pods_of(other.name)),
                    "spec": {"clusterIP": "None", "selector": {LABEL: other.name}},
                }

    def _ingress(self, service: Service) -> Iterator[Object]:
        """An Ingress in place of a balancer: its first backend takes every path."""
        _, target, port = service.backends[0]
        other = next((each for each in self.services if each.unit.service == target), None)
        if other is None:
            service.remarks.append(
                f"its backend {target} is no service of the application, so nothing is exported"
            )
            return
        chosen: Object = {"number": int(port)} if port.isdecimal() else {"name": dns_name(port)[:15]}
        for each in other.options.expose:
            if each.name == port and each.name is not None:
                # Of several names that a port has, its Service has one.
                name = other.port_names[each.number, each.protocol]
                chosen = {"name": name} if name else {"number": each.number}
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
            "metadata": self._meta(service),
            "spec": {"rules": [{"http": {"paths": paths}}]},
        }

    def _timed(self, timer: Service) -> Service | None:
        """The container that a timer starts."""
        wanted = timer.last("Unit", f"{timer.unit.service}.service", "Timer").rpartition(".")[0]
        return next((each for each in self.services if each.unit.text == f"{wanted}.container"), None)

    def _cron_job(self, service: Service) -> Object:
        """A CronJob for a container that runs to its end; suspended where no timer starts it."""
        timers = [
            each for each in self.services if each.unit.type == "timer" and self._timed(each) is service
        ]
        calendars = [text for timer in timers for text in timer.texts("OnCalendar", "Timer")]
        schedules = [found for text in calendars if (found := cron(text))]
        for text in calendars:
            if cron(text) is None:
                service.remarks.append(
                    f"OnCalendar={text} is no schedule that cron has: write one into the CronJob"
                )
        for schedule in schedules[1:]:
            service.remarks.append(f"a CronJob has one schedule: {schedule} needs one of its own")
        if not schedules:
            service.remarks.append(
                f"no timer starts it: kubectl create job --from=cronjob/{service.name} NAME does"
            )
        template = self._template(service)
        template["spec"]["restartPolicy"] = "Never"
        return {
            "apiVersion": "batch/v1",
            "kind": "CronJob",
            "metadata": self._meta(service),
            "spec": {
                "schedule": schedules[0] if schedules else "0 0 1 1 *",
                "suspend": not schedules,
                "concurrencyPolicy": "Forbid",
                "jobTemplate": {"spec": {"template": template}},
            },
        }


def _rolling(policy: Policy, **more: int) -> Object:
    return {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": policy.at_a_time} | more}


def _pods_of(name: str) -> str:
    """The name that DNS has for every pod of a service, not for the service's one address."""
    return f"{name[:58]}-pods"


def _claim(service: Service, name: str) -> Object:
    service.remarks.append(f"the volume {name} asks for 1Gi: write what it needs into the claim")
    return {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}


def _secret(name: str, value: bytes, application: Application) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": object_name(name),
            "labels": {PART_OF: dns_name(application.name), MANAGED_BY: MANAGER},
        },
        "type": "Opaque",
        "data": {"value": base64.b64encode(value).decode()},
    }


def _text(objects: Iterable[Object], remarks: Iterable[str]) -> str:
    """YAML documents, their remarks as comments before the first."""
    comments = "".join(f"# {remark}\n" for remark in remarks)
    documents = [yaml.safe_dump(each, sort_keys=False, allow_unicode=True, width=100) for each in objects]
    return comments + "---\n".join(documents)
