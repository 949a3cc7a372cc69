"""balancer: the main process of a unit that balances."""

import math
import os
import sys
from pathlib import Path

import click

from kirsch.cli.verb import Options, option, verb
from kirsch.cluster.balancer.command import balance
from kirsch.cluster.balancer.plan import DRAIN_SECONDS, SERVER_OPTIONS, Backend, BalancerError


def _seconds(text: str) -> float:
    """Parse a time, finite and not below zero."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise ValueError(f"{text!r} is not a number of seconds")
    return number


def _backend(text: str) -> Backend:
    """Parse BACKEND=SERVICE[/ROLE]:PORT, its errors as wrong usage."""
    try:
        return Backend.parse(text)
    except BalancerError as error:
        raise ValueError(str(error)) from None


@verb(
    "balancer",
    option(
        "--config",
        metavar="FILE",
        type=click.Path(path_type=Path),
        required=True,
        help="HAProxy's configuration",
    ),
    option(
        "--backend",
        metavar="BACKEND=SERVICE[/ROLE]:PORT",
        type=_backend,
        repeat=True,
        help="a backend, and the service whose ready endpoints are its servers; may be repeated. Without "
        "any HAProxy runs with the servers that its configuration has, by variables of links say",
    ),
    option(
        "--endpoints",
        metavar="SOCKET",
        default=os.environ.get("KIRSCH_ENDPOINTS"),
        help="where endpoints are read from ($KIRSCH_ENDPOINTS)",
    ),
    option(
        "--server-options",
        metavar="OPTIONS",
        default=SERVER_OPTIONS,
        help=f"what HAProxy's server lines say after the address ({SERVER_OPTIONS})",
    ),
    option(
        "--drain",
        metavar="SECONDS",
        type=_seconds,
        default=DRAIN_SECONDS,
        help=f"how long requests may last on a server that goes ({DRAIN_SECONDS:g})",
    ),
    title="kirsch balancer",
    text="It is the main process of a unit, and keeps HAProxy's servers current.",
    example="kirsch balancer --config haproxy.cfg --backend notes=notes:8080",
)
def balancer(options: Options) -> int:
    """Run HAProxy until SIGTERM."""
    try:
        if options.backend and not options.endpoints:
            raise BalancerError(
                "KIRSCH_ENDPOINTS is not set: the unit needs Endpoints=yes in [X-Kirsch]; or give --endpoints"
            )
        balance(
            options.config,
            options.backend,
            options.endpoints or "",
            options=options.server_options,
            drain=options.drain,
        )
    except BalancerError as error:
        print(f"kirsch balancer: {error}", file=sys.stderr)
        return 1
    return 0
