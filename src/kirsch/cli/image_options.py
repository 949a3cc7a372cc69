"""The options of `kirsch image …`."""

import argparse
from collections.abc import Callable
from pathlib import Path

NAME = "[REGISTRY/]NAME[:TAG]"
# A verb's parser from its name, where its function is, what it does, an example.
Verb = Callable[[str, str, str, str], argparse.ArgumentParser]


def images(verb: Verb) -> None:
    """All verbs of images."""
    build = verb(
        "image build",
        "image:build",
        "Build an image from a folder with a Containerfile. podman builds it; steps that are as they were "
        "come from its cache, .containerignore says what stays out. Besides its name the image gets a tag by "
        "its content.\n\n"
        "A Containerfile with `ARG BASE=` begins with that image where a registry has it, else with a Debian "
        "made from this computer's own mirror. The wheels of requirements.txt are downloaded here, as pip is "
        "set up here.",
        "kirsch image build . -t notes",
    )
    build.add_argument(
        "directory", nargs="?", type=Path, default=Path("."), metavar="DIR", help="what is built (.)"
    )
    build.add_argument(
        "-t",
        "--tag",
        action="append",
        default=[],
        metavar=NAME,
        help="the image's name (DIR's); may be repeated",
    )
    build.add_argument("--file", type=Path, metavar="FILE", help="the Containerfile (DIR/Containerfile)")
    build.add_argument("--base", metavar="IMAGE", help="what it begins with, for ARG BASE")
    build.add_argument(
        "--build-arg",
        action="append",
        default=[],
        type=argument,
        metavar="NAME=VALUE",
        help="for the Containerfile's ARG; may be repeated",
    )
    build.add_argument("--no-cache", action="store_true", help="do every step anew, download wheels anew")
    build.add_argument("--json", action="store_true", help="print JSON")
    tag = verb(
        "image tag", "image:tag", "Give an image more names.", "kirsch image tag notes notes:1.0"
    )  # fmt: skip
    tag.add_argument("image", metavar="IMAGE", help="its name, or its id or the beginning of it")
    tag.add_argument("names", nargs="+", metavar=NAME)
    listed = verb("image list", "image:list_", "List the images that are here.", "kirsch image list")
    listed.add_argument("-l", "--full", action="store_true", help="do not shorten ids")
    listed.add_argument("--no-legend", action="store_true", help="leave the heading out")
    listed.add_argument("--json", action="store_true", help="print JSON")
    remove = verb(
        "image rm",
        "image:rm",
        "Remove images. One that has another name stays under that.",
        "kirsch image rm notes:1.0",
    )
    remove.add_argument("images", nargs="+", metavar="IMAGE", help="its name, or its id")
    remove.add_argument("--force", action="store_true", help="also the containers that run it")
    push = verb(
        "image push",
        "image:push",
        "Send an image to a registry. It is the one that NAME names, or a cluster's own, from which its "
        "machines take it. Layers that are there are not sent again.",
        "kirsch image push notes --on kirsch",
    )
    push.add_argument("image", metavar="IMAGE", help="its name here, or its id")
    push.add_argument("name", nargs="?", metavar="REGISTRY/NAME[:TAG]", help="its name there (as here)")
    _registry(push)
    push.add_argument(
        "--everywhere",
        action="store_true",
        help="with --on: have every machine fetch it now, for the time when the registry's is away",
    )
    pull = verb(
        "image pull",
        "image:pull",
        "Fetch an image from a registry.",
        "kirsch image pull registry.example/notes:1.0",
    )
    pull.add_argument("name", metavar=NAME)
    _registry(pull)
    prune = verb(
        "image prune",
        "image:prune",
        "Remove images that have been replaced. They are those with no name but that of their content, or "
        "none at all, unless a container uses them; on a cluster, all that no container uses, and of its "
        "registry those by their content alone that no unit names.",
        "kirsch image prune --on kirsch",
    )
    _cluster(prune)


def _registry(parser: argparse.ArgumentParser) -> None:
    _cluster(parser)
    parser.add_argument(
        "--insecure",
        default="",
        metavar="REGISTRY",
        help="speak to this registry by plain HTTP, or whatever certificate it has",
    )


def _cluster(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--on", metavar="CLUSTER", help="a cluster of this computer")


def argument(text: str) -> tuple[str, str]:
    """A build argument: NAME=VALUE."""
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value
