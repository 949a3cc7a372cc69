"""help and version."""

import argparse
from importlib import metadata

from kirsch.cli.errors import Failure, Misuse
from kirsch.cli.verbs import build, half, listed, unknown, verbs_of


def help_(options: argparse.Namespace) -> int:
    """What there is to type, or one verb's page."""
    parser = build()
    verb = " ".join(options.verb)
    if not verb:
        parser.print_help()
        return 0
    if verb == "balancer":
        from kirsch.cluster.balancer.command import main as balancer

        return balancer(["--help"])
    verbs = verbs_of(parser)
    if half([verb], verbs):
        print(listed(verb, verbs), end="")
        return 0
    if verb not in verbs:
        raise Failure(f"{unknown([verb], verbs)} (see kirsch --help)")
    verbs[verb][0].print_help()
    return 0


def balancer(options: argparse.Namespace) -> int:
    """It is a program with options of its own, which come after its name."""
    raise Misuse("balancer comes first, for its options are its own: kirsch balancer --help")


def version(options: argparse.Namespace) -> int:
    """Which kirsch this is."""
    print(f"kirsch {metadata.version('kirsch')}")
    return 0
