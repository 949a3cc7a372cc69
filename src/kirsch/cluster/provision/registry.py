"""A cluster's own registry of images, and its relocation.

It is Debian's docker-registry as a unit of one machine, at first the first. Every machine takes images from
it, and shows its certificate for that. Where its machine is gone, with all images, it moves to another.
"""

import json
import shlex
from dataclasses import dataclass, field, replace

from kirsch.cluster.model.cluster import bracketed
from kirsch.cluster.provision import install
from kirsch.cluster.provision.archive import File, archive
from kirsch.cluster.provision.command import Runner
from kirsch.cluster.provision.record import ClusterRecord, MachineRecord, ProvisionError
from kirsch.cluster.provision.settings import FOLDER, TLS
from kirsch.cluster.provision.shell import act, shell_of
from kirsch.cluster.provision.steps import Show, Step, perform

PORT = 5000
PROGRAM = "/usr/bin/docker-registry"
UNIT = "kirsch-registry.service"
SETTINGS = f"{FOLDER}/registry.yml"
DATA = "/var/lib/kirsch-registry"
# Is there when the registry is to clear itself as it starts: nobody can send then, and lose a layer by it.
CLEAR = f"{DATA}/clear"
CREDENTIALS = f"/run/credentials/{UNIT}"
# containers-certs.d(5): a folder for each registry.
TRUST = "/etc/containers/certs.d"
# containers-registries.conf(5): localhost/NAME is taken from there where a machine does not have it.
LOCAL = "/etc/containers/registries.conf.d/50-kirsch.conf"

SERVICE = f"""\
[Unit]
Description=The cluster's images
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=0

[Service]
ExecStartPre=-/bin/sh -c 'test ! -e {CLEAR} || {{ rm -f {CLEAR}; \
    exec {PROGRAM} garbage-collect --delete-untagged {CREDENTIALS}/registry.yml >/dev/null; }}'
ExecStart={PROGRAM} serve {CREDENTIALS}/registry.yml
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
TimeoutStartSec=180

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

# Layers that no image has any more go.
CLEAN = (
    f"test ! -e {SETTINGS} || {{ touch {CLEAR}; systemctl restart {UNIT} && "
    f"python3 -c {shlex.quote(_WAIT)} 127.0.0.1 {PORT}; }}"
)

# Fails where no registry can be started.
INSTALLED = (
    f"test -x {PROGRAM} || {{ echo 'it has no docker-registry: apt-get install docker-registry there' >&2; "
    "exit 1; }"
)
# Another machine keeps the images: what is here nobody asks for any more.
STOP = (
    f"test ! -e {SETTINGS} || {{ systemctl disable --quiet --now {UNIT}; "
    f"rm -rf {SETTINGS} /etc/systemd/system/{UNIT} {DATA} /var/lib/private/kirsch-registry; "
    "systemctl daemon-reload; }"
)


def registry_machine(cluster: ClusterRecord) -> MachineRecord:
    """The machine that keeps the images."""
    found = (machine for machine in cluster.machines if machine.name == cluster.keeper)
    return next(found, cluster.members[0])


def address(cluster: ClusterRecord) -> str:
    """The registry's HOST:PORT, as it stands in images' names."""
    return f"{bracketed(registry_machine(cluster).address)}:{PORT}"


def away(cluster: ClusterRecord) -> str:
    """Return the advice for a registry that does not answer."""
    machine, name = registry_machine(cluster), cluster.name
    on = f"`kirsch cluster start {name} {machine.name}` switches it on, " if machine.container else ""
    other = f"`kirsch cluster images MACHINE --cluster {name}` has another machine keep them"
    return f"{machine.name} keeps the images of {name}: {on}{other}"


def settings() -> str:
    """Compose docker-registry's configuration (JSON is YAML too), which admits only the cluster's
    certificates."""
    return json.dumps(
        {
            "version": 0.1,
            "log": {"level": "warn", "accesslog": {"disabled": True}},
            "storage": {"filesystem": {"rootdirectory": DATA}, "delete": {"enabled": True}},
            "http": {
                "addr": f":{PORT}",
                # What is under way when it stops is answered.
                "draintimeout": "10s",
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


def registry_files(cluster: ClusterRecord, machine: MachineRecord) -> list[File]:
    """Return the files by which a machine's podman trusts the registry; on the registry's machine, also its
    own."""
    folder = f"{TRUST}/{address(cluster)}"
    links = {"ca.crt": "ca.crt", "client.cert": "machine.crt", "client.key": "machine.key"}
    files = [File(f"{folder}/{link}", target=f"{TLS}/{file}") for link, file in links.items()]
    local = f'[[registry]]\nprefix = "localhost"\nlocation = "{address(cluster)}"\n'
    files.append(File(LOCAL, local.encode()))
    if machine == registry_machine(cluster):
        files.append(File(SETTINGS, settings().encode(), 0o600))
        files.append(File(f"/etc/systemd/system/{UNIT}", SERVICE.encode()))
    return files


def start(cluster: ClusterRecord) -> str:
    """The script that starts it, for its machine's shell."""
    waiting = f"python3 -c {shlex.quote(_WAIT)} {shlex.quote(registry_machine(cluster).address)} {PORT}"
    return f"systemctl daemon-reload && systemctl enable --quiet --now {UNIT} && {waiting}"


@dataclass(frozen=True, slots=True)
class Moved:
    """Location of the images: the machine, its HOST:PORT, and the machines that could not be told, with the
    reason."""

    machine: str
    address: str
    left: dict[str, str]


def move_registry(cluster: str, name: str, show: Show) -> Moved:
    """Start the registry on another machine, and have all machines take images from there.

    Images are not copied. Run again, it tells machines that were away. Raises ProvisionError; nothing has
    changed then.
    """
    relocation = Relocation(ClusterRecord.load(cluster), name, Runner())
    perform(relocation.steps(), show, "the images are kept where they were")
    return Moved(relocation.machine.name, address(relocation.after), dict(sorted(relocation.left.items())))


@dataclass(slots=True)
class Relocation:
    """Move of the registry to the machine called `name`."""

    before: ClusterRecord
    name: str
    runner: Runner
    left: dict[str, str] = field(default_factory=dict)

    @property
    def machine(self) -> MachineRecord:
        """The machine of that name. Raises ProvisionError if there is none."""
        return self.before.machine(self.name)

    @property
    def after(self) -> ClusterRecord:
        """The record as it is to be."""
        return replace(self.before, keeper=self.machine.name)

    def steps(self) -> list[Step]:
        """All that is to be done, in order."""
        return [
            Step("registry", self._start, self._stop),
            Step("machines", self._tell, self._tell_back),
            Step("record", self._enter),
        ]

    def _start(self) -> None:
        machine = self.machine
        self._act(machine, INSTALLED)
        self._unpack(self.after, machine)
        self._act(machine, start(self.after))

    def _stop(self) -> None:
        if registry_machine(self.before) != self.machine:
            # The other runner runs nothing more once it was interrupted.
            act(Runner(), shell_of(self.before, self.machine), self.machine.name, STOP)

    def _tell(self) -> None:
        others = [machine for machine in self.before.machines if machine != self.machine]

        def tell(machine: MachineRecord) -> None:
            try:
                self._unpack(self.after, machine)
                self._act(machine, STOP)
            except ProvisionError as error:
                self.runner.check()
                self.left[machine.name] = str(error).removeprefix(f"{machine.name}: ")

        self.runner.together(others, tell)

    def _tell_back(self) -> None:
        self.runner = Runner()
        self.runner.together(self.before.machines, lambda machine: self._unpack(self.before, machine))
        machine = registry_machine(self.before)
        self._act(machine, start(self.before))

    def _enter(self) -> None:
        ClusterRecord.change(self.before.name, lambda record: replace(record, keeper=self.machine.name))

    def _unpack(self, record: ClusterRecord, machine: MachineRecord) -> None:
        files = archive(registry_files(record, machine))
        act(self.runner, shell_of(record, machine), machine.name, install.UNPACK, files)

    def _act(self, machine: MachineRecord, script: str) -> None:
        act(self.runner, shell_of(self.before, machine), machine.name, script)
