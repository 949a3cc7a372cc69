"""Which files of a folder change, by inotify(7)."""

import ctypes
import errno
import os
import select
import struct
import time
from collections.abc import Iterator
from pathlib import Path

# inotify(7), in sys/inotify.h.
_CLOSE_WRITE, _MOVED_FROM, _MOVED_TO, _CREATE, _DELETE = 0x8, 0x40, 0x80, 0x100, 0x200
_IS_DIR, _OVERFLOW, _IGNORED = 0x40000000, 0x4000, 0x8000
_WANTED = _CLOSE_WRITE | _MOVED_FROM | _MOVED_TO | _CREATE | _DELETE
_EVENT = struct.Struct("iIII")
LIMITS = Path("/proc/sys/fs/inotify")

# Folders that are not a person's code.
SKIPPED = frozenset({"__pycache__", "node_modules", "venv"})
# What makes a folder a module, and what makes it a virtual environment (PEP 405).
PACKAGE, ENVIRONMENT = "__init__.py", "pyvenv.cfg"
# More folders than that are no application, and inotify has a limit of its own.
MOST = 4096
# Editors and git write many files at once: a change is over when nothing has changed for so long, in seconds.
QUIET = 0.1
# Where something is written all the time (sessions, a database) it is over after so long.
LONGEST = 1.0


class WatchError(Exception):
    """A folder that cannot be watched."""


class Watch:
    """Watches a folder and what is below it, but for hidden folders and SKIPPED. Raises WatchError."""

    def __init__(self, folder: Path) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._folders: dict[int, Path] = {}
        self._packages: set[Path] = set()
        self._fd = self._libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        if self._fd < 0:
            raise WatchError(f"cannot watch files: {_why()}")
        try:
            self._add(folder)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self._fd)

    def fileno(self) -> int:
        """For select(2): readable once something has changed."""
        return int(self._fd)

    def changes(self) -> Iterator[frozenset[Path]]:
        """Which files changed, came or went, together what was saved together."""
        while True:
            found: set[Path] = set()
            timeout: float | None = None
            until: float | None = None
            while until is None or time.monotonic() < until:
                if (more := self._read(timeout)) is None:
                    break
                found |= more
                timeout, until = QUIET, until or time.monotonic() + LONGEST
            yield frozenset(found)

    def _read(self, timeout: float | None) -> set[Path] | None:
        """Return the paths that have changed; None if nothing does within `timeout` seconds."""
        if not select.select([self._fd], [], [], timeout)[0]:
            return None
        data = os.read(self._fd, 65536)
        found, at = set(), 0
        while at < len(data):
            watch, mask, _, length = _EVENT.unpack_from(data, at)
            name = os.fsdecode(data[at + _EVENT.size : at + _EVENT.size + length].rstrip(b"\0"))
            at += _EVENT.size + length
            if mask & _OVERFLOW:
                found |= {path for folder in self._folders.values() for path in _files(folder)}
            elif mask & _IGNORED:
                # The folder is gone.
                self._folders.pop(watch, None)
            elif folder := self._folders.get(watch):
                found |= self._event(folder / name, mask)
        return found

    def _event(self, path: Path, mask: int) -> set[Path]:
        if not mask & _IS_DIR:
            if path.name == PACKAGE:
                self._packages.add(path.parent)
            # A file that was made is not written yet.
            return set() if mask & _CREATE else {path}
        if mask & (_CREATE | _MOVED_TO) and wanted(path.name):
            # What was put into it before it was watched has changed too.
            return {each for folder in self._add(path) for each in _files(folder)}
        return self._forget(path) if mask & _MOVED_FROM else set()

    def _forget(self, top: Path) -> set[Path]:
        """A folder went elsewhere: its modules have changed, as far as they were known."""
        gone = {watch: folder for watch, folder in self._folders.items() if folder.is_relative_to(top)}
        for watch in gone:
            self._libc.inotify_rm_watch(self._fd, watch)
            del self._folders[watch]
        return {folder / PACKAGE for folder in gone.values() if folder in self._packages}

    def _add(self, top: Path) -> list[Path]:
        added: list[Path] = []
        seen: set[tuple[int, int]] = set()
        _first(top, seen)
        for where, folders, files in os.walk(top, followlinks=True):
            if ENVIRONMENT in files:
                folders.clear()
                continue
            here = Path(where)
            # A link may lead back to where it is.
            folders[:] = [name for name in folders if wanted(name) and _first(here / name, seen)]
            watch = self._libc.inotify_add_watch(self._fd, os.fsencode(where), _WANTED)
            if watch < 0:
                if here.is_dir():
                    raise WatchError(f"cannot watch {where}: {_why()}")
                continue
            self._folders.setdefault(watch, here)
            if PACKAGE in files:
                self._packages.add(here)
            added.append(here)
            if len(self._folders) > MOST:
                raise WatchError(f"{top} has more than {MOST} folders: name one that holds the code alone")
        return added


def _why() -> str:
    """Explain the last call's error; for one of the kernel's limits, with the command that raises it."""
    number = ctypes.get_errno()
    return limit_reached(number) or os.strerror(number)


def limit_reached(number: int) -> str:
    """Which of inotify's limits a call has reached that failed with this error, and what to type; "" for
    none."""
    name = {errno.EMFILE: "max_user_instances", errno.ENOSPC: "max_user_watches"}.get(number)
    if name is None:
        return ""
    try:
        limit = int((LIMITS / name).read_text())
    except (OSError, ValueError):
        return ""
    more = max(4 * limit, 1024)
    return f"the limit fs.inotify.{name} is reached ({limit}): `sysctl fs.inotify.{name}={more}` raises it"


def _first(folder: Path, seen: set[tuple[int, int]]) -> bool:
    """Return True at the first visit of a folder."""
    try:
        found = os.stat(folder)
    except OSError:
        return False
    if new := (found.st_dev, found.st_ino) not in seen:
        seen.add((found.st_dev, found.st_ino))
    return new


def wanted(name: str) -> bool:
    """Return True if a folder of this name may hold a person's code."""
    return not name.startswith(".") and name not in SKIPPED


def _files(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if path.is_file()]
    except OSError:
        return []
