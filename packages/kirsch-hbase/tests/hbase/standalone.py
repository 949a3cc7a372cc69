"""Standalone HBase servers for tests: `kirsch hbase server` as a process, and one that all of a run share.

As a program it is the guardian of the shared server: it kills the server when the run's process has ended.
"""

import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.deadline import eventually
from tests.port import free_port

# Maven may have to fetch its jars first.
PATIENCE = 300.0
RUN = "import sys; from kirsch.cli.main import main; sys.exit(main())"

# Access control, groups, memory of slow requests, and two region servers, so that regions can move. There are
# no visibility labels: with them HBase treats deletes in another way.
OPTIONS = (
    "--access",
    "--groups",
    "--set=hbase.regionserver.slowlog.buffer.enabled=true",
    "--set=hbase.ipc.warn.response.time=1",
    "--set=hbase.ipc.warn.response.size=100",
    "--set=hbase.master.balancer.decision.buffer.enabled=true",
    "--set=hbase.master.balancer.rejection.buffer.enabled=true",
    "--set=hbase.regionservers=2",
    "--set=hbase.regionserver.port=0",
    # How often they report to the master: it costs a server that has nothing to do most of its time.
    "--set=hbase.regionserver.msginterval=1000",
    # The balancer spreads its moves over five minutes; and it looks a second for plans where a moment does.
    "--set=hbase.balancer.max.balancing=1000",
    "--set=hbase.master.balancer.stochastic.maxSteps=1000",
    # A busy machine must not look dead.
    "--set=zookeeper.session.timeout=120000",
    "--set=hbase.zookeeper.property.tickTime=6000",
)


class Standalone:
    """Its data stays in `folder` when it is killed; `lines` is what it has said."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.options = options
        self.port = free_port()
        self.lines: list[str] = []
        self.process: subprocess.Popen[str] | None = None

    @property
    def quorum(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> "Standalone":
        words = ["hbase", "server", f"--directory={self.folder}", f"--port={self.port}", *self.options]
        self.process = subprocess.Popen(
            [sys.executable, "-c", RUN, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        begun = len(self.lines)
        threading.Thread(target=self._read, args=(self.process,), daemon=True).start()
        eventually(lambda: self._up(begun), PATIENCE, f"HBase on port {self.port}")
        return self

    def _up(self, begun: int) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, "HBase ended:\n" + "\n".join(self.lines[-20:])
        return any(line.startswith("HBase is up") for line in self.lines[begun:])

    def _read(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self.lines.append(line.rstrip())

    def java(self) -> int:
        """The server's own process: a child of the shim, which is a child of ours."""
        assert self.process is not None
        found = [self.process.pid]
        for _ in range(2):
            found = [int(pid) for parent in found for pid in children(parent)]
        return found[0]

    def kill(self) -> None:
        """SIGKILL to HBase itself, when it is there; what ran it ends too."""
        assert self.process is not None
        if self.process.poll() is None:
            os.kill(self.java(), signal.SIGKILL)
        self.process.wait(60)

    def stop(self) -> int:
        """As a person would: SIGTERM; its exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


def children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


class Shared:
    """The server of a test run, started by the first process that asks for it."""

    def __init__(self, folder: Path) -> None:
        """`folder` is the same for all processes of the run."""
        worker = "PYTEST_XDIST_WORKER" in os.environ
        self.folder = folder
        self._told = folder / "told.json"
        with self.lock("start"):
            if not self._told.exists():
                owner = os.getppid() if worker else os.getpid()
                paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
                subprocess.Popen(
                    [sys.executable, "-m", "tests.hbase.standalone", str(owner), str(folder)],
                    stdin=subprocess.DEVNULL,
                    env={**os.environ, "PYTHONPATH": paths},
                    start_new_session=True,
                )
                eventually(self._told.exists, PATIENCE, "the shared HBase")
        told = json.loads(self._told.read_text())
        assert "port" in told, told
        self.port: int = told["port"]
        self.lines: list[str] = told["lines"]
        self.quorum = f"127.0.0.1:{self.port}"

    @contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Keep other processes of the run from what changes the whole cluster."""
        with (self.folder / f"{name}.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def guard(owner: int, folder: Path) -> None:
    """Start the shared server, and kill it when the process `owner` has ended."""
    ended = os.pidfd_open(owner)
    server = Standalone(folder / "server", *OPTIONS)
    told: dict[str, object] = {}
    try:
        server.start()
        told = {"port": server.port, "lines": server.lines}
    except BaseException as error:
        told = {"failed": str(error), "lines": server.lines[-20:]}
        raise
    finally:
        (folder / "told").write_text(json.dumps(told))
        (folder / "told").rename(folder / "told.json")
    select.select([ended], [], [])
    server.kill()


if __name__ == "__main__":
    guard(int(sys.argv[1]), Path(sys.argv[2]))
