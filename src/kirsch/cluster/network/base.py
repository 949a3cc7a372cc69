"""Contract between the agent and its machine's part of the flat network."""

from collections.abc import Callable
from typing import Protocol

from kirsch.cluster.network.subnet import Subnet


class Network(Protocol):
    """One machine's part of the flat network. For one event loop."""

    subnet: Subnet
    may_stay: Callable[[], bool]
    """True if this machine may stay in the network though its mesh key vanished; its agent sets this."""

    @property
    def stands(self) -> bool:
        """True while all parts of it are there on this machine, so that others can be told of it."""

    @property
    def apart(self) -> str:
        """Reason why no unit can be started in it here, to follow "waits"; empty if one can."""

    @property
    def unwatched(self) -> str:
        """Reason why changes by others are noticed late; empty if they are noticed at once."""

    @property
    def gateway(self) -> str:
        """The machine's own address in it; empty as long as it has none."""

    def listen(self, listener: Callable[[], None]) -> None:
        """Call `listener` when either has changed."""

    def announce(self, address: str) -> None:
        """A unit of this machine has an address now: tell whoever remembers another place."""

    async def run(self) -> None:
        """Make it, and keep it as it is to be, until cancelled."""
