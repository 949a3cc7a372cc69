"""Authority of a cluster: certificates that it issues, renews and revokes (RFC 5280).

Keys are ECDSA on P-256: all of etcd, gRPC's BoringSSL and OpenSSL take it.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kirsch.cluster.model.certificates import ADMIN, KEY, Certificates

# Of an authority; and of a certificate that renews itself.
LIFETIME, LEAF = timedelta(days=3650), timedelta(days=30)
# Clocks of machines may be behind ours.
LEEWAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its private key, both PEM."""

    certificate: bytes
    key: bytes = field(repr=False)

    @classmethod
    def read(cls, certificate: Path, key: Path) -> "Pair":
        """Read them from files. Raises OSError."""
        return cls(certificate.read_bytes(), key.read_bytes())

    @property
    def serial(self) -> str:
        """Serial number of the certificate, in hexadecimal."""
        return facts(self.certificate).serial

    @property
    def until(self) -> float:
        """End of the certificate's validity, in seconds since the epoch."""
        return facts(self.certificate).until


@dataclass(frozen=True, slots=True)
class Facts:
    """Facts about a certificate: times are seconds since the epoch."""

    name: str
    role: str
    serial: str
    start: float
    until: float


def facts(certificate: bytes) -> Facts:
    """Return the facts about a certificate (PEM). Raises ValueError."""
    parsed = x509.load_pem_x509_certificate(certificate)

    def named(oid: x509.ObjectIdentifier) -> str:
        return "".join(str(each.value) for each in parsed.subject.get_attributes_for_oid(oid)[:1])

    return Facts(
        named(NameOID.COMMON_NAME),
        named(NameOID.ORGANIZATION_NAME),
        f"{parsed.serial_number:X}",
        parsed.not_valid_before_utc.timestamp(),
        parsed.not_valid_after_utc.timestamp(),
    )


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
    key = ec.generate_private_key(ec.SECP256R1())
    common_name = [x509.NameAttribute(NameOID.COMMON_NAME, name)] if name else []
    subject = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, role), *common_name])
    names = x509.SubjectAlternativeName(list(map(_host, hosts))) if hosts else None
    return _pair(_leaf(signer, subject, key.public_key(), names, lifetime), key)


def renew(signer: Pair, certificate: bytes, lifetime: timedelta = LEAF) -> bytes:
    """Return a certificate (PEM) for the same key, subject and hosts as an earlier one, valid from now on.

    Raises ValueError for what is no certificate of kirsch's.
    """
    before = x509.load_pem_x509_certificate(certificate)
    key = before.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise ValueError("the certificate's key is none of kirsch's")
    try:
        names = before.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        names = None
    return _leaf(signer, before.subject, key, names, lifetime).public_bytes(Encoding.PEM)


def revocations(signer: Pair, serials: list[str]) -> bytes:
    """Return a list of revoked certificates, in DER, which all versions of etcd read.

    Raises ValueError for a signer that kirsch did not make."""
    now = datetime.now(UTC)
    issuer = x509.load_pem_x509_certificate(signer.certificate).subject
    made = x509.CertificateRevocationListBuilder().issuer_name(issuer)
    made = made.last_update(now - LEEWAY).next_update(now + LIFETIME)
    for serial in serials:
        revoked = x509.RevokedCertificateBuilder().serial_number(int(serial, 16)).revocation_date(now)
        made = made.add_revoked_certificate(revoked.build())
    return made.sign(_signing(signer), hashes.SHA256()).public_bytes(Encoding.DER)


def signer(certificates: Certificates) -> Pair | None:
    """Return the authority where its key lies beside its certificate. Raises OSError."""
    key = certificates.authority.with_name(KEY)
    return Pair.read(certificates.authority, key) if key.exists() else None


def due(start: float, until: float, now: float) -> bool:
    """Return True once two thirds of a certificate's time have passed. Pure."""
    return now > start + (until - start) * 2 / 3


def _signing(signer: Pair) -> ec.EllipticCurvePrivateKey:
    signing = load_pem_private_key(signer.key, None)
    if not isinstance(signing, ec.EllipticCurvePrivateKey):
        raise ValueError("the authority's key is none of kirsch's")
    return signing


def _leaf(
    signer: Pair,
    subject: x509.Name,
    key: ec.EllipticCurvePublicKey,
    names: x509.SubjectAlternativeName | None,
    lifetime: timedelta,
) -> x509.Certificate:
    parent = x509.load_pem_x509_certificate(signer.certificate)
    signing = _signing(signer)
    usage = [ExtendedKeyUsageOID.CLIENT_AUTH, *([ExtendedKeyUsageOID.SERVER_AUTH] if names else [])]
    builder = (
        _builder(subject, parent.subject, key, lifetime)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usage), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key()), critical=False
        )
    )
    if names is not None:
        builder = builder.add_extension(names, critical=False)
    return builder.sign(signing, hashes.SHA256())


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
