"""kirschd's figures for Prometheus: units by state, restarts, and what deciding costs."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from kirsch.cluster.model import Cluster, UnitState
from kirsch.unit import UnitName

BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)


class ClusterCollector(Collector):
    """`kirsch_units` by systemd's active and sub, `kirsch_unit_restarts_total` by unit."""

    def __init__(self, cluster: Callable[[], Cluster]) -> None:
        self._cluster = cluster

    def collect(self) -> Iterator[Metric]:
        """The figures of what this kirschd knows now."""
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


def reconcile_times(registry: CollectorRegistry) -> Callable[[float], None]:
    """What takes the seconds of each reconcile, told as `kirsch_reconcile_duration_seconds`."""
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
