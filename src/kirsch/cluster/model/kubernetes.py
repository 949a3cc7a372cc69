"""Objects of Kubernetes as data: labels, how far a workload is, what ails a pod, lines of a log. Pure."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

Object = dict[str, Any]

# Kubernetes' own labels: the service, its application, who made the object.
LABEL = "app.kubernetes.io/name"
PART_OF = "app.kubernetes.io/part-of"
MANAGED_BY = "app.kubernetes.io/managed-by"
MANAGER = "kirsch"
RELEASE = "kirsch.release"
# Reason of a Deployment's condition once progressDeadlineSeconds have passed without progress.
LATE = "ProgressDeadlineExceeded"
# Set where people asked for a number of instances: it goes before kirsch.toml's.
SCALE = "kirsch.scale"
WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet")
# Kinds that run an application: where none of them is there, it is down.
RUNNING = (*WORKLOADS, "CronJob")
# Kinds that go when an application goes down, or its folder has them no more; claims and secrets are data.
PASSING = (*RUNNING, "Service", "Ingress", "ConfigMap")


def progress(workload: Object, known: str = "") -> tuple[bool, str, str]:
    """Return how far a workload is: True once it runs what it is to, words, and why it never will.

    A deadline that was missed at `known` (late_since) is an earlier change's.
    """
    spec, status = workload["spec"], workload.get("status", {})
    if workload["kind"] == "DaemonSet":
        wanted, updated = status.get("desiredNumberScheduled", 0), status.get("updatedNumberScheduled", 0)
        available = status.get("numberAvailable", 0)
    else:
        wanted, updated = spec.get("replicas", 1), status.get("updatedReplicas", 0)
        available = status.get("availableReplicas", 0)
    seen = status.get("observedGeneration", 0) >= workload["metadata"].get("generation", 0)
    # Pods of the text before are to be gone too.
    total = status.get("replicas", wanted if wanted == updated else 0)
    done = seen and updated >= wanted and available >= wanted and total == wanted
    hopeless = next(
        (
            each.get("message", "does not get ready")
            for each in status.get("conditions", [])
            if seen and each.get("reason") == LATE and (not known or each.get("lastUpdateTime") != known)
        ),
        "",
    )
    ready = min(available, updated) if seen else 0
    return done, f"{ready} of {wanted} ready", hopeless


def has_started(pod: Object) -> bool:
    """True once a pod's container runs or has run, so that it has a log."""
    states = pod.get("status", {}).get("containerStatuses", [])
    return any(kind in each.get("state", {}) for each in states for kind in ("running", "terminated"))


def late_since(workload: Object) -> str:
    """Return the time at which a workload missed its deadline; empty if it did not.

    Kubernetes keeps this condition until a later change makes progress.
    """
    conditions = workload.get("status", {}).get("conditions", [])
    return next((each.get("lastUpdateTime", "") for each in conditions if each.get("reason") == LATE), "")


def trouble(pod: Object) -> str:
    """Return why a pod does not run, in words; empty if it does."""
    status = pod.get("status", {})
    for each in status.get("containerStatuses", []):
        waiting = each.get("state", {}).get("waiting", {})
        if waiting.get("reason") not in (None, "ContainerCreating", "PodInitializing"):
            return ": ".join(filter(None, (waiting["reason"], waiting.get("message", ""))))
    for each in status.get("conditions", []):
        if each["type"] == "PodScheduled" and each["status"] == "False":
            return f"cannot be scheduled: {each.get('message', each.get('reason', ''))}"
    return ""


def lines_of(pod: str, chunks: Iterable[bytes]) -> Iterator[Mapping[str, Any]]:
    """Yield the lines of a pod's log as the journal has them, from its bytes as they come."""
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        yield from (line_of(pod, line) for line in lines)
    if rest:
        yield line_of(pod, rest)


def line_of(pod: str, line: bytes) -> Mapping[str, Any]:
    """Return a line of a pod's log as the journal has it; it begins with its time (RFC 3339)."""
    text = line.decode(errors="replace")
    stamp, _, rest = text.partition(" ")
    # Nanoseconds are more than Python has.
    whole, _, fraction = stamp.removesuffix("Z").partition(".")
    try:
        time_of = datetime.fromisoformat(f"{whole}.{fraction[:6]:0<6}+00:00").timestamp()
    except ValueError:
        time_of, rest = 0.0, text
    return {"time": time_of, "unit": pod, "stream": "stdout", "text": rest}


def steps(before: Sequence[Object], after: Sequence[Object]) -> list[str]:
    """Return what a release changes, an object a line."""
    old, new = (
        {(each["kind"], each["metadata"]["name"]): each for each in objects if each["kind"] != "Secret"}
        for objects in (before, after)
    )
    made = [f"create   {kind} {name}" for kind, name in new if (kind, name) not in old]
    changed = [
        f"change   {kind} {name}" for (kind, name), each in new.items() if old.get((kind, name), each) != each
    ]
    gone = [f"remove   {kind} {name}" for kind, name in old if (kind, name) not in new and kind in PASSING]
    return [*made, *changed, *gone]


def with_scale(each: Object, count: str | None) -> Object:
    """Return a workload with the number of instances that people asked for, if they did."""
    if count is None:
        return each
    annotations = each["metadata"].get("annotations", {}) | {SCALE: count}
    return each | {
        "metadata": each["metadata"] | {"annotations": annotations},
        "spec": each["spec"] | {"replicas": int(count)},
    }
