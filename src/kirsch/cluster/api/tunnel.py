"""To a machine's Unix socket through ssh (ssh(1), -L): for who may log in there, and has no certificate."""

import atexit
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from kirsch.cluster.api.transport import Unix, Unreachable

FAR = "/run/kirsch/kirsch.sock"
# Says that the way is open, and ends when we do: its input is ours.
THERE = "echo open; exec cat"
LOGIN_TIMEOUT = 10


def command(host: str, near: Path, config: Path | None) -> list[str]:
    """Return ssh's command that opens the tunnel. Pure."""
    options = ["-o", "ExitOnForwardFailure=yes", "-o", f"ConnectTimeout={LOGIN_TIMEOUT}", "-T"]
    files = ["-F", str(config)] if config else []
    return ["ssh", *files, *options, "-L", f"{near}:{FAR}", "--", host, THERE]


@dataclass
class Tunnel:
    """A machine's socket; ssh runs from the first connection on, and as long as this process.

    `config` is ssh's configuration file, its own if None.
    """

    far: str
    config: Path | None = None
    host: str = "localhost"
    several: bool = False
    _near: Unix | None = field(default=None, init=False)

    def connections(self) -> Iterator[socket.socket]:
        """Open one tunnel. Raises Unreachable."""
        return self._opened().connections()

    def answered(self, connection: socket.socket) -> None:
        """Do nothing: there is one place only."""

    def stream_urls(self, target: str) -> Iterator[str]:
        """Yield ws+unix://PATH:TARGET of this side of the tunnel. Raises Unreachable."""
        return self._opened().stream_urls(target)

    def context(self) -> None:
        """Return no context: ssh protects the connection."""

    def __str__(self) -> str:
        return f"{self.far}'s {FAR}, by ssh"

    def _opened(self) -> Unix:
        if self._near is None:
            self._near = self._open()
        return self._near

    def _open(self) -> Unix:
        folder = tempfile.TemporaryDirectory(prefix="kirsch-")
        atexit.register(folder.cleanup)
        near = Path(folder.name) / "kirsch.sock"
        try:
            ssh = subprocess.Popen(
                command(self.far, near, self.config), stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
        except OSError as error:
            raise Unreachable(f"cannot run ssh: {error.strerror}") from None
        atexit.register(_end, ssh)
        assert ssh.stdout is not None
        if ssh.stdout.readline() != b"open\n":
            raise Unreachable(f"{self.far} cannot be reached by ssh (its words are above)")
        return Unix(near)


def _end(ssh: "subprocess.Popen[bytes]") -> None:
    ssh.terminate()
    ssh.wait()
