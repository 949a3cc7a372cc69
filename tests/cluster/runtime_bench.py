"""A runtime under test: units loaded from text, states awaited by the listener, the journal at hand."""

import asyncio
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.cluster.systemd_machine import SystemdMachine

from kirsch.cluster.runtime.base import Prepared, Runtime, RuntimeState
from kirsch.cluster.runtime.journal import Journal
from kirsch.cluster.runtime.process.runtime import ProcessRuntime
from kirsch.cluster.runtime.systemd.journal import SystemdJournal
from kirsch.cluster.runtime.systemd.runtime import SystemdRuntime
from kirsch.unit import UnitFile, UnitName

DEADLINE = 20  # seconds


class Bench:
    """Everything below `folder`; `seen` has the states of each unit in order. `machine` is where units run,
    if not here."""

    def __init__(
        self,
        folder: Path,
        runtime: Runtime,
        journal: Journal | SystemdJournal,
        machine: SystemdMachine | None = None,
    ) -> None:
        self.folder = folder
        self.runtime = runtime
        self.journal = journal
        self.machine = machine
        self.began = time.time()
        self.seen: dict[str, list[RuntimeState | None]] = {}
        self._changed = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()
        runtime.listen(self._on_change)

    @classmethod
    def of_processes(cls, folder: Path) -> "Bench":
        journal = Journal(folder / "journal")
        return cls(folder, ProcessRuntime(folder / "kirsch", journal, directory=folder), journal)

    @classmethod
    async def of_systemd(cls, folder: Path, machine: SystemdMachine) -> "Bench":
        runtime = await SystemdRuntime.open(machine.root, machine.prefix)
        return cls(folder, runtime, SystemdJournal(machine.root, machine.prefix), machine)

    async def again(self) -> None:
        """Let go of the machine's units, and take them up as the next kirschd does."""
        assert self.machine is not None
        await self.runtime.close()
        self.runtime = await SystemdRuntime.open(self.machine.root, self.machine.prefix)
        self.runtime.listen(self._on_change)

    async def end(self) -> None:
        """Leave nothing."""
        if self.machine is not None:
            await self.again()  # a test may have closed it
            names = list(self.runtime.states())
            await asyncio.gather(*(self.runtime.stop(name) for name in names))
            await self.runtime.unload(names)
        await self.runtime.close()
        self.journal.close()

    def _on_change(self, name: UnitName, state: RuntimeState | None) -> None:
        self.seen.setdefault(name.text, []).append(state)
        task = asyncio.ensure_future(self._notify())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def load(self, text: str, name: str = "x.service", **environment: str) -> UnitName:
        unit = UnitName.parse(name)
        text = textwrap.dedent(text).replace("@FOLDER@", str(self.folder))
        await self.runtime.load([Prepared(unit, UnitFile.parse(text, name), environment)])
        return unit

    async def service(
        self, lines: str, unit: str = "", name: str = "x.service", **environment: str
    ) -> UnitName:
        """Load a .service of these lines."""
        text = f"[Unit]\n{unit}\n[Service]\n{textwrap.dedent(lines)}\n"
        return await self.load(text, name, **environment)

    def state(self, name: UnitName) -> RuntimeState:
        return self.runtime.states()[name]

    def subs(self, name: UnitName) -> list[str]:
        """The sub states it went through, each once in a row."""
        states = [state.sub for state in self.seen.get(name.text, []) if state is not None]
        return [sub for sub, before in zip(states, [None, *states], strict=False) if sub != before]

    async def until(self, name: UnitName, condition: Callable[[RuntimeState], bool]) -> RuntimeState:
        """Wait for a state that meets a condition."""
        async with asyncio.timeout(DEADLINE), self._changed:
            await self._changed.wait_for(lambda: condition(self.state(name)))
        return self.state(name)

    async def until_sub(self, name: UnitName, *subs: str) -> RuntimeState:
        return await self.until(name, lambda state: state.sub in subs)

    async def poll(self, condition: Callable[[], bool]) -> None:
        """Wait for what no event tells of."""
        async with asyncio.timeout(DEADLINE):
            while not condition():  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    async def line(self, name: UnitName, text: str) -> str:
        """Wait until the unit's journal has a line that holds `text`; returns it."""
        try:
            async with asyncio.timeout(DEADLINE):
                async for record in self.journal.follow([name.text], 1000):
                    if text in record.text and record.time >= self.began:
                        return record.text
        except TimeoutError:
            pass
        raise AssertionError(f"no line {text!r}, but {self.lines(name)}; {self.seen.get(name.text)}")

    def lines(self, name: UnitName, *streams: str) -> list[str]:
        """What is in the unit's journal; without `streams` what its processes printed."""
        streams = streams or ("out", "err")
        if self.machine is not None:
            self.machine.run("journalctl", "--sync")
        records = self.journal.tail(name.text, 10_000)
        return [r.text for r in records if r.stream in streams and r.time >= self.began]

    def processes(self, marker: str) -> list[int]:
        """The processes where the units run whose environment or command line holds `marker`."""
        return processes(marker, self.machine.root / "proc" if self.machine else Path("/proc"))


def story(test: Callable[[Bench], Any]) -> Callable[..., None]:
    """Make a test of an async function: it is given a bench of each `opener`."""

    async def play(opener):
        bench = await opener()
        try:
            async with asyncio.timeout(60):
                await test(bench)
        finally:
            await bench.end()

    def run(opener):
        asyncio.run(play(opener))

    run.__doc__ = test.__doc__
    return run


def processes(marker: str, proc: Path = Path("/proc")) -> list[int]:
    """The processes whose environment or command line holds `marker`."""
    found = []
    for folder in proc.iterdir():
        if folder.name.isdecimal():
            try:
                content = (folder / "environ").read_bytes() + (folder / "cmdline").read_bytes()
            except OSError:
                continue
            if marker.encode() in content:
                found.append(int(folder.name))
    return found
