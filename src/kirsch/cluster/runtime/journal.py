"""Journal: the lines that units print, and kirsch's own about them, in one bounded file a unit.

A line of a file is `SECONDS STREAM TEXT`; the text may be empty. Followers get each new line. Safe to use
from any thread.
"""

import asyncio
import hashlib
import heapq
import logging
import os
import re
import threading
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, unquote

MAX_FILE = 4 * 1024 * 1024  # bytes; a unit has two such files at most
MAX_QUEUE = 10_000  # records that a follower may lag behind; one unit has half of them at most
STREAMS = ("out", "err", "kirsch")
BLOCK = 65536  # bytes read at a time, backwards from a file's end

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Record:
    """One line: `time` is seconds since the epoch, `stream` "out", "err", or "kirsch" for kirsch's own."""

    unit: str
    time: float
    stream: str
    text: str

    def __bytes__(self) -> bytes:
        return f"{self.time:.6f} {self.stream} {self.text}\n".encode("utf-8", "replace")

    @classmethod
    def parse(cls, unit: str, line: bytes) -> "Record | None":
        """A line of a unit's file without its newline; None when it is torn."""
        time, _, rest = line.decode("utf-8", "replace").partition(" ")
        stream, space, text = rest.partition(" ")
        if not space or stream not in STREAMS or not re.fullmatch(r"\d{1,12}\.\d{6}", time):
            return None
        return cls(unit, float(time), stream, text)


class Journal:
    """The journal of one machine, below `directory`. Its files are for their owner's eyes (mode 0600)."""

    def __init__(self, directory: Path, max_file: int = MAX_FILE) -> None:
        self.directory = directory
        self._max_file = max_file
        self._files: dict[str, _File] = {}
        self._followers: set[_Follower] = set()
        self._lock = threading.Lock()
        self._closed = False
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def append(self, unit: str, stream: str, text: str, time: float) -> None:
        """Add one line (several where the text has line breaks). It never raises: what cannot be written is
        dropped, with one warning until writing works again; followers get it all the same."""
        for line in text.split("\n"):
            record = Record(unit, time, stream, line)
            with self._lock:
                if self._closed:
                    return
                self._file(unit).append(bytes(record))
                for follower in self._followers:
                    follower.offer(record)

    def tail(self, unit: str, lines: int) -> list[Record]:
        """The last `lines` records of a unit, oldest first."""
        with self._lock:
            return list(self._file(unit).tail(lines))

    async def follow(self, units: Iterable[str] | None = None, lines: int = 10) -> AsyncIterator[Record]:
        """The last `lines` records of these units together (None: of all), then each new one as it comes.

        Between the two none is missing and none comes twice. Who reads too slowly loses records of the
        units that write most, and is told how many by one of stream "kirsch" for each. Ends when the journal
        is closed.
        """
        follower = _Follower(None if units is None else frozenset(units), asyncio.get_running_loop())
        try:
            for record in await asyncio.to_thread(self._join, follower, lines):
                yield record
            while records := await follower.take():
                for record in records:
                    yield record
        finally:
            with self._lock:
                follower.gone = True
                self._followers.discard(follower)

    def close(self) -> None:
        """Close the files, and end what follows once it has read what is there."""
        with self._lock:
            self._closed = True
            for file in self._files.values():
                file.close()
            for follower in self._followers:
                follower.close()

    def _join(self, follower: "_Follower", lines: int) -> list[Record]:
        with self._lock:
            units = self._known() if follower.units is None else follower.units
            tails = [list(self._file(unit).tail(lines)) for unit in units]
            if not follower.gone:
                self._followers.add(follower)
            if self._closed:
                follower.close()
        merged = list(heapq.merge(*tails, key=lambda record: record.time))
        return merged[len(merged) - lines :] if lines < len(merged) else merged

    def _known(self) -> set[str]:
        written = {unquote(path.name.removesuffix(".log")) for path in self.directory.glob("*.log")}
        return written | self._files.keys()

    def _file(self, unit: str) -> "_File":
        if unit not in self._files:
            self._files[unit] = _File(unit, self.directory / file_name(unit), self._max_file)
        return self._files[unit]


def file_name(unit: str) -> str:
    """A safe name for a unit's file, from which the unit's name can be read; one too long is cut."""
    name = quote(unit, safe="@:")
    if len(name) > 200:
        name = f"{name[:160]}-{hashlib.sha256(unit.encode()).hexdigest()[:32]}"
    return f"{name}.log"


class _File:
    """A unit's file and the one before it."""

    def __init__(self, unit: str, path: Path, max_size: int) -> None:
        self.unit = unit
        self.path = path
        self.previous = path.with_name(path.name + ".1")
        self._max_size = max_size
        self._fd = -1
        self._size = 0
        self._torn = False
        self._dropped = 0

    def append(self, line: bytes) -> None:
        try:
            if self._fd < 0:
                self._open()
            if self._size + len(line) > self._max_size and self._size:
                self._rotate()
            data = b"\n" + line if self._torn else line
            written = os.write(self._fd, data)
        except OSError as error:
            self._drop(error.strerror or str(error))
            return
        self._size += written
        self._torn = written < len(data)
        if self._torn:
            self._drop("the disk is full")
        elif self._dropped:
            log.warning("%s is written again; %d lines were dropped", self.path, self._dropped)
            self._dropped = 0

    def tail(self, lines: int) -> Iterator[Record]:
        """The last records, oldest first."""
        found: deque[Record] = deque(maxlen=max(lines, 0))
        for line in self._backwards():
            if len(found) >= lines:
                break
            if record := Record.parse(self.unit, line):
                found.appendleft(record)
        return iter(found)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _open(self) -> None:
        self._fd = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._size = os.fstat(self._fd).st_size
        # After kill -9 or a power cut the last line may be torn: the next begins a new one.
        self._torn = self._size > 0 and os.pread(self._fd, 1, self._size - 1) != b"\n"

    def _rotate(self) -> None:
        os.replace(self.path, self.previous)
        self.close()
        self._open()

    def _drop(self, why: str) -> None:
        if not self._dropped:
            log.warning("cannot write %s: %s; lines are dropped until that is over", self.path, why)
        self._dropped += 1

    def _backwards(self) -> Iterator[bytes]:
        """All lines, the last first."""
        for path in (self.path, self.previous):
            try:
                with path.open("rb") as file:
                    yield from _lines_backwards(file.fileno())
            except OSError:
                pass  # there is none yet


def _lines_backwards(fd: int) -> Iterator[bytes]:
    position = os.fstat(fd).st_size
    rest = b""
    while position > 0:
        start = max(0, position - BLOCK)
        rest, *lines = (os.pread(fd, position - start, start) + rest).split(b"\n")
        yield from reversed(lines)
        position = start
    yield rest


@dataclass(eq=False)
class _Follower:
    """Queue of the records that one reader has not read yet: at most MAX_QUEUE."""

    units: frozenset[str] | None
    loop: asyncio.AbstractEventLoop
    waiting: deque[Record] = field(default_factory=deque)
    counts: Counter[str] = field(default_factory=Counter)  # records of each unit that wait
    dropped: Counter[str] = field(default_factory=Counter)
    closed: bool = False
    gone: bool = False  # it may go while it joins, in a thread
    lock: threading.Lock = field(default_factory=threading.Lock)
    wakeup: asyncio.Event = field(default_factory=asyncio.Event)

    def offer(self, record: Record) -> None:
        if self.units is not None and record.unit not in self.units:
            return
        with self.lock:
            # No unit gets more than what is left then, so that there is room for a line of a quiet one.
            if self.counts[record.unit] >= MAX_QUEUE - len(self.waiting):
                self.dropped[record.unit] += 1
                return
            self.waiting.append(record)
            self.counts[record.unit] += 1
            if len(self.waiting) == 1:
                self._wake()

    def close(self) -> None:
        with self.lock:
            self.closed = True
            self._wake()

    async def take(self) -> list[Record]:
        """All that waits, at least one record; none once the journal is closed."""
        await self.wakeup.wait()
        with self.lock:
            records, dropped = list(self.waiting), dict(self.dropped)
            self.waiting.clear()
            self.counts.clear()
            self.dropped.clear()
            if not self.closed:
                self.wakeup.clear()
        for unit, number in dropped.items():
            text = f"{number} lines were dropped: they were read too slowly"
            records.append(Record(unit, records[-1].time, "kirsch", text))
        return records

    def _wake(self) -> None:
        try:
            self.loop.call_soon_threadsafe(self.wakeup.set)
        except RuntimeError:
            pass  # its loop is closed: nobody reads any more
