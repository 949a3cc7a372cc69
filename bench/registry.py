"""Registries side by side: memory, SQLite, etcd: `python bench/registry.py`.

Puts and gets one after another, and 64 at a time; and how long after a put a watch tells of it, the put
included. Each figure is the median of 5 rounds (--quick: 2), every registry once in each. etcd has one
member, on this machine, without TLS; SQLite's file and etcd's data are on the same disk, and both are sure of
what they say was written. The peer of each is memory, where nothing has to be kept: what asyncio costs.
"""

import argparse
import asyncio
import shutil
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import outcome

from kirsch.cluster.registry import MemoryRegistry, Registry, SQLiteRegistry, Unavailable

TOGETHER = 64
COUNT = {"memory": 20_000, "sqlite": 1_000, "etcd": 1_000}
WATCHED = 200
VALUE = '{"active":"active","hash":"' + "0" * 64 + '","load":"loaded","order":1,"sub":"running"}'
BASE = "memory"


@asynccontextmanager
async def opened(name: str, folder: Path) -> AsyncIterator[Registry]:
    """A registry with nothing in it."""
    if name == "memory":
        yield MemoryRegistry()
    elif name == "sqlite":
        registry = await SQLiteRegistry.open(folder / "registry.db")
        try:
            yield registry
        finally:
            await registry.close()
    else:
        async with etcd(folder) as registry:
            yield registry


@asynccontextmanager
async def etcd(folder: Path) -> AsyncIterator[Registry]:
    """One member, on free ports."""
    from kirsch.cluster.registry.etcd import EtcdRegistry

    client, peer = (f"http://127.0.0.1:{port}" for port in free_ports(2))
    command = ["etcd", "--name=one", f"--data-dir={folder}", f"--listen-client-urls={client}"]
    command += [f"--advertise-client-urls={client}", f"--listen-peer-urls={peer}"]
    command += [f"--initial-advertise-peer-urls={peer}", f"--initial-cluster=one={peer}", "--log-level=error"]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    registry = await EtcdRegistry.open([client])
    try:
        await ready(registry)
        yield registry
    finally:
        await registry.close()
        process.terminate()
        await process.wait()


async def ready(registry: Registry) -> None:
    """Return once it answers. Raises TimeoutError."""
    async with asyncio.timeout(60):
        while True:
            try:
                await registry.get("/ready")
                return
            except Unavailable:
                await asyncio.sleep(0.2)


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


async def measure(name: str) -> dict[str, float]:
    """One round of one registry."""
    with tempfile.TemporaryDirectory() as folder:
        async with opened(name, Path(folder)) as registry:
            count = COUNT[name]

            async def put(number: int) -> object:
                return await registry.put(f"/kirsch/v1/states/u{number % 500}.service/m1", VALUE)

            async def get(number: int) -> object:
                return await registry.get(f"/kirsch/v1/states/u{number % 500}.service/m1")

            return {
                "put, one after another": await rate(put, count, 1),
                f"put, {TOGETHER} at a time": await rate(put, count * 4, TOGETHER),
                "get, one after another": await rate(get, count, 1),
                f"get, {TOGETHER} at a time": await rate(get, count * 4, TOGETHER),
                "put to watch": await latency(registry),
            }


async def rate(call: Callable[[int], Awaitable[object]], count: int, together: int) -> float:
    """Calls a second."""

    async def some(first: int) -> None:
        for number in range(first, count, together):
            await call(number)

    began = time.perf_counter()
    await asyncio.gather(*(some(first) for first in range(together)))
    return count / (time.perf_counter() - began)


async def latency(registry: Registry) -> float:
    """Milliseconds from the sending of a put until a watch tells of it, the median."""
    revision = (await registry.list("/watched/")).revision
    changes, taken = registry.watch("/watched/", revision + 1), []
    for number in range(WATCHED):
        began = time.perf_counter()
        put = asyncio.ensure_future(registry.put("/watched/key", str(number)))
        await anext(changes)
        taken.append(1000 * (time.perf_counter() - began))
        await put
    return statistics.median(taken)


def main() -> int:
    """Measure, print, and write JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="2 rounds instead of 5")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    options = parser.parse_args()
    subjects = [name for name in COUNT if name != "etcd" or shutil.which("etcd")]
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in subjects}
    for _ in range(2 if options.quick else 5):
        for name in subjects:
            rounds[name].append(asyncio.run(measure(name)))
    medians = {
        name: {what: statistics.median(each[what] for each in found) for what in found[0]}
        for name, found in rounds.items()
    }
    rows = [
        {
            "what": what,
            "subject": name,
            "value": round(value, 3),
            "unit": "ms" if "watch" in what else "a second",
            "ratio_to": BASE,
            "ratio": round(value / medians[BASE][what], 3),
        }
        for name, figures in medians.items()
        for what, value in figures.items()
    ]
    for row in rows:
        value = f"{row['value']:>12,.2f} {row['unit']:<9}"
        print(f"{row['subject']:<8} {row['what']:<26} {value} {row['ratio']:>8} x")
    if options.json:
        outcome.write(options.json, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
