"""A host joins a cluster: by ssh, on which only sshd and Python need be there; all of it or nothing."""

import re
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from packaging.version import Version

from kirsch.cluster.api.client import ClientError
from kirsch.cluster.node.authority import LEAF, LIFETIME
from kirsch.cluster.provision import ingress, install, probe
from kirsch.cluster.provision.account import admit
from kirsch.cluster.provision.archive import File, archive
from kirsch.cluster.provision.command import Command, Runner
from kirsch.cluster.provision.destroy import forget
from kirsch.cluster.provision.endpoint import connected
from kirsch.cluster.provision.keyring import (
    fetch,
    key_file,
    know_host,
    load_authority,
    load_users,
    machine_pair,
    public_key,
)
from kirsch.cluster.provision.record import NAME, ClusterRecord, MachineRecord, ProvisionError
from kirsch.cluster.provision.registry import registry_files
from kirsch.cluster.provision.settings import API_PORT, PRIVATE_FOLDERS, machine_files
from kirsch.cluster.provision.shell import HostShell, act, known_host
from kirsch.cluster.provision.steps import Show, Step, perform
from kirsch.cluster.provision.wheels import Wheels, shipped

# Seconds in which all machines have heard of a new one.
SEEN = 20.0
# A name that a shell expands ~ before (useradd(8)).
USER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}")


@dataclass(frozen=True, slots=True)
class Invitation:
    """Host that is to join a cluster."""

    destination: str  # as ssh finds it: HOST or USER@HOST
    # For ssh, where its own settings do not say them.
    port: int | None = None
    identity: Path | None = None
    ssh_config: Path | None = None
    # Name in the cluster and address for other machines, where these are not to be the host's own.
    name: str = ""
    address: str = ""
    metadata: Mapping[str, str] | None = None
    # A folder of wheels, or kirsch's Debian package, in place of the kirsch that runs here.
    source: Path | None = None


@dataclass(frozen=True, slots=True)
class Joined:
    """A machine that joined, and what it cannot run with the reason (empty if it can run all)."""

    machine: MachineRecord
    lacks: str


def add(cluster: str, invitation: Invitation, show: Show) -> Joined:
    """Have a host join. Raises ProvisionError with the step that failed; nothing is left behind then."""
    joining = Joining(ClusterRecord.load(cluster), invitation, Runner())
    perform(joining.steps(), show)
    return Joined(joining.machine, joining.known_facts.lacks())


@dataclass(slots=True)
class Joining:
    """A host that is about to join: what steps have found out for those after them."""

    record: ClusterRecord
    invitation: Invitation
    runner: Runner
    facts: probe.Facts | None = None
    found: MachineRecord | None = None
    own: Sequence[Path] = ()
    files: Sequence[File] = ()
    shell: HostShell = field(default_factory=lambda: HostShell(""))

    @property
    def machine(self) -> MachineRecord:
        """The machine as it is known so far."""
        assert self.found
        return self.found

    @property
    def known_facts(self) -> probe.Facts:
        """Facts about the host, once it was asked."""
        assert self.facts
        return self.facts

    def steps(self) -> list[Step]:
        """All that is to be done, in order."""
        return [
            Step("login", self._login),
            Step("host", self._host),
            Step("kirsch's wheel", self._wheel),
            Step("keys", self._keys, self._undo_keys),
            Step("kirsch", self._kirsch, self._undo_kirsch),
            Step("kirschd", self._kirschd),
            Step("record", self._enter, self._undo_enter),
            *([Step("ingress", self._open, self._undo_open)] if self.record.published else ()),
        ]

    def _login(self) -> None:
        asked, words = self.invitation, ["ssh", "-G"]
        shell = HostShell(asked.destination, asked.port, asked.identity, asked.ssh_config)
        words += [*shell.arguments(), "--", asked.destination]
        resolved = dict(
            line.split(" ", 1) for line in self.runner.run(Command(tuple(words))).splitlines() if " " in line
        )
        user = resolved["user"]
        if not USER.fullmatch(user):
            raise ProvisionError(f"{user!r} is no user's name")
        self.shell = replace(shell, sudo=user != "root")
        self._act("true")
        self.found = MachineRecord(
            name="", id="", address="", host=resolved["hostname"], ssh_port=int(resolved["port"]), user=user
        )

    def _host(self) -> None:
        reach = [(url.hostname or "", url.port or 0) for url in map(urlsplit, self.record.etcd)]
        self.facts = facts = probe.Facts.parse(self._act(*probe.script(reach)))
        if reason := facts.refusal(self.record.id) or facts.overlap(self.record.network):
            raise ProvisionError(f"{self.invitation.destination}: {reason}")
        name = self.invitation.name or facts.hostname.partition(".")[0].lower()
        known = {machine.name: machine for machine in self.record.machines}
        if not NAME.fullmatch(name):
            raise ProvisionError(f"{name!r} is no name for a machine: give one with --name (a-z, 0-9, -)")
        if name in known:
            raise ProvisionError(f"cluster {self.record.name} has a machine {name} already: give --name")
        if there := next((m.name for m in known.values() if m.id == facts.machine_id), ""):
            raise ProvisionError(
                f"{self.invitation.destination} is {there} already, or a copy of it: they have one "
                "/etc/machine-id"
            )
        self.found = replace(
            self.machine,
            name=name,
            id=facts.machine_id,
            address=address_of(self.invitation.address or self.machine.host),
            api_port=API_PORT,
            metadata=dict(self.invitation.metadata or {}),
        )

    def _wheel(self) -> None:
        source, wheels, target = self.invitation.source, Wheels(self.runner), self.known_facts.target
        if source is None:
            self.own = wheels.own()
            self.files = shipped(wheels.libraries(self.own, target))
        elif source.is_dir():
            self.files = wheels.kept_in(source, target)
        elif source.suffix == ".deb" and source.is_file():
            self.files = shipped([source])
        else:
            raise ProvisionError(f"{source} is neither a Debian package (.deb) nor a folder of wheels")

    def _keys(self) -> None:
        self._act(install.authorize(self.machine.user, public_key(self.record)))

    def _undo_keys(self) -> None:
        self._undo(install.unauthorize(self.machine.user, public_key(self.record)))

    def _kirsch(self) -> None:
        machine, signer = self.machine, load_authority(self.record)
        if self.known_facts.cluster:
            self._act(install.LEAVE)  # of an earlier time
        # Machines of a cluster that was made without an authority for users cannot renew certificates.
        lifetime = LEAF if load_users(self.record) else LIFETIME
        hosts = dict.fromkeys((machine.address, machine.host))
        pair = machine_pair(signer, machine.name, *hosts, lifetime=lifetime)
        secret = key_file(fetch(self.record, self.runner))
        files = machine_files(self.record, machine, signer, pair, load_users(self.record))
        files += registry_files(self.record, machine)
        files += [secret, *self.files]
        self._act(install.UNPACK, archive(files, PRIVATE_FOLDERS))
        source = self.invitation.source
        self._act(install.PACKAGE if source and source.is_file() else install.LIBRARIES)
        if self.own:
            self._act(install.UNPACK, archive(shipped(self.own)))
            self._act(install.OWN)
        else:
            self._check_version()

    def _check_version(self) -> None:
        """Raise ProvisionError where the kirsch of a file is not of the minor version that runs here."""
        there, here = self._act(install.INSTALLED).split()[0], version("kirsch")
        if Version(there).release[:2] != Version(here).release[:2]:
            raise ProvisionError(f"{self.invitation.source} has kirsch {there}, and this is kirsch {here}")

    def _undo_kirsch(self) -> None:
        self._undo(install.LEAVE)

    def _kirschd(self) -> None:
        # etcd may ask who everybody is, once a database has an account there.
        admit(self.record, self.machine.name, self.runner)
        # Of Type=notify: ready once the machine is in the cluster.
        self._act(install.start("kirschd.service"))
        self._settle()

    def _enter(self) -> None:
        ClusterRecord.change(self.record.name, self._with_machine)

    def _undo_enter(self) -> None:
        forget(self.record.name, self.machine)

    def _open(self) -> None:
        ingress.follow(ClusterRecord.load(self.record.name), self.runner)

    def _undo_open(self) -> None:
        ingress.follow(self.record, Runner())

    def _with_machine(self, record: ClusterRecord) -> ClusterRecord:
        lines = (known_host(self.machine, key) for key in self.known_facts.host_keys)
        know_host(record, self.machine, "".join(lines))
        return replace(record, machines=(*record.machines, self.machine))

    def _settle(self) -> None:
        """Uncordon a machine that was drained when it left before."""
        deadline = time.monotonic() + SEEN
        with connected(self.record.name) as client:
            while True:
                try:
                    client.patch(f"/kirsch/v1/machines/{self.machine.id}", {"cordoned": False})
                    return
                except ClientError as error:
                    # The machine that is asked may not have heard of the new one yet.
                    if error.status != 404 or time.monotonic() > deadline:
                        raise ProvisionError(str(error)) from None
                self.runner.check()
                time.sleep(0.1)

    def _undo(self, script: str) -> None:
        # A runner of its own: the other one runs nothing more once it was interrupted.
        act(Runner(), self.shell, self.invitation.destination, script)

    def _act(self, script: str, given: bytes = b"") -> str:
        return act(self.runner, self.shell, self.invitation.destination, script, given)


def address_of(host: str) -> str:
    """Return the address at which other machines reach a host. Raises ProvisionError.

    IPv4 is preferred, for the flat network's packets go over it.
    """
    try:
        found = [str(each[4][0]) for each in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)]
    except (OSError, UnicodeError):
        raise ProvisionError(f"{host} is not known by that name here: give --address") from None
    address = min(found, key=lambda each: ":" in each)
    if ip_address(address).is_loopback:
        raise ProvisionError(f"other machines cannot reach {host} at {address}: give --address")
    return address
