"""serve: any WSGI application on the bus."""

import math
import sys
from pathlib import Path

import click

from kirsch.cli.verb import Options, argument, option, verb


def _seconds(text: str) -> float:
    """Parse a time, finite and not below zero."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise ValueError(f"{text!r} is not a number of seconds")
    return number


@verb(
    "serve",
    argument("application", "MODULE:APP", "a WSGI application; MODULE:MAKE() calls what makes one"),
    option("--host", metavar="ADDRESS", help="the address to listen on ($KIRSCH_ADDRESS, or 127.0.0.1)"),
    option("--port", metavar="PORT", type=click.IntRange(0, 65535), help="the port ($PORT, or 8080)"),
    option("--unix", metavar="PATH", help="a Unix socket of mode 0600 in place of address and port"),
    option(
        "--threads", metavar="N", type=click.IntRange(1, 1000), default=20, help="requests at a time (20)"
    ),
    option(
        "--drain",
        metavar="SECONDS",
        type=_seconds,
        default=2.0,
        help="between SIGTERM, when /readyz turns 503, and the end of service (2)",
    ),
    option(
        "--log", metavar="FORMAT", type=click.Choice(["text", "json"]), default="text", help="text or json"
    ),
    title="kirsch serve",
    text="A request has a thread once it is complete, so slow clients keep nobody waiting. /healthz, "
    "/readyz and /metrics are answered for the application. Bodies may have 10 MiB.",
    example="kirsch serve shop.wsgi:application --port 8000",
)
def serve(options: Options) -> int:
    """Serve a WSGI application until SIGTERM."""
    import os

    from kirsch.bus import ServerError
    from kirsch.bus import serve as server
    from kirsch.web import SettingsError, port_of

    try:
        application = server.load(options.application, Path.cwd())
        port = options.port
        if port is None:
            port = port_of("PORT", os.environ.get("PORT") or "8080")
        server.serve(
            application,
            host=options.host or os.environ.get("KIRSCH_ADDRESS") or "127.0.0.1",
            port=port,
            path=options.unix,
            threads=options.threads,
            drain=options.drain,
            log=options.log,
        )
    except (server.LoadError, ServerError, SettingsError) as error:
        print(f"kirsch serve: {error}", file=sys.stderr)
        return 1
    return 0
