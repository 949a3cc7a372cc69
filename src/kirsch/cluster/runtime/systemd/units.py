"""The units that the runtime holds, and what systemd's signals say of them."""

import asyncio
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from dbus_fast import Variant

from kirsch.cluster.runtime.base import RuntimeState, StateListener
from kirsch.cluster.runtime.systemd.bus import (
    SYSTEMD,
    UNIT,
    BusError,
    BusLost,
    SystemdBus,
    states_of,
    unit_path,
)
from kirsch.cluster.runtime.systemd.disk import Found
from kirsch.cluster.runtime.systemd.files import Record
from kirsch.cluster.runtime.systemd.journal import LAST_LINES, complaints, printed, said
from kirsch.cluster.runtime.systemd.states import (
    AT_REST,
    INTERFACES,
    SERVICE_PROPERTIES,
    STARTED,
    UNIT_PROPERTIES,
    WAITING,
    Known,
    begins_to_wait,
    failed,
    gave_up,
    of_podman,
    podman_said,
    state_of,
    tried_again,
    why_failed,
)
from kirsch.unit import UnitFile, UnitName

JOURNALCTL = 2  # at once, for units that failed
SETTLING = 0.05  # seconds that units which appeared are gathered, to be looked at together
EXPLAIN_TIMEOUT = 10.0  # seconds that a failed start waits for the words that say why

log = logging.getLogger(__name__)


class Unit:
    """One unit: what is known of it. `owned` is false for one that is not on the machine: refused, or
    another's; `stopping` are the stops under way."""

    def __init__(self, name: UnitName, service: str, file: UnitFile) -> None:
        self.name = name
        self.service = service
        self.path = unit_path(service)
        self.file = file
        self.known = Known(name, service, file.hash)
        self.properties: dict[str, Any] = {}
        self.state = RuntimeState(hash=file.hash)
        self.owned = False
        self.enabled: tuple[str, ...] = ()
        self.stopping: set[asyncio.Future[None]] = set()
        self.explaining: asyncio.Task[None] | None = None

    @classmethod
    def adopted(cls, found: Found) -> "Unit":
        """Make a unit that an earlier kirschd left."""
        unit = cls(found.name, found.record.service, found.file)
        unit.owned = True
        unit.enabled = found.record.enabled
        unit.know(mark=found.record.mark)
        unit.state = state_of(unit.known, {})
        return unit

    def know(self, **changes: Any) -> None:
        """Take in what is known now; see Known."""
        self.known = replace(self.known, **changes)

    @property
    def record(self) -> Record:
        """Record for the next kirschd."""
        return Record(self.name.text, self.service, self.known.mark, self.enabled)

    @property
    def at_rest(self) -> bool:
        return self.state.active in AT_REST

    @property
    def keeps_processes(self) -> bool:
        """True if systemd may leave processes of the unit when it stops it (KillMode=, systemd.kill(5))."""
        entry = self.file.get("Service", "KillMode")
        return entry is not None and entry.value in ("process", "none")

    @property
    def conditional(self) -> bool:
        """True if conditions may keep the unit from being started (systemd.unit(5))."""
        return any(entry.name.startswith(("Condition", "Assert")) for entry in self.file.entries("Unit"))

    async def explained(self) -> None:
        """Wait until it is known why it failed, if it did."""
        if self.explaining:
            await asyncio.wait([self.explaining], timeout=EXPLAIN_TIMEOUT)


class Units:
    """All units, by name and by name in systemd. Listens to the bus. `prefix` as in the runtime; `hidden`
    tells which file systemd reads in place of a unit's own."""

    bus: SystemdBus

    def __init__(self, prefix: tuple[str, ...], hidden: Callable[[str], str]) -> None:
        self.listeners: list[StateListener] = []
        self._prefix = prefix
        self._hidden = hidden
        self._units: dict[UnitName, Unit] = {}
        self._by_service: dict[str, Unit] = {}
        self._by_path: dict[str, Unit] = {}
        self._watched: dict[str, dict[str, Any]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._reading = asyncio.Semaphore(JOURNALCTL)
        self._complaining: set[Unit] = set()
        self._complain_since = math.inf
        self._complaints: asyncio.Task[None] | None = None
        self._appeared: set[Unit] = set()
        self._settling: asyncio.TimerHandle | None = None
        self.expected_reloads = 0

    def __iter__(self) -> Iterator[Unit]:
        return iter(tuple(self._units.values()))

    def get(self, name: UnitName) -> Unit | None:
        return self._units.get(name)

    def of_service(self, service: str) -> Unit | None:
        """The unit that is on the machine as this unit of systemd's."""
        return self._by_service.get(service)

    def add(self, unit: Unit) -> None:
        """Hold a unit. One that is not owned hears of no signals."""
        self._units[unit.name] = unit
        if unit.owned:
            self._by_service[unit.service] = unit
            self._by_path[unit.path] = unit

    def forget(self, unit: Unit) -> None:
        """Hold a unit no longer, and tell the listeners."""
        self.disown(unit)
        if self._units.pop(unit.name, None) is not None:
            self._tell(unit.name, None)

    def disown(self, unit: Unit) -> None:
        """Mark a unit as not on the machine (any more)."""
        unit.owned = False
        if self._by_service.get(unit.service) is unit:
            del self._by_service[unit.service]
            del self._by_path[unit.path]

    def publish(self, unit: Unit) -> None:
        """Tell the listeners if a unit's state is another now."""
        state = state_of(unit.known, unit.properties)
        if state != unit.state:
            unit.state = state
            if self._units.get(unit.name) is unit:
                self._tell(unit.name, state)

    def watch(self, service: str) -> dict[str, Any]:
        """The properties of a service that is no unit of kirsch's, as systemd tells of them from now on."""
        return self._watched.setdefault(unit_path(service), {})

    def unwatch(self, service: str) -> None:
        self._watched.pop(unit_path(service), None)

    async def close(self) -> None:
        """End what is under way."""
        if self._settling is not None:
            self._settling.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # Jobs

    async def job(self, method: str, unit: Unit, accepted: Callable[[], None] | None = None) -> str:
        """Have systemd start, stop or reload a unit: the job's result. Raises BusError.

        When the connection is lost meanwhile, it is seen from the unit itself whether systemd heard of it."""
        heard = False

        def hear() -> None:
            nonlocal heard
            if not heard and accepted:
                accepted()
            heard = True

        before = unit.properties.get("InactiveExitTimestamp", 0)

        async def ask() -> list[Any]:
            return await self.bus.manager(method, "ss", unit.service, "replace")

        async def look() -> list[Any]:
            job = await self.bus.property(unit.path, UNIT, "Job")
            return [job[1]] if job[0] else ["/"]

        call = ask
        while True:
            try:
                return await self.bus.jobs.run(call, hear)
            except BusLost:
                _, path = await self.bus.property(unit.path, UNIT, "Job")
                moved = unit.properties.get("InactiveExitTimestamp", 0) != before
                if path == "/" and (heard or moved):
                    hear()
                    return "done"
                call = look if path != "/" else ask

    async def failed_needs(self, unit: Unit) -> list[str]:
        """The units that a unit needs and that do not run. Raises BusError."""
        needed: list[str] = []
        for name in ("Requires", "Requisite", "BindsTo"):
            needed += await self.bus.property(unit.path, UNIT, name)
        states = states_of((await self.bus.manager("ListUnitsByNames", "as", needed))[0])
        return [name for name, (_, active, _) in states.items() if active not in ("active", "reloading")]

    # What the bus tells

    def changed(self, path: str, interface: str, values: Mapping[str, Variant]) -> None:
        """systemd tells of a unit's own interface first, then of Unit, which has the states."""
        unit = self._by_path.get(path)
        if unit is None:
            if path in self._watched:
                self._watched[path].update((name, each.value) for name, each in values.items())
            return
        wanted = UNIT_PROPERTIES if interface == UNIT else SERVICE_PROPERTIES
        told = {name: values[name].value for name in wanted if name in values}
        self._take(unit, {**unit.properties, **told}, complete=interface == UNIT)
        if interface == UNIT:
            self._appeared.discard(unit)

    def appeared(self, unit: str) -> None:
        """Schedule a look at a unit that systemd has loaded, together with others that appear meanwhile."""
        if known := self._by_service.get(unit):
            self._appeared.add(known)
            if self._settling is None:
                loop = asyncio.get_running_loop()
                self._settling = loop.call_later(SETTLING, lambda: self._spawn(self.settle()))

    def reloaded(self) -> None:
        """Somebody else may have removed a file of ours."""
        if self.expected_reloads:
            self.expected_reloads -= 1
        else:
            self._spawn(self.verify(list(self)))

    async def settle(self) -> None:
        """See how the units stand that appeared, if they changed since they were told of. Raises BusError."""
        if self._settling is not None:
            self._settling.cancel()
            self._settling = None
        units = [unit for unit in self._appeared if unit.owned]
        self._appeared.clear()
        if not units:
            return
        # Of those that are loaded: to ask for one that is not would load it, and it would appear again.
        patterns = [unit.service.replace("\\", "\\\\") for unit in units]
        listed = (await self.bus.manager("ListUnitsByPatterns", "asas", [], patterns))[0]
        states = states_of(listed)
        for unit in units:
            _, active, sub = states.get(unit.service, ("", "inactive", "dead"))
            if (active, sub) != (unit.properties.get("ActiveState"), unit.properties.get("SubState")):
                await self._ask(unit, active, sub)

    async def joined(self) -> None:
        """See how all units stand. Raises BusError."""
        self.expected_reloads = 0
        self._appeared.clear()
        owned = [unit for unit in self if unit.owned]
        states = await self._list(owned)
        await asyncio.gather(*(self._look(unit, states.get(unit.service)) for unit in owned))

    async def verify(self, units: Sequence[Unit]) -> None:
        """See whether systemd finds the units' files, and what it says of those that it does not."""
        owned = [unit for unit in units if unit.owned]
        states = await self._list(owned)
        for unit in owned:
            load, _, _ = states.get(unit.service, ("error", "", ""))
            problem = "" if load == "loaded" else await self._why_not_loaded(unit, load)
            if load == "loaded" and (other := self._hidden(unit.service)):
                load, problem = "error", f"{other} is read in its place, and is not kirsch's: remove that"
            unit.know(load=load, problem=problem)
            self.publish(unit)

    def complain(self, units: Sequence[Unit], since: float) -> None:
        """Find out soon what systemd passed over in files that it read since a time."""
        self._complaining |= set(units)
        self._complain_since = min(self._complain_since, since)
        if self._complaints is None or self._complaints.done():
            self._complaints = self._spawn(self._find_complaints())

    async def last_said(self, unit: Unit, count: int = 1) -> list[str]:
        """The last lines that systemd itself printed about a unit; none where it has not."""
        invocation = [f"UNIT={unit.service}", "_PID=1"]
        async with self._reading:
            lines = await said(self._prefix, invocation, LAST_LINES)
        prefix = f"{unit.service}: "
        return [line.removeprefix(prefix).rstrip(".") for line in lines[-count:]]

    # Inside

    async def _find_complaints(self) -> None:
        while self._complaining:
            units, self._complaining = self._complaining, set()
            since, self._complain_since = self._complain_since, math.inf
            async with self._reading:
                found = await complaints(self._prefix, since)
            for unit in units:
                unit.know(ignored=found.get(unit.service, ()))
                self.publish(unit)

    async def _list(self, units: Sequence[Unit]) -> dict[str, tuple[str, str, str]]:
        if not units:
            return {}
        return states_of((await self.bus.manager("ListUnitsByNames", "as", [u.service for u in units]))[0])

    async def _look(self, unit: Unit, listed: tuple[str, str, str] | None) -> None:
        """Ask for a unit's properties, where there can be any worth asking for."""
        load, active, sub = listed or ("not-found", "inactive", "dead")
        problem = "" if load == "loaded" else await self._why_not_loaded(unit, load)
        unit.know(load=load, problem=problem)
        await self._ask(unit, active, sub)

    async def _ask(self, unit: Unit, active: str, sub: str) -> None:
        """Ask for the properties of a unit that is in this state."""
        if active == "inactive" and not unit.properties:
            self._take(unit, {"ActiveState": active, "SubState": sub})
            return
        kind = INTERFACES.get(unit.service.rpartition(".")[2])
        names = [(UNIT, name) for name in UNIT_PROPERTIES]
        if kind == "Service":
            names += [(f"{SYSTEMD}.Service", name) for name in SERVICE_PROPERTIES]
        elif kind:
            names.append((f"{SYSTEMD}.{kind}", "Result"))
        values = await asyncio.gather(*(self.bus.property(unit.path, *each) for each in names))
        self._take(unit, {name: value for (_, name), value in zip(names, values, strict=True)})

    async def _why_not_loaded(self, unit: Unit, load: str) -> str:
        """systemd's own words for a unit file that it does not take."""
        words = ""
        if load != "masked":
            try:
                words = (await self.bus.property(unit.path, UNIT, "LoadError"))[1]
                words = words.strip().rstrip(".")
            except BusError as error:
                words = str(error)
        parsed = await self.last_said(unit) if load in ("bad-setting", "error") else []
        return "; ".join([words or f"systemd says: {load}", *parsed])

    def _take(self, unit: Unit, properties: dict[str, Any], *, complete: bool = True) -> None:
        """Take properties in; where they are complete, see what they mean."""
        before, unit.properties = unit.properties, properties
        if not complete:
            return
        limited = unit.known.limited or gave_up(before, properties)
        if failed(properties):
            if not unit.known.reason or limited != unit.known.limited:
                unit.know(reason=why_failed(properties, limited), limited=limited)
            ended = properties.get("ActiveState") == "failed" and before.get("ActiveState") != "failed"
            # Else only podman's words are worth asking for: a program's come by themselves.
            boxed = unit.name.type == "container" and of_podman(properties)
            if ended or (boxed and begins_to_wait(before, properties)):
                unit.explaining = self._spawn(self._explain(unit))
        elif properties.get("ActiveState") in STARTED and properties.get("SubState") not in WAITING:
            again = (unit.known.reason or unit.known.before) if tried_again(properties) else ""
            unit.know(reason="", lines=(), limited=False, before=again)
        self.publish(unit)

    async def _explain(self, unit: Unit) -> None:
        """Find out which command failed, and what the unit printed last."""
        properties = dict(unit.properties)
        if unit.service.endswith(".service") and properties.get("Result") != "success":
            properties |= await self.bus.properties(unit.path, f"{SYSTEMD}.Service")
        run = bytes(properties.get("InvocationID", b"")).hex()
        lines: list[str] = []
        if run:
            async with self._reading:
                # Where systemd gave up, or waits, it left inactive once more, and ran nothing.
                waits = properties.get("SubState") in WAITING
                began = "ExecMainStartTimestamp" if waits else "InactiveExitTimestamp"
                since = 0 if unit.known.limited else properties.get(began, 0) / 1e6
                lines = await printed(self._prefix, unit.service, run, since, LAST_LINES)
        if failed(unit.properties):
            reason = why_failed(properties, unit.known.limited)
            if unit.name.type == "container" and (said := podman_said(properties, lines)):
                reason, lines = said, []
            unit.know(reason=reason, lines=tuple(lines))
            self.publish(unit)

    def _spawn(self, work: Any) -> asyncio.Task[None]:
        async def guarded() -> None:
            try:
                await work
            except BusError as error:
                log.warning("%s", error)
            except Exception:
                log.exception("a unit's state")

        task = asyncio.create_task(guarded())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _tell(self, name: UnitName, state: RuntimeState | None) -> None:
        for listener in self.listeners:
            try:
                listener(name, state)
            except Exception:
                log.exception("a listener failed at a change of %s", name)
