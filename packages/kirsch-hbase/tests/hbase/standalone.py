"""A standalone HBase for tests: `kirsch hbase server` in a process of its own, killed and started again at
will."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from tests.deadline import eventually
from tests.port import free_port

# Maven may have to fetch its jars first.
PATIENCE = 300.0
RUN = "import sys; from kirsch.cli.main import main; sys.exit(main())"


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
