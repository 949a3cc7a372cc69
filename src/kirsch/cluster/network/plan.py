"""Plan: the commands that bring a machine's part of the flat network to its desired state. Pure."""

from collections.abc import Iterator
from ipaddress import ip_interface

from kirsch.cluster.network.state import (
    ANYBODY,
    BRIDGE,
    NETWORK,
    PORT,
    TABLE,
    UDP_PORT,
    Desired,
    Guard,
    Link,
    Observed,
    PodmanNetwork,
)
from kirsch.cluster.network.subnet import hardware_address

Command = tuple[str, ...]


def plan(desired: Desired, observed: Observed) -> list[Command]:
    """The commands of ip(8), bridge(8), nft(8), podman-network(1), in order; none where all is as desired."""
    steps = (_guard, _podman, _bridge, _port, _forwarding)
    return [command for step in steps for command in step(desired, observed)]


def removal(observed: Observed) -> list[Command]:
    """Return the commands that remove it all. podman leaves a bridge that has a port of ours, so the port
    goes first."""
    commands: list[Command] = []
    if PORT in observed.links:
        commands.append(("ip", "link", "delete", PORT))
    if observed.guard:
        commands.append(("nft", "delete", "table", "ip", TABLE))
    if observed.podman:
        commands.append(("podman", "network", "rm", "--force", "--time", "0", NETWORK))
    if BRIDGE in observed.links:
        commands.append(("ip", "link", "delete", BRIDGE))
    return commands


def guard(machines: frozenset[str]) -> Command:
    """Return the command that installs the packet filter in one transaction: the VXLAN's packets are accepted
    from these machines only.

    A machine that is not in the mesh may hold addresses that others have by now, and would be believed.
    """
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


def _guard(desired: Desired, observed: Observed) -> Iterator[Command]:
    if desired.guarded and observed.guard != Guard(desired.peers, 1):
        yield guard(desired.peers)


def podman_network(desired: Desired) -> PodmanNetwork:
    """Return podman's network in its desired state. Its own DNS server would take port 53 of the gateway's
    address."""
    return PodmanNetwork(
        subnet=str(desired.subnet),
        gateway=desired.subnet.gateway(desired.number),
        first=str(desired.subnet.containers(desired.number)[1]),
        bridge=BRIDGE,
        mtu=str(desired.mtu),
        dns=False,
    )


def _podman(desired: Desired, observed: Observed) -> Iterator[Command]:
    network = podman_network(desired)
    if observed.podman == network:
        return
    if observed.podman:
        yield ("podman", "network", "rm", NETWORK)
    # podman refuses a subnet that a device of the machine has; the address comes back with the bridge.
    yield from _without_addresses(desired, observed)
    yield (
        "podman", "network", "create", "--disable-dns",
        "--subnet", network.subnet, "--gateway", network.gateway,
        "--ip-range", str(desired.subnet.containers(desired.number)),
        "--interface-name", BRIDGE, "--opt", f"mtu={desired.mtu}", NETWORK,
    )  # fmt: skip


def _without_addresses(desired: Desired, observed: Observed) -> Iterator[Command]:
    bridge = observed.links.get(BRIDGE)
    for address in bridge.addresses if bridge else ():
        if ip_interface(address).network.overlaps(desired.subnet.network):
            yield ("ip", "address", "delete", address, "dev", BRIDGE)


def _bridge(desired: Desired, observed: Observed) -> Iterator[Command]:
    bridge, removed = observed.links.get(BRIDGE), set(_without_addresses(desired, observed))
    if observed.podman == podman_network(desired):
        removed = set()
    hardware = hardware_address(desired.subnet.gateway(desired.number))
    if bridge and bridge.kind != "bridge":
        yield ("ip", "link", "delete", BRIDGE)
        bridge = None
    if bridge is None:
        # With an address of its own it does not take that of its first port, and then that of another.
        yield ("ip", "link", "add", BRIDGE, "address", hardware, "mtu", str(desired.mtu), "type", "bridge")
        yield ("ip", "link", "set", BRIDGE, "up")
    elif changes := _changes(bridge, desired.mtu, hardware):
        yield ("ip", "link", "set", BRIDGE, *changes)
    has = set(bridge.addresses) if bridge else set()
    for address in sorted(has - {desired.gateway}):
        if ("ip", "address", "delete", address, "dev", BRIDGE) not in removed:
            yield ("ip", "address", "delete", address, "dev", BRIDGE)
    gone = ("ip", "address", "delete", desired.gateway, "dev", BRIDGE) in removed
    if desired.gateway not in has or gone:
        yield ("ip", "address", "add", desired.gateway, "dev", BRIDGE)
    # What was in a bridge that somebody deleted belongs into its successor.
    for index, name in sorted(desired.ports.items()):
        link = observed.links.get(name)
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


def _as_desired(desired: Desired, observed: Observed) -> Link | None:
    """The VXLAN port, if it is the one that is desired: what it was made with cannot be changed."""
    port = observed.links.get(PORT)
    if port is None or port.kind != "vxlan":
        return None
    made = (port.details.get("id"), port.details.get("port"), port.details.get("local", ""))
    return port if made == (desired.id, UDP_PORT, _local(desired, observed)) else None


def _local(desired: Desired, observed: Observed) -> str:
    """The address to send from; none where others know the machine by one that it does not have itself."""
    return desired.address if desired.address in observed.addresses else ""


def _port(desired: Desired, observed: Observed) -> Iterator[Command]:
    port = _as_desired(desired, observed)
    if port is None:
        if PORT in observed.links:
            yield ("ip", "link", "delete", PORT)
        local = _local(desired, observed)
        yield (
            "ip", "link", "add", PORT, "mtu", str(desired.mtu), "type", "vxlan",
            "id", str(desired.id), "dstport", str(UDP_PORT), *(("local", local) if local else ()),
        )  # fmt: skip
    replaced = BRIDGE not in observed.links or observed.links[BRIDGE].kind != "bridge"
    if port is None or replaced or port.master != BRIDGE:
        yield ("ip", "link", "set", PORT, "master", BRIDGE)
    if port and port.mtu != desired.mtu:
        yield ("ip", "link", "set", PORT, "mtu", str(desired.mtu))
    # One that is not in may have what others have by now: it is not to be heard.
    if port and port.up and not desired.joined:
        yield ("ip", "link", "set", PORT, "down")


def _forwarding(desired: Desired, observed: Observed) -> Iterator[Command]:
    port = _as_desired(desired, observed)
    flooded = observed.flooded if port else frozenset()
    for peer in sorted(desired.peers - flooded):
        yield ("bridge", "fdb", "append", ANYBODY, "dev", PORT, "dst", peer)
    for peer in sorted(flooded - desired.peers):
        yield ("bridge", "fdb", "delete", ANYBODY, "dev", PORT, "dst", peer)
    # What was on a machine that left is looked for anew, not sent to nobody until it is forgotten.
    for hardware, peer in sorted(observed.learned) if port else ():
        if peer not in desired.peers:
            yield ("bridge", "fdb", "delete", hardware, "dev", PORT, "dst", peer)
    if desired.joined and not (port and port.up):
        yield ("ip", "link", "set", PORT, "up")
