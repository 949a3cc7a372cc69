"""Keys of OpenSSH: a person's, and each machine's own. Ed25519, as ssh-keygen(1) makes them."""

from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat


@dataclass(frozen=True, slots=True)
class SSHKey:
    """A private key in OpenSSH's format, and its public line without a comment."""

    private: bytes = field(repr=False)
    public: str


def generate() -> SSHKey:
    """A new key."""
    key = Ed25519PrivateKey.generate()
    return SSHKey(
        key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()),
        key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode(),
    )
