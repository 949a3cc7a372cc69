"""Site of a new cluster: a free subnet for its machines, and ports that go with it. Pure."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network

# One /24 a cluster. Ports go with the subnet, so that who has the one has the others: below the range that
# Linux gives to outgoing connections (ip_local_port_range begins at 32768).
POOL = IPv4Network("10.201.0.0/16")
FIRST_PORT = 21000
PORTS = 40


@dataclass(frozen=True, slots=True)
class Site:
    """A subnet, and the ports of this computer for the machines in it, numbered from 0."""

    subnet: IPv4Network
    first_port: int

    @property
    def gateway(self) -> str:
        """This computer, seen from the machines."""
        return str(self.subnet[1])

    def address(self, number: int) -> str:
        """Return the address of a machine by its number."""
        return str(self.subnet[11 + number])

    def ssh_port(self, number: int) -> int:
        """The port of this computer that leads to a machine's sshd."""
        return self.first_port + 2 * number

    def api_port(self, number: int) -> int:
        """The port of this computer that leads to a machine's kirschd."""
        return self.first_port + 2 * number + 1


def sites(machines: int, taken: Iterable[IPv4Network], free: Callable[[int], bool]) -> Iterator[Site]:
    """Sites for so many machines, the first to be tried first: no subnet of `taken` overlaps, and all ports
    are `free`."""
    used = list(taken)
    for index, subnet in enumerate(POOL.subnets(new_prefix=24)):
        first = FIRST_PORT + PORTS * index
        if not any(subnet.overlaps(other) for other in used) and all(
            free(port) for port in range(first, first + 2 * machines)
        ):
            yield Site(subnet, first)
