"""The folder that holds the data: found, made whole or not at all, or refused in one line."""

import fcntl
import glob
import hashlib
import logging
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kirsch.sql.postgres.account import Account
from kirsch.sql.postgres.binaries import Binaries
from kirsch.sql.postgres.settings import PostgresError, Settings

log = logging.getLogger("kirsch.sql.postgres")

ELSEWHERE = Path("/var/lib/kirsch/postgres")

# A small machine's settings, at the end of postgresql.conf, where a person may change them. There is no Unix
# socket: everybody comes by TCP, with a password. Logging is to stderr, whose reader adds the time.
CONFIGURATION = """
# kirsch
unix_socket_directories = ''
password_encryption = 'scram-sha-256'
max_connections = 100
shared_buffers = '64MB'
min_wal_size = '32MB'
max_wal_size = '256MB'
log_checkpoints = off
log_line_prefix = '[%p] '
"""
# initdb allows the loopback addresses only; which of ours is listened on is KIRSCH_ADDRESS's matter.
ACCESS = "\n# kirsch\nhost all all all scram-sha-256\n"


def owner_of(data: Path) -> int | None:
    """The uid of a database that is there already, None if there is none (or it is still root's)."""
    return (data.stat().st_uid or None) if (data / "PG_VERSION").exists() else None


def settle(data: Path, account: Account, elsewhere: Path = ELSEWHERE) -> Path:
    """The real folder for `data`: itself, or one in `elsewhere` that it becomes a symlink to.

    The latter is where `account` may not enter the parents of `data`. Raises PostgresError.
    """
    real = data.resolve()
    real.parent.mkdir(parents=True, exist_ok=True)
    if account.may_enter(real.parent):
        return real
    if data.is_symlink() or (data.exists() and any(data.iterdir())):
        raise PostgresError(f"{account.name} may not enter {real.parent}, where data lies: move or chmod it")
    elsewhere.mkdir(parents=True, exist_ok=True)
    if not account.may_enter(elsewhere):
        raise PostgresError(
            f"{account.name} may enter neither {real.parent} nor {elsewhere}: chmod one of them"
        )
    target = _unused(elsewhere, f"{data.parent.name}-{hashlib.sha256(bytes(data)).hexdigest()[:12]}")
    if data.exists():
        data.rmdir()
    data.symlink_to(target)
    log.info("%s may not enter %s: data lies in %s", account.name, data.parent, target)
    return target


def _unused(parent: Path, name: str) -> Path:
    """A name that no folder has: data whose link somebody removed is not taken up again silently."""
    candidates = (parent / (name if number == 1 else f"{name}-{number}") for number in range(1, 1000))
    target = next(path for path in candidates if not path.exists())
    if target.name != name:
        log.warning("%s holds data of an earlier database of this place: it is left alone", parent / name)
    return target


def prepare(data: Path, settings: Settings, binaries: Binaries, account: Account) -> None:
    """Make the database if there is none; check that this server can open it. Raises PostgresError."""
    with _locked(data.parent):
        if not (data / "PG_VERSION").exists():
            _initialise(data, settings, binaries, account)
    found, major = (data / "PG_VERSION").read_text().strip(), binaries.major(account)
    if found != str(major):
        raise PostgresError(
            f"{data} was made by PostgreSQL {found}, and this is {major}: "
            f"set KIRSCH_POSTGRES_BIN to a folder of version {found}, or dump it there and load it here"
        )


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _initialise(data: Path, settings: Settings, binaries: Binaries, account: Account) -> None:
    if settings.password is None:
        raise PostgresError("there is no database yet: set POSTGRES_PASSWORD (or _FILE) to make one")
    if data.exists() and (not data.is_dir() or any(data.iterdir())):
        raise PostgresError(f"{data} is no PostgreSQL data folder and is not empty: set PGDATA to another")
    if data.is_mount():
        raise PostgresError(f"{data} is a mount point: set PGDATA to a folder in it, as {data / 'data'}")
    prefix = f".{data.name}.partial-"
    for leftover in data.parent.glob(glob.escape(prefix) + "*"):
        log.info("removing %s, which an interrupted start has left", leftover)
        _remove(leftover)
    # A name of its own: an initdb whose parent was killed may still be at work in its folder.
    partial = Path(tempfile.mkdtemp(prefix=prefix, dir=data.parent))
    try:
        _build(partial, settings, binaries, account)
        # Only a whole database gets its name.
        partial.rename(data)
    except BaseException:
        _remove(partial)
        raise
    log.info("made the database %s for %s in %s", settings.database, settings.user, data)


def _remove(folder: Path) -> None:
    # An initdb that was killed, or whose parent was, may be writing a last file just now.
    for _ in range(100):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(0.01)


def _build(folder: Path, settings: Settings, binaries: Binaries, account: Account) -> None:
    account.own(folder)
    _initdb(folder, settings, binaries, account)
    for name, text in (("postgresql.conf", CONFIGURATION), ("pg_hba.conf", ACCESS)):
        with (folder / name).open("a", encoding="utf-8") as file:
            file.write(text)
    if settings.database != "postgres":
        _create_database(folder, settings.database, binaries, account)


def _initdb(folder: Path, settings: Settings, binaries: Binaries, account: Account) -> None:
    assert settings.password is not None
    # Since 17 Unicode's case rules are PostgreSQL's own, whichever locales the machine has.
    builtin = ("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")
    locale = builtin if binaries.major(account) >= 17 else ("--locale=C.UTF-8",)
    # The password goes through a pipe: no file, no argument, no variable holds it.
    reader, writer = os.pipe()
    try:
        if account.switch:
            os.fchown(reader, account.uid, account.gid)
        os.write(writer, settings.password.encode() + b"\n")
        os.close(writer)
        argv = [binaries.program("initdb"), f"--pgdata={folder}", f"--username={settings.user}"]
        argv += [f"--pwfile=/dev/fd/{reader}", "--auth=scram-sha-256", "--encoding=UTF8", *locale]
        argv += settings.initdb_arguments
        _check(account.run(argv, env=_plain(), pass_fds=[reader]), "initdb")
    finally:
        os.close(reader)


def _create_database(folder: Path, name: str, binaries: Binaries, account: Account) -> None:
    # Single-user mode needs no port and no password. A quote in a name is doubled (SQL's rule).
    statement = 'CREATE DATABASE "{}"\n'.format(name.replace('"', '""'))
    argv = [
        binaries.program("postgres"),
        "--single",
        "-c",
        "exit_on_error=true",
        "-D",
        str(folder),
        "postgres",
    ]
    _check(account.run(argv, env=_plain(), text=statement.encode()), f"making the database {name}")


def _check(result: subprocess.CompletedProcess[bytes], what: str) -> None:
    if result.returncode != 0:
        lines = (result.stderr or result.stdout).decode(errors="replace").strip().splitlines()
        reasons = [line for line in lines if re.search("error:|FATAL:|ERROR:", line)]
        raise PostgresError(f"{what} failed: {(reasons or lines or [f'exit code {result.returncode}'])[0]}")


def _plain() -> dict[str, str]:
    """An environment without the password, and without PG… variables that would change what initdb does."""
    return {name: os.environ[name] for name in ("PATH", "TZ") if name in os.environ}
