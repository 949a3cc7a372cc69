"""help and version."""

import argparse

from kirsch import __version__
from kirsch.cli.errors import Failure
from kirsch.cli.verbs import build, verbs_of


def help_(options: argparse.Namespace) -> int:
    """What there is to type, or one verb's page."""
    parser = build()
    if options.verb is None:
        parser.print_help()
        return 0
    if options.verb == "balancer":
        from kirsch.cluster.balancer import main as balancer

        return balancer(["--help"])
    verbs = verbs_of(parser)
    if options.verb not in verbs:
        raise Failure(f"there is no verb {options.verb}; there are {', '.join(verbs)}")
    verbs[options.verb][0].print_help()
    return 0


def version(options: argparse.Namespace) -> int:
    """Which kirsch this is."""
    print(f"kirsch {__version__}")
    return 0
