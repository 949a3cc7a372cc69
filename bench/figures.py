"""What figures cost on a machine of 300 units: `python bench/figures.py [--units N] [--json FILE]`.

Each unit is a shim with a child that sleeps, read from /proc as units that run as processes are. One sample
is what kirschd takes every five seconds; one answer is the units' part of /metrics, asked for every fifteen.
Figures are of CPU time, which other load on the machine disturbs less. To stay below: 1 % of a core together.
"""

import argparse
import os
import signal
import statistics
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import outcome
from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.registry import Collector

from kirsch.cluster.node.figures import INTERVAL, Figures, Sample, UnitSample
from kirsch.cluster.node.metrics import unit_metrics
from kirsch.cluster.runtime.base import ProcessGroup
from kirsch.cluster.runtime.usage import UsageReader

UNITS, SAMPLES, SCRAPE = 300, 30, 15.0
MOST = 1.0  # percent of a core


class Sampled(Collector):
    """Figures of shims, and metrics of them."""

    def __init__(self, shims: dict[str, int]) -> None:
        self.figures = Figures()
        self._shims = shims
        self._groups = {name: ProcessGroup(ancestors=(pid,)) for name, pid in shims.items()}
        self._reader = UsageReader()

    def sample(self) -> None:
        """Take one sample."""
        at, clock = time.time(), time.monotonic()
        machine, used = self._reader.machine(), self._reader.units(self._groups)
        units = {name: UnitSample(used[name], pid, at, 0, True) for name, pid in self._shims.items()}
        self.figures.add(Sample(at, clock, machine, units))

    def collect(self) -> Iterator[Metric]:
        """Return the units' metrics."""
        assert self.figures.last is not None
        yield from unit_metrics(self.figures, self.figures.last)


@contextmanager
def shims(count: int) -> Iterator[dict[str, int]]:
    """Run units for the time of a with statement; their shims' process ids, by name."""
    command = ["sh", "-c", "sleep 600 & echo; wait"]
    processes = []
    try:
        for _ in range(count):
            processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, process_group=0))
        for process in processes:
            assert process.stdout is not None
            process.stdout.readline()  # its child is there
        yield {f"sleeper@{number}.service": each.pid for number, each in enumerate(processes)}
    finally:
        for process in processes:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def milliseconds(work: Callable[[], object]) -> float:
    """Return the median of the CPU time that some work takes."""
    taken = []
    for _ in range(SAMPLES):
        began = time.process_time()
        work()
        taken.append(time.process_time() - began)
    return statistics.median(taken) * 1000


def main() -> int:
    """Measure, print, and write JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--units", type=int, default=UNITS)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    options = parser.parse_args()
    with shims(options.units) as pids:
        sampled = Sampled(pids)
        registry = CollectorRegistry()
        registry.register(sampled)
        sampled.sample()
        sample = milliseconds(sampled.sample)
        answer = milliseconds(lambda: generate_latest(registry))
        share = sample / INTERVAL / 10 + answer / SCRAPE / 10
        tracemalloc.start()
        again = Sampled(pids)
        again.sample()
        memory = tracemalloc.get_traced_memory()[0] / options.units / 1024
    rows: list[dict[str, object]] = []
    for what, value, unit in (
        ("a sample", sample, "ms"),
        ("an answer to Prometheus", answer, "ms"),
        ("both, of a core", share, "%"),
        ("memory of the hour, a unit", memory, "KiB"),
    ):
        rows.append(
            {"what": what, "subject": f"{options.units} units", "value": round(value, 3), "unit": unit}
        )
        print(f"{what:<30} {value:>8.2f} {unit}")
    print(f"target: below {MOST} % of a core")
    if options.json:
        outcome.write(options.json, rows)
    return 0 if share < MOST else 1


if __name__ == "__main__":
    sys.exit(main())
