"""Opening a registry's file: whose it is, whether it is ours, whether it is whole.

A file that is not ours is only ever read, and only its first bytes; see https://www.sqlite.org/fileformat.html.
"""

import fcntl
import os
import sqlite3
import struct
from contextlib import closing
from pathlib import Path

from kirsch.cluster.registry.base import RegistryError, Unavailable

APPLICATION_ID = 0x6B697273  # "kirs"
SCHEMA_VERSION = 1

SCHEMA = """
CREATE TABLE entries (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL,
    created INTEGER NOT NULL,
    modified INTEGER NOT NULL
);
CREATE TABLE revision (reserved INTEGER NOT NULL);
INSERT INTO revision VALUES (1);
"""

HEADER = struct.Struct(">16s44xI4xI28x")  # magic, user_version at 60, application_id at 68


class FileLock:
    """The owner of a registry's file: a lock on a file beside it, which holds the owner's process id."""

    def __init__(self, path: Path) -> None:
        lock = path.with_name(path.name + ".lock")
        self._fd = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)
        except BlockingIOError:
            owner = os.pread(self._fd, 32, 0).decode(errors="replace").strip()
            self.release()
            raise RegistryError(f"{path}: is in use by process {owner or '(unknown)'}") from None
        except OSError:
            self.release()
            raise

    def release(self) -> None:
        # The file stays: to remove it could take it from under a process that has just opened it.
        os.close(self._fd)


def open_database(path: Path) -> tuple[FileLock, sqlite3.Connection]:
    """Lock and open the file, made anew if there is none. Raises as SQLiteRegistry.open."""
    try:
        check_header(path)
        lock = FileLock(path)
    except OSError as error:
        raise Unavailable(f"{path}: cannot be opened: {error.strerror}") from error
    try:
        if not path.exists():
            create(path)
        check_header(path)
        check_whole(path)
        return lock, connect(path)
    except (OSError, sqlite3.Error) as error:
        lock.release()
        raise Unavailable(f"{path}: cannot be opened: {error}") from error
    except RegistryError:
        lock.release()
        raise


def check_header(path: Path) -> None:
    """Raises RegistryError when there is a file and it is not a registry that this version can read."""
    try:
        with path.open("rb") as file:
            header = file.read(HEADER.size)
    except FileNotFoundError:
        return
    magic, version, application = HEADER.unpack(header) if len(header) == HEADER.size else (b"", 0, 0)
    if magic != b"SQLite format 3\0" or application != APPLICATION_ID:
        raise RegistryError(f"{path}: is not a registry of kirsch: move it away, or name another file")
    if version != SCHEMA_VERSION:
        raise RegistryError(
            f"{path}: has schema {version}, not {SCHEMA_VERSION}: use the version of kirsch that wrote it"
        )


def check_whole(path: Path) -> None:
    """Raises RegistryError when the file is damaged; read-only, so that it stays as it was."""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
            (verdict,) = database.execute("PRAGMA quick_check(1)").fetchone()
            database.execute("SELECT key, value, created, modified FROM entries LIMIT 1")
            revisions = database.execute("SELECT count(*) FROM revision").fetchone()
    except sqlite3.DatabaseError as error:
        # A table that is missing is damage; a file that cannot be read is not.
        if isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode != sqlite3.SQLITE_ERROR:
            raise
        verdict, revisions = str(error), (1,)
    if verdict != "ok" or revisions != (1,):
        raise RegistryError(f"{path}: is damaged ({verdict}): restore a copy, or move it away to start anew")


def create(path: Path) -> None:
    """An empty registry of mode 0600, made beside and renamed: there is a whole file or none."""
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    os.close(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        with closing(sqlite3.connect(new)) as database:
            database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            database.executescript(SCHEMA)
        new.rename(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


def connect(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, isolation_level=None)
    try:
        # FULL: in WAL mode NORMAL syncs at checkpoints only, and an acknowledged write could be lost.
        database.execute("PRAGMA synchronous = FULL")
        database.execute("PRAGMA journal_mode = WAL")
    except sqlite3.Error:
        database.close()
        raise
    return database
