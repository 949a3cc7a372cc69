"""The way from a machine to the store: how long it takes, and what is lost on it."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random


@dataclass(frozen=True, slots=True)
class Weather:
    """How bad the network is: the chances, of each message, to be slow, to be lost, and of a request to
    arrive when nobody waits for it any more."""

    slow: float = 0.01
    lost: float = 0.0
    late: float = 0.0


class Link:
    """One machine's. `listener` is called when it is cut or mended."""

    def __init__(self, random: Random, weather: Weather) -> None:
        self.random = random
        self.weather = weather
        self.up = True
        self.listener: Callable[[], None] = lambda: None

    def cut(self) -> None:
        """Nothing comes through from now on."""
        self.up = False
        self.listener()

    def mend(self) -> None:
        """All comes through again."""
        self.up = True
        self.listener()

    def delay(self) -> float:
        """Seconds that one message takes, one way."""
        random = self.random.random
        if random() < self.weather.slow:
            return 0.005 + random()
        return 0.0003 + 0.002 * random()

    def loses(self) -> bool:
        """Whether a message is lost."""
        return self.weather.lost > 0 and self.random.random() < self.weather.lost

    def delays(self) -> bool:
        """Whether a request comes after its time."""
        return self.weather.late > 0 and self.random.random() < self.weather.late
