"""Secrets of a cluster of machines: in the registry, sealed with a key that its machines alone have."""

import os
import stat
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from kirsch.cluster.model import keys
from kirsch.cluster.registry.base import Registry
from kirsch.cluster.registry.mirror import Mirror
from kirsch.cluster.secrets.base import Login, SecretError, checked_value, exists, nowhere
from kirsch.cluster.secrets.seal import Key, Unsealable, login_of, set_at


class SealedSecrets:
    """The registry's, read through its mirror. `key` is this machine's file; it is read when it is needed,
    so that one that was brought later is found."""

    def __init__(
        self, registry: Registry, mirror: Mirror, key: Path, clock: Callable[[], float] = time.time
    ) -> None:
        self.registry = registry
        self.mirror = mirror
        self.key = key
        self.clock = clock

    def stored(self) -> Mapping[str, float]:
        """Return the sealed texts in the mirror, by name."""
        return {keys.last(entry.key): set_at(entry.value) for entry in self.mirror.below(keys.SECRETS)}

    def missing(self, names: Iterable[str]) -> list[str]:
        """Return the names that are not set."""
        return [name for name in names if keys.secret(name) not in self.mirror.entries]

    def version(self, name: str) -> float:
        """The revision at which it was set."""
        entry = self.mirror.entries.get(keys.secret(name))
        return float(entry.modified) if entry else 0.0

    def seal(self, name: str, text: str) -> str:
        """With the same key, under a name that no secret has. Raises SecretError."""
        return self._key().seal(f"{name} here", text.encode("utf-8", "surrogateescape"), 0.0)

    def unseal(self, name: str, sealed: str) -> str:
        """The opposite. Raises SecretError."""
        try:
            return self._key().open(f"{name} here", sealed).decode("utf-8", "surrogateescape")
        except Unsealable as error:
            raise SecretError(f"what is kept of {name} cannot be opened here: {error}") from None

    async def get(self, name: str) -> str:
        """The value. Raises SecretError."""
        stored = self.mirror.value(keys.secret(name))
        if stored is None:
            raise nowhere(name, f": kirsch secret set {name} < FILE")
        try:
            return self._key().open(name, stored).decode("utf-8", "surrogateescape")
        except Unsealable as error:
            raise SecretError(f"secret {name} cannot be opened here: {error}") from None

    def login(self, name: str) -> Login | None:
        """Return the login that the store has of the secret."""
        found = login_of(self.mirror.value(keys.secret(name)) or "")
        return Login(*found) if len(found) == 2 else None

    async def put(self, name: str, value: bytes, *, replace: bool = True, login: Login | None = None) -> bool:
        """Seal a value and write it to the store. Raises SecretError, RegistryError."""
        bound = (login.owner, login.role) if login else ()
        sealed = self._key().seal(name, checked_value(value), self.clock(), bound)
        revision = await self.registry.put(keys.secret(name), sealed, unchanged=0)
        new = revision is not None
        if not new and not replace:
            raise exists(name)
        revision = revision or await self.registry.put(keys.secret(name), sealed)
        # Who asks this machine next is to see it.
        await self.mirror.reached(revision or 0)
        return new

    async def settle(self, name: str) -> None:
        """Seal the value anew, without its login. Raises SecretError, RegistryError."""
        entry = self.mirror.entries.get(keys.secret(name))
        if entry is None:
            raise nowhere(name)
        if not login_of(entry.value):
            return
        value = (await self.get(name)).encode("utf-8", "surrogateescape")
        sealed = self._key().seal(name, value, set_at(entry.value))
        revision = await self.registry.put(keys.secret(name), sealed, unchanged=entry.modified)
        if revision is None:
            raise SecretError(f"secret {name} was changed meanwhile: say it again")
        await self.mirror.reached(revision)

    async def reseal(self) -> int:
        """Seal what another key of this machine's sealed with the first: how many. Raises SecretError,
        RegistryError."""
        key, count = self._key(), 0
        for entry in list(self.mirror.below(keys.SECRETS)):
            name, stored = keys.last(entry.key), entry.value
            try:
                key.open_alone(name, stored)
                continue
            except Unsealable:
                pass
            try:
                value = key.open(name, stored)
            except Unsealable as error:
                raise SecretError(f"secret {name} cannot be opened here: {error}") from None
            sealed = key.seal(name, value, set_at(stored), login_of(stored))
            revision = await self.registry.put(entry.key, sealed, unchanged=entry.modified)
            if revision is None:
                raise SecretError(f"secret {name} was changed meanwhile: say it again")
            await self.mirror.reached(revision)
            count += 1
        return count

    async def remove(self, name: str) -> None:
        """Have the store forget it. Raises SecretError, RegistryError."""
        if not await self.registry.delete(keys.secret(name)):
            raise nowhere(name)

    def _key(self) -> Key:
        """Return this machine's key. Raises SecretError."""
        try:
            with self.key.open() as file:
                mode = os.fstat(file.fileno()).st_mode
                text = file.read(1024)
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is no text"
            raise SecretError(f"this machine has no key for secrets, {self.key}: {reason}") from None
        if stat.S_IMODE(mode) & 0o077:
            raise SecretError(f"{self.key} can be read by others than its owner: chmod 600 {self.key}")
        try:
            return Key.parse(text)
        except Unsealable as error:
            raise SecretError(f"{self.key}: {error}") from None
