"""Metrics of kirschd for Prometheus: units, machines, and the time that decisions take."""

from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from kirsch.cluster.model import Cluster, UnitState, keys
from kirsch.cluster.model.certificates import Issued
from kirsch.cluster.node.backup import Nightly
from kirsch.cluster.node.figures import Figures, Sample
from kirsch.cluster.node.node import Node
from kirsch.cluster.registry.base import RegistryError
from kirsch.cluster.registry.health import StoreHealth
from kirsch.cluster.runtime.usage import Usage
from kirsch.unit import UnitName

BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)


class ClusterCollector(Collector):
    """Units by systemd's active and sub, readiness and restarts of each unit, reservations of machines."""

    def __init__(self, cluster: Callable[[], Cluster]) -> None:
        self._cluster = cluster

    def collect(self) -> Iterator[Metric]:
        """Return the metrics of what this kirschd knows now."""
        cluster = self._cluster()
        states = [
            (name, state) for name, by_machine in cluster.states.items() for state in by_machine.values()
        ]
        units = GaugeMetricFamily(
            "kirsch_units", "Units, by their state on a machine", labels=("active", "sub")
        )
        for (active, sub), number in sorted(Counter((s.active, s.sub) for _, s in states).items()):
            units.add_metric((active, sub), number)
        idle = sum(1 for name in cluster.units if name not in cluster.states)
        units.add_metric(("unloaded", ""), idle)
        yield units
        restarts = CounterMetricFamily(
            "kirsch_unit_restarts", "Restarts of a unit by itself", labels=("unit",)
        )
        for name, number in sorted(_restarts(states).items()):
            restarts.add_metric((name,), number)
        yield restarts
        ready = GaugeMetricFamily(
            "kirsch_unit_ready", "1 where a unit is ready to serve", labels=("unit", "machine")
        )
        for endpoint in cluster.endpoints:
            ready.add_metric((endpoint.unit, endpoint.machine), float(endpoint.ready))
        yield ready
        yield from _machines(cluster)


def _machines(cluster: Cluster) -> Iterator[Metric]:
    """Capacity of each machine, and what units reserve of it."""
    families = {
        "cpu": GaugeMetricFamily("kirsch_machine_cpu", "Cores of a machine", labels=("machine",)),
        "memory": GaugeMetricFamily(
            "kirsch_machine_memory_bytes", "Memory of a machine", labels=("machine",)
        ),
        "cordoned": GaugeMetricFamily(
            "kirsch_machine_cordoned", "1 where a machine gets no new units", labels=("machine",)
        ),
        "reserved cpu": GaugeMetricFamily(
            "kirsch_machine_reserved_cpu", "Cores that units reserve", labels=("machine",)
        ),
        "reserved memory": GaugeMetricFamily(
            "kirsch_machine_reserved_memory_bytes", "Memory that units reserve", labels=("machine",)
        ),
    }
    reserved = cluster.reservations()
    for machine in cluster.machines.values():
        cpu, memory = reserved.get(machine.id, (0.0, 0))
        values = {
            "cpu": machine.cpu,
            "memory": machine.memory,
            "cordoned": machine.cordoned or machine.drained,
            "reserved cpu": cpu,
            "reserved memory": memory,
        }
        for key, value in values.items():
            families[key].add_metric((machine.id,), float(value))
    yield from families.values()


# When each holder's last certificate ends, and the health of the store's members where it has any.
Known = tuple[Mapping[tuple[str, str], float], StoreHealth | None]


class NodeCollector(Collector):
    """Figures of this machine, its units and balancers' backends, the store as seen from here, certificates
    and backups.

    Of the machine there is no label: Prometheus knows it by the target.
    """

    def __init__(
        self, node: Node, ask: Callable[[Coroutine[Any, Any, Known]], Known], backups: Nightly | None
    ) -> None:
        self._node = node
        self._ask = ask
        self._backups = backups

    def collect(self) -> Iterator[Metric]:
        """Return the metrics of the last sample, and of what the event loop knows now."""
        figures = self._node.sampler.figures
        if (last := figures.last) is not None:
            yield from unit_metrics(figures, last)
            yield from _backends(last)
            yield from _machine(last, self._node.machine.memory)
        ends, health = self._ask(self._known())
        yield from store_metrics(self._node.as_of() is None, health)
        certificates = GaugeMetricFamily(
            "kirsch_certificate_expiry_timestamp_seconds",
            "When the last certificate of its holder ends",
            labels=("name", "role"),
        )
        for holder, until in sorted(ends.items()):
            certificates.add_metric(holder, until)
        yield certificates
        if self._backups is not None and self._backups.wanted():
            yield GaugeMetricFamily(
                "kirsch_backup_timestamp_seconds",
                "When this machine made its last backup, 0 for never",
                self._backups.newest(),
            )

    async def _known(self) -> Known:
        issued = [Issued.parse(entry.value) for entry in self._node.mirror.below(keys.CERTIFICATES)]
        health = None
        with suppress(RegistryError):
            health = await self._node.registry.health()
        return last_ends(issued), health


def last_ends(certificates: Iterable[Issued]) -> dict[tuple[str, str], float]:
    """Return when the last certificate of each name and role ends, without those that were revoked. Pure."""
    ends: dict[tuple[str, str], float] = {}
    for issued in certificates:
        if not issued.revoked:
            holder = issued.name, issued.role
            ends[holder] = max(issued.until, ends.get(holder, 0.0))
    return ends


def store_metrics(up: bool, health: StoreHealth | None) -> Iterator[Metric]:
    """Yield what is known of the store; `health` is None for one without members. Pure."""
    yield GaugeMetricFamily("kirsch_store_up", "1 while the store answers this machine", float(up))
    if health is not None:
        for name, text, value in (
            ("quorum", "1 while enough members answer for changes", health.quorum),
            ("members", "Members of the store", len(health.members)),
            ("members_up", "Members of the store that answer", len(health.answering)),
            ("alarms", "Alarms that members have raised", len(health.alarms)),
            ("size_bytes", "Size of the largest member's database", health.size),
        ):
            yield GaugeMetricFamily(f"kirsch_store_{name}", text, float(value))


def unit_metrics(figures: Figures, last: Sample) -> Iterator[Metric]:
    """Yield what the units of the last sample use."""
    used = {name: usage for name in sorted(last.units) if (usage := figures.totals(name)) is not None}
    memory = GaugeMetricFamily("kirsch_unit_memory_bytes", "Memory of a unit", labels=("unit",))
    peak = GaugeMetricFamily(
        "kirsch_unit_memory_peak_bytes", "Most memory of a unit since it started", labels=("unit",)
    )
    for name, usage in used.items():
        memory.add_metric((name,), usage.memory)
        peak.add_metric((name,), usage.peak)
    yield from (memory, peak)
    yield from _totals("kirsch_unit", {(name,): usage for name, usage in used.items()}, ("unit",))
    ready = GaugeMetricFamily(
        "kirsch_unit_ready_timestamp_seconds", "Since when a unit is ready", labels=("unit",)
    )
    for name in used:
        if (since := figures.ready_since(name)) is not None:
            ready.add_metric((name,), since)
    yield ready


def _totals(
    prefix: str, used: Mapping[tuple[str, ...], Usage], labels: tuple[str, ...] = ()
) -> Iterator[Metric]:
    """Yield what units and machines have in common."""
    cpu = CounterMetricFamily(f"{prefix}_cpu_seconds", "CPU time used", labels=labels)
    read = CounterMetricFamily(f"{prefix}_disk_read_bytes", "Bytes read from disks", labels=labels)
    written = CounterMetricFamily(f"{prefix}_disk_written_bytes", "Bytes written to disks", labels=labels)
    processes = GaugeMetricFamily(f"{prefix}_processes", "Processes", labels=labels)
    for values, usage in used.items():
        cpu.add_metric(values, usage.cpu)
        read.add_metric(values, usage.read)
        written.add_metric(values, usage.written)
        processes.add_metric(values, usage.processes)
    yield from (cpu, read, written, processes)


def _backends(last: Sample) -> Iterator[Metric]:
    labels = ("unit", "backend", "server")
    requests = CounterMetricFamily(
        "kirsch_backend_requests", "Requests of a balancer's backend or server", labels=labels
    )
    errors = CounterMetricFamily(
        "kirsch_backend_errors", "Requests that a backend or server failed at", labels=labels
    )
    latency = GaugeMetricFamily(
        "kirsch_backend_latency_seconds",
        "Mean time of a backend's or server's last 1024 answers",
        labels=labels,
    )
    queue = GaugeMetricFamily(
        "kirsch_backend_queue", "Requests that wait for a backend or server", labels=labels
    )
    for key, (_, counts) in sorted(last.backends.items()):
        requests.add_metric(key, counts.requests)
        errors.add_metric(key, counts.errors)
        latency.add_metric(key, counts.latency)
        queue.add_metric(key, counts.queue)
    yield from (requests, errors, latency, queue)


def _machine(last: Sample, memory: int) -> Iterator[Metric]:
    yield from _totals("kirsch_machine", {(): last.machine})
    for name, text, value in (
        ("memory_used_bytes", "Memory in use", last.machine.memory),
        ("memory_available_bytes", "Memory that is left", memory - last.machine.memory),
        ("disk_size_bytes", "Size of the disk with kirschd's state", last.disk_size),
        ("disk_free_bytes", "Space that is left on the disk with kirschd's state", last.disk_free),
    ):
        yield GaugeMetricFamily(f"kirsch_machine_{name}", text, float(value))


def reconcile_times(registry: CollectorRegistry) -> Callable[[float], None]:
    """Return the observer of `kirsch_reconcile_duration_seconds`: it takes the seconds of one."""
    histogram = Histogram(
        "kirsch_reconcile_duration_seconds",
        "Time the engine took to decide what is to change",
        registry=registry,
        buckets=BUCKETS,
    )
    return histogram.observe


def _restarts(states: Iterable[tuple[UnitName, UnitState]]) -> dict[str, int]:
    found: Counter[str] = Counter()
    for name, state in states:
        found[name.text] += state.restarts
    return dict(found)
