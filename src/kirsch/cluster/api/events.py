"""/events: units' lines as they change."""

import asyncio
import time
from collections.abc import AsyncIterator, Collection
from typing import Any

import cherrypy

from kirsch.cluster.api.answers import parameters
from kirsch.cluster.api.resource import Resource
from kirsch.cluster.engine.status import UnitStatus

# How many seconds of changes go together, at least, and how many times as long as a look at all units takes:
# a start of hundreds is not worth looking at them all for each.
GATHER = 0.02
PAUSE = 4


class Events(Resource):
    """Stream of units' changes, at /events."""

    def GET(self, **query: Any) -> None:
        """A stream: all units' lines at first, then each line that changed; one of a unit that is no more has
        "gone". `left` says which units are not any more on which machines ("" for none)."""
        units = frozenset(parameters(query, "unit").get("unit", ()))
        if not self.api.streams.wanted():
            cherrypy.response.headers["Upgrade"] = "websocket"
            raise cherrypy.HTTPError(426, "this is a stream: ask for it by WebSocket")
        self.api.streams.open(lambda: self._changes(units))

    async def _changes(self, units: Collection[str]) -> AsyncIterator[dict[str, Any]]:
        changed = asyncio.Event()

        def notice(_: frozenset[str]) -> None:
            changed.set()

        self.node.mirror.listen(notice)
        try:
            told: dict[tuple[str, str], UnitStatus] | None = None
            while True:
                changed.clear()
                began = time.thread_time()
                lines = self.api.overview.of(self.node.cluster())
                now = {(s.name, s.machine): s for s in lines if not units or s.name in units}
                news = [s.to_dict() for key, s in now.items() if told is None or told.get(key) != s]
                left = sorted((told or {}).keys() - now.keys())
                gone = {name for name, _ in left} - {name for name, _ in now}
                news += [{"name": name, "gone": True} for name in sorted(gone)]
                spent = time.thread_time() - began
                if news or left or told is None:
                    moved = [{"name": name, "machine": at} for name, at in left if name not in gone]
                    yield {"units": news, "left": moved}
                told = now
                await changed.wait()
                await asyncio.sleep(max(GATHER, PAUSE * spent))
        finally:
            self.node.mirror.ignore(notice)
