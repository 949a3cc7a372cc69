"""How fast a cluster of three machines is: `python bench/cluster.py [--cluster NAME]`.

Machines are containers on this computer; without --cluster three are made, and destroyed at the end. Verbs
are whole processes of `kirsch`, until they return. The peers are systemd itself, asked over D-Bus on the same
machines in the same round with no cluster about, and fleet 0.11 as it was measured on machines made alike
(not run again: it is not for today's Go and Debian).
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import outcome

from kirsch.cluster.api.client import Client
from kirsch.cluster.provision.endpoint import Where, transport_to
from kirsch.cluster.provision.record import ClusterRecord, MachineRecord
from kirsch.cluster.provision.shell import login

KIRSCH = str(Path(sys.executable).with_name("kirsch"))
SLEEP = "[Service]\nExecStart=/bin/sleep infinity\n"
FLOOR = Path(__file__).with_name("cluster_parts") / "floor.py"
ALONE = "start 300, systemd alone"
# Seconds, fleet 0.11, three machines as containers on two cores.
FLEET = {
    "submit": 0.26,
    "first start": 2.8,
    "start 50": 3.2,
    "start 300": 35.0,
    "stop 50": 1.4,
    "failover of 100": 22.5,
}
# What is not seconds; of kirschd with 300 units running, the machine that needs most.
IDLE_CPU, IDLE_MEMORY, IDLE_WRITES = "idle: CPU of kirschd", "idle: memory of kirschd", "idle: writes to etcd"
UNITS = {IDLE_CPU: "% of a core", IDLE_MEMORY: "MiB", IDLE_WRITES: "in a minute"}
IDLE = 30.0
PATIENCE = 120.0


def main() -> int:
    """Measure, print, and write JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cluster", metavar="NAME", help="a cluster of three machines that is there")
    parser.add_argument("--quick", action="store_true", help="one round instead of three")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    options = parser.parse_args()
    rounds: dict[str, list[float]] = defaultdict(list)
    with cluster(options.cluster) as name, tempfile.TemporaryDirectory() as folder:
        bench = Bench(name, Path(folder))
        for number in range(1 if options.quick else 3):
            for what, value in bench.round(number):
                print(f"round {number + 1}: {what:<32} {value:7.2f} {UNITS.get(what, 's')}", flush=True)
                rounds[what].append(value)
    rows = [row(what, statistics.median(values), rounds) for what, values in rounds.items()]
    print()
    for entry in rows:
        ratio = f"{entry['ratio']:6.2f} x {entry['ratio_to']}" if entry["ratio_to"] else ""
        print(f"{entry['what']:<32} {entry['value']:7.2f} {entry['unit']:<6} {ratio}")
    if options.json:
        outcome.write(options.json, rows)
    return 0


def row(what: str, value: float, rounds: dict[str, list[float]]) -> dict[str, object]:
    """A median beside systemd's for the same, else beside fleet's."""
    peer, ratio = "", 0.0
    if what == "start 300":
        peer, ratio = ALONE, value / statistics.median(rounds[ALONE])
    elif what in FLEET:
        peer, ratio = "fleet", value / FLEET[what]
    return {
        "what": what,
        "subject": "systemd" if what == ALONE else "kirsch",
        "value": round(value, 3),
        "unit": UNITS.get(what, "s"),
        "ratio_to": peer,
        "ratio": round(ratio, 3),
    }


@contextmanager
def cluster(name: str | None) -> Iterator[str]:
    """A cluster's name: one that is there, or one for us alone."""
    if name:
        yield name
        return
    made = f"bench-{os.getpid()}"
    subprocess.run([KIRSCH, "cluster", "create", made, "--machines", "3"], check=True)
    try:
        yield made
    finally:
        subprocess.run([KIRSCH, "cluster", "destroy", made], check=True)


class Bench:
    """One cluster under measurement."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder
        self.record = ClusterRecord.load(name)
        self.client = Client(transport_to(Where(cluster=name)))
        (folder / "sleep@.service").write_text(SLEEP)

    def round(self, number: int) -> Iterator[tuple[str, float]]:
        """Each measurement once; all is as before afterwards."""
        one = self.folder / f"one{number}.service"
        one.write_text(SLEEP)
        first = [one.name]
        fifty = [f"sleep@{n}.service" for n in range(50)]
        all_300 = [f"sleep@{n}.service" for n in range(300)]
        if number == 0:
            self.kirsch("submit", str(self.folder / "sleep@.service"))
        time.sleep(IDLE / 3)  # what the round before destroyed is gone from the machines
        yield "submit", self.kirsch("submit", str(one))
        yield "first start", self.kirsch("start", *first)
        yield "start 50", self.kirsch("start", *fifty)
        yield "stop 50", self.kirsch("stop", *fifty)
        self.kirsch("destroy", *fifty)
        yield ALONE, self.floor(100)
        yield "start 300", self.kirsch("start", *all_300)
        yield from self.idle()
        yield "failover of 100", self.failover(set(all_300))
        yield "list-units at 1,000 units", self.listed(1000 - 301)
        self.kirsch("destroy", *all_300, *first)

    def kirsch(self, *arguments: str) -> float:
        """The seconds that a verb takes, as a whole process."""
        began = time.perf_counter()
        subprocess.run([KIRSCH, "--cluster", self.name, *arguments], check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - began

    def floor(self, each: int) -> float:
        """So many services on each machine at once, by its systemd alone: the slowest machine's seconds."""
        script = FLOOR.read_bytes()

        def alone(machine: MachineRecord) -> float:
            command = login(self.record, machine, ["/opt/kirsch/bin/python", "-", str(each)])
            return float(subprocess.run(command, input=script, check=True, capture_output=True).stdout)

        with ThreadPoolExecutor(len(self.record.machines)) as pool:
            return max(pool.map(alone, self.record.machines))

    def idle(self) -> Iterator[tuple[str, float]]:
        """What kirschd costs where nothing happens: of the machine where it costs most."""
        time.sleep(IDLE / 3)  # what the start left behind is over
        before, written = [self.spent(machine) for machine in self.record.machines], self.revision()
        time.sleep(IDLE)
        after = [self.spent(machine) for machine in self.record.machines]
        ticks = max(now[0] - then[0] for now, then in zip(after, before, strict=True))
        yield IDLE_CPU, ticks / os.sysconf("SC_CLK_TCK") / IDLE * 100
        yield IDLE_MEMORY, max(kilobytes for _, kilobytes in after) / 1024
        yield IDLE_WRITES, (self.revision() - written) / IDLE * 60

    def spent(self, machine: MachineRecord) -> tuple[int, int]:
        """kirschd's CPU time in ticks and its resident memory in KiB (proc(5))."""
        script = "cd /proc/$(systemctl show -p MainPID --value kirschd); cat stat; grep VmRSS status"
        command = ["podman", "exec", machine.container, "sh", "-c", script]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        fields = said.rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12]), int(said.split("VmRSS:")[1].split()[0])

    def revision(self) -> int:
        """How often etcd was written to, by its JSON gateway."""
        request = urllib.request.Request(f"{self.record.etcd[0]}/v3/kv/range", b'{"key": "AA=="}')
        with urllib.request.urlopen(request, context=self.record.certificates.client()) as answer:
            return int(json.load(answer)["header"]["revision"])

    def failover(self, units: set[str]) -> float:
        """A machine is killed: the seconds until all its units run elsewhere. It is back afterwards."""
        lost = self.record.machines[-1]
        there = {line["name"] for line in self.lines() if line["machine"] == lost.id} & units
        began = time.perf_counter()
        podman("kill", "--signal", "KILL", lost.container)
        self.until(
            lambda lines: all(
                lines[name]["machine"] not in ("", lost.id) and lines[name]["active"] == "active"
                for name in there
            )
        )
        seconds = time.perf_counter() - began
        print(f"         {len(there)} units were on the machine that was killed", flush=True)
        podman("start", lost.container)
        deadline = time.monotonic() + PATIENCE
        while lost.id not in {
            machine["id"] for machine in self.client.get("/kirsch/v1/machines")["machines"]
        }:
            if time.monotonic() > deadline:
                raise SystemExit(f"{lost.name} did not come back")
            time.sleep(0.2)
        return seconds

    def listed(self, more: int) -> float:
        """The seconds for a list, with so many units more, which do not run."""
        names = [f"sleep@{n}.service" for n in range(1000, 1000 + more)]
        self.kirsch("load", "--no-block", *names)
        try:
            return self.kirsch("list-units")
        finally:
            self.kirsch("destroy", *names)

    def lines(self) -> list[dict[str, str]]:
        """Every unit's line."""
        lines: list[dict[str, str]] = self.client.get("/kirsch/v1/units")["units"]
        return lines

    def until(self, condition: Callable[[dict[str, dict[str, str]]], bool]) -> None:
        """Follow the cluster's events until it holds."""
        known: dict[str, dict[str, str]] = {}
        for news in self.client.stream("/kirsch/v1/events", timeout=PATIENCE):
            known |= {line["name"]: line for line in news["units"]}
            if condition(known):
                return
        raise SystemExit(f"it did not come about in {PATIENCE:.0f} s")


def podman(*arguments: str) -> None:
    """One call of podman."""
    subprocess.run(["podman", "--runtime", "runc", *arguments], check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    sys.exit(main())
