"""Keys of a cluster: for TLS and ssh, in files that only their owner can read, and for its sealed secrets.

The authority and the certificates that it signs (RFC 5280) are ECDSA on P-256: all of etcd, gRPC's BoringSSL
and OpenSSL take it.
"""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kirsch.cluster.model.certificates import ADMIN, MACHINE, USERS_OF
from kirsch.cluster.node.settings import SECRETS
from kirsch.cluster.provision.archive import File
from kirsch.cluster.provision.command import Runner
from kirsch.cluster.provision.record import ClusterRecord, MachineRecord, ProvisionError
from kirsch.cluster.provision.shell import act, known_host, shell_of, ssh_config
from kirsch.cluster.secrets.seal import Key, Unsealable

LIFETIME = timedelta(days=3650)
USER_DAYS = 30
# Clocks of machines may be behind ours.
LEEWAY = timedelta(days=1)
# The name in a person's certificate.
CLIENT = "client"


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its private key, both PEM."""

    certificate: bytes
    key: bytes = field(repr=False)

    @property
    def serial(self) -> str:
        """Serial number of the certificate, in hexadecimal."""
        return f"{x509.load_pem_x509_certificate(self.certificate).serial_number:X}"

    @property
    def until(self) -> float:
        """End of the certificate's validity, in seconds since the epoch."""
        return x509.load_pem_x509_certificate(self.certificate).not_valid_after_utc.timestamp()


def authority(cluster: str, beginning: str = "kirsch cluster ") -> Pair:
    """A new authority for the cluster of this id; its common name begins so."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "kirsch"),
            x509.NameAttribute(NameOID.COMMON_NAME, f"{beginning}{cluster}"),
        ]
    )
    certificate = (
        _builder(name, name, key.public_key(), LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(authority=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    return _pair(certificate, key)


def issue(signer: Pair, name: str, *hosts: str, role: str = ADMIN, lifetime: timedelta = LIFETIME) -> Pair:
    """A certificate of `signer` for a machine or a person, valid for these hosts: names or addresses.

    Without a name it has no common name, so that it is no user of etcd's. Raises ValueError for a signer that
    kirsch did not make.
    """
    parent = x509.load_pem_x509_certificate(signer.certificate)
    signing = load_pem_private_key(signer.key, None)
    if not isinstance(signing, ec.EllipticCurvePrivateKey):
        raise ValueError("the authority's key is none of kirsch's")
    key = ec.generate_private_key(ec.SECP256R1())
    common_name = [x509.NameAttribute(NameOID.COMMON_NAME, name)] if name else []
    subject = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, role), *common_name])
    usage = [ExtendedKeyUsageOID.CLIENT_AUTH, *([ExtendedKeyUsageOID.SERVER_AUTH] if hosts else [])]
    builder = (
        _builder(subject, parent.subject, key.public_key(), lifetime)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usage), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key()), critical=False
        )
    )
    if hosts:
        builder = builder.add_extension(x509.SubjectAlternativeName(list(map(_host, hosts))), critical=False)
    return _pair(builder.sign(signing, hashes.SHA256()), key)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, lifetime: timedelta
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - LEEWAY)
        .not_valid_after(now + lifetime)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _host(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def _pair(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Pair:
    return Pair(
        certificate.public_bytes(Encoding.PEM),
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    )


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
    person = issue(signer, CLIENT)
    _write(record.folder / "tls", {
        "ca.crt": signer.certificate, "ca.key": signer.key,
        "users.crt": users.certificate, "users.key": users.key,
        "client.crt": person.certificate, "client.key": person.key,
    })  # fmt: skip
    key = generate()
    _write(record.folder / "ssh", {
        "id_ed25519": key.private,
        "id_ed25519.pub": f"{key.public} kirsch-{record.name}\n".encode(),
        "known_hosts": b"",
        "config": ssh_config(record).encode(),
    })  # fmt: skip


def load_authority(record: ClusterRecord) -> Pair:
    """The cluster's own authority. Raises OSError."""
    tls = record.folder / "tls"
    return Pair((tls / "ca.crt").read_bytes(), (tls / "ca.key").read_bytes())


def load_users(record: ClusterRecord) -> Pair | None:
    """The authority of users' certificates; None for a cluster that was made without. Raises OSError."""
    tls = record.folder / "tls"
    if not (tls / "users.key").exists():
        return None
    return Pair((tls / "users.crt").read_bytes(), (tls / "users.key").read_bytes())


def public_key(record: ClusterRecord) -> str:
    """The line for authorized_keys of whoever may come in. Raises OSError."""
    return (record.folder / "ssh/id_ed25519.pub").read_text().strip()


def machine_pair(signer: Pair, name: str, *addresses: str) -> Pair:
    """A machine's certificate: it is called by its name, its addresses, and by itself on loopback."""
    return issue(signer, name, name, *addresses, "127.0.0.1", "localhost", role=MACHINE)


def write_ssh(record: ClusterRecord, known_hosts: str) -> None:
    """The configuration for ssh, and the machines' own keys. Raises OSError."""
    folder = record.folder / "ssh"
    _write(folder, {"config": ssh_config(record).encode(), "known_hosts": known_hosts.encode()})


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


def _write(folder: Path, files: dict[str, bytes]) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name, content in files.items():
        path = folder / name
        path.touch(mode=0o600)
        path.write_bytes(content)


def key_file(key: Key) -> File:
    """Return the file that holds the key on a machine."""
    return File(str(SECRETS), key.text.encode(), 0o600)


def fetch(record: ClusterRecord, runner: Runner) -> Key:
    """The key, of any machine that is there, for one that joins. Raises ProvisionError."""
    reasons = []
    for machine in record.machines:
        try:
            return Key.parse(act(runner, shell_of(record, machine), machine.name, f"cat {SECRETS}"))
        except Unsealable as error:
            reasons.append(f"{machine.name}: {SECRETS}: {error}")
        except ProvisionError as error:
            runner.check()
            reasons.append(str(error))
    raise ProvisionError(f"no machine has the key of the cluster's secrets: {'; '.join(reasons)}")
