"""Processes as /proc shows them (proc(5)): who descends from whom, who belongs to a folder, who is gone."""

import os
import select
import signal
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Process:
    """A process; `started` (clock ticks since boot) tells it from a later one with the same pid."""

    pid: int
    parent: int
    started: int
    name: str

    def __str__(self) -> str:
        return f"{self.name} (process {self.pid})"


def running() -> Iterator[Process]:
    """All processes that run; those that have ended and wait to be collected do not."""
    for folder in PROC.glob("[0-9]*"):
        try:
            stat = (folder / "stat").read_text(errors="replace")
        except OSError:
            continue
        # The name is in brackets and may hold any character, brackets too.
        head, _, tail = stat.rpartition(")")
        state, parent, *fields = tail.split()
        if state not in "ZX":
            yield Process(int(folder.name), int(parent), int(fields[17]), head.partition("(")[2])


def descendants(pid: int) -> set[Process]:
    """A process and all that descend from it."""
    everyone = list(running())
    found = {process for process in everyone if process.pid == pid}
    more = found
    while more:
        parents = {process.pid for process in more}
        more = {process for process in everyone if process.parent in parents} - found
        found |= more
    return found


def of_folders(folders: Collection[Path]) -> set[Process]:
    """The processes whose environment, arguments or working directory name one of some folders."""
    names = [os.fsencode(folder) for folder in folders]
    return {
        process
        for process in running()
        if process.pid != os.getpid() and any(name in _traces(process.pid) for name in names)
    }


def survivors(processes: Collection[Process]) -> set[Process]:
    """Return the processes that still run."""
    now = {(process.pid, process.started) for process in running()}
    return {process for process in processes if (process.pid, process.started) in now}


def kill(pid: int, timeout: float) -> bool:
    """SIGKILL, and wait until the process has ended (pidfd_open(2)); True if it has."""
    fd = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(fd, signal.SIGKILL)
        return bool(select.select([fd], [], [], timeout)[0])
    finally:
        os.close(fd)


def _traces(pid: int) -> bytes:
    folder = PROC / str(pid)
    found = b""
    for name in ("environ", "cmdline"):
        try:
            found += (folder / name).read_bytes() + b"\0"
        except OSError:
            continue
    try:
        return found + os.readlink(os.fsencode(folder / "cwd"))
    except OSError:
        return found
