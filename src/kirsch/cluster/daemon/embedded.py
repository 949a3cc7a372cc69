"""kirschd for an application's folder (`kirsch up`): SQLite and processes, all in one place."""

import os
import socket
import uuid
from pathlib import Path

from kirsch.cluster.daemon.plugins import DaemonError, Setup
from kirsch.cluster.model import Machine
from kirsch.cluster.node.node import LAST, Node
from kirsch.cluster.registry.sqlite import SQLiteRegistry
from kirsch.cluster.runtime.host import default_path
from kirsch.cluster.runtime.journal import Journal
from kirsch.cluster.runtime.process.runtime import ProcessRuntime
from kirsch.cluster.secrets import FileSecrets

# unix(7): sun_path has 108 bytes, the last of them a NUL.
MAX_SOCKET_PATH = 107


def setup(directory: Path, state: Path) -> Setup:
    """Set up a kirschd whose units run in `directory`, with registry, journal and sockets in `state`. Raises
    DaemonError."""
    endpoints = state / "endpoints.sock"
    if len(os.fsencode(endpoints)) > MAX_SOCKET_PATH:
        raise DaemonError(
            f"{directory}: the folder's path is too long for sockets in it; move it to a shorter one"
        )

    async def make() -> Node:
        registry = await SQLiteRegistry.open(state / "registry.db")
        (state / LAST).unlink(missing_ok=True)  # a kirschd that is killed leaves none
        journal = Journal(state / "journal")
        runtime = ProcessRuntime(state, journal, directory=directory, path=default_path(directory))
        secrets = FileSecrets(state / "secrets")
        machine = local_machine(state)
        return Node(registry, runtime, journal, machine, lambda *store: secrets, endpoints, last=state / LAST)

    return Setup(make, state / "kirsch.sock")


def local_machine(state: Path) -> Machine:
    """Return this machine, under an id that is kept in the state folder."""
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
