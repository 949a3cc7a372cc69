"""Following units' lines on all machines at once, wherever the units go."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import urlencode

from kirsch.cluster.api.peers import Peers
from kirsch.cluster.node.node import Node
from kirsch.cluster.node.units import Refused
from kirsch.cluster.runtime.journal import Record

Line = dict[str, Any]

PATH = "/kirsch/v1/journal"
QUEUE = 1000
# In so many seconds every machine has sent its last lines, which are then shown in the order of their time.
BACKLOG = 0.3
RETRY = 2.0


class Following:
    """One reader's units, on this machine and on others, also those that join later. For one event loop."""

    def __init__(self, node: Node, peers: Peers, units: Sequence[str], lines: int) -> None:
        self._node = node
        self._peers = peers
        self._units = units
        self._lines = lines
        self._queue: asyncio.Queue[Line | None] = asyncio.Queue(QUEUE)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._heard: set[str] = set()

    async def read(self) -> AsyncIterator[Line]:
        """The last lines of all together, then each as it comes; ends when this machine's journal does."""
        own = self._node.machine.id
        self._tasks[own] = asyncio.create_task(self._follow_own(), name="journal")
        self._node.mirror.listen(self._take_notice)
        self._take_notice(frozenset())
        try:
            ended = False
            for line in await self._backlog(several=len(self._tasks) > 1):
                ended = ended or line is None
                if line is not None:
                    yield line
            while not ended and (line := await self._queue.get()) is not None:
                yield line
        finally:
            self._node.mirror.ignore(self._take_notice)
            for task in self._tasks.values():
                task.cancel()

    async def _backlog(self, several: bool) -> list[Line | None]:
        """The last lines of all machines, in order; of this one alone they are already."""
        if not several:
            return []
        found: list[Line | None] = []
        began = time.time()
        with suppress(TimeoutError):
            async with asyncio.timeout(BACKLOG):
                while True:
                    found.append(await self._queue.get())
        lines = sorted((line for line in found if line), key=lambda line: float(line["time"]))
        old = [line for line in lines if line["time"] < began]
        kept: list[Line | None] = [*old[max(len(old) - self._lines, 0) :], *lines[len(old) :]]
        return [*kept, None] if None in found else kept

    async def _follow_own(self) -> None:
        async for record in self._node.journal.follow(self._units or None, self._lines):
            await self._queue.put(line_of(record, self._node.machine.id))
        await self._queue.put(None)

    async def _follow_machine(self, machine_id: str) -> None:
        # Of one that was away and is back the last lines have been shown.
        lines, away = 0 if machine_id in self._heard else self._lines, False
        self._heard.add(machine_id)
        while machine := self._node.cluster().machines.get(machine_id):
            query = urlencode({"unit": self._units, "lines": lines}, doseq=True)
            try:
                async for line in self._peers.follow(machine, PATH, query):
                    away = False
                    await self._queue.put(line)
            except Refused as error:
                if not away:
                    await self._queue.put(missing(error, machine_id))
                away = True
            lines = 0
            await asyncio.sleep(RETRY)
        del self._tasks[machine_id]

    def _take_notice(self, _: frozenset[str]) -> None:
        for machine in self._node.cluster().machines.keys() - self._tasks.keys():
            self._tasks[machine] = asyncio.create_task(self._follow_machine(machine), name="journal")


def line_of(record: Record, machine: str) -> Line:
    """A line of a machine's journal as the API has it."""
    return {
        "unit": record.unit,
        "machine": machine,
        "time": record.time,
        "stream": record.stream,
        "text": record.text,
    }


def missing(error: Refused, machine: str) -> Line:
    """Return the line that says that a machine's lines are missing."""
    return line_of(Record("", time.time(), "kirsch", f"{error}; its lines are missing"), machine)
