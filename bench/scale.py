"""Many kirschd on one etcd, and how each cost grows: `python bench/scale.py [--quick] [--json FILE]`.

10, 30 and 100 processes, each with the parts of a kirschd (mirror, lease, engine, agent) and a runtime that
only pretends; 20 units each; one etcd of one member beside them, without TLS. Figures are of three times:
while all units start at once, at rest, and while one machine is lost and its units start elsewhere. CPU is
that of processes (/proc); bytes are what etcd sent to clients, by its own metrics; events are keys that a
kirschd's mirror took in.
"""

import argparse
import asyncio
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import outcome

from kirsch.bus.http import settle_memory
from kirsch.bus.process.command import Command
from kirsch.cluster.model import Machine
from kirsch.cluster.node.node import Node
from kirsch.cluster.node.units import Request
from kirsch.cluster.registry.etcd import EtcdRegistry
from kirsch.cluster.registry.lease import Heard
from kirsch.cluster.runtime.base import Prepared, ProcessGroup, RuntimeState, StateListener
from kirsch.cluster.runtime.journal import Journal
from kirsch.cluster.secrets import FileSecrets
from kirsch.unit import UnitFile, UnitName

SIZES, UNITS = (10, 30, 100), 20
# Seconds of rest that are measured, and before it, for what follows a start.
REST, SETTLE = 15.0, 5.0
TEXT = "[Service]\nExecStart=/bin/sleep infinity\n[X-Kirsch]\nCPU=0.01\n"
TOGETHER = 100
PATIENCE = 300.0
TICK = os.sysconf("SC_CLK_TCK")


class Pretence:
    """A runtime whose units run as soon as they are asked to."""

    durable = True

    def __init__(self) -> None:
        self._states: dict[UnitName, RuntimeState] = {}
        self._listeners: list[StateListener] = []

    def check(self, name: UnitName, file: UnitFile) -> list[str]:
        return []

    def listen(self, listener: StateListener) -> None:
        self._listeners.append(listener)

    def states(self) -> Mapping[UnitName, RuntimeState]:
        return self._states

    def groups(self) -> Mapping[UnitName, ProcessGroup]:
        return {}

    async def load(self, units: Sequence[Prepared]) -> None:
        for unit in units:
            self._set(unit.name, RuntimeState(hash=unit.file.hash))

    async def start(self, name: UnitName, mark: str = "") -> RuntimeState:
        running = {"active": "active", "sub": "running", "pid": 1, "since": time.time(), "mark": mark}
        return self._set(name, replace(self._states[name], **running))

    async def stop(self, name: UnitName, mark: str = "") -> RuntimeState:
        return self._set(name, replace(self._states[name], active="inactive", sub="dead", pid=0, mark=""))

    async def kill(self, name: UnitName) -> None:
        await self.stop(name)

    async def unload(self, names: Iterable[UnitName]) -> None:
        for name in names:
            self._states.pop(name, None)
            for listener in self._listeners:
                listener(name, None)

    async def reload(self, name: UnitName) -> RuntimeState:
        return self._states[name]

    async def run(self, name: UnitName, argv: Sequence[str], timeout: float) -> int:
        return 0

    async def context(self, unit: UnitName | Prepared) -> Command | None:
        return None

    async def container_arguments(self, prepared: Prepared) -> tuple[str, ...]:
        return ()

    async def close(self) -> None:
        pass

    def _set(self, name: UnitName, state: RuntimeState) -> RuntimeState:
        self._states[name] = state
        for listener in self._listeners:
            listener(name, state)
        return state


def kirschd(number: int, endpoint: str, folder: Path, pipe: Connection) -> None:
    """Be one of the kirschd: answer questions in `pipe` until it closes."""
    (folder / f"m{number}").mkdir()
    asyncio.run(_kirschd(number, endpoint, folder / f"m{number}", pipe))


async def _kirschd(number: int, endpoint: str, folder: Path, pipe: Connection) -> None:
    settle_memory()
    address = f"10.0.{number // 250}.{number % 250 + 1}"
    machine = Machine(f"{number:032x}", address, {"hostname": f"m{number}"}, cpu=4.0, memory=8 << 30)
    node = Node(
        await EtcdRegistry.open([endpoint]), Pretence(), Journal(folder / "journal"), machine,
        lambda *_: FileSecrets(folder / "secrets"), folder / "endpoints.sock", heard=Heard(folder / "heard"),
    )  # fmt: skip
    events = 0

    def count(changed: frozenset[str]) -> None:
        nonlocal events
        events += len(changed)

    node.mirror.listen(count)
    await node.start(lambda: os._exit(1))
    loop, asked = asyncio.get_running_loop(), asyncio.Queue[Any]()

    def read() -> None:
        try:
            asked.put_nowait(pipe.recv())
        except EOFError:
            os._exit(0)

    loop.add_reader(pipe.fileno(), read)
    while True:
        match await asked.get():
            case "events":
                pipe.send(events)
            case "cluster":
                cluster = node.cluster()
                states = [state for unit in cluster.states.values() for state in unit.values()]
                pipe.send((len(cluster.machines), sum(state.active == "active" for state in states)))
            case ("start", names):
                made = [Request(UnitName.parse(name), text=TEXT, desired="launched") for name in names]
                await node.units.change(made)
                pipe.send(None)


@dataclass(frozen=True)
class Reading:
    """Counters at one moment: time, CPU seconds of etcd and of each kirschd, bytes sent by etcd, events."""

    at: float
    etcd: float
    each: tuple[float, ...]
    sent: float
    events: int

    def since(self, before: "Reading") -> dict[str, float]:
        """Return what a time cost: CPU in seconds, of the median and of the busiest kirschd too."""
        each = sorted(now - then for now, then in zip(self.each, before.each, strict=True))
        return {
            "seconds": self.at - before.at,
            "etcd CPU, s": self.etcd - before.etcd,
            "kirschd CPU, s": each[len(each) // 2],
            "leader CPU, s": each[-1],
            "sent by etcd, KiB": (self.sent - before.sent) / 1024,
            "events a kirschd": (self.events - before.events) / len(each),
        }


class Fleet:
    """An etcd and so many kirschd."""

    def __init__(self, etcd: "subprocess.Popen[bytes]", endpoint: str, folder: Path, count: int) -> None:
        self.etcd, self.endpoint = etcd, endpoint
        self.processes, self.pipes = [], []
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__ if __name__ != "__main__" else "scale"])
        for number in range(count):
            ours, theirs = context.Pipe()
            process = context.Process(target=kirschd, args=(number, endpoint, folder, theirs), daemon=True)
            process.start()
            theirs.close()
            self.processes.append(process)
            self.pipes.append(ours)

    def ask(self, at: int, question: object) -> Any:
        """Return what one kirschd answers."""
        self.pipes[at].send(question)
        return self.pipes[at].recv()

    def until(self, condition: Callable[[tuple[int, int]], bool]) -> None:
        """Return once the first kirschd knows so many machines and units that run. Raises TimeoutError."""
        deadline = time.monotonic() + PATIENCE
        while not condition(known := self.ask(0, "cluster")):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{known[0]} machines and {known[1]} units after {PATIENCE:.0f} s")
            time.sleep(0.1)

    def read(self) -> Reading:
        """Read all counters."""
        pids = [process.pid for process in self.processes if process.is_alive()]
        alive = [at for at, process in enumerate(self.processes) if process.is_alive()]
        events = sum(self.ask(at, "events") for at in alive)
        each = tuple(cpu(pid) for pid in pids if pid is not None)
        return Reading(time.monotonic(), cpu(self.etcd.pid), each, sent(self.endpoint), events)

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.join()


def cpu(pid: int) -> float:
    """CPU seconds of a process (proc(5))."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / TICK


def memory(pid: int) -> float:
    """Proportional set size of a process, in MiB: of what processes share each has its part."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def sent(endpoint: str) -> float:
    """Bytes that etcd has sent to its clients, by its metrics."""
    with urllib.request.urlopen(f"{endpoint}/metrics", timeout=30) as answer:
        for line in answer.read().decode().splitlines():
            if line.startswith("etcd_network_client_grpc_sent_bytes_total"):
                return float(line.split()[1])
    raise LookupError("etcd has no such metric")


@contextmanager
def etcd(folder: Path) -> Iterator[tuple["subprocess.Popen[bytes]", str]]:
    """One member, on free ports, for the time of a with statement."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    client, peer = (f"http://127.0.0.1:{each.getsockname()[1]}" for each in sockets)
    for each in sockets:
        each.close()
    command = ["etcd", "--name=one", f"--data-dir={folder / 'etcd'}", f"--listen-client-urls={client}"]
    command += [f"--advertise-client-urls={client}", f"--listen-peer-urls={peer}", "--log-level=error"]
    command += [f"--initial-advertise-peer-urls={peer}", f"--initial-cluster=one={peer}"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process, client
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def measure(count: int, rest: float) -> dict[str, dict[str, float]]:
    """Return what so many kirschd cost, by the three times."""
    found = {}
    with tempfile.TemporaryDirectory() as text, etcd(Path(text)) as (process, endpoint):
        fleet = Fleet(process, endpoint, Path(text), count)
        try:
            fleet.until(lambda known: known[0] == count)
            names = [f"nap@{number}.service" for number in range(UNITS * count)]
            begin = fleet.read()
            for at in range(0, len(names), TOGETHER):
                fleet.ask(0, ("start", names[at : at + TOGETHER]))
            fleet.until(lambda known: known[1] == len(names))
            found["start of all"] = fleet.read().since(begin)
            time.sleep(SETTLE)
            begin = fleet.read()
            time.sleep(rest)
            found["at rest"] = fleet.read().since(begin)
            used = [memory(process.pid) for process in fleet.processes if process.pid]
            found["at rest"] |= {"kirschd, MiB": sum(used) / count, "etcd, MiB": memory(process.pid)}
            lost = fleet.processes.pop()
            fleet.pipes.pop()
            begin = fleet.read()
            lost.kill()
            lost.join()
            fleet.until(lambda known: known[0] == count - 1)
            fleet.until(lambda known: known[1] == len(names))
            found["one machine lost"] = fleet.read().since(begin)
        finally:
            fleet.close()
    return found


def main() -> None:
    """Measure each size, print tables, and keep the figures if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="10 and 30 only")
    parser.add_argument("--json", type=Path, help="where figures go")
    asked = parser.parse_args()
    # What was started is ended also where somebody has no patience.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    sizes = SIZES[:2] if asked.quick else SIZES
    measured = {}
    for size in sizes:
        measured[size] = measure(size, REST / 3 if asked.quick else REST)
        print(f"{size} kirschd: {measured[size]}", flush=True)
    rows: list[dict[str, object]] = []
    for what in measured[sizes[0]]:
        print(f"\n{what}\n| | {' | '.join(f'{size} kirschd' for size in sizes)} |")
        print("| --- |" + " ---: |" * len(sizes))
        for name in measured[sizes[0]][what]:
            values = [measured[size][what][name] for size in sizes]
            print(f"| {name} | {' | '.join(f'{value:,.2f}' for value in values)} |")
            for size, value in zip(sizes, values, strict=True):
                ratio = round(value / values[0], 2) if values[0] else None
                rows.append({
                    "what": f"{what}: {name}", "subject": f"{size} kirschd", "value": round(value, 3),
                    "unit": name.rpartition(", ")[2], "ratio_to": f"{sizes[0]} kirschd", "ratio": ratio,
                })  # fmt: skip
    if asked.json:
        outcome.write(asked.json, rows)


if __name__ == "__main__":
    main()
