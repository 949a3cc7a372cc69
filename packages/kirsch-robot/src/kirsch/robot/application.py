"""An application that a test runs: a copy of its folder, and the `kirsch` commands a person would type."""

import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from kirsch.cluster.api.client import Client
from kirsch.cluster.application import folder as folders
from kirsch.robot import processes
from kirsch.robot.output import Output
from kirsch.robot.units import UnitStates
from kirsch.unit import Options, UnitFile, UnitName

ADDRESS = "127.0.0.1"
FIRST = 20000
EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")


def published(units: Mapping[str, str]) -> tuple[int, ...]:
    """The ports of the machine that units' PublishPort= name, in order. `units` maps names to texts."""
    ports = [
        port.host
        for name, text in units.items()
        for port in Options.parse(UnitFile.parse(text, name), UnitName.parse(name)).published
    ]
    return tuple(dict.fromkeys(ports))


def replace_ports(text: str, ports: Mapping[int, int]) -> str:
    """A text in which each number that is one of `ports` is what that maps to.

    A number is one only as a whole: neither a part of a longer number, of a word nor of an address.
    """
    if not ports:
        return text
    numbers = "|".join(str(port) for port in ports)
    return re.sub(rf"(?<![\w.])(?:{numbers})(?!\w|\.\d)", lambda found: str(ports[int(found[0])]), text)


def free_port(taken: Collection[int] = ()) -> int:
    """A port that nobody listens on.

    Below those the kernel gives to clients: what stops and starts again must find its port free.
    """
    last = int(EPHEMERAL.read_text().split()[0]) - 1
    while True:
        port = random.randint(FIRST, max(FIRST + 1000, last))  # noqa: S311
        if port not in taken and is_free(port):
            return port


def is_free(port: int) -> bool:
    """Return True if nobody listens on a port of this computer."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((ADDRESS, port))
        except OSError:
            return False
    return True


Stop = Literal["Ctrl-C", "down"]

KIRSCH = (sys.executable, "-m", "kirsch.cli.main")
# It stops when we are killed (util-linux's setpriv(1), prctl(2) PR_SET_PDEATHSIG).
TETHERED = ("setpriv", "--pdeathsig", "TERM")
UP = r"Ctrl-C stops it\."
OPEN = r"^Open \S+$"
UP_AT = r"^\S+ is up: (\S+)$"
STOP_TIMEOUT = 60.0
GRACE = 5.0
# Beside unit files, what names ports: kirsch.toml, haproxy.cfg and their like.
SETTINGS = ("*.toml", "*.cfg")


class RunError(AssertionError):
    """An application did not do what it should; what it wrote is in the message."""


@dataclass
class Application:
    """A folder of its own for an application, and what runs there.

    `ports` maps the ports its files named to those they name now; `changes` are the lines that say so.
    """

    directory: Path
    ports: Mapping[int, int] = field(default_factory=dict)
    changes: tuple[str, ...] = ()
    address: str = ""
    output: Output | None = None
    states: UnitStates | None = None
    _up: subprocess.Popen[str] | None = None
    _dashboard: subprocess.Popen[str] | None = None
    _family: set[processes.Process] = field(default_factory=set)
    _elsewhere: set[Path] = field(default_factory=set)

    @classmethod
    def copy(cls, source: Path, *, free_ports: bool = False) -> "Application":
        """Copy an application to a temporary folder, without what it keeps.

        With `free_ports` every port it publishes becomes one that is free, in the texts of its units and
        settings. Raises ApplicationError when `source` is no application.
        """
        folders.load(source)
        place = Path(tempfile.mkdtemp(prefix="kirsch-robot-")) / source.resolve().name
        shutil.copytree(source, place, ignore=shutil.ignore_patterns(".kirsch", "__pycache__"))
        if not free_ports:
            return cls(place)
        read = folders.load(place)
        ports: dict[int, int] = {}
        for port in published(read.units):
            ports[port] = free_port(ports.values())
        files = [Path(path) for path in dict.fromkeys(read.files.values())]
        files += [path for pattern in SETTINGS for path in sorted(place.rglob(pattern))]
        return cls(place, ports, tuple(_change(files, ports, place)))

    @property
    def running(self) -> bool:
        """True while `kirsch up` runs."""
        return self._up is not None and self._up.poll() is None

    def start(self, timeout: float) -> str:
        """`kirsch up`; returns the address to open once all is ready. Raises RunError."""
        self._up = subprocess.Popen(
            [*TETHERED, *KIRSCH, "up", str(self.directory), "--timeout", f"{timeout:g}"],
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        assert self._up.stdout is not None
        self.output = Output(self._up.stdout)
        # `kirsch up` gives up by itself, and says why: that is to be heard.
        if not self.output.wait_for(UP, timeout + GRACE):
            said = str(self.output)
            self.stop("Ctrl-C")
            raise RunError(f"`kirsch up` was not ready within {timeout:g} s:\n{said}")
        found = re.search(UP_AT, str(self.output), re.MULTILINE)
        self.address = found[1] if found else ""
        self.states = UnitStates(Client(self.directory / ".kirsch" / "kirsch.sock"))
        return self.address

    def open_dashboard(self, timeout: float) -> str:
        """`kirsch dashboard`; returns its address, which works once. Raises RunError."""
        self.close_dashboard()
        self._dashboard = subprocess.Popen(
            [*TETHERED, *KIRSCH, "dashboard", "--no-browser"],
            cwd=self.directory,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        assert self._dashboard.stdout is not None
        output = Output(self._dashboard.stdout)
        found = output.wait_for(OPEN, timeout)
        if found is None:
            self.close_dashboard()
            raise RunError(f"`kirsch dashboard` has no address within {timeout:g} s:\n{output}")
        return found.what.split()[1]

    def close_dashboard(self) -> None:
        """End the dashboard, if there is one."""
        if self._dashboard is not None:
            self._dashboard.terminate()
            self._dashboard.wait(STOP_TIMEOUT)
            self._dashboard = None

    def stop(self, how: Stop = "Ctrl-C") -> None:
        """Stop it by Ctrl-C, or by `kirsch down`; nothing happens if it does not run. Raises RunError."""
        self.close_dashboard()
        if self._up is None or self.output is None:
            return
        self._family |= processes.descendants(self._up.pid)
        self._elsewhere |= self._data_elsewhere()
        if how == "down":
            self.kirsch("down", str(self.directory), timeout=STOP_TIMEOUT)
        elif self._up.poll() is None:
            self._up.send_signal(signal.SIGINT)
        try:
            status = self._up.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._up.kill()
            raise RunError(f"`kirsch up` did not end within {STOP_TIMEOUT:g} s:\n{self.output}") from None
        self.output.join(STOP_TIMEOUT)
        self._up = self.states = None
        if status:
            raise RunError(f"`kirsch up` ended with status {status}:\n{self.output}")

    def kirsch(self, *arguments: str, timeout: float, reads: str = "") -> "subprocess.CompletedProcess[str]":
        """A `kirsch` command, run in the application's folder; `reads` is what it finds on its input."""
        return subprocess.run(
            [*KIRSCH, *arguments],
            cwd=self.directory,
            env=self.environment(),
            input=reads,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def environment(self) -> Mapping[str, str]:
        """Ours, without what would lead `kirsch` to another cluster."""
        return {name: value for name, value in os.environ.items() if not name.startswith("KIRSCH_")}

    def unit_lines(self) -> dict[str, dict[str, Any]]:
        """Every unit that is on the machine, as `kirsch list-units --json` has it. Raises RunError."""
        result = self.kirsch("list-units", "--json", timeout=STOP_TIMEOUT)
        if result.returncode:
            raise RunError(result.stderr.strip())
        return {line["name"]: line for line in json.loads(result.stdout)}

    def left(self) -> set[processes.Process]:
        """The processes left of it: those it had when it was stopped, and any that name its folder."""
        return processes.survivors(self._family) | processes.of_folders(
            [self.directory, *self._elsewhere, *self._data_elsewhere()]
        )

    def remove(self) -> None:
        """Remove the copy and all that it kept."""
        for folder in self._data_elsewhere():
            shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(self.directory.parent, ignore_errors=True)

    def _data_elsewhere(self) -> set[Path]:
        """Return folders of data that PostgreSQL's account could not keep in the application's folder."""
        state = self.directory / ".kirsch" / "state"
        return {link.resolve() for link in state.rglob("*") if link.is_symlink() and link.resolve().is_dir()}


def _change(files: Iterable[Path], ports: Mapping[int, int], place: Path) -> Iterable[str]:
    """Write the new ports into files; a line for each that changed."""
    for path in files:
        before = path.read_text(encoding="utf-8")
        after = replace_ports(before, ports)
        if after == before:
            continue
        path.write_text(after, encoding="utf-8")
        for number, (old, new) in enumerate(zip(before.split("\n"), after.split("\n"), strict=True), 1):
            if old != new:
                yield f"{path.relative_to(place)}:{number}: {old.strip()} -> {new.strip()}"
