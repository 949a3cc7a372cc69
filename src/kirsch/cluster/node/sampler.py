"""Samples of this machine for its figures, every five seconds."""

import asyncio
import logging
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from kirsch.cluster.balancer.report import Counts
from kirsch.cluster.model import Cluster, Machine
from kirsch.cluster.node.exported import Exported, read_exported
from kirsch.cluster.node.figures import INTERVAL, Figures, Sample, UnitSample
from kirsch.cluster.runtime.base import ProcessGroup, Runtime
from kirsch.cluster.runtime.usage import Usage, UsageReader
from kirsch.unit import UnitName

log = logging.getLogger(__name__)

# A balancer that has not reported for so many seconds has ended.
SILENCE = 2 * INTERVAL


class Sampler:
    """Takes samples for `figures`. `folder` is on the disk that is watched. For one event loop."""

    def __init__(
        self, runtime: Runtime, machine: Machine, cluster: Callable[[], Cluster], folder: Path
    ) -> None:
        self.figures = Figures()
        self.machine = machine
        self._runtime = runtime
        self._cluster = cluster
        self._folder = folder
        self._reader = UsageReader()
        self._reports: dict[str, tuple[float, Counts]] = {}
        self._exported: dict[str, Exported] = {}
        # Set, and replaced, at the next sample.
        self.sampled = asyncio.Event()

    async def run(self) -> None:
        """Take samples until cancelled. A machine without figures goes on with everything else."""
        due = time.monotonic()
        asking: asyncio.Task[None] | None = None
        try:
            while True:
                try:
                    await self.sample()
                except Exception:
                    log.exception("no figures could be taken")
                # A unit that does not answer delays no sample.
                if asking is None or asking.done():
                    asking = asyncio.create_task(self._ask(), name="exported metrics")
                # A machine that slept does not make up for what it missed.
                due = max(due + INTERVAL, time.monotonic())
                await asyncio.sleep(due - time.monotonic())
        finally:
            if asking is not None:
                asking.cancel()

    async def _ask(self) -> None:
        """Read what ready units export."""
        cluster = self._cluster()
        asked = {
            each.unit: read_exported(unit.options.metrics, each.address)
            for each in cluster.endpoints
            if each.machine == self.machine.id and each.ready
            for unit in [cluster.units.get(UnitName.parse(each.unit))]
            if unit is not None and unit.options.metrics is not None
        }
        try:
            answers = await asyncio.gather(*asked.values())
        except Exception:
            # Old values are not to be sampled as if they were new.
            log.exception("what units export could not be read")
            self._exported = {}
        else:
            self._exported = {name: answer for name, answer in zip(asked, answers, strict=True) if answer}

    async def sample(self) -> None:
        """Take one sample now."""
        states = self._runtime.states()
        at, clock = time.time(), time.monotonic()
        machine, used, disk = await asyncio.to_thread(self._read, self._runtime.groups())
        own = self.machine.id
        ready = {each.unit for each in self._cluster().endpoints if each.machine == own and each.ready}
        units = {
            name.text: UnitSample(used.get(name), state.pid, state.since, state.restarts, name.text in ready)
            for name, state in states.items()
        }
        backends = {
            (unit, *key): (reported, counts)
            for unit, (reported, report) in self._reports.items()
            if clock - reported < SILENCE
            for key, counts in report.items()
        }
        self.figures.add(Sample(at, clock, machine, units, backends, *disk, self._exported))
        sampled, self.sampled = self.sampled, asyncio.Event()
        sampled.set()

    def report(self, unit: str, report: Counts) -> None:
        """Take in what a balancer here says of its backends, if there is such a unit."""
        units = self._cluster().units.values()
        if not any(each.options.endpoints and each.name.text == unit for each in units):
            return
        now = time.monotonic()
        self._reports = {name: each for name, each in self._reports.items() if now - each[0] < SILENCE}
        self._reports[unit] = now, report

    def _read(
        self, groups: Mapping[UnitName, ProcessGroup]
    ) -> tuple[Usage, Mapping[UnitName, Usage], tuple[int, int]]:
        disk = os.statvfs(self._folder)
        sizes = disk.f_blocks * disk.f_frsize, disk.f_bavail * disk.f_frsize
        return self._reader.machine(), self._reader.units(groups), sizes
