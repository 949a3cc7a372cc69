"""What keeps secrets, wherever that is: the protocol, and what a value may be.

A value is bytes; in memory it is a str with surrogateescape, as all that a unit is given.
"""

import secrets
from collections.abc import Iterable, Mapping
from typing import Protocol

# Bytes: what fits into a variable, of which execve(2) takes 128 KiB.
MAX_SIZE = 64 << 10
RANDOM = 24


class SecretError(Exception):
    """Why a secret cannot be had, kept or removed: one line. `status` is HTTP's word for it."""

    def __init__(self, message: str, status: int = 409) -> None:
        super().__init__(message)
        self.status = status


class Secrets(Protocol):
    """All secrets of a cluster. Every method but the plain ones may raise SecretError, RegistryError."""

    def stored(self) -> Mapping[str, float]:
        """The names, and when each was set (seconds since the epoch)."""

    def missing(self, names: Iterable[str]) -> list[str]:
        """Those of `names` that a unit would have to wait for."""

    def version(self, name: str) -> float:
        """What is another number once another value was set; 0 where there is none."""

    def seal(self, name: str, text: str) -> str:
        """A text as it is kept on a disk: only this cluster's machines can read it. Raises SecretError."""

    def unseal(self, name: str, sealed: str) -> str:
        """The opposite, under the same name. Raises SecretError."""

    async def get(self, name: str) -> str:
        """The value."""

    async def put(self, name: str, value: bytes, *, replace: bool = True) -> bool:
        """Set it; whether it is new. One that is there is an error if it is not to be replaced."""

    async def remove(self, name: str) -> None:
        """Forget it."""


def made_up() -> str:
    """A value at random, as long as nobody can guess it."""
    return secrets.token_urlsafe(RANDOM)


def checked_value(value: bytes) -> bytes:
    """The value, if it can be one. Raises SecretError."""
    if not value:
        raise SecretError("the value is empty", 400)
    if len(value) > MAX_SIZE:
        raise SecretError(f"the value has more than {MAX_SIZE >> 10} KiB", 413)
    return value


def variable(name: str, value: str) -> str:
    """The value as a variable has it: without the end of its last line. Raises SecretError."""
    text = value.removesuffix("\n").removesuffix("\r")
    if not text or "\0" in text:
        raise SecretError(f"secret {name} is empty, or has a NUL: it can be no variable")
    return text


def exists(name: str) -> SecretError:
    """It is there, and was not to be."""
    return SecretError(f"there is a secret {name} already")


def nowhere(name: str, hint: str = "") -> SecretError:
    """It is not there."""
    return SecretError(f"there is no secret {name}{hint}", 404)
