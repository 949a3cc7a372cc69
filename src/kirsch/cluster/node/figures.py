"""Figures of this machine over the last hour: what its units and balancers' backends use and do.

Samples of totals come in, rates go out. A number takes four bytes: a unit 14,400, a backend or server 11,520,
a metric that a unit exports 2,880.
"""

import math
import threading
from array import array
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from kirsch.cluster.balancer.haproxy import BackendCounts
from kirsch.cluster.node.exported import Exported
from kirsch.cluster.runtime.usage import Usage

INTERVAL = 5.0  # seconds
KEPT = 720
FIELDS = ("cpu", "memory", "read", "written", "processes")
BACKEND_FIELDS = ("requests", "errors", "latency", "queue")
# Decimals of the fields that are no whole numbers.
DECIMALS = {"cpu": 4, "requests": 2, "errors": 2, "latency": 4}
MISSING = math.nan

Backend = tuple[str, str, str]  # unit, backend, server; "" for the backend as a whole
# When a balancer counted (`clock` of a sample), and what.
Reported = tuple[float, BackendCounts]
Numbers = list[float | None]


@dataclass(frozen=True, slots=True)
class UnitSample:
    """One unit at one moment. `usage` is None where it has no processes; `since` is when it became active."""

    usage: Usage | None
    pid: int = 0
    since: float = 0.0
    restarts: int = 0
    ready: bool = False


@dataclass(frozen=True, slots=True)
class Sample:
    """Everything at one moment: `at` in seconds since the epoch, `clock` in seconds that only grow."""

    at: float
    clock: float
    machine: Usage
    units: Mapping[str, UnitSample]
    backends: Mapping[Backend, Reported] = field(default_factory=dict)
    disk_size: int = 0
    disk_free: int = 0
    exported: Mapping[str, Exported] = field(default_factory=dict)  # by unit


class Series:
    """A ring of one thing's fields, one row for each sample."""

    def __init__(self, fields: Sequence[str], kept: int) -> None:
        self.rows = {name: array("f", (MISSING,)) * kept for name in fields}

    def put(self, slot: int, values: Mapping[str, float]) -> None:
        """Set one row; fields that are not there are missing."""
        for name, row in self.rows.items():
            row[slot] = values.get(name, MISSING)

    def read(self, slots: Sequence[slice]) -> dict[str, "array[float]"]:
        """Return copies of the rows in some slots, by field."""
        return {name: sum((row[part] for part in slots), array("f")) for name, row in self.rows.items()}


class Figures:
    """The last hour. `add` and `read` are for any thread."""

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self._lock = threading.Lock()
        self._count = 0
        self._times = array("d", (0.0,)) * kept
        self._machine = Series(FIELDS, kept)
        self._units: dict[str, Series] = {}
        self._backends: dict[Backend, Series] = {}
        self._exported: dict[tuple[str, str], Series] = {}
        self._last: Sample | None = None
        self._ready_since: dict[str, float] = {}
        self._totals: dict[str, Usage] = {}

    @property
    def last(self) -> Sample | None:
        """The last sample, with its totals."""
        return self._last

    def add(self, sample: Sample) -> None:
        """Take in a sample. What is in it no more is forgotten, with its past."""
        with self._lock:
            before, self._last = self._last, sample
            slot = self._count % self._kept
            self._count += 1
            self._times[slot] = sample.at
            seconds = sample.clock - before.clock if before else 0.0
            self._machine.put(slot, usage_rates(before.machine if before else None, sample.machine, seconds))
            _renew(self._units, sample.units, FIELDS, self._kept)
            for name, unit in sample.units.items():
                known = before.units.get(name) if before else None
                past = known.usage if known is not None and known.pid == unit.pid else None
                values = usage_rates(past, unit.usage, seconds)
                self._units[name].put(slot, values)
            _renew(self._backends, sample.backends, BACKEND_FIELDS, self._kept)
            for key, reported in sample.backends.items():
                earlier = before.backends.get(key) if before else None
                self._backends[key].put(slot, backend_rates(earlier, reported))
            names = [(unit, name) for unit, each in sample.exported.items() for name in each.values]
            _renew(self._exported, names, ("value",), self._kept)
            for owner, name in names:
                last = before.exported.get(owner) if before else None
                self._exported[owner, name].put(slot, exported_value(last, sample.exported[owner], name))
            self._note(before, sample)

    def _note(self, before: Sample | None, sample: Sample) -> None:
        """Keep since when units are ready, and their totals since they started."""
        ready = {}
        totals = {}
        for name, unit in sample.units.items():
            if unit.ready:
                ready[name] = self._ready_since.get(name, sample.at if before else unit.since)
            if unit.usage is not None:
                known = before.units.get(name) if before else None
                past = known.usage if known is not None and known.pid == unit.pid else None
                totals[name] = add_usage(self._totals.get(name), past, unit.usage)
        self._ready_since, self._totals = ready, totals

    def totals(self, name: str) -> Usage | None:
        """Return a unit's use since it started, of which no total shrinks; None where it has no processes."""
        return self._totals.get(name)

    def ready_since(self, name: str) -> float | None:
        """Return since when a unit is ready, in seconds since the epoch; None where it is not."""
        return self._ready_since.get(name)

    def read(self, since: float | None = None, units: Collection[str] = ()) -> dict[str, Any]:
        """Return what the API has of this machine: the samples after a time, or the last one; of all units if
        none is named."""
        with self._lock:
            slots = self._slots(since)
            times = [round(at, 3) for part in slots for at in self._times[part]]
            machine = self._machine.read(slots)
            found = {
                name: (series.read(slots), self._last.units[name])
                for name, series in self._units.items()
                if self._last is not None and (not units or name in units)
            }
            backends = {
                key: series.read(slots)
                for key, series in self._backends.items()
                if not units or key[0] in units
            }
            exported: dict[str, dict[str, array[float]]] = {name: {} for name in found}
            for (unit, name), series in self._exported.items():
                if unit in exported:
                    exported[unit][name] = series.read(slots)["value"]
            last, ready, totals = self._last, self._ready_since, self._totals
        return {
            "interval": INTERVAL,
            "times": times,
            "diskSize": last.disk_size if last else 0,
            "diskFree": last.disk_free if last else 0,
            **_numbers(machine),
            "units": [
                {
                    "name": name,
                    **_numbers(rows),
                    "peak": totals[name].peak if name in totals else None,
                    "restarts": now.restarts,
                    "readySince": ready.get(name),
                    "exported": _numbers(exported[name], 4),
                }
                for name, (rows, now) in sorted(found.items())
            ],
            "backends": [
                {"unit": unit, "backend": backend, "server": server, **_numbers(rows)}
                for (unit, backend, server), rows in sorted(backends.items())
            ],
        }

    def _slots(self, since: float | None) -> list[slice]:
        """The parts of the ring with the samples after a time, the oldest first."""
        end = self._count % self._kept
        there = min(self._count, self._kept)
        wanted = min(there, 1) if since is None else sum(1 for at in self._times[:there] if at > since)
        start = end - wanted
        if start >= 0:
            return [slice(start, end)]
        return [slice(start + self._kept, self._kept), slice(0, end)]


def usage_rates(before: Usage | None, now: Usage | None, seconds: float) -> dict[str, float]:
    """Return a row of FIELDS from two totals: without rates where there is one, empty where there is none.
    Pure."""
    if now is None:
        return {}
    found: dict[str, float] = {"memory": now.memory, "processes": now.processes}
    if before is not None and seconds > 0:
        # A process that ended, and that nobody waited for, takes its part of the totals with it.
        for name in ("cpu", "read", "written"):
            found[name] = max(getattr(now, name) - getattr(before, name), 0) / seconds
    return found


def add_usage(total: Usage | None, before: Usage | None, now: Usage) -> Usage:
    """Add to a unit's totals what was used since the sample before; without one they begin anew. Pure."""
    peak = now.peak or now.memory
    if total is None or before is None:
        return replace(now, peak=peak)
    return Usage(
        total.cpu + max(now.cpu - before.cpu, 0.0),
        now.memory,
        total.read + max(now.read - before.read, 0),
        total.written + max(now.written - before.written, 0),
        now.processes,
        max(total.peak, peak),
    )


def backend_rates(before: Reported | None, now: Reported) -> dict[str, float]:
    """Return a row of BACKEND_FIELDS; a HAProxy that was started anew counts from 0. Pure."""
    clock, counts = now
    found = {"latency": counts.latency, "queue": float(counts.queue)}
    if before is not None and clock > before[0] and counts.requests >= before[1].requests:
        seconds = clock - before[0]
        found["requests"] = (counts.requests - before[1].requests) / seconds
        found["errors"] = max(counts.errors - before[1].errors, 0) / seconds
    return found


def exported_value(before: Exported | None, now: Exported, name: str) -> dict[str, float]:
    """Return a row of one exported metric: a gauge as it is, a counter as its rate a second, missing where
    there is none. Pure."""
    value = now.values[name]
    if name not in now.counters:
        return {"value": value}
    past = before.values.get(name) if before else None
    if before is None or past is None or now.clock <= before.clock or value < past:
        return {}
    return {"value": (value - past) / (now.clock - before.clock)}


def _renew(series: dict[Any, Series], present: Collection[Any], fields: Sequence[str], kept: int) -> None:
    for key in series.keys() - set(present):
        del series[key]
    for key in present:
        if key not in series:
            series[key] = Series(fields, kept)


def _numbers(rows: Mapping[str, "array[float]"], decimals: int | None = None) -> dict[str, Numbers]:
    """Return rows as JSON has them: None where a number is missing. `decimals` is for names without some of
    their own."""
    found: dict[str, Numbers] = {}
    for name, row in rows.items():
        digits = DECIMALS.get(name, decimals)
        if digits is None:
            found[name] = [int(value) if math.isfinite(value) else None for value in row]
        else:
            found[name] = [round(value, digits) if math.isfinite(value) else None for value in row]
    return found
