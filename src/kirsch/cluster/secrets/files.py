"""Secrets of the embedded cluster: made up at random at first use, kept in files that only we can read."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import quote, unquote

from kirsch.cluster.secrets.base import SecretError, checked_value, exists, made_up, nowhere


class FileSecrets:
    """Secrets below a folder of mode 0700, a file each. A person may write one there beforehand."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def stored(self) -> Mapping[str, float]:
        """Return the names of the secrets, one file each."""
        try:
            found = [path for path in self.directory.iterdir() if not path.name.startswith(".")]
            return {unquote(path.name): path.stat().st_mtime for path in found}
        except OSError:
            return {}

    def missing(self, names: Iterable[str]) -> list[str]:
        """Return no names: a secret that is not there is generated."""
        return []

    def version(self, name: str) -> float:
        """Return the time at which the secret's file was written."""
        try:
            return self._path(name).stat().st_mtime
        except OSError:
            return 0.0

    def seal(self, name: str, text: str) -> str:
        """Return the value unchanged: these secrets are plain files."""
        return text

    def unseal(self, name: str, sealed: str) -> str:
        """Return the value unchanged."""
        return sealed

    async def get(self, name: str) -> str:
        """The secret of that name; a new one if there is none. Raises SecretError."""
        path = self._path(name)
        try:
            value = path.read_bytes() if path.exists() else _write(path, made_up().encode())
        except OSError as error:
            raise SecretError(f"the secret in {path}: {error.strerror}") from None
        if not value:
            raise SecretError(f"the secret in {path} is empty")
        return value.decode("utf-8", "surrogateescape")

    async def put(self, name: str, value: bytes, *, replace: bool = True) -> bool:
        """Write its file. Raises SecretError."""
        path, there = self._path(name), self._path(name).exists()
        if there and not replace:
            raise exists(name)
        try:
            _write(path, checked_value(value))
        except OSError as error:
            raise SecretError(f"the secret in {path}: {error.strerror}") from None
        return not there

    async def remove(self, name: str) -> None:
        """Remove its file. Raises SecretError."""
        try:
            self._path(name).unlink()
        except FileNotFoundError:
            raise nowhere(name) from None
        except OSError as error:
            raise SecretError(f"the secret in {self._path(name)}: {error.strerror}") from None

    def _path(self, name: str) -> Path:
        return self.directory / quote(name, safe="")


def _write(path: Path, value: bytes) -> bytes:
    """Write a secret, whole or not at all: a torn one would lock a database for ever."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(value)
        file.flush()
        os.fsync(fd)
    fresh.rename(path)
    return value
