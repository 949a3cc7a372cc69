"""/kirsch/v1: everything kirsch's own command line does."""

import asyncio
import heapq
import json
import logging
import os
import re
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import cherrypy

from kirsch import __version__
from kirsch.bus import AsyncioPlugin
from kirsch.cluster import keys, oneoff
from kirsch.cluster.api import answers, openapi
from kirsch.cluster.api.answers import empty, json_answer, json_body, parameters, run, single
from kirsch.cluster.api.streams import Streams
from kirsch.cluster.model import DESIRED_STATES, to_json
from kirsch.cluster.node import Node
from kirsch.cluster.registry.base import Put, RegistryError
from kirsch.cluster.status import UnitStatus, statuses
from kirsch.cluster.units import Refused, Request
from kirsch.cluster.verify import verify
from kirsch.unit import UnitName
from kirsch.unit.link import parse_link

log = logging.getLogger(__name__)

MAX_LINES = 10_000


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
    """/units."""

    def GET(self, **query: Any) -> bytes:
        """All units; a Global one has a line for each machine."""
        parameters(query)
        return json_answer({"units": [status.to_dict() for status in self.statuses()]})

    def _cp_dispatch(self, vpath: list[str]) -> "OneUnit":
        # /units/notes@1.container is OneUnit("notes@1.container").
        return OneUnit(self.node, self.loop, self.streams, vpath.pop(0))


@dataclass
class OneUnit(Resource):
    """/units/NAME."""

    name: str

    def __post_init__(self) -> None:
        self.environment = Environment(self.node, self.loop, self.streams, self.name)

    def GET(self, **query: Any) -> bytes:
        """The unit's lines (a Global one has one a machine) and its text."""
        parameters(query)
        mine = [status.to_dict() for status in self.statuses() if status.name == self.name]
        if not mine:
            raise cherrypy.HTTPError(404, f"there is no unit {self.name}")
        return json_answer({"name": self.name, "text": run(self.loop, self._text()), "on": mine})

    def PUT(self, **query: Any) -> bytes:
        """Submit the unit, change it, set its state: {"text"?, "desiredState"?, "file"?, "again"?}."""
        parameters(query)
        request = read_request(self.name, json_body())
        outcome = run(self.loop, self.node.units.change([request]))
        return json_answer(
            {"name": self.name, "created": bool(outcome.created), "warnings": outcome.warnings},
            201 if outcome.created else 200,
        )

    def DELETE(self, **query: Any) -> None:
        """Destroy the unit."""
        parameters(query)
        run(self.loop, self.node.units.destroy(UnitName.parse(self.name)))
        empty()

    async def _text(self) -> str:
        unit = self.node.cluster().units.get(UnitName.parse(self.name))
        if unit is None:
            raise Refused(404, f"there is no unit {self.name}")
        return unit.file.text


@dataclass
class Environment(Resource):
    """/units/NAME/environment: its secrets are in it, so it is in no other answer."""

    name: str

    def GET(self, **query: Any) -> bytes:
        """In what the unit's processes run that run now."""
        parameters(query)
        return context_answer(run(self.loop, oneoff.running(self.node, UnitName.parse(self.name))))


class OneOff(Resource):
    """/environment."""

    def GET(self, **query: Any) -> bytes:
        """In what a one-off command would run: unit=NAME as that unit's, link=TARGET[:ALIAS] with links."""
        given = parameters(query, "unit", "link")
        unit = single(given, "unit", "")
        links = [parse_link(word) for word in given.get("link", [])]
        name = UnitName.parse(unit) if "unit" in given else None
        return context_answer(run(self.loop, oneoff.prepared(self.node, name, links)))


class Verify(Resource):
    """/verify."""

    def POST(self, **query: Any) -> bytes:
        """Check a unit file, and submit nothing: {"name", "text", "file"?}. A bad one is 400."""
        parameters(query)
        body = json_body()
        check_fields(body, {"name": str, "text": str, "file": str})
        if "name" not in body or "text" not in body:
            raise cherrypy.HTTPError(400, "name and text are needed")
        name, file = body["name"], body.get("file") or body["name"]
        return json_answer(
            {"name": name, "warnings": verify(name, body["text"], file, self.node.runtime.check)}
        )


class Machines(Resource):
    """/machines."""

    def GET(self, **query: Any) -> bytes:
        """Every machine that is there."""
        parameters(query)

        async def read() -> list[dict[str, Any]]:
            machines = self.node.cluster().machines.values()
            return [
                {"id": m.id, "address": m.address, "metadata": dict(m.metadata), "cordoned": m.cordoned}
                for m in sorted(machines, key=lambda machine: machine.id)
            ]

        return json_answer({"machines": run(self.loop, read())})


class Endpoints(Resource):
    """/endpoints."""

    def GET(self, **query: Any) -> bytes:
        """Where each unit serves, and whether it is ready."""
        parameters(query)

        async def read() -> list[dict[str, Any]]:
            return [endpoint.public() for endpoint in self.node.cluster().endpoints]

        return json_answer({"endpoints": run(self.loop, read())})


class Events(Resource):
    """/events."""

    def GET(self, **query: Any) -> Any:
        """A stream: all units' lines at first, then each line that changed; a gone one has "gone"."""
        parameters(query)
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

    def GET(self, **query: Any) -> Any:
        """The last lines of units; with follow=yes a stream that goes on, of all units if none is named."""
        given = parameters(query, "unit", "lines", "follow")
        units = [UnitName.parse(name).text for name in given.get("unit", [])]
        lines, follow = single(given, "lines", "10"), single(given, "follow", "no")
        if not re.fullmatch("[0-9]{1,5}", lines, re.ASCII) or int(lines) > MAX_LINES:
            raise cherrypy.HTTPError(400, f"lines is to be a number from 0 to {MAX_LINES}")
        if follow not in ("yes", "no"):
            raise cherrypy.HTTPError(400, "follow is to be yes or no")
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

    def PUT(self, name: str, /, **query: Any) -> bytes:
        """Make an application what its folder says: {"units": {NAME: TEXT}, "files"?, "start": [NAME]}.

        Its units are submitted, those it had before and has no more destroyed, and those to start started;
        the answer names what was started.
        """
        parameters(query)
        body = json_body()
        check_fields(body, {"units": dict, "files": dict, "start": list})
        if "units" not in body or "start" not in body:
            raise cherrypy.HTTPError(400, "units and start are needed")
        units, start, files = body["units"], body["start"], body.get("files", {})
        if not all(isinstance(text, str) for text in (*units.values(), *files.values(), *start)):
            raise cherrypy.HTTPError(400, "names, texts and files are to be strings")
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

    def GET(self, **query: Any) -> bytes:
        """This kirschd: its process, its machine, its version."""
        parameters(query)
        return json_answer({"pid": os.getpid(), "machine": self.node.machine.id, "version": __version__})


class Down(Resource):
    """/down."""

    stop: Callable[[], None]

    def POST(self, **query: Any) -> bytes:
        """Stop all units, those that use others first, and end this kirschd."""
        parameters(query)
        try:
            run(self.loop, self.node.rest())
        except RegistryError as error:
            log.warning("units start again next time, for that they should not cannot be kept: %s", error)
        self.stop()
        return json_answer({"down": True}, 202)


class Document(Resource):
    """/openapi.json."""

    def GET(self, **query: Any) -> bytes:
        """What this API is, as OpenAPI has it."""
        parameters(query)
        return json_answer(openapi.document())


def check_fields(body: Mapping[str, Any], kinds: Mapping[str, type]) -> None:
    """A body has no other fields than these, of these types. Raises HTTPError 400."""
    for key, value in body.items():
        if key not in kinds or not isinstance(value, kinds[key]):
            raise cherrypy.HTTPError(400, f"{key} is not known, or not what it should be")


def read_request(name: str, body: dict[str, Any]) -> Request:
    """What the body of a PUT /units/NAME wants. Raises HTTPError 400."""
    check_fields(body, {"text": str, "desiredState": str, "file": str, "again": bool})
    desired = body.get("desiredState")
    if desired is not None and desired not in DESIRED_STATES:
        raise cherrypy.HTTPError(400, f"desiredState is to be one of {', '.join(DESIRED_STATES)}")
    return Request(
        UnitName.parse(name), body.get("text"), desired, body.get("file", ""), again=body.get("again", False)
    )


def context_answer(context: oneoff.Context) -> bytes:
    """In what a command runs; it may hold secrets."""
    cherrypy.response.headers["Cache-Control"] = "no-store"
    return json_answer(asdict(context))


def tree(node: Node, loop: AsyncioPlugin, streams: Streams, stop: Callable[[], None]) -> Any:
    """The resources of /kirsch/v1, to be mounted there."""
    root = Resource(node, loop, streams)
    root.exposed = False
    for name, kind in {
        "units": Units,
        "machines": Machines,
        "endpoints": Endpoints,
        "environment": OneOff,
        "events": Events,
        "journal": JournalLines,
        "applications": Applications,
        "verify": Verify,
        "daemon": Daemon,
        "openapi.json": Document,
    }.items():
        setattr(root, name, kind(node, loop, streams))
    down = Down(node, loop, streams)
    down.stop = stop
    root.down = down  # type: ignore[attr-defined]
    application = cherrypy.Application(root, "/kirsch/v1")
    application.request_class = answers.Request
    return application
