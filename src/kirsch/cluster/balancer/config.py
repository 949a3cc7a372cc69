"""HAProxy's configuration: the person's file, ours beside it, and HAProxy's own word on both."""

import os
import re
import shutil
import subprocess
from pathlib import Path

from kirsch.cluster.balancer.plan import BalancerError

# The last parts of `[ALERT]    (1234) : config : parsing [haproxy.cfg:3] : …`.
ALERT = re.compile(r"\[ALERT\]\s*(?:\(\d+\)|\S+)?\s*:\s*(.*)")

SOCKET_PATH = 97  # HAProxy's limit: it appends to the name while it binds


class Configuration:
    """How HAProxy is started: its `argv`, and the path of the stats `socket` that it makes.

    `folder` is private to this process (0700); what is written there goes with it. Raises BalancerError.
    """

    def __init__(self, file: Path, folder: Path) -> None:
        self.file = file
        self.socket = folder / "haproxy.sock"
        if len(str(self.socket)) > SOCKET_PATH:
            raise BalancerError(f"{folder}: is too long a path for a socket: set TMPDIR to a shorter one")
        self._generated = folder / "kirsch.cfg"

    def write(self) -> None:
        """Write our file: a second `global` section, which HAProxy adds to the person's."""
        with open(self._generated, "w", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            file.write(f"global\n    stats socket {self.socket} mode 600 level admin\n")

    @property
    def argv(self) -> tuple[str, ...]:
        """-db: in the foreground, whatever the file says of daemon or master-worker."""
        return (haproxy(), "-db", "-f", str(self.file), "-f", str(self._generated))

    def check(self) -> None:
        """Let HAProxy read the files. Raises BalancerError with its alerts when it does not take them."""
        try:
            self.file.open().close()
        except OSError as error:
            raise BalancerError(f"{self.file}: {error.strerror}") from None
        result = subprocess.run(
            (*self.argv, "-c"), capture_output=True, text=True, errors="replace", check=False
        )
        if result.returncode != 0:
            alerts = alerts_in(result.stderr.splitlines())
            raise BalancerError("\n".join([f"HAProxy cannot use {self.file}:", *alerts]))


def alerts_in(lines: list[str]) -> list[str]:
    """HAProxy's [ALERT] lines, indented, without level and process."""
    return ["  " + found[1] for line in lines if (found := ALERT.match(line))]


def haproxy() -> str:
    """Where HAProxy is. Raises BalancerError when it is not installed."""
    # Debian has it in /usr/sbin, which is not on everybody's PATH.
    found = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin")
    if found is None:
        raise BalancerError("haproxy is not installed: apt-get install haproxy")
    return found
