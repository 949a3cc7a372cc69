"""Certificates that sign themselves, made by openssl."""

import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate that signs itself, and its key."""

    file: Path
    key: Path

    @property
    def server(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.file, self.key)
        return context

    @property
    def client(self) -> ssl.SSLContext:
        """A context that trusts it and nothing else."""
        return ssl.create_default_context(cafile=str(self.file))


def certify(folder: Path, *names: str) -> Certificate:
    """Make a certificate for DNS names and IP addresses (written IP:127.0.0.1)."""
    file, key = folder / "certificate.pem", folder / "key.pem"
    alternatives = ",".join(name if ":" in name else f"DNS:{name}" for name in names)
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
            *("-nodes", "-days", "2", "-subj", "/CN=kirsch", "-addext", f"subjectAltName={alternatives}"),
            *("-keyout", str(key), "-out", str(file)),
        ],
        check=True,
        capture_output=True,
    )
    return Certificate(file, key)
