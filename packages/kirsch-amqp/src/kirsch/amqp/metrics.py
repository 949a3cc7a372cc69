"""Figures of a Bridge for Prometheus: `MetricsPlugin.add(BridgeCollector(bridge))`."""

import threading
from collections import Counter
from collections.abc import Iterator
from typing import Protocol

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

P = "kirsch_amqp"
# Seconds.
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

# Name, description, value.
Figure = tuple[str, str, float]


class Counters:
    """Counters of one Bridge; they only grow.

    Attributes:
        received: messages taken from connections.
        messages: messages that came from the broker.
        doubles: duplicates among these.
        signals: signals taken from connections.
        slow: connections closed because they did not read.
        refused: by error code. closed: by close code, connections that the Bridge closed.
    """

    def __init__(self) -> None:
        self.received = self.messages = self.doubles = self.signals = self.slow = 0
        self.refused: Counter[str] = Counter()
        self.closed: Counter[int] = Counter()
        self._lock = threading.Lock()
        self._confirmation = Histogram(
            f"{P}_confirmation_seconds",
            "Time from a message's arrival to the broker's confirmation",
            registry=CollectorRegistry(),
            buckets=BUCKETS,
        )

    def refuse(self, code: str) -> None:
        """Count an error told to a client. Thread-safe."""
        with self._lock:
            self.refused[code] += 1

    def close(self, code: int) -> None:
        """Count a connection that the Bridge closed. Thread-safe."""
        with self._lock:
            self.closed[code] += 1

    def confirmed(self, seconds: float) -> None:
        """Count a message that the broker confirmed after so many seconds."""
        self._confirmation.observe(seconds)

    def collect(self) -> Iterator[Metric]:
        totals = (
            ("received", "Messages taken from connections", self.received),
            ("messages", "Messages that came from the broker", self.messages),
            ("doubles", "Messages that had come before", self.doubles),
            ("signals", "Signals taken from connections", self.signals),
            ("slow", "Connections closed as they did not read", self.slow),
        )
        for name, text, value in totals:
            yield CounterMetricFamily(f"{P}_{name}", text, value)
        refused = CounterMetricFamily(f"{P}_refused", "What was refused, by error", labels=["code"])
        for code, count in tuple(self.refused.items()):
            refused.add_metric([code], count)
        yield refused
        closed = CounterMetricFamily(f"{P}_closed", "Connections closed, by close code", labels=["code"])
        for close, count in tuple(self.closed.items()):
            closed.add_metric([str(close)], count)
        yield closed
        yield from self._confirmation.collect()


class Measured(Protocol):
    """A Bridge, as its figures are read."""

    counters: Counters

    def gauges(self) -> tuple[Figure, ...]: ...

    def totals(self) -> tuple[Figure, ...]: ...


class BridgeCollector(Collector):
    """Collector that reads a Bridge's figures when they are asked for."""

    def __init__(self, bridge: Measured) -> None:
        self.bridge = bridge

    def collect(self) -> Iterator[Metric]:
        for name, text, value in self.bridge.gauges():
            yield GaugeMetricFamily(f"{P}_{name}", text, value)
        for name, text, value in self.bridge.totals():
            yield CounterMetricFamily(f"{P}_{name}", text, value)
        yield from self.bridge.counters.collect()
