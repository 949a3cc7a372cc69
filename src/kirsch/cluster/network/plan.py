"""What is to be done that a machine's part of the flat network is as wanted: commands as values. Pure."""

from collections.abc import Iterator
from ipaddress import ip_interface

from kirsch.cluster.network.state import (
    ANYBODY,
    BRIDGE,
    NETWORK,
    PORT,
    TABLE,
    UDP_PORT,
    Guard,
    Link,
    PodmanNetwork,
    Seen,
    Wanted,
)
from kirsch.cluster.network.subnet import hardware_address

Command = tuple[str, ...]


def plan(wanted: Wanted, seen: Seen) -> list[Command]:
    """The commands of ip(8), bridge(8), nft(8), podman-network(1), in order; none where all is as wanted."""
    steps = (_guard, _podman, _bridge, _port, _forwarding)
    return [command for step in steps for command in step(wanted, seen)]


def removal(seen: Seen) -> list[Command]:
    """What takes all of it away. podman leaves a bridge that has a port of ours, so that goes first."""
    commands: list[Command] = []
    if PORT in seen.links:
        commands.append(("ip", "link", "delete", PORT))
    if seen.guard:
        commands.append(("nft", "delete", "table", "ip", TABLE))
    if seen.podman:
        commands.append(("podman", "network", "rm", "--force", "--time", "0", NETWORK))
    if BRIDGE in seen.links:
        commands.append(("ip", "link", "delete", BRIDGE))
    return commands


def guard(machines: frozenset[str]) -> Command:
    """What puts the guard there, all at once: packets of the VXLAN come in from these machines only. One that
    is not in may have what others have by now, and would be believed."""
    rule = f"udp dport {UDP_PORT} ip saddr != @machines drop"
    script = [
        # An error where there is none, unless it is made first.
        f"add table ip {TABLE}",
        f"delete table ip {TABLE}",
        f"add table ip {TABLE}",
        f"add set ip {TABLE} machines {{ type ipv4_addr; }}",
        f"add chain ip {TABLE} input {{ type filter hook input priority -10; }}",
        f"add rule ip {TABLE} input {rule}",
    ]
    if machines:
        script.append(f"add element ip {TABLE} machines {{ {', '.join(sorted(machines))} }}")
    return ("nft", "; ".join(script))


def _guard(wanted: Wanted, seen: Seen) -> Iterator[Command]:
    if wanted.guarded and seen.guard != Guard(wanted.peers, 1):
        yield guard(wanted.peers)


def podman_network(wanted: Wanted) -> PodmanNetwork:
    """podman's network as it is to be. Its own DNS server would take port 53 of the gateway's address."""
    return PodmanNetwork(
        subnet=str(wanted.subnet),
        gateway=wanted.subnet.gateway(wanted.number),
        first=str(wanted.subnet.containers(wanted.number)[1]),
        bridge=BRIDGE,
        mtu=str(wanted.mtu),
        dns=False,
    )


def _podman(wanted: Wanted, seen: Seen) -> Iterator[Command]:
    network = podman_network(wanted)
    if seen.podman == network:
        return
    if seen.podman:
        yield ("podman", "network", "rm", NETWORK)
    # podman refuses a subnet that a device of the machine has; the address comes back with the bridge.
    yield from _without_addresses(wanted, seen)
    yield (
        "podman", "network", "create", "--disable-dns",
        "--subnet", network.subnet, "--gateway", network.gateway,
        "--ip-range", str(wanted.subnet.containers(wanted.number)),
        "--interface-name", BRIDGE, "--opt", f"mtu={wanted.mtu}", NETWORK,
    )  # fmt: skip


def _without_addresses(wanted: Wanted, seen: Seen) -> Iterator[Command]:
    bridge = seen.links.get(BRIDGE)
    for address in bridge.addresses if bridge else ():
        if ip_interface(address).network.overlaps(wanted.subnet.network):
            yield ("ip", "address", "delete", address, "dev", BRIDGE)


def _bridge(wanted: Wanted, seen: Seen) -> Iterator[Command]:
    bridge, removed = seen.links.get(BRIDGE), set(_without_addresses(wanted, seen))
    if seen.podman == podman_network(wanted):
        removed = set()
    hardware = hardware_address(wanted.subnet.gateway(wanted.number))
    if bridge and bridge.kind != "bridge":
        yield ("ip", "link", "delete", BRIDGE)
        bridge = None
    if bridge is None:
        # With an address of its own it does not take that of its first port, and then that of another.
        yield ("ip", "link", "add", BRIDGE, "address", hardware, "mtu", str(wanted.mtu), "type", "bridge")
        yield ("ip", "link", "set", BRIDGE, "up")
    elif changes := _changes(bridge, wanted.mtu, hardware):
        yield ("ip", "link", "set", BRIDGE, *changes)
    has = set(bridge.addresses) if bridge else set()
    for address in sorted(has - {wanted.gateway}):
        if ("ip", "address", "delete", address, "dev", BRIDGE) not in removed:
            yield ("ip", "address", "delete", address, "dev", BRIDGE)
    gone = ("ip", "address", "delete", wanted.gateway, "dev", BRIDGE) in removed
    if wanted.gateway not in has or gone:
        yield ("ip", "address", "add", wanted.gateway, "dev", BRIDGE)
    # What was in a bridge that somebody deleted belongs into its successor.
    for index, name in sorted(wanted.ports.items()):
        link = seen.links.get(name)
        if link and link.index == index and not link.master:
            yield ("ip", "link", "set", name, "master", BRIDGE)


def _changes(link: Link, mtu: int, hardware: str = "") -> list[str]:
    """The arguments of `ip link set` for a device that is not as it should be."""
    changes = []
    if hardware and link.hardware != hardware:
        changes += ["address", hardware]
    if link.mtu != mtu:
        changes += ["mtu", str(mtu)]
    if not link.up:
        changes += ["up"]
    return changes


def _as_wanted(wanted: Wanted, seen: Seen) -> Link | None:
    """The VXLAN port, if it is the one that is wanted: what it was made with cannot be changed."""
    port = seen.links.get(PORT)
    if port is None or port.kind != "vxlan":
        return None
    made = (port.details.get("id"), port.details.get("port"), port.details.get("local", ""))
    return port if made == (wanted.id, UDP_PORT, _local(wanted, seen)) else None


def _local(wanted: Wanted, seen: Seen) -> str:
    """The address to send from; none where others know the machine by one that it does not have itself."""
    return wanted.address if wanted.address in seen.addresses else ""


def _port(wanted: Wanted, seen: Seen) -> Iterator[Command]:
    port = _as_wanted(wanted, seen)
    if port is None:
        if PORT in seen.links:
            yield ("ip", "link", "delete", PORT)
        local = _local(wanted, seen)
        yield (
            "ip", "link", "add", PORT, "mtu", str(wanted.mtu), "type", "vxlan",
            "id", str(wanted.id), "dstport", str(UDP_PORT), *(("local", local) if local else ()),
        )  # fmt: skip
    replaced = BRIDGE not in seen.links or seen.links[BRIDGE].kind != "bridge"
    if port is None or replaced or port.master != BRIDGE:
        yield ("ip", "link", "set", PORT, "master", BRIDGE)
    if port and port.mtu != wanted.mtu:
        yield ("ip", "link", "set", PORT, "mtu", str(wanted.mtu))
    # One that is not in may have what others have by now: it is not to be heard.
    if port and port.up and not wanted.joined:
        yield ("ip", "link", "set", PORT, "down")


def _forwarding(wanted: Wanted, seen: Seen) -> Iterator[Command]:
    port = _as_wanted(wanted, seen)
    flooded = seen.flooded if port else frozenset()
    for peer in sorted(wanted.peers - flooded):
        yield ("bridge", "fdb", "append", ANYBODY, "dev", PORT, "dst", peer)
    for peer in sorted(flooded - wanted.peers):
        yield ("bridge", "fdb", "delete", ANYBODY, "dev", PORT, "dst", peer)
    # What was on a machine that left is looked for anew, not sent to nobody until it is forgotten.
    for hardware, peer in sorted(seen.learned) if port else ():
        if peer not in wanted.peers:
            yield ("bridge", "fdb", "delete", hardware, "dev", PORT, "dst", peer)
    if wanted.joined and not (port and port.up):
        yield ("ip", "link", "set", PORT, "up")
