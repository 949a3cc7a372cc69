"""A cluster of real machines under trial: its verbs, its machines' shells, its events, faults to order."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kirsch.cluster.api.client import Client
from kirsch.cluster.provision.endpoint import Where, transport_to
from kirsch.cluster.provision.record import ClusterRecord, MachineRecord

KIRSCH = str(Path(sys.executable).with_name("kirsch"))
# Seconds in which what must come about has to, on machines of any load.
PATIENCE = 120.0

Line = Mapping[str, Any]
# Every unit's line by its name; units that are not Global.
Lines = dict[str, Line]


@dataclass(frozen=True)
class Outcome:
    """What a verb did."""

    status: int
    out: str
    err: str


@dataclass(frozen=True)
class Running:
    """A unit that a machine's systemd runs: which run of it this is, and how often it was restarted."""

    invocation: str
    restarts: str


class Trial:
    """Three machines, and whoever uses them."""

    def __init__(self, record: ClusterRecord, folder: Path) -> None:
        self.record = record
        self.folder = folder
        self.began = time.time()
        self.client = Client(transport_to(Where(cluster=record.name)))

    @property
    def machines(self) -> Sequence[MachineRecord]:
        """All of them."""
        return self.record.machines

    def kirsch(self, *arguments: str, check: bool = True) -> Outcome:
        """A verb, as a person types it."""
        done = subprocess.run(
            [KIRSCH, "--cluster", self.record.name, *arguments],
            capture_output=True, text=True, timeout=PATIENCE, cwd=self.folder,
        )  # fmt: skip
        assert "Traceback" not in done.stderr, done.stderr
        assert not check or done.returncode == 0, f"kirsch {' '.join(arguments)}: {done.stderr}{done.stdout}"
        return Outcome(done.returncode, done.stdout, done.stderr)

    def started(self, name: str) -> "subprocess.Popen[str]":
        """A verb that goes on while other things happen: `kirsch start NAME`, without waiting for its end."""
        return subprocess.Popen(
            [KIRSCH, "--cluster", self.record.name, "start", name],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=self.folder,
        )  # fmt: skip

    def write(self, name: str, text: str) -> str:
        """A unit file in our folder; its path."""
        path = self.folder / name
        path.write_text(text)
        return str(path)

    def submit(self, name: str, text: str) -> None:
        """Have a unit known."""
        self.kirsch("submit", self.write(name, text))

    def shell(self, machine: MachineRecord, script: str, check: bool = True) -> str:
        """What a script prints on a machine, whatever its network does."""
        done = podman("exec", machine.container, "sh", "-c", script, check=check)
        return done.stdout

    def lines(self) -> Lines:
        """Every unit's line."""
        return {line["name"]: line for line in self.client.get("/kirsch/v1/units")["units"]}

    def present(self) -> set[str]:
        """The ids of the machines that are there."""
        return {machine["id"] for machine in self.client.get("/kirsch/v1/machines")["machines"]}

    def machine_of(self, name: str) -> MachineRecord:
        """The machine that a unit is on."""
        return self.by_id(str(self.lines()[name]["machine"]))

    def by_id(self, id: str) -> MachineRecord:
        """A machine."""
        return next(machine for machine in self.machines if machine.id == id)

    def until(self, condition: Callable[[Lines], object], patience: float = PATIENCE) -> Lines:
        """Follow the cluster's events until it holds, at another machine when one goes."""
        deadline = time.monotonic() + patience
        known: Lines = {}
        while (left := deadline - time.monotonic()) > 0:
            known = {}
            for news in events(self.client, left):
                for line in news["units"]:
                    if line.get("gone"):
                        known.pop(line["name"], None)
                    else:
                        known[line["name"]] = line
                if condition(known):
                    return known
        short = {n: (x["machine"][:4], x["active"], x["reasons"]) for n, x in known.items()}
        raise AssertionError(f"it did not come about in {patience:.0f} s: {short}")

    def until_present(self, *machines: MachineRecord) -> None:
        """Wait until machines are there."""
        wanted = {machine.id for machine in machines or self.machines}
        eventually(lambda: wanted <= self.present())

    def running(self, machine: MachineRecord, pattern: str) -> dict[str, Running]:
        """What a machine's systemd runs now, of units by a pattern."""
        shown = self.shell(
            machine,
            f"systemctl list-units --plain --no-legend --state=active,activating,deactivating '{pattern}'"
            " | cut -d' ' -f1 | xargs -r systemctl show -p Id,InvocationID,NRestarts",
        )
        found = {}
        for part in shown.split("\n\n"):
            values = dict(line.split("=", 1) for line in part.splitlines() if "=" in line)
            if values:
                found[values["Id"]] = Running(values["InvocationID"], values.get("NRestarts", ""))
        return found

    def everywhere(self, pattern: str) -> dict[str, dict[str, Running]]:
        """The same of all machines, by their names."""
        return {machine.name: self.running(machine, pattern) for machine in self.machines}

    def journal(self, machine: MachineRecord, unit: str) -> list[tuple[float, str]]:
        """What a machine's own journal has of a unit since the trial began: Unix time, and the line."""
        shown = self.shell(machine, f"journalctl --no-pager -o json --since @{self.began:.6f} -u {unit}")
        records = [json.loads(line) for line in shown.splitlines()]
        return [(int(r["__REALTIME_TIMESTAMP"]) / 1e6, str(r.get("MESSAGE", ""))) for r in records]

    def kill(self, machine: MachineRecord) -> None:
        """End a machine as a power cut does."""
        podman("kill", "--signal", "KILL", machine.container)

    def boot(self, machine: MachineRecord) -> None:
        """Start a machine that was killed."""
        podman("start", machine.container)

    @contextmanager
    def cut_off(self, machine: MachineRecord) -> Iterator[None]:
        """The machine's own link is down, in its own network namespace; what it loses with it comes back."""
        route = self.shell(machine, "ip route show default").strip()
        self.shell(machine, "ip link set eth0 down")
        try:
            yield
        finally:
            self.shell(machine, f"ip link set eth0 up && ip route replace {route}")

    def clear(self) -> None:
        """Destroy all units, settle all machines."""
        self.until_present()
        for machine in self.client.get("/kirsch/v1/machines")["machines"]:
            if machine["cordoned"]:
                self.kirsch("uncordon", machine["id"])
        names = sorted(self.lines())
        for start in range(0, len(names), 100):
            self.kirsch("destroy", *names[start : start + 100])
        eventually(lambda: not self.lines())


def events(client: Client, patience: float) -> Iterator[dict[str, Any]]:
    """A stream of events; it ends with the machine that gives it, or when nobody answers."""
    from kirsch.cluster.api.client import ClientError

    try:
        yield from client.stream("/kirsch/v1/events", timeout=patience)
    except ClientError:
        time.sleep(0.1)


def eventually(condition: Callable[[], object], patience: float = PATIENCE) -> None:
    """Wait until it holds. What cannot be asked meanwhile does not hold."""
    from kirsch.cluster.api.client import ClientError

    deadline = time.monotonic() + patience
    while True:
        try:
            if condition():
                return
        except ClientError:
            pass
        assert time.monotonic() < deadline, f"it did not come about in {patience:.0f} s"
        time.sleep(0.1)


def podman(*arguments: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
    """One call of podman."""
    done = subprocess.run(
        ["podman", "--runtime", "runc", *arguments],
        capture_output=True, text=True, timeout=PATIENCE,
        env={**os.environ, "PODMAN_IGNORE_CGROUPSV1_WARNING": "1"},
    )  # fmt: skip
    assert not check or done.returncode == 0, f"podman {' '.join(arguments)}: {done.stderr}"
    return done
