"""Rotation of a cluster's keys: its authorities, all certificates with their keys, ssh's key, and the key of
its secrets.

First every machine trusts both the old and the new, then the new is used, then the old is dropped. One
machine after another restarts its etcd and kirschd for each of these; units run on. What was done is kept in
the cluster's folder, so a rotation that ended half way goes on where it was.
"""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from pathlib import Path

from kirsch.cluster.api.client import ClientError
from kirsch.cluster.model.certificates import KEY, USERS_OF
from kirsch.cluster.node.authority import LEAF, Pair, authority, issue
from kirsch.cluster.provision import install
from kirsch.cluster.provision.account import database_accounts, secret_name
from kirsch.cluster.provision.archive import File, archive
from kirsch.cluster.provision.command import Runner
from kirsch.cluster.provision.endpoint import connected
from kirsch.cluster.provision.keyring import (
    CLIENT,
    SSHKey,
    fetch,
    generate,
    key_file,
    load_authority,
    load_users,
    machine_pair,
    public_key,
    write_private,
)
from kirsch.cluster.provision.power import until_well
from kirsch.cluster.provision.record import ClusterRecord, MachineRecord, ProvisionError
from kirsch.cluster.provision.registry import UNIT as IMAGES
from kirsch.cluster.provision.settings import ETCD_UNIT, TLS, etcd_files
from kirsch.cluster.provision.settings import FOLDER as SETTINGS_FOLDER
from kirsch.cluster.provision.shell import act, shell_of
from kirsch.cluster.provision.steps import Show, Step, perform
from kirsch.cluster.secrets.files import write_file
from kirsch.cluster.secrets.seal import Key

# Folder of a rotation that is under way, in the cluster's own.
FOLDER = "rotation"
SECRETS = "/kirsch/v1/secrets"
# Seconds for a machine that is ill to be well by itself.
HEALS = 20.0
# What a machine keeps for a boot without the store is sealed with the old key; kirschd writes it anew.
FORGET = "rm -f /var/lib/kirsch/schedule.json"
# An older kirsch wrote no such setting.
_SETTINGS, _KEY = f"{SETTINGS_FOLDER}/kirschd.toml", f'key = "{TLS}/machine.key"'
_USERS = f'users = "{TLS}/users.crt"'
KNOW_USERS = f"grep --quiet '^users = ' {_SETTINGS} || sed -i 's|^{_KEY}$|&\\n{_USERS}|' {_SETTINGS}"


class Phase(StrEnum):
    """Passes over all machines."""

    TRUST = "trust in new keys"
    USE = "certificates"
    DROP = "old keys"


@dataclass(frozen=True, slots=True)
class Change:
    """The old keys of a cluster, as far as they are needed, and the new ones."""

    old: bytes  # certificate of the authority
    new: Pair
    old_users: bytes  # empty for a cluster that had no authority for users
    new_users: Pair
    old_ssh: str  # line of authorized_keys
    new_ssh: SSHKey = field(repr=False)


def trusted(phase: Phase, old: bytes, new: bytes) -> bytes:
    """Return the certificates of authorities that are trusted in a phase, first the one that signs. Pure."""
    match phase:
        case Phase.TRUST:
            return old + new
        case Phase.USE:
            return new + old
        case Phase.DROP:
            return new


def sealing(phase: Phase, old: Key, new: Key) -> Key:
    """Return the key of secrets for a phase: its first line seals. Pure."""
    match phase:
        case Phase.TRUST:
            return Key(old.secret, Key(new.secret))
        case Phase.USE:
            return Key(new.secret, Key(old.secret))
        case Phase.DROP:
            return Key(new.secret)


def machine_keys(
    phase: Phase, change: Change, machine: MachineRecord, pair: Pair | None, secret: Key
) -> list[File]:
    """Return the files of a machine in a phase; `pair` is its new certificate, once that is used. Pure."""
    files = [
        File(f"{TLS}/ca.crt", trusted(phase, change.old, change.new.certificate)),
        File(f"{TLS}/users.crt", trusted(phase, change.old_users, change.new_users.certificate)),
        key_file(secret),
    ]
    if pair is not None:
        files += [
            File(f"{TLS}/machine.crt", pair.certificate),
            File(f"{TLS}/machine.key", pair.key, 0o600),
            *([File(f"{TLS}/{KEY}", change.new.key, 0o600)] if machine.etcd else []),
        ]
    return files


@dataclass(slots=True)
class Rotation:
    """A rotation of all keys of a cluster, from its begin or from where it ended."""

    record: ClusterRecord
    runner: Runner = field(default_factory=Runner)

    @property
    def folder(self) -> Path:
        """Folder with the keys that are to come and the ends of those that go, while this is under way."""
        return self.record.folder / FOLDER

    def perform(self, show: Show) -> None:
        """Do all steps that are left. Raises ProvisionError; done again it goes on."""
        work: dict[str, Callable[[], None]] = {
            "new keys": self._make,
            Phase.TRUST: partial(self._pass, Phase.TRUST),
            "own certificate": self._own,
            "databases": self._databases,
            Phase.USE: partial(self._pass, Phase.USE),
            "secrets": self._secrets,
            Phase.DROP: partial(self._pass, Phase.DROP),
            "record": self._finish,
        }
        done = self._done()
        steps = [Step("machines", self._check)]
        steps += [Step(name, partial(self._once, name, do)) for name, do in work.items() if name not in done]
        again = f"`kirsch cluster rotate {self.record.name}` goes on from there"
        perform(steps, show, f"what was done stays done: {again}")

    def _done(self) -> list[str]:
        try:
            return (self.folder / "done").read_text().splitlines()
        except FileNotFoundError:
            return []

    def _once(self, name: str, do: Callable[[], None]) -> None:
        do()
        if self.folder.exists():
            write_file(self.folder / "done", "".join(f"{each}\n" for each in (*self._done(), name)).encode())

    def _check(self) -> None:
        """Raises ProvisionError if a machine is away or ill: it would be left with what is dropped."""
        try:
            until_well(self.record, self.record.machines, self.runner, HEALS)
        except ProvisionError as error:
            raise ProvisionError(f"{error}: all machines are to be well") from None

    def _make(self) -> None:
        """Make new keys, and remember the old as far as they are needed."""
        record, users = self.record, load_users(self.record)
        shutil.rmtree(self.folder, ignore_errors=True)
        made, made_users, ssh = authority(record.id), authority(record.id, USERS_OF), generate()
        write_private(self.folder, {
            "old.crt": load_authority(record).certificate, "new.crt": made.certificate, "new.key": made.key,
            "old-users.crt": users.certificate if users else b"",
            "new-users.crt": made_users.certificate, "new-users.key": made_users.key,
            "old.pub": public_key(record).encode(), "new": ssh.private, "new.pub": ssh.public.encode(),
        })  # fmt: skip

    def _change(self) -> Change:
        folder = self.folder
        return Change(
            (folder / "old.crt").read_bytes(),
            Pair.read(folder / "new.crt", folder / "new.key"),
            (folder / "old-users.crt").read_bytes(),
            Pair.read(folder / "new-users.crt", folder / "new-users.key"),
            (folder / "old.pub").read_text(),
            SSHKey((folder / "new").read_bytes(), (folder / "new.pub").read_text()),
        )

    def _pass(self, phase: Phase) -> None:
        """Bring all machines to a phase, one after another."""
        change, secret = self._change(), self._sealing(phase)
        if phase is Phase.TRUST:
            self._trust(phase, change)
        for machine in self.record.machines:
            hosts = dict.fromkeys((machine.address, machine.host))
            pair = None
            if phase is Phase.USE:
                pair = machine_pair(change.new, machine.name, *hosts, lifetime=LEAF)
            files = machine_keys(phase, change, machine, pair, secret)
            if phase is Phase.USE and machine.etcd and not change.old_users:
                # Machines of a cluster of an older kirsch could not renew their certificates.
                files += etcd_files(self.record, machine, change.new)
            self._act(machine, install.UNPACK, archive(files))
            if phase is Phase.TRUST:
                self._act(machine, f"{install.authorize(machine.user, self._line(change))}; {KNOW_USERS}")
            if phase is Phase.DROP:
                self._act(machine, f"{install.unauthorize(machine.user, change.old_ssh)}; {FORGET}")
            self._restart(machine)
        if phase is Phase.DROP:
            self._trust(phase, change)

    def _restart(self, machine: MachineRecord) -> None:
        """Have etcd, the registry of images and kirschd read their keys; return once the machine is well."""
        if machine.etcd:
            self._act(machine, install.start(ETCD_UNIT, "restart"))
        self._act(machine, f"systemctl try-restart --quiet {IMAGES} 2>/dev/null || :")
        self._act(machine, install.RESTART)
        until_well(self.record, [machine], self.runner)

    def _sealing(self, phase: Phase) -> Key:
        """Return the key of secrets for a phase. The next one is on machines alone; here is its digest."""
        there = [
            key
            for machine in self.record.machines
            for key in _lines(fetch(self.record, self.runner, machine))
        ]
        path = self.folder / "sealing"
        mark = path.read_text() if path.exists() else ""
        new = next((key for key in there if key.mark == mark), None)
        if new is None:
            if phase is not Phase.TRUST:
                raise ProvisionError("no machine has the key that secrets are to be sealed with")
            new = Key.generate()
            write_file(path, new.mark.encode())
        old = next((key for key in there if key.mark != new.mark), new)
        return sealing(phase, old, new)

    def _trust(self, phase: Phase, change: Change) -> None:
        """Trust here, too, who is trusted in a phase."""
        tls = self.record.folder / "tls"
        write_file(tls / "ca.crt", trusted(phase, change.old, change.new.certificate))
        write_file(tls / "users.crt", trusted(phase, change.old_users, change.new_users.certificate))

    def _own(self) -> None:
        """Sign with the new authorities here, and log in with new keys: every machine trusts them."""
        change, tls, ssh = self._change(), self.record.folder / "tls", self.record.folder / "ssh"
        person = issue(change.new, CLIENT, lifetime=LEAF)
        self._trust(Phase.USE, change)
        for path, content in (
            (tls / KEY, change.new.key),
            (tls / "users.key", change.new_users.key),
            (tls / "client.key", person.key),
            (tls / "client.crt", person.certificate),
            (ssh / "id_ed25519", change.new_ssh.private),
            (ssh / "id_ed25519.pub", f"{self._line(change)}\n".encode()),
        ):
            write_file(path, content)
        accounts = self._accounts()
        write_file(
            self.folder / "accounts", "".join(f"{name} {at}\n" for name, at in accounts.items()).encode()
        )

    def _databases(self) -> None:
        """Raises ProvisionError for databases that know etcd by the old authority alone."""
        before = dict(line.split(" ", 1) for line in (self.folder / "accounts").read_text().splitlines())
        now = self._accounts()
        for name, at in before.items():
            if now.get(name, "") == at:
                raise ProvisionError(
                    f"{name} knows etcd by the old authority: `kirsch db account {name} --renew`, then "
                    f"`kirsch restart` its units"
                )

    def _accounts(self) -> dict[str, str]:
        """Return databases with an account in etcd, and when the secret that has it was set."""
        names = database_accounts(self.record, self.runner)
        try:
            with connected(self.record.name) as client:
                known = {row["name"]: str(row["set"]) for row in client.get(SECRETS)["secrets"]}
        except ClientError as error:
            raise ProvisionError(str(error)) from None
        return {name: known[secret_name(name)] for name in names if secret_name(name) in known}

    def _secrets(self) -> None:
        try:
            with connected(self.record.name) as client:
                client.post(SECRETS, {})
        except ClientError as error:
            raise ProvisionError(str(error)) from None

    def _finish(self) -> None:
        gone = self.record.folder / f".{FOLDER}"
        shutil.rmtree(gone, ignore_errors=True)
        os.rename(self.folder, gone)
        shutil.rmtree(gone)

    def _line(self, change: Change) -> str:
        return f"{change.new_ssh.public} kirsch-{self.record.name}"

    def _act(self, machine: MachineRecord, script: str, given: bytes = b"") -> None:
        act(self.runner, shell_of(self.record, machine), machine.name, script, given)


def _lines(key: Key) -> list[Key]:
    """Return each line of a key as a key."""
    return [Key(key.secret), *(_lines(key.other) if key.other else [])]
