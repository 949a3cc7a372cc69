"""The registry of one machine: in memory for reading, in an SQLite file before a write is acknowledged.

Leased keys are never on the disk: a lease belongs to a process that is gone when the file is opened again.
"""

import asyncio
import os
import sqlite3
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from kirsch.cluster.registry.base import Entry, Unavailable
from kirsch.cluster.registry.local import Clock, LocalRegistry
from kirsch.cluster.registry.sqlite_file import FileLock, open_database
from kirsch.cluster.registry.store import Draft, Store

T = TypeVar("T")

# Revisions are reserved on disk in blocks, so that a write of leased keys alone needs no disk at all and
# still no revision is used twice after a restart.
RESERVED_REVISIONS = 1024


class SQLiteRegistry(LocalRegistry):
    """Made by `await SQLiteRegistry.open(path)`.

    Writes that wait while the disk is busy go into its next transaction together. When that fails, all of
    them raise Unavailable and nothing has changed, in memory as on disk.
    """

    def __init__(self, file: "RegistryFile", store: Store, reserved: int, clock: Clock | None) -> None:
        super().__init__(store, clock)
        self._file = file
        self._reserved = reserved
        self._waiting: list[tuple[Callable[[Draft], Any], asyncio.Future[Any]]] = []
        self._writer: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, path: str | os.PathLike[str], *, clock: Clock | None = None) -> "SQLiteRegistry":
        """Open the registry's file, or make it; the file is this process's alone until `close`.

        Raises RegistryError when it is in use, damaged, or not a registry of this version (it is left as it
        was), Unavailable when the file cannot be read or written.
        """
        file = RegistryFile(Path(path))
        try:
            entries, revision = await file.run(file.open)
            await file.run(file.save, (), (), revision + RESERVED_REVISIONS)
        except BaseException:
            await file.close()
            raise
        return cls(file, Store(entries, revision), revision + RESERVED_REVISIONS, clock)

    async def close(self) -> None:
        if self._closed:
            return
        await super().close()
        if self._writer is not None:
            await self._writer
        await self._file.close()

    async def _submit(self, step: Callable[[Draft], T]) -> T:
        result: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append((step, result))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.get_running_loop().create_task(self._write_waiting())
        return await result

    async def _write_waiting(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            draft = self._store.draft(self._now())
            outcomes = [(result, outcome(step, draft)) for step, result in batch if not result.cancelled()]
            try:
                await self._save(draft)
            except Exception as error:
                outcomes = [(result, error) for result, _ in outcomes]
            else:
                self._store.commit(draft)
            for result, value in outcomes:
                if result.cancelled():
                    continue
                if isinstance(value, Exception):
                    result.set_exception(value)
                else:
                    result.set_result(value)

    async def _save(self, draft: Draft) -> None:
        written, deleted = [], []
        for key, entry in draft.written.items():
            if entry is not None and not entry.lease:
                written.append(entry)
            elif (before := self._store.get(key)) is not None and not before.lease:
                deleted.append(key)
        reserved = self._reserved
        if draft.revision > reserved:
            reserved = draft.revision + RESERVED_REVISIONS
        if written or deleted or reserved != self._reserved:
            await self._file.run(self._file.save, written, deleted, reserved)
            self._reserved = reserved


def outcome(step: Callable[[Draft], Any], draft: Draft) -> Any:
    """Result of a step, or the exception it raised: told to its caller once the draft is on disk."""
    try:
        return step(draft)
    except Exception as error:
        return error


class RegistryFile:
    """The SQLite file and the one thread that touches it; `open` and `save` are called through `run`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="registry")
        self._lock: FileLock | None = None
        self._database: sqlite3.Connection | None = None

    async def run(self, function: Callable[..., T], *args: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *args)

    def open(self) -> tuple[list[Entry], int]:
        """All entries, and the revision up to which revisions may have been used."""
        self._lock, self._database = open_database(self._path)
        rows = self._database.execute("SELECT key, value, created, modified FROM entries").fetchall()
        (revision,) = self._database.execute("SELECT reserved FROM revision").fetchone()
        return [Entry(*row) for row in rows], revision

    def save(self, written: Iterable[Entry], deleted: Iterable[str], reserved: int) -> None:
        """One transaction, on disk when this returns. Raises Unavailable when it was rolled back."""
        database = self._database
        assert database is not None
        try:
            database.execute("BEGIN IMMEDIATE")
            database.executemany("DELETE FROM entries WHERE key = ?", [(key,) for key in deleted])
            database.executemany(
                "INSERT OR REPLACE INTO entries (key, value, created, modified) VALUES (?, ?, ?, ?)",
                [(entry.key, entry.value, entry.created, entry.modified) for entry in written],
            )
            database.execute("UPDATE revision SET reserved = ?", (reserved,))
            database.execute("COMMIT")
        except sqlite3.Error as error:
            with suppress(sqlite3.Error):
                database.execute("ROLLBACK")
            raise Unavailable(f"{self._path}: cannot be written: {error}") from error

    async def close(self) -> None:
        await self.run(self._release)
        self._thread.shutdown()

    def _release(self) -> None:
        if self._database is not None:
            self._database.close()
        if self._lock is not None:
            self._lock.release()
