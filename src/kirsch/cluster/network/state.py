"""Desired and observed state of a machine's part of the flat network, as values. Pure.

The observed state is read from the output of `ip -json -details address`, `bridge -json fdb` and `podman
network inspect` (ip-address(8), bridge(8), podman-network-inspect(1)).
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kirsch.cluster.network.subnet import Subnet

NETWORK = "kirsch"
BRIDGE = "kirsch0"
PORT = "kirsch-vx0"
# RFC 7348: VXLAN's UDP port; its headers take 50 bytes of what a link between machines carries.
UDP_PORT = 4789
OVERHEAD = 50
MTU = 1500 - OVERHEAD
# nft(8): a table of our own.
TABLE = "kirsch"
# bridge(8): an entry with this address is where frames go whose way is not known, and broadcasts.
ANYBODY = "00:00:00:00:00:00"


@dataclass(frozen=True, slots=True)
class Desired:
    """Desired state of one machine's part."""

    subnet: Subnet
    number: int  # of the machine in the subnet
    address: str  # among machines; empty if it is translated on the way to this one
    id: int  # of the VXLAN
    mtu: int = MTU
    peers: frozenset[str] = frozenset()
    joined: bool = False
    ports: Mapping[int, str] = field(default_factory=dict)
    guarded: bool = True

    @property
    def gateway(self) -> str:
        """The machine's own address in it, as ip-address(8) has it."""
        return f"{self.subnet.gateway(self.number)}/{self.subnet.network.prefixlen}"


@dataclass(frozen=True, slots=True)
class Link:
    """A network device: `master` is the bridge it is a port of, `details` what is its kind's own."""

    index: int
    name: str
    kind: str
    up: bool
    mtu: int
    hardware: str
    master: str = ""
    addresses: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PodmanNetwork:
    """A network as podman has it."""

    subnet: str
    gateway: str
    first: str
    bridge: str
    mtu: str
    dns: bool


@dataclass(frozen=True, slots=True)
class Guard:
    """Packet filter on the VXLAN's packets: the machines they are accepted from, and the number of its
    rules."""

    machines: frozenset[str]
    rules: int


@dataclass(frozen=True, slots=True)
class Observed:
    """All that is there: devices by name, where the VXLAN port sends what goes to anybody, what it
    has learned of whom (hardware address and machine), podman's network, and the guard."""

    links: Mapping[str, Link] = field(default_factory=dict)
    flooded: frozenset[str] = frozenset()
    learned: frozenset[tuple[str, str]] = frozenset()
    podman: PodmanNetwork | None = None
    guard: Guard | None = None

    @property
    def addresses(self) -> frozenset[str]:
        """The machine's own addresses, on any device."""
        found = (address for link in self.links.values() for address in link.addresses)
        return frozenset(address.partition("/")[0] for address in found)

    @property
    def ports(self) -> dict[int, str]:
        """Ports of the bridge that belong to containers."""
        return {
            link.index: link.name
            for link in self.links.values()
            if link.master == BRIDGE and link.name != PORT
        }


def vxlan_id(cluster: str) -> int:
    """A cluster's own VXLAN (RFC 7348: 24 bits): two that share machines' links do not hear each other."""
    return 1 + int.from_bytes(hashlib.sha256(cluster.encode()).digest()[:3], "big") % 0xFFFFFE


def read_links(text: str) -> dict[str, Link]:
    """From `ip -json -details address show`."""
    links = {}
    for values in json.loads(text or "[]"):
        if not values:
            continue  # iproute2 prints {} for what it was not asked for
        info = values.get("linkinfo", {})
        links[values["ifname"]] = Link(
            index=values["ifindex"],
            name=values["ifname"],
            kind=info.get("info_kind", ""),
            up="UP" in values.get("flags", ()),
            mtu=values.get("mtu", 0),
            hardware=values.get("address", ""),
            master=values.get("master", ""),
            addresses=tuple(
                f"{each['local']}/{each['prefixlen']}"
                for each in values.get("addr_info", ())
                if each.get("family") == "inet"
            ),
            details=info.get("info_data", {}),
        )
    return links


def read_forwarding(text: str) -> tuple[frozenset[str], frozenset[tuple[str, str]]]:
    """From `bridge -json fdb show dev PORT`: where all goes, and what was learned."""
    entries = [entry for entry in json.loads(text or "[]") if "dst" in entry]
    flooded = frozenset(entry["dst"] for entry in entries if entry["mac"] == ANYBODY)
    learned = frozenset((entry["mac"], entry["dst"]) for entry in entries if entry["mac"] != ANYBODY)
    return flooded, learned


def read_guard(text: str) -> Guard:
    """From `nft --json list table ip kirsch`."""
    entries = json.loads(text)["nftables"]
    sets = [entry["set"] for entry in entries if "set" in entry]
    machines = frozenset(each for found in sets for each in found.get("elem", ()) if isinstance(each, str))
    return Guard(machines, sum("rule" in entry for entry in entries))


def read_podman(text: str) -> PodmanNetwork | None:
    """From `podman network inspect`; None where it has no such network."""
    for values in json.loads(text or "[]"):
        subnet = (values.get("subnets") or [{}])[0]
        return PodmanNetwork(
            subnet=subnet.get("subnet", ""),
            gateway=subnet.get("gateway", ""),
            first=(subnet.get("lease_range") or {}).get("start_ip", ""),
            bridge=values.get("network_interface", ""),
            mtu=(values.get("options") or {}).get("mtu", ""),
            dns=bool(values.get("dns_enabled")),
        )
    return None
