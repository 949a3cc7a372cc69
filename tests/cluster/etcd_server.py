"""A real etcd of a test's own: one member or several, on free ports of 127.0.0.0/8, with TLS or without."""

import datetime
import ipaddress
import os
import random
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from tests.deadline import eventually

from kirsch.cluster.model.certificates import Certificates

READY_SECONDS = 60

needs_etcd = pytest.mark.skipif(not shutil.which("etcd"), reason="needs etcd")


class Member:
    """One etcd process; it keeps its address, ports and data from one start to the next."""

    def __init__(self, folder: Path, name: str, authority: "Authority | None", options: list[str]) -> None:
        self.folder = folder
        self.name = name
        self.address = f"127.{random.randint(1, 254)}.{random.randint(1, 254)}.{random.randint(2, 254)}"
        self.certificates = authority.certificates(name, self.address) if authority else None
        self.options = options
        self.process: subprocess.Popen[bytes] | None = None
        scheme = "https" if authority else "http"
        # Peers speak plainly: it is the clients' side that is tested.
        client, peer = free_ports(self.address, 2)
        self.endpoint = f"{scheme}://{self.address}:{client}"
        self.peer = f"http://{self.address}:{peer}"

    def spawn(self, initial_cluster: str) -> socket.socket:
        """Start the process; on the socket returned it says when it serves."""
        ready = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        ready.bind("")
        ready.settimeout(READY_SECONDS)
        command = ["etcd", f"--name={self.name}", f"--data-dir={self.folder / self.name}"]
        command += [f"--listen-client-urls={self.endpoint}", f"--advertise-client-urls={self.endpoint}"]
        command += [f"--listen-peer-urls={self.peer}", f"--initial-advertise-peer-urls={self.peer}"]
        command += [f"--initial-cluster={initial_cluster}", "--logger=zap", "--log-level=error"]
        if self.certificates:
            command += [f"--cert-file={self.certificates.certificate}", f"--key-file={self.certificates.key}"]
            command += ["--client-cert-auth", f"--trusted-ca-file={self.certificates.authority}"]
        # systemd's protocol: https://www.freedesktop.org/software/systemd/man/sd_notify.html
        address = "@" + ready.getsockname()[1:].decode()
        with (self.folder / f"{self.name}.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*command, *self.options],
                stdout=log,
                stderr=log,
                env={"PATH": os.environ["PATH"], "NOTIFY_SOCKET": address},
            )
        return ready

    def wait(self, ready: socket.socket) -> None:
        """Return once the member serves."""
        with ready:
            try:
                while b"READY=1" not in ready.recv(4096):
                    pass
            except TimeoutError:
                log = (self.folder / f"{self.name}.log").read_text(errors="replace")
                raise AssertionError(f"etcd {self.name} does not get ready:\n{log}") from None

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)
        # On a busy machine a thread that does not run yet answers one request more.
        if number == signal.SIGSTOP:
            eventually(self.is_still)

    def is_still(self) -> bool:
        """Whether each of its threads is stopped (proc(5), /proc/PID/task/TID/stat)."""
        assert self.process is not None
        threads = Path(f"/proc/{self.process.pid}/task").iterdir()
        states = [(thread / "stat").read_text().rpartition(")")[2].split()[0] for thread in threads]
        return set(states) == {"T"}

    def kill(self) -> None:
        """End it as a loss of power would."""
        if self.process is not None:
            self.signal(signal.SIGKILL)
            self.process.wait()
            self.process = None


class EtcdServer:
    """A cluster of members, all of them serving once made."""

    def __init__(
        self,
        folder: Path,
        members: int = 1,
        authority: "Authority | None" = None,
        options: Sequence[str] = (),
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.certificates = authority.certificates("client") if authority else None
        self.members = [Member(folder, f"m{number}", authority, list(options)) for number in range(members)]
        self.start(*self.members)

    @property
    def endpoints(self) -> list[str]:
        return [member.endpoint for member in self.members]

    def start(self, *members: Member) -> None:
        """Start members, on the data they had; return once they serve."""
        initial = ",".join(f"{member.name}={member.peer}" for member in self.members)
        for member, ready in [(member, member.spawn(initial)) for member in members]:
            member.wait(ready)

    def restart(self) -> None:
        """Kill every member and start it again on its data."""
        for member in self.members:
            member.kill()
        self.start(*self.members)

    def stop(self) -> None:
        for member in self.members:
            member.kill()

    def etcdctl(self, *arguments: str, member: int = 0) -> str:
        """What etcdctl says, asked of one member."""
        command = ["etcdctl", f"--endpoints={self.members[member].endpoint}"]
        if self.certificates:
            command += [f"--cacert={self.certificates.authority}", f"--cert={self.certificates.certificate}"]
            command += [f"--key={self.certificates.key}"]
        environment = {"PATH": os.environ["PATH"], "ETCDCTL_API": "3"}
        return subprocess.run(
            [*command, *arguments], check=True, capture_output=True, text=True, timeout=60, env=environment
        ).stdout

    def compact(self, revision: int) -> None:
        """Forget what was before `revision`."""
        self.etcdctl("compact", str(revision))

    def leader(self) -> Member:
        """The member that leads."""
        for number, member in enumerate(self.members):
            if (
                self.etcdctl("endpoint", "status", "--write-out=simple", member=number).split(", ")[4]
                == "true"
            ):
                return member
        raise AssertionError("no member leads")


@contextmanager
def etcd(
    folder: Path, members: int = 1, authority: "Authority | None" = None, options: Sequence[str] = ()
) -> Iterator[EtcdServer]:
    """An etcd for the time of a with statement."""
    server = EtcdServer(folder, members, authority, options)
    try:
        yield server
    finally:
        server.stop()


def free_ports(address: str, count: int) -> list[int]:
    """Ports of an address that nobody else has: the address is one of 16 million."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for listener in sockets:
            listener.bind((address, 0))
        return [listener.getsockname()[1] for listener in sockets]
    finally:
        for listener in sockets:
            listener.close()


class Authority:
    """A certificate authority in a folder, which signs certificates for machines and people."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"authority of {folder.name}")])
        certificate = (
            self._builder(self.name, self.key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            # RFC 5280, 4.2.1.3: an authority's has it; Python 3.13 looks.
            .add_extension(
                x509.KeyUsage(
                    digital_signature=True,
                    content_commitment=False,
                    key_encipherment=False,
                    data_encipherment=False,
                    key_agreement=False,
                    key_cert_sign=True,
                    crl_sign=True,
                    encipher_only=False,
                    decipher_only=False,
                ),
                critical=True,
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        (folder / "ca.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def certificates(self, name: str, *addresses: str, common_name: bool = True) -> Certificates:
        """A certificate for `name` and these addresses, with its key.

        Without a common name it is no user of etcd's: whoever has it logs in with a password.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        names = [x509.DNSName(name), *(x509.IPAddress(ipaddress.ip_address(a)) for a in addresses)]
        kind = NameOID.COMMON_NAME if common_name else NameOID.ORGANIZATION_NAME
        certificate = (
            self._builder(x509.Name([x509.NameAttribute(kind, name)]), key.public_key())
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
                critical=False,
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False
            )
            .sign(self.key, hashes.SHA256())
        )
        paths = Certificates(self.folder / "ca.crt", self.folder / f"{name}.crt", self.folder / f"{name}.key")
        paths.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        paths.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return paths

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
        )
