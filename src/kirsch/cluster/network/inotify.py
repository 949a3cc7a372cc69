"""Which files of a folder change, by inotify(7)."""

import errno
import os
import time
from collections.abc import Iterator
from pathlib import Path

from inotify_simple import INotify, flags

_WANTED = flags.CLOSE_WRITE | flags.MOVED_FROM | flags.MOVED_TO | flags.CREATE | flags.DELETE
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
        self._folders: dict[int, Path] = {}
        self._packages: set[Path] = set()
        try:
            self._events = INotify(nonblocking=True)
        except OSError as error:
            raise WatchError(f"cannot watch files: {_why(error)}") from None
        try:
            self._add(folder)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the watch: no change is told any more."""
        self._events.close()

    def fileno(self) -> int:
        """For select(2): readable once something has changed."""
        return int(self._events.fileno())

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
        events = self._events.read(None if timeout is None else round(timeout * 1000))
        found: set[Path] = set()
        any_event = False
        for event in events:
            any_event = True
            if event.mask & flags.Q_OVERFLOW:
                found |= {path for folder in self._folders.values() for path in _files(folder)}
            elif event.mask & flags.IGNORED:
                # The folder is gone.
                self._folders.pop(event.wd, None)
            elif folder := self._folders.get(event.wd):
                found |= self._event(folder / event.name, event.mask)
        return found if any_event else None

    def _event(self, path: Path, mask: int) -> set[Path]:
        if not mask & flags.ISDIR:
            if path.name == PACKAGE:
                self._packages.add(path.parent)
            # A file that was made is not written yet.
            return set() if mask & flags.CREATE else {path}
        if mask & (flags.CREATE | flags.MOVED_TO) and wanted(path.name):
            # What was put into it before it was watched has changed too.
            return {each for folder in self._add(path) for each in _files(folder)}
        return self._forget(path) if mask & flags.MOVED_FROM else set()

    def _forget(self, top: Path) -> set[Path]:
        """A folder went elsewhere: its modules have changed, as far as they were known."""
        gone = {watch: folder for watch, folder in self._folders.items() if folder.is_relative_to(top)}
        for watch in gone:
            self._events.rm_watch(watch)
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
            try:
                watch = self._events.add_watch(where, _WANTED)
            except OSError as error:
                if here.is_dir():
                    raise WatchError(f"cannot watch {where}: {_why(error)}") from None
                continue
            self._folders.setdefault(watch, here)
            if PACKAGE in files:
                self._packages.add(here)
            added.append(here)
            if len(self._folders) > MOST:
                raise WatchError(f"{top} has more than {MOST} folders: name one that holds the code alone")
        return added


def _why(error: OSError) -> str:
    """Return the reason of an error; for a limit of the kernel, which one and how to raise it."""
    return limit_reached(error.errno or 0) or error.strerror or str(error)


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
