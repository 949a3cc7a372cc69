"""Backup of a cluster into a file, with its keys under a passphrase, and its return onto machines."""

import base64
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from kirsch.cluster.api.client import ClientError
from kirsch.cluster.model import NAME, keys
from kirsch.cluster.node.backup import Backup, moved, parts
from kirsch.cluster.provision import install
from kirsch.cluster.provision.archive import File, archive
from kirsch.cluster.provision.command import Runner
from kirsch.cluster.provision.endpoint import connected
from kirsch.cluster.provision.keyring import fetch, key_file
from kirsch.cluster.provision.record import ClusterRecord, ProvisionError, clusters_folder
from kirsch.cluster.provision.settings import TLS
from kirsch.cluster.provision.shell import act, shell_of
from kirsch.cluster.provision.steps import Show, Step, perform
from kirsch.cluster.secrets.seal import Key, Unsealable

PATH = "/kirsch/v1/backup"
# Name of the sealing key among the files; and what the sealed files are bound to.
SEALING, BOUND = "secrets.key", "backup"
SALT_BYTES = 16
USERS = ("tls/users.crt", "tls/users.key")


def passphrase_key(passphrase: str, salt: bytes) -> Key:
    """Return the key that a passphrase stands for (scrypt, RFC 7914)."""
    return Key(hashlib.scrypt(passphrase.encode(), salt=salt, n=1 << 15, r=8, p=1, maxmem=1 << 26, dklen=32))


def back_up(cluster: str, passphrase: str) -> Backup:
    """Return a backup of the cluster and of its keys. Raises ProvisionError, ClientError, OSError."""
    record, runner = ClusterRecord.load(cluster), Runner()
    with connected(cluster) as client:
        found = client.get(PATH)
    folder = record.folder
    files = {
        str(path.relative_to(folder)): path.read_text()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    files[SEALING] = fetch(record, runner).text
    salt = os.urandom(SALT_BYTES)
    sealed = passphrase_key(passphrase, salt).seal(BOUND, json.dumps(files).encode(), found["made"])
    made = Backup(cluster, found["made"], found["machines"], found["entries"])
    return replace(made, salt=base64.b64encode(salt).decode(), keys=sealed)


def opened(backup: Backup, passphrase: str) -> dict[str, str]:
    """Return the files of a backup, by their paths; none if a machine made it. Raises ProvisionError."""
    if not backup.keys:
        return {}
    try:
        key = passphrase_key(passphrase, base64.b64decode(backup.salt))
        files: dict[str, str] = json.loads(key.open(BOUND, backup.keys))
    except (Unsealable, ValueError):
        raise ProvisionError("the passphrase is not that of the backup, or the file was changed") from None
    return files


def restore_folder(backup: Backup, files: Mapping[str, str]) -> Path:
    """Write the folder of whoever made the cluster, with all its keys, where there is none. Raises
    ProvisionError, OSError."""
    folder = clusters_folder() / backup.cluster
    if not files:
        raise ProvisionError("a machine made this backup: it has no keys")
    if folder.exists():
        raise ProvisionError(f"{folder} is there: a cluster {backup.cluster} is known here")
    for name, content in files.items():
        path = folder / name
        if name == SEALING:
            continue
        if not path.resolve().is_relative_to(folder.resolve()):
            raise ProvisionError(f"{name} is no file of a cluster's folder")
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.write_text(content)
    return folder


class Restoration:
    """Return of a backup onto the machines of a cluster that has no units of its own."""

    def __init__(self, cluster: str, backup: Backup, files: Mapping[str, str]) -> None:
        self.record = ClusterRecord.load(cluster)
        self.backup = backup
        self.files = files
        self.runner = Runner()

    def perform(self, show: Show) -> None:
        """Do all steps; each can be done again. Raises ProvisionError."""
        steps = [
            Step("units", self._check),
            *([Step("keys", self._keys)] if self.files else []),
            Step("registry", self._write),
        ]
        perform(steps, show, "what was done stays done: do it again")

    def _check(self) -> None:
        """Raises ProvisionError for a cluster that is in use."""
        try:
            with connected(self.record.name) as client:
                units = {unit["name"] for unit in client.get("/kirsch/v1/units")["units"]}
        except ClientError as error:
            raise ProvisionError(str(error)) from None
        known = {keys.last(key) for key in self.backup.entries if keys.kind(key) == keys.UNITS}
        if others := sorted(units - known):
            raise ProvisionError(
                f"cluster {self.record.name} has units of its own: {', '.join(others[:5])}; destroy them, or "
                "make another cluster"
            )

    def _keys(self) -> None:
        """Give all machines the key that secrets are sealed with, and the authority of users."""
        files = [key_file(Key.parse(self.files[SEALING]))]
        users = {name: self.files[name].encode() for name in USERS if name in self.files}
        if users:
            files.append(File(f"{TLS}/users.crt", users[USERS[0]]))
        packed = archive(files)

        def give(machine_name: str) -> None:
            machine = self.record.machine(machine_name)
            shell = shell_of(self.record, machine)
            act(self.runner, shell, machine.name, install.UNPACK, packed)
            # The authority of users is read when kirschd starts.
            act(self.runner, shell, machine.name, "systemctl restart kirschd.service")

        self.runner.together([machine.name for machine in self.record.machines], give)
        for name, content in users.items():
            path = self.record.folder / name
            path.touch(mode=0o600)
            path.write_bytes(content)

    def _write(self) -> None:
        try:
            with connected(self.record.name) as client:
                there = client.get("/kirsch/v1/machines")["machines"]
                now = {machine["metadata"].get(NAME, ""): machine["id"] for machine in there}
                for part in parts(moved(self.backup.entries, self.backup.machines, now)):
                    client.put(PATH, {"entries": part})
        except ClientError as error:
            raise ProvisionError(str(error)) from None
