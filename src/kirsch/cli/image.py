"""image build, tag, list, rm, push, pull, prune: container images with podman."""

import json
import sys
import time
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from kirsch.cli.completion import clusters, images
from kirsch.cli.errors import Misuse, interruptible
from kirsch.cli.output import Column, Steps, table
from kirsch.cli.values import JSON, NO_LEGEND, variable
from kirsch.cli.verb import REPORT, Noun, Options, argument, flag, option

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kirsch.cluster.image.reference import Reference
    from kirsch.cluster.image.registry import Registry
    from kirsch.cluster.image.store import Image
    from kirsch.cluster.provision.command import Runner

image = Noun("image")
NAME = "[REGISTRY/]NAME[:TAG]"
FILE, FOLDER = click.Path(path_type=Path), click.Path(file_okay=False, path_type=Path)
ON = option("--on", metavar="CLUSTER", help="a cluster of this computer", complete=clusters)
REGISTRY = (
    ON,
    option(
        "--insecure",
        metavar="REGISTRY",
        default="",
        help="speak to this registry by plain HTTP, or whatever certificate it has",
    ),
)
COLUMNS = ("image", "tag", "id", "content", "size")
# How many letters of an id podman shows, and how many it has.
ID, WHOLE = 12, 64


@image.verb(
    "build",
    "build an image from a folder with a Containerfile",
    argument(
        "directory",
        "DIR",
        "what is built (.)",
        optional=True,
        type=FOLDER,
        default=".",
    ),
    option("-t", "--tag", metavar=NAME, repeat=True, help="the image's name (DIR's); may be repeated"),
    option("--file", metavar="FILE", type=FILE, help="the Containerfile (DIR/Containerfile)"),
    option("--base", metavar="IMAGE", help="what it begins with, for ARG BASE", complete=images),
    option(
        "--build-arg",
        metavar="NAME=VALUE",
        repeat=True,
        type=variable,
        help="for the Containerfile's ARG; may be repeated",
    ),
    flag("--no-cache", help="do every step anew, download wheels anew"),
    JSON,
    text="podman builds it. Steps that have not changed come from its cache; .containerignore says what "
    "stays out. Besides its name the image gets a tag by its content.\n\n"
    "A Containerfile with `ARG BASE=` begins with that image where a registry has it, else with a Debian "
    "made from this computer's own mirror. The wheels of requirements.txt are downloaded here, as pip is "
    "set up here.",
    example="kirsch image build . -t notes",
)
def build(options: Options) -> int:
    """Build an image from a Containerfile."""
    from kirsch.cluster.image.build import build as make
    from kirsch.cluster.image.build import planned

    arguments = dict(options.build_arg)
    if options.base:
        arguments["BASE"] = options.base
    plan = planned(options.directory, options.tag, arguments, file=options.file, cache=not options.no_cache)
    steps = Steps(_progress(options))
    interruptible()
    with failures_shown(steps):
        built = make(plan, steps)
    names = [str(name) for name in built.names]
    if options.json:
        said = {"id": built.id, "names": names, "bytes": built.size, "seconds": round(steps.seconds, 3)}
        print(json.dumps(said, indent=2))
        return 0
    print(f"\nimage {built.id[:ID]} is built: {megabytes(built.size)}, {steps.seconds:.1f} s")
    for name in names:
        print(f"  {name}")
    return 0


@image.verb(
    "tag",
    "give an image more names",
    argument("image", "IMAGE", "its name, or its id or the beginning of it", complete=images),
    argument("names", NAME, many=True),
    REPORT,
    example="kirsch image tag notes notes:1.0",
)
def tag(options: Options) -> int:
    """Give an image more names."""
    from kirsch.cluster.image.store import tag as give

    given = [str(name) for name in give(options.image, options.names, _runner())]
    options.report(images=given)
    print("\n".join(given))
    return 0


@image.verb(
    "list",
    "list the images that are here",
    flag("-l", "--full", help="do not shorten ids"),
    NO_LEGEND,
    JSON,
    example="kirsch image list",
)
def list_(options: Options) -> int:
    """Print a table of the images that are here."""
    from kirsch.cluster.image.store import images as here

    rows = [_row(image) for image in here(_runner())]
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


@image.verb(
    "rm",
    "remove images",
    argument("images", "IMAGE", "its name, or its id", many=True, complete=images),
    flag("--force", help="also the containers that run it"),
    REPORT,
    text="An image that has another name stays under that.",
    example="kirsch image rm notes:1.0",
)
def rm(options: Options) -> int:
    """Remove images, and print their names."""
    from kirsch.cluster.image.store import remove

    removed = [str(name) for name in remove(options.images, _runner(), force=options.force)]
    options.report(removed=removed)
    for name in removed:
        print(f"{name} is removed")
    return 0


@image.verb(
    "push",
    "send an image to a registry",
    argument("image", "IMAGE", "its name here, or its id", complete=images),
    argument("name", "REGISTRY/NAME[:TAG]", "its name there (as here)", optional=True),
    *REGISTRY,
    flag(
        "--everywhere",
        help="with --on: have every machine fetch it now, for the time when the registry's is away",
    ),
    REPORT,
    text="It is the one that NAME names, or a cluster's own, from which its machines take it. Layers that "
    "are there are not sent again.",
    example="kirsch image push notes --on kirsch",
)
def push(options: Options) -> int:
    """Send an image to a registry."""
    from kirsch.cluster.image.lock import registry_lock, shared
    from kirsch.cluster.image.reference import Reference
    from kirsch.cluster.image.transfer import push as send

    name = Reference.parse(options.name or options.image)
    if options.everywhere and not options.on:
        raise Misuse("--everywhere is for a cluster's machines: give --on CLUSTER")
    name, registry = _at(name, options)
    lock = shared(registry_lock(registry.address)) if options.on else nullcontext()
    with lock, Steps(sys.stdout) as steps:
        sent = send(options.image, name, registry, _runner(), steps)
        if options.everywhere:
            _spread(options.on, sent, steps)
    options.report(images=[*map(str, sent)])
    print("\n".join(["", *map(str, sent)]))
    return 0


def _spread(cluster: str, names: "Sequence[Reference]", steps: Steps) -> None:
    from kirsch.cluster.image.transfer import distribute
    from kirsch.cluster.provision.command import Runner
    from kirsch.cluster.provision.record import ClusterRecord

    begun = time.monotonic()
    steps.begun("machines")
    left = distribute(ClusterRecord.load(cluster), names, Runner())
    steps.done("machines", time.monotonic() - begun)
    for machine, reason in left.items():
        print(f"kirsch: {machine} has it not yet: {reason}", file=sys.stderr)


@image.verb(
    "pull",
    "fetch an image from a registry",
    argument("name", NAME),
    *REGISTRY,
    REPORT,
    example="kirsch image pull registry.example/notes:1.0",
)
def pull(options: Options) -> int:
    """Fetch an image from a registry."""
    from kirsch.cluster.image.reference import Reference
    from kirsch.cluster.image.transfer import pull as fetch

    name, registry = _at(Reference.parse(options.name), options)
    with Steps(sys.stdout) as steps:
        fetched = fetch(name, registry, _runner(), steps)
    options.report(images=[str(fetched)])
    print(f"\n{fetched} is here")
    return 0


@image.verb(
    "prune",
    "remove images that have been replaced",
    ON,
    REPORT,
    text="They are those with no name but that of their content, or none at all, unless a container uses "
    "them, or a kirschd here has a unit that names them or a release that could bring them back; on a "
    "cluster, all that no container uses and neither a unit names nor a release could bring back, and of its "
    "registry those of them that have no name but that of their content.",
    example="kirsch image prune --on kirsch",
)
def prune(options: Options) -> int:
    """Remove images that were replaced."""
    from kirsch.cluster.image.store import prune as remove

    if options.on:
        return _prune_cluster(options)

    def busy() -> None:
        print(
            "kirsch: something is being built: what has no name stays until the next prune", file=sys.stderr
        )

    removed = list(remove(_runner(), busy, _named_here()))
    options.report(removed=removed)
    for name in removed:
        print(f"{name[:ID] if len(name) == WHOLE else name} is removed")
    return 0


def _named_here() -> "Sequence[str]":
    """Return the texts that the kirschd here has, none where there is no kirschd. Raises ClientError."""
    from kirsch.cluster.api.client import Client
    from kirsch.cluster.image.registry_client import texts_of
    from kirsch.cluster.provision.endpoint import Where, answers_here, transport_to

    return texts_of(Client(transport_to(Where()))) if answers_here() else ()


def _prune_cluster(options: Options) -> int:
    from kirsch.cluster.api.client import Client, ClientError
    from kirsch.cluster.image.lock import exclusive, registry_lock
    from kirsch.cluster.image.reference import ImageError
    from kirsch.cluster.image.registry import of_cluster
    from kirsch.cluster.image.registry_client import RegistryClient, garbage_collect, texts_of
    from kirsch.cluster.image.store import prune_machines
    from kirsch.cluster.provision.command import Runner
    from kirsch.cluster.provision.endpoint import Where, transport_to
    from kirsch.cluster.provision.record import ClusterRecord

    name = options.on
    cluster = ClusterRecord.load(name)
    registry = of_cluster(cluster)
    with exclusive(registry_lock(registry.address)) as alone:
        if not alone:
            raise ImageError(f"something is being sent to {name}, or removed there: do this again later")
        texts = None
        try:
            texts = texts_of(Client(transport_to(Where(cluster=name))))
            with RegistryClient(registry) as client:
                print(f"registry: {_removed(garbage_collect(client, texts))}")
        except (ClientError, ImageError) as error:
            print(f"kirsch: the registry keeps all its images: {error}", file=sys.stderr)
        counts, left = prune_machines(cluster, texts, Runner())
    options.report(machines={machine: {"removed": count} for machine, count in counts.items()})
    for machine, count in counts.items():
        print(f"{machine}: {_removed(count)}")
    for reason in left:
        print(f"kirsch: {reason}", file=sys.stderr)
    return 1 if left else 0


def _removed(count: int) -> str:
    return f"{count} image{'' if count == 1 else 's'} removed"


def _runner() -> "Runner":
    """Return what runs podman. Raises ImageError if podman is not installed."""
    from kirsch.cluster.image.build import installed
    from kirsch.cluster.provision.command import Runner

    installed()
    return Runner()


def _at(name: "Reference", options: Options) -> "tuple[Reference, Registry]":
    """Return the image's name at its registry, and the registry."""
    from kirsch.cluster.image.registry import of_cluster, registry_of
    from kirsch.cluster.provision.record import ClusterRecord

    if not options.on:
        return name, registry_of(name, options.insecure)
    registry = of_cluster(ClusterRecord.load(options.on))
    if options.insecure or not (name.local or name.registry == registry.address):
        raise Misuse(f"--on {options.on} is for its own registry, {registry.address}")
    return name.at(registry.address), registry


def megabytes(size: int) -> str:
    """Return a size as podman prints it, in millions of bytes."""
    return f"{size / 1e6:.1f} MB"


@contextmanager
def failures_shown(steps: Steps) -> "Iterator[None]":
    """Show the last lines of a step that fails."""
    from kirsch.cluster.image.build import BuildError

    try:
        with steps:
            yield
    except BuildError as error:
        for line in error.lines:
            print(f"          {line}", file=sys.stderr)
        raise


def _progress(options: Options) -> TextIO:
    """Return the stream for progress: standard error if standard output is JSON."""
    return sys.stderr if options.json else sys.stdout


def _row(image: "Image") -> dict[str, Any]:
    return {
        "image": image.name,
        "tag": image.tag,
        "content": image.content,
        "id": image.id,
        "bytes": image.size,
    }
