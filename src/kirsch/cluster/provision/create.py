"""A new cluster: machines as containers, step by step, all of it or nothing."""

import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from kirsch.cluster.network.subnet import Subnet
from kirsch.cluster.node.authority import LEAF
from kirsch.cluster.provision import ingress, install, podman, registry
from kirsch.cluster.provision.archive import archive
from kirsch.cluster.provision.command import CommandError, Runner
from kirsch.cluster.provision.destroy import PARTS, destroy_steps, remove_record
from kirsch.cluster.provision.image import Images, target
from kirsch.cluster.provision.keyring import (
    SSHKey,
    generate,
    key_file,
    load_authority,
    load_users,
    machine_pair,
    make_keys,
    public_key,
    write_ssh,
)
from kirsch.cluster.provision.podman import free, limits, subnets
from kirsch.cluster.provision.record import ClusterRecord, MachineRecord, ProvisionError, clusters_folder
from kirsch.cluster.provision.settings import PRIVATE_FOLDERS_OF_CONTAINERS, container_files, machine_files
from kirsch.cluster.provision.shell import act, answers, known_host, shell_of
from kirsch.cluster.provision.specification import POOL, Site, Specification, sites
from kirsch.cluster.provision.steps import Show, Step, attempted, perform
from kirsch.cluster.provision.voters import choose, recommended
from kirsch.cluster.provision.wheels import Wheels
from kirsch.cluster.secrets.seal import Key

# The Debian packages of programs that must be here.
PROGRAMS = {
    "podman": "podman",
    "runc": "runc",
    "netavark": "netavark",
    "iptables": "iptables",
    "ip": "iproute2",
}
EXISTS = "there is a cluster {0} already: `kirsch cluster destroy {0}`, or give another name"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/lib/podman:/usr/libexec/podman"


def create(specification: Specification, show: Show) -> ClusterRecord:
    """Make the cluster. Raises ProvisionError with the step that failed; nothing is left behind then."""
    creation = Creation(specification, Runner())
    creation.check()
    with _reserved(specification.name):
        perform(creation.steps(), show)
    return creation.record


@contextmanager
def _reserved(name: str) -> Iterator[None]:
    """The name is ours, or another's who is about to make it: undoing removes all that bears it."""
    folder = clusters_folder() / name
    try:
        folder.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        raise ProvisionError(EXISTS.format(name)) from None
    try:
        yield
    except BaseException:
        remove_record(name)
        raise


@dataclass(slots=True)
class Creation:
    """A cluster in the making: what steps have found out for those after them."""

    specification: Specification
    runner: Runner
    image: str = ""
    own: Sequence[Path] = ()
    made: ClusterRecord | None = None

    @property
    def record(self) -> ClusterRecord:
        """The cluster as it is known so far."""
        assert self.made
        return self.made

    def check(self) -> None:
        """Check everything that can be known before anything is made. Raises ProvisionError."""
        name = self.specification.name
        if os.geteuid() != 0:
            raise ProvisionError("machines as containers need root, for systemd runs in them: use sudo")
        for program, package in PROGRAMS.items():
            if not shutil.which(program, path=PATH):
                raise ProvisionError(f"{program} is not installed: apt-get install {package}")
        if (clusters_folder() / name).exists():
            raise ProvisionError(EXISTS.format(name))
        if any(self.runner.run(podman.labelled(part, name)).strip() for part in PARTS):
            raise ProvisionError(
                f"podman has parts of a cluster {name}: `kirsch cluster destroy {name}` removes them"
            )
        if self.specification.network is not None:
            self._check_subnet(self.specification.network)
        for port in self.specification.published:
            if not free(port.host, port.address):
                raise ProvisionError(f"--publish: port {port.host} of {port.address} is taken")

    def _check_subnet(self, subnet: Subnet) -> None:
        if subnet.overlap([POOL]):
            raise ProvisionError(f"--subnet: {subnet} overlaps {POOL}, where machines have their addresses")
        if taken := subnet.overlap(subnets(self.runner)):
            raise ProvisionError(
                f"--subnet: {subnet} overlaps {taken}, which this computer has a route to: give another one"
            )

    def steps(self) -> list[Step]:
        """All that is to be done, in order."""
        return [
            Step("kirsch's wheel", self._wheel),
            Step("machine image", self._image),
            Step("network", self._network, self._undone("network")),
            Step("keys", self._keys, self._undone("keys")),
            Step("machines", self._machines, self._undone("machines", "volumes")),
            Step("sshd", self._sshd),
            Step("etcd", self._etcd),
            Step("registry", self._registry),
            Step("kirschd", self._kirschd),
            *([Step("ingress", self._entrance)] if self.specification.published else ()),
            Step("record", self._complete),
        ]

    def _wheel(self) -> None:
        self.own = Wheels(self.runner).own()

    def _image(self) -> None:
        libraries = Wheels(self.runner).libraries(self.own, target())
        self.image = Images(self.runner).machine(libraries, self.own, self.specification.image)

    def _network(self) -> None:
        id = uuid.uuid4().hex
        for site in sites(len(self.specification.machines), subnets(self.runner), free):
            try:
                self.runner.run(podman.create_network(self.specification.name, id, site))
            except CommandError as error:
                # Another create was quicker; the next may be free.
                if "subnet" not in str(error):
                    raise
                continue
            self.made = planned(self.specification, id, site)
            return
        raise ProvisionError("no subnet of 10.201.0.0/16 is free on this computer")

    def _keys(self) -> None:
        self.record.save()
        make_keys(self.record)

    def _machines(self) -> None:
        keys = {machine.name: generate() for machine in self.record.machines}
        lines = [known_host(machine, keys[machine.name].public) for machine in self.record.machines]
        write_ssh(self.record, "".join(lines))
        self.runner.together(self.record.machines, self._starter(keys))
        self.runner.run(podman.settle_bridge(self.record.machines[0]))

    def _starter(self, keys: dict[str, SSHKey]) -> Callable[[MachineRecord], None]:
        record, run, bounds = self.record, self.runner.run, limits()
        signer, public, secret = load_authority(record), public_key(record), key_file(Key.generate())

        def start(machine: MachineRecord) -> None:
            key = keys[machine.name]
            pair = machine_pair(signer, machine.name, machine.address, lifetime=LEAF)
            files = machine_files(record, machine, signer, pair, load_users(record))
            files += [secret, *container_files(machine, key.private, key.public, public)]
            files += registry.registry_files(record, machine)
            run(podman.create_volume(record.name, machine.name))
            run(podman.create_machine(record, machine, self.image, bounds))
            run(podman.copy_in(machine.container, archive(files, PRIVATE_FOLDERS_OF_CONTAINERS)))
            run(podman.podman("start", machine.container))

        return start

    def _sshd(self) -> None:
        self.runner.together(self.record.machines, lambda machine: answers(machine, self.runner))

    def _etcd(self) -> None:
        # It is of Type=notify: started once it has joined the others.
        self._on(self.record.members, install.start("etcd.service"))

    def _registry(self) -> None:
        self._on([registry.registry_machine(self.record)], registry.start(self.record))

    def _kirschd(self) -> None:
        # Of Type=notify too: ready once the machine is in the cluster.
        self._on(self.record.machines, install.start("kirschd.service"))

    def _entrance(self) -> None:
        ingress.make(self.record, self.image, limits(), self.runner)

    def _complete(self) -> None:
        self.made = replace(self.record, complete=True)
        self.made.save()

    def _on(self, machines: Sequence[MachineRecord], script: str) -> None:
        def execute(machine: MachineRecord) -> None:
            act(self.runner, shell_of(self.record, machine), machine.name, script)

        self.runner.together(machines, execute)

    def _undone(self, *names: str) -> Callable[[], None]:
        def undo() -> None:
            # A runner of its own: the other one runs nothing more once it was interrupted.
            steps = [step for step in destroy_steps(self.specification.name, Runner()) if step.name in names]
            if left := attempted(steps):
                raise ProvisionError("; ".join(left))

        return undo


def planned(specification: Specification, id: str, site: Site) -> ClusterRecord:
    """The record of a cluster that is to be made at a site."""
    count = len(specification.machines)
    machines = tuple(
        MachineRecord(
            name=name,
            id=uuid.uuid4().hex,
            address=site.address(number),
            ssh_port=site.ssh_port(number),
            api_port=site.api_port(number),
            container=podman.object_name(specification.name, name),
            metadata=specification.metadata[number],
        )
        for number, name in enumerate(specification.machines)
    )
    voters = choose(machines, recommended(count))
    machines = tuple(replace(machine, etcd=machine.name in voters) for machine in machines)
    return ClusterRecord(
        name=specification.name,
        id=id,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        subnet=str(site.subnet),
        machines=machines,
        published=tuple(map(str, specification.published)),
        network=str(specification.network or ""),
    )
