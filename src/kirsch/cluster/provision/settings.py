"""The files that make a machine one of a cluster: kirschd's, etcd's and sshd's settings, as text. Pure."""

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from kirsch.cluster.model.cluster import bracketed
from kirsch.cluster.provision.archive import File
from kirsch.cluster.provision.record import ClusterRecord, MachineRecord

if TYPE_CHECKING:
    from kirsch.cluster.node.authority import Pair

HOME = "/opt/kirsch"
FOLDER = "/etc/kirsch"
TLS = f"{FOLDER}/tls"
API_PORT = 7117
UNIT = "/etc/systemd/system/kirschd.service"
ETCD_UNIT = "etcd.service"
ETCD_DATA, ETCD_DEFAULTS = "/var/lib/etcd/kirsch", "/etc/default/etcd"
ETCD_FOLDER = f"/etc/systemd/system/{ETCD_UNIT}.d"
# Where etcd, which is not root, finds copies of what only root can read. It reads certificates and the list
# of revoked ones anew at each handshake, so kirschd replaces them there (kirsch.cluster.daemon.renewal).
ETCD_TLS = "/run/kirsch-etcd"

# Units are systemd's children, not kirschd's: a restart leaves them alone whatever KillMode= is. It writes
# units below /run and networks below /etc/containers, speaks to systemd over D-Bus, makes network devices.
KIRSCHD = f"""\
[Unit]
Description=kirsch's daemon
Documentation=man:systemd.service(5)
Wants=network-online.target
After=network-online.target dbus.service etcd.service
StartLimitIntervalSec=0

[Service]
Type=notify
ExecStart={HOME}/bin/kirschd --config {FOLDER}/kirschd.toml
# Its many threads seldom run at once: an arena for each (mallopt(3)) would hold memory for nothing.
Environment=MALLOC_ARENA_MAX=2
WatchdogSec=30
TimeoutStartSec=90
TimeoutAbortSec=5
Restart=always
RestartSec=1
KillMode=mixed
UMask=0077
StateDirectory=kirsch
StateDirectoryMode=0700
RuntimeDirectory=kirsch
RuntimeDirectoryMode=0755
RuntimeDirectoryPreserve=yes
NoNewPrivileges=yes
ProtectSystem=strict
ReadWritePaths=/run -{TLS} -/etc/containers -/var/lib/containers -/var/lib/cni
ProtectHome=yes
PrivateTmp=yes
ProtectClock=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
LockPersonality=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK AF_PACKET
SystemCallArchitectures=native
CapabilityBoundingSet=~CAP_SYS_BOOT CAP_SYS_MODULE CAP_SYS_TIME CAP_SYS_RAWIO
CapabilityBoundingSet=~CAP_MAC_ADMIN CAP_MAC_OVERRIDE CAP_WAKE_ALARM CAP_SYSLOG

[Install]
WantedBy=multi-user.target
"""

# A member that ends is started again, always: the registry needs most of them.
ETCD_DROP_IN = f"""\
[Unit]
StartLimitIntervalSec=0

[Service]
RuntimeDirectory=kirsch-etcd
RuntimeDirectoryMode=0700
ExecStartPre=+/bin/sh -c 'cd {TLS} && for each in ca.crt machine.crt machine.key revoked.crl; do \
    cp --preserve=mode $each {ETCD_TLS}/ && chown --reference={ETCD_TLS} {ETCD_TLS}/$each || exit 1; done'
Restart=always
RestartSec=1
"""

SSHD = """\
# Keys only. The host's key is in the known_hosts of whoever made the cluster.
HostKey /etc/ssh/ssh_host_ed25519_key
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
X11Forwarding no
MaxStartups 100:30:200
MaxSessions 100
# All come from this computer's one address: who looks whether sshd answers would lock out who logs in.
PerSourcePenalties no
"""


def kirschd_toml(cluster: ClusterRecord, machine: MachineRecord) -> str:
    """Return the text of /etc/kirsch/kirschd.toml."""
    lines = [
        f"cluster = {_text(cluster.id)}",
        f"name = {_text(machine.name)}",
        f"address = {_text(machine.address)}",
        etcd_setting(cluster.etcd),
        f'listen = "0.0.0.0:{API_PORT}"',
        "",
        "[metadata]",
        *(f"{_text(key)} = {_text(value)}" for key, value in sorted(machine.metadata.items())),
        "",
        *(["[network]", f"subnet = {_text(cluster.network)}", ""] if cluster.network else []),
        "[tls]",
        f'authority = "{TLS}/ca.crt"',
        f'certificate = "{TLS}/machine.crt"',
        f'key = "{TLS}/machine.key"',
        f'users = "{TLS}/users.crt"',
    ]
    return "\n".join(lines) + "\n"


def etcd_setting(urls: Iterable[str]) -> str:
    """Return the line of kirschd.toml that names etcd's members."""
    return f"etcd = [{', '.join(map(_text, urls))}]"


def peer_url(machine: MachineRecord) -> str:
    """Return the URL of a machine's etcd for its other members."""
    return f"https://{bracketed(machine.address)}:2380"


def etcd_environment(cluster: ClusterRecord, machine: MachineRecord, *, joining: bool = False) -> str:
    """Compose /etc/default/etcd for a machine; `joining` is for a member of an etcd that is there."""
    members = ",".join(f"{m.name}={peer_url(m)}" for m in cluster.members)
    return member_environment(cluster.id, machine, members, "existing" if joining else "new")


def member_environment(cluster: str, machine: MachineRecord, members: str, state: str) -> str:
    """Compose /etc/default/etcd: etcd's flags as variables, with TLS for peers and clients. `members` is
    NAME=URL of all, `state` "new" or "existing"."""
    at = bracketed(machine.address)
    variables = {
        "NAME": machine.name,
        "DATA_DIR": ETCD_DATA,
        "INITIAL_CLUSTER": members,
        "INITIAL_CLUSTER_STATE": state,
        "INITIAL_CLUSTER_TOKEN": cluster,
        "LISTEN_PEER_URLS": "https://0.0.0.0:2380",
        "INITIAL_ADVERTISE_PEER_URLS": peer_url(machine),
        "LISTEN_CLIENT_URLS": "https://0.0.0.0:2379",
        "ADVERTISE_CLIENT_URLS": f"https://{at}:2379",
        "AUTO_COMPACTION_MODE": "periodic",
        "AUTO_COMPACTION_RETENTION": "1h",
        "CLIENT_CRL_FILE": f"{ETCD_TLS}/revoked.crl",
        "PEER_CRL_FILE": f"{ETCD_TLS}/revoked.crl",
        **{
            f"{peer}{name}": value
            for peer in ("", "PEER_")
            for name, value in {
                "TRUSTED_CA_FILE": f"{ETCD_TLS}/ca.crt",
                "CERT_FILE": f"{ETCD_TLS}/machine.crt",
                "KEY_FILE": f"{ETCD_TLS}/machine.key",
                "CLIENT_CERT_AUTH": "true",
            }.items()
        },
    }
    return "".join(f"ETCD_{name}={value}\n" for name, value in variables.items())


def machine_files(
    cluster: ClusterRecord, machine: MachineRecord, signer: "Pair", pair: "Pair", users: "Pair | None"
) -> list[File]:
    """Return the files of every machine, container or host: kirschd's settings and keys.

    `signer` is the cluster's authority, whose key goes to machines that keep etcd, for they renew
    certificates; `users` the authority of users' certificates.
    """
    files = [
        File(f"{FOLDER}/kirschd.toml", kirschd_toml(cluster, machine).encode(), 0o600),
        File(f"{TLS}/ca.crt", signer.certificate),
        File(f"{TLS}/machine.crt", pair.certificate),
        File(f"{TLS}/machine.key", pair.key, 0o600),
        File(UNIT, KIRSCHD.encode()),
    ]
    if users is not None:
        files.append(File(f"{TLS}/users.crt", users.certificate))
    if machine.etcd:
        files += [
            *etcd_files(cluster, machine, signer),
            _wanted(ETCD_UNIT, f"/usr/lib/systemd/system/{ETCD_UNIT}"),
        ]
    return files


def etcd_files(
    cluster: ClusterRecord, machine: MachineRecord, signer: "Pair", *, joining: bool = False
) -> list[File]:
    """Return the files of a machine that keeps etcd: its settings, and the authority's key."""
    # Imported here, for `kirsch up --on` makes no certificates.
    from kirsch.cluster.node.authority import revocations

    return [
        File(f"{TLS}/ca.key", signer.key, 0o600),
        File(f"{TLS}/revoked.crl", revocations(signer, []), 0o600),
        File(ETCD_DEFAULTS, etcd_environment(cluster, machine, joining=joining).encode()),
        File(f"{ETCD_FOLDER}/kirsch.conf", ETCD_DROP_IN.encode()),
    ]


def container_files(
    machine: MachineRecord, host_key: bytes, host_key_public: str, authorized: str
) -> list[File]:
    """Return the files that only containers get: their identity, and who may log in over ssh."""
    return [
        File("/etc/machine-id", f"{machine.id}\n".encode(), 0o444),
        File("/etc/ssh/ssh_host_ed25519_key", host_key, 0o600),
        File("/etc/ssh/ssh_host_ed25519_key.pub", f"{host_key_public}\n".encode()),
        File("/root/.ssh/authorized_keys", f"{authorized}\n".encode(), 0o600),
    ]


# Folders that are root's alone: on every machine, and on those that are containers.
PRIVATE_FOLDERS: Sequence[str] = (TLS,)
PRIVATE_FOLDERS_OF_CONTAINERS: Sequence[str] = (*PRIVATE_FOLDERS, "/root/.ssh")


def _wanted(unit: str, target: str) -> File:
    return File(f"/etc/systemd/system/multi-user.target.wants/{unit}", target=target)


def _text(text: str) -> str:
    # A JSON string is a basic string of TOML, but for surrogates, which no argument here has.
    return json.dumps(text, ensure_ascii=False)
