"""HAProxy's configuration: the person's file with servers filled in, ours beside it, HAProxy's own words."""

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from kirsch.cluster.balancer.haproxy import socket_address
from kirsch.cluster.balancer.plan import BalancerError

# The address of each server, by its backend and its name.
Servers = Mapping[tuple[str, str], tuple[str, int]]

# The last parts of `[ALERT]    (1234) : config : parsing [haproxy.cfg:3] : …`.
ALERT = re.compile(r"\[ALERT\]\s*(?:\(\d+\)|\S+)?\s*:\s*(.*)")

SECTION = re.compile(r"\s*(?:backend|listen)\s+(\S+)")
SOCKET_PATH = 97  # HAProxy's limit: it appends to the name while it binds


class Configuration:
    """Command line of HAProxy (`argv`), and the path of the stats `socket` that it makes.

    `folder` is private to this process (0700), with the files that are written for HAProxy. Raises
    BalancerError.
    """

    def __init__(self, file: Path, folder: Path) -> None:
        self.file = file
        self.socket = folder / "haproxy.sock"
        if len(str(self.socket)) > SOCKET_PATH:
            raise BalancerError(f"{folder}: is too long a path for a socket: set TMPDIR to a shorter one")
        self._generated = folder / "kirsch.cfg"
        self._filled = folder / "haproxy.cfg"

    def write(self) -> None:
        """Write our file: a second `global` section, which HAProxy adds to the person's."""
        self._write(self._generated, f"global\n    stats socket {self.socket} mode 600 level admin\n")

    def fill(self, servers: Servers, options: str) -> None:
        """From its next start on HAProxy has these servers before anybody is let in. Raises BalancerError."""
        try:
            text = self.file.read_text("utf-8", "surrogateescape")
        except OSError as error:
            raise BalancerError(f"{self.file}: {error.strerror}") from None
        self._write(self._filled, filled(text, servers, options))

    @property
    def argv(self) -> tuple[str, ...]:
        """-db: in the foreground, whatever the file says of daemon or master-worker."""
        return (haproxy(), "-db", "-f", str(self._filled), "-f", str(self._generated))

    def _write(self, path: Path, text: str) -> None:
        """Whole or not at all: HAProxy may be about to read it."""
        fresh = path.with_suffix(".new")
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(text.encode("utf-8", "surrogateescape"))
        fresh.rename(path)

    def check(self) -> None:
        """Let HAProxy read the files. Raises BalancerError with its alerts when it does not take them."""
        try:
            self.file.open().close()
        except OSError as error:
            raise BalancerError(f"{self.file}: {error.strerror}") from None
        # The person's own file: HAProxy's words have its name and lines.
        argv = (haproxy(), "-db", "-f", str(self.file), "-f", str(self._generated), "-c")
        result = subprocess.run(argv, capture_output=True, text=True, errors="replace", check=False)
        if result.returncode != 0:
            alerts = alerts_in(result.stderr.splitlines())
            raise BalancerError("\n".join([f"HAProxy cannot use {self.file}:", *alerts]))


def filled(text: str, servers: Servers, options: str) -> str:
    """A configuration with servers at the head of their backends (`backend` or `listen` sections). Pure."""
    lines = []
    for line in text.splitlines(keepends=True):
        lines.append(line if line.endswith("\n") else f"{line}\n")
        if section := SECTION.match(line):
            lines += [
                f"    server {name} {socket_address(address, port)} {options}".rstrip() + "\n"
                for (backend, name), (address, port) in servers.items()
                if backend == section[1]
            ]
    return "".join(lines)


def alerts_in(lines: list[str]) -> list[str]:
    """HAProxy's [ALERT] lines, indented, without level and process."""
    return ["  " + found[1] for line in lines if (found := ALERT.match(line))]


def haproxy() -> str:
    """Return HAProxy's path. Raises BalancerError when it is not installed."""
    # Debian has it in /usr/sbin, which is not on everybody's PATH.
    found = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin")
    if found is None:
        raise BalancerError("haproxy is not installed: apt-get install haproxy")
    return found
