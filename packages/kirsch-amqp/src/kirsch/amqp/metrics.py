"""A Bridge's figures for Prometheus: `MetricsPlugin.add(BridgeCollector(bridge))`."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from kirsch.amqp.bridge import Bridge

P = "kirsch_amqp"


class BridgeCollector(Collector):
    """Read when they are asked for; nothing is done for them meanwhile."""

    def __init__(self, bridge: Bridge) -> None:
        self.bridge = bridge

    def collect(self) -> Iterator[Metric]:
        bridge, counters, rooms = self.bridge, self.bridge.counters, self.bridge.rooms
        gauges = (
            ("connected", "Whether the broker is there", int(bridge.amqp.connected)),
            ("unconfirmed", "Messages that wait for the broker's confirmation", bridge.amqp.unconfirmed),
            ("connections", "Connections that have said hello", len(bridge.connections)),
            ("rooms", "Rooms that are known", len(rooms)),
            ("history_bytes", "Bytes of messages that are kept", rooms.size),
            ("lagging_rooms", "Rooms with members who are behind", len(rooms.lagging)),
            ("processes", "Processes that share the rooms", bridge.others.presence.processes),
            ("stream_offset", "The last message of the stream that has come", rooms.offset),
        )
        for name, text, value in gauges:
            yield GaugeMetricFamily(f"{P}_{name}", text, value)
        totals = (
            ("received", "Messages taken from connections", counters.received),
            ("messages", "Messages that came from the broker", counters.messages),
            ("deliveries", "Messages sent to members of rooms", rooms.delivered),
            ("doubles", "Messages that had come before", counters.doubles),
            ("signals", "Signals taken from connections", counters.signals),
            ("slow", "Connections closed as they did not read", counters.slow),
            ("gaps", "Members who have missed messages", rooms.gaps),
        )
        for name, text, value in totals:
            yield CounterMetricFamily(f"{P}_{name}", text, value)
        refused = CounterMetricFamily(f"{P}_refused", "What was refused, by error", labels=["code"])
        for code, count in tuple(counters.refused.items()):
            refused.add_metric([code], count)
        yield refused
        closed = CounterMetricFamily(f"{P}_closed", "Connections closed, by close code", labels=["code"])
        for close, count in tuple(counters.closed.items()):
            closed.add_metric([str(close)], count)
        yield closed
        yield from counters.confirmation.collect()
