"""Which files of a folder change, by inotify(7)."""

import ctypes
import errno
import os
import select
import struct
from collections.abc import Iterator
from pathlib import Path

from kirsch.cluster.provision.record import ProvisionError

# inotify(7), in sys/inotify.h.
_CLOSE_WRITE, _MOVED_FROM, _MOVED_TO, _CREATE, _DELETE = 0x8, 0x40, 0x80, 0x100, 0x200
_IS_DIR, _OVERFLOW = 0x40000000, 0x4000
_WANTED = _CLOSE_WRITE | _MOVED_FROM | _MOVED_TO | _CREATE | _DELETE
_EVENT = struct.Struct("iIII")
LIMITS = Path("/proc/sys/fs/inotify")

# Folders that are not a person's code.
SKIPPED = frozenset({"__pycache__", "node_modules", "venv"})
# More folders than that are no application, and inotify has a limit of its own.
MOST = 4096
# Editors and git write many files at once: a change is over when nothing has changed for so long, in seconds.
QUIET = 0.1


class WatchError(ProvisionError):
    """A folder that cannot be watched."""


class Watch:
    """Watches a folder and what is below it, but for hidden folders and SKIPPED. Raises WatchError."""

    def __init__(self, folder: Path) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._folders: dict[int, Path] = {}
        self._fd = self._libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        if self._fd < 0:
            raise WatchError(f"cannot watch files: {_why()}")
        try:
            self._add(folder)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Watch no more."""
        os.close(self._fd)

    def fileno(self) -> int:
        """For select(2): readable once something has changed."""
        return int(self._fd)

    def changes(self) -> Iterator[frozenset[Path]]:
        """Which files changed, came or went, together what was saved together."""
        while True:
            found = self._read(None)
            while more := self._read(QUIET):
                found |= more
            yield frozenset(found)

    def _read(self, timeout: float | None) -> set[Path]:
        if not select.select([self._fd], [], [], timeout)[0]:
            return set()
        data = os.read(self._fd, 65536)
        found, at = set(), 0
        while at < len(data):
            watch, mask, _, length = _EVENT.unpack_from(data, at)
            name = os.fsdecode(data[at + _EVENT.size : at + _EVENT.size + length].rstrip(b"\0"))
            at += _EVENT.size + length
            if mask & _OVERFLOW:
                found |= {path for folder in self._folders.values() for path in _files(folder)}
            elif folder := self._folders.get(watch):
                found |= self._event(folder / name, mask)
        return found

    def _event(self, path: Path, mask: int) -> set[Path]:
        if mask & _IS_DIR:
            if mask & (_CREATE | _MOVED_TO) and _wanted(path.name):
                # What was put into it before it was watched has changed too.
                return {each for folder in self._add(path) for each in _files(folder)}
            return set()
        # A file that was made is not written yet.
        return set() if mask & _CREATE else {path}

    def _add(self, top: Path) -> list[Path]:
        added = []
        for where, folders, _ in os.walk(top):
            folders[:] = [name for name in folders if _wanted(name)]
            watch = self._libc.inotify_add_watch(self._fd, os.fsencode(where), _WANTED)
            if watch < 0:
                if Path(where).is_dir():
                    raise WatchError(f"cannot watch {where}: {_why()}")
                continue
            self._folders[watch] = Path(where)
            added.append(Path(where))
            if len(self._folders) > MOST:
                raise WatchError(f"{top} has more than {MOST} folders: name one that holds the code alone")
        return added


def _why() -> str:
    """What the last call failed of; where it was one of the kernel's limits, which, and what to type."""
    number = ctypes.get_errno()
    name = {errno.EMFILE: "max_user_instances", errno.ENOSPC: "max_user_watches"}.get(number)
    if name is None:
        return os.strerror(number)
    try:
        limit = int((LIMITS / name).read_text())
    except (OSError, ValueError):
        return os.strerror(number)
    more = max(4 * limit, 1024)
    return f"the limit fs.inotify.{name} is reached ({limit}): `sysctl fs.inotify.{name}={more}` raises it"


def _wanted(name: str) -> bool:
    return not name.startswith(".") and name not in SKIPPED


def _files(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if path.is_file()]
    except OSError:
        return []
