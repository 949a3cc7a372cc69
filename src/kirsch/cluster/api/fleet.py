"""/fleet/v1: fleet's units, states and machines, in its words, for its own client and others of its time.

Statuses, texts and fields are those of fleet 1.0. Where fleet's documents and its code differ, the documents
hold: a wrong method is 405 everywhere, a bad value of desiredState 400.
"""

import html
import json
import logging
import re
import sys
import time
from dataclasses import dataclass
from typing import Any, ClassVar

import cherrypy

from kirsch.cluster.api import answers, discovery
from kirsch.cluster.api.answers import MAX_BODY, empty, json_answer, run
from kirsch.cluster.api.pages import Page
from kirsch.cluster.api.resource import Api, Collection, Resource, stale_since
from kirsch.cluster.model import DESIRED_STATES, Cluster, Unit
from kirsch.cluster.node.machines import SettingsChange
from kirsch.cluster.node.units import Refused, Request
from kirsch.cluster.registry.base import Unavailable
from kirsch.unit import Option, UnitError, UnitFile, UnitName

UNAVAILABLE = "fleet server unable to communicate with etcd"
METHODS = ("GET", "PUT", "PATCH", "POST", "DELETE")
# Seconds for which an order to stop is remembered, for the client that waits for it.
REMEMBERED = 10.0
METADATA_PATH = re.compile(r"/([^/]+)/metadata/([A-Za-z0-9_.-]+)")

log = logging.getLogger(__name__)


class Stops:
    """Units that clients have just stopped: the first look at such a unit finds it launched still.

    fleetctl's restart asks for `loaded`, waits until the unit is `launched`, and then asks for that: of fleet
    it gets the state before the stop. Its stop, which waits for `loaded`, looks again.
    """

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    def remember(self, name: str) -> None:
        """Note that a unit which runs was stopped; notes that nobody has looked for are dropped."""
        now = time.monotonic()
        self._until = {each: until for each, until in self._until.items() if until > now}
        self._until[name] = now + REMEMBERED

    def forget(self, name: str) -> bool:
        """Drop the note of a unit; True if there was one."""
        return self._until.pop(name, 0.0) > time.monotonic()


class FleetUnits(Collection["FleetUnit"]):
    """Resource /units of fleet's API."""

    def __init__(self, api: Api) -> None:
        super().__init__(api)
        self.stops = Stops()

    def GET(self, /, **query: Any) -> bytes:
        """A page of units, sorted by name."""
        return read_answer(self, run(self.loop, self._read(read_page(query))))

    def item(self, name: str) -> "FleetUnit":
        """Return the resource of one unit."""
        return FleetUnit(self.api, name, self.stops)

    async def _read(self, page: Page) -> dict[str, Any]:
        cluster = self.node.cluster()
        names, token = page.cut(sorted(cluster.units, key=str))
        return listing("units", [unit_entity(cluster.units[name], cluster) for name in names], token)


@dataclass
class FleetUnit(Resource):
    """Resource /units/NAME of fleet's API."""

    name: str
    stops: Stops

    def GET(self, /, **query: Any) -> bytes:
        """Return the unit as fleet has it."""
        return read_answer(self, run(self.loop, self._read()))

    def PUT(self, /, **query: Any) -> None:
        """Create the unit, replace its options, or set its desired state."""
        body = read_body(dict)
        given = body.get("name") or self.name
        if given != self.name:
            raise Refused(
                400, f'name in URL "{self.name}" differs from unit name in request body {quoted(given)}'
            )
        name = UnitName.parse(self.name)
        desired = body.get("desiredState") or None
        if desired is not None and desired not in DESIRED_STATES:
            raise Refused(400, f"invalid value {quoted(desired)} for JobState")
        status = run(self.loop, self._put(name, read_options(body.get("options") or []), desired))
        empty()
        cherrypy.response.status = status

    def DELETE(self, /, **query: Any) -> None:
        """Destroy the unit for good."""
        run(self.loop, self._destroy())
        empty()

    async def _read(self) -> dict[str, Any]:
        cluster = self.node.cluster()
        name = self._known(cluster)
        entity = unit_entity(cluster.units[name], cluster)
        if self.stops.forget(name.text) and "currentState" in entity:
            entity["currentState"] = "launched"
        return entity

    async def _destroy(self) -> None:
        await self.node.units.destroy(self._known(self.node.cluster()))

    async def _put(self, name: UnitName, options: list[Option], desired: Any) -> int:
        cluster = self.node.cluster()
        known = cluster.units.get(name)
        if known is None and not options:
            raise Refused(409, "unit does not exist and options field empty")
        file = UnitFile.from_options(options, name.text) if options else None
        # Options that are the same leave the text as somebody wrote it.
        new = file is not None and (known is None or known.fleet_hash != file.fleet_hash)
        if not new and desired is None:
            raise Refused(409, "must provide DesiredState to update existing unit")
        if name.is_template and desired not in (None, "inactive"):
            raise Refused(400, f'cannot activate template "{name}"')
        text = file.text if new and file is not None else None
        machine = min(cluster.schedule.get(name, ()), default="")
        runs = known is not None and reached(known, machine, cluster) == "launched"
        await self.node.units.change([Request(name, text, desired or "inactive")])
        self.stops.forget(name.text)
        if runs and desired == "loaded":
            self.stops.remember(name.text)
        return 201 if new else 204

    def _known(self, cluster: Cluster) -> UnitName:
        """Return the name if there is such a unit. Raises Refused(404)."""
        try:
            name = UnitName.parse(self.name)
        except UnitError:
            name = None
        if name is None or name not in cluster.units:
            raise Refused(404, "unit does not exist")
        return name


class FleetStates(Collection["FleetState"]):
    """Resource /state of fleet's API."""

    def GET(self, /, **query: Any) -> bytes:
        """A page of what systemd says of units, of all or of those on one machine or of one name."""
        return read_answer(self, run(self.loop, self._read(read_page(query, "machineID", "unitName"))))

    def item(self, name: str) -> "FleetState":
        """Return the resource of one state."""
        return FleetState(self.api, name)

    async def _read(self, page: Page) -> dict[str, Any]:
        cluster = self.node.cluster()
        on, of = page.filter.get("machineID"), page.filter.get("unitName")
        found = [
            (name, machine)
            for name in sorted(cluster.states, key=str)
            if name in cluster.units and of in (None, name.text)
            for machine in sorted(cluster.states[name])
            if on in (None, machine)
        ]
        pairs, token = page.cut(found)
        return listing("states", [state_entity(*pair, cluster) for pair in pairs], token)


@dataclass
class FleetState(Resource):
    """Resource /state/NAME of fleet's API."""

    name: str

    def GET(self, /, **query: Any) -> bytes:
        """The unit's state, of a Global one that on its first machine."""
        return read_answer(self, run(self.loop, self._read()))

    async def _read(self) -> dict[str, Any]:
        cluster = self.node.cluster()
        for name, states in cluster.states.items():
            if name.text == self.name and name in cluster.units:
                return state_entity(name, min(states), cluster)
        raise Refused(404, "unit state does not exist")


class FleetMachines(Resource):
    """Resource /machines of fleet's API."""

    def GET(self, /, **query: Any) -> bytes:
        """A page of the machines that are there."""
        return read_answer(self, run(self.loop, self._read(read_page(query))))

    def PATCH(self, /, **query: Any) -> None:
        """Change machines' metadata: a list of {op, path, value}, all of it or nothing."""
        metadata: dict[str, dict[str, str | None]] = {}
        for operation in read_body(list):
            machine, key, value = read_change(operation)
            metadata.setdefault(machine, {})[key] = value
        changes = {machine: SettingsChange(theirs) for machine, theirs in metadata.items()}
        run(self.loop, self.node.machines.change(changes))
        empty()

    async def _read(self, page: Page) -> dict[str, Any]:
        machines = self.node.cluster().machines
        ids, token = page.cut(sorted(machines))
        found = [
            {"id": m.id, "primaryIP": m.address, "metadata": dict(m.metadata)}
            for m in (machines[machine] for machine in ids)
        ]
        return listing("machines", found, token)


class FleetRoot(Resource):
    """/fleet/v1 itself, which has no method, and all below it that is not there."""

    def GET(self, /, *path: str, **query: Any) -> None:
        """Raises HTTPError 404, 405."""
        cherrypy.response.headers["Allow"] = ""
        raise cherrypy.HTTPError(404, "there is no such resource") if path else cherrypy.HTTPError(405)

    PUT = PATCH = POST = DELETE = OPTIONS = GET


class FleetDiscovery(Resource):
    """Resource /discovery of fleet's API."""

    def GET(self, /, **query: Any) -> bytes:
        """Return the description of this API, for generated clients."""
        return json_answer(discovery.document())


def unit_entity(unit: Unit, cluster: Cluster) -> dict[str, Any]:
    """A Unit; a Global one is on no machine of its own, and has no current state."""
    entity: dict[str, Any] = {
        "name": unit.name.text,
        "options": [
            {"section": option.section, "name": option.name, "value": option.value}
            for option in unit.file.options
        ],
        "desiredState": unit.desired,
        "machineID": "",
    }
    if unit.options.is_global:
        return entity
    machine = min(cluster.schedule.get(unit.name, ()), default="")
    return entity | {"machineID": machine, "currentState": reached(unit, machine, cluster)}


def reached(unit: Unit, machine: str, cluster: Cluster) -> str:
    """Return the desired state that the unit's machine has reached, for which fleet's clients wait.

    Loaded once the machine has a state for the unit; launched from its start, though it may not
    be active yet, until it is stopped.
    """
    state = cluster.states.get(unit.name, {}).get(machine)
    assignment = cluster.schedule.get(unit.name, {}).get(machine)
    if state is None or assignment is None:
        return "inactive"
    if assignment.desired == "launched":
        began = state.order == assignment.order or state.active == "activating"
        return "launched" if began else "loaded"
    return "loaded" if state.active in ("inactive", "failed") else "launched"


def state_entity(name: UnitName, machine: str, cluster: Cluster) -> dict[str, Any]:
    """Return a UnitState as fleet's clients read it."""
    state = cluster.states[name][machine]
    return {
        "name": name.text,
        "hash": cluster.units[name].fleet_hash,
        "machineID": machine,
        "systemdLoadState": state.load,
        "systemdActiveState": state.active,
        "systemdSubState": state.sub,
    }


def read_answer(resource: Resource, value: Any) -> bytes:
    """Answer with what is known of the cluster; a header says from when that is, while the store is away."""
    stale_since(resource.node)
    return json_answer(value)


def listing(name: str, values: list[dict[str, Any]], token: str | None) -> dict[str, Any]:
    """Return the body of a page."""
    return {name: values} | ({"nextPageToken": token} if token else {})


def read_page(query: dict[str, Any], *filters: str) -> Page:
    """The page that a query asks for; other parameters than those are passed over. Raises Refused(400)."""
    token = query.get("nextPageToken")
    if token is not None:
        try:
            return Page.parse(token)
        except (ValueError, AttributeError):
            raise Refused(400, "invalid value of nextPageToken query parameter") from None
    # Of one that is given more than once the first holds, as in Go's URL.Query.
    values = {name: [value] if isinstance(value, str) else value for name, value in query.items()}
    return Page(filter={name: values[name][0] for name in filters if values.get(name, [""])[0]})


def read_body(kind: type) -> Any:
    """The request's body, JSON of one kind. Raises HTTPError 408, 413, 415, Refused(400)."""
    match answers.content_type():
        case "application/json":
            pass
        case "":
            raise cherrypy.HTTPError(415, "expected 1 Content-Type, got 0")
        case _:
            raise cherrypy.HTTPError(415, "only acceptable Content-Type is application/json")
    try:
        body = answers.parse_json(answers.read_body(MAX_BODY))
    except ValueError as error:
        raise Refused(400, f"unable to decode body: {error}") from None
    if not isinstance(body, kind):
        raise Refused(400, f"unable to decode body: {'an object' if kind is dict else 'a list'} is wanted")
    return body


def read_options(values: Any) -> list[Option]:
    """The options of a PUT's body. Raises Refused(400)."""
    try:
        options = [Option(v["section"], v["name"], v["value"]) for v in values]
    except (KeyError, TypeError):
        options = None
    if options is None or not all(isinstance(text, str) for option in options for text in option):
        raise Refused(400, "unable to decode body: options is a list of {section, name, value}, all strings")
    return options


def read_change(operation: Any) -> tuple[str, str, str | None]:
    """One operation of a PATCH, as machine, key and value, None to take it away.

    Its value is a string, or stands in {"value": …}. Raises Refused(400)."""
    if not isinstance(operation, dict):
        raise Refused(400, "unable to decode body: an operation is an object")
    if operation.get("op") not in ("add", "remove", "replace"):
        raise Refused(400, "invalid op: expect add, remove, or replace")
    path = operation.get("path")
    match = METADATA_PATH.fullmatch(path) if isinstance(path, str) and encodable(path) else None
    if match is None:
        raise Refused(400, "machine metadata path invalid")
    if operation["op"] == "remove":
        return match[1], match[2], None
    value = operation.get("value")
    if isinstance(value, dict):
        value = value.get("value")
    if not isinstance(value, str) or not value or not encodable(value):
        raise Refused(400, "invalid value: add and replace require a value")
    return match[1], match[2], value


def encodable(text: str) -> bool:
    """Return True if a text can be encoded: JSON's escapes can make lone surrogates."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def quoted(value: Any) -> str:
    """A value of a body, in an error."""
    return json.dumps(value, ensure_ascii=False)


def failed() -> None:
    """Answer an exception that a handler raised, with the texts that fleet has for it."""
    error = sys.exc_info()[1]
    status = answers.status_of(error)
    match error:
        case UnitError(message=message):
            text = message
        case Unavailable():
            log.warning("%s", error)
            text = UNAVAILABLE
        case _:
            text = str(error)
    if status is None:
        log.exception("%s %s", cherrypy.request.method, cherrypy.request.path_info)
    cherrypy.HTTPError(status or 500, text).set_response()


def error_page(status: str, message: str, traceback: str, version: str) -> bytes:
    """Return an error's body in fleet's format."""
    cherrypy.response.headers["Content-Type"] = "application/json"
    code = int(status.split()[0])
    text = html.unescape(message)
    if code == 503:
        cherrypy.response.headers["Retry-After"] = answers.RETRY_AFTER
    if code == 405:
        text = supported(cherrypy.response.headers.get("Allow", ""))
    elif code == 500:
        text = "kirschd failed; its log says how"
    return answers.encode({"error": {"code": code, "message": text}})


def supported(allow: str) -> str:
    """Return the methods of a resource, in words; empty when it has none."""
    names = [method for method in METHODS if method in allow.split(", ")]
    if not names:
        return ""
    listed = ", ".join(names[:-1]) + " and " + names[-1] if len(names) > 1 else names[0]
    return f"only {listed} supported against this resource"


class FleetRequest(cherrypy.Application.request_class):
    """CherryPy's request, with our error body even where it refuses before it reads the configuration."""

    error_page: ClassVar = {"default": error_page}


CONFIG = answers.CONFIG | {"request.error_response": failed, "error_page.default": error_page}


def tree(api: Api) -> Any:
    """The resources of /fleet/v1, to be mounted there."""
    root = FleetRoot(api)
    for name, kind in {
        "units": FleetUnits,
        "state": FleetStates,
        "machines": FleetMachines,
        "discovery": FleetDiscovery,
    }.items():
        setattr(root, name, kind(api))
    application = cherrypy.Application(root, "/fleet/v1")
    application.request_class = FleetRequest
    return application
