"""A cluster's own registry: Debian's docker-registry as a unit of its first member, set up with the first
image that is sent there. Every machine takes images from it, and shows its certificate for that."""

import json
import shlex
import shutil
from pathlib import Path

from kirsch.cluster.image.reference import ImageError
from kirsch.cluster.image.registry import PORT, of_cluster
from kirsch.cluster.provision.command import Runner
from kirsch.cluster.provision.install import UNPACK
from kirsch.cluster.provision.record import ClusterRecord, MachineRecord
from kirsch.cluster.provision.settings import FOLDER, HOME, TLS
from kirsch.cluster.provision.shell import act, shell_of
from kirsch.cluster.provision.tree import File, archive

PROGRAM = "docker-registry"
UNIT = "kirsch-registry.service"
SETTINGS = f"{FOLDER}/registry.yml"
DATA = "/var/lib/kirsch-registry"
CREDENTIALS = f"/run/credentials/{UNIT}"

SERVICE = f"""\
[Unit]
Description=The cluster's images
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=0

[Service]
ExecStart={HOME}/bin/{PROGRAM} serve {CREDENTIALS}/registry.yml
LoadCredential=registry.yml:{SETTINGS}
LoadCredential=ca.crt:{TLS}/ca.crt
LoadCredential=machine.crt:{TLS}/machine.crt
LoadCredential=machine.key:{TLS}/machine.key
DynamicUser=yes
StateDirectory=kirsch-registry
StateDirectoryMode=0700
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
RestrictAddressFamilies=AF_INET AF_INET6
SystemCallArchitectures=native
CapabilityBoundingSet=
Restart=always
RestartSec=1

[Install]
WantedBy=multi-user.target
"""

# Started, and answering.
_WAIT = (
    "import socket, sys, time\n"
    "until = time.monotonic() + 20\n"
    "while socket.socket().connect_ex((sys.argv[1], int(sys.argv[2]))):\n"
    "    time.monotonic() < until or sys.exit('it does not answer: journalctl -u kirsch-registry')\n"
    "    time.sleep(0.05)\n"
)


def settings() -> str:
    """docker-registry's configuration; JSON is YAML too. Only the cluster's certificates are let in."""
    return json.dumps(
        {
            "version": 0.1,
            "log": {"level": "warn", "accesslog": {"disabled": True}},
            "storage": {"filesystem": {"rootdirectory": DATA}, "delete": {"enabled": True}},
            "http": {
                "addr": f":{PORT}",
                "tls": {
                    "certificate": f"{CREDENTIALS}/machine.crt",
                    "key": f"{CREDENTIALS}/machine.key",
                    "clientcas": [f"{CREDENTIALS}/ca.crt"],
                    "minimumtls": "tls1.2",
                },
            },
        },
        indent=2,
    )


def files(program: bytes) -> list[File]:
    """What the registry's machine gets."""
    return [
        File(f"{HOME}/bin/{PROGRAM}", program, 0o755),
        File(SETTINGS, settings().encode()),
        File(f"/etc/systemd/system/{UNIT}", SERVICE.encode()),
    ]


def start(machine: MachineRecord) -> str:
    """The script that starts it."""
    waiting = f"python3 -c {shlex.quote(_WAIT)} {shlex.quote(machine.address)} {PORT}"
    return f"systemctl daemon-reload && systemctl enable --quiet --now {UNIT} && {waiting}"


def trust(registry: str) -> str:
    """The script by which a machine's podman may take images from it (containers-certs.d(5))."""
    folder = shlex.quote(f"/etc/containers/certs.d/{registry}")
    links = {"ca.crt": "ca.crt", "client.cert": "machine.crt", "client.key": "machine.key"}
    made = " && ".join(f"ln -sf {TLS}/{file} {folder}/{link}" for link, file in links.items())
    return f"test -e {folder}/client.key || {{ mkdir -p {folder} && {made}; }}"


def ensure(cluster: ClusterRecord, runner: Runner) -> None:
    """Have a cluster's registry run, and its machines trust it. Raises ProvisionError."""
    home = cluster.members[0]
    shell = shell_of(cluster, home)
    active = f"systemctl is-active --quiet {UNIT} && echo active || :"
    if not act(runner, shell, home.name, active).strip():
        program = shutil.which(PROGRAM)
        if not program:
            raise ImageError(f"a cluster's registry is Debian's {PROGRAM}: apt-get install {PROGRAM}")
        act(runner, shell, home.name, UNPACK, archive(files(Path(program).read_bytes())))
        act(runner, shell, home.name, start(home))
    script = trust(of_cluster(cluster).address)

    def let(machine: MachineRecord) -> None:
        act(runner, shell_of(cluster, machine), machine.name, script)

    runner.together(cluster.machines, let)
