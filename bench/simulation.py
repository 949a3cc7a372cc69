"""The engine on large clusters: placements a second, memory, time to settle: `python bench/simulation.py`.

The real engine, mirror and placement on the memory registry; agents are simulated by one task that writes the
states of what is scheduled. 20 units a machine, of six kinds (Spread, MachineMetadata and reservations among
them); then 3 % of the machines die at once. Each size is a process of its own, on one core; figures are of
CPU time, which other load on the machine disturbs less. The peer is the engine itself on 100 machines: the
cost of a unit has to stay the same.
"""

import argparse
import asyncio
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import outcome

from kirsch.bus.http import settle_memory
from kirsch.cluster.engine.engine import Engine
from kirsch.cluster.engine.reconcile import Assign, reconcile
from kirsch.cluster.model import Machine, UnitRecord, UnitState, keys
from kirsch.cluster.registry.base import MAX_OPERATIONS, Delete, Put
from kirsch.cluster.registry.lease import LeasedKeys, MachineLease
from kirsch.cluster.registry.memory import MemoryRegistry
from kirsch.cluster.registry.mirror import Mirror
from kirsch.cluster.registry.snapshot import Snapshots, read_name
from kirsch.cluster.registry.store import Store
from kirsch.unit import UnitFile

SIZES = (100, 250, 500, 1000)
UNITS = 20
DIE = 0.03
KINDS = (
    (),
    (),
    (),
    ("CPU=0.1", "Memory=64M"),
    ("Spread=zone",),
    ("MachineMetadata=zone=a",),
)
TARGET = 4000
FOREVER = 1e6


@dataclass
class Agents:
    """All machines' agents: what is scheduled runs at once."""

    registry: MemoryRegistry
    leases: dict[str, int]
    running: set[tuple[str, str]] = field(default_factory=set)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        """Follow the schedule, until cancelled."""
        first = (await self.registry.list(keys.SCHEDULE)).revision
        async for changes in self.registry.watch(keys.SCHEDULE, first + 1):
            operations = []
            for change in changes:
                machine, unit = keys.pair(change.key)
                key = keys.state(unit, machine)
                if change.entry is None:
                    self.running.discard((machine, unit))
                    if machine in self.leases:
                        operations.append(Delete(key))
                elif machine in self.leases:
                    self.running.add((machine, unit))
                    state = UnitState("loaded", "active", "running", "", order=1).to_json()
                    operations.append(Put(key, state, self.leases[machine]))
            for start in range(0, len(operations), MAX_OPERATIONS):
                await self.registry.transact(operations[start : start + MAX_OPERATIONS])
            self.changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Return once it holds."""
        while not condition():
            self.changed.clear()
            await self.changed.wait()


async def cluster(machines: int) -> dict[str, float]:
    """The figures of one size."""
    # As kirschd does when it begins to serve.
    settle_memory()
    store = Store()
    registry = MemoryRegistry(store)
    leases = await join(registry, machines)
    await submit(registry, machines * UNITS)
    wanted = machines * UNITS
    agents, reconciles = Agents(registry, leases), []
    mirror, lease = Mirror(registry, keys.ROOT), MachineLease(registry)
    snapshots = Snapshots(mirror)
    leased = LeasedKeys(registry, mirror, lease)
    leased.want({keys.machine("engine"): replace(machine(machines), id="engine", cordoned=True).to_json()})
    await registry.put(keys.machine_settings("engine"), '{"cordoned":true}')
    engine = Engine(registry, mirror, snapshots, lease, "engine")
    engine.reconciled = reconciles.append

    figures = {}
    await mirror.load()
    began = time.process_time()
    placed = sum(isinstance(decision, Assign) for decision in reconcile(snapshots.now()))
    figures["placed a second, decided only"] = placed / (time.process_time() - began)
    began = time.process_time()
    parts = [mirror.run(), lease.run(), leased.run(), agents.run(), engine.run()]
    tasks = [asyncio.create_task(part) for part in parts]
    await agents.until(lambda: len(agents.running) == wanted)
    await quiet(reconciles)
    seconds = time.process_time() - began
    figures["placed a second, written and running"] = wanted / seconds
    figures["to start all"] = seconds

    dead = sorted(leases)[:: round(1 / DIE)]
    lost = {pair for pair in agents.running if pair[0] in dead}
    began = time.process_time()
    for id in dead:
        await registry.revoke(agents.leases.pop(id))
    await agents.until(lambda: len(agents.running) == wanted and not agents.running & lost)
    await quiet(reconciles)
    seconds = time.process_time() - began
    figures["moved a second, 3 % of machines lost"] = len(lost) / seconds
    figures["to settle, 3 % of machines lost"] = seconds
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    figures["memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return figures


async def quiet(reconciles: list[float]) -> None:
    """Return once the engine has nothing more to decide."""
    seen, turns = len(reconciles), 0
    while turns < 100:
        await asyncio.sleep(0)
        turns = turns + 1 if seen == len(reconciles) else 0
        seen = len(reconciles)


def machine(number: int) -> Machine:
    """One of three zones."""
    address = f"10.0.{number // 250}.{number % 250}"
    return Machine(f"{number:032x}", address, {"zone": "abc"[number % 3]}, cpu=32.0, memory=64 << 30)


async def join(registry: MemoryRegistry, count: int) -> dict[str, int]:
    """Machines with leases that do not run out."""
    leases = {}
    for each in map(machine, range(count)):
        leases[each.id] = await registry.grant(FOREVER)
        await registry.put(keys.machine(each.id), each.to_json(), lease=leases[each.id])
    return leases


async def submit(registry: MemoryRegistry, count: int) -> None:
    """Units of services of a hundred instances each, all wanted."""
    operations: list[Put] = []
    for number in range(count):
        service = number % max(count // 100, 1)
        name = f"s{service}@{number}.service"
        options = "\n".join(KINDS[service % len(KINDS)])
        file = UnitFile.parse(f"[Service]\nExecStart=/bin/sleep 1\n[X-Kirsch]\n{options}\n", name)
        read_name(name)
        if number < len(KINDS) * max(count // 100, 1):
            await registry.put(keys.text(file.hash), file.text)
        operations.append(Put(keys.unit(name), UnitRecord(file.hash, "launched", 1).to_json()))
    for start in range(0, count, MAX_OPERATIONS):
        await registry.transact(operations[start : start + MAX_OPERATIONS])


UNIT_OF = {"to start all": "s", "to settle, 3 % of machines lost": "s", "memory": "MiB"}


def main() -> int:
    """Measure, print, and write JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="100 and 250 machines only")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument("--size", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.size:
        print(json.dumps(asyncio.run(cluster(options.size))))
        return 0
    rows: list[dict[str, object]] = []
    base: dict[str, float] = {}
    for size in SIZES[:2] if options.quick else SIZES:
        command = [sys.executable, __file__, "--size", str(size)]
        figures = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        base = base or figures
        for what, value in figures.items():
            rows.append(
                {
                    "what": what,
                    "subject": f"{size} machines, {size * UNITS} units",
                    "value": round(value, 3),
                    "unit": UNIT_OF.get(what, "units/s"),
                    "ratio_to": "100 machines",
                    "ratio": round(value / base[what], 2),
                }
            )
            row = rows[-1]
            print(f"{row['subject']:<28} {what:<40} {value:>10.2f} {row['unit']:<8} {row['ratio']:>6} x")
    print(f"target: {TARGET} placed a second on one core")
    if options.json:
        outcome.write(options.json, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
