"""Membership of a machine in the flat network, and the report of it to others."""

from kirsch.cluster.model import keys
from kirsch.cluster.network.base import Network
from kirsch.cluster.registry.lease import MachineLease
from kirsch.cluster.registry.mirror import Mirror


class Membership:
    """One machine's, by its id. Others are told of it under the lease that they see its units under."""

    def __init__(self, machine: str, network: Network | None, mirror: Mirror, lease: MachineLease) -> None:
        self._machine = machine
        self._network = network
        self._mirror = mirror
        self._lease = lease
        # The lease under which others are told; 0 for none.
        self._told = 0

    @property
    def told(self) -> bool:
        """True if others are to be told."""
        return self._told != 0

    @property
    def apart(self) -> str:
        """Until when nothing is started in it, to follow "waits"; empty where that is now."""
        if self._network is None:
            return ""
        entry = self._mirror.entries.get(keys.mesh(self._machine))
        seen = entry is not None and entry.lease == self._lease.current
        return self._network.apart or ("" if seen else "until its machine is in the flat network")

    def enter(self) -> None:
        """Have others told, if the network stands here: the machine has stopped what is not its own."""
        if self._network is not None and self._network.stands:
            self._told = self._lease.current

    def lapse(self) -> bool:
        """True if others were told under another lease than is current. From then on they are not, until the
        machine has stopped what is not its own any more."""
        if not self._told or self._told == self._lease.current:
            return False
        self._told = 0
        return True
