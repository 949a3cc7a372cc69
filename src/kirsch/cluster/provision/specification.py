"""Specification of a cluster as a person asked for it, and a site for it on this computer. Pure."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network

from kirsch.cluster.network.subnet import DEFAULT, Subnet, SubnetError
from kirsch.cluster.provision.record import ProvisionError, checked_name

MAX_MACHINES = 20
KEY = re.compile(r"[A-Za-z0-9_.-]{1,64}")
VALUE = re.compile(r"[^\s,/=\"\\\x00-\x1f]{1,128}")


@dataclass(frozen=True, slots=True)
class Publication:
    """A port of this computer (`host`, on `address`) that leads to one of a machine."""

    host: int
    machine: int
    address: str = "127.0.0.1"

    def __str__(self) -> str:
        return f"{self.address}:{self.host}:{self.machine}"


@dataclass(frozen=True, slots=True)
class Specification:
    """A cluster as it is wanted; `metadata` has an entry for each machine, in their order. `image` is what
    machines are to begin with, empty for what kirsch makes itself."""

    name: str
    machines: tuple[str, ...]
    metadata: tuple[Mapping[str, str], ...]
    published: tuple[Publication, ...] = ()
    image: str = ""
    network: Subnet | None = None

    @classmethod
    def parse(
        cls,
        name: str,
        count: int,
        metadata: Sequence[str] = (),
        published: Sequence[str] = (),
        subnet: str = DEFAULT,
    ) -> "Specification":
        """From the words of a command line. Raises ProvisionError with one line.

        Metadata is KEY=VALUE,… for all machines, VALUE/VALUE/… for one after another (anew from the first
        where there are more machines), MACHINE:KEY=VALUE,… for one of them; what comes later holds.
        """
        checked_name(name)
        if not 1 <= count <= MAX_MACHINES:
            raise ProvisionError(f"a cluster has 1 to {MAX_MACHINES} machines here, not {count}")
        machines = tuple(f"n{number}" for number in range(1, count + 1))
        given: dict[str, dict[str, str]] = {machine: {} for machine in machines}
        for text in metadata:
            _metadata(text, given)
        ports = tuple(_publication(text) for text in published)
        hosts = [(port.address, port.host) for port in ports]
        if twice := next((host for at, host in hosts if hosts.count((at, host)) > 1), None):
            raise ProvisionError(f"--publish: port {twice} of this computer is given twice")
        network = _network(subnet, count)
        return cls(name, machines, tuple(given[machine] for machine in machines), ports, network=network)


def _network(text: str, count: int) -> Subnet | None:
    if text == "none":
        return None
    try:
        subnet = Subnet.parse(text)
    except SubnetError as error:
        raise ProvisionError(f"--subnet: {error}") from None
    if subnet.machines < count:
        raise ProvisionError(f"--subnet: {subnet} has room for {subnet.machines} machines, not for {count}")
    return subnet


def metadata_of_one(metadata: Sequence[str]) -> Mapping[str, str]:
    """Read KEY=VALUE,… of one machine. Raises ProvisionError."""
    given: dict[str, dict[str, str]] = {"": {}}
    for text in metadata:
        _metadata(f":{text}", given)
    return given[""]


def _metadata(text: str, given: dict[str, dict[str, str]]) -> None:
    machine, colon, rest = text.partition(":")
    alone = bool(colon) and "=" not in machine
    if alone and machine not in given:
        raise ProvisionError(
            f"--metadata {text}: there is no machine {machine}; there are {', '.join(given)}"
        )
    for pair in (rest if alone else text).split(","):
        key, equals, value = pair.partition("=")
        values = value.split("/")
        if not equals or not KEY.fullmatch(key) or not all(map(VALUE.fullmatch, values)):
            raise ProvisionError(
                f"--metadata {text}: write KEY=VALUE,… or zone=a/b/c for one machine after another, "
                "or n2:KEY=VALUE for one"
            )
        if key == "hostname":
            raise ProvisionError(f"--metadata {text}: hostname is what the machine is called")
        if alone and len(values) > 1:
            raise ProvisionError(f"--metadata {text}: one machine has one value of {key}")
        for index, name in enumerate([machine] if alone else given):
            given[name][key] = values[index % len(values)]


def _publication(text: str) -> Publication:
    found = re.fullmatch(r"(?:([0-9.]+):)?([0-9]{1,5}):([0-9]{1,5})", text)
    if not found or not all(0 < int(port) < 65536 for port in found.groups()[1:]):
        raise ProvisionError(
            f"--publish {text}: write PORT-HERE:PORT-OF-THE-MACHINE, as 7070:8091, or an address before them"
        )
    return Publication(int(found[2]), int(found[3]), found[1] or "127.0.0.1")


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
