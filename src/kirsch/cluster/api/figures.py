"""/figures: what machines, units and backends of balancers use and do, on whichever machines they are."""

import asyncio
import logging
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import urlencode

from kirsch.cluster.api.answers import flag, json_answer, parameters, run, seconds
from kirsch.cluster.api.peers import HERE, Peers
from kirsch.cluster.api.resource import Resource
from kirsch.cluster.model import Machine
from kirsch.cluster.node.node import Node
from kirsch.cluster.node.units import Refused

log = logging.getLogger(__name__)

PATH = "/kirsch/v1/figures"
EVENTS = "/kirsch/v1/events"
QUEUE = 1000
# Seconds until a machine that did not answer is asked again.
RETRY = 5.0


class FiguresResource(Resource):
    """Figures of all machines, at /figures."""

    def GET(self, /, **query: Any) -> bytes:
        """The figures of all machines, or those named, since a time or of the last sample; with here=yes
        those of this machine alone. `missing` has the machines that do not answer."""
        given = parameters(query, "unit", "machine", "since", HERE)
        units, only = given.get("unit", []), given.get("machine", [])
        since = seconds(given, "since") if "since" in given else None
        own = self.node.machine
        found = [machine_figures(self.node, since, units)] if not only or own.id in only else []
        others = [] if flag(given, HERE) else run(self.loop, self._others(only))
        asked: dict[str, Any] = {"unit": units} | ({} if since is None else {"since": since})
        answers, missing = self.api.peers.get_all(others, PATH, **asked)
        found += [machine for answer in answers for machine in answer["machines"]]
        found.sort(key=lambda each: str(each["machine"]))
        return json_answer({"machines": found, "missing": missing})

    async def _others(self, only: Collection[str]) -> Sequence[Machine]:
        machines, own = self.node.cluster().machines, self.node.machine.id
        if unknown := sorted(set(only) - machines.keys() - {own}):
            raise Refused(404, f"there is no machine {unknown[0]}")
        return [machines[id] for id in sorted(machines) if id != own and (not only or id in only)]


class Feed:
    """Samples of all machines as they are taken, also of those that join later. For one event loop."""

    def __init__(self, node: Node, peers: Peers, units: Collection[str]) -> None:
        self._node = node
        self._peers = peers
        self._units = units
        self._queue: asyncio.Queue[Any] = asyncio.Queue(QUEUE)
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def read(self, *others: AsyncIterator[Any]) -> AsyncIterator[Any]:
        """The figures, among what other sources have, until one of these ends."""
        pumps = [asyncio.create_task(self._pump(source)) for source in others]
        own = self._node.machine.id
        self._tasks[own] = asyncio.create_task(self._pump(own_news(self._node, self._units)))
        self._node.mirror.listen(self._take_notice)
        self._take_notice(frozenset())
        try:
            while (item := await self._queue.get()) is not None:
                yield item
        finally:
            self._node.mirror.ignore(self._take_notice)
            for task in [*pumps, *self._tasks.values()]:
                task.cancel()

    async def _pump(self, source: AsyncIterator[Any]) -> None:
        try:
            async for item in source:
                await self._queue.put(item)
        except Exception:
            log.exception("a stream's source failed")
        await self._queue.put(None)

    async def _follow(self, machine_id: str) -> None:
        while machine := self._node.cluster().machines.get(machine_id):
            query = urlencode({"figures": "yes", "unit": self._units}, doseq=True)
            # One that does not answer is a machine that is lost, or about to be: its figures stop.
            with suppress(Refused):
                async for item in self._peers.follow(machine, EVENTS, query):
                    await self._queue.put(item)
            await asyncio.sleep(RETRY)
        del self._tasks[machine_id]

    def _take_notice(self, _: frozenset[str]) -> None:
        for machine in self._node.cluster().machines.keys() - self._tasks.keys():
            self._tasks[machine] = asyncio.create_task(self._follow(machine))


async def own_news(node: Node, units: Collection[str]) -> AsyncIterator[dict[str, Any]]:
    """This machine's last sample, then each that is taken, as /events has them."""
    while True:
        sampled = node.sampler.sampled
        if node.sampler.figures.last is not None:
            yield {"units": [], "left": [], "releases": [], "figures": machine_figures(node, units=units)}
        await sampled.wait()


def machine_figures(node: Node, since: float | None = None, units: Collection[str] = ()) -> dict[str, Any]:
    """This machine's figures as the API has them."""
    machine = node.machine
    return {
        "machine": machine.id,
        "cores": machine.cpu,
        "memorySize": machine.memory,
        **node.sampler.figures.read(since, units),
    }
