"""up, down, status, journal, scale and rollback where --on or --cluster is kubernetes:CONTEXT."""

import json
import os
import queue
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from kirsch.cli.errors import Failure
from kirsch.cli.output import Progress, Steps
from kirsch.cli.verb import Options
from kirsch.cluster.provision.endpoint import KUBERNETES

if TYPE_CHECKING:
    from kirsch.cluster.application import Application
    from kirsch.cluster.application.kubernetes import Kubernetes, Release

STOP_TIMEOUT = 180.0


def named(options: Options) -> str:
    """Return the kubernetes:CONTEXT that the options or the environment name; empty if they name none."""
    cluster = str(options.cluster or os.environ.get("KIRSCH_CLUSTER") or "")
    other = options.endpoint or options.tunnel
    return cluster if cluster.startswith(KUBERNETES) and not other else ""


def up_on(application: "Application", options: Options) -> int:
    """Bring an application onto Kubernetes, and wait until all of it is ready."""
    from kirsch.cluster.application.kubernetes import Release
    from kirsch.cluster.convert.kubernetes import export
    from kirsch.cluster.convert.service import dns_name
    from kirsch.cluster.model.kubernetes import RUNNING, WORKLOADS, steps
    from kirsch.cluster.secrets import made_up

    target = _target(options.on)
    name = dns_name(application.name)
    application = _with_images(application, options)
    secrets = _Made(made_up)
    made = export(application, secrets=secrets)
    objects = target.scaled(name, made.objects)
    known = _settled(target, name)
    # After `down` nothing of the last release is there.
    there = any(target.listed(kind, name) for kind in RUNNING)
    before = known[0].objects if known and there else []
    todo = steps(before, objects)
    if options.dry_run:
        options.report(application=application.name, steps=todo)
        print("\n".join(todo) or f"nothing would change: {application.name} is up to date")
        return 0
    for remark in made.remarks:
        print(f"note: {remark}", file=sys.stderr)
    same = bool(known) and known[0].done and not todo
    newest = known[0].number if known else 0
    number = newest if same else newest + 1
    release = Release(number, objects, "done" if same else "under way", options.message)
    _carry_out(target, name, release, options)
    options.report(application=application.name, release=number, steps=todo)
    if options.detach:
        services = " ".join(each["metadata"]["name"] for each in objects if each["kind"] in WORKLOADS)
        print(f"{application.name} is submitted; `kirsch --cluster {options.on} status {services}` shows it")
        return 0
    print(f"\n{application.name} is up on {options.on}")
    print("\n".join(todo) if todo else "Nothing has changed.")
    print(f"Stop it with `kirsch down {options.directory} --on {options.on}`.")
    return 0


def _carry_out(target: "Kubernetes", name: str, release: "Release", options: Options) -> None:
    """Apply a release, remove what it has no more, and wait until it is ready if that is asked for."""
    from kirsch.cluster.model.kubernetes import WORKLOADS

    before = target.workloads(name)
    if not release.done:
        target.keep(name, release)
    target.apply(release.objects)
    target.remove(name, release.objects)
    if not release.done:
        target.keep(name, replace(release, state="submitted"))
    if getattr(options, "detach", False) or getattr(options, "no_block", False):
        return
    names = [each["metadata"]["name"] for each in release.objects if each["kind"] in WORKLOADS]
    shown = Progress(sys.stdout, names)
    target.await_ready(release.objects, options.timeout, shown.step, before)
    if not release.done:
        target.keep(name, replace(release, state="done"))


def _settled(target: "Kubernetes", name: str) -> list["Release"]:
    """Return an application's releases, the newest first. One that nobody waited for (`up -d`, Ctrl-C) is
    done once its workloads are ready."""
    known = target.releases(name)
    if known and known[0].state == "submitted" and target.is_ready(name, known[0].objects):
        known[0] = replace(known[0], state="done")
        target.keep(name, known[0])
    return known


def _target(name: str) -> "Kubernetes":
    """Return what kubernetes:CONTEXT names, once it answers. Raises ClientError."""
    from kirsch.cluster.application.kubernetes import Kubernetes

    target = Kubernetes.load(name)
    target.check()
    return target


class _Made(dict[str, bytes]):
    """Values at random for secrets that are asked for; one that Kubernetes has keeps its own."""

    def __init__(self, make: Any) -> None:
        super().__init__()
        self._make = make

    def __contains__(self, name: object) -> bool:
        return True

    def __missing__(self, name: str) -> bytes:
        self[name] = self._make().encode()
        return self[name]


def _with_images(application: "Application", options: Options) -> "Application":
    """Build and push what the application is made of; the same with images of the registry."""
    from kirsch.cluster.application.pin import pinned
    from kirsch.cluster.application.plan import images_of

    if not images_of(application):
        return application
    if not options.registry:
        raise Failure("give --registry HOST/PATH: Kubernetes takes the application's images from there")
    from kirsch.cli.image import failures_shown
    from kirsch.cluster.application.build import made
    from kirsch.cluster.image.reference import Reference
    from kirsch.cluster.image.registry import Registry
    from kirsch.cluster.image.transfer import push
    from kirsch.cluster.provision.command import Runner

    runner, steps = Runner(), Steps(sys.stdout)
    at: dict[Reference, Reference] = {}
    with failures_shown(steps):
        for name, image in made(application, runner, steps).items():
            at[name] = Reference.parse(f"{options.registry}/{name.path}:{image.content}")
    if not options.dry_run:
        with steps:
            for name, there in at.items():
                # As podman and docker have it: a registry of this computer needs no certificate.
                here = there.registry.partition(":")[0] in ("localhost", "127.0.0.1")
                push(str(name), there, Registry(there.registry, insecure=here), runner, steps)
    units = {unit: pinned(text, at, application.images) for unit, text in application.units.items()}
    return replace(application, units=units)


def down_on(application: "Application", options: Options) -> int:
    """Remove an application from Kubernetes; its claims and secrets stay."""
    from kirsch.cluster.convert.service import dns_name

    target = _target(options.on)
    removed = target.remove(dns_name(application.name))
    target.await_gone(dns_name(application.name), STOP_TIMEOUT)
    options.report(stopped=bool(removed), removed=removed)
    if not removed:
        print(f"{application.name} is not up on {options.on}")
        return 0
    print("\n".join(f"  {name} removed" for name in removed))
    print(f"{application.name} is down on {options.on}; its claims and secrets stay there")
    return 0


def status(options: Options) -> int:
    """Each workload's state, and its pods'."""
    from kirsch.cluster.model.kubernetes import WORKLOADS, progress, trouble

    target = _target(named(options))
    rows = []
    for workload in (each for kind in WORKLOADS for each in target.listed(kind)):
        service = workload["metadata"]["name"]
        if options.units and service not in map(_service, options.units):
            continue
        done, words, hopeless = progress(workload)
        pods = [
            {
                "pod": pod["metadata"]["name"],
                "node": pod["spec"].get("nodeName", ""),
                "phase": pod["status"].get("phase", ""),
                "reason": trouble(pod),
            }
            for pod in target.listed("Pod", service=service)
        ]
        row = {"service": service, "kind": workload["kind"], "ready": done, "state": hopeless or words}
        rows.append(row | {"pods": pods})
    _check_found(options.units, [str(row["service"]) for row in rows])
    if options.json:
        print(json.dumps(rows, indent=2, ensure_ascii=False))
        return 0
    for row in rows:
        print(f"{row['service']}  {row['kind']}  {row['state']}")
        for pod in row["pods"]:
            told = [pod["phase"], pod["node"] and f"on {pod['node']}", pod["reason"]]
            print(f"  {pod['pod']}  {'  '.join(filter(None, told))}")
    if not rows:
        print(f"nothing of kirsch runs in {target.namespace}")
    return 0


def lines(options: Options, last: int) -> tuple[list[str], Iterator[Mapping[str, Any]]]:
    """The pods that are meant, and their lines, with --follow those to come too."""
    from kirsch.cluster.model.kubernetes import LABEL

    target = _target(named(options))
    found = {
        pod["metadata"]["name"]: pod["metadata"]["labels"].get(LABEL, "") for pod in target.listed("Pod")
    }
    wanted = {_service(unit) for unit in options.units}
    _check_found(options.units, [*found.values(), *found])
    pods = [pod for pod, service in found.items() if not wanted or wanted & {pod, service}]
    if options.follow:
        return pods, _followed(target, pods, last)
    told = [line for pod in pods for line in target.lines(pod, last)]
    return pods, iter(sorted(told, key=lambda line: float(line["time"]))[-last:])


def _followed(target: "Kubernetes", pods: Sequence[str], last: int) -> Iterator[Mapping[str, Any]]:
    """Yield lines of several pods as they come, until all have ended. Raises ClientError."""
    told: queue.Queue[Mapping[str, Any] | Exception | None] = queue.Queue(1000)

    def read(pod: str) -> None:
        try:
            for line in target.follow(pod, last):
                told.put(line)
            told.put(None)
        except Exception as error:  # it is the reader's
            told.put(error)

    for pod in pods:
        threading.Thread(target=read, args=(pod,), daemon=True).start()
    left = len(pods)
    while left:
        line = told.get()
        if isinstance(line, Exception):
            raise line
        if line is None:
            left -= 1
        else:
            yield line


def scale(options: Options) -> int:
    """Give services other numbers of instances, and wait until these are ready."""
    target = _target(named(options))
    changed = [target.scale(_service(service), count) for service, count in options.services]
    if not options.no_block:
        shown = Progress(sys.stdout, [each["metadata"]["name"] for each in changed])
        target.await_ready(changed, options.timeout, shown.step, changed)
    counts = dict(options.services)
    options.report(scaled=counts)
    print("\n".join(f"{service} has {count} instances" for service, count in counts.items()))
    return 0


def rollback(options: Options) -> int:
    """Bring an earlier release back, as a new one."""
    from kirsch.cluster.application.kubernetes import Release
    from kirsch.cluster.convert.service import dns_name

    application, number = options.application, options.number
    if application.isdigit() and number is None:
        application, number = "", int(application)
    if not application:
        raise Failure("name the application: kirsch rollback APPLICATION [NUMBER]")
    target = _target(named(options))
    name = dns_name(application)
    known = _settled(target, name)
    if not known:
        raise Failure(f"there are no releases of {application} in {target.namespace}")
    if number is None:
        earlier = next((each for each in known[1:] if each.done), None)
    else:
        earlier = next((each for each in known if each.number == number), None)
    if earlier is None:
        what = "earlier release that was done" if number is None else f"release {number}"
        raise Failure(f"there is no {what} of {application}")
    message = options.message or f"rollback to {earlier.number}"
    objects = target.scaled(name, earlier.objects)
    release = Release(known[0].number + 1, objects, "under way", message)
    _carry_out(target, name, release, options)
    options.report(application=application, release=release.number, message=message)
    print(f"release {release.number} of {application} is done: {message}")
    return 0


def _service(unit: str) -> str:
    """The name that a unit's service has there: notes_db@1.container is of notes-db."""
    from kirsch.cluster.convert.service import dns_name

    return dns_name(unit.removesuffix(".container").partition("@")[0])


def _check_found(wanted: Sequence[str], there: Sequence[str]) -> None:
    """Raise Failure for a unit of which there is nothing."""
    for unit in wanted:
        if _service(unit) not in there:
            raise Failure(f"there is no {unit}; there are: {', '.join(dict.fromkeys(there)) or 'none'}")
