"""This computer as a place for machines: its limits, its ports, its subnets."""

import json
import resource
import socket
from ipaddress import IPv4Network, ip_network
from pathlib import Path

from kirsch.cluster.provision.command import Command, Runner
from kirsch.cluster.provision.podman import Limits, podman

MOST_FILES = 1 << 20


def limits() -> Limits:
    """Our own hard limits; podman itself has no more processes than there are ids for."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    processes = resource.getrlimit(resource.RLIMIT_NPROC)[1]
    most = int(Path("/proc/sys/kernel/pid_max").read_text())
    return Limits(
        files=MOST_FILES if files < 0 else min(files, MOST_FILES),
        processes=most if processes < 0 else min(processes, most),
    )


def free(port: int, address: str = "127.0.0.1") -> bool:
    """Whether nothing listens on a port of this computer."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return False
        return True


def subnets(runner: Runner) -> list[IPv4Network]:
    """What podman's networks and this computer's routes have taken. Raises ProvisionError."""
    names = runner.run(podman("network", "ls", "--quiet")).split()
    networks = json.loads(runner.run(podman("network", "inspect", *names))) if names else []
    texts = [subnet["subnet"] for network in networks for subnet in network.get("subnets") or ()]
    routes = json.loads(runner.run(Command(("ip", "-json", "-4", "route"))) or "[]")
    texts += [route["dst"] for route in routes if route.get("dst") != "default"]
    parsed = [ip_network(text, strict=False) for text in texts]
    return [subnet for subnet in parsed if isinstance(subnet, IPv4Network)]
