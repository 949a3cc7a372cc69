"""Certificates of a cluster's own authority: who may speak over TCP. For etcd, the API and its clients."""

import ssl
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Certificates:
    """Files in PEM: the authority that peers must be signed by, and one's own certificate with its key."""

    authority: Path
    certificate: Path
    key: Path

    def client(self) -> ssl.SSLContext:
        """For connecting: the server must be of this authority and bear the name it was called by.

        Raises OSError, ssl.SSLError for files that are missing or no certificates."""
        context = ssl.create_default_context(cafile=self.authority)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_cert_chain(self.certificate, self.key)
        return context

    def server(self) -> ssl.SSLContext:
        """For listening: only clients with a certificate of this authority get past the handshake.

        Raises OSError, ssl.SSLError for files that are missing or no certificates."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=self.authority)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_cert_chain(self.certificate, self.key)
        return context
