"""/kirsch/v1: everything kirsch's own command line does."""

import asyncio
import heapq
import json
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import cherrypy

from kirsch import __version__
from kirsch.bus import AsyncioPlugin
from kirsch.cluster import keys
from kirsch.cluster.api.answers import empty, json_answer, json_body, run
from kirsch.cluster.api.streams import Streams
from kirsch.cluster.model import DESIRED_STATES, to_json
from kirsch.cluster.node import Node
from kirsch.cluster.registry.base import Put
from kirsch.cluster.status import UnitStatus, statuses
from kirsch.cluster.units import Request
from kirsch.unit import UnitName


@dataclass
class Resource:
    """A thing with a URL: its methods are HTTP's (CherryPy's MethodDispatcher)."""

    node: Node
    loop: AsyncioPlugin
    streams: Streams
    exposed: bool = field(default=True, init=False)

    def statuses(self) -> list[UnitStatus]:
        """Every unit as it is."""

        async def read() -> list[UnitStatus]:
            return statuses(self.node.cluster())

        return run(self.loop, read())


class Units(Resource):
    """/units, /units/NAME."""

    def GET(self, name: str | None = None) -> bytes:
        """All units, or one unit's lines (a Global one has one a machine) with its text."""
        found = self.statuses()
        if name is None:
            return json_answer({"units": [status.to_dict() for status in found]})
        mine = [status.to_dict() for status in found if status.name == name]
        if not mine:
            raise cherrypy.HTTPError(404, f"there is no unit {name}")
        text = run(self.loop, self._text(name))
        return json_answer({"name": name, "text": text, "on": mine})

    def PUT(self, name: str) -> bytes:
        """Submit a unit, change it, set its desired state: {"text"?, "desiredState"?, "file"?, "again"?}."""
        request = read_request(name, json_body())
        outcome = run(self.loop, self.node.units.change([request]))
        return json_answer(
            {"name": name, "created": bool(outcome.created), "warnings": outcome.warnings},
            201 if outcome.created else 200,
        )

    def DELETE(self, name: str) -> None:
        """Destroy a unit."""
        run(self.loop, self.node.units.destroy(UnitName.parse(name)))
        empty()

    async def _text(self, name: str) -> str:
        return self.node.cluster().units[UnitName.parse(name)].file.text


class Machines(Resource):
    """/machines."""

    def GET(self) -> bytes:
        """Every machine that is there."""

        async def read() -> list[dict[str, Any]]:
            machines = self.node.cluster().machines.values()
            return [
                {"id": m.id, "address": m.address, "metadata": dict(m.metadata), "cordoned": m.cordoned}
                for m in sorted(machines, key=lambda machine: machine.id)
            ]

        return json_answer({"machines": run(self.loop, read())})


class Endpoints(Resource):
    """/endpoints."""

    def GET(self) -> bytes:
        """Where each unit serves, and whether it is ready."""

        async def read() -> list[dict[str, Any]]:
            return [endpoint.public() for endpoint in self.node.cluster().endpoints]

        return json_answer({"endpoints": run(self.loop, read())})


class Events(Resource):
    """/events."""

    def GET(self) -> Any:
        """A stream: all units' lines at first, then each line that changed; a gone one has "gone"."""
        return self.streams.serve(self._changes())

    async def _changes(self) -> AsyncIterator[dict[str, Any]]:
        changed = asyncio.Event()

        def notice(_: frozenset[str]) -> None:
            changed.set()

        self.node.mirror.listen(notice)
        try:
            told: dict[tuple[str, str], dict[str, Any]] = {}
            while True:
                changed.clear()
                now = {(s.name, s.machine): s.to_dict() for s in statuses(self.node.cluster())}
                news = [line for key, line in now.items() if told.get(key) != line]
                gone = {name for name, _ in told} - {name for name, _ in now}
                news += [{"name": name, "gone": True} for name in sorted(gone)]
                if news or not told:
                    yield {"units": news}
                told = now
                await changed.wait()
        finally:
            self.node.mirror.ignore(notice)


class JournalLines(Resource):
    """/journal."""

    def GET(self, unit: str | list[str] | None = None, lines: str = "10", follow: str = "no") -> Any:
        """The last lines of units; with follow=yes a stream that goes on, of all units if none is named."""
        units = [unit] if isinstance(unit, str) else unit or []
        if not lines.isdigit():
            raise cherrypy.HTTPError(400, "lines is to be a number")
        if follow == "yes":
            return self.streams.serve(self._follow(units, int(lines)))
        found = (self.node.journal.tail(name, int(lines)) for name in units)
        merged = list(heapq.merge(*found, key=lambda record: record.time))
        records = merged[max(len(merged) - int(lines), 0) :]
        return json_answer({"lines": [self._line(record) for record in records]})

    async def _follow(self, units: list[str], lines: int) -> AsyncIterator[dict[str, Any]]:
        async for record in self.node.journal.follow(units or None, lines):
            yield self._line(record)

    def _line(self, record: Any) -> dict[str, Any]:
        return {"unit": record.unit, "time": record.time, "stream": record.stream, "text": record.text}


class Applications(Resource):
    """/applications/NAME."""

    def PUT(self, name: str) -> bytes:
        """Make an application what its folder says: {"units": {NAME: TEXT}, "files"?, "start": [NAME]}.

        Its units are submitted, those it had before and has no more destroyed, and those to start started;
        the answer names what was started.
        """
        body = json_body()
        units, start, files = body.get("units"), body.get("start"), body.get("files", {})
        if not isinstance(units, dict) or not isinstance(start, list) or not isinstance(files, dict):
            raise cherrypy.HTTPError(400, "units is to be an object, start a list")
        outcome = run(self.loop, self._apply(name, units, files, start))
        return json_answer({"start": start, "warnings": outcome})

    async def _apply(
        self, name: str, units: dict[str, str], files: dict[str, str], start: list[str]
    ) -> list[str]:
        requests = {
            unit: Request(UnitName.parse(unit), text, file=files.get(unit, ""))
            for unit, text in units.items()
        }
        for unit in start:
            parsed = UnitName.parse(unit)
            source = parsed.text if parsed.text in units else str(parsed.template or parsed)
            requests[unit] = Request(
                parsed, units.get(source), "launched", files.get(source, ""), again=False
            )
        key = keys.application(name)
        before = json.loads(self.node.mirror.value(key) or "[]")
        known = {unit.text for unit in self.node.cluster().units}
        gone = [UnitName.parse(unit) for unit in before if unit not in requests and unit in known]
        outcome = await self.node.units.change(list(requests.values()), gone)
        await self.node.registry.transact([Put(key, to_json(sorted(requests)))])
        return outcome.warnings


class Daemon(Resource):
    """/daemon."""

    def GET(self) -> bytes:
        """This kirschd: its process, its machine, its version."""
        return json_answer({"pid": os.getpid(), "machine": self.node.machine.id, "version": __version__})


class Down(Resource):
    """/down."""

    stop: Callable[[], None]

    def POST(self) -> bytes:
        """Stop all units, those that use others first, and end this kirschd."""
        run(self.loop, self.node.rest())
        self.stop()
        return json_answer({"down": True}, 202)


def read_request(name: str, body: dict[str, Any]) -> Request:
    """What the body of a PUT /units/NAME wants. Raises HTTPError 400."""
    kinds = {"text": str, "desiredState": str, "file": str, "again": bool}
    for key, value in body.items():
        if key not in kinds or not isinstance(value, kinds[key]):
            raise cherrypy.HTTPError(400, f"{key} is not known, or not what it should be")
    desired = body.get("desiredState")
    if desired is not None and desired not in DESIRED_STATES:
        raise cherrypy.HTTPError(400, f"desiredState is to be one of {', '.join(DESIRED_STATES)}")
    return Request(
        UnitName.parse(name), body.get("text"), desired, body.get("file", ""), again=body.get("again", False)
    )


def tree(node: Node, loop: AsyncioPlugin, streams: Streams, stop: Callable[[], None]) -> Any:
    """The resources of /kirsch/v1, to be mounted."""
    root = Resource(node, loop, streams)
    for name, kind in {
        "units": Units,
        "machines": Machines,
        "endpoints": Endpoints,
        "events": Events,
        "journal": JournalLines,
        "applications": Applications,
        "daemon": Daemon,
    }.items():
        setattr(root, name, kind(node, loop, streams))
    down = Down(node, loop, streams)
    down.stop = stop
    root.down = down  # type: ignore[attr-defined]
    return root
