"""What the runtime knows of one unit on the machine."""

import asyncio
from dataclasses import replace
from typing import Any

from kirsch.cluster.runtime.base import RuntimeState
from kirsch.cluster.runtime.systemd.bus import unit_path
from kirsch.cluster.runtime.systemd.disk import Found
from kirsch.cluster.runtime.systemd.files import Record
from kirsch.cluster.runtime.systemd.states import AT_REST, Known, state_of
from kirsch.unit import UnitFile, UnitName

EXPLAIN_TIMEOUT = 10.0  # seconds that a failed start waits for the words that say why


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
        """One that an earlier kirschd left."""
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
        """What is kept of it for the next kirschd."""
        return Record(self.name.text, self.service, self.known.mark, self.enabled)

    @property
    def at_rest(self) -> bool:
        return self.state.active in AT_REST

    @property
    def keeps_processes(self) -> bool:
        """Whether systemd may leave processes of it when it is stopped (KillMode=, systemd.kill(5))."""
        entry = self.file.get("Service", "KillMode")
        return entry is not None and entry.value in ("process", "none")

    @property
    def conditional(self) -> bool:
        """Whether conditions may keep it from being started (systemd.unit(5))."""
        return any(entry.name.startswith(("Condition", "Assert")) for entry in self.file.entries("Unit"))

    async def explained(self) -> None:
        """Wait until it is known why it failed, if it did."""
        if self.explaining:
            await asyncio.wait([self.explaining], timeout=EXPLAIN_TIMEOUT)
