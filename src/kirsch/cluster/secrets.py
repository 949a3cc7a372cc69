"""Secrets of the embedded cluster: made up at random at first use, kept in files that only we can read."""

import os
import secrets
from pathlib import Path
from urllib.parse import quote

BYTES = 24


class SecretError(Exception):
    """A secret that cannot be read or made: one line."""


class Secrets:
    """Secrets below a folder of mode 0700, a file each. A person may write one there beforehand."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def get(self, name: str) -> str:
        """The secret of that name; a new one if there is none. Raises SecretError."""
        path = self.directory / quote(name, safe="")
        try:
            value = path.read_text(encoding="utf-8").rstrip("\n") if path.exists() else _make(path)
        except UnicodeDecodeError:
            raise SecretError(f"the secret in {path} is not UTF-8") from None
        except OSError as error:
            raise SecretError(f"the secret in {path}: {error.strerror}") from None
        if not value or "\0" in value:
            raise SecretError(f"the secret in {path} is empty, or has a NUL")
        return value


def _make(path: Path) -> str:
    """A new secret, whole or not at all: a torn one would lock a database for ever."""
    value = secrets.token_urlsafe(BYTES)
    fresh = path.with_name(f".{path.name}.new")
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(fd, "w", encoding="utf-8") as file:
        file.write(value)
        file.flush()
        os.fsync(fd)
    fresh.rename(path)
    return value
