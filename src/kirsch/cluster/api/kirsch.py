"""/kirsch/v1: everything kirsch's own command line does."""

import logging
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Any

import cherrypy

from kirsch.cluster.api import answers, openapi
from kirsch.cluster.api.answers import empty, flag, json_answer, json_body, parameters, run, single
from kirsch.cluster.api.applications import Applications
from kirsch.cluster.api.backup import BackupResource
from kirsch.cluster.api.certificates import Audit, Certificates
from kirsch.cluster.api.events import Events
from kirsch.cluster.api.figures import FiguresResource
from kirsch.cluster.api.guard import IDENTITY, identify
from kirsch.cluster.api.journal import JournalLines
from kirsch.cluster.api.machines import Machines
from kirsch.cluster.api.peers import HERE
from kirsch.cluster.api.releases import NOTE, Releases, read_note, release_entity
from kirsch.cluster.api.resource import Api, Collection, Resource
from kirsch.cluster.api.secrets import Secrets
from kirsch.cluster.engine.rebalance import Unmet, planned
from kirsch.cluster.engine.status import UnitStatus
from kirsch.cluster.model import DESIRED_STATES, Cluster
from kirsch.cluster.model.certificates import ADMIN
from kirsch.cluster.node import oneoff
from kirsch.cluster.node.orders import order, rebalance
from kirsch.cluster.node.units import Outcome, Refused, Request
from kirsch.cluster.node.verify import judge, verify
from kirsch.cluster.registry.base import RegistryError
from kirsch.cluster.registry.health import StoreHealth
from kirsch.unit import UnitName
from kirsch.unit.link import parse_link

log = logging.getLogger(__name__)


class Units(Collection["OneUnit"]):
    """All units, at /units."""

    def GET(self, /, **query: Any) -> bytes:
        """All units, or those named; a Global one has a line for each machine."""
        units = frozenset(parameters(query, "unit").get("unit", ()))
        found = (s for s in read_statuses(self.api) if not units or s.name in units)
        return self.read_answer({"units": [status.to_dict() for status in found]})

    def PATCH(self, /, **query: Any) -> bytes:
        """Many at once, all or nothing: {"change"?: [{"name", and as a PUT has it}], "destroy"?: [NAME],
        "who"?, "message"?, "release"?, "now"?}; or {"scale": {TEMPLATE: NUMBER}} with the last four. Releases
        replace units that run; the answer lists them."""
        parameters(query)
        body = json_body()
        check_fields(body, {"change": list, "destroy": list, "scale": dict, **NOTE})
        if "scale" in body:
            return self._scaled(body)
        changes, names = body.get("change", []), body.get("destroy", [])
        if not all(isinstance(name, str) for name in names):
            raise cherrypy.HTTPError(400, "destroy is to be a list of names")
        requests = [read_change(change) for change in changes]
        gone = [UnitName.parse(name) for name in names]
        told = Counter([*(request.name for request in requests), *gone])
        if twice := [name for name, times in told.items() if times > 1]:
            raise cherrypy.HTTPError(400, f"{twice[0]} is named twice")
        return _changes(run(self.loop, self.node.units.change(requests, gone, read_note(body))))

    def _scaled(self, body: dict[str, Any]) -> bytes:
        counts = body["scale"]
        if "change" in body or "destroy" in body:
            raise cherrypy.HTTPError(400, "scale does not go with change and destroy")
        if not all(type(count) is int and 0 <= count < 10000 for count in counts.values()):
            raise cherrypy.HTTPError(400, "scale is to be numbers of instances, from 0 to 9999, by template")
        wanted = {UnitName.parse(name): count for name, count in counts.items()}
        return _changes(run(self.loop, self.node.units.scale(wanted, read_note(body))))

    def item(self, name: str) -> "OneUnit":
        """Return the resource of one unit."""
        return OneUnit(self.api, name)


@dataclass
class OneUnit(Resource):
    """One unit, at /units/NAME."""

    name: str

    def __post_init__(self) -> None:
        self.environment = Environment(self.api, self.name)
        self.move = MoveUnit(self.api, self.name)

    def GET(self, /, **query: Any) -> bytes:
        """The unit's lines (a Global one has one a machine) and its text."""
        parameters(query)
        mine = [status.to_dict() for status in read_statuses(self.api) if status.name == self.name]
        if not mine:
            raise cherrypy.HTTPError(404, f"there is no unit {self.name}")
        return self.read_answer({"name": self.name, "text": run(self.loop, self._text()), "on": mine})

    def PUT(self, /, **query: Any) -> bytes:
        """Submit the unit, change it, set its state: {"text"?, "desiredState"?, "file"?, "again"?}."""
        parameters(query)
        request = read_request(self.name, json_body())
        outcome = run(self.loop, self.node.units.change([request]))
        return json_answer(
            {
                "name": self.name,
                "created": bool(outcome.created),
                "warnings": outcome.warnings,
                "releases": [release_entity(release) for release in outcome.releases],
            },
            201 if outcome.created else 200,
        )

    def DELETE(self, /, **query: Any) -> None:
        """Destroy the unit for good."""
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
    """/units/NAME/environment: its secrets are in it, so it is for this machine alone."""

    name: str

    def GET(self, /, **query: Any) -> bytes:
        """Return the context of the unit's processes that run here now."""
        parameters(query)
        check_local()
        name = UnitName.parse(self.name)
        return context_answer(run(self.loop, self._running(name)))

    async def _running(self, name: UnitName) -> oneoff.Context:
        cluster = self.node.cluster()
        on = cluster.schedule.get(name, {}).keys() & cluster.machines.keys()
        if on and self.node.machine.id not in on:
            raise Refused(409, f"{name} is on machine {min(on)}: ask there")
        return await oneoff.running(self.node, name)


@dataclass
class MoveUnit(Resource):
    """Move of a unit, at /units/NAME/move."""

    name: str

    def POST(self, /, **query: Any) -> bytes:
        """Have the unit moved, a sticky one too: {"machine"?}, to any other if none is named."""
        parameters(query)
        body = json_body()
        check_fields(body, {"machine": str})
        node, name = self.node, UnitName.parse(self.name)
        move = run(
            self.loop, order(name, body.get("machine", ""), node.registry, node.mirror, node.snapshots)
        )
        return json_answer({"name": self.name, "from": move.source, "to": move.target}, 202)


class Rebalance(Resource):
    """Moves that a Spread= asks for, at /rebalance."""

    def GET(self, /, **query: Any) -> bytes:
        """Return the moves that would be made one after another, and why services stay as they are."""
        parameters(query)

        async def read() -> tuple[Sequence[Unmet], Mapping[str, str]]:
            return planned(self.node.cluster())

        return rebalance_answer(*run(self.loop, read()))

    def POST(self, /, **query: Any) -> bytes:
        """Have the first of them made, once no unit is moving."""
        parameters(query)
        node = self.node
        move, refusals = run(self.loop, rebalance(node.registry, node.mirror, node.snapshots))
        return rebalance_answer([move] if move else [], refusals, 202)


class OneOff(Resource):
    """Context of one-off commands, at /environment."""

    def GET(self, /, **query: Any) -> bytes:
        """Return the context of a one-off command: unit=NAME as that unit's, link=TARGET[:ALIAS] with
        links."""
        given = parameters(query, "unit", "link")
        check_local()
        unit = single(given, "unit", "")
        links = [parse_link(word) for word in given.get("link", [])]
        name = UnitName.parse(unit) if "unit" in given else None
        return context_answer(run(self.loop, oneoff.prepared(self.node, name, links)))


class Verify(Resource):
    """Check of one unit file, at /verify."""

    def POST(self, /, **query: Any) -> bytes:
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


class Trial(Resource):
    """Check of many unit files against the machines, at /trial."""

    def POST(self, /, **query: Any) -> bytes:
        """Check unit files together against the machines that are there, and submit nothing: {"units": {NAME:
        TEXT}}. Each has an error, empty if it would run, and warnings."""
        parameters(query)
        body = json_body()
        check_fields(body, {"units": dict})
        texts = body.get("units", {})
        if not all(isinstance(text, str) for text in texts.values()):
            raise cherrypy.HTTPError(400, "texts are to be strings")

        async def cluster() -> Cluster:
            return self.node.cluster()

        async def missing(names: Iterable[str]) -> list[str]:
            return self.node.secrets.missing(names)

        # Here and not in the event loop: the runtime may take a while for each.
        verdicts = judge(
            texts,
            run(self.loop, cluster()),
            self.node.runtime.check,
            lambda names: run(self.loop, missing(names)),
        )
        return json_answer({"units": [{"name": name, **asdict(v)} for name, v in verdicts.items()]})


class Store(Resource):
    """Health of the store, at /store."""

    def GET(self, /, **query: Any) -> bytes:
        """Return the health of the store's members; a local store has none, and is well."""
        parameters(query)
        health = run(self.loop, self.node.registry.health())
        return json_answer(health.to_dict() if health else {**StoreHealth(()).to_dict(), "quorum": True})


class Endpoints(Resource):
    """Endpoints of all units, at /endpoints."""

    def GET(self, /, **query: Any) -> bytes:
        """Return the endpoints of all units, and their readiness; with `left`, a unit, and `on`, its machine,
        once no balancer here sends requests to it, or after a while."""
        values = parameters(query, "left", "on", HERE)
        left, machine = single(values, "left", ""), single(values, "on", "")
        # It answers of the machine that is asked in any case; only yes and no are values, as elsewhere.
        flag(values, HERE)

        async def read() -> list[dict[str, Any]]:
            if left:
                await self.node.endpoints.let_go(UnitName.parse(left), machine)
            return [endpoint.public() for endpoint in self.node.cluster().endpoints]

        return self.read_answer({"endpoints": run(self.loop, read())})


class Daemon(Resource):
    """This kirschd, at /daemon."""

    def GET(self, /, **query: Any) -> bytes:
        """This kirschd: its process, its machine, what runs units there, its version; and the name and role
        of who asks."""
        parameters(query)
        machine, environ = self.node.machine, cherrypy.request.wsgi_environ
        # Where an application runs on this computer alone, only its user gets here, and there is no guard.
        identity = environ.get(IDENTITY) or identify(environ)
        return json_answer(
            {
                "pid": os.getpid(),
                "machine": machine.id,
                "runtime": machine.runtime,
                "version": metadata.version("kirsch"),
                "user": identity.name,
                "role": identity.role or ADMIN,
            }
        )


class Down(Resource):
    """End of this kirschd and its units, at /down."""

    def POST(self, /, **query: Any) -> bytes:
        """Stop all units, those that use others first, and end this kirschd."""
        parameters(query)
        if self.api.member:
            raise Refused(409, "this is a machine of a cluster: its units move away by `kirsch drain`")
        try:
            run(self.loop, self.node.rest())
        except RegistryError as error:
            log.warning("units start again next time, for that they should not cannot be kept: %s", error)
        self.api.stop()
        return json_answer({"down": True}, 202)


class Document(Resource):
    """This API's description, at /openapi.json."""

    def GET(self, /, **query: Any) -> bytes:
        """Return the OpenAPI document of this API."""
        parameters(query)
        return json_answer(openapi.document())


def _changes(outcome: Outcome) -> bytes:
    return json_answer(
        {
            "created": [name.text for name in outcome.created],
            "warnings": outcome.warnings,
            "releases": [release_entity(release) for release in outcome.releases],
        }
    )


def read_statuses(api: Api) -> Sequence[UnitStatus]:
    """Every unit as it is."""

    async def read() -> Sequence[UnitStatus]:
        return api.overview.of(api.node.cluster())

    return run(api.loop, read())


def check_fields(body: Mapping[str, Any], kinds: Mapping[str, type]) -> None:
    """A body has no other fields than these, of these types. Raises HTTPError 400."""
    for key, value in body.items():
        if key not in kinds or not isinstance(value, kinds[key]):
            raise cherrypy.HTTPError(400, f"{key} is not known, or not what it should be")


def read_request(name: str, body: dict[str, Any]) -> Request:
    """Read the body of a PUT /units/NAME. Raises HTTPError 400."""
    check_fields(body, {"text": str, "desiredState": str, "file": str, "again": bool})
    desired = body.get("desiredState")
    if desired is not None and desired not in DESIRED_STATES:
        raise cherrypy.HTTPError(400, f"desiredState is to be one of {', '.join(DESIRED_STATES)}")
    return Request(
        UnitName.parse(name), body.get("text"), desired, body.get("file", ""), again=body.get("again", False)
    )


def read_change(change: Any) -> Request:
    """One of the changes of a PATCH /units. Raises HTTPError 400."""
    if not isinstance(change, dict) or not isinstance(change.get("name"), str):
        raise cherrypy.HTTPError(400, "a change is to be an object with a name")
    return read_request(change["name"], {key: value for key, value in change.items() if key != "name"})


def rebalance_answer(moves: Iterable[Unmet], refusals: Mapping[str, str], status: int = 200) -> bytes:
    """Answer with moves, and with why services stay as they are."""
    told = [
        {"unit": each.unit.text, "from": each.source, "to": each.target, "reason": each.reason}
        for each in moves
    ]
    return json_answer({"moves": told, "stays": dict(refusals)}, status)


def check_local() -> None:
    """Refuse secrets to all but root on the machine itself. Raises HTTPError 403."""
    if cherrypy.request.remote.ip:
        raise cherrypy.HTTPError(403, "secrets are in it: ask at the machine's own Unix socket")


def context_answer(context: oneoff.Context) -> bytes:
    """Answer with the context of a command; it may hold secrets."""
    cherrypy.response.headers["Cache-Control"] = "no-store"
    return json_answer(asdict(context))


def tree(api: Api) -> Any:
    """The resources of /kirsch/v1, to be mounted there."""
    root = Resource(api)
    root.exposed = False
    for name, kind in {
        "units": Units,
        "machines": Machines,
        "rebalance": Rebalance,
        "endpoints": Endpoints,
        "secrets": Secrets,
        "certificates": Certificates,
        "audit": Audit,
        "backup": BackupResource,
        "environment": OneOff,
        "events": Events,
        "journal": JournalLines,
        "figures": FiguresResource,
        "applications": Applications,
        "store": Store,
        "releases": Releases,
        "verify": Verify,
        "trial": Trial,
        "daemon": Daemon,
        "down": Down,
        "openapi.json": Document,
    }.items():
        setattr(root, name, kind(api))
    application = cherrypy.Application(root, "/kirsch/v1")
    application.request_class = answers.Request
    return application
