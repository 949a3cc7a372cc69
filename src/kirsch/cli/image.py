"""image build, tag, list, rm, push, pull, prune: container images with podman."""

import argparse
import json
import signal
import sys
import time
from typing import TYPE_CHECKING, Any, TextIO

from kirsch.cli.cluster import Steps
from kirsch.cli.errors import Misuse
from kirsch.cli.tables import Column, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kirsch.cluster.image.build import BuildError
    from kirsch.cluster.image.reference import Reference
    from kirsch.cluster.image.registry import Registry
    from kirsch.cluster.image.store import Image

COLUMNS = ("image", "tag", "id", "content", "size")
# How many letters of an id podman shows.
ID = 12


def build(options: argparse.Namespace) -> int:
    """An image from a Containerfile."""
    from kirsch.cluster.image.build import BuildError, planned
    from kirsch.cluster.image.build import build as make

    arguments = dict(options.build_arg)
    if options.base:
        arguments["BASE"] = options.base
    plan = planned(options.directory, options.tag, arguments, file=options.file, cache=not options.no_cache)
    steps = Steps(_progress(options))
    # It is to tidy up, as after Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        built = make(plan, steps)
    except BuildError as error:
        show_failure(error, steps)
        raise
    names = [str(name) for name in built.names]
    if options.json:
        said = {"id": built.id, "names": names, "bytes": built.size, "seconds": round(steps.seconds, 3)}
        print(json.dumps(said, indent=2))
        return 0
    print(f"\nimage {built.id[:ID]} is built: {megabytes(built.size)}, {steps.seconds:.1f} s")
    for name in names:
        print(f"  {name}")
    return 0


def tag(options: argparse.Namespace) -> int:
    """More names for an image."""
    from kirsch.cluster.image.store import tag as give
    from kirsch.cluster.provision.command import Runner

    for name in give(options.image, options.names, Runner()):
        print(name)
    return 0


def list_(options: argparse.Namespace) -> int:
    """The images that are here."""
    from kirsch.cluster.image.store import images
    from kirsch.cluster.provision.command import Runner

    rows = [_row(image) for image in images(Runner())]
    if options.json:
        print(json.dumps(rows, indent=2))
        return 0
    columns: dict[str, Column] = {
        "image": lambda row, full: str(row["image"]),
        "tag": lambda row, full: str(row["tag"]),
        "id": lambda row, full: str(row["id"]) if full else str(row["id"])[:ID],
        "content": lambda row, full: str(row["content"]),
        "size": lambda row, full: megabytes(row["bytes"]),
    }
    print(table(rows, columns, COLUMNS, full=options.full, legend=not options.no_legend), end="")
    return 0


def rm(options: argparse.Namespace) -> int:
    """Remove images."""
    from kirsch.cluster.image.store import remove
    from kirsch.cluster.provision.command import Runner

    for name in remove(options.images, Runner(), force=options.force):
        print(f"{name} is removed")
    return 0


def push(options: argparse.Namespace) -> int:
    """An image to a registry."""
    from kirsch.cluster.image.carry import push as send
    from kirsch.cluster.image.reference import Reference
    from kirsch.cluster.provision.command import Runner

    name = Reference.parse(options.name or options.image)
    if options.everywhere and not options.on:
        raise Misuse("--everywhere is for a cluster's machines: give --on CLUSTER")
    name, registry = _at(name, options)
    steps = Steps(sys.stdout)
    sent = send(options.image, name, registry, Runner(), steps)
    if options.everywhere:
        _spread(options.on, sent, steps)
    print("\n".join(["", *map(str, sent)]))
    return 0


def _spread(cluster: str, names: "Sequence[Reference]", steps: Steps) -> None:
    from kirsch.cluster.image.spread import spread
    from kirsch.cluster.provision.command import Runner
    from kirsch.cluster.provision.record import ClusterRecord

    begun = time.monotonic()
    steps.begun("machines")
    left = spread(ClusterRecord.load(cluster), names, Runner())
    steps.done("machines", time.monotonic() - begun)
    for machine, reason in left.items():
        print(f"kirsch: {machine} has it not yet: {reason}", file=sys.stderr)


def pull(options: argparse.Namespace) -> int:
    """An image from a registry."""
    from kirsch.cluster.image.carry import pull as fetch
    from kirsch.cluster.image.reference import Reference
    from kirsch.cluster.provision.command import Runner

    name, registry = _at(Reference.parse(options.name), options)
    print(f"\n{fetch(name, registry, Runner(), Steps(sys.stdout))} is here")
    return 0


def prune(options: argparse.Namespace) -> int:
    """Remove what was replaced."""
    from kirsch.cluster.image.store import prune as remove
    from kirsch.cluster.image.store import prune_machines
    from kirsch.cluster.provision.command import Runner

    if options.on:
        from kirsch.cluster.provision.record import ClusterRecord

        for machine, count in prune_machines(ClusterRecord.load(options.on), Runner()).items():
            print(f"{machine}: {count} image{'' if count == 1 else 's'} removed")
        return 0
    for name in remove(Runner()):
        print(f"{name} is removed")
    return 0


def _at(name: "Reference", options: argparse.Namespace) -> "tuple[Reference, Registry]":
    """The name at the registry that is meant, and that registry."""
    from kirsch.cluster.image.registry import of_cluster, registry_of
    from kirsch.cluster.provision.record import ClusterRecord

    if not options.on:
        return name, registry_of(name, options.insecure)
    registry = of_cluster(ClusterRecord.load(options.on))
    if options.insecure or not (name.local or name.registry == registry.address):
        raise Misuse(f"--on {options.on} is for its own registry, {registry.address}")
    return name.at(registry.address), registry


def megabytes(size: int) -> str:
    """A size as podman says it: in millions of bytes."""
    return f"{size / 1e6:.1f} MB"


def show_failure(error: "BuildError", steps: Steps) -> None:
    """The last lines of a step that failed."""
    if steps.out.isatty():
        print(file=steps.out, flush=True)
    for line in error.lines:
        print(f"          {line}", file=sys.stderr)


def _progress(options: argparse.Namespace) -> TextIO:
    """Where steps are shown: JSON has the standard output for itself."""
    return sys.stderr if options.json else sys.stdout


def _row(image: "Image") -> dict[str, Any]:
    return {
        "image": image.name,
        "tag": image.tag,
        "content": image.content,
        "id": image.id,
        "bytes": image.size,
    }
