"""`kirsch balancer`: the main process of a unit that balances."""

import logging
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from signal import SIGUSR1

from cherrypy.process.plugins import SignalHandler
from cherrypy.process.wspbus import Bus

from kirsch.bus import Backoff, Command, ExitPlugin, ProcessPlugin
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
    """Yield the folder for HAProxy's socket: the unit's RuntimeDirectory=, which is cleared after a kill -9
    too, or a temporary one where there is none or its path is too long for a socket's (unix(7))."""
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
    bus = Bus()
    bus.subscribe("log", log)
    bus.subscribe("process-line", pass_on)
    # The main thread looks whether it is asked to exit: a signal that comes just before it waits, or while
    # another thread runs, would not wake it.
    signals = SignalHandler(bus)
    ask = ExitPlugin(bus, signals)
    ask.subscribe()
    signals.set_handler("SIGHUP", ask)
    failures: list[str] = []

    def fail(reason: str) -> None:
        failures.append(reason)
        ask()

    balancer = BalancerPlugin(
        bus,
        RuntimeAPI(str(configuration.socket)),
        backends,
        endpoints,
        unit=os.environ.get("KIRSCH_UNIT", ""),
        options=options,
        drain=drain,
        on_servers=lambda servers: configuration.fill(servers, options),
        on_ready=lambda: tell_service_manager("READY=1"),
        on_failed=fail,
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
    bus.subscribe("stop", lambda: tell_service_manager("STOPPING=1"), 0)
    bus.start()
    bus.block()
    if failures:
        raise BalancerError(failures[0])


def log(message: str, level: int) -> None:
    if level >= logging.WARNING:
        print(f"kirsch balancer: {message}", file=sys.stderr, flush=True)


def pass_on(name: str, stream: str, line: str) -> None:
    """Print HAProxy's lines as the unit's own."""
    print(line, file=sys.stdout if stream == "out" else sys.stderr, flush=True)


def tell_service_manager(message: str) -> None:
    """For Type=notify. NotifyPlugin would say READY with the bus's start, and that is too early here."""
    if address := os.environ.get("NOTIFY_SOCKET"):
        try:
            notify(address, message)
        except OSError as error:
            log(f"cannot notify {address}: {error.strerror}", logging.WARNING)
