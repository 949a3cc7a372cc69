"""Contract of what keeps secrets, and of their values.

A value is bytes; in memory it is a str with surrogateescape, as everything that a unit is given.
"""

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

# Bytes: what fits into a variable, of which execve(2) takes 128 KiB.
MAX_SIZE = 64 << 10
RANDOM = 24
# The end of the variable by which a link tells of a database's user.
USER = "_ENV_POSTGRES_USER"


class SecretError(Exception):
    """Why a secret cannot be had, kept or removed: one line. `status` is HTTP's word for it."""

    def __init__(self, message: str, status: int = 409) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Login:
    """A role by which units log in to a database while the password of the role's `owner` is changed: the
    secret has the new password, and `role` alone has that already."""

    owner: str
    role: str

    def variables(self, given: Mapping[str, str], env: str) -> dict[str, str]:
        """Return variables of a unit that are other with this login: those of its links that name the owner,
        and libpq's PGUSER where the variable of the password is its PGPASSWORD."""
        users = [name for name, value in given.items() if value == self.owner and name.endswith(USER)]
        return dict.fromkeys([*users, *(["PGUSER"] if env == "PGPASSWORD" else [])], self.role)


class Secrets(Protocol):
    """All secrets of a cluster. Every method but the plain ones may raise SecretError, RegistryError."""

    def stored(self) -> Mapping[str, float]:
        """The names, and when each was set (seconds since the epoch)."""

    def missing(self, names: Iterable[str]) -> list[str]:
        """Return those of `names` that are not set, for which a unit has to wait."""

    def version(self, name: str) -> float:
        """Return a number that changes whenever a value is set; 0 if the secret is not set."""

    def seal(self, name: str, text: str) -> str:
        """A text as it is kept on a disk: only this cluster's machines can read it. Raises SecretError."""

    def unseal(self, name: str, sealed: str) -> str:
        """The opposite, under the same name. Raises SecretError."""

    async def get(self, name: str) -> str:
        """Return the value of a secret."""

    def login(self, name: str) -> Login | None:
        """Return the login that goes with a password; None for the database's owner, and for any other
        secret."""

    async def put(self, name: str, value: bytes, *, replace: bool = True, login: Login | None = None) -> bool:
        """Set it; whether it is new. One that is there is an error if it is not to be replaced."""

    async def settle(self, name: str) -> None:
        """End the time of a login: the owner has the password too."""

    async def reseal(self) -> int:
        """Seal all secrets with the present key; return how many another had sealed."""

    async def remove(self, name: str) -> None:
        """Remove a secret and its value."""


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
    """Return the error for a secret that is set already."""
    return SecretError(f"there is a secret {name} already")


def nowhere(name: str, hint: str = "") -> SecretError:
    """Return the error for a secret that is not set."""
    return SecretError(f"there is no secret {name}{hint}", 404)
