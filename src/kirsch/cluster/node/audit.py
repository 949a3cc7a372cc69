"""Audit log of one machine: the changes that people asked its API for, and what it refused.

One line of JSON each, in files by day below a folder that only root reads. They are kept for 90 days, and no
longer than all of them together have 64 MiB.
"""

import heapq
import json
import os
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

DAYS = 90
MOST_BYTES = 64 << 20
# A file is full then, and the day goes on in another, so that the oldest can be removed one by one.
FILE_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One request: its time (seconds since the epoch), who asked for it with which role, from which address
    (empty for the machine's Unix socket), what it named, and the status of its answer."""

    at: float
    who: str
    role: str
    address: str
    method: str
    path: str
    names: tuple[str, ...]
    status: int
    machine: str

    @classmethod
    def parse(cls, values: dict[str, Any]) -> "AuditEntry":
        """Return the entry of a JSON object. Raises KeyError, TypeError."""
        return cls(**values | {"names": tuple(values["names"])})


class AuditLog:
    """The log in a folder, made at its first entry. For threads."""

    def __init__(self, folder: Path, most: int = MOST_BYTES, full: int = FILE_BYTES) -> None:
        self.folder = folder
        self._most, self._full = most, full
        self._lock = threading.Lock()
        self._current: Path | None = None

    def add(self, entry: AuditEntry) -> None:
        """Write an entry. Raises OSError."""
        line = json.dumps(asdict(entry), ensure_ascii=False).encode(errors="replace") + b"\n"
        with self._lock:
            path = self._file(datetime.fromtimestamp(entry.at, UTC))
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                os.write(descriptor, line)
            finally:
                os.close(descriptor)

    def read(self, since: float, most: int) -> list[AuditEntry]:
        """Return the last `most` entries that are not older than `since`, the oldest first. Raises
        OSError."""
        newest: list[AuditEntry] = []
        for path in reversed(self._files()):
            entries = [entry for entry in _entries(path) if entry.at >= since]
            newest = [*entries, *newest][-most:] if most else []
            if len(newest) >= most or not entries:
                break
        return newest

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("*.jsonl"))

    def _file(self, now: datetime) -> Path:
        """Return the file for an entry of this time; a new one makes room for itself."""
        day, current = f"{now:%Y-%m-%d}", self._current
        if current is not None and current.name.startswith(day) and _size(current) < self._full:
            return current
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        files = self._files()
        of_day = [path for path in files if path.name.startswith(day)]
        number = int(of_day[-1].stem.rpartition(".")[2]) if of_day else 0
        if of_day and _size(of_day[-1]) >= self._full:
            number += 1
        self._current = self.folder / f"{day}.{number:05}.jsonl"
        for path in superfluous({path: _size(path) for path in files}, now, self._most - self._full):
            path.unlink(missing_ok=True)
        return self._current


def superfluous(sizes: dict[Path, int], now: datetime, most: int) -> list[Path]:
    """Return the files that are too old, or that make all of them too large together. Pure."""
    oldest, total, gone = f"{now - timedelta(days=DAYS):%Y-%m-%d}", 0, []
    for path in sorted(sizes, reverse=True):
        total += sizes[path]
        if path.name < oldest or total > most:
            gone.append(path)
    return gone


def merged(parts: list[list[AuditEntry]], most: int) -> list[AuditEntry]:
    """Return the last entries of several machines, by their time. Pure."""
    found = list(heapq.merge(*parts, key=lambda entry: entry.at))
    return found[max(len(found) - most, 0) :]


def _entries(path: Path) -> Iterator[AuditEntry]:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return  # it was too old meanwhile
    for line in text.splitlines():
        try:
            yield AuditEntry.parse(json.loads(line))
        except (ValueError, KeyError, TypeError):
            continue  # the machine lost its power while it was written


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
