"""Certificates of a cluster's own authority: who may speak over TCP. For etcd, the API and its clients."""

import json
import ssl
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from kirsch.cluster.model.unit import known_fields

# Roles that a person's certificate can have, each with more rights than the one before; and a machine's.
VIEW, DEPLOY, ADMIN = PEOPLE = ("view", "deploy", "admin")
MACHINE = "machine"
# File of the authority's key, beside its certificate, on machines that keep etcd.
KEY = "ca.key"
# Beginning of the common name of the authority for users, which the API trusts and etcd does not.
USERS_OF = "kirsch users of "


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate as the registry has it, by its serial number: until when it is valid (seconds since the
    epoch), and the id of the machine that it is for."""

    name: str
    role: str
    until: float
    machine: str = ""
    revoked: bool = False

    def to_json(self) -> str:
        """Return the value in the registry."""
        return json.dumps(asdict(self))

    @classmethod
    def parse(cls, text: str) -> "Issued":
        """Read a value of the registry."""
        return cls(**known_fields(cls, json.loads(text)))


def revoked_machines(certificates: Iterable[Issued]) -> frozenset[str]:
    """Return the ids of machines all of whose certificates were revoked. Pure."""
    known = [issued for issued in certificates if issued.machine]
    return frozenset(each.machine for each in known if each.revoked) - {
        each.machine for each in known if not each.revoked
    }


@dataclass(frozen=True, slots=True)
class Certificates:
    """Files in PEM: the authority that peers must be signed by, and one's own certificate with its key."""

    authority: Path
    certificate: Path
    key: Path
    # The authority of users' certificates, for the API.
    users: Path | None = None

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
        if self.users is not None and self.users.exists():
            context.load_verify_locations(self.users)
        context.load_cert_chain(self.certificate, self.key)
        return context
