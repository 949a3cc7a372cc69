"""ws: a client of WebSockets."""

import argparse

from kirsch.cli.errors import Failure


def ws(options: argparse.Namespace) -> int:
    """Talk to a WebSocket."""
    raise Failure("kirsch ws URL is not there yet")
