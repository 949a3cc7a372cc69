"""The journal of a machine with systemd: journald's, by journalctl(1)'s JSON.

systemd's own messages about a unit are of stream "kirsch", as what kirsch says of units without systemd; so
are podman's about a container.
What a unit prints is "err" where its priority says so (err or worse), "out" otherwise: journald does not keep
the two outputs of a service apart.
"""

import asyncio
import json
import re
import subprocess
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kirsch.cluster.runtime.journal import Record
from kirsch.cluster.runtime.systemd.files import RECORDS
from kirsch.cluster.runtime.systemd.files import Record as Kept
from kirsch.cluster.runtime.systemd.quadlet import service_name
from kirsch.unit import UnitError, UnitName

MAX_LINE = 16 * 1024 * 1024  # bytes of JSON; a longer message is told of and left out
TIMEOUT = 30.0  # seconds, for reading the last lines
LAST_LINES = 5
ERROR = 3  # syslog(3): LOG_ERR
_FIELDS = "MESSAGE,_SYSTEMD_UNIT,UNIT,OBJECT_SYSTEMD_UNIT,COREDUMP_UNIT,PRIORITY,PODMAN_EVENT"
# What podman says beside a container's output: the id of what it started, and conmon's own warnings.
_OF_PODMAN = re.compile(r"[0-9a-f]{64}|conmon [0-9a-f]{20} <n\w+>: .*")


class SystemdJournal:
    """journald of the machine whose files are at `root`, with the methods of runtime.journal.Journal.

    `prefix` goes in front of a command that runs there.
    """

    def __init__(self, root: Path = Path("/"), prefix: Sequence[str] = ()) -> None:
        self._names = Names(root)
        self._command = (
            *prefix,
            "journalctl",
            "--quiet",
            "--all",
            "--output=json",
            f"--output-fields={_FIELDS}",
        )
        self._following: set[asyncio.subprocess.Process] = set()
        self._closed = False

    def tail(self, unit: str, lines: int) -> list[Record]:
        """The last `lines` records of a unit, oldest first. Blocks."""
        if lines <= 0:
            return []
        services = self._names.services([unit])
        if not services:
            return []
        matches = [f"--unit={service}" for service in services]
        try:
            done = subprocess.run(
                [*self._command, f"--lines={lines}", *matches],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=TIMEOUT,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return []
        parsed = (parse(line, services) for line in done.stdout.splitlines())
        return [record for each in parsed for record in each]

    async def follow(self, units: Iterable[str] | None = None, lines: int = 10) -> AsyncIterator[Record]:
        """The last `lines` records of these units together (None: of all of kirsch's), then each new one as
        it comes. Ends when the journal is closed.

        Whoever reads slowly loses nothing: journalctl waits, and the journal is its queue."""
        services = None if units is None else self._names.services(list(units))
        if self._closed or services == {}:
            return
        process = await self._follow(services, lines)
        try:
            assert process.stdout is not None
            if self._closed:
                return
            async for line in _lines(process.stdout):
                for record in parse(line, self._names.known() if services is None else services):
                    yield record
        finally:
            self._following.discard(process)
            await _end(process)

    def close(self) -> None:
        """End the stream of each follower."""
        self._closed = True
        for process in tuple(self._following):
            if process.returncode is None:
                process.kill()

    async def _follow(self, services: Mapping[str, str] | None, lines: int) -> asyncio.subprocess.Process:
        chosen = services if services is not None else {}
        process = await asyncio.create_subprocess_exec(
            *self._command,
            "--follow",
            f"--lines={max(lines, 0)}",
            *(f"--unit={service}" for service in chosen),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            limit=MAX_LINE,
        )
        self._following.add(process)
        return process


# Where units lie that are the machine's own (systemd.unit(5)); kirsch's are below /run.
_OTHERS = ("etc/systemd/system", "usr/local/lib/systemd/system", "usr/lib/systemd/system")


class Names:
    """Which units of systemd kirsch's are: as their records say, and by name for those without one, where
    none of the machine's own has it."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._folder = root / RECORDS
        self._read_at = -1
        self._known: dict[str, str] = {}

    def services(self, units: Sequence[str]) -> dict[str, str]:
        """The units by their names in systemd."""
        known = {unit: service for service, unit in self.known().items()}
        found = {}
        for unit in units:
            try:
                service = known.get(unit) or service_name(UnitName.parse(unit))
            except UnitError:
                continue  # no unit can have such a name, and nothing has been printed by one
            if unit in known or not self._is_others(service):
                found[service] = unit
        return found

    def _is_others(self, service: str) -> bool:
        template = re.sub("@[^.]*", "@", service, count=1)
        return any(
            (self._root / folder / name).exists() for folder in _OTHERS for name in {service, template}
        )

    def known(self) -> Mapping[str, str]:
        """All units of kirsch by their names in systemd; read anew when one came or went."""
        try:
            changed = self._folder.stat().st_mtime_ns
        except OSError:
            return {}
        if changed != self._read_at:
            self._known = {}
            for path in self._folder.glob("*.json"):
                try:
                    kept = Kept.parse(path.read_bytes())
                except (OSError, ValueError):
                    continue  # it goes just now
                self._known[kept.service] = kept.name
            self._read_at = changed
        return self._known


def parse(line: bytes, services: Mapping[str, str]) -> list[Record]:
    """The records of one line of JSON, one a line of its message; none if it is of no such unit. Pure."""
    try:
        entry = json.loads(line)
        time = int(entry["__REALTIME_TIMESTAMP"]) / 1e6
    except (ValueError, KeyError, TypeError):
        return []
    own = services.get(_first(entry.get("_SYSTEMD_UNIT")))
    told = next((services[_first(entry.get(f))] for f in _ABOUT if _first(entry.get(f)) in services), None)
    unit = own or told
    if unit is None:
        return []
    stream = "kirsch" if own is None or of_podman(entry) else "err" if _priority(entry) <= ERROR else "out"
    return [Record(unit, time, stream, text) for text in message(entry.get("MESSAGE")).split("\n")]


_ABOUT = ("UNIT", "OBJECT_SYSTEMD_UNIT", "COREDUMP_UNIT")


def of_podman(entry: Mapping[str, Any]) -> bool:
    """Return True for an entry that podman wrote about a container; podman's errors are not among them."""
    return "PODMAN_EVENT" in entry or _OF_PODMAN.fullmatch(message(entry.get("MESSAGE"))) is not None


def message(value: Any) -> str:
    """A MESSAGE of journalctl's JSON: a text, an array of bytes where it is none, null where it was too long,
    an array of these where there are several."""
    if isinstance(value, str):
        return value.removesuffix("\n")
    if value is None:
        return "(a message too long to be shown)"
    if isinstance(value, list) and all(isinstance(each, int) for each in value):
        return bytes(each & 0xFF for each in value).decode("utf-8", "replace").removesuffix("\n")
    if isinstance(value, list):
        return "\n".join(message(each) for each in value)
    return str(value)


def _first(value: Any) -> str:
    return str(value[0] if isinstance(value, list) and value else value)


def _priority(entry: Mapping[str, Any]) -> int:
    text = _first(entry.get("PRIORITY"))
    return int(text) if text.isdecimal() else 6


async def _lines(stream: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """Lines until the end; one beyond the limit is left out."""
    while True:
        try:
            line = await stream.readuntil(b"\n")
        except asyncio.IncompleteReadError:
            return
        except asyncio.LimitOverrunError as error:
            await stream.readexactly(error.consumed)
            continue  # its rest is no JSON
        yield line


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kill it if it runs, and let go of its pipes."""
    if process.returncode is None:
        try:
            process.kill()
        except ProcessLookupError:
            pass
    await process.communicate()


async def said(prefix: Sequence[str], matches: Sequence[str], lines: int) -> list[str]:
    """The last lines of the entries that match (FIELD=VALUE, journalctl(1)), oldest first; none where they
    cannot be had."""
    # journald may not have taken the last of them in yet.
    await _output([*prefix, "journalctl", "--sync"])
    entries = await _entries(prefix, [f"--lines={lines}", "--output-fields=MESSAGE", *matches])
    return _texts(entries)[-lines:]


async def printed(prefix: Sequence[str], service: str, run: str, since: float, lines: int) -> list[str]:
    """The last lines that a run of a service (its InvocationID) has printed since a time; none where they
    cannot be had. Of a process that ended at once journald knows the service, but not the run."""
    arguments = [
        f"--since=@{since:.6f}",
        f"--lines={lines * _NOISE}",
        "--output-fields=MESSAGE,PODMAN_EVENT,_SYSTEMD_INVOCATION_ID,_PID",
        *(f"_SYSTEMD_UNIT={service}", "+", f"INVOCATION_ID={run}"),
    ]
    for again in (True, False):
        entries = await _entries(prefix, arguments)
        texts = _texts([entry for entry in entries if _of_run(entry, run)])
        if texts or not again:
            break
        # Nothing yet, perhaps: journald is to take in first what has been said.
        await _output([*prefix, "journalctl", "--sync"])
    return texts[-lines:]


def _of_run(entry: Mapping[str, Any], run: str) -> bool:
    own = entry.get("_SYSTEMD_INVOCATION_ID") or run
    return own == run and _first(entry.get("_PID")) != "1" and not of_podman(entry)


def _texts(entries: Iterable[Mapping[str, Any]]) -> list[str]:
    return [line for entry in entries for line in message(entry.get("MESSAGE")).split("\n")]


_NOISE = 4  # times as many entries are read as lines are wanted: systemd's and podman's are passed over


async def complaints(prefix: Sequence[str], since: float) -> dict[str, tuple[str, ...]]:
    """Find systemd's warnings about unit files that it read since a time (seconds since the epoch), by the
    units' names: "line 3: Unknown key …"."""
    await _output([*prefix, "journalctl", "--sync"])
    fields = "--output-fields=MESSAGE,UNIT,CONFIG_FILE,CONFIG_LINE,_SOURCE_REALTIME_TIMESTAMP"
    found: dict[str, tuple[str, ...]] = {}
    for entry in await _entries(prefix, [f"--since=@{since:.6f}", fields, "_PID=1", f"MESSAGE_ID={_SYNTAX}"]):
        # journald may have taken it in later than it was said, of another file then.
        said = _first(entry.get("_SOURCE_REALTIME_TIMESTAMP"))
        if said.isdecimal() and int(said) < since * 1e6:
            continue
        unit, text = _first(entry.get("UNIT")), message(entry.get("MESSAGE"))
        where = f"{_first(entry.get('CONFIG_FILE'))}:{_first(entry.get('CONFIG_LINE'))}: "
        if text.startswith(where):
            text = f"line {_first(entry.get('CONFIG_LINE'))}: {text.removeprefix(where)}"
        if text not in found.get(unit, ()):
            found[unit] = (*found.get(unit, ()), text)
    return found


_SYNTAX = "c772d24e9a884cbeb9ea12625c306c01"  # sd-messages(3): SD_MESSAGE_INVALID_CONFIGURATION


async def _entries(prefix: Sequence[str], arguments: Sequence[str]) -> list[dict[str, Any]]:
    output = await _output([*prefix, "journalctl", "--quiet", "--all", "--output=json", *arguments])
    found = []
    for line in output.splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


async def _output(command: Sequence[str]) -> bytes:
    """Run a command and return its output; empty where it cannot be run."""
    process = None
    try:
        async with asyncio.timeout(TIMEOUT):
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
            )
            output, _ = await process.communicate()
    except (OSError, TimeoutError):
        return b""
    finally:
        if process is not None:
            await _end(process)
    return output
