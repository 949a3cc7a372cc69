"""Division of a cluster's subnet. Pure.

The lower half is the machines': its first block holds their gateways, by their numbers, and each machine has
a block for containers that kirsch did not start. The upper half is the units'. Of 10.210.0.0/16 machine 3 has
the gateway 10.210.0.3 and the block 10.210.3.0/24, and units have addresses from 10.210.128.1 on.
"""

import hashlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv4Network, NetmaskValueError

DEFAULT = "10.210.0.0/16"
# Prefixes: a larger subnet is somebody else's too, a smaller one has no room for machines and units.
LARGEST, SMALLEST = 8, 24


class SubnetError(ValueError):
    """Why a subnet cannot be a cluster's: one line that says what to do."""


@dataclass(frozen=True, slots=True)
class Subnet:
    """IPv4 subnet of a cluster."""

    network: IPv4Network

    @classmethod
    def parse(cls, text: str) -> "Subnet":
        """From ADDRESS/PREFIX. Raises SubnetError."""
        try:
            network = IPv4Network(text, strict=False)
        except (AddressValueError, NetmaskValueError, ValueError):
            raise SubnetError(f"{text!r} is no IPv4 subnet: write one as {DEFAULT}") from None
        if "/" not in text or not LARGEST <= network.prefixlen <= SMALLEST:
            raise SubnetError(
                f"a cluster's subnet is a /{LARGEST} to a /{SMALLEST}, not {text}: {DEFAULT} has room for "
                f"{cls(IPv4Network(DEFAULT)).machines} machines"
            )
        if str(network) != text:
            raise SubnetError(f"{text} is an address in a subnet; the subnet is {network}")
        if _special(network):
            raise SubnetError(
                f"{text} is not for networks of one's own: 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16 are"
            )
        return cls(network)

    def __str__(self) -> str:
        return str(self.network)

    @property
    def machines(self) -> int:
        """Number of machines that have room; their numbers begin at 1."""
        return (1 << (31 - self.network.prefixlen - self._block_bits)) - 1

    @property
    def _block_bits(self) -> int:
        return (32 - self.network.prefixlen) // 2

    def gateway(self, number: int) -> str:
        """A machine's own address in the network."""
        return str(self.network[number])

    def containers(self, number: int) -> IPv4Network:
        """The block from which a machine's podman gives addresses to containers that name none."""
        first = self.network[number << self._block_bits]
        return IPv4Network((first, 32 - self._block_bits))

    @property
    def units(self) -> IPv4Network:
        """Block of the units' addresses."""
        return list(self.network.subnets(1))[1]

    def overlap(self, others: Iterable[IPv4Network]) -> IPv4Network | None:
        """The first of others that shares addresses with this one."""
        return next((other for other in others if self.network.overlaps(other)), None)


def free_number(subnet: Subnet, taken: Collection[int]) -> int:
    """The lowest number that no machine has. Raises SubnetError when there is none."""
    for number in range(1, subnet.machines + 1):
        if number not in taken:
            return number
    raise SubnetError(f"{subnet} has room for {subnet.machines} machines, and each number is given")


def free_address(subnet: Subnet, whose: str, taken: Collection[str]) -> str:
    """An address that no unit has, for `whose`: where nobody else has it, it is always the same, and two that
    are given at once are hardly ever one. Those that end in 0 and 255 are not given.

    Raises SubnetError when there is none."""
    units = subnet.units
    start = int.from_bytes(hashlib.sha256(whose.encode()).digest()[:8], "big") % units.num_addresses
    for offset in range(units.num_addresses):
        address = units[(start + offset) % units.num_addresses]
        if int(address) & 0xFF not in (0, 0xFF) and str(address) not in taken:
            return str(address)
    raise SubnetError(
        f"no address of {units} is free, where units have theirs: the cluster's subnet is too small"
    )


def hardware_address(address: str) -> str:
    """The MAC address that goes with an IPv4 address: others remember it (arp(7)), and when the address moves
    they need not learn another."""
    return ":".join(f"{byte:02x}" for byte in (0x02, 0x6B, *IPv4Address(address).packed))


def _special(network: IPv4Network) -> bool:
    return (
        network.is_multicast
        or network.is_loopback
        or network.is_link_local
        or network.is_reserved
        or IPv4Network("0.0.0.0/8").overlaps(network)
    )
