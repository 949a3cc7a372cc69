"""Secrets of the embedded cluster: made up at random at first use, kept in files that only we can read."""

import os
import secrets
from pathlib import Path
from urllib.parse import quote

BYTES = 24


class Secrets:
    """Secrets below a folder of mode 0700, a file each. A person may write one there beforehand."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def get(self, name: str) -> str:
        """The secret of that name; a new one if there is none. Raises OSError."""
        path = self.directory / quote(name, safe="")
        try:
            return path.read_text(encoding="utf-8").rstrip("\n")
        except FileNotFoundError:
            value = secrets.token_urlsafe(BYTES)
        # Whole or not at all: a torn secret would lock a database for ever.
        fresh = path.with_name(f".{path.name}.new")
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write(value)
            file.flush()
            os.fsync(fd)
        fresh.rename(path)
        return value
