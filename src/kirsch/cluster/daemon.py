"""kirschd: a CherryPy process whose bus carries one machine of a cluster: the embedded one of `kirsch up`."""

import argparse
import json
import logging
import os
import socket
import sys
import threading
import uuid
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
from kirsch.cluster.journal import Journal
from kirsch.cluster.model import Machine
from kirsch.cluster.node import Node
from kirsch.cluster.plugins import ApiPlugin, NodePlugin
from kirsch.cluster.registry import RegistryError
from kirsch.cluster.registry.sqlite import SQLiteRegistry
from kirsch.cluster.runtime.process import ProcessRuntime
from kirsch.cluster.secrets import Secrets

log = logging.getLogger(__name__)

# A journal or an event stream holds a thread as long as it is read.
THREADS = 50
# unix(7): sun_path has 108 bytes, the last of them a NUL.
MAX_SOCKET_PATH = 107
# No limit of the server's: the API has its own, and says so in its own words.
BODY = 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run kirschd until its bus exits; the exit status."""
    parser = argparse.ArgumentParser(prog="kirschd", description="Run units on this machine.")
    parser.add_argument("--directory", type=Path, required=True, help="where units run")
    parser.add_argument("--state", type=Path, required=True, help="where registry, journal and sockets lie")
    parser.add_argument(
        "--parent", type=int, metavar="FD", help="a socket: told when ready, stop when it closes"
    )
    parser.add_argument("--attached", action="store_true", help="stop when the parent's socket closes")
    options = parser.parse_args(argv)
    parent = Parent(options.parent)
    configure_logging()
    try:
        run(options.directory.resolve(), options.state.resolve(), parent, attached=options.attached)
    except (DaemonError, RegistryError, ServerError, OSError) as error:
        parent.tell(error=str(error))
        log.error("%s", error)
        return 1
    return 0


class DaemonError(Exception):
    """Why kirschd cannot run here: one line."""


def run(directory: Path, state: Path, parent: "Parent", *, attached: bool) -> None:
    """Build the bus, start it, and block until it exits."""
    endpoints = state / "endpoints.sock"
    if len(os.fsencode(endpoints)) > MAX_SOCKET_PATH:
        raise DaemonError(
            f"{directory}: the folder's path is too long for sockets in it; move it to a shorter one"
        )
    bus = cherrypy.engine
    loop = AsyncioPlugin(bus)

    async def make() -> Node:
        registry = await SQLiteRegistry.open(state / "registry.db")
        journal = Journal(state / "journal")
        runtime = ProcessRuntime(state, journal, directory=directory)
        secrets = Secrets(state / "secrets")
        return Node(registry, runtime, journal, local_machine(state), secrets, endpoints)

    leave = ExitPlugin(bus)
    node = NodePlugin(bus, loop, make, leave)
    api = ApiPlugin(bus, loop, node, leave)
    for plugin in (loop, node, api, NotifyPlugin(bus)):
        plugin.subscribe()
    server = http_server(bus, path=str(state / "kirsch.sock"), limits=Limits(threads=THREADS, body=BODY))
    cherrypy.server.unsubscribe()
    cherrypy.config.update({"engine.autoreload.on": False, "checker.on": False})
    leave.subscribe()
    # A terminal that closes is not a reason to restart.
    bus.signal_handler.handlers["SIGHUP"] = None
    bus.signal_handler.subscribe()
    try:
        # What a person can have caused is found here, where it is one line and not a bus that fails.
        loop.start()
        server.bind()
        node.start()
    except BaseException:
        node.stop()
        loop.stop()
        server.stop()
        raise
    if attached:
        parent.when_gone(leave)
    bus.start()
    parent.tell(ready=True)
    bus.block()


def local_machine(state: Path) -> Machine:
    """This machine, under an id that is kept in the state folder."""
    path = state / "machine-id"
    if not path.exists():
        path.write_text(uuid.uuid4().hex + "\n")
    return Machine(
        id=path.read_text().strip(),
        address="127.0.0.1",
        metadata={"hostname": socket.gethostname()},
        runs=("service", "container"),
        cpu=float(os.cpu_count() or 1),
        memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        runtime="process",
    )


class Parent:
    """Whoever started this kirschd, at the other end of a socket; nobody if `fd` is None."""

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


if __name__ == "__main__":
    sys.exit(main())
