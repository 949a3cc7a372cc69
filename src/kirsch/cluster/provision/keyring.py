"""Keys of a cluster: for TLS and ssh, in files that only their owner can read, and for its sealed secrets."""

import os
import time
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from kirsch.cluster.model.certificates import MACHINE, USERS_OF
from kirsch.cluster.node.authority import LEAF, Pair, authority, due, facts, issue, renew, signer
from kirsch.cluster.node.settings import SECRETS
from kirsch.cluster.provision.archive import File
from kirsch.cluster.provision.command import Runner
from kirsch.cluster.provision.record import ClusterRecord, MachineRecord, ProvisionError
from kirsch.cluster.provision.shell import act, known_host, shell_of, ssh_config
from kirsch.cluster.secrets.files import write_file
from kirsch.cluster.secrets.seal import Key, Unsealable

# The name in a person's certificate.
CLIENT = "client"


@dataclass(frozen=True, slots=True)
class SSHKey:
    """A private key in OpenSSH's format, and its public line without a comment."""

    private: bytes = field(repr=False)
    public: str


def generate() -> SSHKey:
    """Generate an Ed25519 key."""
    key = Ed25519PrivateKey.generate()
    return SSHKey(
        key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()),
        key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode(),
    )


def make_keys(record: ClusterRecord) -> None:
    """New authorities, a person's certificate, a key for ssh and its configuration. Raises OSError."""
    signer, users = authority(record.id), authority(record.id, USERS_OF)
    person = issue(signer, CLIENT, lifetime=LEAF)
    write_private(record.folder / "tls", {
        "ca.crt": signer.certificate, "ca.key": signer.key,
        "users.crt": users.certificate, "users.key": users.key,
        "client.crt": person.certificate, "client.key": person.key,
    })  # fmt: skip
    key = generate()
    write_private(record.folder / "ssh", {
        "id_ed25519": key.private,
        "id_ed25519.pub": f"{key.public} kirsch-{record.name}\n".encode(),
        "known_hosts": b"",
        "config": ssh_config(record).encode(),
    })  # fmt: skip


def load_authority(record: ClusterRecord) -> Pair:
    """The cluster's own authority. Raises OSError."""
    tls = record.folder / "tls"
    return Pair.read(tls / "ca.crt", tls / "ca.key")


def load_users(record: ClusterRecord) -> Pair | None:
    """The authority of users' certificates; None for a cluster that was made without. Raises OSError."""
    tls = record.folder / "tls"
    if not (tls / "users.key").exists():
        return None
    return Pair.read(tls / "users.crt", tls / "users.key")


def public_key(record: ClusterRecord) -> str:
    """The line for authorized_keys of whoever may come in. Raises OSError."""
    return (record.folder / "ssh/id_ed25519.pub").read_text().strip()


def machine_pair(signer: Pair, name: str, *addresses: str, lifetime: timedelta) -> Pair:
    """A machine's certificate: it is called by its name, its addresses, and by itself on loopback."""
    return issue(signer, name, name, *addresses, "127.0.0.1", "localhost", role=MACHINE, lifetime=lifetime)


def renew_person(record: ClusterRecord) -> None:
    """Renew the certificate of whoever made the cluster, where two thirds of its time have passed and the
    authority's key is here. Raises OSError."""
    certificates = record.certificates
    authority = signer(certificates)
    if authority is None:
        return
    before = certificates.certificate.read_bytes()
    known = facts(before)
    if due(known.start, known.until, time.time()):
        write_file(certificates.certificate, renew(authority, before))
    else:
        os.utime(certificates.certificate, (time.time(), known.start))


def write_ssh(record: ClusterRecord, known_hosts: str) -> None:
    """The configuration for ssh, and the machines' own keys. Raises OSError."""
    folder = record.folder / "ssh"
    write_private(folder, {"config": ssh_config(record).encode(), "known_hosts": known_hosts.encode()})


def know_host(record: ClusterRecord, machine: MachineRecord, lines: str) -> None:
    """Let ssh know a machine that joins, by its lines for known_hosts. Raises OSError."""
    known = _known_hosts(record, machine)
    write_ssh(replace(record, machines=(*record.machines, machine)), known + lines)


def forget_host(record: ClusterRecord, machine: MachineRecord) -> None:
    """Let ssh forget a machine that leaves. Raises OSError."""
    rest = tuple(each for each in record.machines if each.name != machine.name)
    write_ssh(replace(record, machines=rest), _known_hosts(record, machine))


def _known_hosts(record: ClusterRecord, but: MachineRecord) -> str:
    lines = (record.folder / "ssh/known_hosts").read_text().splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith(known_host(but, "")[:-1]))


def write_private(folder: Path, files: dict[str, bytes]) -> None:
    """Write files that only their owner can read, in a folder that is made if need be. Raises OSError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name, content in files.items():
        path = folder / name
        path.touch(mode=0o600)
        path.write_bytes(content)


def key_file(key: Key) -> File:
    """Return the file that holds the key on a machine."""
    return File(str(SECRETS), key.text.encode(), 0o600)


def fetch(record: ClusterRecord, runner: Runner, *machines: MachineRecord) -> Key:
    """The key, of any machine that is there, or of those that are given. Raises ProvisionError."""
    reasons = []
    for machine in machines or record.machines:
        try:
            return Key.parse(act(runner, shell_of(record, machine), machine.name, f"cat {SECRETS}"))
        except Unsealable as error:
            reasons.append(f"{machine.name}: {SECRETS}: {error}")
        except ProvisionError as error:
            runner.check()
            reasons.append(str(error))
    raise ProvisionError(f"no machine has the key of the cluster's secrets: {'; '.join(reasons)}")
