"""An application on Kubernetes: its objects applied, watched, scaled and brought back, by Kubernetes' API."""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import yaml
from kubernetes import client, config, watch
from urllib3.exceptions import HTTPError

from kirsch.cluster.api.client import ClientError
from kirsch.cluster.model.kubernetes import (
    LABEL,
    MANAGED_BY,
    MANAGER,
    PART_OF,
    PASSING,
    RELEASE,
    SCALE,
    WORKLOADS,
    Object,
    has_started,
    late_since,
    lines_of,
    progress,
    trouble,
    with_scale,
)
from kirsch.cluster.provision.endpoint import KUBERNETES

KEPT_RELEASES = 10
ANSWER = 30.0
# The API of each kind, and its noun in the names of the client's methods.
KINDS = {
    "Secret": (client.CoreV1Api, "secret"),
    "ConfigMap": (client.CoreV1Api, "config_map"),
    "PersistentVolumeClaim": (client.CoreV1Api, "persistent_volume_claim"),
    "Deployment": (client.AppsV1Api, "deployment"),
    "StatefulSet": (client.AppsV1Api, "stateful_set"),
    "DaemonSet": (client.AppsV1Api, "daemon_set"),
    "CronJob": (client.BatchV1Api, "cron_job"),
    "Service": (client.CoreV1Api, "service"),
    "Ingress": (client.NetworkingV1Api, "ingress"),
    "Pod": (client.CoreV1Api, "pod"),
}


@dataclass(frozen=True, slots=True)
class Release:
    """One state of an application, as a ConfigMap holds it.

    It is "under way" while its objects are applied, "submitted" once Kubernetes has them all, and "done" once
    all of it was ready.
    """

    number: int
    objects: list[Object]
    state: Literal["under way", "submitted", "done"]
    message: str = ""

    @property
    def done(self) -> bool:
        return self.state == "done"


class Kubernetes:
    """One namespace of a Kubernetes cluster. Every method raises ClientError."""

    def __init__(self, context: str, namespace: str, api: client.ApiClient) -> None:
        self.context, self.namespace, self.api = context, namespace, api

    @classmethod
    def load(cls, name: str) -> "Kubernetes":
        """Return what `kubernetes:CONTEXT` names: a context of the kubeconfig, with its namespace."""
        context = name.removeprefix(KUBERNETES)
        with _readable():
            known = contexts()
            found = next((each for each in known if each["name"] == context), None)
            if found is None:
                there = ", ".join(sorted(each["name"] for each in known)) or "none"
                raise ClientError(0, f"the kubeconfig has no context {context!r}; there are: {there}")
            api = config.new_client_from_config(context=context)
        return cls(context, found["context"].get("namespace") or "default", api)

    def check(self) -> None:
        """Raise ClientError where the cluster does not answer, or has no such namespace."""
        try:
            with _told():
                client.CoreV1Api(self.api).read_namespace(self.namespace, _request_timeout=ANSWER)
        except ClientError as error:
            if error.status != 404:
                raise
            create = f"kubectl --context {self.context} create namespace {self.namespace}"
            raise ClientError(404, f"there is no namespace {self.namespace}: {create}") from None

    def apply(self, objects: Sequence[Object]) -> None:
        """Apply objects as their owner, fields that Kubernetes does not know refused. A Secret that is there
        keeps its value."""
        for each in objects:
            if each["kind"] == "Secret":
                self._make_secret(each)
                continue
            self._do(
                "patch",
                each["kind"],
                each["metadata"]["name"],
                body=each,
                field_manager=MANAGER,
                field_validation="Strict",
                force=True,
                _content_type="application/apply-patch+yaml",
            )

    def _make_secret(self, secret: Object) -> None:
        try:
            self._do("create", "Secret", body=secret)
        except ClientError as error:
            if error.status != 409:
                raise

    def remove(self, application: str, kept: Sequence[Object] = ()) -> list[str]:
        """Remove an application's objects but for those that are kept, claims and secrets; their names."""
        stay = {(each["kind"], each["metadata"]["name"]) for each in kept}
        removed = []
        for kind in PASSING:
            for each in self.listed(kind, application):
                name, labels = each["metadata"]["name"], each["metadata"].get("labels", {})
                if (kind, name) in stay or RELEASE in labels:
                    continue
                self._delete(kind, name, propagation_policy="Background")
                removed.append(f"{kind} {name}")
        return removed

    def _delete(self, kind: str, name: str, **given: Any) -> None:
        """Delete an object; one that somebody else has deleted meanwhile is gone as well."""
        try:
            self._do("delete", kind, name, **given)
        except ClientError as error:
            if error.status != 404:
                raise

    def listed(self, kind: str, application: str = "", service: str = "") -> list[Object]:
        """Return our objects of a kind, of one application or service if it is named."""
        chosen = {PART_OF: application, LABEL: service}
        labels = [f"{key}={value}" for key, value in chosen.items() if value]
        # Pods are their workloads', and have not the label of what we apply.
        labels += [PART_OF] if kind == "Pod" else [f"{MANAGED_BY}={MANAGER}"]
        answer = self._do("list", kind, label_selector=",".join(labels))
        found: list[Object] = self.api.sanitize_for_serialization(answer)["items"]
        return [{"kind": kind} | each for each in found]

    def scaled(self, application: str, objects: Sequence[Object]) -> list[Object]:
        """Return objects with the numbers of instances that people asked for (`scale`)."""
        asked = {
            (kind, each["metadata"]["name"]): each["metadata"]["annotations"][SCALE]
            for kind in ("Deployment", "StatefulSet")
            for each in self.listed(kind, application)
            if SCALE in each["metadata"].get("annotations", {})
        }
        return [with_scale(each, asked.get((each["kind"], each["metadata"]["name"]))) for each in objects]

    def scale(self, service: str, count: int) -> Object:
        """Give a service another number of instances; its workload."""
        for kind in ("Deployment", "StatefulSet"):
            for each in self.listed(kind, service=service):
                body = {"metadata": {"annotations": {SCALE: str(count)}}, "spec": {"replicas": count}}
                self._do(
                    "patch",
                    kind,
                    each["metadata"]["name"],
                    body=body,
                    field_manager=MANAGER,
                    _content_type="application/merge-patch+json",
                )
                return each
        raise ClientError(
            404, f"there is no service {service} with a number of instances in {self.namespace}"
        )

    def releases(self, application: str) -> list[Release]:
        """Return the releases that are kept, the newest first."""
        found = []
        for each in self.listed("ConfigMap", application):
            if number := each["metadata"].get("labels", {}).get(RELEASE):
                data = each["data"]
                objects = list(yaml.safe_load_all(data["objects"]))
                found.append(Release(int(number), objects, data["state"], data.get("message", "")))
        return sorted(found, key=lambda release: -release.number)

    def keep(self, application: str, release: Release) -> None:
        """Write a release down, and forget those that are too old."""
        labels = {PART_OF: application, MANAGED_BY: MANAGER, RELEASE: str(release.number)}
        objects = [each for each in release.objects if each["kind"] != "Secret"]
        body = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": _release_name(application, release.number), "labels": labels},
            "data": {
                "objects": yaml.safe_dump_all(objects, sort_keys=False),
                "state": release.state,
                "message": release.message,
            },
        }
        self.apply([body])
        for old in self.releases(application)[KEPT_RELEASES:]:
            self._delete("ConfigMap", _release_name(application, old.number))

    def workloads(self, application: str) -> list[Object]:
        """Return an application's workloads as they are."""
        return [each for kind in WORKLOADS for each in self.listed(kind, application)]

    def is_ready(self, application: str, objects: Sequence[Object]) -> bool:
        """True if every workload of these runs what it is to."""
        there = {_key(each): each for each in self.workloads(application)}
        names = [_key(each) for each in objects if each["kind"] in WORKLOADS]
        return all(name in there and progress(there[name])[0] for name in names)

    def await_ready(
        self,
        objects: Sequence[Object],
        timeout: float,
        show: Callable[[str, str], None],
        before: Sequence[Object] = (),
    ) -> None:
        """Wait until workloads run what they are to; `show` is told the name of each and how far it is.

        `before` are workloads as they were before the change: a deadline missed then is not this change's.
        """
        deadline = time.monotonic() + timeout
        late = {_key(each): late_since(each) for each in before}
        for each in objects:
            if each["kind"] in WORKLOADS:
                self._await(_key(each), deadline, timeout, show, late.get(_key(each), ""))

    def _await(
        self,
        key: tuple[str, str],
        deadline: float,
        timeout: float,
        show: Callable[[str, str], None],
        late: str,
    ) -> None:
        kind, name = key
        words = "not seen"
        while (left := deadline - time.monotonic()) > 0:
            for event in self._watched(kind, name, left):
                done, words, hopeless = progress(event, late)
                show(name, words)
                if done:
                    return
                if hopeless:
                    raise ClientError(0, f"{name} {self.reasons(name) or hopeless}")
            # One that somebody else has removed is nothing to watch: do not ask at full speed.
            time.sleep(min(1.0, left))
        reasons = self.reasons(name)
        raise ClientError(0, f"not ready after {timeout:g} s: {name} ({reasons or words})")

    def await_gone(self, application: str, timeout: float) -> None:
        """Wait until no pod of an application is left but those of jobs."""
        deadline = time.monotonic() + timeout
        while pods := [each for each in self.listed("Pod", application) if _is_workloads(each)]:
            left = deadline - time.monotonic()
            if left <= 0:
                names = ", ".join(each["metadata"]["name"] for each in pods)
                raise ClientError(0, f"still stopping after {timeout:g} s: {names}")
            for _ in self._watched("Pod", pods[0]["metadata"]["name"], left):
                pass

    def _watched(self, kind: str, name: str, seconds: float) -> Iterator[Object]:
        """Yield an object as it is and as it changes, for so long at most; nothing once it is removed."""
        api, noun = KINDS[kind]
        try:
            found = self.api.sanitize_for_serialization(self._do("read", kind, name))
            yield {"kind": kind} | found
            with _told():
                for event in watch.Watch().stream(
                    getattr(api(self.api), f"list_namespaced_{noun}"),
                    self.namespace,
                    field_selector=f"metadata.name={name}",
                    # The object's own version: all of the server's caches come to that.
                    resource_version=found["metadata"]["resourceVersion"],
                    timeout_seconds=max(1, int(seconds)),
                    # A server whose machine died sends nothing more, not even the end.
                    _request_timeout=(ANSWER, max(1.0, seconds) + ANSWER),
                ):
                    if event["type"] == "DELETED":
                        return
                    yield {"kind": kind} | event["raw_object"]
        except ClientError as error:
            # Removed, or the watch began too far back: who asks begins anew.
            if error.status not in (404, 410):
                raise

    def reasons(self, service: str) -> str:
        """Return why pods of a service do not run, in words; empty if nothing is known."""
        found = [trouble(pod) for pod in self.listed("Pod", service=service)]
        return "; ".join(dict.fromkeys(filter(None, found)))

    def lines(self, pod: str, last: int) -> Iterator[Mapping[str, Any]]:
        """Yield the last lines that a pod wrote, as the journal has them; none before it has started."""
        return self._log(pod, tail_lines=last, _request_timeout=ANSWER)

    def follow(self, pod: str, last: int) -> Iterator[Mapping[str, Any]]:
        """Yield the last lines of a pod and those to come, until it ends or is removed."""
        while not (started := self._has_started(pod)):
            if started is None:
                return
            for event in self._watched("Pod", pod, ANSWER):
                if has_started(event):
                    break
        yield from self._log(pod, tail_lines=last, follow=True)

    def _has_started(self, pod: str) -> bool | None:
        """True once a pod has a log; None if there is no such pod."""
        try:
            return has_started(self.api.sanitize_for_serialization(self._do("read", "Pod", pod)))
        except ClientError as error:
            if error.status == 404:
                return None
            raise

    def _log(self, pod: str, **given: Any) -> Iterator[Mapping[str, Any]]:
        try:
            with _told():
                # In bytes: what programs write is not always UTF-8.
                answer: Any = client.CoreV1Api(self.api).read_namespaced_pod_log(
                    pod, self.namespace, timestamps=True, _preload_content=False, **given
                )
                yield from lines_of(pod, answer.stream())
        except ClientError as error:
            # It waits to start, or is gone meanwhile.
            if error.status not in (400, 404):
                raise

    def _do(self, verb: str, kind: str, *arguments: str, **given: Any) -> Any:
        api, noun = KINDS[kind]
        call = getattr(api(self.api), f"{verb}_namespaced_{noun}")
        with _told():
            return call(*arguments, namespace=self.namespace, _request_timeout=ANSWER, **given)


def contexts() -> list[Mapping[str, Any]]:
    """Return the contexts of the kubeconfig. Raises ClientError."""
    with _readable():
        found: list[Mapping[str, Any]] = config.list_kube_config_contexts()[0]
        return found


@contextmanager
def _readable() -> Iterator[None]:
    """Tell errors of the kubeconfig in one line. Raises ClientError."""
    try:
        yield
    except (config.ConfigException, yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        why = " ".join(str(error).split())
    except (AttributeError, KeyError, TypeError, ValueError):
        # YAML, but not of the form that the client takes for granted.
        why = "it is no kubeconfig"
    else:
        return
    raise ClientError(0, f"the kubeconfig cannot be used: {why}")


@contextmanager
def _told() -> Iterator[None]:
    """Tell errors of the client in one line. Raises ClientError."""
    try:
        yield
    except client.ApiException as error:
        try:
            said = json.loads(error.body or "")["message"]
        except (ValueError, KeyError, TypeError):
            said = error.reason or "no reason was given"
        raise ClientError(error.status or 0, f"Kubernetes refuses: {' '.join(str(said).split())}") from None
    except HTTPError as error:
        why = " ".join(str(getattr(error, "reason", None) or error).split())
        raise ClientError(0, f"Kubernetes does not answer: {why}") from None


def _key(each: Object) -> tuple[str, str]:
    return each["kind"], each["metadata"]["name"]


def _is_workloads(pod: Object) -> bool:
    return not any(each["kind"] == "Job" for each in pod["metadata"].get("ownerReferences", []))


def _release_name(application: str, number: int) -> str:
    return f"kirsch-{application}-{number}"
