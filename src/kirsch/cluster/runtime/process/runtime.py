"""The runtime that runs units as plain processes: what `kirsch up` uses, and machines without systemd."""

import asyncio
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from kirsch.bus.process.command import Command, can_isolate, scope_command
from kirsch.cluster.runtime.base import NOT_EXECUTED, Prepared, ProcessGroup, RuntimeState, StateListener
from kirsch.cluster.runtime.host import Host, default_path
from kirsch.cluster.runtime.invocation import compose_context
from kirsch.cluster.runtime.journal import Journal
from kirsch.cluster.runtime.process import podman
from kirsch.cluster.runtime.process.notify_socket import NotifyFolder
from kirsch.cluster.runtime.process.podman import Containers
from kirsch.cluster.runtime.process.supervisor import Job, Supervisor
from kirsch.cluster.runtime.progress import Reload, Start, Stop
from kirsch.cluster.runtime.service import check_options, read_service
from kirsch.unit import Options, UnitError, UnitFile, UnitName, is_boxed

log = logging.getLogger(__name__)


def check(host: Host, name: UnitName, file: UnitFile) -> list[str]:
    """Warnings for what a process of this unit would not have. Raises UnitError if it cannot run."""
    if is_boxed(file, name):
        return podman.check(host, name, file)
    service, warnings = read_service(name, file, host.specifiers)
    if service.no_capabilities and os.geteuid() != 0:
        warnings.append(
            f"{name}: CapabilityBoundingSet= is not honoured: only root can take capabilities away"
        )
    if service.isolation and not can_isolate():
        names = ", ".join(f"{each}=" for each in service.isolation)
        warnings.append(f"{name}: {names} is not honoured: this kernel gives us no mount namespace")
    if service.resources and not scope_command():
        limits = ", ".join(service.resources)
        warnings.append(f"{name}: {limits} is not honoured: no systemd is here that makes control groups")
    return [*warnings, *check_options(file, Options.parse(file, name))]


class ProcessRuntime:
    """A Runtime (see base) of child processes. Make and use it in a running event loop.

    Folders of StateDirectory= and its like lie below `state_directory`. Units without WorkingDirectory= run
    in `directory`; `path` goes in front of this process's own PATH (default: where this Python is).
    """

    durable = False

    def __init__(
        self,
        state_directory: Path,
        journal: Journal,
        *,
        directory: Path = Path("/"),
        path: Sequence[str] | None = None,
    ) -> None:
        self._host = Host.create(state_directory, directory, default_path() if path is None else path)
        self._journal = journal
        self._sockets = NotifyFolder(state_directory / "notify")
        self._containers = Containers(self._host, state_directory)
        self._units: dict[UnitName, Supervisor] = {}
        self._listeners: list[StateListener] = []

    def check(self, name: UnitName, file: UnitFile) -> list[str]:
        """Warnings for what would not be honoured in this file. Raises UnitError if it cannot run."""
        return check(self._host, name, file)

    def listen(self, listener: StateListener) -> None:
        """Call `listener` in the event loop each time a unit's state changes; None when it is unloaded."""
        self._listeners.append(listener)

    def states(self) -> Mapping[UnitName, RuntimeState]:
        """Every unit that is loaded, as it stands now."""
        return {name: unit.state for name, unit in self._units.items()}

    def groups(self) -> Mapping[UnitName, ProcessGroup]:
        """Return the shims of each unit that runs: all its processes descend from them."""
        return {
            name: ProcessGroup(ancestors=shims) for name, unit in self._units.items() if (shims := unit.shims)
        }

    async def load(self, units: Sequence[Prepared]) -> None:
        """Make units known, or known anew: a running one gets file and environment at its next start."""
        errors = await asyncio.to_thread(self._register, units)
        for prepared in units:
            unit = self._units.get(prepared.name)
            if unit is None:
                unit = Supervisor(prepared, self._host, self._journal, self._sockets, self._publish)
                self._units[prepared.name] = unit
            try:
                if prepared.name in errors:
                    raise errors[prepared.name]
                if is_boxed(prepared.file, prepared.name):
                    service = await asyncio.to_thread(self._containers.service, prepared)
                    # The container is given them, podman itself is not.
                    prepared = replace(prepared, environment={}, secrets={}, credentials={})
                else:
                    service, _ = read_service(prepared.name, prepared.file, self._host.specifiers)
                unit.load(prepared, service)
            except UnitError as error:
                unit.load(prepared, None, str(error))

    async def start(self, name: UnitName, mark: str = "") -> RuntimeState:
        """Start a loaded unit; returns when its start job is done. One that is being stopped starts after
        that; one that waits for a restart is waited for."""
        if name in self._units:
            self._units[name].mark = mark
        return await self._ask(name, Start())

    async def stop(self, name: UnitName, mark: str = "") -> RuntimeState:
        """Stop a unit and all its processes; returns when none is left. A start under way is given up."""
        return await self._ask(name, Stop())

    async def kill(self, name: UnitName) -> None:
        """End all processes of a unit at once."""
        if name in self._units:
            self._units[name].kill()

    async def reload(self, name: UnitName) -> RuntimeState:
        """Run ExecReload of a running unit; returns when that is done. A unit without one is left alone."""
        return await self._ask(name, Reload())

    async def unload(self, names: Iterable[UnitName]) -> None:
        """Forget stopped units; those that are not stopped stay."""
        gone = [name for name in names if name in self._units and self._units[name].at_rest]
        await asyncio.gather(*(self._units.pop(name).close() for name in gone))
        for name in gone:
            self._publish(name, None)

    async def run(self, name: UnitName, argv: Sequence[str], timeout: float) -> int:
        """Run a command with the unit's user, directory and environment: its exit status, as in base."""
        return await self._units[name].run(argv, timeout) if name in self._units else NOT_EXECUTED

    async def context(self, unit: UnitName | Prepared) -> Command | None:
        """Return a command with the context of a unit's processes, see Runtime.context."""
        if isinstance(unit, UnitName):
            return await self._units[unit].context() if unit in self._units else None
        if is_boxed(unit.file, unit.name):
            raise UnitError(f"{unit.name} runs in a container, and kirsch up runs no other beside it")
        service, _ = read_service(unit.name, unit.file, self._host.specifiers)
        return await asyncio.to_thread(compose_context, service, self._host, unit.variables)

    async def container_arguments(self, prepared: Prepared) -> tuple[str, ...]:
        """Return no arguments: containers are processes here."""
        return ()

    async def close(self) -> None:
        """Stop everything that runs, all at once."""
        await asyncio.gather(*(unit.ask(Stop()) for unit in self._units.values()))
        units, self._units = self._units, {}
        await asyncio.gather(*(unit.close() for unit in units.values()))
        self._sockets.close()
        await asyncio.to_thread(self._containers.close)

    def _register(self, units: Sequence[Prepared]) -> dict[UnitName, UnitError]:
        """Know where containers are before one is told of another; returns what is wrong with some."""
        self._containers.sweep()
        errors = {}
        for prepared in units:
            try:
                if is_boxed(prepared.file, prepared.name):
                    self._containers.register(prepared)
            except UnitError as error:
                errors[prepared.name] = error
        return errors

    async def _ask(self, name: UnitName, job: Job) -> RuntimeState:
        if name not in self._units:
            return RuntimeState(load="not-found", message=f"{name} is not loaded")
        return await self._units[name].ask(job)

    def _publish(self, name: UnitName, state: RuntimeState | None) -> None:
        for listener in self._listeners:
            try:
                listener(name, state)
            except Exception:
                log.exception("a listener failed at a change of %s", name)
