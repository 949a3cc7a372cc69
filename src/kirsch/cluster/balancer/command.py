"""`kirsch balancer`: the main process of a unit that balances."""

import argparse
import logging
import math
import os
import queue
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from signal import SIGUSR1
from typing import NoReturn

from cherrypy.process.plugins import SignalHandler
from cherrypy.process.wspbus import Bus

from kirsch.bus import Backoff, Command, ProcessPlugin
from kirsch.bus.notify import notify
from kirsch.cluster.balancer.config import Configuration
from kirsch.cluster.balancer.haproxy import RuntimeAPI
from kirsch.cluster.balancer.plan import DRAIN_SECONDS, SERVER_OPTIONS, Backend, BalancerError
from kirsch.cluster.balancer.plugin import PROCESS, BalancerPlugin

MAX_FOLDER = 80  # bytes; a socket's path has 107
FIRST = 3.0  # seconds that the first endpoints have to come before HAProxy is started all the same
GRACE = 8.0  # seconds that requests in flight have when HAProxy is stopped


def balance(
    config: Path,
    backends: Sequence[Backend],
    endpoints: str,
    *,
    options: str = SERVER_OPTIONS,
    drain: float = DRAIN_SECONDS,
    grace: float = GRACE,
) -> None:
    """Run HAProxy with `config` until SIGTERM; the servers of `backends` are those of the `endpoints` socket,
    which nobody reads where there are no backends.

    Raises BalancerError when HAProxy is not installed, does not take its configuration, or cannot go on.
    """
    with private_folder() as folder:
        configuration = Configuration(config, folder)
        configuration.write()
        configuration.check()
        run(configuration, backends, endpoints, options, drain, grace)


@contextmanager
def private_folder() -> Iterator[Path]:
    """Where HAProxy's socket lies: the unit's RuntimeDirectory=, which is cleared after a kill -9 too.

    A folder of its own where there is none, or where its path leaves no room for a socket's (unix(7)).
    """
    runtime = os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    if runtime and len(os.fsencode(runtime)) <= MAX_FOLDER:
        Path(runtime).chmod(0o700)
        yield Path(runtime)
    else:
        with tempfile.TemporaryDirectory(prefix="kirsch-balancer-") as folder:
            yield Path(folder)


def run(
    configuration: Configuration,
    backends: Sequence[Backend],
    endpoints: str,
    options: str,
    drain: float,
    grace: float,
) -> None:
    # A SimpleQueue may be put to from a signal handler. None: asked to stop; a text: why it cannot go on.
    ends: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    bus = Bus()
    bus.subscribe("log", log)
    bus.subscribe("process-line", pass_on)
    signals = SignalHandler(bus)
    signals.handlers = dict.fromkeys(("SIGTERM", "SIGINT", "SIGHUP"), lambda: ends.put(None))
    signals.subscribe()
    balancer = BalancerPlugin(
        bus,
        RuntimeAPI(str(configuration.socket)),
        backends,
        endpoints,
        options=options,
        drain=drain,
        on_servers=lambda servers: configuration.fill(servers, options),
        on_ready=lambda: tell_service_manager("READY=1"),
        on_failed=ends.put,
    )
    # Nobody is to be let in before there is a server to answer; but if nobody knows of any, so be it.
    balancer.follow(FIRST)
    ProcessPlugin(
        bus,
        PROCESS,
        Command(configuration.argv),
        restart="always",
        backoff=Backoff(first=0.0, factor=1.0, most=0.0),
        grace=grace,
        stop_signal=SIGUSR1,
        reload_signal=None,
    ).subscribe()
    balancer.subscribe()
    bus.start()
    failure = ends.get()
    tell_service_manager("STOPPING=1")
    bus.exit()
    if failure is not None:
        raise BalancerError(failure)


def log(message: str, level: int) -> None:
    if level >= logging.WARNING:
        print(f"kirsch balancer: {message}", file=sys.stderr, flush=True)


def pass_on(name: str, stream: str, line: str) -> None:
    """HAProxy's lines are the unit's."""
    print(line, file=sys.stdout if stream == "out" else sys.stderr, flush=True)


def tell_service_manager(message: str) -> None:
    """For Type=notify. NotifyPlugin would say READY with the bus's start, and that is too early here."""
    if address := os.environ.get("NOTIFY_SOCKET"):
        try:
            notify(address, message)
        except OSError as error:
            log(f"cannot notify {address}: {error.strerror}", logging.WARNING)


class Parser(argparse.ArgumentParser):
    """argparse, with an error of one line that says where help is."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def command_line() -> argparse.ArgumentParser:
    """What can be given to it."""
    parser = Parser(
        prog="kirsch balancer",
        description="Run HAProxy and keep its servers those of the cluster's services.",
    )
    parser.add_argument("--config", required=True, type=Path, metavar="FILE", help="HAProxy's configuration")
    parser.add_argument(
        "--backend",
        default=[],
        action="append",
        type=usage(Backend.parse),
        metavar="BACKEND=SERVICE:PORT",
        help="a backend, and the service whose ready endpoints are its servers; may be repeated. Without any "
        "HAProxy runs with the servers that its configuration has, by variables of links say",
    )
    parser.add_argument(
        "--endpoints",
        default=os.environ.get("KIRSCH_ENDPOINTS"),
        metavar="SOCKET",
        help="where endpoints are read from ($KIRSCH_ENDPOINTS)",
    )
    parser.add_argument(
        "--server-options",
        default=SERVER_OPTIONS,
        metavar="OPTIONS",
        help=f"what HAProxy's server lines say after the address ({SERVER_OPTIONS})",
    )
    parser.add_argument(
        "--drain",
        default=DRAIN_SECONDS,
        type=seconds,
        metavar="SECONDS",
        help=f"how long requests may last on a server that goes ({DRAIN_SECONDS:g})",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 stopped, 1 could not. Wrong usage exits with 2, as argparse does."""
    arguments = command_line().parse_args(argv)
    try:
        if arguments.backend and not arguments.endpoints:
            raise BalancerError(
                "KIRSCH_ENDPOINTS is not set: the unit needs Endpoints=yes in [X-Kirsch]; or give --endpoints"
            )
        balance(
            arguments.config,
            arguments.backend,
            arguments.endpoints or "",
            options=arguments.server_options,
            drain=arguments.drain,
        )
    except BalancerError as error:
        print(f"kirsch balancer: {error}", file=sys.stderr)
        return 1
    return 0


def seconds(text: str) -> float:
    """A time, finite and not below zero."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return number


def usage(parse: Callable[[str], Backend]) -> Callable[[str], Backend]:
    """`parse` with its errors as wrong usage, in its own words."""

    def checked(text: str) -> Backend:
        try:
            return parse(text)
        except BalancerError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return checked
