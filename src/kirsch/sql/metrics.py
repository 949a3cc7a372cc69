"""The pool's figures for Prometheus: `metrics.add(PoolCollector(plugin))` with a kirsch.bus.MetricsPlugin."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import QueuePool

from kirsch.sql.plugin import SQLAlchemyPlugin
from kirsch.sql.pool import CountingPool


class PoolCollector(Collector):
    """`sql_pool_size`, `_checked_out`, `_overflow` and `_waits_total`; nothing while the bus is stopped."""

    def __init__(self, plugin: SQLAlchemyPlugin) -> None:
        self._plugin = plugin

    def collect(self) -> Iterator[Metric]:
        """The figures as they are now."""
        try:
            pool = self._plugin.engine.pool
        except RuntimeError:
            return
        if not isinstance(pool, QueuePool):
            return
        yield GaugeMetricFamily("sql_pool_size", "Connections the pool keeps", pool.size())
        yield GaugeMetricFamily("sql_pool_checked_out", "Connections in use", pool.checkedout())
        yield GaugeMetricFamily(
            "sql_pool_overflow", "Connections beyond the pool's size", max(pool.overflow(), 0)
        )
        if isinstance(pool, CountingPool):
            yield CounterMetricFamily(
                "sql_pool_waits", "Requests that found every connection in use", pool.waits
            )
