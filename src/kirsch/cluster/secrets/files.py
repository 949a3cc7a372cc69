"""Secrets of the embedded cluster: made up at random at first use, kept in files that only we can read."""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import quote, unquote

from kirsch.cluster.secrets.base import Login, SecretError, checked_value, exists, made_up, nowhere


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

    def values(self) -> dict[str, bytes]:
        """Return all values by their names. Raises OSError."""
        return {name: self._path(name).read_bytes() for name in sorted(self.stored())}

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
            value = path.read_bytes() if path.exists() else write_file(path, made_up().encode())
        except OSError as error:
            raise SecretError(f"the secret in {path}: {error.strerror}") from None
        if not value:
            raise SecretError(f"the secret in {path} is empty")
        return value.decode("utf-8", "surrogateescape")

    def login(self, name: str) -> Login | None:
        """Return the login of the value that the secret's file has now."""
        path = self._path(name)
        try:
            told = json.loads(_login(path).read_bytes())
            same = told["of"] == hashlib.sha256(path.read_bytes()).hexdigest()
            return Login(told["owner"], told["role"]) if same else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    async def put(self, name: str, value: bytes, *, replace: bool = True, login: Login | None = None) -> bool:
        """Write its file. Raises SecretError."""
        path, there = self._path(name), self._path(name).exists()
        if there and not replace:
            raise exists(name)
        try:
            checked_value(value)
            if login:
                # It counts from the moment when the value is there.
                told = {"of": hashlib.sha256(value).hexdigest(), "owner": login.owner, "role": login.role}
                write_file(_login(path), json.dumps(told).encode())
            write_file(path, value)
            if not login:
                _login(path).unlink(missing_ok=True)
        except OSError as error:
            raise SecretError(f"the secret in {path}: {error.strerror}") from None
        return not there

    async def settle(self, name: str) -> None:
        """Remove the login's file. Raises SecretError."""
        try:
            _login(self._path(name)).unlink(missing_ok=True)
        except OSError as error:
            raise SecretError(f"the login of {self._path(name)}: {error.strerror}") from None

    async def reseal(self) -> int:
        """Do nothing: these secrets are plain files."""
        return 0

    async def remove(self, name: str) -> None:
        """Remove its file. Raises SecretError."""
        try:
            self._path(name).unlink()
            _login(self._path(name)).unlink(missing_ok=True)
        except FileNotFoundError:
            raise nowhere(name) from None
        except OSError as error:
            raise SecretError(f"the secret in {self._path(name)}: {error.strerror}") from None

    def _path(self, name: str) -> Path:
        return self.directory / quote(name, safe="")


def _login(path: Path) -> Path:
    """Return the file of the login that goes with a secret's; no secret is called so."""
    return path.with_name(f".{path.name}.login")


def write_file(path: Path, content: bytes, owner: os.stat_result | None = None) -> bytes:
    """Write a file that only its owner can read, whole or not at all, and return its content.

    The owner is that of `owner`, if it is given. Raises OSError.
    """
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(descriptor)
        if owner is not None:
            os.fchown(descriptor, owner.st_uid, owner.st_gid)
    fresh.rename(path)
    return content
