"""/events: units' lines as they change."""

import asyncio
import time
from collections.abc import AsyncIterator, Collection, Mapping
from typing import Any

import cherrypy

from kirsch.cluster.api.answers import flag, parameters
from kirsch.cluster.api.figures import Feed, own_news
from kirsch.cluster.api.peers import HERE
from kirsch.cluster.api.releases import release_entity
from kirsch.cluster.api.resource import Resource
from kirsch.cluster.engine.status import UnitStatus
from kirsch.cluster.model import Machine, Release

# How many seconds of changes go together, at least, and how many times as long as a look at all units takes:
# a start of hundreds is not worth looking at them all for each.
GATHER = 0.02
PAUSE = 4


class Events(Resource):
    """Stream of units' changes, at /events."""

    def GET(self, /, **query: Any) -> None:
        """A stream: all units' lines at first, then each line that changed; one of a unit that is no more has
        "gone". `left` says which units are not any more on which machines ("" for none); `releases` are those
        under way, and those that changed; `machines` has the ids of all that are there, when one of them has
        changed. With figures=yes also the figures of each machine, every five seconds; with here=yes then
        those of this machine, and nothing else."""
        given = parameters(query, "unit", "figures", HERE)
        units, figures, here = frozenset(given.get("unit", ())), flag(given, "figures"), flag(given, HERE)
        if not self.api.streams.wanted():
            cherrypy.response.headers["Upgrade"] = "websocket"
            raise cherrypy.HTTPError(426, "this is a stream: ask for it by WebSocket")
        self.api.streams.open(lambda: self._source(units, figures, here))

    def _source(self, units: Collection[str], figures: bool, here: bool) -> AsyncIterator[dict[str, Any]]:
        if figures and here:
            return own_news(self.node, units)
        changes = self._changes(units)
        return Feed(self.node, self.api.peers, units).read(changes) if figures else changes

    async def _changes(self, units: Collection[str]) -> AsyncIterator[dict[str, Any]]:
        changed = asyncio.Event()

        def notice(_: frozenset[str]) -> None:
            changed.set()

        self.node.mirror.listen(notice)
        try:
            told: dict[tuple[str, str], UnitStatus] | None = None
            steps: dict[tuple[str, int], Release] = {}
            machines: Mapping[str, Machine] | None = None
            while True:
                changed.clear()
                began = time.thread_time()
                lines = self.api.overview.of(self.node.cluster())
                now = {(s.name, s.machine): s for s in lines if not units or s.name in units}
                news = [s.to_dict() for key, s in now.items() if told is None or told.get(key) != s]
                left = sorted((told or {}).keys() - now.keys())
                gone = {name for name, _ in left} - {name for name, _ in now}
                news += [{"name": name, "gone": True} for name in sorted(gone)]
                cluster = self.node.cluster()
                changes = [
                    release
                    for key, release in cluster.releases.items()
                    if steps.get(key) != release and (key in steps or told is not None or not release.over)
                ]
                steps = dict(cluster.releases)
                moved = [{"name": name, "machine": at} for name, at in left if name not in gone]
                message: dict[str, Any] = {
                    "units": news,
                    "left": moved,
                    "releases": [release_entity(r) for r in changes],
                }
                if machines is not None and machines != cluster.machines:
                    message["machines"] = sorted(cluster.machines)
                machines = cluster.machines
                spent = time.thread_time() - began
                if told is None or any(message.values()):
                    yield message
                told = now
                await changed.wait()
                await asyncio.sleep(max(GATHER, PAUSE * spent))
        finally:
            self.node.mirror.ignore(notice)
