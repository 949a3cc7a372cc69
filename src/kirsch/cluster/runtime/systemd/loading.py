"""Making units known to systemd, and taking them away: many at once by one reload of systemd's."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from kirsch.cluster.runtime.base import Prepared
from kirsch.cluster.runtime.systemd.bus import UNIT, BusError, SystemdBus, states_of, unit_path
from kirsch.cluster.runtime.systemd.disk import Disk
from kirsch.cluster.runtime.systemd.files import unit_file
from kirsch.cluster.runtime.systemd.quadlet import Generator, service_name
from kirsch.cluster.runtime.systemd.units import Unit, Units
from kirsch.unit import QUADLET_TYPES, UnitFile, UnitName

RUNTIME = 1  # org.freedesktop.systemd1(5), EnableUnitFilesWithFlags: below /run, not /etc

log = logging.getLogger(__name__)


class Shared:
    """Shares one run of `work` among all who ask while it has not begun yet; one runs after another."""

    def __init__(self, work: Callable[[], Awaitable[None]]) -> None:
        self._work = work
        self._running: asyncio.Task[None] | None = None
        self._next: asyncio.Task[None] | None = None

    async def ask(self) -> None:
        """Returns after a run that began after this call. Raises what that raises."""
        if self._next is None:
            self._next = asyncio.create_task(self._after(self._running))
        await asyncio.shield(self._next)

    async def _after(self, running: "asyncio.Task[None] | None") -> None:
        if running is not None:
            await asyncio.wait([running])
        self._running, self._next = self._next, None
        await self._work()


@dataclass(frozen=True, slots=True)
class Loading:
    """A unit to be loaded, with the text of what the cluster adds to it."""

    prepared: Prepared
    drop_in: str

    @property
    def name(self) -> UnitName:
        return self.prepared.name

    @property
    def service(self) -> str:
        """Name of the unit in systemd."""
        return service_name(self.name, self.prepared.file)


class Loader:
    """Loads and unloads for one runtime. One batch after another decides and writes; reloads are shared."""

    def __init__(self, bus: SystemdBus, disk: Disk, generator: Generator | None, units: Units) -> None:
        self._bus = bus
        self._disk = disk
        self._generator = generator
        self._units = units
        self._writing = asyncio.Lock()
        self._reloads = Shared(self._reload)
        # Units whose files were written since the last reload began.
        self._unread: set[UnitName] = set()
        # Services of those among them that have another file than before.
        self._renewed: set[str] = set()
        # What was written of each last: its file's hash, and what was added.
        self._made: dict[UnitName, tuple[str, str]] = {}

    def adopt(self, unit: Unit) -> None:
        """Take up a unit that an earlier kirschd left; whether systemd has read its file is not known."""
        self._units.add(unit)
        self._unread.add(unit.name)

    async def load(self, batch: Sequence[Loading]) -> None:
        """Load units; what stands in the way of one is told as its state."""
        async with self._writing:
            refused = await self._refused(batch)
            good = [each for each in batch if each.name not in refused]
            written = await self._write(good)
        for name, (load, problem) in refused.items():
            self._refuse(next(each for each in batch if each.name == name), load, problem)
        # What systemd has read as it stands needs no reload; variables are read at each start.
        unread = [unit for unit in written if unit.name in self._unread or unit.known.load != "loaded"]
        if unread:
            await self._reload_and_verify(unread)

    async def unload(self, units: Sequence[Unit]) -> None:
        """Take units away that do not run."""
        owned = [unit for unit in units if unit.owned]
        async with self._writing:
            enabled = [name for unit in owned for name in unit.enabled]
            try:
                if enabled:
                    await self._bus.manager("DisableUnitFilesWithFlags", "ast", enabled, RUNTIME)
            except BusError as error:
                log.warning("units cannot be disabled: %s", error)
            for unit in owned:
                try:
                    await asyncio.to_thread(self._disk.remove, unit.name)
                except OSError as error:
                    log.warning("%s: its files cannot be removed: %s", unit.name, error.strerror)
        if owned:
            failed = [unit.service for unit in owned if unit.state.active == "failed"]
            await asyncio.gather(*(self.reset(service) for service in failed))
            try:
                await self._reloads.ask()
            except BusError as error:
                log.warning("systemd cannot be reloaded: %s", error)
        for unit in units:
            self._units.forget(unit)
            self._made.pop(unit.name, None)
        if any(unit.name.type in QUADLET_TYPES for unit in owned):
            await self._verify([unit for unit in self._units if unit.name.type in QUADLET_TYPES])

    # What cannot be loaded

    async def _refused(self, batch: Sequence[Loading]) -> dict[UnitName, tuple[str, str]]:
        """The load state and the words for those that must not be written."""
        refused: dict[UnitName, tuple[str, str]] = {}
        services: dict[str, UnitName] = {}
        for each in batch:
            holder = self._units.of_service(each.service)
            other = services.setdefault(each.service, holder.name if holder else each.name)
            if other != each.name:
                refused[each.name] = ("error", f"{each.service} is what {other} runs as, on this machine too")
            known = self._units.get(each.name)
            if known and known.owned and known.service != each.service and not known.at_rest:
                words = f"it runs as {known.service}: stop it before it becomes {each.service}"
                refused[each.name] = ("error", words)
        new = [each for each in batch if each.name not in refused and not self._is_ours(each)]
        try:
            foreign = await self._foreign(new)
            refused |= {name: ("error", words) for name, words in foreign.items()}
        except BusError as error:
            refused |= {each.name: ("error", str(error)) for each in new}
        quadlets = [e for e in batch if e.name.type in QUADLET_TYPES and e.name not in refused]
        return refused | await self._not_quadlets([e for e in quadlets if not self._is_known(e)])

    def _is_ours(self, loading: Loading) -> bool:
        unit = self._units.get(loading.name)
        return unit is not None and unit.owned and unit.service == loading.service

    def _is_known(self, loading: Loading) -> bool:
        """Return True if Quadlet has made a service of exactly this text."""
        unit = self._units.get(loading.name)
        made = unit is not None and unit.owned and unit.known.load == "loaded"
        return made and self._made.get(loading.name) == (loading.prepared.file.hash, loading.drop_in)

    async def _foreign(self, batch: Sequence[Loading]) -> dict[UnitName, str]:
        """Find units whose name, or another name that they would be enabled as, somebody else's unit has."""
        wanted = {each.name: [each.service, *_aliases(each)] for each in batch}
        services = [service for names in wanted.values() for service in names]
        if not services:
            return {}
        states = states_of((await self._bus.manager("ListUnitsByNames", "as", services))[0])
        found: dict[UnitName, str] = {}
        for name, names in wanted.items():
            for service in names:
                load, active, _ = states.get(service, ("", "", ""))
                words = await self._whose(service, load, active)
                if words:
                    found.setdefault(name, words)
            for also in _also(next(each for each in batch if each.name == name)):
                if also not in names and self._units.of_service(also) is None:
                    found.setdefault(name, f"Also={also} names a unit that is not kirsch's: take it out")
        return found

    async def _whose(self, service: str, load: str, active: str) -> str:
        """Say who owns a unit of systemd's that is not ours; "" if nobody does."""
        if not load:
            return await self._who_else(service)
        if load == "not-found" and active in ("inactive", "failed"):
            return ""
        path = await self._bus.property(unit_path(service), UNIT, "FragmentPath")
        if load == "loaded" and not path and active == "inactive":
            return ""  # a slice or a device: systemd has them without a file
        where = f" ({path})" if path else ""
        what = "is masked" if load == "masked" else "is there already"
        return f"{service} {what} on this machine{where}, and is not kirsch's: choose another name"

    async def _who_else(self, service: str) -> str:
        """Say who owns a name that is an alias: systemd lists a unit by its first name only."""
        try:
            other = await self._bus.property(unit_path(service), UNIT, "Id")
        except BusError as error:
            return f"systemd takes {service} for no name of a unit: {error}"
        whose = "is kirsch's too" if self._units.of_service(other) else "is not kirsch's"
        return f"{service} is another name of {other} on this machine, which {whose}: choose another name"

    async def _not_quadlets(self, batch: Sequence[Loading]) -> dict[UnitName, tuple[str, str]]:
        """Find units that podman's generator refuses."""
        if not batch:
            return {}
        if self._generator is None:
            words = "this machine has no Quadlet: it needs podman 4.4 or newer"
            return {each.name: ("error", words) for each in batch}
        files = [(each.name, each.prepared.file, each.drop_in) for each in batch]
        try:
            refused = await asyncio.to_thread(self._generator.check, files)
        except OSError as error:
            why = f"podman's Quadlet cannot be asked about it: {error.strerror or error}"
            return {each.name: ("error", why) for each in batch}
        return {name: ("bad-setting", f"Quadlet: {text}") for name, text in refused.items()}

    def _refuse(self, loading: Loading, load: str, problem: str) -> None:
        """Report a unit that is not written to the machine. A version that is there stays until it is
        stopped."""
        unit = self._units.get(loading.name)
        if unit is None:
            unit = Unit(loading.name, loading.service, loading.prepared.file)
            self._units.add(unit)
        unit.know(load=load, problem=problem, hash=loading.prepared.file.hash)
        self._units.publish(unit)

    # Writing

    async def _write(self, batch: Sequence[Loading]) -> list[Unit]:
        """Write files; those units whose files stand."""
        if not batch:
            return []
        units = [self._unit(each) for each in batch]
        results = await asyncio.to_thread(self._write_files, batch, units)
        written = []
        for each, unit, result in zip(batch, units, results, strict=True):
            if isinstance(result, OSError):
                where = f"/{unit_file(each.name)}"
                self._refuse(each, "error", f"{where} cannot be written: {result.strerror or result}")
                continue
            written.append(unit)
            self._made[each.name] = (each.prepared.file.hash, each.drop_in)
            self._hold(unit, each.prepared.file)
            if result:
                self._unread.add(unit.name)
                await self._enable(unit)
        return written

    def _unit(self, loading: Loading) -> Unit:
        known = self._units.get(loading.name)
        if known is not None and known.service == loading.service:
            return known
        return Unit(loading.name, loading.service, loading.prepared.file)

    def _write_files(self, batch: Sequence[Loading], units: Sequence[Unit]) -> list[bool | OSError]:
        results: list[bool | OSError] = []
        for each, unit in zip(batch, units, strict=True):
            try:
                results.append(self._disk.write(each.prepared, unit.record))
            except OSError as error:
                results.append(error)
        return results

    def _hold(self, unit: Unit, file: UnitFile) -> None:
        """Take a unit whose files stand. Starts with another file do not count for its start limit."""
        if unit.known.hash not in ("", file.hash):
            self._renewed.add(unit.service)
        before = self._units.get(unit.name)
        if before is not None and before is not unit:
            self._units.disown(before)
        unit.file = file
        unit.know(hash=file.hash)
        unit.owned = True
        self._units.add(unit)

    async def _enable(self, unit: Unit) -> None:
        """Enable a unit whose file has [Install]; a generator's cannot be, Quadlet sees to those itself."""
        wanted = unit.name.type not in QUADLET_TYPES and unit.file.has("Install")
        unit.know(remark="")
        try:
            if unit.enabled:
                await self._bus.manager("DisableUnitFilesWithFlags", "ast", list(unit.enabled), RUNTIME)
            if wanted:
                names = [f"/{unit_file(unit.name)}"]
                await self._bus.manager("EnableUnitFilesWithFlags", "ast", names, RUNTIME)
            enabled = (unit.name.text,) if wanted else ()
            if enabled != unit.enabled:
                unit.enabled = enabled
                errors = await asyncio.to_thread(self._disk.record, {unit.name: unit.record})
                if errors:
                    raise errors[unit.name]
        except (BusError, OSError) as error:
            unit.know(remark=f"cannot be enabled: {error}")

    # Reloading

    async def _reload_and_verify(self, units: Sequence[Unit]) -> None:
        began = time.time()
        try:
            await self._reloads.ask()
        except BusError as error:
            await self._verify(units)
            for unit in units:
                await self._not_reloaded(unit, error)
            return
        # What these are may be what other Quadlets lacked.
        waiting = [unit for unit in self._units if unit.owned and unit.known.load == "not-found"]
        await self._verify([*units, *(unit for unit in waiting if unit not in units)])
        self._units.complain(units, began)

    async def _not_reloaded(self, unit: Unit, error: BusError) -> None:
        """A file that is new systemd finds without a reload, which it refuses where /run is nearly full."""
        try:
            stale = await self._bus.property(unit.path, UNIT, "NeedDaemonReload")
        except BusError:
            stale = True
        if stale or unit.known.load != "loaded":
            unit.know(load="error", problem=f"systemd cannot be reloaded: {error}")
            self._units.publish(unit)

    async def _verify(self, units: Sequence[Unit]) -> None:
        try:
            await self._units.verify(units)
        except BusError as error:
            log.warning("%s", error)
        lost = [unit for unit in units if unit.name.type in QUADLET_TYPES and unit.known.load == "not-found"]
        if lost and self._generator:
            # systemd knows nothing of them; Quadlet knows why.
            files = [(unit.name, unit.file, self._made.get(unit.name, ("", ""))[1]) for unit in lost]
            try:
                refused = await asyncio.to_thread(self._generator.check, files)
            except OSError as error:
                log.warning("podman's Quadlet cannot be asked: %s", error)
                return
            for unit in lost:
                if unit.name in refused:
                    unit.know(problem=f"Quadlet: {refused[unit.name]}")
                    self._units.publish(unit)

    async def _reload(self) -> None:
        reading, self._unread = self._unread, set()
        renewed, self._renewed = self._renewed, set()
        # Not while files are written: systemd answers nothing during a reload, and each file would wait for
        # one of its own.
        await asyncio.gather(*(self.reset(service) for service in renewed))
        self._units.expected_reloads += 1
        try:
            await self._bus.manager("Reload")
        except BusError:
            self._unread |= reading
            self._units.expected_reloads = max(self._units.expected_reloads - 1, 0)
            raise

    async def reset(self, service: str) -> None:
        """Forget that a service failed, and how often it was started (systemctl reset-failed)."""
        try:
            await self._bus.manager("ResetFailedUnit", "s", service)
        except BusError:
            pass  # it is gone already


def _aliases(loading: Loading) -> list[str]:
    """Other names that a unit is to be enabled as."""
    if loading.name.type in QUADLET_TYPES:
        return []
    return [w for entry in loading.prepared.file.values("Install", "Alias") for w in entry.value.split()]


def _also(loading: Loading) -> list[str]:
    """Other units that are to be enabled with one."""
    return [w for entry in loading.prepared.file.values("Install", "Also") for w in entry.value.split()]
