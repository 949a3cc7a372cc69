"""Check of a machine's ability to be in the flat network, with reasons in words."""

from ipaddress import AddressValueError, IPv4Address

from kirsch.cluster.model.podman import parse_version
from kirsch.cluster.network.observation import CommandFailed, output
from kirsch.cluster.network.state import OVERHEAD, PORT, read_links

# What a Quadlet and its drop-in need (podman's release notes).
OLDEST = (4, 4)
TRIAL = "kirsch-trial"


async def why_not(address: str, mtu: int) -> str:
    """Say why a machine at `address` cannot be in the flat network, by its kernel and podman; empty if it
    can."""
    try:
        IPv4Address(address)
    except AddressValueError:
        return f"its address is {address}, and the flat network's packets go over IPv4"
    try:
        return await _podman() or await _vxlan() or await _mtu(address, mtu)
    except CommandFailed as error:
        return f"it cannot be in the flat network: {error}"


async def _podman() -> str:
    try:
        version = (await output("podman", "--version")).rpartition(" ")[2].strip()
    except CommandFailed as error:
        return f"it has no podman, by which containers come into the flat network ({error})"
    if parse_version(version) < OLDEST:
        return f"its podman is {version}, and the flat network needs {'.'.join(map(str, OLDEST))}"
    backend = (await output("podman", "info", "--format", "{{.Host.NetworkBackend}}")).strip()
    if backend != "netavark":
        return (
            f"its podman uses {backend}, and the flat network needs netavark: apt-get install netavark there"
        )
    return ""


async def _vxlan() -> str:
    """A port is made and taken away, unless there is one."""
    links = read_links(await output("ip", "-json", "-details", "address", "show"))
    await output("bridge", "-Version")
    if PORT in links:
        return ""
    if TRIAL in links:
        await output("ip", "link", "delete", TRIAL)
    try:
        await output("ip", "link", "add", TRIAL, "type", "vxlan", "id", "1", "dstport", "0")
    except CommandFailed as error:
        return f"its kernel has no VXLAN, of which the flat network is made ({error})"
    await output("ip", "link", "delete", TRIAL)
    return ""


async def _mtu(address: str, mtu: int) -> str:
    links = read_links(await output("ip", "-json", "-details", "address", "show"))
    for link in links.values():
        if any(each.partition("/")[0] == address for each in link.addresses) and link.mtu < mtu + OVERHEAD:
            return (
                f"its link {link.name} carries packets of {link.mtu} bytes, and the flat network needs "
                f"{mtu + OVERHEAD}: network.mtu in /etc/kirsch/kirschd.toml, on all machines"
            )
    return ""
