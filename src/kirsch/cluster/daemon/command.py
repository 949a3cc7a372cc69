"""Command line of kirschd, and the bus that it runs."""

import argparse
import asyncio
import concurrent.futures
import json
import logging
import socket
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import cherrypy

from kirsch.bus import (
    AsyncioPlugin,
    ExitPlugin,
    Limits,
    NotifyPlugin,
    ServerError,
    configure_logging,
    http_server,
)
from kirsch.cluster.api.guard import Guard
from kirsch.cluster.daemon.plugins import ApiPlugin, DaemonError, NodePlugin, Setup
from kirsch.cluster.node.settings import Settings, SettingsError
from kirsch.cluster.registry import RegistryError
from kirsch.websocket.cherrypy import WebSocketPlugin

log = logging.getLogger(__name__)


class Parent:
    """Process that started this kirschd, at the other end of a socket; none if `fd` is None."""

    def __init__(self, fd: int | None) -> None:
        self.socket = socket.socket(fileno=fd) if fd is not None else None
        if self.socket:
            self.socket.set_inheritable(False)

    def tell(self, **message: object) -> None:
        """Say that we are ready, or why not."""
        if self.socket:
            try:
                self.socket.sendall(json.dumps(message).encode() + b"\n")
            except OSError:
                log.warning("whoever started kirschd is gone already")

    def when_gone(self, act: Callable[[], object]) -> None:
        """Act once the other end closes, also by kill -9."""

        def wait() -> None:
            if self.socket:
                self.socket.recv(1)
                log.info("whoever started kirschd is gone")
                act()

        threading.Thread(target=wait, name="parent", daemon=True).start()


# The API has lower limits for bodies, and says so in its own words.
LIMITS = Limits(threads=12, body=16 << 20)
STREAM_THREADS = 4
# Seconds in which the event loop is to answer; one that does not is no sign of life for the watchdog.
PULSE = 5.0


def parser() -> argparse.ArgumentParser:
    """Return kirschd's command line."""
    found = argparse.ArgumentParser(prog="kirschd", description="Run units on this machine.")
    found.add_argument("--config", type=Path, metavar="FILE", help="a machine of a cluster: its settings")
    found.add_argument(
        "--directory", type=Path, metavar="DIR", help="an application's folder: where units run"
    )
    found.add_argument(
        "--state", type=Path, metavar="DIR", help="and where its registry, journal and sockets lie"
    )
    found.add_argument(
        "--parent", type=int, metavar="FD", help="a socket: told when ready, stop when it closes"
    )
    found.add_argument("--attached", action="store_true", help="stop when the parent's socket closes")
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Run kirschd until its bus exits; the exit status."""
    arguments = parser()
    options = arguments.parse_args(argv)
    folders = (options.directory, options.state)
    if (options.config is None) == (None in folders) or (options.config and any(folders)):
        arguments.error("give --config FILE, or --directory and --state")
    parent = Parent(options.parent)
    configure_logging()
    try:
        run(_setup(options), parent, attached=options.attached)
    except (DaemonError, SettingsError, RegistryError, ServerError, OSError) as error:
        parent.tell(error=str(error))
        log.error("%s", error)
        return 1
    return 0


def _setup(options: argparse.Namespace) -> Setup:
    if options.config is not None:
        from kirsch.cluster.daemon import machine

        return machine.setup(Settings.read(options.config))
    from kirsch.cluster.daemon import embedded

    return embedded.setup(options.directory.resolve(), options.state.resolve())


def run(setup: Setup, parent: Parent, *, attached: bool) -> None:
    """Build the bus, start it, and block until it exits."""
    bus = cherrypy.engine
    loop = AsyncioPlugin(bus)
    leave = ExitPlugin(bus)
    notify = NotifyPlugin(bus, lambda: beats(loop), held=setup.member)
    node = NodePlugin(bus, loop, setup, notify, leave)
    api = ApiPlugin(bus, loop, node, setup, leave)
    for plugin in (loop, node, api, notify, WebSocketPlugin(bus, STREAM_THREADS)):
        plugin.subscribe()
    app = Guard(cherrypy.tree, node.current, setup.audit) if setup.audit is not None else None
    servers = [http_server(bus, app, path=str(setup.socket), limits=LIMITS)]
    if setup.listen is not None:
        host, port = setup.listen
        servers.append(http_server(bus, app, host=host, port=port, limits=LIMITS, tls=setup.tls))
    cherrypy.server.unsubscribe()
    cherrypy.config.update({"engine.autoreload.on": False, "checker.on": False})
    leave.subscribe()
    # A terminal that closes is not a reason to restart.
    bus.signal_handler.handlers["SIGHUP"] = None
    bus.signal_handler.subscribe()
    try:
        # What a person can have caused is found here, where it is one line and not a bus that fails.
        loop.start()
        for server in servers:
            server.bind()
        node.start()
    except BaseException:
        node.stop()
        loop.stop()
        for server in servers:
            server.stop()
        raise
    if attached:
        parent.when_gone(leave)
    bus.start()
    parent.tell(ready=True)
    bus.block()
    if node.failure is not None:
        raise node.failure


def beats(loop: AsyncioPlugin, within: float = PULSE) -> bool:
    """Return True while the event loop runs. The node's parts need no check: when one ends, kirschd ends."""
    try:
        loop.run(asyncio.sleep(0), within)
    except (TimeoutError, RuntimeError, concurrent.futures.CancelledError):
        return False
    return True
