"""Commands beside a unit's processes: health checks, and what `kirsch exec` has of a unit.

A container's run by `podman exec`, confined as the container is. A service's run as transient units of
systemd's with the service's own environment, user, folder, limits, slice and sandbox, as systemd sets them
up: entering its namespaces by hand would leave its SystemCallFilter= and its capabilities behind, and take in
an environment that its own processes can change.
"""

import asyncio
import logging
import os
import select
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dbus_fast import Variant

from kirsch.bus.process.command import Command
from kirsch.cluster.runtime.base import NOT_EXECUTED, TIMED_OUT, Prepared
from kirsch.cluster.runtime.directives import CONTEXT, PROCESS_SECTION, TRANSIENT
from kirsch.cluster.runtime.host import STANDARD_PATH, Host
from kirsch.cluster.runtime.invocation import compose_context
from kirsch.cluster.runtime.service import read_service
from kirsch.cluster.runtime.status import EXEC
from kirsch.cluster.runtime.systemd.bus import SYSTEMD, BusError, SystemdBus, unit_path
from kirsch.cluster.runtime.systemd.states import INTERFACES
from kirsch.cluster.runtime.systemd.units import Unit, Units
from kirsch.unit import UnitFile, UnitName

SERVICE = f"{SYSTEMD}.Service"
KILLED_WITHIN = 10.0  # seconds for what is left of a stopped unit or a command to be gone after SIGKILL
KILLED_AGAIN = 0.1  # seconds until a command in a container is looked for again
MARK = "KIRSCH_RUN"  # a variable by which a command in a container is known

_FOLDERS = {"RuntimeDirectory": "/run", "StateDirectory": "/var/lib", "CacheDirectory": "/var/cache"}
_FOLDERS |= {"LogsDirectory": "/var/log", "ConfigurationDirectory": "/etc"}
# Properties with the outcome of a command.
_OUTCOME = ("Result", "ExecMainCode", "ExecMainStatus")

log = logging.getLogger(__name__)


class Executor:
    """Runs commands for one runtime; `root` and `prefix` as there."""

    def __init__(self, bus: SystemdBus, units: Units, root: Path, prefix: tuple[str, ...]) -> None:
        self._bus = bus
        self._units = units
        self._root = root
        self._prefix = prefix

    async def run(self, unit: Unit, argv: Sequence[str], timeout: float) -> int:
        """The exit status of a command, as Runtime.run has it. Nothing of it is left, also when cancelled."""
        if unit.name.type == "container":
            container = self._container(unit)
            return await self._exec(container, argv, timeout) if container else NOT_EXECUTED
        if not unit.service.endswith(".service"):
            return NOT_EXECUTED
        try:
            return await self._run_transient(unit, argv, timeout)
        except BusError as error:
            log.warning("%s: %s cannot be run: %s", unit.name, argv[0], error)
            return NOT_EXECUTED

    async def context(self, unit: Unit) -> Command | None:
        """Return a command with the context of a running unit's processes; a container's as seen inside
        it."""
        pid = await self._first_process(unit)
        return await asyncio.to_thread(read_process, self._root / f"proc/{pid}") if pid else None

    async def prepared(self, prepared: Prepared) -> Command:
        """Return a command with the context that a unit's processes would have.

        Raises UnitError, ChildError.
        """
        service, _ = read_service(prepared.name, context_file(prepared.name, prepared.file))
        host = Host.create(self._root / "var/lib", Path("/"), STANDARD_PATH.split(":"))
        return await asyncio.to_thread(compose_context, service, host, prepared.variables)

    async def kill_rest(self, unit: Unit) -> None:
        """Kill what KillMode= has left of a stopped unit, and wait until it is gone."""
        interface = f"{SYSTEMD}.{INTERFACES[unit.service.rpartition('.')[2]]}"
        try:
            group = await self._bus.property(unit.path, interface, "ControlGroup")
            events = self._root / f"sys/fs/cgroup{group}/cgroup.events"
            if not group or not populated(events):
                return
            await self._bus.manager("KillUnit", "ssi", unit.service, "all", 9)
        except BusError:
            return  # systemd holds nothing of it any more
        await asyncio.to_thread(wait_until_empty, events, KILLED_WITHIN)

    # Services

    async def _run_transient(self, unit: Unit, argv: Sequence[str], timeout: float) -> int:
        name = f"kirsch-run-{uuid.uuid4().hex[:16]}.service"
        properties = transient(unit, await self._bus.variants(unit.path, SERVICE), argv, timeout)
        told, path = self._units.watch(name), unit_path(name)
        try:
            await self._bus.jobs.run(
                lambda: self._bus.manager(
                    "StartTransientUnit", "ssa(sv)a(sa(sv))", name, "fail", properties, []
                )
            )
            if "ExecMainCode" not in told:
                # systemd may say that the job is done before it tells how.
                told |= {each: await self._bus.property(path, SERVICE, each) for each in _OUTCOME}
        except asyncio.CancelledError:
            await asyncio.shield(self._kill(name))
            raise
        finally:
            self._units.unwatch(name)
            await asyncio.shield(self._let_go(name))
        return exit_status(told)

    async def _let_go(self, name: str) -> None:
        try:
            await self._bus.manager("UnrefUnit", "s", name)
        except BusError:
            pass  # the connection was made anew meanwhile, and held nothing

    async def _kill(self, name: str) -> None:
        try:
            await self._bus.manager("StopUnit", "ss", name, "replace")
        except BusError:
            pass  # it has ended

    # Containers

    def _container(self, unit: Unit) -> str:
        """The id of a unit's container; "" if there is none."""
        try:
            stem = unit.service.removesuffix(".service")
            return (self._root / f"run/{stem}.cid").read_text().strip()
        except OSError:
            return ""

    async def _exec(self, container: str, argv: Sequence[str], timeout: float) -> int:
        mark = f"{MARK}={uuid.uuid4().hex}"
        process = await asyncio.create_subprocess_exec(
            *self._prefix,
            # Health is asked again and again: nobody wants to read of it each time.
            *("podman", "--events-backend=none", "exec", f"--env={mark}", container, *argv),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            async with asyncio.timeout(timeout):
                status = await process.wait()
        except TimeoutError:
            return TIMED_OUT
        finally:
            if process.returncode is None:
                await asyncio.shield(self._end(process, mark.encode()))
        return status if status >= 0 else 128 - status

    async def _end(self, process: asyncio.subprocess.Process, mark: bytes) -> None:
        """Kill a command in a container, and podman ends: podman's going would leave it there, or have it
        started yet."""
        deadline = time.monotonic() + KILLED_WITHIN
        while process.returncode is None and time.monotonic() < deadline:
            await self._kill_marked(mark)
            try:
                async with asyncio.timeout(KILLED_AGAIN):
                    await process.wait()
            except TimeoutError:
                continue
        if process.returncode is None:
            process.kill()
            await process.wait()

    async def _kill_marked(self, mark: bytes) -> None:
        pids = await asyncio.to_thread(marked, self._root / "proc", mark)
        if pids:
            kill = await asyncio.create_subprocess_exec(
                *(*self._prefix, "/bin/sh", "-c", 'kill -9 "$@"', "sh", *map(str, pids)),
                stderr=asyncio.subprocess.DEVNULL,
            )
            await kill.wait()

    async def _first_process(self, unit: Unit) -> int:
        """The main process of a unit that runs; in a container the first; 0 if there is none."""
        if unit.at_rest:
            return 0
        if unit.name.type != "container":
            return unit.state.pid
        process = await asyncio.create_subprocess_exec(
            *(*self._prefix, "podman", "inspect", "--format={{.State.Pid}}", self._container(unit)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        output, _ = await process.communicate()
        return int(output) if output.strip().isdigit() else 0


def transient(
    unit: Unit, service: Mapping[str, Variant], argv: Sequence[str], timeout: float
) -> list[list[Any]]:
    """The properties of a unit that runs a command as a service would."""
    copied = {name: value for name, value in service.items() if name in TRANSIENT and _is_set(value.value)}
    if service["DynamicUser"].value:
        # By its name it is the same user; its folders are nobody else's to enter.
        for name in ("DynamicUser", "StateDirectory", "CacheDirectory", "LogsDirectory"):
            copied[name] = service[name]
    folders = [
        f"{directive.removesuffix('Directory').upper()}_DIRECTORY="
        + ":".join(f"{base}/{path}" for path in service[directive].value)
        for directive, base in _FOLDERS.items()
        if service[directive].value
    ]
    if folders:
        given = copied["Environment"].value if "Environment" in copied else []
        copied["Environment"] = Variant("as", [*folders, *given])
    copied |= {
        "Description": Variant("s", f"a command beside {unit.name}"),
        "Type": Variant("s", "oneshot"),
        "ExecStartEx": Variant("a(sasas)", [[argv[0], list(argv), ["no-env-expand"]]]),
        "TimeoutStartUSec": Variant("t", max(int(timeout * 1e6), 1)),
        "KillSignal": Variant("i", 9),
        "CollectMode": Variant("s", "inactive-or-failed"),
        # Of a unit that has only just appeared systemd may not tell what has changed: it stays to be asked.
        "AddRef": Variant("b", True),
        "JoinsNamespaceOf": Variant("as", [unit.service]),
        "StandardOutput": Variant("s", "null"),
        "StandardError": Variant("s", "null"),
        # systemd.exec(5): what PID 1 says of the unit is bound by it too.
        "LogLevelMax": Variant("i", 4),
    }
    return [[name, value] for name, value in copied.items()]


def _is_set(value: Any) -> bool:
    """Return True for a property that has an effect; (False, []) is a filter that filters nothing."""
    return bool(value[1]) if isinstance(value, list) and value and value[0] is False else bool(value)


def exit_status(told: Mapping[str, Any]) -> int:
    """A command's exit status, from the properties of the unit that ran it."""
    code, status = told.get("ExecMainCode", 0), told.get("ExecMainStatus", 0)
    if told.get("Result") == "timeout":
        return TIMED_OUT
    if code == 1:
        return NOT_EXECUTED if status == EXEC else status
    return 128 + status if code in (2, 3) else NOT_EXECUTED


def context_file(name: UnitName, file: UnitFile) -> UnitFile:
    """A unit file of which only that is left which says in what a command runs."""
    section = "Service" if name.type == "service" else PROCESS_SECTION
    kept = [
        option
        for option in file.options
        if (option.section == section and option.name in CONTEXT)
        or (option.section == "Container" and option.name == "Environment")
    ]
    added = [(section, "Type", "oneshot"), (section, "ExecStart", "/bin/true")]
    return UnitFile.from_options([*kept, *added], file.file)


def read_process(folder: Path) -> Command | None:
    """Read a process's context from its folder in /proc (proc(5)); None if it is gone. Blocks."""
    try:
        variables = (folder / "environ").read_bytes().decode("utf-8", "surrogateescape").split("\0")
        directory = os.readlink(folder / "cwd")
        status = dict(_fields((folder / "status").read_text()))
        limits = list(map(_limit, (folder / "limits").read_text().splitlines()[1:]))
    except (OSError, ValueError):
        return None
    environment = dict(each.split("=", 1) for each in variables if "=" in each)
    return Command(
        argv=("true",),
        environment=environment,
        directory=directory,
        user=status["Uid"].split()[1],
        group=status["Gid"].split()[1],
        umask=int(status.get("Umask", "0022"), 8),
        limits=dict(each for each in limits if each),
    )


def _fields(text: str) -> list[tuple[str, str]]:
    return [(name, value.strip()) for name, _, value in (line.partition(":") for line in text.splitlines())]


# proc_pid_limits(5) has names of its own; setrlimit(2) others.
_LIMITS = {
    "Max file size": "FSIZE",
    "Max data size": "DATA",
    "Max stack size": "STACK",
    "Max core file size": "CORE",
    "Max processes": "NPROC",
    "Max open files": "NOFILE",
    "Max locked memory": "MEMLOCK",
    "Max address space": "AS",
}


def _limit(line: str) -> tuple[str, tuple[int, int]] | None:
    for words, name in _LIMITS.items():
        if line.startswith(f"{words} "):
            soft, hard = (-1 if each == "unlimited" else int(each) for each in line[len(words) :].split()[:2])
            return name, (soft, hard)
    return None


def marked(proc: Path, mark: bytes) -> list[int]:
    """The processes whose environment holds a mark. Blocks."""
    found = []
    for folder in proc.iterdir():
        if folder.name.isdecimal():
            try:
                if mark in (folder / "environ").read_bytes():
                    found.append(int(folder.name))
            except OSError:
                continue
    return found


def populated(events: Path) -> bool:
    """Return True while a cgroup has processes (cgroups(7), cgroup.events)."""
    try:
        return "populated 1" in events.read_text()
    except OSError:
        return False


def wait_until_empty(events: Path, seconds: float) -> None:
    """Wait until a cgroup has no processes any more. Blocks."""
    deadline = time.monotonic() + seconds
    try:
        with events.open() as file:
            poll = select.poll()
            poll.register(file, select.POLLPRI)
            while "populated 1" in file.read() and time.monotonic() < deadline:
                poll.poll((deadline - time.monotonic()) * 1000)
                file.seek(0)
    except OSError:
        pass  # it went with its last process
