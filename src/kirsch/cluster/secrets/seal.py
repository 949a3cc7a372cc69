"""Sealing a secret for the registry: AES-256-GCM (NIST SP 800-38D), its name bound to it.

The store keeps what `Key.seal` makes, and cannot read it; what was changed there, or put under another name,
does not open.
"""

import base64
import binascii
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES = 32
NONCE_BYTES = 12
CONTEXT = "kirsch secret"


class Unsealable(Exception):
    """Error: the store's text was not sealed with this key, under this name, at this time; or a key's text is
    not a key."""


@dataclass(frozen=True, slots=True)
class Key:
    """A cluster's key. Its text is base64, one line; while keys are rotated a second line is another key, by
    which what is sealed opens too."""

    secret: bytes = field(repr=False)
    other: "Key | None" = field(default=None, repr=False)

    @classmethod
    def generate(cls) -> "Key":
        """Return a new key, of the system's random bytes."""
        return cls(os.urandom(KEY_BYTES))

    @classmethod
    def parse(cls, text: str) -> "Key":
        """From its text. Raises Unsealable."""
        line, _, rest = text.strip().partition("\n")
        try:
            secret = base64.b64decode(line, validate=True)
        except (binascii.Error, ValueError):
            secret = b""
        if len(secret) != KEY_BYTES:
            raise Unsealable(f"it is no key: {KEY_BYTES} bytes in base64")
        return cls(secret, cls.parse(rest) if rest else None)

    @property
    def text(self) -> str:
        """Text of the key in its file."""
        return base64.b64encode(self.secret).decode() + "\n" + (self.other.text if self.other else "")

    @property
    def mark(self) -> str:
        """Digest that tells this key from others, and reveals nothing of it."""
        return hashlib.sha256(self.secret).hexdigest()

    def seal(self, name: str, value: bytes, at: float, login: Sequence[str] = ()) -> str:
        """A value of the registry: when it was set, what nobody can read without the key, and for all to see
        the login that goes with it."""
        nonce = os.urandom(NONCE_BYTES)
        sealed = nonce + self._cipher().encrypt(nonce, value, _bound(name, at, login))
        stored = {"set": at, "sealed": base64.b64encode(sealed).decode()}
        return json.dumps(stored | ({"login": login} if login else {}))

    def open(self, name: str, stored: str) -> bytes:
        """Return the sealed value. Raises Unsealable."""
        try:
            return self.open_alone(name, stored)
        except Unsealable:
            if self.other is None:
                raise
            return self.other.open(name, stored)

    def open_alone(self, name: str, stored: str) -> bytes:
        """Return a value that was sealed with this very key. Raises Unsealable."""
        from cryptography.exceptions import InvalidTag

        try:
            sealed = base64.b64decode(json.loads(stored)["sealed"], validate=True)
            nonce, rest = sealed[:NONCE_BYTES], sealed[NONCE_BYTES:]
            return self._cipher().decrypt(nonce, rest, _bound(name, set_at(stored), login_of(stored)))
        except (InvalidTag, ValueError, KeyError, TypeError):
            raise Unsealable("it was sealed with another key, or changed in the store") from None

    def _cipher(self) -> "AESGCM":
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        return AESGCM(self.secret)


def set_at(stored: str) -> float:
    """Return the time at which a secret was set; 0 for a text that is not sealed."""
    try:
        return float(json.loads(stored)["set"])
    except (ValueError, KeyError, TypeError):
        return 0.0


def login_of(stored: str) -> list[str]:
    """Return the login that goes with a secret: its owner and its role; nothing where there is none."""
    try:
        login = json.loads(stored).get("login", ())
    except (ValueError, AttributeError):
        return []
    return [str(each) for each in login] if isinstance(login, list) else []


def _bound(name: str, at: float, login: Sequence[str]) -> bytes:
    return json.dumps([CONTEXT, name, at, *login]).encode()
