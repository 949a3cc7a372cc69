"""podman's commands, as values. Pure; see podman(1) and its pages, 4.3 and later."""

import json
import resource
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, ip_network
from pathlib import Path

from kirsch.cluster.network.subnet import hardware_address
from kirsch.cluster.provision.command import Command, Runner
from kirsch.cluster.provision.record import ClusterRecord, MachineRecord
from kirsch.cluster.provision.specification import Site

LABEL = "io.kirsch.cluster"
# In a container's own cgroup namespace systemd wants the whole tree of cgroups v2, whatever the host mounts.
# Its helpers mount credentials in a namespace of their own: only what is shared comes out of there. Where
# firewalls see what passes through bridges (br_netfilter) each new network namespace does so; in a machine
# nobody wants that, and containers would speak half as fast to each other.
BOOT = (
    "for each in /proc/sys/net/bridge/bridge-nf-call-*; do echo 0 2>/dev/null > $each; done; "
    "umount -R /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup && mount --make-rshared / && "
    "exec /lib/systemd/systemd"
)
SLOW = 180.0
# A bridge without an address of its own has the lowest of its ports', and takes another when that one goes:
# whoever remembers it (arp(7)) speaks to nobody for a while.
SETTLE = (
    'bridge=$(ip -oneline route get "$1" | sed "s/.* dev \\([^ ]*\\).*/\\1/") && '
    'ip link set dev "$bridge" address "$(cat /sys/class/net/"$bridge"/address)"'
)


@dataclass(frozen=True, slots=True)
class Limits:
    """Resource limits of a container: no more than the host's own hard limits."""

    files: int
    processes: int


def podman(*arguments: str, input: bytes = b"", timeout: float = SLOW) -> Command:
    """One call. runc, for crun refuses hosts that mount cgroups v1 beside v2."""
    return Command(("podman", "--runtime", "runc", *arguments), input, timeout)


def object_name(cluster: str, machine: str = "") -> str:
    """The name of a cluster's network, or of a machine's container and volume."""
    return f"kirsch-{cluster}-{machine}" if machine else f"kirsch-{cluster}"


def create_network(cluster: str, id: str, site: Site) -> Command:
    """The network of a cluster's machines. No DNS of its own: it would be another process to look after."""
    return podman(
        "network", "create", "--disable-dns", "--subnet", str(site.subnet), "--gateway", site.gateway,
        "--label", f"{LABEL}={cluster}", "--label", f"io.kirsch.id={id}", object_name(cluster),
    )  # fmt: skip


def create_volume(cluster: str, machine: str) -> Command:
    """Return the command for the volume of a machine's own containers: overlayfs does not stand on
    overlayfs."""
    return podman("volume", "create", "--label", f"{LABEL}={cluster}", object_name(cluster, machine))


def create_machine(
    cluster: ClusterRecord,
    machine: MachineRecord,
    image: str,
    limits: Limits,
) -> Command:
    """A machine's container, not started yet."""
    name = object_name(cluster.name, machine.name)
    ports = [
        f"{machine.host}:{machine.ssh_port}:22",
        f"{machine.host}:{machine.api_port}:7117",
    ]
    return podman(
        "create", "--name", name, "--hostname", machine.name,
        "--label", f"{LABEL}={cluster.name}", "--label", f"io.kirsch.id={cluster.id}",
        "--network", object_name(cluster.name), "--ip", machine.address,
        # One that boots again keeps it: others remember it (arp(7)), and would speak to nobody for a while.
        "--mac-address", hardware_address(machine.address),
        *_hosts({m.name: m.address for m in cluster.machines if m.name != machine.name}),
        *(word for port in ports for word in ("--publish", port)),
        "--privileged", "--pids-limit=-1", "--systemd=false", "--cgroupns=private",
        *ulimits(limits),
        "--tmpfs", "/run", "--tmpfs", "/tmp",  # noqa: S108 (in the container)
        "--volume", f"{name}:/var/lib/containers",
        "--env", "container=podman", "--stop-signal", "SIGRTMIN+3", "--stop-timeout", "20",
        image, "sh", "-c", BOOT,
    )  # fmt: skip


def settle_bridge(machine: MachineRecord) -> Command:
    """Have the bridge of a machine's network keep the hardware address that it has, whatever machine ends."""
    return Command(("sh", "-c", SETTLE, "sh", machine.address))


def copy_in(container: str, archive: bytes) -> Command:
    """Unpack a tar archive at a container's root, whether it runs or not."""
    return podman("cp", "-", f"{container}:/", input=archive)


def execute(container: str, *argv: str, input: bytes = b"", timeout: float = SLOW) -> Command:
    """A command in a container that runs."""
    return podman("exec", "--interactive", container, *argv, input=input, timeout=timeout)


def remove_machines(names: Sequence[str]) -> Command:
    """Remove containers, running or not; missing ones are no error."""
    return podman("rm", "--force", "--ignore", "--time", "0", "--volumes", *names)


def labelled(what: str, cluster: str) -> Command:
    """The names of a cluster's containers (`ps`), networks (`network`) or volumes (`volume`)."""
    match what:
        case "ps":
            words = ["ps", "--all", "--format", "{{.Names}}"]
        case _:
            words = [what, "ls", "--format", "{{.Name}}"]
    return podman(*words, "--filter", f"label={LABEL}={cluster}")


def ulimits(limits: Limits) -> list[str]:
    """podman's own defaults may be above the host's limits, and then nothing starts."""
    given = {"nofile": limits.files, "nproc": limits.processes}
    return [word for name, most in given.items() for word in ("--ulimit", f"{name}={most}:{most}")]


def _hosts(addresses: Mapping[str, str]) -> list[str]:
    return [word for name, at in addresses.items() for word in ("--add-host", f"{name}:{at}")]


MOST_FILES = 1 << 20


def limits() -> Limits:
    """Return this process's hard limits; podman has no more processes than there are ids for."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    processes = resource.getrlimit(resource.RLIMIT_NPROC)[1]
    most = int(Path("/proc/sys/kernel/pid_max").read_text())
    return Limits(
        files=MOST_FILES if files < 0 else min(files, MOST_FILES),
        processes=most if processes < 0 else min(processes, most),
    )


def free(port: int, address: str = "127.0.0.1") -> bool:
    """Return True if nothing listens on a port of this computer."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return False
        return True


def subnets(runner: Runner) -> list[IPv4Network]:
    """Return the subnets of podman's networks and of this computer's routes. Raises ProvisionError."""
    names = runner.run(podman("network", "ls", "--quiet")).split()
    networks = json.loads(runner.run(podman("network", "inspect", *names))) if names else []
    texts = [subnet["subnet"] for network in networks for subnet in network.get("subnets") or ()]
    routes = json.loads(runner.run(Command(("ip", "-json", "-4", "route"))) or "[]")
    texts += [route["dst"] for route in routes if route.get("dst") != "default"]
    parsed = [ip_network(text, strict=False) for text in texts]
    return [subnet for subnet in parsed if isinstance(subnet, IPv4Network)]
