"""Use of CPU, memory and disks by units and the machine, read from control groups and /proc.

See proc(5), and for control groups the kernel's admin-guide/cgroup-v2. Totals only grow; the difference of
two is a rate. A control group's memory counts shared pages once, and caches; that of processes is the sum of
their resident sets.
"""

import os
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from kirsch.cluster.runtime.base import ProcessGroup

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
# Where control groups of version 2 are below /sys/fs/cgroup: alone, or beside those of version 1.
MOUNTS = ("", "/unified")
ENOUGH = 1 << 16  # bytes of any one file

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Usage:
    """Totals of some processes at one moment."""

    cpu: float = 0.0  # seconds
    memory: int = 0  # bytes
    read: int = 0  # bytes from disks
    written: int = 0
    processes: int = 0
    peak: int = 0  # most memory so far, in bytes; 0 where the kernel does not keep it


@dataclass(frozen=True, slots=True)
class Process:
    """One process. CPU times are in clock ticks; `children_cpu` is that of children it waited for."""

    parent: int
    cpu: int
    children_cpu: int
    pages: int


def parse_process(stat: bytes) -> Process:
    """Read /proc/PID/stat. The command may contain anything, so fields are counted from its last bracket."""
    words = stat[stat.rindex(b")") + 2 :].split(b" ", 22)
    return Process(
        int(words[1]), int(words[11]) + int(words[12]), int(words[13]) + int(words[14]), int(words[21])
    )


def parse_fields(text: bytes) -> dict[bytes, int]:
    """Read lines of a name and a number, as cpu.stat, meminfo, vmstat and /proc/PID/io have them."""
    found = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 2 and words[1].isdigit():
            found[words[0].rstrip(b":")] = int(words[1])
    return found


def parse_io(text: bytes) -> tuple[int, int]:
    """Read io.stat: bytes read and written on all devices together."""
    counts = {b"rbytes": 0, b"wbytes": 0}
    for word in text.split():
        name, _, number = word.partition(b"=")
        if name in counts:
            counts[name] += int(number)
    return counts[b"rbytes"], counts[b"wbytes"]


def descendants(processes: Mapping[int, Process], ancestors: Mapping[int, Key]) -> dict[Key, list[int]]:
    """Return the processes that descend from each key's ancestors, without these. Pure."""
    owners: dict[int, Key | None] = {**ancestors}
    found: dict[Key, list[int]] = {key: [] for key in ancestors.values()}
    for pid in processes:
        path = []
        above = pid
        while above not in owners and above in processes:
            path.append(above)
            above = processes[above].parent
        owner = owners.get(above)
        owners.update(dict.fromkeys(path, owner))
        if owner is not None:
            found[owner] += path
    return found


class UsageReader:
    """Reads the usage of units' processes, and of the machine whose file system is seen at `root`."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._proc = str(root / "proc")
        self._groups = str(root / "sys/fs/cgroup")

    def machine(self) -> Usage:
        """Return the use of the whole machine."""
        words = [int(word) for word in self._read(f"{self._proc}/stat").split(b"\n", 1)[0].split()[1:9]]
        memory = parse_fields(self._read(f"{self._proc}/meminfo"))
        pages = parse_fields(self._read(f"{self._proc}/vmstat"))
        return Usage(
            (sum(words) - words[3] - words[4]) / TICKS,  # all but idle and iowait
            (memory[b"MemTotal"] - memory[b"MemAvailable"]) << 10,
            pages.get(b"pgpgin", 0) << 10,
            pages.get(b"pgpgout", 0) << 10,
            sum(1 for _ in self._pids()),
        )

    def units(self, groups: Mapping[Key, ProcessGroup]) -> dict[Key, Usage]:
        """Return the use of each key's processes; without those that have none."""
        found = {}
        ancestors = {pid: key for key, group in groups.items() for pid in group.ancestors}
        if ancestors:
            processes = dict(self._processes())
            for key, pids in descendants(processes, ancestors).items():
                if pids:
                    found[key] = self._sum(processes, pids, groups[key].ancestors)
        for key, group in groups.items():
            folder = self._control_group(group) if group.service else ""
            if folder and (usage := self._of_group(folder)):
                found[key] = usage
        return found

    def _control_group(self, group: ProcessGroup) -> str:
        """The folder of a service's control group; empty where it has ended. Containers have one of their own
        below it."""
        lines = self._read(f"{self._proc}/{group.main}/cgroup").decode(errors="replace").splitlines()
        for line in lines:
            number, _, path = line.split(":", 2)
            before, found, _ = f"{path}/".partition(f"/{group.service}/")
            if number == "0" and found:
                for mount in MOUNTS:
                    folder = f"{self._groups}{mount}{before}/{group.service}"
                    if os.path.exists(f"{folder}/cgroup.procs"):
                        return folder
        return ""

    def _processes(self) -> Iterator[tuple[int, Process]]:
        for pid in self._pids():
            if stat := self._read(f"{self._proc}/{pid}/stat"):
                yield int(pid), parse_process(stat)

    def _pids(self) -> Iterator[str]:
        return (name for name in os.listdir(self._proc) if name.isdecimal())

    def _sum(self, processes: Mapping[int, Process], pids: Iterable[int], shims: Iterable[int] = ()) -> Usage:
        """Add processes up; shims have waited for some that ended, and are no part of the unit otherwise."""
        found = [(pid, processes[pid]) for pid in pids]
        ticks = sum(process.cpu + process.children_cpu for _, process in found)
        waiting = [pid for pid in shims if pid in processes]
        ticks += sum(processes[pid].children_cpu for pid in waiting)
        read = written = 0
        for pid in [*(pid for pid, _ in found), *waiting]:
            counts = parse_fields(self._read(f"{self._proc}/{pid}/io"))
            read += counts.get(b"read_bytes", 0)
            written += counts.get(b"write_bytes", 0)
        memory = sum(process.pages for _, process in found) * PAGE
        return Usage(ticks / TICKS, memory, read, written, len(found))

    def _of_group(self, group: str) -> Usage | None:
        """Return what a control group counts, and sums of its processes in place of what it does not."""
        pids = list(self._members(group))
        if not pids:
            return None
        cpu = parse_fields(self._read(f"{group}/cpu.stat")).get(b"usage_usec")
        memory, io = self._read(f"{group}/memory.current"), self._read(f"{group}/io.stat")
        peak = self._read(f"{group}/memory.peak")
        if cpu is not None and memory and io:
            return Usage(cpu / 1e6, int(memory), *parse_io(io), len(pids), int(peak or 0))
        stats = {pid: self._read(f"{self._proc}/{pid}/stat") for pid in pids}
        processes = {pid: parse_process(stat) for pid, stat in stats.items() if stat}
        summed = self._sum(processes, processes)
        return Usage(
            summed.cpu if cpu is None else cpu / 1e6,
            int(memory) if memory else summed.memory,
            *(parse_io(io) if io else (summed.read, summed.written)),
            len(pids),
            int(peak or 0),
        )

    def _members(self, group: str) -> Iterator[int]:
        """The processes of a control group and of those below it."""
        for folder, _, _ in os.walk(group):
            yield from map(int, self._read(f"{folder}/cgroup.procs").split())

    def _read(self, path: str) -> bytes:
        """Read a file; empty where there is none, or its process has ended."""
        try:
            file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return b""
        try:
            return os.read(file, ENOUGH)
        except OSError:
            return b""
        finally:
            os.close(file)
