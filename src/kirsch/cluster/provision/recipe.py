"""Recipe of a machine's image, the digest that identifies it, and its apt sources. Pure.

images/node says the same to podman, for people who want more on their machines; a test compares the two.
See sources.list(5) for the host's apt sources, by whose mirror machines are made.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from kirsch.cluster.provision.archive import File
from kirsch.cluster.provision.install import LIBRARIES, OWN
from kirsch.cluster.provision.settings import SSHD

SUITE = "trixie"
PYTHON = "3.13"
# What a registry of images has; `make pin` adds a digest.
REFERENCE = "debian:trixie-slim"
REPOSITORY = "localhost/kirsch-node"
LABEL = "io.kirsch.recipe"

PACKAGES = (
    "systemd",
    "systemd-sysv",
    "dbus",
    "libpam-systemd",
    "python3",
    "openssh-server",
    "etcd-server",
    "etcd-client",
    "podman",
    "runc",
    "netavark",
    "aardvark-dns",
    "dnsmasq-base",
    "haproxy",
    "docker-registry",
    "catatonit",
    "iptables",
    "nftables",
    "iproute2",
    "iputils-ping",
    "iputils-arping",
    "procps",
    "less",
    "curl",
    "ca-certificates",
)

# A privileged container sees the host's kernel and devices: nothing here may set its clock, its sysctls, load
# its modules or take its terminals. The timers have nothing to do on a machine that is made anew.
MASKED = (
    "getty.target",
    "console-getty.service",
    "systemd-modules-load.service",
    "systemd-sysctl.service",
    "systemd-udevd.service",
    "systemd-udevd-kernel.socket",
    "systemd-udevd-control.socket",
    "systemd-pstore.service",
    "systemd-binfmt.service",
    "systemd-timesyncd.service",
    "systemd-remount-fs.service",
    "systemd-growfs-root.service",
    "proc-sys-fs-binfmt_misc.automount",
    "proc-sys-fs-binfmt_misc.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "sys-kernel-config.mount",
    "dev-hugepages.mount",
    "fstrim.timer",
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "podman-auto-update.timer",
    "netavark-dhcp-proxy.socket",
    "netavark-dhcp-proxy.service",
    "netavark-firewalld-reload.service",
    "haproxy.service",
    "docker-registry.service",
    "ssh.socket",
    "sshd-keygen.service",
)

# The kernel's ring buffer is the host's, so journald leaves it alone.
JOURNALD = """\
[Journal]
Storage=persistent
SystemMaxUse=200M
ReadKMsg=no
"""

# There is no pids controller for podman to set a limit with, in a cgroup below a container's.
CONTAINERS = """\
[containers]
pids_limit = 0
"""

FILES: Sequence[File] = (
    File("/etc/ssh/sshd_config.d/kirsch.conf", SSHD.encode()),
    File("/etc/systemd/journald.conf.d/kirsch.conf", JOURNALD.encode()),
    File("/etc/containers/containers.conf", CONTAINERS.encode()),
    *(File(f"/etc/systemd/system/{unit}", target="/dev/null") for unit in MASKED),
)

# The image belongs to no machine yet: no identity, no keys.
PREPARE = (
    "set -e; "
    "rm -f /etc/ssh/ssh_host_* /etc/apt/sources.list; rm -f /etc/apt/sources.list.d/*; "
    "rm -rf /var/lib/etcd/* /var/lib/apt/lists/* /var/cache/apt/*.bin /etc/systemd/system/etcd2.service; "
    "rm -f /etc/systemd/system/multi-user.target.wants/etcd.service; "
    ": > /etc/machine-id; rm -f /var/lib/dbus/machine-id"
)


def base_digest(architecture: str) -> str:
    """Names the image of packages alone."""
    return _digest([SUITE, REFERENCE, architecture, *PACKAGES])


def node_digest(architecture: str, wheels: Sequence[str], given: str = "") -> str:
    """Names a machine's image: packages, settings, and the wheels by their digests; or, for the first two,
    the image that was given, by its id."""
    if given:
        return _digest([given, LIBRARIES, sorted(wheels)])
    files = [[file.path, file.content.decode(), file.target] for file in FILES]
    return _digest([base_digest(architecture), files, PREPARE, LIBRARIES, sorted(wheels)])


def machine_digest(architecture: str, wheels: Sequence[str], own: Sequence[str], given: str = "") -> str:
    """Name the image that machines start from: the same, and kirsch by the digests of its wheels."""
    return _digest([node_digest(architecture, wheels, given), OWN, list(own)])


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]


CODENAMES = frozenset(
    [
        "buster",
        "bullseye",
        "bookworm",
        "trixie",
        "forky",
        "duke",
        "sid",
        "oldoldstable",
        "oldstable",
        "stable",
        "testing",
        "unstable",
    ]
)


@dataclass(frozen=True, slots=True)
class Source:
    """One source of packages."""

    uri: str
    suite: str
    components: tuple[str, ...]


def _sources(texts: Mapping[str, str]) -> list[Source]:
    """Read the sources of binary packages from files by their names: *.list line by line, *.sources in
    deb822."""
    found: list[Source] = []
    for name, text in texts.items():
        found += _stanzas(text) if name.endswith(".sources") else _lines(text)
    return found


def mirror_lines(texts: Mapping[str, str], suite: str) -> str:
    """sources.list for a Debian release, from the mirrors that the host uses itself, by its files' names and
    texts; empty if it has none.

    The URIs may hold credentials: this is for a pipe, never for an argument.
    """
    known = _sources(texts)
    main = next((s.uri for s in known if s.suite in CODENAMES and "main" in s.components), "")
    if not main:
        return ""
    lines = [f"deb {main} {suite} main"]
    security = next(
        (s.uri for s in known if re.fullmatch(r"(\w+)-security", s.suite) and "main" in s.components), ""
    )
    if security and "ubuntu" not in security:
        lines.append(f"deb {security} {suite}-security main")
    return "".join(f"{line}\n" for line in lines)


def _lines(text: str) -> Iterator[Source]:
    for line in text.splitlines():
        words = re.sub(r"\[[^\]]*\]", "", line.partition("#")[0]).split()
        if len(words) >= 4 and words[0] == "deb":
            yield Source(words[1], words[2], tuple(words[3:]))


def _stanzas(text: str) -> Iterator[Source]:
    kept = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    for stanza in re.split(r"\n\s*\n", kept):
        fields: dict[str, list[str]] = {}
        name = ""
        for line in stanza.splitlines():
            key, colon, value = line.partition(":")
            if line[:1].isspace():
                fields.setdefault(name, []).extend(line.split())
            elif colon:
                name = key.strip().lower()
                fields[name] = value.split()
        if "deb" not in fields.get("types", ()) or fields.get("enabled") == ["no"]:
            continue
        for uri in fields.get("uris", ()):
            for suite in fields.get("suites", ()):
                yield Source(uri, suite, tuple(fields.get("components", ())))
