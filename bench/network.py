"""What the flat network costs: `python bench/network.py [--quick] [--cluster NAME] [--json FILE]`.

Two containers on two machines of a cluster speak over the flat network, and two others over the machines' own
addresses (Network=host): iperf3's throughput of one TCP connection, and a loop of small requests, one after
another over one connection. Both ways take turns. iperf3 comes to the machines in an image that `kirsch image
build` makes and `kirsch image push` sends. Without --cluster one of two machines is made, and destroyed.

Requests are measured twice: as it is, and with the cores kept from sleeping by a loop on each that all else
goes before (SCHED_IDLE). In a virtual machine it takes tens of µs to wake a core that sleeps, and whether a
request wakes one is the scheduler's choice, not the network's doing.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import outcome

KIRSCH = str(Path(sys.executable).with_name("kirsch"))
IMAGE = "bench-network"
FLAT, MACHINES = "flat network", "machines' addresses"
THROUGHPUT, LATENCY, SLOWEST = "throughput", "request, median", "request, 99 of 100 below"
AWAKE = ", cores awake"
# What was asked for: of the machines' own throughput at least, of their latency at most.
LEAST, MOST = 0.6, 1.3

CONTAINERFILE = """\
ARG BASE=debian:trixie-slim
FROM ${BASE}
ARG PACKAGES="iperf3 python3"
RUN dpkg --status ${PACKAGES} >/dev/null 2>&1 || { \\
        apt-get update --quiet && \\
        apt-get install --yes --quiet --no-install-recommends ${PACKAGES}; }
COPY serve.py ask.py /
"""
# Answers each 64 bytes with 64 bytes; iperf3 beside it, at the next port.
SERVE = """\
import socket, subprocess, sys, threading
port = int(sys.argv[1])
subprocess.Popen(["iperf3", "--server", "--port", str(port + 1)], stdout=subprocess.DEVNULL)
def answer(connection):
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while data := connection.recv(64):
        connection.sendall(data)
with socket.create_server(("0.0.0.0", port)) as listening:
    while True:
        threading.Thread(target=answer, args=(listening.accept()[0],), daemon=True).start()
"""
ASK = """\
import socket, statistics, sys, time
with socket.create_connection((sys.argv[1], int(sys.argv[2]))) as connection:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    took = []
    for _ in range(int(sys.argv[3])):
        began = time.perf_counter()
        connection.sendall(b"x" * 64)
        left = 64
        while left:
            left -= len(connection.recv(left))
        took.append(time.perf_counter() - began)
took.sort()
print(took[len(took) // 2] * 1e6, took[len(took) * 99 // 100] * 1e6)
"""
# A loop on one core, that anything else goes before.
SPIN = """\
import os, sys
os.sched_setaffinity(0, {int(sys.argv[1])})
os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
while True:
    pass
"""
UNIT = """\
[Container]
Image={image}
Exec=python3 /serve.py {port}
{network}
[Service]
TimeoutStopSec=3
[X-Kirsch]
Expose={port}
Health=tcp://:{port}
MachineID={machine}
"""
PORTS = {FLAT: 8100, MACHINES: 8200}


def main() -> int:
    """Measure, print, and write JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round instead of five")
    parser.add_argument("--cluster", metavar="NAME", help="one that is there, with two machines or more")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    options = parser.parse_args()
    rounds, seconds, requests = (1, 1, 2000) if options.quick else (5, 5, 20000)
    figures: dict[str, dict[str, list[float]]] = {
        what: {FLAT: [], MACHINES: []}
        for what in (THROUGHPUT, LATENCY, SLOWEST, LATENCY + AWAKE, SLOWEST + AWAKE)
    }
    with cluster(options.cluster) as name, units(name) as addresses:
        for number in range(rounds):
            for way in (FLAT, MACHINES) if number % 2 else (MACHINES, FLAT):
                asker, address, port = f"{_unit(way, 'ask')}.container", addresses[way], PORTS[way]
                printed = kirsch(
                    name, "exec", asker, "iperf3", "--client", address, "--port", str(port + 1),
                    "--time", str(seconds), "--omit", "1", "--json",
                )  # fmt: skip
                received = json.loads(printed)["end"]["sum_received"]["bits_per_second"]
                figures[THROUGHPUT][way].append(received / 1e9)
                for kept in ("", AWAKE):
                    with awake() if kept else nullcontext():
                        printed = kirsch(
                            name, "exec", asker, "python3", "/ask.py", address, str(port), str(requests)
                        )
                    for what, value in zip((LATENCY, SLOWEST), printed.split(), strict=True):
                        figures[what + kept][way].append(float(value))
    rows = []
    for what, ways in figures.items():
        own = statistics.median(ways[MACHINES])
        for way, values in ways.items():
            value = statistics.median(values)
            row = {
                "what": what, "subject": way, "value": round(value, 2),
                "unit": "Gbit/s" if what == THROUGHPUT else "µs",
                "ratio_to": MACHINES, "ratio": round(value / own, 2),
            }  # fmt: skip
            rows.append(row)
            print(f"{what:<38} {way:<20} {value:9.2f} {row['unit']:<7} {row['ratio']:5.2f} x {MACHINES}")
    ratios = {row["what"]: float(str(row["ratio"])) for row in rows if row["subject"] == FLAT}
    met = ratios[THROUGHPUT] >= LEAST and ratios[LATENCY + AWAKE] <= MOST
    said = "met" if met else "not met"
    print(f"asked for: throughput at least {LEAST}, a request at most {MOST}{AWAKE}: {said}")
    if options.json:
        podman = subprocess.run(["podman", "--version"], capture_output=True, text=True, check=True).stdout
        outcome.write(options.json, rows, podman=podman.strip())
    return 0


@contextmanager
def awake() -> Iterator[None]:
    """No core sleeps meanwhile."""
    spinning = [
        subprocess.Popen([sys.executable, "-c", SPIN, str(core)]) for core in sorted(os.sched_getaffinity(0))
    ]
    try:
        yield
    finally:
        for process in spinning:
            process.kill()
            process.wait()


@contextmanager
def cluster(given: str | None) -> Iterator[str]:
    """The name of a cluster."""
    if given:
        yield given
        return
    name = f"bench-network-{os.getpid()}"
    kirsch("", "cluster", "create", name, "--machines", "2")
    try:
        yield name
    finally:
        kirsch("", "cluster", "destroy", name)


@contextmanager
def units(cluster: str) -> Iterator[dict[str, str]]:
    """Pairs of containers that serve and ask, each way; where the serving ones are reached."""
    machines = json.loads(kirsch(cluster, "list-machines", "--json"))[:2]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for file, text in {"Containerfile": CONTAINERFILE, "serve.py": SERVE, "ask.py": ASK}.items():
            (folder / file).write_text(text)
        kirsch("", "image", "build", temporary, "-t", IMAGE)
        said = kirsch(cluster, "image", "push", IMAGE, "--on", cluster)
        image = next(word for word in said.split() if word.endswith(f"/{IMAGE}:latest"))
        files = []
        for way, port in PORTS.items():
            for part, machine in zip(("serve", "ask"), machines, strict=True):
                network = "Network=host\n" if way == MACHINES else ""
                text = UNIT.format(image=image, port=port, network=network, machine=machine["id"])
                files.append(folder / f"{_unit(way, part)}.container")
                files[-1].write_text(text)
        names = [file.name for file in files]
        try:
            kirsch(cluster, "start", *map(str, files))
            known = {unit["name"]: unit for unit in json.loads(kirsch(cluster, "list-units", "--json"))}
            yield {way: known[f"{_unit(way, 'serve')}.container"]["address"] for way in PORTS}
        finally:
            kirsch(cluster, "destroy", *names)


def _unit(way: str, part: str) -> str:
    return f"bench-{part}-{'flat' if way == FLAT else 'host'}"


def kirsch(cluster: str, *arguments: str) -> str:
    """What a verb prints that must succeed."""
    environment = {**os.environ, **({"KIRSCH_CLUSTER": cluster} if cluster else {})}
    done = subprocess.run([KIRSCH, *arguments], capture_output=True, text=True, timeout=900, env=environment)
    if done.returncode:
        sys.exit(f"kirsch {' '.join(arguments)}: {done.stdout}{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
