"""Probe of a host before kirsch is installed on it: a script for any Python 3 asks, this module judges. Pure.

Sources: machine-id(5), systemd's folders, ssh's own keys.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import Any

from kirsch.cluster.model.podman import parse_version, quadlet_types
from kirsch.cluster.network.state import BRIDGE, NETWORK
from kirsch.cluster.network.subnet import Subnet
from kirsch.cluster.provision.record import ProvisionError
from kirsch.cluster.provision.settings import API_PORT, FOLDER
from kirsch.cluster.provision.wheels import Target

# What kirsch itself runs on; its package says the same.
OLDEST, NEWEST = (3, 11), (3, 14)
OLDEST_GLIBC = (2, 17)

SCRIPT = f"""
import glob, json, os, platform, re, socket, subprocess, sys

def said(*argv):
    try:
        done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    except OSError:
        return ""
    return done.stdout.decode(errors="replace").strip()

def text(path):
    try:
        with open(path) as file:
            return file.read().strip()
    except OSError:
        return ""

def reached(address):
    try:
        socket.create_connection(tuple(address), 5).close()
    except OSError as error:
        return error.strerror or str(error)
    return ""

def listened():
    probe = socket.socket()
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        probe.bind(("0.0.0.0", {API_PORT}))
    except OSError:
        return True
    finally:
        probe.close()
    return False

def networks():
    routes = json.loads(said("ip", "-json", "-4", "route") or "[]")
    found = [route["dst"] for route in routes if route["dst"] != "default" and route.get("dev") != "{BRIDGE}"]
    names = said("podman", "network", "ls", "--format={{{{.Name}}}}").split()
    names = [name for name in names if name != "{NETWORK}"]
    known = json.loads(said("podman", "network", "inspect", *names) or "[]") if names else []
    return found + [each["subnet"] for network in known for each in network.get("subnets") or ()]

try:
    import venv
except ImportError:
    venv = None
cluster = re.search('^cluster = "(.*)"$', text("{FOLDER}/kirschd.toml"), re.M)
print(json.dumps({{
    "python": list(sys.version_info[:2]),
    "venv": venv is not None,
    "architecture": platform.machine(),
    "libc": list(platform.libc_ver()),
    "systemd": os.path.isdir("/run/systemd/system"),
    "dbus": os.path.exists("/run/dbus/system_bus_socket"),
    "machine_id": text("/etc/machine-id"),
    "hostname": socket.gethostname(),
    "podman": said("podman", "--version").rpartition(" ")[2],
    "host_keys": [" ".join(text(path).split()[:2]) for path in glob.glob("/etc/ssh/ssh_host_*_key.pub")],
    "cluster": cluster.group(1) if cluster else "",
    "listened": listened(),
    "networks": networks(),
    "unreached": {{"%s:%d" % tuple(at): reached(at) for at in json.loads(sys.argv[1])}},
}}))
"""


@dataclass(frozen=True, slots=True)
class Facts:
    """A host: its Python (major, minor), uname's machine, its C library and version, whether systemd and
    D-Bus run, podman's version (empty without it), public lines of its host keys, the id of the cluster that
    it is a machine of, whether somebody listens at our port, and why what it was to reach is not reached
    (empty if it is), and the networks that it has itself or routes to, the flat one left out."""

    python: tuple[int, int]
    venv: bool
    architecture: str
    libc: tuple[str, str]
    systemd: bool
    dbus: bool
    machine_id: str
    hostname: str
    podman: str
    host_keys: tuple[str, ...]
    cluster: str
    listened: bool
    unreached: Mapping[str, str]
    networks: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> "Facts":
        """From what the script printed. Raises ProvisionError."""
        try:
            given: dict[str, Any] = json.loads(text.splitlines()[-1])
            for name in ("python", "libc", "host_keys", "networks"):
                given[name] = tuple(given[name])
            return cls(**given)
        except (ValueError, LookupError, TypeError):
            raise ProvisionError(f"its Python said something else: {text.strip()[:200]!r}") from None

    @property
    def target(self) -> Target:
        """Target of the wheels that the host needs."""
        return Target(".".join(map(str, self.python)), self.architecture, self._glibc)

    @property
    def _glibc(self) -> tuple[int, int]:
        numbers = [int(part) for part in self.libc[1].split(".")[:2] if part.isdecimal()]
        return (numbers[0], numbers[1]) if self.libc[0] == "glibc" and len(numbers) == 2 else (0, 0)

    def refusal(self, cluster: str) -> str:
        """Say why the host cannot be a machine of this cluster, and what to do; empty if it can."""
        version = ".".join(map(str, self.python))
        if not OLDEST <= self.python <= NEWEST:
            return f"its Python is {version}; kirsch needs one of {_dots(OLDEST)} to {_dots(NEWEST)}"
        if not self.venv:
            return "its Python has no venv: apt-get install python3-venv there"
        if self._glibc < OLDEST_GLIBC:
            return f"its C library is not glibc {_dots(OLDEST_GLIBC)} or newer, and wheels are made for that"
        if not self.systemd:
            return "systemd does not run there, and units are systemd's"
        if not self.dbus:
            return "D-Bus does not run there, by which systemd is spoken to: apt-get install dbus there"
        if self.cluster and self.cluster != cluster:
            return f"it is a machine of another cluster ({self.cluster}): remove it from there first"
        if self.listened and not self.cluster:
            return f"another program listens at its port {API_PORT}"
        if away := {at: why for at, why in self.unreached.items() if why}:
            reasons = "; ".join(f"{at}: {why}" for at, why in away.items())
            return f"it does not reach the cluster's etcd ({reasons}): the cluster's network is to lead there"
        return ""

    def overlap(self, network: str) -> str:
        """Say why the cluster's subnet cannot be used on the host; empty if it can."""
        if not network:
            return ""
        others = [parsed for text in self.networks if (parsed := _parsed(text))]
        taken = Subnet.parse(network).overlap(others)
        return f"it has a route to {taken}, which the cluster's subnet {network} overlaps" if taken else ""

    def lacks(self) -> str:
        """Say which unit types the host cannot run, with the reason; empty if it can run all."""
        version = parse_version(self.podman)
        can, all_ = quadlet_types(version), quadlet_types((99,))
        if len(can) == len(all_):
            return ""
        kinds = ", ".join(f".{kind}" for kind in all_ if kind not in can)
        if not self.podman:
            return f"it has no podman, and runs no {kinds} units"
        shown = _dots(version)
        if not can:
            return f"its podman is {shown}, and Quadlet came with 4.4: it runs no {kinds} units"
        return f"its podman is {shown}, too old for {kinds} units"


def script(reach: Sequence[tuple[str, int]]) -> tuple[str, bytes]:
    """Return the script for sh that asks for the facts, and its standard input."""
    return f"exec python3 - '{json.dumps(reach)}'", SCRIPT.encode()


def _parsed(text: str) -> IPv4Network | None:
    try:
        return IPv4Network(text, strict=False)
    except ValueError:
        return None


def _dots(version: Sequence[int]) -> str:
    return ".".join(map(str, version))
