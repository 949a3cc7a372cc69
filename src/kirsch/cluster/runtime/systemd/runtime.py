"""The runtime of a machine with systemd: units and Quadlets that run on when kirschd does not."""

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from kirsch.bus.process.command import Command
from kirsch.cluster.model.podman import quadlet_types
from kirsch.cluster.runtime.base import NOT_EXECUTED, Prepared, ProcessGroup, RuntimeState, StateListener
from kirsch.cluster.runtime.systemd.bus import UNIT, BusError, SystemdBus
from kirsch.cluster.runtime.systemd.disk import Disk
from kirsch.cluster.runtime.systemd.exec import Executor
from kirsch.cluster.runtime.systemd.files import drop_in_text
from kirsch.cluster.runtime.systemd.loading import Loader, Loading, Shared
from kirsch.cluster.runtime.systemd.podman import container_arguments, sweep_containers, sweep_secrets
from kirsch.cluster.runtime.systemd.quadlet import NEVER_LOADED, Checker, Generator
from kirsch.cluster.runtime.systemd.states import refused, why_not_started
from kirsch.cluster.runtime.systemd.units import Unit, Units
from kirsch.unit import SYSTEMD_TYPES, UnitError, UnitFile, UnitName

BUS_SOCKET = "run/dbus/system_bus_socket"

log = logging.getLogger(__name__)


class SystemdRuntime:
    """A Runtime (see base) of systemd's units; make one with `open`. For one event loop."""

    durable = True

    def __init__(self, root: Path, prefix: Sequence[str], generator: Generator | None) -> None:
        self._root = root
        self._generator = generator
        self._checker = Checker(generator)
        self._disk = Disk(root, generator is None or generator.merges)
        self._units = Units(tuple(prefix), self._disk.hidden)
        self._bus = SystemdBus(root / BUS_SOCKET, self._units)
        self._units.bus = self._bus
        self._loader = Loader(self._bus, self._disk, generator, self._units)
        self._unkept: set[Unit] = set()
        self._marks = Shared(self._keep_marks)
        self._executor = Executor(self._bus, self._units, root, tuple(prefix))
        # Not in kirschd's own mount namespace: a container's files are mounted in the machine's.
        self._outside = (*prefix, "systemd-run", "--quiet", "--collect", "--wait")
        self._sweeping: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, root: Path = Path("/"), prefix: Sequence[str] = ()) -> "SystemdRuntime":
        """Open the runtime of the machine whose file system is seen at `root`.

        `prefix` goes in front of each command that runs on that machine, where it is not this one. Raises
        BusError, OSError.
        """
        runtime = cls(root, prefix, await asyncio.to_thread(Generator.find, root, prefix))
        await runtime.connect()
        return runtime

    async def connect(self) -> None:
        """Adopt the units that an earlier kirschd left, and connect to systemd. Raises BusError, OSError."""
        await asyncio.to_thread(self._disk.open)
        for found in await asyncio.to_thread(lambda: list(self._disk.found())):
            self._loader.adopt(Unit.adopted(found))
        try:
            await self._bus.open()
        except BaseException:
            await self._bus.close()
            raise
        self._sweeping = asyncio.create_task(self._sweep())

    @classmethod
    async def capabilities(cls, root: Path = Path("/"), prefix: Sequence[str] = ()) -> tuple[str, ...]:
        """The types of units that the machine can run: systemd's own, and those that its Quadlet knows."""
        generator = await asyncio.to_thread(Generator.find, root, prefix)
        quadlets = quadlet_types(generator.version) if generator else ()
        return tuple(sorted({*(SYSTEMD_TYPES - NEVER_LOADED.keys()), *quadlets}))

    def check(self, name: UnitName, file: UnitFile) -> list[str]:
        """Warnings for what systemd would not do. Raises UnitError for a Quadlet that podman's generator
        refuses, in its words; what the Quadlet names need not be there yet."""
        return self._checker.check(name, file)

    def listen(self, listener: StateListener) -> None:
        """Call `listener` in the event loop each time a unit's state changes; None when it is unloaded."""
        self._units.listeners.append(listener)

    def states(self) -> Mapping[UnitName, RuntimeState]:
        """Every unit that is loaded, as it stands now."""
        return {unit.name: unit.state for unit in self._units}

    def groups(self) -> Mapping[UnitName, ProcessGroup]:
        """Return the control group of each unit that runs."""
        return {
            unit.name: ProcessGroup(unit.service, unit.state.pid) for unit in self._units if unit.state.pid
        }

    async def load(self, units: Sequence[Prepared]) -> None:
        """Make units known, or known anew, by one reload of systemd's. What runs gets its new file at its
        next start; what systemd or Quadlet refuses has load=bad-setting, not-found or error, and their
        words."""
        await self._loader.load([Loading(prepared, drop_in_text(prepared)) for prepared in units])

    async def start(self, name: UnitName, mark: str = "") -> RuntimeState:
        """Start a loaded unit; returns when systemd's job is done. One that is being stopped starts after
        that."""
        unit = self._units.get(name)
        if unit is None:
            return _not_loaded(name)
        while unit.stopping:
            await asyncio.wait(tuple(unit.stopping))
        if unit.known.load != "loaded":
            return unit.state

        keeping: list[asyncio.Task[None]] = []

        def accepted() -> None:
            unit.know(mark=mark)
            self._units.publish(unit)
            self._unkept.add(unit)
            keeping.append(asyncio.create_task(self._marks.ask()))

        unit.know(reason="", before="", reloading="", lines=(), limited=False, refused=False)
        try:
            async with self._held(unit):
                if unit.at_rest:
                    # An order, unlike a restart, begins the count of the start limit anew.
                    await self._loader.reset(unit.service)
                result = await self._units.job("StartUnit", unit, accepted)
                while result == "canceled" and unit.stopping:
                    await asyncio.wait(tuple(unit.stopping))
                if unit.at_rest:
                    await self._units.settle()
                await self._explain(unit, result)
        except BusError as error:
            unit.know(reason=f"cannot be started: {error}", refused=True)
            self._units.publish(unit)
        finally:
            await asyncio.gather(*keeping)
        return unit.state

    async def stop(self, name: UnitName, mark: str = "") -> RuntimeState:
        """Stop a unit and all its processes; returns when none is left. A start under way is given up."""
        unit = self._units.get(name)
        if unit is None:
            return _not_loaded(name)
        if unit.owned:
            stopping = asyncio.ensure_future(self._stop(unit, mark))
            unit.stopping.add(stopping)
            stopping.add_done_callback(unit.stopping.discard)
            await asyncio.shield(stopping)
        return unit.state

    async def kill(self, name: UnitName) -> None:
        """End all processes of a unit at once, by SIGKILL; a stop that is under way ends with them."""
        unit = self._units.get(name)
        if unit is None or not unit.owned:
            return
        try:
            await self._bus.manager("KillUnit", "ssi", unit.service, "all", signal.SIGKILL)
        except BusError as error:
            if not error.name.endswith((".NoSuchUnit", ".NoSuchProcess")):
                log.warning("%s cannot be killed: %s", name, error)

    async def unload(self, names: Iterable[UnitName]) -> None:
        """Forget stopped units, by one reload of systemd's; those that are not stopped stay."""
        found = (self._units.get(name) for name in names)
        await self._loader.unload([unit for unit in found if unit and (unit.at_rest or not unit.owned)])

    async def reload(self, name: UnitName) -> RuntimeState:
        """Have a running unit read its configuration anew; returns when that is done. One that cannot is left
        alone."""
        unit = self._units.get(name)
        if unit is None:
            return _not_loaded(name)
        if unit.owned and not unit.at_rest:
            try:
                if await self._bus.property(unit.path, UNIT, "CanReload"):
                    result = await self._units.job("ReloadUnit", unit)
                    unit.know(reloading="" if result == "done" else f"reload failed: {result}")
            except BusError as error:
                unit.know(reloading=f"reload failed: {error}")
            self._units.publish(unit)
        return unit.state

    async def run(self, name: UnitName, argv: Sequence[str], timeout: float) -> int:
        """Run a command beside a running unit (its health check): its exit status, as in base. See
        exec.py for what it has of the unit's."""
        unit = self._units.get(name)
        return await self._executor.run(unit, argv, timeout) if unit and unit.owned else NOT_EXECUTED

    async def context(self, unit: UnitName | Prepared) -> Command | None:
        """Return a command with the context of a unit's processes, see Runtime.context."""
        if isinstance(unit, UnitName):
            known = self._units.get(unit)
            return await self._executor.context(known) if known else None
        return await self._executor.prepared(unit)

    async def container_arguments(self, prepared: Prepared) -> tuple[str, ...]:
        """Return podman's arguments for a container like a prepared unit's; see Runtime."""
        if prepared.name.type != "container":
            return ()
        if self._generator is None:
            raise UnitError("this machine has no Quadlet: it needs podman 4.4 or newer")
        # Nobody else has its address; who runs the command sees to its secrets.
        plain = replace(prepared, address="", secrets={}, credentials={})
        command = await asyncio.to_thread(
            self._generator.command, plain.name, plain.file, drop_in_text(plain)
        )
        return container_arguments(command, plain.name)

    async def close(self) -> None:
        """Let go of the units: they run on, and the next kirschd finds them."""
        if self._sweeping is not None:
            self._sweeping.cancel()
        await self._bus.close()
        await self._units.close()

    async def _sweep(self) -> None:
        """Remove what one-off containers and killed machines have left at podman."""
        await asyncio.to_thread(sweep_containers, self._root, self._outside)
        if self._generator is not None:
            await asyncio.to_thread(sweep_secrets, self._root, (*self._outside, "--pipe"))

    async def _stop(self, unit: Unit, mark: str) -> None:
        await self._mark(unit, mark)
        try:
            await self._units.job("StopUnit", unit)
        except BusError as error:
            if not error.name.endswith(".NoSuchUnit"):
                unit.know(problem=f"cannot be stopped: {error}")
                self._units.publish(unit)
                return
        if unit.keeps_processes:
            await self._executor.kill_rest(unit)
        await self._mark(unit, "")

    async def _mark(self, unit: Unit, mark: str) -> None:
        """Set a unit's mark, also for the next kirschd."""
        if unit.known.mark != mark:
            unit.know(mark=mark)
            self._units.publish(unit)
            self._unkept.add(unit)
            await self._marks.ask()

    async def _keep_marks(self) -> None:
        """Write changed marks to disk, where the next kirschd reads them."""
        records = {unit.name: unit.record for unit in self._unkept if unit.owned}
        self._unkept.clear()
        for name, error in (await asyncio.to_thread(self._disk.record, records)).items():
            log.warning("%s: its mark cannot be kept: %s", name, error.strerror)

    @asynccontextmanager
    async def _held(self, unit: Unit) -> AsyncIterator[None]:
        """systemd forgets a unit that does not run, and with it which of its conditions was not met: have it
        kept. Raises BusError."""
        if not unit.conditional:
            yield
            return
        await self._bus.manager("RefUnit", "s", unit.service)
        try:
            yield
        finally:
            try:
                await self._bus.manager("UnrefUnit", "s", unit.service)
            except BusError:
                pass  # the connection was made anew meanwhile, and held nothing

    async def _explain(self, unit: Unit, result: str) -> None:
        """Say why it did not start, where its own state does not."""
        details: dict[str, Any] = {}
        if result == "dependency":
            details["Needs"] = await self._units.failed_needs(unit)
        elif unit.state.active == "inactive" and unit.conditional:
            for name in ("ConditionResult", "Conditions", "Asserts"):
                details[name] = await self._bus.property(unit.path, UNIT, name)
        reason = why_not_started(result, {**unit.properties, **details})
        if refused(result, unit.properties):
            # The reason, and then that it has failed.
            said = "; ".join(await self._units.last_said(unit, 2))
            reason = reason or said or "systemd would not start it"
            unit.know(reason=reason, refused=True)
            self._units.publish(unit)
        elif reason:
            unit.know(reason=reason)
            self._units.publish(unit)
        await unit.explained()


def _not_loaded(name: UnitName) -> RuntimeState:
    return replace(RuntimeState(load="not-found"), message=f"{name} is not loaded")
