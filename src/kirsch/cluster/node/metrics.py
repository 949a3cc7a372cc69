"""Metrics of kirschd for Prometheus: units, machines, and the time that decisions take."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from kirsch.cluster.model import Cluster, UnitState
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
    for machine in cluster.machines.values():
        held = [
            cluster.units[name].options
            for name, places in cluster.schedule.items()
            if machine.id in places and name in cluster.units
        ]
        values = {
            "cpu": machine.cpu,
            "memory": machine.memory,
            "cordoned": machine.cordoned or machine.drained,
            "reserved cpu": sum(options.cpu for options in held),
            "reserved memory": sum(options.memory for options in held),
        }
        for key, value in values.items():
            families[key].add_metric((machine.id,), float(value))
    yield from families.values()


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
