"""What a Bridge has counted since it began."""

from collections import Counter

from prometheus_client import CollectorRegistry, Histogram

# Seconds.
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Counters:
    """Numbers that grow.

    Attributes:
        received: messages that were taken from connections. messages: those that came from the broker.
        doubles: those that had come before. signals: signals from connections. slow: connections closed as
        they did not read. refused: by the error's code. closed: by the close code, of those we closed.
    """

    def __init__(self) -> None:
        self.received = self.messages = self.doubles = self.signals = self.slow = 0
        self.refused: Counter[str] = Counter()
        self.closed: Counter[int] = Counter()
        self.confirmation = Histogram(
            "kirsch_amqp_confirmation_seconds",
            "Time from a message's arrival to the broker's confirmation",
            registry=CollectorRegistry(),
            buckets=BUCKETS,
        )

    def confirmed(self, seconds: float) -> None:
        self.confirmation.observe(seconds)
